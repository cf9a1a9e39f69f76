"""The SMs that a collective takes on each of its ranks, and how fast they move bytes.

Model
-----
    time >= bytes of the busiest rank / (num_sms * bytes_per_s)

where a rank's bytes are those that it sends or those that it receives, whichever are more: it does both at once.

Assumptions
-----------
SMs move as much for any message size and algorithm, and each rank spreads what it moves evenly over them.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.errors import SimulationError
from topology.presets.protocols import FITTED
from workloads.collectives.settings import NetworkSettings

__all__ = ["TransferSms", "busiest_rank_bytes", "exchange_sms"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferSms:
    """SMs of one collective."""

    num_sms: int
    """SMs that it takes on each of its ranks."""
    bytes_per_s: float = math.inf
    """What one of them sends, and receives at the same time."""

    def __post_init__(self) -> None:
        if self.num_sms < 1 or not self.bytes_per_s > 0:
            raise SimulationError(
                "transfer SMs: num_sms must be at least 1 and bytes_per_s above 0, got "
                f"{self.num_sms} and {self.bytes_per_s}. Leave the collective out where it takes no SMs."
            )

    def least_time_s(self, rank_bytes: float) -> float:
        """Return the time that they need for the bytes of the busiest rank.

        >>> TransferSms(num_sms=20, bytes_per_s=15e9).least_time_s(300e3)
        1e-06
        """
        return rank_bytes / (self.num_sms * self.bytes_per_s)


def exchange_sms(network: NetworkSettings) -> dict[str, TransferSms]:
    """Return the SMs that dispatch and combine take, as operation `all_to_all`; no entry where they take none."""
    if network.exchange_num_sms is None:
        return {}
    sms = TransferSms(num_sms=network.exchange_num_sms, bytes_per_s=FITTED["DeepEP SM rate"].value)
    return {"all_to_all": sms}


def busiest_rank_bytes(src: NDArray[np.intp], dst: NDArray[np.intp], num_bytes: NDArray[np.float64]) -> float:
    """Return what the busiest rank sends or receives, whichever is more; what stays on a rank is neither.

    Parameters
    ----------
    src, dst
        Ranks of each flow. Shape [F].
    num_bytes
        Bytes of each. Shape [F].

    Examples
    --------
    Rank 0 sends 3 and 4, of which rank 1 receives 3.

    >>> busiest_rank_bytes(np.array([0, 0, 2]), np.array([1, 3, 2]), np.array([3.0, 4.0, 9.0]))
    7.0
    """
    moved = np.where(src == dst, 0.0, num_bytes)
    return max(float(np.bincount(ends, weights=moved).max(initial=0.0)) for ends in (src, dst))
