"""Exchanges in which every GPU of one group may send to every GPU of another group, as loads on links.

Model
-----
    forward    bytes [S, D], from senders to receivers
    reverse    the transposed bytes, from receivers to senders

    sums [V]                of the bytes of some pairs, each made once: the paths say which
    bytes on a link         the sum that it carries, on the way forward and on the way back

The loads are those of `Cluster.load` of all pairs, without listing the pairs for each matrix.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sim.errors import InvalidValueError
from topology.links import LinkLoad, SharedLinks

__all__ = ["PairSums", "Pairs", "Way"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]
_MANY_ALIKE = 4
"""Links of a group, on average, from which on loads keep the bytes of groups and not of links."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Way:
    """The links that the pairs use in one direction, and what each carries."""

    links: IntArray
    """Link numbers, ascending. Shape [K]."""
    sums: IntArray
    """Which of the sums each link carries. Shape [K]."""
    _shared: dict[int | None, tuple[FloatArray | None, SharedLinks | None]] = field(default_factory=dict)
    """Shared links by weights; the weights are kept, for their number names them."""

    def where(self, is_carried: NDArray[np.bool_]) -> "Way":
        """Return the links of some of the sums [V]."""
        return Way(links=self.links[is_carried[self.sums]], sums=self.sums[is_carried[self.sums]])

    def loads(
        self, sums: FloatArray, capacity_bytes_per_s: FloatArray, weight: FloatArray | None
    ) -> tuple[list[LinkLoad], FloatArray]:
        """Return the loads of N exchanges with `sums` [N, V], and the time in which each drains alone."""
        shared = self._shared_links(capacity_bytes_per_s, weight)
        places = slice(None) if shared is None else shared.first
        links, amounts = self.links[places], sums[:, self.sums[places]]
        drain_s = (amounts / capacity_bytes_per_s[links]).max(axis=1, initial=0.0)
        counted = amounts if weight is None else amounts * weight[links]
        return [_load(links, amount) if shared is None else shared.load(amount) for amount in counted], drain_s

    def _shared_links(self, capacity_bytes_per_s: FloatArray, weight: FloatArray | None) -> SharedLinks | None:
        """Return the links with those that always carry the same; None where few do.

        The capacities [L] and the weights [L] are the cluster's: those of the first call stand.
        """
        key = None if weight is None else id(weight)
        if key not in self._shared:
            name = self.sums.astype(np.int64)
            for figures in (capacity_bytes_per_s, *(() if weight is None else (weight,))):
                kinds, kind = np.unique(figures[self.links], return_inverse=True)
                name = name * kinds.size + kind
            groups, group = np.unique(name, return_inverse=True)
            is_worth = self.links.size > _MANY_ALIKE * groups.size
            self._shared[key] = (weight, SharedLinks(self.links, group) if is_worth else None)
        return self._shared[key][1]


@dataclass(frozen=True, kw_only=True, eq=False)
class Pairs(ABC):
    """All pairs of senders and receivers, on a cluster's links."""

    forward: Way
    """From senders to receivers."""
    reverse: Way
    """From receivers to senders."""

    @abstractmethod
    def sums(self, byte_matrices: FloatArray) -> "PairSums":
        """Return what each of `byte_matrices` [N, S, D] puts on links; a pair of a rank with itself loads nothing."""

    @staticmethod
    def check(byte_matrices: FloatArray, shape: tuple[int, ...]) -> None:
        """Refuse matrices [N, S, D] that are not of `shape` [S, D], or have a negative entry or NaN."""
        if byte_matrices.shape[1:] != shape or not (byte_matrices >= 0).all():
            raise InvalidValueError(
                subject="pairs",
                field="byte_matrix",
                rule=f"have shape {list(shape)} and no negative entry",
                value=f"shape {list(byte_matrices.shape[1:])}",
                hint="Give bytes for every pair.",
            )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PairSums:
    """N exchanges of all pairs, each summed where links need it."""

    pairs: Pairs
    """Who sends to whom."""
    values: FloatArray
    """The sums of each exchange. Shape [N, V]."""
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
        return self.pairs.forward.loads(self.values, capacity_bytes_per_s, weight)

    def reverse(
        self, capacity_bytes_per_s: FloatArray, weight: FloatArray | None = None
    ) -> tuple[list[LinkLoad], FloatArray]:
        """Return loads and times of as many bytes on the way from the receivers back to the senders; see `forward`."""
        return self.pairs.reverse.loads(self.values, capacity_bytes_per_s, weight)


def _load(links: IntArray, amount: FloatArray) -> LinkLoad:
    if amount.all():
        return LinkLoad(links=links, num_bytes=amount)
    carries = np.flatnonzero(amount)
    return LinkLoad(links=links[carries], num_bytes=amount[carries])
