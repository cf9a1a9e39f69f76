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
earlier, the flows run again from where they stood, as far as now. Intervals are kept, for the same comes again
(`sim.engine.network.flows.runs`).

Assumptions
-----------
Latency is not stretched by load, and is the transfer's: its flows start together after that of its slowest pair.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import simpy
from numpy.typing import NDArray

from sim.engine.clock import Alarm, Clock
from sim.engine.network.contention import Batch, Component, ContentionNetwork, Member, refuse_dead_links
from sim.engine.network.flows.interval import NO_STOP, FlowInterval
from sim.engine.network.flows.kernel import Run, choose_run
from sim.engine.network.flows.log import FlowLog
from sim.engine.network.flows.runs import FlowRuns
from sim.engine.network.linkset import LinkSet

__all__ = ["FlowNetwork"]

FloatArray = NDArray[np.float64]


class _Stream(Member):
    """A transfer that flows."""

    __slots__ = ("remaining",)

    def __init__(self, batch: Batch, position: int, links: LinkSet, remaining: FloatArray) -> None:
        super().__init__(batch, position, links)
        self.remaining = remaining


_Component = Component[_Stream, FlowInterval]


class FlowNetwork(ContentionNetwork[_Stream, FlowInterval]):
    """Transfers each flow of which moves on its own."""

    _is_eager = False
    _log: FlowLog

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
        log, all_links = FlowLog(capacity, link_names, link_kinds), np.ones(capacity.size, dtype=np.bool_)
        super().__init__(clock, capacity, link_names, log, meets_on=all_links)
        limits = capacity if can_saturate is None else np.where(can_saturate | (capacity <= 0), capacity, np.inf)
        self._runs = FlowRuns(limits, choose)

    @property
    def num_solves(self) -> int:
        """How often rates were solved."""
        return self._runs.num_solves

    def forget(self) -> None:
        """Forget what became of transfers so far."""
        super().forget()
        self._runs.forget()

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
            if links:
                stream = _Stream(batch, position, links, self._runs.remaining(transfer))
                self._merge([stream], self._components.meeting(links))
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
            stream.remaining = remaining
        component.since_ns, component.solution = self._env.now, None

    def _share(self, component: _Component) -> None:
        """Let the flows of a component run ahead, and set the time of its next end."""
        interval = component.solution = self._run(component.members)
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

    def _run(self, streams: Sequence[_Stream], stop_ns: int = NO_STOP) -> FlowInterval:
        """Return what becomes of flows until the first of their transfers ends, or until `stop_ns`."""
        transfers = tuple([stream.transfer for stream in streams])
        return self._runs.run(transfers, [stream.remaining for stream in streams], stop_ns)
