"""What links carried, noted flow by flow: bytes, busy time, and the course of their load.

Model
-----
Between two changes of the set of transfers on a link, its load is the mean: bytes / (capacity * time). Rates within
that time change with every end of a flow, and are not kept. So a link counts as full, and as a bottleneck, where it was
full from the start of such a time to the last end of its flows there: a little less than it was.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sim.engine.network.flows.interval import FlowInterval
from sim.engine.network.hottest import hottest, mean_timeline
from sim.engine.trace import LinkUse

__all__ = ["FlowLog"]

FloatArray = NDArray[np.float64]
_ROUNDING = 1e-3
"""Share of a link's bytes that the rounding of ends to whole nanoseconds may hide."""


class FlowLog:
    """Intervals between starts and ends of transfers."""

    def __init__(self, capacity: FloatArray, names: Sequence[str], link_kinds: Sequence[str]) -> None:
        self._capacity, self._names, self._link_kinds = capacity, tuple(names), tuple(link_kinds)
        self._kinds = tuple(dict.fromkeys(link_kinds))
        self._kind_of = np.array([self._kinds.index(kind) for kind in link_kinds], dtype=np.intp)
        self._bytes = np.zeros(capacity.size)
        self._busy_ns = np.zeros(capacity.size, dtype=np.int64)
        self._intervals: list[tuple[int, FlowInterval, FloatArray]] = []

    def add(self, start_ns: int, course: FlowInterval) -> None:
        """Note what flows did from `start_ns` on."""
        self._bytes[course.links] += course.num_bytes
        self._busy_ns[course.links] += course.busy_ns
        if course.elapsed_ns:
            use = np.zeros(len(self._kinds))
            load = course.held_bytes / (self._capacity[course.links] * (course.elapsed_ns * 1e-9))
            np.maximum.at(use, self._kind_of[course.links], np.minimum(load, 1.0))  # above by the rounding of ends
            self._intervals.append((start_ns, course, use))

    def summary(self, *, with_course: bool = True) -> LinkUse:
        """Return bytes, busy time and (unless left out) the course of utilisation."""
        intervals = self._intervals if with_course else []
        start = np.array([start_ns for start_ns, _, _ in intervals], dtype=np.int64)
        end = start + np.array([course.elapsed_ns for _, course, _ in intervals], dtype=np.int64)
        times = np.unique(np.concatenate([start, end]))
        use = np.zeros((times.size, len(self._kinds)))
        first, last = np.searchsorted(times, start), np.searchsorted(times, end)
        for (_, _, load), low, high in zip(intervals, first.tolist(), last.tolist(), strict=True):
            np.maximum(use[low:high], load, out=use[low:high])
        all_of = LinkUse(
            num_bytes=self._bytes.copy(),
            busy_s=self._busy_ns / 1e9,
            time_ns=times,
            utilisation=use,
            kinds=self._kinds,
            names=self._names,
            link_kinds=self._link_kinds,
            capacity_bytes_per_s=self._capacity,
        )
        return self._with_hottest(all_of, start, end) if with_course else all_of

    # ---- private -------------------------------------------------------------------------------------------------

    def _with_hottest(self, use: LinkUse, start: NDArray[np.int64], end: NDArray[np.int64]) -> LinkUse:
        """Return what links carried, with bottlenecks and the course of the hottest."""
        hot = hottest(use.num_bytes, self._capacity)
        load = np.zeros((start.size, hot.size))
        full_ns = np.zeros(self._capacity.size)
        for here, (_, course, _) in zip(load, self._intervals, strict=True):
            num_bytes = np.zeros(self._capacity.size)
            num_bytes[course.links] = course.num_bytes
            here[:] = num_bytes[hot] / (self._capacity[hot] * (course.elapsed_ns * 1e-9))
            most = self._capacity[course.links] * (course.busy_ns * 1e-9)
            is_full = course.num_bytes >= (1 - _ROUNDING) * most
            full_ns[course.links[is_full]] += course.busy_ns[is_full]
        edges_ns, hot_utilisation = mean_timeline(start, end, np.minimum(load, 1.0))
        full_s = full_ns / 1e9
        return replace(use, bottleneck_s=full_s, hottest=hot, hot_edges_ns=edges_ns, hot_utilisation=hot_utilisation)
