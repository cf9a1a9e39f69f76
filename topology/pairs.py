"""Exchanges in which every GPU of one group may send to every GPU of another, as loads on links.

Model
-----
    bytes [S, D] fall apart by class of path: inside a node, between nodes, and of those across leaves
    a link of a GPU carries its row's or its column's sum of a class; a leaf's way to a spine those of its GPUs / spines

The way back, `bytes` turned, loads each link as the way there loads its opposite: the same sums, read once more. This
is `Cluster.load` of all pairs, without listing them.

Assumptions
-----------
Those of `topology.cluster`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from topology.errors import TopologyError
from topology.links import LinkLoad

__all__ = ["Pairs"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]


@dataclass(frozen=True, kw_only=True, eq=False)
class Pairs:
    """All pairs of senders and receivers, on a cluster's links."""

    classes: NDArray[np.bool_]
    """Whether a pair is inside a node, between nodes, across leaves. Shape [3, S, D]."""
    class_latency_s: FloatArray
    """Time to the first byte of a pair inside a node, on a rail, across leaves. Shape [3]."""
    leaves: tuple[IntArray, IntArray]
    """Leaf of each sender [S] and of each receiver [D], numbered from 0."""
    num_spines: int
    """Spines over which traffic across leaves is spread."""
    there: tuple[IntArray, IntArray]
    """Links on the way there, ascending, and the sum that each carries (see `sums`). Each of shape [K]."""
    back: tuple[IntArray, IntArray]
    """The same on the way back. Each of shape [K]."""

    def sums(self, byte_matrix: FloatArray) -> "PairSums":
        """Return what `byte_matrix` [S, D] puts on links; a pair of a rank with itself loads nothing."""
        return self.sums_of_each(np.asarray(byte_matrix)[None])[0]

    def sums_of_each(self, byte_matrices: FloatArray) -> "list[PairSums]":
        """Return the sums of each of `byte_matrices` [N, S, D], in fewer calls than one by one."""
        if byte_matrices.shape[1:] != self.classes.shape[1:] or not (byte_matrices >= 0).all():
            raise TopologyError(
                subject="pairs",
                field="byte_matrix",
                rule=f"have shape {list(self.classes.shape[1:])} and no negative entry",
                value=f"shape {list(byte_matrices.shape[1:])}",
                cure="Give bytes for every pair.",
            )
        by_class = self.classes * byte_matrices[:, None]
        sent, received = by_class.sum(axis=3), by_class.sum(axis=2)
        parts = [sent[:, 0], received[:, 0]]
        if self._is_wide:
            up, down = sent[:, 2] @ self._leaf_members[0], received[:, 2] @ self._leaf_members[1]
            parts += [sent[:, 1], received[:, 1], up / self.num_spines, down / self.num_spines]
        num_flows = np.count_nonzero(by_class[:, :2], axis=(1, 2, 3)).tolist()
        values, totals = np.concatenate(parts, axis=1), sent.sum(axis=2).tolist()
        return [self._summed(*each) for each in zip(values, num_flows, totals, strict=True)]

    def _summed(self, values: FloatArray, num_flows: int, class_bytes: Sequence[float]) -> "PairSums":
        in_node, away, across = class_bytes
        present = (in_node > 0, away > across, across > 0)
        return PairSums(
            pairs=self,
            values=values,
            total_bytes=in_node + away,
            num_flows=num_flows,
            latency_s=max((t for t, is_met in zip(self._latencies, present, strict=True) if is_met), default=0.0),
        )

    @cached_property
    def _is_wide(self) -> bool:
        return bool(self.classes[1].any())

    @cached_property
    def _latencies(self) -> list[float]:
        latencies: list[float] = self.class_latency_s.tolist()
        return latencies

    @cached_property
    def _leaf_members(self) -> tuple[FloatArray, FloatArray]:
        """Return who is on which leaf, as ones and zeros. Shapes [S, leaves] and [D, leaves]."""
        num_leaves = 1 + max(int(leaf.max()) for leaf in self.leaves)
        src, dst = (np.eye(num_leaves)[leaf] for leaf in self.leaves)
        return src, dst


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PairSums:
    """One exchange of all pairs, summed where links need it."""

    pairs: Pairs
    """Who sends to whom."""
    values: FloatArray
    """In a node: by sender, by receiver; between nodes the same; over a spine: by leaf, up and down."""
    total_bytes: float
    """Bytes that leave their rank."""
    num_flows: int
    """Pairs that have any of them."""
    latency_s: float
    """Time to the first byte of the slowest pair."""

    @property
    def there(self) -> LinkLoad:
        """Bytes on the way from senders to receivers."""
        return self._on(*self.pairs.there)

    @property
    def back(self) -> LinkLoad:
        """Bytes on the way of as many from the receivers to the senders."""
        return self._on(*self.pairs.back)

    def _on(self, links: IntArray, sums: IntArray) -> LinkLoad:
        amount = self.values[sums]
        if amount.all():
            return LinkLoad(links=links, num_bytes=amount)
        carries = np.flatnonzero(amount)
        return LinkLoad(links=links[carries], num_bytes=amount[carries])
