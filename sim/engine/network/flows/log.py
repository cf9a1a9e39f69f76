"""What links carried in the intervals in which flows ran: bytes, busy time, load over time, bottlenecks.

Links of a group carry the same (`sim.engine.network.flows.joined`); those of a group that have one capacity and one
kind are a *class*, whose load is worked out once.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.engine.network.flows.interval import FlowInterval
from sim.engine.network.flows.joined import Carried, LinkGroups
from sim.engine.network.link_account import mean_timeline
from sim.engine.network.linkuse import TransferLog, hottest_links, link_classes
from sim.engine.trace import LinkUse

__all__ = ["FlowLog"]

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
_ROUNDING: Final = 1e-3
"""Share of a link's bytes that the rounding of ends to whole nanoseconds may hide."""


class _Classes(NamedTuple):
    """Links of one group, one capacity and one kind each."""

    of_link: IntArray
    """Class of each link of the groups. Shape [K]."""
    group: IntArray
    """Group of each class. Shape [C]."""
    capacity: FloatArray
    """Bytes/s of a link of each. Shape [C]."""
    kind: IntArray
    """Kind of the links of each. Shape [C]."""


class _Logged(NamedTuple):
    """What is kept of an interval."""

    start_ns: int
    elapsed_ns: int
    groups: LinkGroups
    carried: Carried
    use: FloatArray
    """Load of the busiest link of each kind. Shape [kinds]."""


class FlowLog(TransferLog):
    """Intervals between starts and ends of transfers."""

    def __init__(self, capacity: FloatArray, names: Sequence[str], link_kinds: Sequence[str]) -> None:
        super().__init__(capacity, names, link_kinds)
        self._bytes = np.zeros(capacity.size)
        self._busy_ns = np.zeros(capacity.size, dtype=np.int64)
        self._classes: dict[int, tuple[_Classes, LinkGroups]] = {}

    def clear(self) -> None:
        """Forget the intervals, and which transfers have ended."""
        super().clear()
        self._intervals: list[_Logged] = []

    def add(self, start_ns: int, interval: FlowInterval) -> None:
        """Note what flows did from `start_ns` on."""
        if not interval.elapsed_ns:
            return
        (links, group), carried = interval.groups, interval.carried
        self._bytes[links] += carried.num_bytes[group]
        self._busy_ns[links] += carried.busy_ns[group]
        classes, use = self._classes_of(interval.groups), np.zeros(len(self._kinds))
        load = carried.held_bytes[classes.group] / (classes.capacity * (interval.elapsed_ns * 1e-9))
        np.maximum.at(use, classes.kind, np.minimum(load, 1.0))  # above by the rounding of ends
        self._intervals.append(_Logged(start_ns, interval.elapsed_ns, interval.groups, carried, use))

    def summary(self, *, with_timeline: bool = True) -> LinkUse:
        """Return bytes, busy time and (unless left out) the timeline of utilisation."""
        intervals = self._intervals if with_timeline else []
        start = np.array([interval.start_ns for interval in intervals], dtype=np.int64)
        end = start + np.array([interval.elapsed_ns for interval in intervals], dtype=np.int64)
        times = np.unique(np.concatenate([start, end]))
        use = np.zeros((times.size, len(self._kinds)))
        first, last = np.searchsorted(times, start), np.searchsorted(times, end)
        for interval, low, high in zip(intervals, first.tolist(), last.tolist(), strict=True):
            np.maximum(use[low:high], interval.use, out=use[low:high])
        all_of = self._use(self._bytes.copy(), self._busy_ns, times, use)
        return self._with_hottest(all_of, start, end) if with_timeline else all_of

    # ---- private -------------------------------------------------------------------------------------------------

    def _classes_of(self, groups: LinkGroups) -> _Classes:
        known = self._classes.get(id(groups))
        if known is None:
            links, group = groups
            capacities, capacity = np.unique(self._capacity[links], return_inverse=True)
            kind = self._kind_of[links]
            key = (group * capacities.size + capacity) * len(self._kinds) + kind
            _, first, of_link = np.unique(key, return_index=True, return_inverse=True)
            classes = _Classes(of_link, group[first], self._capacity[links][first], kind[first])
            known = self._classes[id(groups)] = (classes, groups)  # kept, so that the id stays its own
        return known[0]

    def _with_hottest(self, use: LinkUse, start: IntArray, end: IntArray) -> LinkUse:
        """Return what links carried, with bottlenecks and the timeline of the hottest."""
        hot = hottest_links(use.num_bytes, self._capacity, link_classes(self._names, self._capacity))
        load = np.zeros((start.size, hot.size))
        full_ns = np.zeros(self._capacity.size)
        found: dict[int, tuple[NDArray[np.bool_], IntArray]] = {}
        for here, interval in zip(load, self._intervals, strict=True):
            groups, carried, classes = interval.groups, interval.carried, self._classes_of(interval.groups)
            if id(groups) not in found:
                place = np.minimum(np.searchsorted(groups.links, hot), groups.links.size - 1)
                is_used = groups.links[place] == hot
                found[id(groups)] = (is_used, groups.group[place[is_used]])
            is_used, of_hot = found[id(groups)]
            hot_bytes = carried.num_bytes[of_hot]
            here[is_used] = hot_bytes / (self._capacity[hot[is_used]] * (interval.elapsed_ns * 1e-9))
            busy_ns = carried.busy_ns[classes.group]
            is_full = carried.num_bytes[classes.group] >= (1 - _ROUNDING) * (classes.capacity * (busy_ns * 1e-9))
            full_ns[groups.links] += np.where(is_full, busy_ns, 0)[classes.of_link]
        edges_ns, hot_utilisation = mean_timeline(start, end, np.minimum(load, 1.0))
        full_s = full_ns / 1e9
        return replace(use, bottleneck_s=full_s, hottest=hot, hot_edges_ns=edges_ns, hot_utilisation=hot_utilisation)
