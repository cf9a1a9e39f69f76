"""A plan in, a trace out.

The plan answers what each lane runs (see `sim.engine.run_state.Plan`); this module wires lanes, network and clock
together, runs them, and refuses to end quietly when a lane still waits.
"""

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from sim.engine.clock import MAX_EVENTS, Clock
from sim.engine.deadlock import describe_deadlock
from sim.engine.lane import Lane
from sim.engine.network.flows.network import FlowNetwork
from sim.engine.network.fluid import FluidNetwork
from sim.engine.run_state import Plan, RunState
from sim.engine.slowed_compute import SlowedCompute
from sim.engine.slowed_lane import SlowedLane
from sim.engine.trace import LinkUse, Trace
from sim.errors import DeadlockError
from sim.plan.ops import Transfer
from workloads.schedules import Schedule

__all__ = ["EngineStats", "Run", "Simulation", "collector_paused", "run_plan"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStats:
    """What the run cost."""

    wall_s: float
    """Seconds in the engine, without planning."""
    plan_wall_s: float
    """Seconds in planning: routing draws, kernel times, loads on links."""
    num_events: int
    """Events of the clock."""
    num_solves: int
    """Times that link rates were solved (known sets of transfers are looked up)."""
    num_stage_ops: int
    """Ops that lanes ran."""
    num_spans: int
    """Rows of the trace."""
    is_compiled: bool = False
    """Whether the compiled kernel ran, and not SimPy's processes."""
    why_not_compiled: str | None = None
    """Why the compiled kernel did not run, where it was to; None: it ran, or was not to."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Run:
    """The record of a simulation."""

    trace: Trace
    """What happened when."""
    stats: EngineStats
    """What it cost to find out."""
    tokens_routed: int
    """Tokens sent to experts, counted at their sources (a token counts once per expert and layer)."""
    tokens_computed: int
    """Tokens that experts computed, counted where they arrived."""
    tokens_dropped: int
    """Copies of tokens that no expert computed, counted where they were dropped."""
    tokens_padded: int
    """Empty rows that experts computed."""
    tokens_rerouted: int
    """Copies of tokens, of those computed, that another expert than their own computed."""
    imbalance_max_over_mean: float
    """Busiest rank's expert tokens over the mean of the ranks, averaged over layers and microbatches; 1 without any."""
    tokens_received: Mapping[tuple[int, int], Mapping[tuple[int, int], NDArray[np.int64]]]
    """(stage, lane) -> (microbatch, chunk) -> rows of tokens, with padding, on experts' hosts. Each of shape [R]."""
    tokens_sent: Mapping[tuple[int, int], Mapping[tuple[int, int], int]]
    """(stage, lane) -> (microbatch, chunk) -> copies of tokens that sources have for experts."""
    exchange_skew: Mapping[int, tuple[float, float]]
    """Stage -> most rows that a rank sends and receives in one exchange of a layer, over the mean copies of ranks."""
    bytes_sent: float
    """Bytes of all transfers, counted when they start."""
    bytes_received: float
    """Bytes of all transfers, counted when they end."""
    num_ended: dict[Transfer, int] = field(default_factory=dict)
    """Transfer -> how often it ended; empty unless `keep_ended`."""


class Simulation:
    """The lanes of a plan, with the clock, the network and the record that they share."""

    def __init__(
        self,
        plan: Plan,
        *,
        max_events: int = MAX_EVENTS,
        link_timeline: bool = True,
        keep_ended: bool = False,
        links: bool = True,
    ) -> None:
        began = time.perf_counter()
        folding = plan.folding  # the plan finds it at the first access
        self._folding_s = time.perf_counter() - began
        self._link_timeline, self._keep_ended, self._links = link_timeline, keep_ended, links
        clock = Clock(max_events=max_events)
        of_links = (plan.capacity_bytes_per_s, plan.link_names, plan.link_kinds)
        network = (
            FlowNetwork(clock, *of_links, can_saturate=plan.can_saturate)
            if plan.fidelity == "flow"
            else FluidNetwork(clock, *of_links, can_saturate=plan.can_saturate, folding=folding)
        )
        self.run_state = RunState(plan, clock, network)
        make_lane: Callable[[int, int, Schedule], Lane] = partial(Lane, self.run_state)
        if plan.num_sms is not None:
            slowed = network.occupancy = SlowedCompute(clock.env, int(plan.lane_ranks.max()) + 1, plan.num_sms)
            make_lane = partial(SlowedLane, self.run_state, slowed=slowed)
        num_stages, num_lanes, _ = plan.lane_ranks.shape
        running = list(range(num_lanes)) if folding is None else folding.running
        schedules = {lane: plan.schedule(lane) for lane in running}
        positions = [(stage, lane) for stage in range(num_stages) for lane in running]
        self.lanes = {position: make_lane(*position, schedules[position[1]]) for position in positions}
        self.run_state.receivers.update(self.lanes)

    def run(self) -> Run:
        """Run all lanes to their end."""
        run_state, plan, began = self.run_state, self.run_state.plan, time.perf_counter()
        for lane in self.lanes.values():
            run_state.clock.env.process(lane.run())
        run_state.clock.run()
        waits = [wait for lane in self.lanes.values() for wait in lane.waits]
        if waits:
            raise DeadlockError(describe_deadlock(waits, run_state.clock.now_ns))
        columns, joint_rows = run_state.recorder.rows()
        tokens_computed, imbalance = run_state.tokens.sums()
        wall_s = time.perf_counter() - began - run_state.plan_wall_s
        num_stages, num_lanes, _ = run_state.plan.lane_ranks.shape
        trace = Trace(
            columns=columns,
            num_stages=num_stages,
            num_lanes=num_lanes,
            lane_ranks=run_state.plan.lane_ranks,
            lane_of=None if run_state.plan.folding is None else run_state.plan.folding.lane_of,
            joint_rows=joint_rows,
            link_use=(
                run_state.network.link_use(with_timeline=self._link_timeline)
                if self._links
                else LinkUse.unknown(plan.capacity_bytes_per_s, plan.link_names, plan.link_kinds)
            ),
        )
        num_ended = run_state.network.num_ended() if self._keep_ended else {}
        run_state.recorder.clear()  # at once: the collector of cycles would walk all that is in it
        run_state.network.forget()
        return Run(
            trace=trace,
            stats=EngineStats(
                wall_s=wall_s,
                plan_wall_s=self._folding_s + run_state.plan_wall_s,
                num_events=run_state.clock.num_events,
                num_solves=run_state.network.num_solves,
                num_stage_ops=run_state.num_stage_ops,
                num_spans=len(trace),
            ),
            tokens_routed=run_state.tokens.routed,
            tokens_computed=tokens_computed,
            tokens_dropped=run_state.tokens.dropped,
            tokens_padded=run_state.tokens.padded,
            tokens_rerouted=run_state.tokens.rerouted,
            imbalance_max_over_mean=imbalance,
            tokens_received=run_state.tokens.received(),
            tokens_sent=run_state.tokens.sent(),
            exchange_skew=run_state.tokens.exchange_skew(),
            bytes_sent=run_state.network.bytes_sent,
            bytes_received=run_state.network.bytes_received,
            num_ended=num_ended,
        )


@contextmanager
def collector_paused() -> Iterator[None]:
    """Pause the collector of cycles: a run makes none and many objects, which it would walk again and again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def run_plan(
    plan: Plan,
    *,
    max_events: int = MAX_EVENTS,
    link_timeline: bool = True,
    keep_ended: bool = False,
    links: bool = True,
) -> Run:
    """Run a plan to its end.

    Without `link_timeline` the load of the links over time is left out, without `links` all that they carried. With
    `keep_ended` the run says how often each transfer ended, and so keeps them all.

    Raises
    ------
    SimulationError
        On a deadlock (the cycle is named), a dead link, or too many events.
    """
    with collector_paused():
        return Simulation(
            plan, max_events=max_events, link_timeline=link_timeline, keep_ended=keep_ended, links=links
        ).run()
