"""What the two networks have in common.

Transfers that start together are a *batch*; transfers that share links, directly or over others, are a *contention
component*; a transfer may occupy SMs of its ranks; a link may have no capacity.
"""

from collections.abc import Callable, Sequence
from typing import Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from sim.engine.clock import Signal
from sim.errors import SimulationError
from sim.plan.ops import Transfer

__all__ = ["Batch", "NoOccupancy", "Occupancy", "contention_components", "refuse_dead_links"]

_Member = TypeVar("_Member")


class _Links(Protocol):
    """A set of links: bits of an integer, or a `LinkSet`."""

    def __and__(self, other: Self, /) -> object: ...

    def __or__(self, other: Self, /) -> Self: ...


_Set = TypeVar("_Set", bound=_Links)


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


def contention_components(
    members: Sequence[_Member], links_of: Callable[[_Member], _Set]
) -> list[tuple[list[_Member], _Set]]:
    """Return the transfers that share links, directly or over others, with the links of each component.

    >>> contention_components(["a", "b", "c"], {"a": 0b001, "b": 0b100, "c": 0b011}.__getitem__)
    [(['b'], 4), (['a', 'c'], 3)]
    """
    components: list[tuple[list[_Member], _Set]] = []
    for member in members:
        links, together, apart = links_of(member), [member], []
        for component in components:
            if component[1] & links:
                links |= component[1]
                together = [*component[0], *together]
            else:
                apart.append(component)
        components = [*apart, (together, links)]
    return components


def refuse_dead_links(transfer: Transfer, capacity: NDArray[np.float64], names: Sequence[str], now_ns: int) -> None:
    """Raise SimulationError for a transfer over links without capacity, and name them."""
    dead = [names[link] for link in transfer.load.links if capacity[link] <= 0]
    raise SimulationError(
        f"network: every link of a transfer must have capacity above 0, and {', '.join(dead[:3]) or 'a link'} has none "
        f"(transfer of {transfer.total_bytes:.0f} bytes at {now_ns} ns). Remove the link or repair it."
    )
