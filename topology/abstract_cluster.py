"""The interface of every cluster: links as arrays, paths, and bytes between GPUs as loads on links.

Model
-----
A cluster is a directed graph. Its vertices have a `kind`; GPUs also `rank` and `node`, and whatever else is inside a
node (NVSwitch, NIC, CPU, PCIe switch) has that `node` too. Vertices without `node` are the network's: leaves, spines,
switches. Its edges are the links, one direction each.

`topology.regular_cluster` has a formula for its paths, `topology.graph_cluster` searches them; on a graph that both
accept, their answers are equal.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from topology.device import Device
from topology.link_groups import Inventory, inventory_of
from topology.links import FlowLinks, LinkLoad
from topology.pairs import Pairs
from topology.presets.protocols import Protocol, protocols_of

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["Cluster"]

IntArray = NDArray[np.intp]
FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class Cluster(ABC):
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

    @cached_property
    def inventory(self) -> Inventory:
        """What the cluster has: vertices, NICs and links, counted."""
        return inventory_of(self.graph)

    # ---- GPUs ----------------------------------------------------------------------------------------------------

    @cached_property
    def gpu_names(self) -> list[str]:
        """Vertex of each rank."""
        ranks = [(data["rank"], name) for name, data in self.graph.nodes(data=True) if data["kind"] == "gpu"]
        return [name for _, name in sorted(ranks)]

    @cached_property
    def speeds(self) -> FloatArray:
        """Speed of each rank's kernels over what the device does: 1, or less where a GPU is degraded. Shape [G]."""
        return np.array([self.graph.nodes[name].get("speed", 1.0) for name in self.gpu_names], dtype=np.float64)

    @abstractmethod
    def node_of(self, ranks: ArrayLike) -> IntArray:
        """Return the node of each rank."""

    @abstractmethod
    def rail_of(self, ranks: ArrayLike) -> IntArray:
        """Return the rail (position in its node) of each rank."""

    def node_positions(self, ranks: IntArray) -> tuple[IntArray, IntArray]:
        """Return the node of each of `ranks` [R], numbered from 0, and its position among the ranks of its node."""
        _, node = np.unique(self.node_of(ranks), return_inverse=True)
        position = np.array([int((node[:i] == node[i]).sum()) for i in range(ranks.size)], dtype=np.intp)
        return node.astype(np.intp), position

    def nic_ranks(self, ranks: IntArray) -> IntArray:
        """Return those of `ranks` [R] over which collectives enter and leave nodes: equally many for each NIC."""
        return ranks

    @property
    def min_num_links(self) -> int:
        """Lower bound of the number of links, known without wiring the graph: two links of each GPU."""
        return 2 * self.num_gpus

    # ---- links ---------------------------------------------------------------------------------------------------

    @cached_property
    def link_names(self) -> list[str]:
        """Name `from->to` of every link, in the graph's order. The position is the link's number."""
        return [f"{a}->{b}" for a, b in self.graph.edges]

    @cached_property
    def link_kinds(self) -> list[str]:
        """Kind of every link: nvlink, pcie, nic, leaf-spine."""
        return [data["kind"] for _, _, data in self.graph.edges(data=True)]

    @cached_property
    def nominal_bytes_per_s(self) -> FloatArray:
        """Datasheet bandwidth of every link. Shape [L]."""
        return self._edge_figures("bandwidth_bytes_per_s")

    @cached_property
    def capacity_bytes_per_s(self) -> FloatArray:
        """Reachable bandwidth of every link: datasheet x efficiency. Shape [L]."""
        return self.nominal_bytes_per_s * self._edge_figures("efficiency")

    @cached_property
    def crosses_node(self) -> BoolArray:
        """Tell which links lead out of a node or into one. Shape [L]."""
        node = {vertex: data.get("node") for vertex, data in self.graph.nodes(data=True)}
        return np.array([node[a] != node[b] for a, b in self.graph.edges], dtype=np.bool_)

    @cached_property
    def can_saturate(self) -> BoolArray:
        """Tell which links can saturate; leaving the other links out changes no time. Shape [L]."""
        return np.ones(len(self.link_names), dtype=np.bool_)

    @property
    @abstractmethod
    def in_node_bytes_per_s(self) -> float:
        """Datasheet bandwidth with which a GPU sends inside its node, the best of all GPUs."""

    @property
    @abstractmethod
    def exit_bytes_per_s(self) -> float:
        """Datasheet bandwidth out of a node for each of its GPUs, the best of all nodes; infinite on one node."""

    @property
    @abstractmethod
    def has_nvswitches(self) -> bool:
        """Whether every GPU has a link to an NVSwitch."""

    @property
    def protocols(self) -> tuple[Protocol, ...]:
        """Protocols that the cluster can run; NVLS needs NVSwitches and GPUs that use their multicast."""
        known = protocols_of(self.inside, self.between)
        if not self.has_nvswitches:
            return tuple(one for one in known if one.algorithm != "nvls" and not one.on_one_node)
        return known if self.device.has_multicast else tuple(one for one in known if one.algorithm != "nvls")

    # ---- paths and loads -----------------------------------------------------------------------------------------

    @abstractmethod
    def path_class(self, src: int, dst: int) -> str:
        """Return `self`, `node`, or the word of the cluster for a path between nodes."""

    @abstractmethod
    def path(self, src: int, dst: int) -> list[str]:
        """Return the vertices of the path from GPU `src` to GPU `dst`, of the first of several."""

    @abstractmethod
    def latency_s(self, src: ArrayLike, dst: ArrayLike) -> FloatArray:
        """Return the time to the first byte of each pair: the links' latencies along the path.

        Parameters
        ----------
        src, dst
            Ranks, the same shape [...].

        Returns
        -------
        numpy.ndarray
            Seconds. Shape [...].
        """

    def longest_latency_s(self, src: ArrayLike, dst: ArrayLike) -> float:
        """Return the highest of the pairs' latencies; 0 without pairs."""
        return float(self.latency_s(src, dst).max(initial=0.0))

    @abstractmethod
    def load(self, src: ArrayLike, dst: ArrayLike, num_bytes: ArrayLike) -> LinkLoad:
        """Return the bytes that flows between pairs put on each link.

        Parameters
        ----------
        src, dst
            Ranks of each flow. Shape [F].
        num_bytes
            Bytes of each flow. Shape [F]. A flow from a rank to itself loads nothing.
        """

    @abstractmethod
    def flow_links(self, src: ArrayLike, dst: ArrayLike) -> FlowLinks:
        """Return the links of each flow and its share on each of them; `load` is their sum over the flows.

        Parameters
        ----------
        src, dst
            Ranks of each flow. Shape [F]. A flow from a rank to itself has no link.
        """

    def pairs(self, src: IntArray, dst: IntArray) -> Pairs:
        """Return the links between each of `src` [S] and each of `dst` [D], all different within each; built once."""
        key = (src.tobytes(), dst.tobytes())
        if key not in self._known_pairs:
            self._known_pairs[key] = self._build_pairs(src, dst)
        return self._known_pairs[key]

    # ---- groups of GPUs with the same wiring (see `topology.symmetry`) -----------------------------------------------

    @abstractmethod
    def own_links(self, ranks: IntArray) -> IntArray:
        """Return the links that belong to each of `ranks` [R] and to no other GPU. Shape [kinds and directions, R]."""

    @abstractmethod
    def wiring_of(self, ranks: IntArray) -> bytes:
        """Return a key of the wiring of `ranks` [R]: groups of GPUs with equal keys have the same wiring."""

    @abstractmethod
    def meets_others(self, ranks: IntArray) -> bool:
        """Tell whether traffic among `ranks` [R] uses links that can saturate and that other GPUs use too."""

    @abstractmethod
    def link_map(self, ranks: IntArray, others: IntArray) -> IntArray:
        """Return for each link the link that replaces it when `others` [R] replace `ranks` [R]. Shape [L]."""

    # ---- private -------------------------------------------------------------------------------------------------

    @abstractmethod
    def _build_pairs(self, src: IntArray, dst: IntArray) -> Pairs: ...

    @cached_property
    def _known_pairs(self) -> dict[tuple[bytes, bytes], Pairs]:
        return {}

    def _edge_figures(self, field: str) -> FloatArray:
        return np.array([data[field] for _, _, data in self.graph.edges(data=True)], dtype=np.float64)
