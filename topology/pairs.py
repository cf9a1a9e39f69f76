"""The interface of exchanges in which every GPU of one group may send to every GPU of another group.

Model
-----
    forward    bytes [S, D], from senders to receivers
    reverse    the transposed bytes, from receivers to senders

The loads are those of `Cluster.load` of all pairs, without listing the pairs for each matrix.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sim.errors import InvalidValueError
from topology.links import LinkLoad

__all__ = ["PairSums", "Pairs", "check_byte_matrices"]

FloatArray = NDArray[np.float64]


class PairSums(Protocol):
    """Exchanges of all pairs, each summed where links need it."""

    @property
    def total_bytes(self) -> list[float]:
        """Bytes that leave their rank. N of them."""
        ...

    @property
    def num_flows(self) -> list[int]:
        """Pairs that have any of them. N of them."""
        ...

    @property
    def latency_s(self) -> list[float]:
        """Time to the first byte of the slowest pair. N of them."""
        ...

    def forward(
        self, capacity_bytes_per_s: FloatArray, weight: FloatArray | None = None
    ) -> tuple[list[LinkLoad], FloatArray]:
        """Return the loads on the way from senders to receivers, and the time in which each drains alone.

        In the loads a byte counts as often as the `weight` [L] of its link says; None: once.
        """
        ...

    def reverse(
        self, capacity_bytes_per_s: FloatArray, weight: FloatArray | None = None
    ) -> tuple[list[LinkLoad], FloatArray]:
        """Return loads and times of as many bytes on the way from the receivers back to the senders; see `forward`."""
        ...


class Pairs(Protocol):
    """All pairs of senders and receivers, on a cluster's links."""

    def sums(self, byte_matrices: FloatArray) -> PairSums:
        """Return what each of `byte_matrices` [N, S, D] puts on links; a pair of a rank with itself loads nothing."""
        ...


def check_byte_matrices(byte_matrices: FloatArray, shape: tuple[int, ...]) -> None:
    """Refuse matrices [N, S, D] that are not of `shape` [S, D], or have a negative entry or NaN."""
    if byte_matrices.shape[1:] != shape or not (byte_matrices >= 0).all():
        raise InvalidValueError(
            subject="pairs",
            field="byte_matrix",
            rule=f"have shape {list(shape)} and no negative entry",
            value=f"shape {list(byte_matrices.shape[1:])}",
            hint="Give bytes for every pair.",
        )
