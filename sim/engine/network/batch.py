"""What networks give to those who start transfers: a *batch* of those that start together.

A transfer may occupy SMs of its ranks; a link may have no capacity.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sim.engine.clock import Signal
from sim.errors import SimulationError
from sim.plan.ops import Transfer

__all__ = ["Batch", "NoOccupancy", "Occupancy", "refuse_dead_links"]


class Batch:
    """Transfers that started together; `done` fires when all have ended."""

    __slots__ = ("done", "end_ns", "start_ns", "transfers", "waiting")

    def __init__(self, transfers: Sequence[Transfer], start_ns: int, done: Signal) -> None:
        self.transfers = transfers
        self.start_ns = start_ns
        self.end_ns = [start_ns] * len(transfers)
        self.waiting = len(transfers)
        self.done = done


class Occupancy(Protocol):
    """The account of the SMs that transfers take: the network reports each transfer that takes some."""

    def begin(self, transfer: Transfer) -> None:
        """Note that a transfer takes its SMs from now on: its kernels wait for the first bytes on them."""
        ...

    def end(self, transfer: Transfer) -> None:
        """Note that a transfer has ended."""
        ...


class NoOccupancy:
    """The account of a plan that gives no number of SMs: it refuses transfers that take some."""

    def begin(self, transfer: Transfer) -> None:
        """Refuse: kernels would run as if the transfer took none."""
        raise SimulationError(
            f"plan: num_sms must be the SMs of a rank where transfers take some, and is None (a transfer takes "
            f"{transfer.num_sms} on rank {transfer.ranks[0]}). Give the device's number, or let transfers take none."
        )

    def end(self, transfer: Transfer) -> None:
        """Do nothing: none has begun."""


def refuse_dead_links(transfer: Transfer, capacity: NDArray[np.float64], names: Sequence[str], now_ns: int) -> None:
    """Raise SimulationError for a transfer over links without capacity, and name them."""
    dead = [names[link] for link in transfer.load.links if capacity[link] <= 0]
    raise SimulationError(
        f"network: every link of a transfer must have capacity above 0, and {', '.join(dead[:3]) or 'a link'} has none "
        f"(transfer of {transfer.total_bytes:.0f} bytes at {now_ns} ns). Remove the link or repair it."
    )
