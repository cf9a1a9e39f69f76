"""Whom the network tells of transfers that take SMs of their ranks."""

from typing import Protocol

from sim.errors import SimulationError
from sim.plan.ops import Transfer

__all__ = ["NoOccupancy", "Occupancy"]


class Occupancy(Protocol):
    """Who keeps count of the SMs that transfers take."""

    def begin(self, transfer: Transfer) -> None:
        """Note that a transfer takes its SMs from now on: its kernels wait for the first bytes on them."""
        ...

    def end(self, transfer: Transfer) -> None:
        """Note that a transfer has ended."""
        ...


class NoOccupancy:
    """Of plans that give no number of SMs: refuses transfers that take some."""

    def begin(self, transfer: Transfer) -> None:
        """Refuse: kernels would run as if the transfer took none."""
        raise SimulationError(
            f"plan: num_sms must be the SMs of a rank where transfers take some, and is None (a transfer takes "
            f"{transfer.num_sms} on rank {transfer.ranks[0]}). Give the device's number, or let transfers take none."
        )

    def end(self, transfer: Transfer) -> None:
        """Do nothing: none has begun."""
