"""The account of links' load in the plainest way: every link at every time at which something starts or ends."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sim.plan.ops import Transfer


class PlainUse(NamedTuple):
    """What links carried. Arrays of shape [L], but for `utilisation` [times, L]."""

    time_ns: list[int]
    busy_ns: np.ndarray
    full_ns: np.ndarray
    utilisation: np.ndarray


def plain_use(
    intervals: Sequence[tuple[int, int, Sequence[Transfer], Sequence[float]]], capacity: np.ndarray
) -> PlainUse:
    """Add up intervals: start, end, transfers, and the rate per flow of each."""
    times = sorted({at_ns for start, end, _, _ in intervals for at_ns in (start, end)})
    load = np.zeros((len(times), capacity.size))
    for at, now_ns in enumerate(times):
        for start, end, transfers, rates in intervals:
            if start <= now_ns < end:
                for transfer, rate in zip(transfers, rates, strict=True):
                    of = transfer.load
                    load[at, of.links] += of.num_bytes * rate / transfer.flow_bytes / capacity[of.links]
    lasts = np.diff([*times, times[-1]])[:, None]
    return PlainUse(times, ((load > 0) * lasts).sum(axis=0), ((load >= 1 - 1e-6) * lasts).sum(axis=0), load)
