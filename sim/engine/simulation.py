"""A plan in, a trace out.

The plan answers what each lane runs (see `Plan`); this module wires lanes, network and clock together, runs them, and
refuses to end quietly when a lane still waits.
"""

import time
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sim.engine.clock import Clock
from sim.engine.compute import RankCompute
from sim.engine.deadlock import describe_deadlock
from sim.engine.lane import Lane, Meeting
from sim.engine.network import FluidNetwork
from sim.engine.ops import Input, Op, Send
from sim.engine.trace import Recorder, Trace
from sim.errors import SimulationError
from workloads.schedules import Pass, Schedule

__all__ = ["EngineStats", "Plan", "Run", "Simulation", "run_plan"]


class Plan(Protocol):
    """What the engine is to run, with all costs known."""

    lane_ranks: NDArray[np.intp]
    """Ranks of each lane. Shape [stages, lanes, lane_size]."""
    capacity_bytes_per_s: NDArray[np.float64]
    """Capacity of each link. Shape [L]."""
    link_names: list[str]
    """Name of each link."""
    link_kinds: list[str]
    """Kind of each link."""
    shares_compute: bool
    """Whether ranks serve other lanes' passes, so that kernels may have to wait for a rank."""

    def schedule(self, lane: int) -> Schedule:
        """Return the schedule of the pipeline that lane `lane` of every stage forms."""
        ...

    def inputs(self, stage: int, chosen: Pass) -> tuple[Input, ...]:
        """Return what a pass needs before it opens."""
        ...

    def ops(self, stage: int, lane: int, chosen: Pass) -> tuple[Op, ...]:
        """Return the ops of a pass."""
        ...

    def sends(self, stage: int, lane: int, chosen: Pass) -> tuple[Send, ...]:
        """Return what a pass hands to other stages."""
        ...

    def after_passes(self, stage: int, lane: int) -> tuple[Op, ...]:
        """Return the ops that follow the last pass: gradient reduction and optimizer."""
        ...


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
    imbalance_max_over_mean: float
    """Busiest rank's expert tokens over the mean of the ranks, averaged over layers and microbatches; 1 without any."""
    bytes_sent: float
    """Bytes of all transfers, counted when they start."""
    bytes_received: float
    """Bytes of all transfers, counted when they end."""


class Simulation:
    """Clock, network, ranks and lanes of one run."""

    def __init__(self, plan: Plan, *, max_events: int = 50_000_000, link_course: bool = True) -> None:
        self.plan = plan
        self._link_course = link_course
        self.clock = Clock(max_events=max_events)
        self.network = FluidNetwork(self.clock, plan.capacity_bytes_per_s, plan.link_names, plan.link_kinds)
        num_stages, num_lanes, _ = plan.lane_ranks.shape
        self.compute = RankCompute(int(plan.lane_ranks.max()) + 1)
        self.recorder = Recorder()
        self.meetings: dict[tuple[object, ...], Meeting] = {}
        self.tokens_routed = self.tokens_computed = self.num_stage_ops = 0
        self.token_imbalances: list[float] = []
        self.plan_wall_s = 0.0
        schedules = [plan.schedule(lane) for lane in range(num_lanes)]
        places = [(stage, lane) for stage in range(num_stages) for lane in range(num_lanes)]
        self.lanes = {place: Lane(self, *place, schedules[place[1]]) for place in places}
        self.shares_compute = plan.shares_compute
        self.stage_of, self.lane_of = np.zeros((2, int(plan.lane_ranks.max()) + 1), dtype=np.int64)
        for place in places:
            self.stage_of[plan.lane_ranks[place]], self.lane_of[plan.lane_ranks[place]] = place

    def count_tokens(self, routed: int, computed: NDArray[np.int64] | None) -> None:
        """Note copies of tokens that were sent to experts, and those that ranks computed (shape [R])."""
        self.tokens_routed += routed
        if computed is not None:
            total = int(computed.sum())
            self.tokens_computed += total
            if total:
                self.token_imbalances.append(float(computed.max()) * computed.size / total)

    def planned_ops(self, stage: int, lane: int, chosen: Pass) -> tuple[Op, ...]:
        """Return the ops of a pass, and keep the time that planning them took apart."""
        began = time.perf_counter()
        ops = self.plan.ops(stage, lane, chosen)
        self.plan_wall_s += time.perf_counter() - began
        self.num_stage_ops += len(ops)
        return ops

    def run(self) -> Run:
        """Run all lanes to their end."""
        began = time.perf_counter()
        for lane in self.lanes.values():
            self.clock.env.process(lane.run())
        self.clock.run()
        waits = [lane.wait for lane in self.lanes.values() if lane.wait is not None]
        if waits:
            raise SimulationError(describe_deadlock(waits, self.clock.now_ns))
        columns = self.recorder.columns()
        wall_s = time.perf_counter() - began - self.plan_wall_s
        num_stages, num_lanes, _ = self.plan.lane_ranks.shape
        trace = Trace(
            columns=columns,
            num_stages=num_stages,
            num_lanes=num_lanes,
            lane_ranks=self.plan.lane_ranks,
            link_use=self.network.link_use(with_course=self._link_course),
        )
        return Run(
            trace=trace,
            stats=EngineStats(
                wall_s=wall_s,
                plan_wall_s=self.plan_wall_s,
                num_events=self.clock.num_events,
                num_solves=self.network.num_solves,
                num_stage_ops=self.num_stage_ops,
                num_spans=len(trace),
            ),
            tokens_routed=self.tokens_routed,
            tokens_computed=self.tokens_computed,
            imbalance_max_over_mean=float(np.mean(self.token_imbalances)) if self.token_imbalances else 1.0,
            bytes_sent=self.network.bytes_sent,
            bytes_received=self.network.bytes_received,
        )


def run_plan(plan: Plan, *, max_events: int = 50_000_000, link_course: bool = True) -> Run:
    """Run a plan to its end; without `link_course` the course of the links' load over time is left out.

    Raises
    ------
    SimulationError
        On a deadlock (the cycle is named), a dead link, or too many events.
    """
    return Simulation(plan, max_events=max_events, link_course=link_course).run()
