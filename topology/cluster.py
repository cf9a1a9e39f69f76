"""A cluster: links as arrays, paths, and bytes between GPUs as loads on links.

Model
-----
A cluster is a directed graph of vertices and links (`topology.graph_links` names their data); its links are arrays, in
the graph's order. Where the fabric has a formula for its links (`topology.regular_links`), the graph is wired only when
it is needed; what a caller changes on it before a figure is read, counts.

How bytes get from GPU to GPU is in `Paths`: `topology.regular_paths` has a formula for them, `topology.graph_paths`
searches them. On a graph that both accept their answers are equal.

Assumptions
-----------
Those of the paths. On paths that are searched no two groups of GPUs count as having the same wiring, so that lanes are
never folded: a run takes longer than with a formula, and its result is exact.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from topology.check_graph import check_graph
from topology.degraded import Change, degrade
from topology.device import Device
from topology.fabric import FabricSpec, build_graph, check_num_nodes
from topology.fabrics.clos import RailOptimised
from topology.graph_links import GraphLinks
from topology.graph_paths import GraphPaths
from topology.link_groups import Inventory
from topology.links import FlowLinks, LinkLoad, LinkMap
from topology.nodes import NvSwitchNode
from topology.pairs import Pairs
from topology.presets.protocols import Protocol as CommunicationProtocol
from topology.presets.protocols import protocols_of
from topology.regular_links import RegularLinks
from topology.regular_paths import RegularPaths

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["Cluster", "Flows", "Paths", "build_cluster", "build_graph_cluster"]

IntArray = NDArray[np.intp]
FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


class Flows(Protocol):
    """Flows between GPUs, on the links of their paths."""

    @property
    def latency_s(self) -> FloatArray:
        """Time to the first byte of each flow: the links' latencies along its slowest path. Shape [F]."""
        ...

    @property
    def links(self) -> FlowLinks:
        """The links of each flow and its share on each of them. A flow from a rank to itself has no link."""
        ...

    def load(self, num_bytes: FloatArray) -> LinkLoad:
        """Return what `num_bytes` [F] put on each link: the sum of `links` over the flows."""
        ...


class Paths(Protocol):
    """How bytes get from GPU to GPU: the part of a cluster in which wirings differ."""

    def flows(self, src: IntArray, dst: IntArray) -> Flows:
        """Return the paths of flows from `src` [F] to `dst` [F]."""
        ...

    def pairs(self, src: IntArray, dst: IntArray) -> Pairs:
        """Return the links between each of `src` [S] and each of `dst` [D], all different within each."""
        ...

    def path(self, src: int, dst: int) -> list[str]:
        """Return the vertices of the path from GPU `src` to GPU `dst`, of the first of several."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Cluster:
    """GPUs and the links between them. GPU `r` hosts rank `r`."""

    name: str
    """Preset name, or the name of the file it was read from."""
    num_nodes: int
    gpus_per_node: int
    """GPUs of a node; where nodes differ, of the largest."""
    device: Device
    """The GPU, the same everywhere."""
    num_gpus: int
    """GPUs in all nodes."""
    wire: Callable[[], "nx.DiGraph[str]"]
    """Function that makes the graph; called once."""
    formula: RegularPaths | None = None
    """Links and paths, where they follow from the fabric's figures; None: they are read off the graph."""
    inside: str | None = None
    """Technology of the links inside a node, such as `nvlink4`; None: not known."""
    between: str | None = None
    """Technology of the network between nodes, such as `ib-ndr`; None: not known."""
    warnings: tuple[str, ...] = ()
    """What the description of the cluster leaves open or contradicts, in full sentences."""

    @cached_property
    def graph(self) -> "nx.DiGraph[str]":
        """The topology, wired at its first use; edge data hold bandwidth, efficiency and latency."""
        return self.wire()

    @property
    def needs_graph(self) -> bool:
        """Whether links and paths are read off the wired graph, for no formula gives them or something is degraded."""
        return self.formula is None or "graph" in self.__dict__

    @cached_property
    def links(self) -> RegularLinks | GraphLinks:
        """What stands where: numbers and names of links and GPUs."""
        return self._on_graph if self.formula is None else self.formula.links

    @cached_property
    def paths(self) -> Paths:
        """How bytes get from GPU to GPU."""
        return self.formula or GraphPaths(graph=self.graph)

    @cached_property
    def inventory(self) -> Inventory:
        """What the cluster has: vertices, NICs and links, counted."""
        return self._figures.inventory

    # ---- GPUs ----------------------------------------------------------------------------------------------------

    @cached_property
    def gpu_names(self) -> list[str]:
        """Vertex of each rank."""
        return self.links.gpu_names

    @cached_property
    def speeds(self) -> FloatArray:
        """Speed of each rank's kernels over what the device does: 1, or less where a GPU is degraded. Shape [G]."""
        return self._figures.speeds

    def node_of(self, ranks: ArrayLike) -> IntArray:
        """Return the node of each rank."""
        nodes: IntArray = self.links.node_and_rail[0].take(np.asarray(ranks, dtype=np.intp))
        return nodes

    def rail_of(self, ranks: ArrayLike) -> IntArray:
        """Return the rail (position in its node) of each rank."""
        rails: IntArray = self.links.node_and_rail[1].take(np.asarray(ranks, dtype=np.intp))
        return rails

    def node_positions(self, ranks: IntArray) -> tuple[IntArray, IntArray]:
        """Return the node of each of `ranks` [R], numbered from 0, and its position among the ranks of its node."""
        _, node = np.unique(self.node_of(ranks), return_inverse=True)
        position = np.array([int((node[:i] == node[i]).sum()) for i in range(ranks.size)], dtype=np.intp)
        return node.astype(np.intp), position

    def nic_ranks(self, ranks: IntArray) -> IntArray:
        """Return those of `ranks` [R] over which collectives enter and leave nodes: equally many for each NIC."""
        return self.links.nic_ranks(ranks)

    # ---- links ---------------------------------------------------------------------------------------------------

    @property
    def min_num_links(self) -> int:
        """Lower bound of the number of links, known without wiring the graph: at least two of each GPU."""
        return 2 * self.num_gpus if self.formula is None else self.formula.links.num_links

    @cached_property
    def link_names(self) -> list[str]:
        """Name `from->to` of every link, in the graph's order. The position is the link's number."""
        return self.links.names

    @cached_property
    def link_kinds(self) -> list[str]:
        """Kind of every link: nvlink, pcie, nic, leaf-spine."""
        return self.links.kinds

    @cached_property
    def nominal_bytes_per_s(self) -> FloatArray:
        """Datasheet bandwidth of every link. Shape [L]."""
        return self._figures.nominal_bytes_per_s

    @cached_property
    def capacity_bytes_per_s(self) -> FloatArray:
        """Reachable bandwidth of every link: datasheet x efficiency. Shape [L]."""
        return self.nominal_bytes_per_s * self._figures.efficiency

    @cached_property
    def crosses_node(self) -> BoolArray:
        """Tell which links lead out of a node or into one. Shape [L]."""
        return self.links.crosses_node

    @cached_property
    def can_saturate(self) -> BoolArray:
        """Tell which links can saturate; leaving the other links out changes no time. Shape [L]."""
        if self.formula is None:
            return np.ones(len(self.link_names), dtype=np.bool_)
        return self.formula.can_saturate(self.capacity_bytes_per_s)

    @property
    def in_node_bytes_per_s(self) -> float:
        """Datasheet bandwidth with which a GPU sends inside its node, the best of all GPUs."""
        return self.links.in_node_bytes_per_s

    @property
    def exit_bytes_per_s(self) -> float:
        """Datasheet bandwidth out of a node for each of its GPUs, the best of all nodes."""
        return self.links.exit_bytes_per_s

    @property
    def has_nvswitches(self) -> bool:
        """Whether every GPU has a link to an NVSwitch."""
        return self.links.has_nvswitches

    @property
    def protocols(self) -> tuple[CommunicationProtocol, ...]:
        """Protocols that the cluster can run; NVLS needs NVSwitches and GPUs that use their multicast."""
        known = protocols_of(self.inside, self.between)
        if not self.has_nvswitches:
            return tuple(one for one in known if one.algorithm != "nvls" and not one.on_one_node)
        return known if self.device.has_multicast else tuple(one for one in known if one.algorithm != "nvls")

    # ---- paths and loads -----------------------------------------------------------------------------------------

    def path(self, src: int, dst: int) -> list[str]:
        """Return the vertices of the path from GPU `src` to GPU `dst`, of the first of several."""
        return self.paths.path(src, dst)

    def latency_s(self, src: ArrayLike, dst: ArrayLike) -> FloatArray:
        """Return the time to the first byte of each pair: the links' latencies along the path.

        Parameters
        ----------
        src, dst
            Ranks, of shapes that broadcast to [...].

        Returns
        -------
        numpy.ndarray
            Seconds. Shape [...].
        """
        senders, receivers = np.broadcast_arrays(np.asarray(src, dtype=np.intp), np.asarray(dst, dtype=np.intp))
        return self.paths.flows(senders.ravel(), receivers.ravel()).latency_s.reshape(senders.shape)

    def longest_latency_s(self, src: ArrayLike, dst: ArrayLike) -> float:
        """Return the highest of the pairs' latencies; 0 without pairs."""
        return float(self.latency_s(src, dst).max(initial=0.0))

    def load(self, src: ArrayLike, dst: ArrayLike, num_bytes: ArrayLike) -> LinkLoad:
        """Return the bytes that flows between pairs put on each link.

        Parameters
        ----------
        src, dst
            Ranks of each flow. Shape [F].
        num_bytes
            Bytes of each flow. Shape [F]. A flow from a rank to itself loads nothing.
        """
        src_, dst_ = np.asarray(src, dtype=np.intp), np.asarray(dst, dtype=np.intp)
        return self.paths.flows(src_, dst_).load(np.broadcast_to(np.asarray(num_bytes, dtype=np.float64), src_.shape))

    def flow_links(self, src: ArrayLike, dst: ArrayLike) -> FlowLinks:
        """Return the links of each flow and its share on each of them; `load` is their sum over the flows.

        Parameters
        ----------
        src, dst
            Ranks of each flow. Shape [F]. A flow from a rank to itself has no link.
        """
        return self.paths.flows(np.asarray(src, dtype=np.intp), np.asarray(dst, dtype=np.intp)).links

    def pairs(self, src: IntArray, dst: IntArray) -> Pairs:
        """Return the links between each of `src` [S] and each of `dst` [D], all different within each; built once."""
        key = (src.tobytes(), dst.tobytes())
        if key not in self._known_pairs:
            self._known_pairs[key] = self.paths.pairs(src, dst)
        return self._known_pairs[key]

    # ---- groups of GPUs with the same wiring: known where paths follow from a formula ----------------------------

    def own_links(self, ranks: IntArray) -> IntArray:
        """Return the links that belong to each of `ranks` [R] and to no other GPU. Shape [kinds and directions, R]."""
        return np.zeros((0, ranks.size), dtype=np.intp) if self.formula is None else self.formula.own_links(ranks)

    def wiring_of(self, ranks: IntArray) -> bytes:
        """Return a key of the wiring of `ranks` [R]: groups of GPUs with equal keys have the same wiring.

        >>> from topology.presets.devices import DEVICES
        >>> from topology.presets.clusters import FABRICS
        >>> cluster = build_cluster(FABRICS["dgx-h100"], 2, DEVICES["h100-sxm"])
        >>> first, second, across = (cluster.wiring_of(np.array(ranks)) for ranks in ([0, 1], [8, 9], [0, 8]))
        >>> first == second, first == across
        (True, False)
        """
        if self.formula is None:
            return ranks.tobytes()  # only the same GPUs are sure to have the same wiring
        return self.formula.wiring_of(ranks, self.capacity_bytes_per_s) + self.speeds[ranks].tobytes()

    def meets_others(self, ranks: IntArray) -> bool:
        """Tell whether traffic among `ranks` [R] may use links that can saturate and that other GPUs use too."""
        return self.formula is None or self.formula.meets_others(ranks, self.can_saturate)

    def link_map(self, ranks: IntArray, others: IntArray) -> LinkMap:
        """Return the links that traffic among `ranks` [R] can use, and those in their place when `others` [R] are."""
        if self.formula is None:
            return LinkMap(links=np.zeros(0, dtype=np.intp), images=np.zeros(0, dtype=np.intp))
        return self.formula.link_map(ranks, others)

    # ---- private -------------------------------------------------------------------------------------------------

    @cached_property
    def _on_graph(self) -> GraphLinks:
        return GraphLinks(graph=self.graph)

    @property
    def _figures(self) -> RegularLinks | GraphLinks:
        """What has the figures: the graph where it is wired, for something is degraded, or a caller may change it."""
        return self._on_graph if self.needs_graph else self.links

    @cached_property
    def _known_pairs(self) -> dict[tuple[bytes, bytes], Pairs]:
        return {}


def build_cluster(spec: FabricSpec, num_nodes: int, device: Device, degraded: Sequence[Change] = ()) -> Cluster:
    """Return `num_nodes` nodes of `spec` with `device` in every slot, but for what is `degraded`.

    Its graph is wired at its first use, or at once where something is degraded.

    >>> from topology.presets.devices import DEVICES
    >>> from topology.presets.clusters import FABRICS
    >>> build_cluster(FABRICS["gb200-nvl72"], 1, DEVICES["gb200"]).num_gpus
    72
    """
    check_num_nodes(spec, num_nodes)
    spec.wiring.check(spec, num_nodes)
    cluster = Cluster(
        name=spec.name,
        num_nodes=num_nodes,
        gpus_per_node=spec.gpus_per_node,
        device=device,
        num_gpus=num_nodes * spec.gpus_per_node,
        wire=partial(_wire, spec, num_nodes, tuple(degraded)),
        formula=_formula_of(spec, num_nodes, degraded),
        inside=spec.inside,
        between=spec.between,
    )
    if degraded:
        _ = cluster.graph  # wired at once: what cannot be is refused now
    return cluster


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
        Vertices and links with the data that `topology.graph_links` names; and the GPU.
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
    return Cluster(
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


# ---- private -----------------------------------------------------------------------------------------------------


def _formula_of(spec: FabricSpec, num_nodes: int, degraded: Sequence[Change]) -> RegularPaths | None:
    """Return links and paths of a fabric that has a formula for them; a slower link leaves paths as they are."""
    is_whole = all(change.factor is not None for change in degraded)
    if not (is_whole and isinstance(spec.wiring, RailOptimised) and isinstance(spec.node, NvSwitchNode)):
        return None
    links = RegularLinks(
        spec=spec,
        num_nodes=num_nodes,
        nodes_per_unit=spec.wiring.nodes_per_unit(spec),
        oversubscription=spec.wiring.oversubscription,
    )
    return RegularPaths(links=links)


def _as_it_is(graph: "nx.DiGraph[str]") -> "nx.DiGraph[str]":
    return graph


def _wire(spec: FabricSpec, num_nodes: int, degraded: tuple[Change, ...]) -> "nx.DiGraph[str]":
    graph = build_graph(spec, num_nodes)
    return degrade(graph, degraded, name=spec.name) if degraded else graph
