"""A regular cluster: GPUs behind an NVSwitch, a NIC per GPU, rails, leaves and spines; paths by class.

Model
-----
A pair of GPUs is in one of four classes, which decides its path:

    self        no link
    node        gpu -> nvswitch -> gpu
    rail        gpu -> nic -> leaf -> nic -> gpu                  same rail and unit
    spine       gpu -> nic -> leaf -> spine -> leaf -> nic -> gpu

Traffic across leaves is spread equally over all spines.

Assumptions
-----------
Equal spreading is what adaptive routing aims at; hashed flows collide and are slower. A GPU uses its own NIC only.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from topology import symmetry
from topology.abstract_cluster import Cluster
from topology.fabric import FabricSpec
from topology.link_groups import Inventory
from topology.links import FlowLinks, LinkLoad
from topology.regular_links import RegularLinks
from topology.regular_pairs import RegularPairs

__all__ = ["RegularCluster"]

IntArray = NDArray[np.intp]
FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
_ROUNDING = 1e-9  # by which a sum of links may miss the link that was made to hold them
_NETWORK_LINKS = ("pcie_up", "nic_up", "nic_down", "pcie_down")
"""Links of GPUs that a flow to another node uses: two of its sender, two of its receiver."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RegularCluster(Cluster):
    """A cluster whose paths follow from where a GPU is."""

    spec: FabricSpec
    """Figures of the fabric."""
    nodes_per_unit: int
    """Nodes of one scalable unit: the nodes under one leaf."""
    oversubscription: float
    """Bandwidth of a leaf's NICs over that of its uplinks."""

    @cached_property
    def can_saturate(self) -> BoolArray:
        """Tell which links can saturate. Shape [L].

        All bytes of a GPU's PCIe link pass its NIC as well, and the other way round: only the narrower of the two can
        saturate. The bytes between a leaf and one of its spines are at most that spine's share of the bytes that the
        GPUs of the leaf send or receive.
        """
        can_saturate = np.ones(self._links.num_links, dtype=np.bool_)
        if self.num_nodes == 1:
            return can_saturate
        capacity, leaf_of = self.capacity_bytes_per_s, self.leaf_of
        for direction, spine_links in zip(("up", "down"), self.spine_links, strict=True):
            pcie, nic = (self.gpu_links[f"{kind}_{direction}"] for kind in ("pcie", "nic"))
            can_saturate[pcie] = capacity[pcie] < capacity[nic]
            can_saturate[nic] = ~can_saturate[pcie]
            most = np.bincount(leaf_of, weights=np.minimum(capacity[pcie], capacity[nic]), minlength=len(spine_links))
            share = most[:, None] / max(spine_links.shape[1], 1)
            can_saturate[spine_links] = capacity[spine_links] < share * (1 - _ROUNDING)
        return can_saturate

    @cached_property
    def gpu_links(self) -> dict[str, IntArray]:
        """Numbers of the links that belong to each GPU. Each array has shape [G]."""
        return self._links.of_gpus

    @cached_property
    def spine_links(self) -> tuple[IntArray, IntArray]:
        """Link numbers leaf -> spine and spine -> leaf. Each of shape [leaves, spines]; a single leaf has no spines."""
        return self._links.of_spines

    @cached_property
    def gpu_names(self) -> list[str]:
        """Vertex of each rank."""
        return [f"gpu{rank}" for rank in range(self.num_gpus)]

    @cached_property
    def speeds(self) -> FloatArray:
        """Speed of each rank's kernels over what the device does. Shape [G]."""
        return super().speeds if self._has_graph else np.ones(self.num_gpus)

    @cached_property
    def link_names(self) -> list[str]:
        """Name `from->to` of every link. The position is the link's number."""
        return self._links.names

    @cached_property
    def link_kinds(self) -> list[str]:
        """Kind of every link."""
        return self._links.kinds

    @cached_property
    def nominal_bytes_per_s(self) -> FloatArray:
        """Datasheet bandwidth of every link. Shape [L]."""
        return super().nominal_bytes_per_s if self._has_graph else self._links.nominal_bytes_per_s

    @cached_property
    def capacity_bytes_per_s(self) -> FloatArray:
        """Reachable bandwidth of every link: datasheet x efficiency. Shape [L]."""
        return super().capacity_bytes_per_s if self._has_graph else self.nominal_bytes_per_s * self._links.efficiency

    @cached_property
    def crosses_node(self) -> BoolArray:
        """Tell which links lead out of a node or into one. Shape [L]."""
        return self._links.crosses_node

    @cached_property
    def inventory(self) -> Inventory:
        """What the cluster has: vertices, NICs and links, counted."""
        return super().inventory if self._has_graph else self._links.inventory

    @cached_property
    def leaf_of(self) -> IntArray:
        """Number of the leaf of each rank: unit * rails + rail. Shape [G]."""
        ranks = np.arange(self.num_gpus)
        unit = self.node_of(ranks) // self.nodes_per_unit
        return unit * self.gpus_per_node + self.rail_of(ranks)

    def node_of(self, ranks: ArrayLike) -> IntArray:
        """Return the node of each rank."""
        return np.asarray(ranks, dtype=np.intp) // self.gpus_per_node

    def rail_of(self, ranks: ArrayLike) -> IntArray:
        """Return the rail (position in its node) of each rank."""
        return np.asarray(ranks, dtype=np.intp) % self.gpus_per_node

    def path_class(self, src: int, dst: int) -> str:
        """Return `self`, `node`, `rail` or `spine`.

        >>> from topology.cluster import build_cluster
        >>> from topology.presets.devices import DEVICES
        >>> from topology.presets.clusters import FABRICS
        >>> cluster = build_cluster(FABRICS["dgx-h100"], 2, DEVICES["h100-sxm"])
        >>> [cluster.path_class(0, dst) for dst in (0, 1, 8, 9)]
        ['self', 'node', 'rail', 'spine']
        """
        if src == dst:
            return "self"
        if self.node_of(src) == self.node_of(dst):
            return "node"
        return "rail" if self.leaf_of[src] == self.leaf_of[dst] else "spine"

    def path(self, src: int, dst: int, *, spine: int = 0) -> list[str]:
        """Return the vertices of the path from GPU `src` to GPU `dst` (over `spine` where it has one)."""
        kind = self.path_class(src, dst)
        a, b = f"gpu{src}", f"gpu{dst}"
        if kind == "self":
            return [a]
        if kind == "node":
            return [a, f"nvswitch{int(self.node_of(src))}", b]
        leaves = [self._leaf_name(src)] + ([f"spine{spine}", self._leaf_name(dst)] if kind == "spine" else [])
        return [a, self._nic_name(src), *leaves, self._nic_name(dst), b]

    def latency_s(self, src: ArrayLike, dst: ArrayLike) -> FloatArray:
        """Return the time to the first byte of each pair: the links' latencies along the path, by class.

        Parameters
        ----------
        src, dst
            Ranks, the same shape [...].

        Returns
        -------
        numpy.ndarray
            Seconds. Shape [...].
        """
        total = np.zeros(np.broadcast_shapes(np.shape(src), np.shape(dst)))
        for is_in, latency_s in zip(self.classes(src, dst), self._class_latency_s, strict=True):
            total[is_in] = latency_s
        return total

    def longest_latency_s(self, src: ArrayLike, dst: ArrayLike) -> float:
        """Return the highest of the pairs' latencies, without working out each; 0 without pairs."""
        classes = zip(self.classes(src, dst), self._class_latency_s, strict=True)
        return max((latency_s for is_in, latency_s in classes if is_in.any()), default=0.0)

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
        amount = np.broadcast_to(np.asarray(num_bytes, dtype=float), src_.shape)
        total = np.zeros(self._links.num_links)
        in_node, rail, crosses = self.classes(src_, dst_)
        sent, received = self._by_rank(src_, dst_, amount, in_node)
        total[self.gpu_links["nvlink_up"]] = sent
        total[self.gpu_links["nvlink_down"]] = received
        if rail.any() or crosses.any():
            self._add_network(total, self._by_rank(src_, dst_, amount, rail), src_, dst_, amount * crosses)
        links = np.flatnonzero(total)
        return LinkLoad(links=links, num_bytes=total[links])

    def flow_links(self, src: ArrayLike, dst: ArrayLike) -> FlowLinks:
        """Return the links of each flow and its share on them: what `load` adds up, flow by flow.

        Parameters
        ----------
        src, dst
            Ranks of each flow. Shape [F]. A flow from a rank to itself has no link.
        """
        src_, dst_ = np.asarray(src, dtype=np.intp), np.asarray(dst, dtype=np.intp)
        in_node, rail, crosses = self.classes(src_, dst_)
        away = rail | crosses
        up, down = self.spine_links if crosses.any() else (np.zeros((0, 0), dtype=np.intp),) * 2
        num_spines = up.shape[1]
        first = np.concatenate([[0], np.cumsum(2 * in_node + 4 * away + 2 * num_spines * crosses)]).astype(np.intp)
        links, share = np.zeros(first[-1], dtype=np.intp), np.ones(first[-1])
        start = first[:-1]
        links[start[in_node]] = self.gpu_links["nvlink_up"][src_[in_node]]
        links[start[in_node] + 1] = self.gpu_links["nvlink_down"][dst_[in_node]]
        if away.any():
            for i, (name, ranks) in enumerate(zip(_NETWORK_LINKS, (src_, src_, dst_, dst_), strict=True)):
                links[start[away] + i] = self.gpu_links[name][ranks[away]]
        for spine in range(num_spines):
            entry = start[crosses] + 4 + 2 * spine
            links[entry] = up[self.leaf_of[src_[crosses]], spine]
            links[entry + 1] = down[self.leaf_of[dst_[crosses]], spine]
            share[entry] = share[entry + 1] = 1.0 / num_spines
        return FlowLinks(first=first, links=links, share=share)

    def classes(self, src: ArrayLike, dst: ArrayLike) -> tuple[BoolArray, BoolArray, BoolArray]:
        """Tell which pairs are of class node, rail and spine."""
        src_, dst_ = np.asarray(src, dtype=np.intp), np.asarray(dst, dtype=np.intp)
        away = self._node_of[src_] != self._node_of[dst_]
        crosses = self.leaf_of[src_] != self.leaf_of[dst_]
        return ~away & (src_ != dst_), away & ~crosses, away & crosses

    @property
    def min_num_links(self) -> int:
        """Number of all links, known without wiring the graph."""
        return self._links.num_links

    @property
    def has_nvswitches(self) -> bool:
        """Whether every GPU has a link to an NVSwitch: always."""
        return True

    @property
    def in_node_bytes_per_s(self) -> float:
        """Datasheet bandwidth with which a GPU sends inside its node."""
        return self.spec.nvlink.bandwidth_bytes_per_s

    @property
    def exit_bytes_per_s(self) -> float:
        """Datasheet bandwidth out of a node for each of its GPUs: that of its NIC."""
        return self.spec.nic.bandwidth_bytes_per_s

    def own_links(self, ranks: IntArray) -> IntArray:
        """Return the links that belong to each of `ranks` [R] and to no other GPU. Shape [kinds and directions, R]."""
        return symmetry.own_links(self, ranks)

    def wiring_of(self, ranks: IntArray) -> bytes:
        """Return a key of the wiring of `ranks` [R]: groups of GPUs with equal keys have the same wiring."""
        return symmetry.wiring_of(self, ranks)

    def meets_others(self, ranks: IntArray) -> bool:
        """Tell whether traffic among `ranks` [R] uses spine links that can saturate, which other GPUs use too."""
        return symmetry.meets_others(self, ranks)

    def link_map(self, ranks: IntArray, others: IntArray) -> IntArray:
        """Return for each link the link that replaces it when `others` [R] replace `ranks` [R]. Shape [L]."""
        return symmetry.link_map(self, ranks, others)

    # ---- private -------------------------------------------------------------------------------------------------

    def _add_network(
        self, total: FloatArray, rail: tuple[FloatArray, FloatArray], src: IntArray, dst: IntArray, across: FloatArray
    ) -> None:
        """Add flows between nodes: along rails (summed by rank), and `across` leaves (of each flow)."""
        sent, received = rail
        if across.any():
            sums = [np.bincount(ranks, weights=across, minlength=self.num_gpus) for ranks in (src, dst)]
            for links, by_rank in zip(self.spine_links, sums, strict=True):
                by_leaf = np.bincount(self.leaf_of, weights=by_rank, minlength=len(links))
                total[links] = by_leaf[:, None] / links.shape[1]
            sent, received = sent + sums[0], received + sums[1]
        for name, of_ranks in zip(_NETWORK_LINKS, (sent, sent, received, received), strict=True):
            total[self.gpu_links[name]] = of_ranks

    def _by_rank(
        self, src: IntArray, dst: IntArray, amount: FloatArray, is_selected: BoolArray
    ) -> tuple[FloatArray, FloatArray]:
        """Return what each rank sends and receives in the selected flows. Each of shape [G]."""
        selected = np.flatnonzero(is_selected)
        sent = np.bincount(src[selected], weights=amount[selected], minlength=self.num_gpus)
        received = np.bincount(dst[selected], weights=amount[selected], minlength=self.num_gpus)
        return sent.astype(np.float64), received.astype(np.float64)  # of no flows bincount makes integers

    def _build_pairs(self, src: IntArray, dst: IntArray) -> RegularPairs:
        same_node = self.node_of(src)[:, None] == self.node_of(dst)
        crosses = ~same_node & (self.leaf_of[src][:, None] != self.leaf_of[dst])
        leaves, leaf = np.unique(self.leaf_of[np.concatenate([src, dst])], return_inverse=True)
        return RegularPairs(
            classes=np.stack([same_node & (src[:, None] != dst), ~same_node, crosses]),
            class_latency_s=np.array(self._class_latency_s),
            leaves=(leaf[: src.size], leaf[src.size :]),
            num_spines=max(1, self.spine_links[0].shape[1]) if self.num_nodes > 1 else 1,
            forward=self._links_of_sums(src, dst, leaves, turned=False),
            reverse=self._links_of_sums(src, dst, leaves, turned=True),
        ).that_can_carry()

    def _links_of_sums(
        self, src: IntArray, dst: IntArray, leaves: IntArray, *, turned: bool
    ) -> tuple[IntArray, IntArray]:
        """Return the links of an exchange of all pairs, ascending, and which sum of `RegularPairs` each carries."""
        up, down = ("down", "up") if turned else ("up", "down")
        of_gpu = self.gpu_links
        links = [of_gpu[f"nvlink_{up}"][None, src], of_gpu[f"nvlink_{down}"][None, dst]]  # [copies of a sum, sums] each
        if np.unique(self.node_of(np.concatenate([src, dst]))).size > 1:
            spine = dict(zip(("up", "down"), self.spine_links, strict=True))
            links += [np.stack([of_gpu[f"{kind}_{up}"][src] for kind in ("pcie", "nic")])]
            links += [np.stack([of_gpu[f"{kind}_{down}"][dst] for kind in ("pcie", "nic")])]
            links += [spine[up][leaves].T, spine[down][leaves].T]
        first = np.cumsum([0] + [group.shape[1] for group in links[:-1]])
        sums = [np.broadcast_to(np.arange(g.shape[1]) + at, g.shape) for g, at in zip(links, first, strict=True)]
        number, carried = (np.concatenate([array.ravel() for array in arrays]) for arrays in (links, sums))
        order = np.argsort(number)
        return number[order], carried[order]

    def _leaf_name(self, rank: int) -> str:
        return f"leaf{int(self.node_of(rank)) // self.nodes_per_unit}.{int(self.rail_of(rank))}"

    def _nic_name(self, rank: int) -> str:
        return f"nic{int(self.node_of(rank))}.{int(self.rail_of(rank))}"

    @cached_property
    def _node_of(self) -> IntArray:
        """Node of each rank. Shape [G]."""
        return self.node_of(np.arange(self.num_gpus))

    @property
    def _has_graph(self) -> bool:
        """Whether the graph is wired: its figures count then, for something is degraded, or a caller may change it."""
        return "graph" in self.__dict__

    @cached_property
    def _links(self) -> RegularLinks:
        return RegularLinks(
            spec=self.spec,
            num_nodes=self.num_nodes,
            nodes_per_unit=self.nodes_per_unit,
            oversubscription=self.oversubscription,
        )

    @cached_property
    def _class_latency_s(self) -> tuple[float, float, float]:
        """Latency of the classes node, rail and spine."""
        host = 2 * (self.spec.pcie.latency_s + self.spec.nic.latency_s)
        return 2 * self.spec.nvlink.latency_s, host, host + 2 * self.spec.leaf_hop.latency_s
