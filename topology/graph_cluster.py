"""A cluster on any directed graph: paths are searched on the graph.

Model
-----
Paths are those of `topology.routes`; bytes between GPUs are spread over them. A pair of GPUs is in one of three
classes: `self`, `node`, `away`.

The vertices and links of the graph carry these data, and all GPUs can reach each other:

    vertex    kind (gpu, nvswitch, nic, cpu, pcie, leaf, spine, switch ...); node, for what is inside a node
    GPU       rank and node; rail (its position in the node) and speed (1) may be left out
    link      kind, bandwidth_bytes_per_s, efficiency, latency_s; hops that it counts as (1) and is_forwarded (False),
              whether GPUs forward what comes over it, may be left out

Assumptions
-----------
Those of `topology.routes`. No two groups of GPUs count as having the same wiring, so that lanes are never folded: a run
takes longer than on a regular cluster, and its result is exact.
"""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from topology.abstract_cluster import Cluster
from topology.check_graph import check_graph
from topology.device import Device
from topology.graph_pairs import GraphPairs
from topology.links import FlowLinks, LinkLoad
from topology.routes import Route, Routes

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["GraphCluster", "build_graph_cluster"]

IntArray = NDArray[np.intp]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class GraphCluster(Cluster):
    """A cluster whose paths are looked for on its graph."""

    def node_of(self, ranks: ArrayLike) -> IntArray:
        """Return the node of each rank."""
        nodes: IntArray = self._node_and_rail[0].take(np.asarray(ranks, dtype=np.intp))
        return nodes

    def rail_of(self, ranks: ArrayLike) -> IntArray:
        """Return the rail (position in its node) of each rank."""
        rails: IntArray = self._node_and_rail[1].take(np.asarray(ranks, dtype=np.intp))
        return rails

    def nic_ranks(self, ranks: IntArray) -> IntArray:
        """Return those of `ranks` [R] that are nearest to the NICs of their nodes, equally many for each NIC.

        A NIC that is the nearest NIC of no rank is not in use. Where nothing leaves a node, all of its ranks count.
        """
        nodes, senders = self.node_of(ranks), set[int]()
        for node in np.unique(nodes).tolist():
            nearest = self._nearest_of_nics(ranks[nodes == node].tolist())
            sharing = Counter(nearest)  # candidates -> NICs that have these candidates
            quota = min((max(1, len(candidates) // count) for candidates, count in sharing.items()), default=0)
            for candidates, count in sharing.items():
                senders.update(candidates[: quota * count])
        return np.array([rank for rank in ranks.tolist() if rank in senders], dtype=np.intp) if senders else ranks

    @cached_property
    def has_nvswitches(self) -> bool:
        """Whether every GPU has a link to an NVSwitch."""
        kind = {vertex: data["kind"] for vertex, data in self.graph.nodes(data=True)}
        return all(any(kind[other] == "nvswitch" for other in self.graph.successors(gpu)) for gpu in self.gpu_names)

    @cached_property
    def in_node_bytes_per_s(self) -> float:
        """Datasheet bandwidth with which a GPU sends inside its node, all its links there but those to NICs."""
        data = self.graph.nodes
        sums = [
            sum(
                link["bandwidth_bytes_per_s"]
                for _, other, link in self.graph.out_edges(gpu, data=True)
                if data[other].get("node") == data[gpu]["node"] and data[other]["kind"] != "nic"
            )
            for gpu in self.gpu_names
        ]
        return float(max(sums)) or float("inf")

    @cached_property
    def exit_bytes_per_s(self) -> float:
        """Datasheet bandwidth out of a node for each of its GPUs, the best of all nodes; infinite on one node."""
        out: dict[int, float] = {}
        for a, b, link in self.graph.edges(data=True):
            node = self.graph.nodes[a].get("node")
            if node is not None and node != self.graph.nodes[b].get("node"):
                out[node] = out.get(node, 0.0) + link["bandwidth_bytes_per_s"]
        num_gpus = np.bincount(self._node_and_rail[0])
        return max((total / num_gpus[node] for node, total in out.items() if num_gpus[node]), default=float("inf"))

    def path_class(self, src: int, dst: int) -> str:
        """Return `self`, `node` or `away`."""
        if src == dst:
            return "self"
        return "node" if self.node_of(src) == self.node_of(dst) else "away"

    def path(self, src: int, dst: int) -> list[str]:
        """Return the vertices of the path from GPU `src` to GPU `dst`, of the first of several."""
        return self._routes.path(src, dst)

    def latency_s(self, src: ArrayLike, dst: ArrayLike) -> FloatArray:
        """Return the time to the first byte of each pair: the links' latencies along the slowest of its paths."""
        pairs = np.broadcast_arrays(np.asarray(src, dtype=np.intp), np.asarray(dst, dtype=np.intp))
        found = [route.latency_s for route in self._routes_of(*pairs)]
        return np.array(found, dtype=np.float64).reshape(pairs[0].shape)

    def load(self, src: ArrayLike, dst: ArrayLike, num_bytes: ArrayLike) -> LinkLoad:
        """Return the bytes that flows between pairs put on each link."""
        flows = self.flow_links(src, dst)
        amount = np.broadcast_to(np.asarray(num_bytes, dtype=np.float64), flows.first.size - 1)
        weights = flows.share * amount[flows.flow_of_entry]
        total = np.bincount(flows.links, weights=weights, minlength=len(self.link_names)).astype(np.float64)
        links = np.flatnonzero(total)
        return LinkLoad(links=links, num_bytes=total[links])

    def flow_links(self, src: ArrayLike, dst: ArrayLike) -> FlowLinks:
        """Return the links of each flow and its share on them: what `load` adds up, flow by flow."""
        routes = self._routes_of(np.asarray(src, dtype=np.intp), np.asarray(dst, dtype=np.intp))
        first = np.cumsum([0, *(route.links.size for route in routes)], dtype=np.intp)
        if not routes:
            return FlowLinks(first=first, links=np.zeros(0, dtype=np.intp), share=np.zeros(0))
        links, share = ([getattr(route, field) for route in routes] for field in ("links", "share"))
        return FlowLinks(first=first, links=np.concatenate(links), share=np.concatenate(share))

    def own_links(self, ranks: IntArray) -> IntArray:
        """Return no links: on any graph it is not known which links belong to a single GPU. Shape [0, R]."""
        return np.zeros((0, ranks.size), dtype=np.intp)

    def wiring_of(self, ranks: IntArray) -> bytes:
        """Return `ranks` [R] themselves: only the same GPUs are sure to have the same wiring."""
        return ranks.tobytes()

    def meets_others(self, ranks: IntArray) -> bool:
        """Return True: it is not known which other GPUs use the links between `ranks` [R]."""
        del ranks
        return True

    def link_map(self, ranks: IntArray, others: IntArray) -> IntArray:
        """Return each link itself: no GPU replaces another GPU. Shape [L]."""
        del ranks, others
        return np.arange(len(self.link_names), dtype=np.intp)

    # ---- private -------------------------------------------------------------------------------------------------

    @cached_property
    def _routes(self) -> Routes:
        return Routes(self.graph)

    @cached_property
    def _node_and_rail(self) -> IntArray:
        """Node and rail of each rank. Shape [2, G]."""
        found, num_in_node = np.zeros((2, self.num_gpus), dtype=np.intp), dict[int, int]()
        for rank, name in enumerate(self.gpu_names):
            data = self.graph.nodes[name]
            position = num_in_node[data["node"]] = num_in_node.get(data["node"], -1) + 1
            found[:, rank] = data["node"], data.get("rail", position)
        return found

    def _nearest_of_nics(self, ranks: list[int]) -> list[tuple[int, ...]]:
        """Return for each NIC that is nearest to any of the `ranks` of a node the ranks that are nearest to the NIC."""
        by_nic: dict[str, dict[int, list[int]]] = {}
        for rank in ranks:
            hops, nics = self._way_out(rank)
            for nic in nics:
                by_nic.setdefault(nic, {}).setdefault(hops, []).append(rank)
        return [tuple(by_hops[min(by_hops)]) for by_hops in by_nic.values()]

    def _way_out(self, rank: int) -> tuple[int, list[str]]:
        """Return the fewest hops from a GPU, through no other GPU, to vertices that lead out of its node, and these."""
        if rank not in self._ways_out:
            graph, start = self.graph, self.gpu_names[rank]
            vertices, node = graph.nodes, graph.nodes[start]["node"]
            seen, reached, hops, out = {start}, [start], 0, list[str]()
            while reached:
                out = [v for v in reached if any(vertices[after].get("node") != node for after in graph.successors(v))]
                if out:
                    break
                ahead = {after for v in reached for after in graph.successors(v)} - seen
                seen |= ahead
                reached, hops = [v for v in ahead if vertices[v]["kind"] != "gpu"], hops + 1
            self._ways_out[rank] = (hops, sorted(out))
        return self._ways_out[rank]

    @cached_property
    def _ways_out(self) -> dict[int, tuple[int, list[str]]]:
        return {}

    def _routes_of(self, src: IntArray, dst: IntArray) -> list[Route]:
        return self._routes.routes(src.ravel().tolist(), dst.ravel().tolist())

    def _build_pairs(self, src: IntArray, dst: IntArray) -> GraphPairs:
        senders, receivers = np.broadcast_arrays(src[:, None], dst)
        return GraphPairs(
            is_pair=senders != receivers,
            latency_s=np.maximum(self.latency_s(senders, receivers), self.latency_s(receivers, senders)),
            forward_flows=self.flow_links(senders.ravel(), receivers.ravel()),
            reverse_flows=self.flow_links(receivers.ravel(), senders.ravel()),
        )


def build_graph_cluster(
    graph: "nx.DiGraph[str]",
    device: Device,
    *,
    name: str,
    inside: str | None = None,
    between: str | None = None,
    warnings: tuple[str, ...] = (),
) -> Cluster:
    """Return the cluster that a graph describes, with `device` in every slot.

    Parameters
    ----------
    graph, device
        Vertices and links with the data that the module's text names; and the GPU.
    name
        What errors and reports call the cluster.
    inside, between
        Technology of the links inside and between nodes; None: what the graph's own attributes of these names say.
    warnings
        What the description of the cluster leaves open.

    Raises
    ------
    InvalidValueError
        Where data are missing or impossible, or some GPUs cannot reach the others: both sides are named.

    Examples
    --------
    >>> import networkx as nx
    >>> from topology.presets.devices import DEVICES
    >>> wire = dict(kind="nvlink", bandwidth_bytes_per_s=50e9, efficiency=1.0, latency_s=1e-6)
    >>> graph = nx.DiGraph()
    >>> graph.add_nodes_from((f"gpu{r}", dict(kind="gpu", rank=r, node=0)) for r in range(3))
    >>> graph.add_edges_from((f"gpu{r}", f"gpu{(r + 1) % 3}", wire) for r in range(3))
    >>> build_graph_cluster(graph, DEVICES["h100-sxm"], name="ring").path(0, 2)
    ['gpu0', 'gpu1', 'gpu2']
    """
    check_graph(graph, name)
    num_in_node = Counter(data["node"] for _, data in graph.nodes(data=True) if data["kind"] == "gpu")
    return GraphCluster(
        name=name,
        num_nodes=len(num_in_node),
        gpus_per_node=max(num_in_node.values()),
        device=device,
        num_gpus=num_in_node.total(),
        wire=partial(_as_it_is, graph),
        inside=inside or graph.graph.get("inside"),
        between=between or graph.graph.get("between"),
        warnings=warnings,
    )


def _as_it_is(graph: "nx.DiGraph[str]") -> "nx.DiGraph[str]":
    return graph
