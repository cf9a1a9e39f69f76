"""What networks have in common: transfers that started together, components that fall apart, links without capacity."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from sim.engine.clock import Signal
from sim.errors import SimulationError
from sim.plan.ops import Transfer

__all__ = ["Batch", "connected", "refuse_dead_links"]

_Member = TypeVar("_Member")


class Batch:
    """Transfers that started together; `done` fires when all have ended."""

    __slots__ = ("done", "end_ns", "start_ns", "transfers", "waiting")

    def __init__(self, transfers: Sequence[Transfer], start_ns: int, done: Signal) -> None:
        self.transfers = transfers
        self.start_ns = start_ns
        self.end_ns = [start_ns] * len(transfers)
        self.waiting = len(transfers)
        self.done = done


def connected(members: Sequence[_Member], mask_of_member: Callable[[_Member], int]) -> list[tuple[list[_Member], int]]:
    """Return the parts of a component that share links, directly or over others, with the links of each.

    >>> connected(["a", "b", "c"], {"a": 0b001, "b": 0b100, "c": 0b011}.__getitem__)
    [(['b'], 4), (['a', 'c'], 3)]
    """
    parts: list[tuple[list[_Member], int]] = []
    for member in members:
        mask, together, apart = mask_of_member(member), [member], []
        for part in parts:
            if part[1] & mask:
                mask |= part[1]
                together = [*part[0], *together]
            else:
                apart.append(part)
        parts = [*apart, (together, mask)]
    return parts


def refuse_dead_links(transfer: Transfer, capacity: NDArray[np.float64], names: Sequence[str], now_ns: int) -> None:
    """Raise SimulationError for a transfer over links without capacity, and name them."""
    dead = [names[link] for link in transfer.load.links if capacity[link] <= 0]
    raise SimulationError(
        f"network: every link of a transfer must have capacity above 0, and {', '.join(dead[:3]) or 'a link'} has none "
        f"(transfer of {transfer.total_bytes:.0f} bytes at {now_ns} ns). Remove the link or repair it."
    )
