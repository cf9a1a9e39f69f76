"""The network flow by flow: every pair of an all-to-all shares links on its own and ends on its own.

Model
-----
All flows of all transfers share links max-min fairly; a transfer ends when its last flow does. A transfer without flows
of its own is one flow, as in `sim.engine.network.fluid`. Waiting for the latency uses no link. An end is rounded up to
a whole nanosecond; flows of one component with less than a nanosecond left end together.

Between two changes of the set of transfers on a link, its load is the mean: bytes / (capacity * time). Rates within
that time change with every end of a flow, and are not kept. So a link counts as full, and as a bottleneck, where it was
full from the start of such a time to the last end of its flows there: a little less than it was.

How it is fast
--------------
There is an event per transfer and none per flow. The flows of a contention component (`sim.engine.network.contention`)
run ahead until the first of its transfers ends, and one alarm is set for that time. When another transfer joins
earlier, the flows run again from where they stood, as far as now. The interval of transfers that started together is
kept, for equal sets of transfers come again.

Assumptions
-----------
Latency is not stretched by load, and is the transfer's: its flows start together after that of its slowest pair.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import simpy
from numpy.typing import NDArray

from sim.engine.clock import Alarm, Clock
from sim.engine.network.contention import Batch, Component, ContentionNetwork, Member, refuse_dead_links
from sim.engine.network.flows.interval import FlowInterval, first_remaining, run_flows
from sim.engine.network.flows.kernel import Run, choose_run
from sim.engine.network.link_account import mean_timeline
from sim.engine.network.linkset import LinkSet
from sim.engine.network.linkuse import TransferLog, hottest_links, link_classes
from sim.engine.trace import LinkUse
from sim.plan.ops import Transfer

__all__ = ["FlowNetwork"]

FloatArray = NDArray[np.float64]
_KNOWN = 256
"""Intervals that are kept for sets of transfers that come again."""


_ROUNDING = 1e-3
"""Share of a link's bytes that the rounding of ends to whole nanoseconds may hide."""


class _Stream(Member):
    """A transfer that flows."""

    __slots__ = ("is_fresh", "remaining")

    def __init__(self, batch: Batch, position: int, links: LinkSet) -> None:
        super().__init__(batch, position, links)
        self.remaining = first_remaining(self.transfer)
        self.is_fresh = True


_Component = Component[_Stream, FlowInterval]


class FlowNetwork(ContentionNetwork[_Stream, FlowInterval]):
    """Transfers each flow of which moves on its own."""

    _is_eager = False
    _log: "_FlowLog"

    def __init__(
        self,
        clock: Clock,
        capacity: FloatArray,
        link_names: Sequence[str],
        link_kinds: Sequence[str],
        *,
        can_saturate: NDArray[np.bool_] | None = None,
        choose: Callable[[int], Run] = choose_run,
    ) -> None:
        """Simulate links of `capacity` [L]; those that not `can_saturate` [L] hold no flow back (None: all can)."""
        log, all_links = _FlowLog(capacity, link_names, link_kinds), np.ones(capacity.size, dtype=np.bool_)
        super().__init__(clock, capacity, link_names, log, meets_on=all_links)
        self._limits = capacity if can_saturate is None else np.where(can_saturate | (capacity <= 0), capacity, np.inf)
        self._known: dict[tuple[Transfer, ...], FlowInterval] = {}
        self._choose, self._num_steps = choose, 0

    def forget(self) -> None:
        """Forget what became of transfers so far."""
        super().forget()
        self._known.clear()

    # ---- private -------------------------------------------------------------------------------------------------

    def _wait_latencies(self, batch: Batch) -> None:
        by_latency: dict[int, list[int]] = {}
        for position, transfer in enumerate(batch.transfers):
            by_latency.setdefault(transfer.latency_ns, []).append(position)
        for latency_ns, positions in by_latency.items():
            Alarm(self._env, latency_ns, partial(self._start_to_flow, batch, positions))

    def _start_to_flow(self, batch: Batch, positions: Sequence[int], _: simpy.Event) -> None:
        """Let transfers flow after their latency, with the transfers that they meet."""
        for position in positions:
            transfer = batch.transfers[position]
            place = self._place(transfer)
            links = place.links
            if place.is_dead:
                refuse_dead_links(transfer, self._capacity, self._names, self._env.now)
            if links.blocks:
                self._merge([_Stream(batch, position, links)], self._components.meeting(links))
            else:
                self._finish(batch, position)

    def _advance(self, component: _Component) -> None:
        """Move a component's flows on to now."""
        elapsed_ns = self._env.now - component.since_ns
        interval = component.solution
        if interval is None or (elapsed_ns == 0 and interval.elapsed_ns > 0):
            return
        if elapsed_ns < interval.elapsed_ns:
            interval = self._run(component.members, elapsed_ns)
        self._log.add(component.since_ns, interval)
        for stream, remaining in zip(component.members, interval.remaining, strict=True):
            stream.remaining, stream.is_fresh = remaining, False
        component.since_ns, component.solution = self._env.now, None

    def _share(self, component: _Component) -> None:
        """Let the flows of a component run ahead, and set the time of its next end."""
        interval = component.solution = self._interval_of(component.members)
        component.alarm = Alarm(self._env, interval.elapsed_ns, partial(self._end_some, component))

    def _end_some(self, component: _Component, event: simpy.Event) -> None:
        if component.alarm is not event:
            return  # another has joined since it was set
        self._advance(component)
        ended = [stream for stream in component.members if not stream.remaining.any()]
        component.members = [stream for stream in component.members if stream.remaining.any()]
        self._mark(component)
        for stream in ended:
            self._finish(stream.batch, stream.position)

    def _interval_of(self, streams: Sequence[_Stream]) -> FlowInterval:
        """Return what becomes of flows until the first of their transfers ends."""
        if not all(stream.is_fresh for stream in streams):
            return self._run(streams)
        key = tuple(stream.transfer for stream in streams)
        interval = self._known.get(key)
        if interval is None:
            if len(self._known) >= _KNOWN:
                self._known.clear()
            interval = self._known[key] = self._run(streams)
        return interval

    def _run(self, streams: Sequence[_Stream], stop_ns: int | None = None) -> FlowInterval:
        transfers = [stream.transfer for stream in streams]
        remaining = [stream.remaining for stream in streams]
        self._num_steps += sum(np.unique(num_bytes).size for num_bytes in remaining)  # equal flows end in one step
        run = self._choose(self._num_steps)
        limit = {} if stop_ns is None else {"stop_ns": stop_ns}
        interval = run_flows(transfers, remaining, self._limits, run, **limit)
        self.num_solves += interval.num_solves
        return interval


class _FlowLog(TransferLog):
    """Intervals between starts and ends of transfers."""

    def __init__(self, capacity: FloatArray, names: Sequence[str], link_kinds: Sequence[str]) -> None:
        super().__init__(capacity, names, link_kinds)
        self._bytes = np.zeros(capacity.size)
        self._busy_ns = np.zeros(capacity.size, dtype=np.int64)

    def clear(self) -> None:
        """Forget the intervals, and which transfers have ended."""
        super().clear()
        self._intervals: list[tuple[int, FlowInterval, FloatArray]] = []

    def add(self, start_ns: int, interval: FlowInterval) -> None:
        """Note what flows did from `start_ns` on."""
        self._bytes[interval.links] += interval.num_bytes
        self._busy_ns[interval.links] += interval.busy_ns
        if interval.elapsed_ns:
            use = np.zeros(len(self._kinds))
            load = interval.held_bytes / (self._capacity[interval.links] * (interval.elapsed_ns * 1e-9))
            np.maximum.at(use, self._kind_of[interval.links], np.minimum(load, 1.0))  # above by the rounding of ends
            self._intervals.append((start_ns, interval, use))

    def summary(self, *, with_timeline: bool = True) -> LinkUse:
        """Return bytes, busy time and (unless left out) the timeline of utilisation."""
        intervals = self._intervals if with_timeline else []
        start = np.array([start_ns for start_ns, _, _ in intervals], dtype=np.int64)
        end = start + np.array([interval.elapsed_ns for _, interval, _ in intervals], dtype=np.int64)
        times = np.unique(np.concatenate([start, end]))
        use = np.zeros((times.size, len(self._kinds)))
        first, last = np.searchsorted(times, start), np.searchsorted(times, end)
        for (_, _, load), low, high in zip(intervals, first.tolist(), last.tolist(), strict=True):
            np.maximum(use[low:high], load, out=use[low:high])
        all_of = self._use(self._bytes.copy(), self._busy_ns, times, use)
        return self._with_hottest(all_of, start, end) if with_timeline else all_of

    # ---- private -------------------------------------------------------------------------------------------------

    def _with_hottest(self, use: LinkUse, start: NDArray[np.int64], end: NDArray[np.int64]) -> LinkUse:
        """Return what links carried, with bottlenecks and the timeline of the hottest."""
        hot = hottest_links(use.num_bytes, self._capacity, link_classes(self._names, self._capacity))
        load = np.zeros((start.size, hot.size))
        full_ns = np.zeros(self._capacity.size)
        for here, (_, interval, _) in zip(load, self._intervals, strict=True):
            num_bytes = np.zeros(self._capacity.size)
            num_bytes[interval.links] = interval.num_bytes
            here[:] = num_bytes[hot] / (self._capacity[hot] * (interval.elapsed_ns * 1e-9))
            most = self._capacity[interval.links] * (interval.busy_ns * 1e-9)
            is_full = interval.num_bytes >= (1 - _ROUNDING) * most
            full_ns[interval.links[is_full]] += interval.busy_ns[is_full]
        edges_ns, hot_utilisation = mean_timeline(start, end, np.minimum(load, 1.0))
        full_s = full_ns / 1e9
        return replace(use, bottleneck_s=full_s, hottest=hot, hot_edges_ns=edges_ns, hot_utilisation=hot_utilisation)
