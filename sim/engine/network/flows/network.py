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
There is an event per transfer and none per flow. The flows of a *contention component* (transfers that share links,
directly or over others) run ahead until the first of its transfers ends, and one alarm is set for that time. When
another transfer joins earlier, the flows run again from where they stood, as far as now. Intervals are kept, for the
same comes again (`sim.engine.network.flows.runs`).

Assumptions
-----------
Latency is not stretched by load, and is the transfer's: its flows start together after that of its slowest pair.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import simpy
from numpy.typing import NDArray

from sim.engine.clock import SOLVE_PRIORITY, Alarm, Clock, Signal
from sim.engine.network.batch import Batch, NoOccupancy, Occupancy, contention_components, refuse_dead_links
from sim.engine.network.flows.interval import NO_STOP, FlowInterval
from sim.engine.network.flows.kernel import Run, choose_run
from sim.engine.network.flows.log import FlowLog
from sim.engine.network.flows.runs import FlowRuns
from sim.engine.trace import LinkUse
from sim.plan.ops import Transfer

__all__ = ["FlowNetwork"]

FloatArray = NDArray[np.float64]
_KNOWN = 1024
"""Transfers whose links are kept as bits."""


class _Stream:
    """A transfer that flows."""

    __slots__ = ("batch", "mask", "position", "remaining", "transfer")

    def __init__(self, batch: Batch, position: int, mask: int, remaining: FloatArray) -> None:
        self.batch, self.position, self.mask, self.remaining = batch, position, mask, remaining
        self.transfer = batch.transfers[position]


class _ContentionComponent:
    """Transfers that share links, directly or over others."""

    __slots__ = ("alarm", "interval", "mask", "since_ns", "streams")

    def __init__(self, streams: list[_Stream], mask: int, since_ns: int) -> None:
        self.streams, self.mask, self.since_ns = streams, mask, since_ns
        self.alarm: simpy.Event | None = None
        self.interval: FlowInterval | None = None


class FlowNetwork:
    """Active flows and the links they share."""

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
        self._env = clock.env
        self._capacity, self._names = capacity, link_names
        limits = capacity if can_saturate is None else np.where(can_saturate | (capacity <= 0), capacity, np.inf)
        self._dead = sum(1 << int(link) for link in np.flatnonzero(capacity <= 0))
        self._components: list[_ContentionComponent] = []
        self._stale: list[_ContentionComponent] = []
        self._num_ended: dict[Transfer, int] = {}
        self._masks: dict[Transfer, int] = {}
        self._log = FlowLog(capacity, link_names, link_kinds)
        self._runs = FlowRuns(limits, choose)
        self.occupancy: Occupancy = NoOccupancy()
        self.bytes_sent = 0.0
        self.bytes_received = 0.0

    def begin(self, transfers: Sequence[Transfer]) -> Batch:
        """Start `transfers` now; the batch's `done` event fires when the last of them has ended."""
        batch = Batch(transfers, self._env.now, Signal(self._env))
        if not transfers:
            batch.done.fire_later()
        by_latency: dict[int, list[int]] = {}
        for position, transfer in enumerate(transfers):
            by_latency.setdefault(transfer.latency_ns, []).append(position)
            self.bytes_sent += transfer.total_bytes
            if transfer.num_sms:
                self.occupancy.begin(transfer)
        for latency_ns, positions in by_latency.items():
            Alarm(self._env, latency_ns, partial(self._start_to_flow, batch, positions))
        return batch

    @property
    def num_solves(self) -> int:
        """How often rates were solved."""
        return self._runs.num_solves

    def link_use(self, *, with_timeline: bool = True) -> LinkUse:
        """Return what the links have carried so far."""
        return self._log.summary(with_timeline=with_timeline)

    def num_ended(self) -> dict[Transfer, int]:
        """Return how often each transfer has ended."""
        return dict(self._num_ended)

    def forget(self) -> None:
        """Forget what became of transfers so far."""
        self._runs.forget()
        self._num_ended.clear()

    # ---- private -------------------------------------------------------------------------------------------------

    def _start_to_flow(self, batch: Batch, positions: Sequence[int], _: simpy.Event) -> None:
        """Let transfers flow after their latency, with the transfers that they meet."""
        for position in positions:
            transfer = batch.transfers[position]
            mask = self._mask(transfer)
            if mask & self._dead:
                refuse_dead_links(transfer, self._capacity, self._names, self._env.now)
            if mask:
                self._merge(_Stream(batch, position, mask, self._runs.remaining(transfer)))
            else:
                self._finish(batch, position)

    def _mask(self, transfer: Transfer) -> int:
        mask = self._masks.get(transfer)
        if mask is None:
            if len(self._masks) >= _KNOWN:
                self._masks.clear()
            mask = self._masks[transfer] = transfer.mask
        return mask

    def _merge(self, stream: _Stream) -> None:
        """Make one component of a transfer and those it meets, to be shared when all that starts now has started."""
        streams, mask = [stream], stream.mask
        for component in [component for component in self._components if component.mask & mask]:
            self._advance(component)
            self._components.remove(component)
            if component in self._stale:
                self._stale.remove(component)
            component.alarm = None
            streams, mask = [*component.streams, *streams], mask | component.mask
        component = _ContentionComponent(streams, mask, self._env.now)
        self._components.append(component)
        self._mark(component)

    def _mark(self, component: _ContentionComponent) -> None:
        component.alarm = None
        if not self._stale:
            Alarm(self._env, 0, self._share, SOLVE_PRIORITY)
        self._stale.append(component)

    def _advance(self, component: _ContentionComponent) -> None:
        """Move a component's flows on to now."""
        elapsed_ns = self._env.now - component.since_ns
        interval = component.interval
        if interval is None or (elapsed_ns == 0 and interval.elapsed_ns > 0):
            return
        if elapsed_ns < interval.elapsed_ns:
            interval = self._run(component.streams, elapsed_ns)
        self._log.add(component.since_ns, interval)
        for stream, remaining in zip(component.streams, interval.remaining, strict=True):
            stream.remaining = remaining
        component.since_ns, component.interval = self._env.now, None

    def _share(self, _: simpy.Event) -> None:
        """Let the flows of all changed components run ahead, and set the times of their next ends."""
        stale, self._stale = self._stale, []
        for component in stale:
            self._components.remove(component)
            for streams, mask in contention_components(component.streams, lambda stream: stream.mask):
                smaller = _ContentionComponent(streams, mask, self._env.now)
                smaller.interval = self._run(streams)
                smaller.alarm = Alarm(self._env, smaller.interval.elapsed_ns, partial(self._end_some, smaller))
                self._components.append(smaller)

    def _end_some(self, component: _ContentionComponent, event: simpy.Event) -> None:
        if component.alarm is not event:
            return  # another has joined since it was set
        self._advance(component)
        ended = [stream for stream in component.streams if not stream.remaining.any()]
        component.streams = [stream for stream in component.streams if stream.remaining.any()]
        self._mark(component)
        for stream in ended:
            self._finish(stream.batch, stream.position)

    def _run(self, streams: Sequence[_Stream], stop_ns: int = NO_STOP) -> FlowInterval:
        """Return what becomes of flows until the first of their transfers ends, or until `stop_ns`."""
        transfers = tuple([stream.transfer for stream in streams])
        return self._runs.run(transfers, [stream.remaining for stream in streams], stop_ns)

    def _finish(self, batch: Batch, position: int) -> None:
        transfer = batch.transfers[position]
        self.bytes_received += transfer.total_bytes
        self._num_ended[transfer] = self._num_ended.get(transfer, 0) + 1
        batch.end_ns[position] = self._env.now
        if transfer.num_sms:
            self.occupancy.end(transfer)
        batch.waiting -= 1
        if batch.waiting == 0:
            batch.done.fire()
