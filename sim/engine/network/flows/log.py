"""What links carried, noted flow by flow: bytes, busy time, and the course of their load.

Model
-----
Between two changes of the set of transfers on a link, its load is the mean: bytes / (capacity * time). Rates within
that time change with every end of a flow, and are not kept.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sim.engine.network.flows.course import Course
from sim.engine.trace import LinkUse

__all__ = ["FlowLog"]

FloatArray = NDArray[np.float64]


class FlowLog:
    """Intervals between starts and ends of transfers."""

    def __init__(self, capacity: FloatArray, names: Sequence[str], link_kinds: Sequence[str]) -> None:
        self._capacity, self._names, self._link_kinds = capacity, tuple(names), tuple(link_kinds)
        self._kinds = tuple(dict.fromkeys(link_kinds))
        self._kind_of = np.array([self._kinds.index(kind) for kind in link_kinds], dtype=np.intp)
        self._bytes = np.zeros(capacity.size)
        self._busy_ns = np.zeros(capacity.size, dtype=np.int64)
        self._intervals: list[tuple[int, int, FloatArray]] = []

    def add(self, start_ns: int, course: Course) -> None:
        """Note what flows did from `start_ns` on."""
        self._bytes[course.links] += course.num_bytes
        self._busy_ns[course.links] += course.busy_ns
        if course.elapsed_ns:
            use = np.zeros(len(self._kinds))
            load = course.held_bytes / (self._capacity[course.links] * (course.elapsed_ns * 1e-9))
            np.maximum.at(use, self._kind_of[course.links], np.minimum(load, 1.0))  # above by the rounding of ends
            self._intervals.append((start_ns, start_ns + course.elapsed_ns, use))

    def summary(self, *, with_course: bool = True) -> LinkUse:
        """Return bytes, busy time and (unless left out) the course of utilisation."""
        intervals = self._intervals if with_course else []
        start = np.array([interval[0] for interval in intervals], dtype=np.int64)
        end = np.array([interval[1] for interval in intervals], dtype=np.int64)
        times = np.unique(np.concatenate([start, end]))
        use = np.zeros((times.size, len(self._kinds)))
        first, last = np.searchsorted(times, start), np.searchsorted(times, end)
        for (_, _, load), low, high in zip(intervals, first.tolist(), last.tolist(), strict=True):
            np.maximum(use[low:high], load, out=use[low:high])
        return LinkUse(
            num_bytes=self._bytes.copy(),
            busy_s=self._busy_ns / 1e9,
            time_ns=times,
            utilisation=use,
            kinds=self._kinds,
            names=self._names,
            link_kinds=self._link_kinds,
            capacity_bytes_per_s=self._capacity,
        )
