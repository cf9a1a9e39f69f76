"""Paths on any graph: searched when they are first needed, and cached.

Model
-----
A path has the fewest hops inside nodes, so that a GPU uses the NIC that is nearest to it, and of those the fewest hops
outside, where a link may count as several (`hops`: the global cables of a dragonfly, for one of them is enough). Of
where it may lead, the first that reaches its end is taken:

    between GPUs of a node    1  over NVSwitches, or one link, inside the node
                              2  inside the node, over links that GPUs forward (`is_forwarded`: xGMI)
                              3  inside the node, through no third GPU
                              4  inside the node
    then, and between nodes   5  through no third GPU
                              6  through GPUs of the sender's node (as NCCL's PXN does)
                              7  through GPUs of either end's node
                              8  anywhere (a torus of GPUs, say)

Up to 7 no other node forwards. Paths of equal cost share the bytes equally, path by path, and the latency
of the pair is the longest latency of these paths.

Assumptions
-----------
Bandwidth does not decide the path: of two equal paths the slower carries as much as the faster, as with hashed flows.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["Route", "Routes"]

_NVSWITCH, _FORWARDED, _IN_NODE, _SENDER, _ANYWHERE = 1, 2, 4, 6, 8
"""Names of the tiers of links."""
_IN_NODE_TIERS = (_NVSWITCH, _FORWARDED, 3, _IN_NODE)
_TIERS_BETWEEN = (5, _SENDER, 7, _ANYWHERE)
_THROUGH_GPUS = (_FORWARDED, _IN_NODE, 7, _ANYWHERE)
"""Tiers whose paths may lead through any GPU."""
_MOST_TREES = 256
"""Searches that are kept: each holds all of the graph that it reached."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Route:
    """All paths of one pair."""

    links: NDArray[np.intp]
    """Link numbers. Shape [K]."""
    share: NDArray[np.float64]
    """Fraction of the bytes on each of them. Shape [K]."""
    latency_s: float
    """Sum of the links' latencies on the slowest path."""


_NOWHERE = Route(links=np.zeros(0, dtype=np.intp), share=np.zeros(0), latency_s=0.0)


@dataclass(slots=True)
class _Tree:
    """All cheapest paths from one vertex, as far as its tier leads."""

    position: dict[int, int]
    """Vertex -> its position in the order in which vertices were reached."""
    come_from: dict[int, list[tuple[int, int]]]
    """Vertices before each on a cheapest path, and the links from there."""
    num_paths: dict[int, int]
    """Cheapest paths to each vertex."""
    latency_s: dict[int, float]
    """Latency of the slowest of these paths."""


class Routes:
    """Paths between the GPUs of a graph.

    >>> from topology.fabric import build_graph
    >>> from topology.presets.clusters import FABRICS
    >>> Routes(build_graph(FABRICS["dgx-h100"], 2)).path(0, 8)
    ['gpu0', 'nic0.0', 'leaf0.0', 'nic1.0', 'gpu8']
    """

    def __init__(self, graph: "nx.DiGraph[str]") -> None:
        self._names = list(graph)
        number = {name: i for i, name in enumerate(self._names)}
        self._host: list[int | None] = [data.get("node") for _, data in graph.nodes(data=True)]
        self._kind: list[str] = [data["kind"] for _, data in graph.nodes(data=True)]
        self._is_forwarded = [bool(data.get("is_forwarded")) for _, _, data in graph.edges(data=True)]
        self._next: list[list[tuple[int, int, float, int]]] = [[] for _ in self._names]  # vertex, link, latency, hops
        for link, (a, b, data) in enumerate(graph.edges(data=True)):
            self._next[number[a]].append((number[b], link, float(data["latency_s"]), int(data.get("hops", 1))))
        gpus = [(data["rank"], number[name]) for name, data in graph.nodes(data=True) if data["kind"] == "gpu"]
        self._gpu = [vertex for _, vertex in sorted(gpus)]
        longest = max((hops for ways in self._next for *_, hops in ways), default=1)
        self._in_node_hop = len(self._names) * longest  # more than all hops outside
        self._trees: dict[tuple[int, int], _Tree] = {}
        self._routes: dict[tuple[int, int], Route] = {}

    def route(self, src: int, dst: int) -> Route:
        """Return links, shares and latency of the paths from rank `src` to rank `dst`."""
        known = self._routes.get((src, dst))
        if known is None:
            known = self._routes[src, dst] = self._find(src, dst)
        return known

    def routes(self, src: Sequence[int], dst: Sequence[int]) -> list[Route]:
        """Return the paths of each pair; new pairs are searched sender by sender, for one search serves many pairs."""
        pairs = list(zip(src, dst, strict=True))
        for pair in sorted(set(pairs) - self._routes.keys()):
            self.route(*pair)
        return [self._routes[pair] for pair in pairs]

    def path(self, src: int, dst: int) -> list[str]:
        """Return the vertices of the first of the paths from rank `src` to rank `dst`."""
        vertices = [self._gpu[dst]]
        if src != dst:
            tree = self._tree_to(src, dst)
            while vertices[-1] != self._gpu[src]:
                vertices.append(tree.come_from[vertices[-1]][0][0])
        return [self._names[vertex] for vertex in reversed(vertices)]

    # ---- private -------------------------------------------------------------------------------------------------

    def _find(self, src: int, dst: int) -> Route:
        if src == dst:
            return _NOWHERE
        tree, end = self._tree_to(src, dst), self._gpu[dst]
        vertex_share, queue = {end: 1.0}, [(-tree.position[end], end)]
        share: dict[int, float] = {}
        while queue:  # from the end back to the start: a vertex when all behind it have been
            _, vertex = heapq.heappop(queue)
            for before, link in tree.come_from[vertex]:
                share[link] = vertex_share[vertex] * (tree.num_paths[before] / tree.num_paths[vertex])
                if before not in vertex_share:
                    vertex_share[before] = 0.0
                    heapq.heappush(queue, (-tree.position[before], before))
                vertex_share[before] += share[link]
        return Route(
            links=np.array(list(share), dtype=np.intp),
            share=np.array(list(share.values())),
            latency_s=tree.latency_s[end],
        )

    def _tree_to(self, src: int, dst: int) -> _Tree:
        """Return the search of the first tier that reaches `dst`."""
        start, end = self._gpu[src], self._gpu[dst]
        same = self._host[start] == self._host[end]
        for tier in (*_IN_NODE_TIERS, *_TIERS_BETWEEN) if same else _TIERS_BETWEEN:
            tree = self._tree(start, tier)
            if end in tree.position:
                return tree
        raise ValueError(f"GPU {src} cannot reach GPU {dst}")  # refused when the cluster was built

    def _tree(self, start: int, tier: int) -> _Tree:
        if (start, tier) not in self._trees:
            if len(self._trees) >= _MOST_TREES:
                del self._trees[next(iter(self._trees))]
            self._trees[start, tier] = self._search(start, tier)
        return self._trees[start, tier]

    def _search(self, start: int, tier: int) -> _Tree:
        """Return all cheapest paths from vertex `start` that tier `tier` allows (Dijkstra's algorithm)."""
        tree = _Tree({}, {start: []}, {start: 1}, {start: 0.0})
        cost, queue = {start: 0}, [(0, start)]
        while queue:
            so_far, vertex = heapq.heappop(queue)
            if vertex in tree.position:
                continue
            tree.position[vertex] = len(tree.position)
            if vertex != start and not self._forwards(vertex, start, tier):
                continue
            for after, link, latency_s, hops in self._next[vertex]:
                if not self._may_go(vertex, after, start, tier) or (
                    tier == _FORWARDED and not self._is_forwarded[link]
                ):
                    continue
                is_inside = self._host[vertex] is not None and self._host[vertex] == self._host[after]
                new_cost = so_far + (self._in_node_hop if is_inside else hops)
                if new_cost > cost.get(after, new_cost):
                    continue
                if new_cost < cost.get(after, new_cost + 1):
                    cost[after], tree.come_from[after] = new_cost, []
                    tree.num_paths[after], tree.latency_s[after] = 0, 0.0
                    heapq.heappush(queue, (new_cost, after))
                tree.come_from[after].append((vertex, link))
                tree.num_paths[after] += tree.num_paths[vertex]
                tree.latency_s[after] = max(tree.latency_s[after], tree.latency_s[vertex] + latency_s)
        return tree

    def _forwards(self, vertex: int, start: int, tier: int) -> bool:
        """Tell whether a path of `tier` may lead through a vertex."""
        if tier == _NVSWITCH:
            return self._kind[vertex] == "nvswitch"
        if self._kind[vertex] != "gpu" or tier in _THROUGH_GPUS:
            return True
        return tier == _SENDER and self._host[vertex] == self._host[start]

    def _may_go(self, vertex: int, after: int, start: int, tier: int) -> bool:
        """Tell whether a path of `tier` may lead from a vertex to the one after it."""
        host, next_host, start_host = self._host[vertex], self._host[after], self._host[start]
        if tier in _IN_NODE_TIERS:
            return next_host == start_host
        return tier == _ANYWHERE or host is None or host in (start_host, next_host)
