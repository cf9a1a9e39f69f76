"""What the lanes of a run share: plan, clock, network, ranks, record, and rendezvous.

Lanes know the state of their run and not each other: what a lane makes for another, it hands to a `Receiver`.

Model
-----
A rank is a resource: one kernel at a time, first come first served, not preempted::

    start[r] = max(now, free[r])          free[r] = start[r] + duration[r]

Kernel times are known when they are claimed and claims come in the order of time, so a queue per rank is one number:
the time at which the rank is free. Own passes and foreign expert work claim alike.
"""

import time
from typing import Protocol

import numpy as np
import simpy
from numpy.typing import NDArray

from sim.engine.clock import Clock
from sim.engine.network.contention import Batch
from sim.engine.network.flows.network import FlowNetwork
from sim.engine.network.fluid import FluidNetwork
from sim.engine.recorder import Recorder
from sim.engine.tokens import TokenCounts
from sim.plan.folding import Folding
from sim.plan.ops import Compute, ConcurrentPasses, Input, Op, Send, Transfer
from workloads.schedules import Pass, Schedule, Step

__all__ = ["Plan", "RankCompute", "Receiver", "Rendezvous", "RunState"]

IntArray = NDArray[np.int64]
Ranks = NDArray[np.intp] | slice
LanePosition = tuple[int, int]
"""Stage, and lane of the stage."""


class Plan(Protocol):
    """What the engine is to run, with all costs known."""

    lane_ranks: NDArray[np.intp]
    """Ranks of each lane. Shape [stages, lanes, lane_size]."""
    capacity_bytes_per_s: NDArray[np.float64]
    """Capacity of each link. Shape [L]."""
    can_saturate: NDArray[np.bool_]
    """Which links can be full at all; the others hold nobody back. Shape [L]."""
    link_names: list[str]
    """Name of each link."""
    link_kinds: list[str]
    """Kind of each link."""
    num_sms: int | None
    """SMs of a rank, of which transfers take some and slow its kernels; None where no transfer takes any."""

    fidelity: str
    """How transfers are simulated: `bulk` or `flow`."""

    @property
    def folding(self) -> Folding | None:
        """Which lanes run for others, if any do."""
        ...

    @property
    def shares_compute(self) -> bool:
        """Whether kernels may have to wait for a rank: for kernels of other lanes, or of a concurrent pass."""
        ...

    def schedule(self, lane: int) -> Schedule:
        """Return the schedule of the pipeline that lane `lane` of every stage forms."""
        ...

    def inputs(self, stage: int, step: Step) -> tuple[Input, ...]:
        """Return what a step needs before it opens."""
        ...

    def ops(self, stage: int, lane: int, step: Step) -> tuple[Op, ...] | ConcurrentPasses:
        """Return the ops of a step."""
        ...

    def sends(self, stage: int, lane: int, pass_: Pass) -> tuple[Send, ...]:
        """Return what a pass hands to other stages."""
        ...

    def before_passes(self, stage: int, lane: int) -> tuple[Op, ...]:
        """Return the collectives that a lane starts on streams before its first pass."""
        ...

    def after_passes(self, stage: int, lane: int) -> tuple[Op, ...]:
        """Return the ops that follow the last pass: gradient reduction and optimizer."""
        ...


class Receiver(Protocol):
    """A lane, as other lanes see it."""

    def receive(self, key: Input, row: int) -> None:
        """Take an input that the transfer or pass of row `row` brought."""
        ...


class Rendezvous:
    """A collective that several lanes enter together: the last lane to enter starts it."""

    def __init__(self, members: tuple[LanePosition, ...], begun: simpy.Event) -> None:
        self.members = members
        self.arrived: dict[LanePosition, int] = {}
        self.begun = begun
        self.transfers: list[Transfer] = []
        self.batch: Batch | None = None


class RankCompute:
    """When each rank is free, and which span holds it until then.

    >>> ranks = RankCompute(2)
    >>> ranks.claim(np.array([0, 1]), np.array([5, 3]), now_ns=10)
    (10, array([15, 13]), -1)
    >>> ranks.claim(np.array([0]), np.array([2]), now_ns=11)[0]  # waits for the first kernel
    array([15])
    """

    def __init__(self, num_ranks: int) -> None:
        self._free_ns = np.zeros(num_ranks, dtype=np.int64)
        self._holder = np.full(num_ranks, -1, dtype=np.int64)

    def claim(
        self, ranks: Ranks, duration_ns: IntArray, *, now_ns: int
    ) -> tuple[IntArray, IntArray, IntArray] | tuple[int, IntArray, int]:
        """Queue a kernel on each of `ranks`.

        Returns
        -------
        tuple
            Start, end, and the previous span of the rank (-1 for none). Each of shape [R]; where all ranks are free,
            which is the usual case, a start and no span for all of them.
        """
        free_ns = self._free_ns[ranks]
        if free_ns.item(free_ns.argmax()) <= now_ns:
            self._free_ns[ranks] = end = duration_ns + now_ns
            return now_ns, end, -1
        start = np.maximum(free_ns, now_ns)
        end = start + duration_ns
        holder = self._holder[ranks]  # of a slice a view: read it before `hold`
        self._free_ns[ranks] = end
        return start, end, holder

    def hold(self, ranks: Ranks, rows: IntArray | int) -> None:
        """Note the span that holds each of `ranks` from now on."""
        self._holder[ranks] = rows


class RunState:
    """Clock, network, ranks and record of one run."""

    def __init__(self, plan: Plan, clock: Clock, network: FluidNetwork | FlowNetwork) -> None:
        self.plan, self.clock, self.network = plan, clock, network
        num_ranks = int(plan.lane_ranks.max()) + 1
        self.compute = RankCompute(num_ranks)
        self.rendezvous: dict[tuple[object, ...], Rendezvous] = {}
        self.receivers: dict[LanePosition, Receiver] = {}
        self.shares_compute = plan.shares_compute
        homes = np.zeros((2, num_ranks), dtype=np.int64)
        num_stages, num_lanes, _ = plan.lane_ranks.shape
        homes[0, plan.lane_ranks] = np.arange(num_stages)[:, None, None]
        homes[1, plan.lane_ranks] = np.arange(num_lanes)[:, None]
        self.recorder = Recorder(homes)
        self.tokens = TokenCounts(plan.folding)
        self.num_stage_ops = 0
        self.plan_wall_s = 0.0
        self._parts: dict[tuple[Compute, int, int], Compute] = {}

    def part_of(self, op: Compute, first: int, end: int) -> Compute:
        """Return the kernels of an op from `first` to before `end`; equal requests give the same op."""
        key = (op, first, end)
        if key not in self._parts:
            self._parts[key] = op.part(first, end)
        return self._parts[key]

    def planned_ops(self, stage: int, lane: int, step: Step) -> tuple[Op, ...] | ConcurrentPasses:
        """Return the ops of a step, and add the time of planning them to `plan_wall_s`."""
        began = time.perf_counter()
        ops = self.plan.ops(stage, lane, step)
        self.plan_wall_s += time.perf_counter() - began
        self.num_stage_ops += sum(len(side) for _, side in ops.sides) if isinstance(ops, ConcurrentPasses) else len(ops)
        return ops
