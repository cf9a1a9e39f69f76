"""Paths of a regular cluster, by class: GPUs behind an NVSwitch, a NIC per GPU, rails, leaves and spines.

Model
-----
A pair of GPUs is in one of four classes, which decides its path:

    self        no link
    node        gpu -> nvswitch -> gpu
    rail        gpu -> nic -> leaf -> nic -> gpu                  same rail and unit
    spine       gpu -> nic -> leaf -> spine -> leaf -> nic -> gpu

Traffic across leaves is spread equally over all spines.

Two groups of GPUs have the same wiring when the paths between their GPUs, pair by pair, have the same classes, the
links of their GPUs the same capacities, the links between their leaves and the spines too where paths use these links,
and the GPUs the same speeds. Traffic inside one group then loads the links of that group as the same traffic inside
the other group loads the links of the other group; links between leaves and spines belong to their leaves.

Assumptions
-----------
Equal spreading is what adaptive routing aims at; hashed flows collide and are slower. A GPU uses its own NIC only.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from topology.links import FlowLinks, LinkLoad, LinkMap
from topology.pairs import Way
from topology.regular_links import RegularLinks
from topology.regular_pairs import RegularPairs

__all__ = ["RegularPaths"]

IntArray = NDArray[np.intp]
FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
_ROUNDING = 1e-9  # by which a sum of links may miss the link that was made to hold them
_NETWORK_LINKS = ("pcie_up", "nic_up", "nic_down", "pcie_down")
"""Links of GPUs that a flow to another node uses: two of its sender, two of its receiver."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RegularPaths:
    """Paths that follow from where a GPU is, and groups of GPUs that are wired alike."""

    links: RegularLinks
    """The links, by number."""

    def flows(self, src: IntArray, dst: IntArray) -> "RegularFlows":
        """Return the paths of flows from `src` [F] to `dst` [F]."""
        return RegularFlows(paths=self, src=src, dst=dst)

    def classes(self, src: IntArray, dst: IntArray) -> tuple[BoolArray, BoolArray, BoolArray]:
        """Tell which pairs are of class node, rail and spine."""
        away = self._nodes[src] != self._nodes[dst]
        crosses = self.links.leaves[src] != self.links.leaves[dst]
        return ~away & (src != dst), away & ~crosses, away & crosses

    def path_class(self, src: int, dst: int) -> str:
        """Return `self`, `node`, `rail` or `spine`.

        >>> from topology.presets.clusters import FABRICS
        >>> links = RegularLinks(spec=FABRICS["dgx-h100"], num_nodes=2, nodes_per_unit=32, oversubscription=1.0)
        >>> [RegularPaths(links=links).path_class(0, dst) for dst in (0, 1, 8, 9)]
        ['self', 'node', 'rail', 'spine']
        """
        is_in = zip(("node", "rail", "spine"), self.classes(np.array([src]), np.array([dst])), strict=True)
        return next((name for name, of_class in is_in if of_class[0]), "self")

    def path(self, src: int, dst: int, *, spine: int = 0) -> list[str]:
        """Return the vertices of the path from GPU `src` to GPU `dst` (over `spine` where it has one)."""
        kind = self.path_class(src, dst)
        if kind == "self":
            return [f"gpu{src}"]
        if kind == "node":
            return [f"gpu{src}", f"nvswitch{self._nodes[src]}", f"gpu{dst}"]
        (node, rail), (last_node, last_rail) = self.links.node_and_rail[:, [src, dst]].T
        leaves = [f"leaf{node // self.links.nodes_per_unit}.{rail}"]
        if kind == "spine":
            leaves += [f"spine{spine}", f"leaf{last_node // self.links.nodes_per_unit}.{last_rail}"]
        return [f"gpu{src}", f"nic{node}.{rail}", *leaves, f"nic{last_node}.{last_rail}", f"gpu{dst}"]

    def pairs(self, src: IntArray, dst: IntArray) -> RegularPairs:
        """Return the links between each of `src` [S] and each of `dst` [D]."""
        nodes, leaf_of = self._nodes, self.links.leaves
        same_node = nodes[src][:, None] == nodes[dst]
        crosses = ~same_node & (leaf_of[src][:, None] != leaf_of[dst])
        leaves, leaf = np.unique(leaf_of[np.concatenate([src, dst])], return_inverse=True)
        return RegularPairs(
            classes=np.stack([same_node & (src[:, None] != dst), ~same_node, crosses]),
            class_latency_s=np.array(self.class_latency_s),
            leaves=(leaf[: src.size], leaf[src.size :]),
            num_spines=max(1, self.links.of_spines[0].shape[1]),
            forward=self._way(src, dst, leaves, up="up", down="down"),
            reverse=self._way(src, dst, leaves, up="down", down="up"),
        ).that_can_carry()

    @cached_property
    def class_latency_s(self) -> tuple[float, float, float]:
        """Latency of the classes node, rail and spine."""
        spec = self.links.spec
        host = 2 * (spec.pcie.latency_s + spec.nic.latency_s)
        return 2 * spec.nvlink.latency_s, host, host + 2 * spec.leaf_hop.latency_s

    # ---- groups of GPUs that are wired alike -------------------------------------------------------------------------

    def can_saturate(self, capacity: FloatArray) -> BoolArray:
        """Tell which links of `capacity` [L] can saturate. Shape [L].

        All bytes of a GPU's PCIe link pass its NIC as well, and the other way round: only the narrower of the two can
        saturate. The bytes between a leaf and one of its spines are at most that spine's share of the bytes that the
        GPUs of the leaf send or receive.
        """
        can_saturate = np.ones(capacity.size, dtype=np.bool_)
        if self.links.num_nodes == 1:
            return can_saturate
        for direction, spine_links in zip(("up", "down"), self.links.of_spines, strict=True):
            pcie, nic = (self.links.of_gpus[f"{kind}_{direction}"] for kind in ("pcie", "nic"))
            can_saturate[pcie] = capacity[pcie] < capacity[nic]
            can_saturate[nic] = ~can_saturate[pcie]
            through = np.minimum(capacity[pcie], capacity[nic])
            most = np.bincount(self.links.leaves, weights=through, minlength=len(spine_links))
            share = most[:, None] / max(spine_links.shape[1], 1)
            can_saturate[spine_links] = capacity[spine_links] < share * (1 - _ROUNDING)
        return can_saturate

    def own_links(self, ranks: IntArray) -> IntArray:
        """Return the links that belong to each of `ranks` [R] and to no other GPU. Shape [kinds and directions, R]."""
        return np.stack([links[ranks] for links in self.links.of_gpus.values()])

    def wiring_of(self, ranks: IntArray, capacity: FloatArray) -> bytes:
        """Return a key of the wiring of `ranks` [R] by links of `capacity` [L], but for their speeds."""
        classes = np.stack(self.classes(ranks[:, None], ranks))
        links = [self.own_links(ranks)]
        if classes[2].any():
            links += [of_leaf[self.links.leaves[ranks]] for of_leaf in self.links.of_spines]
        return b"".join([np.packbits(classes).tobytes(), *(capacity[some].tobytes() for some in links)])

    def meets_others(self, ranks: IntArray, can_saturate: BoolArray) -> bool:
        """Tell whether traffic among `ranks` [R] uses spine links that can saturate, which other GPUs use too."""
        if not self.classes(ranks[:, None], ranks)[2].any():
            return False
        return any(can_saturate[links].any() for links in self.links.of_spines)

    def link_map(self, ranks: IntArray, others: IntArray) -> LinkMap:
        """Return the links that traffic among `ranks` [R] can use, and those in their place when `others` [R] are.

        Time and memory grow with those links, and not with the cluster's.
        """
        before, after = [self.own_links(ranks)], [self.own_links(others)]
        leaves, first = np.unique(self.links.leaves[ranks], return_index=True)
        for links in self.links.of_spines:
            if links.size:
                before.append(links[leaves])
                after.append(links[self.links.leaves[others[first]]])
        links, images = (np.concatenate([of.ravel() for of in found]) for found in (before, after))
        order = np.argsort(links)
        return LinkMap(links=links[order], images=images[order])

    # ---- private -------------------------------------------------------------------------------------------------

    @cached_property
    def _nodes(self) -> IntArray:
        """Node of each rank. Shape [G]."""
        nodes: IntArray = self.links.node_and_rail[0]
        return nodes

    def _way(self, src: IntArray, dst: IntArray, leaves: IntArray, *, up: str, down: str) -> Way:
        """Return the links of an exchange of all pairs, and which sum of `RegularPairs` each carries."""
        of_gpu = self.links.of_gpus
        links = [of_gpu[f"nvlink_{up}"][None, src], of_gpu[f"nvlink_{down}"][None, dst]]  # [copies of a sum, sums] each
        if np.unique(self._nodes[np.concatenate([src, dst])]).size > 1:
            spine = dict(zip(("up", "down"), self.links.of_spines, strict=True))
            links += [np.stack([of_gpu[f"{kind}_{up}"][src] for kind in ("pcie", "nic")])]
            links += [np.stack([of_gpu[f"{kind}_{down}"][dst] for kind in ("pcie", "nic")])]
            links += [spine[up][leaves].T, spine[down][leaves].T]
        first = np.cumsum([0] + [group.shape[1] for group in links[:-1]])
        sums = [np.broadcast_to(np.arange(g.shape[1]) + at, g.shape) for g, at in zip(links, first, strict=True)]
        number, carried = (np.concatenate([array.ravel() for array in arrays]) for arrays in (links, sums))
        order = np.argsort(number)
        return Way(links=number[order], sums=carried[order])


@dataclass(frozen=True, kw_only=True, eq=False)
class RegularFlows:
    """Flows on paths that are known by their classes."""

    paths: RegularPaths
    src: IntArray
    """Senders. Shape [F]."""
    dst: IntArray
    """Receivers. Shape [F]."""

    @property
    def latency_s(self) -> FloatArray:
        """Time to the first byte of each flow: the links' latencies along the path, by class. Shape [F]."""
        total = np.zeros(self.src.size)
        for is_in, latency_s in zip(self._classes, self.paths.class_latency_s, strict=True):
            total[is_in] = latency_s
        return total

    @property
    def links(self) -> FlowLinks:
        """The links of each flow and its share on them: what `load` adds up, flow by flow."""
        in_node, rail, crosses = self._classes
        src, dst, of_gpus, away = self.src, self.dst, self.paths.links.of_gpus, rail | crosses
        up, down = self.paths.links.of_spines if crosses.any() else (np.zeros((0, 0), dtype=np.intp),) * 2
        num_spines = up.shape[1]
        first = np.concatenate([[0], np.cumsum(2 * in_node + 4 * away + 2 * num_spines * crosses)]).astype(np.intp)
        links, share = np.zeros(first[-1], dtype=np.intp), np.ones(first[-1])
        start = first[:-1]
        links[start[in_node]] = of_gpus["nvlink_up"][src[in_node]]
        links[start[in_node] + 1] = of_gpus["nvlink_down"][dst[in_node]]
        if away.any():
            for i, (name, ranks) in enumerate(zip(_NETWORK_LINKS, (src, src, dst, dst), strict=True)):
                links[start[away] + i] = of_gpus[name][ranks[away]]
        for spine in range(num_spines):
            entry = start[crosses] + 4 + 2 * spine
            links[entry] = up[self.paths.links.leaves[src[crosses]], spine]
            links[entry + 1] = down[self.paths.links.leaves[dst[crosses]], spine]
            share[entry] = share[entry + 1] = 1.0 / num_spines
        return FlowLinks(first=first, links=links, share=share)

    def load(self, num_bytes: FloatArray) -> LinkLoad:
        """Return the load of `num_bytes` [F] of the flows, summed by rank and by leaf."""
        links, (in_node, rail, crosses) = self.paths.links, self._classes
        total = np.zeros(links.num_links)
        total[links.of_gpus["nvlink_up"]], total[links.of_gpus["nvlink_down"]] = self._by_rank(num_bytes, in_node)
        if rail.any() or crosses.any():
            sent, received = self._by_rank(num_bytes, rail)
            if crosses.any():
                across = [np.bincount(ranks, num_bytes * crosses, links.num_gpus) for ranks in (self.src, self.dst)]
                for of_spines, by_rank in zip(links.of_spines, across, strict=True):
                    by_leaf = np.bincount(links.leaves, weights=by_rank, minlength=len(of_spines))
                    total[of_spines] = by_leaf[:, None] / of_spines.shape[1]
                sent, received = sent + across[0], received + across[1]
            for name, of_ranks in zip(_NETWORK_LINKS, (sent, sent, received, received), strict=True):
                total[links.of_gpus[name]] = of_ranks
        used = np.flatnonzero(total)
        return LinkLoad(links=used, num_bytes=total[used])

    def _by_rank(self, num_bytes: FloatArray, is_selected: BoolArray) -> tuple[FloatArray, FloatArray]:
        """Return what each rank sends and receives in the selected flows. Each of shape [G]."""
        selected = np.flatnonzero(is_selected)
        sent, received = (
            np.bincount(ranks[selected], weights=num_bytes[selected], minlength=self.paths.links.num_gpus)
            for ranks in (self.src, self.dst)
        )
        return sent.astype(np.float64), received.astype(np.float64)  # of no flows bincount makes integers

    @cached_property
    def _classes(self) -> tuple[BoolArray, BoolArray, BoolArray]:
        return self.paths.classes(self.src, self.dst)
