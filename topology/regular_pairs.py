"""Exchanges of all pairs of two groups on a regular cluster.

Model
-----
    bytes [S, D] fall apart by class of path: inside a node, between nodes, and of those across leaves
    a link of a GPU carries its row's or its column's sum of a class; a leaf's way to a spine those of its GPUs / spines

The reverse way loads each link as the forward way loads its opposite: the sums are made once.

Assumptions
-----------
Those of `topology.regular_paths`.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from topology.pairs import Pairs, PairSums

__all__ = ["RegularPairs"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]
_SMALL = 2**18
"""Pairs times classes up to which the matrices of all classes are in memory at once."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RegularPairs(Pairs):
    """All pairs of senders and receivers, by class of path.

    The sums are, in this order: in a node by sender and by receiver, between nodes the same, over a spine by leaf up
    and down.
    """

    classes: NDArray[np.bool_]
    """Whether a pair is inside a node, between nodes, across leaves. Shape [3, S, D]."""
    class_latency_s: FloatArray
    """Time to the first byte of a pair inside a node, on a rail, across leaves. Shape [3]."""
    leaves: tuple[IntArray, IntArray]
    """Leaf of each sender [S] and of each receiver [D], numbered from 0."""
    num_spines: int
    """Spines over which traffic across leaves is spread."""

    def sums(self, byte_matrices: FloatArray) -> PairSums:
        """Return what each of `byte_matrices` [N, S, D] puts on links; a pair of a rank with itself loads nothing."""
        self.check(byte_matrices, self.classes.shape[1:])
        sent, received, num_flows = self._sums_by_class(byte_matrices)
        class_bytes = sent.sum(axis=2).tolist()
        return PairSums(
            pairs=self,
            values=self._values(sent, received),
            total_bytes=[in_node + away for in_node, away, _ in class_bytes],
            num_flows=num_flows,
            latency_s=[self._latency_s(*each) for each in class_bytes],
        )

    def that_can_carry(self) -> "RegularPairs":
        """Return the same without links that no pair uses."""
        can_carry = self._values(self.classes.sum(axis=2)[None], self.classes.sum(axis=1)[None])[0] > 0
        return replace(self, forward=self.forward.where(can_carry), reverse=self.reverse.where(can_carry))

    # ---- private -------------------------------------------------------------------------------------------------

    def _sums_by_class(self, byte_matrices: FloatArray) -> tuple[FloatArray, FloatArray, list[int]]:
        """Return what each sends [N, 3, S] and receives [N, 3, D] by class, and the pairs that have bytes [N]."""
        num, num_src, num_dst = byte_matrices.shape
        if self.classes.size <= _SMALL:
            by_class = self._class_shares * byte_matrices[:, None]
            num_flows = [int(np.count_nonzero(pairs)) for pairs in by_class[:, :2]]
            return by_class.sum(axis=3), by_class.sum(axis=2), num_flows
        sent, received, flows = np.zeros((num, 3, num_src)), np.zeros((num, 3, num_dst)), np.zeros(num, dtype=np.intp)
        matrix_of_class = np.empty((num_src, num_dst))  # one at a time: large arrays cost most where memory is new
        for n, matrix in enumerate(byte_matrices):
            for c, is_in in enumerate(self.classes):
                np.multiply(matrix, is_in, out=matrix_of_class)
                sent[n, c], received[n, c] = matrix_of_class.sum(axis=1), matrix_of_class.sum(axis=0)
                flows[n] += np.count_nonzero(matrix_of_class) if c < 2 else 0
        return sent, received, flows.tolist()

    def _values(self, sent: NDArray[np.number], received: NDArray[np.number]) -> FloatArray:
        """Return what links carry (see the text of the class), from sums by class [N, 3, S] and [N, 3, D]."""
        parts = [sent[:, 0], received[:, 0]]
        if self._is_wide:
            up, down = sent[:, 2] @ self._leaf_members[0], received[:, 2] @ self._leaf_members[1]
            parts += [sent[:, 1], received[:, 1], up / self.num_spines, down / self.num_spines]
        return np.concatenate(parts, axis=1)

    def _latency_s(self, in_node: float, away: float, across: float) -> float:
        present = (in_node > 0, away > across, across > 0)
        return max((t for t, is_met in zip(self._latencies, present, strict=True) if is_met), default=0.0)

    @cached_property
    def _class_shares(self) -> FloatArray:
        """Return `classes` as ones and zeros."""
        return self.classes.astype(np.float64)

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
