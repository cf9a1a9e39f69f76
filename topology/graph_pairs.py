"""Exchanges of all pairs of two groups on any graph, as loads on links.

Model
-----
    load[n, l] = sum over pairs of share[pair, l] * bytes[n, pair]

over sparse rows (`topology.links.FlowLinks`), of the forward and of the reverse paths, which need not use the
same links in the other direction.
A pair's latency is the longer of its two ways'.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from topology.links import FlowLinks, LinkLoad
from topology.pairs import check_byte_matrices

__all__ = ["GraphPairs"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]


@dataclass(frozen=True, kw_only=True, eq=False)
class GraphPairs:
    """All pairs of senders and receivers, on a graph's links."""

    is_pair: NDArray[np.bool_]
    """Whether sender and receiver are two. Shape [S, D]."""
    latency_s: FloatArray
    """Time to the first byte. Shape [S, D]."""
    forward_flows: FlowLinks
    """Links of each pair from sender to receiver, row by row: S * D flows."""
    reverse_flows: FlowLinks
    """The same from receiver to sender."""

    def sums(self, byte_matrices: FloatArray) -> "GraphPairSums":
        """Return what each of `byte_matrices` [N, S, D] puts on links; a pair of a rank with itself loads nothing."""
        check_byte_matrices(byte_matrices, self.is_pair.shape)
        moved = byte_matrices * self.is_pair
        has_bytes = moved > 0
        return GraphPairSums(
            pairs=self,
            num_bytes=moved.reshape(len(moved), -1),
            total_bytes=moved.sum(axis=(1, 2)).tolist(),
            num_flows=has_bytes.sum(axis=(1, 2)).tolist(),
            latency_s=(has_bytes * self.latency_s).max(axis=(1, 2), initial=0.0).tolist(),
        )

    @cached_property
    def forward(self) -> "_Rows":
        """Entries of the paths from senders to receivers."""
        return _rows(self.forward_flows)

    @cached_property
    def reverse(self) -> "_Rows":
        """Entries of the paths from receivers to senders."""
        return _rows(self.reverse_flows)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GraphPairSums:
    """Exchanges of all pairs, to be summed on links."""

    pairs: GraphPairs
    """Who sends to whom."""
    num_bytes: FloatArray
    """Bytes of each pair. Shape [N, S * D]."""
    total_bytes: list[float]
    """Bytes that leave their rank. N of them."""
    num_flows: list[int]
    """Pairs that have any of them. N of them."""
    latency_s: list[float]
    """Time to the first byte of the slowest pair. N of them."""

    def forward(
        self, capacity_bytes_per_s: FloatArray, weight: FloatArray | None = None
    ) -> tuple[list[LinkLoad], FloatArray]:
        """Return the loads on the way from senders to receivers, and the time in which each drains alone.

        In the loads a byte counts as often as the `weight` [L] of its link says; None: once.
        """
        return self._on(self.pairs.forward, capacity_bytes_per_s, weight)

    def reverse(
        self, capacity_bytes_per_s: FloatArray, weight: FloatArray | None = None
    ) -> tuple[list[LinkLoad], FloatArray]:
        """Return loads and times of as many bytes on the way from the receivers back to the senders; see `forward`."""
        return self._on(self.pairs.reverse, capacity_bytes_per_s, weight)

    def _on(
        self, rows: "_Rows", capacity_bytes_per_s: FloatArray, weight: FloatArray | None
    ) -> tuple[list[LinkLoad], FloatArray]:
        loads = [rows.load(num_bytes) for num_bytes in self.num_bytes]
        drain_s = np.array([load.drain_time_s(capacity_bytes_per_s) for load in loads])
        if weight is not None:
            loads = [LinkLoad(links=load.links, num_bytes=load.num_bytes * weight[load.links]) for load in loads]
        return loads, drain_s


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Rows:
    """Entries of a sparse matrix of pairs and links."""

    links: IntArray
    """Links that carry anything, ascending. Shape [K]."""
    column: IntArray
    """Of each entry the place of its link among these. Shape [E]."""
    pair: IntArray
    """Of each entry its pair. Shape [E]."""
    share: FloatArray
    """Of each entry its share. Shape [E]."""

    def load(self, num_bytes: FloatArray) -> LinkLoad:
        """Return the load of as many bytes of each pair."""
        amount = np.bincount(self.column, weights=self.share * num_bytes[self.pair], minlength=self.links.size)
        carries = np.flatnonzero(amount)
        return LinkLoad(links=self.links[carries], num_bytes=amount[carries].astype(np.float64))


def _rows(flows: FlowLinks) -> _Rows:
    links, column = np.unique(flows.links, return_inverse=True)
    return _Rows(links=links, column=column, pair=flows.flow_of_entry, share=flows.share)
