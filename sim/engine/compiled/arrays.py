"""A plan as arrays: what each lane runs, in the columns that the kernel reads (`layout`).

Ops that several passes share are written once, and so are transfers. What a plan has answered is kept, for plans answer
each pass once: a run that the kernel gives up is run again, by SimPy's engine, on the same ops.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sim.engine.compiled import layout as at
from sim.engine.compiled.columns import NetworkColumns, Table
from sim.engine.compiled.operations import OpColumns
from sim.engine.rows import KIND_CODE, whole
from sim.engine.run_state import Plan
from sim.plan.folding import Folding
from sim.plan.ops import (
    Collective,
    ConcurrentPasses,
    Input,
    Op,
    Send,
    Transfer,
)
from workloads.schedules import FixedOrder, Pass, Schedule, Step, passes_of

__all__ = ["ArrayPlan", "KeptPlan", "NotLoweredError", "lower_plan", "op_records"]

IntArray = NDArray[np.int64]
_NO_PASS = Pass("O", -1, -1)


class NotLoweredError(Exception):
    """A plan that the kernel cannot run; the message says why."""


class KeptPlan:
    """A plan that keeps its answers, and gives the same answer to the same question."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.lane_ranks, self.num_sms, self.fidelity = plan.lane_ranks, plan.num_sms, plan.fidelity
        self.capacity_bytes_per_s, self.can_saturate = plan.capacity_bytes_per_s, plan.can_saturate
        self.link_names, self.link_kinds = plan.link_names, plan.link_kinds
        self._ops: dict[tuple[int, int, Step], tuple[Op, ...] | ConcurrentPasses] = {}
        self._before: dict[tuple[int, int], tuple[Op, ...]] = {}
        self._after: dict[tuple[int, int], tuple[Op, ...]] = {}
        self.plan_wall_s = 0.0
        """Time that it took the plan to answer."""

    @property
    def folding(self) -> Folding | None:
        """Which lanes run for others, if any do."""
        return self._plan.folding

    @property
    def shares_compute(self) -> bool:
        """Whether kernels may have to wait for a rank."""
        return self._plan.shares_compute

    def schedule(self, lane: int) -> Schedule:
        """Return the schedule of a pipeline."""
        return self._plan.schedule(lane)

    def inputs(self, stage: int, step: Step) -> tuple[Input, ...]:
        """Return what a step needs before it opens."""
        return self._plan.inputs(stage, step)

    def ops(self, stage: int, lane: int, step: Step) -> tuple[Op, ...] | ConcurrentPasses:
        """Return the ops of a step."""
        key = (stage, lane, step)
        if key not in self._ops:
            began = time.perf_counter()
            self._ops[key] = self._plan.ops(stage, lane, step)
            self.plan_wall_s += time.perf_counter() - began
        return self._ops[key]

    def sends(self, stage: int, lane: int, pass_: Pass) -> tuple[Send, ...]:
        """Return what a pass hands to other stages."""
        return self._plan.sends(stage, lane, pass_)

    def before_passes(self, stage: int, lane: int) -> tuple[Op, ...]:
        """Return the collectives that a lane starts on streams before its first pass."""
        if (stage, lane) not in self._before:
            self._before[stage, lane] = self._plan.before_passes(stage, lane)
        return self._before[stage, lane]

    def after_passes(self, stage: int, lane: int) -> tuple[Op, ...]:
        """Return the ops that follow the last pass."""
        if (stage, lane) not in self._after:
            self._after[stage, lane] = self._plan.after_passes(stage, lane)
        return self._after[stage, lane]


@dataclass(slots=True, kw_only=True, eq=False)
class ArrayPlan:
    """A plan as arrays, with the objects that the rows of the record are made from."""

    ints: dict[int, IntArray]
    """Columns of integers."""
    floats: dict[int, NDArray[np.float64]]
    """Columns of floats."""
    scalars: dict[int, int]
    """Scalars."""
    positions: list[tuple[int, int]]
    """Stage and lane of each position."""
    ops: list[Op]
    """Ops, as numbered in the columns."""
    transfers: list[Transfer]
    """Transfers, as numbered in the columns."""
    steps: list[Step]
    """Step of each side, whose microbatch and chunk its rows have."""
    passes: list[Pass]
    """Passes, as numbered in the columns."""
    sends: list[Send]
    """Sends, as numbered in the columns."""
    columns: NDArray[np.intp]
    """Link of each link that can saturate. Shape [links]."""
    num_stage_ops: int
    """Ops that lanes run."""
    most_transfers: int
    """Most transfers of a batch."""
    plan: KeptPlan
    """The plan."""


def op_records(ints: dict[int, IntArray]) -> IntArray:
    """Return the fields of all ops. Shape [fields, ops]."""
    return ints[at.OPS].reshape(-1, at.OP_SIZE).T


def lower_plan(plan: KeptPlan) -> ArrayPlan:
    """Return a plan as arrays.

    Raises
    ------
    NotLoweredError
        The kernel cannot run it.
    """
    return _Lowering(plan).run()


# ---- private ------------------------------------------------------------------------------------------------------


class _Lowering:
    """A plan on its way to arrays."""

    def __init__(self, plan: KeptPlan) -> None:
        self.plan = plan
        num_stages, num_lanes, self.lane_size = plan.lane_ranks.shape
        running = list(range(num_lanes)) if plan.folding is None else plan.folding.running
        self.positions = [(stage, lane) for stage in range(num_stages) for lane in running]
        self.number = {position: i for i, position in enumerate(self.positions)}
        self.needs_ranks = plan.shares_compute or plan.num_sms is not None
        self.ops: list[Op] = []
        self.transfers: list[Transfer] = []
        self.steps: list[Step] = []
        self.passes: list[Pass] = []
        self.sends: list[Send] = []
        self.num_stage_ops = 0
        self._programs: dict[int, tuple[int, int, tuple[Op, ...]]] = {}
        self._known_transfers: dict[int, int] = {}
        self._keys: dict[tuple[int, tuple[int, str, int, int]], int] = {}
        self._step_table = Table(
            (at.STEP_FIRST_INPUT, at.STEP_END_INPUT, at.STEP_SIDE, at.STEP_NUM_SIDES, at.STEP_YIELDS)
        )
        self._side_table = Table((at.SIDE_FIRST_OP, at.SIDE_END_OP, at.SIDE_FIRST_PASS, at.SIDE_END_PASS))
        self._pass_table = Table((at.PASS_KIND, at.PASS_KEY, at.PASS_FIRST_SEND, at.PASS_END_SEND))
        self._send_table = Table((at.SEND_TARGET, at.SEND_KEY, at.SEND_BLOCKS))
        self._inputs: list[int] = []

    def run(self) -> ArrayPlan:
        """Return the plan as arrays."""
        orders = self._orders()
        inputs = [self._input_keys(position, steps) for position, steps in enumerate(orders)]
        self._plan_in_turn(orders)
        bounds = [self._lower_lane(position, *both) for position, both in enumerate(zip(orders, inputs, strict=True))]
        first_step, end_step = (np.array([bound[i] for bound in bounds], dtype=np.int64) for i in (0, 1))
        ops = OpColumns(self.ops, self._transfer_numbers, self.lane_size, needs_ranks=self.needs_ranks)
        tables = (self._step_table, self._side_table, self._pass_table, self._send_table)
        ints = ops.ints | {name: column for table in tables for name, column in table.columns().items()}
        ranks = np.array([self.plan.lane_ranks[position] for position in self.positions])
        ints |= {
            at.FIRST_STEP: first_step,
            at.END_STEP: end_step,
            at.LANE_RANKS: ranks.ravel(),
            at.INPUT_KEY: np.array(self._inputs, dtype=np.int64),
            at.SEND_TRANSFER: self._transfer_numbers([send.transfer for send in self.sends]),
        }
        network = NetworkColumns(self.plan, self.transfers)
        ints |= network.ints() | self._joint_columns(ops.joint, ranks)
        if self.plan.num_sms is None and ints[at.TRANSFER_SMS].any():
            raise NotLoweredError("transfers that take SMs of nobody knows how many are refused by SimPy's engine")
        return ArrayPlan(
            ints=ints,
            floats=network.floats(),
            scalars=self._scalars(ops),
            positions=self.positions,
            ops=self.ops,
            transfers=self.transfers,
            steps=self.steps,
            passes=self.passes,
            sends=self.sends,
            columns=network.links,
            num_stage_ops=self.num_stage_ops,
            most_transfers=_most_transfers(ints),
            plan=self.plan,
        )

    # ---- steps ---------------------------------------------------------------------------------------------------

    def _orders(self) -> list[list[Step]]:
        """Return the steps of each position."""
        schedules = {lane: self.plan.schedule(lane) for _, lane in self.positions}
        orders: list[list[Step]] = []
        for stage, lane in self.positions:
            schedule = schedules[lane]
            if not isinstance(schedule, FixedOrder):
                raise NotLoweredError("a schedule that decides while it runs is simulated by SimPy's engine alone")
            steps: list[Step] = []
            while (step := schedule.next_pass(stage, 0)) is not None:
                steps.append(step)
            if len(set(steps)) < len(steps):
                raise NotLoweredError("a schedule that runs a pass twice is simulated by SimPy's engine alone")
            orders.append(steps)
        return orders

    def _input_keys(self, position: int, steps: Sequence[Step]) -> list[list[int]]:
        """Return the numbers of what each step of a lane needs."""
        stage, keys = self.positions[position][0], self._keys
        return [
            [keys.setdefault((position, needed), len(keys)) for needed in self.plan.inputs(stage, step)]
            for step in steps
        ]

    def _plan_in_turn(self, orders: Sequence[Sequence[Step]]) -> None:
        """Let the plan answer the steps of all lanes in turn, about as a run does: it keeps what comes again soon."""
        for position in self.positions:
            self.plan.before_passes(*position)
        for i in range(max(map(len, orders), default=0)):
            for position, steps in zip(self.positions, orders, strict=True):
                if i < len(steps):
                    self.plan.ops(*position, steps[i])

    def _lower_lane(self, position: int, steps: Sequence[Step], inputs: Sequence[list[int]]) -> tuple[int, int]:
        """Add the steps of a lane, each with what it needs; return the first of them, and the end."""
        stage, lane = self.positions[position]
        first = len(self._step_table.rows)
        self._add_bare(self.plan.before_passes(stage, lane))
        for step, keys in zip(steps, inputs, strict=True):
            ops = self.plan.ops(stage, lane, step)
            sides = ops.sides if isinstance(ops, ConcurrentPasses) else ((step, ops),)
            self.num_stage_ops += sum(len(side) for _, side in sides)
            if len(sides) > 2:
                raise NotLoweredError("more than two concurrent passes are simulated by SimPy's engine alone")
            if isinstance(ops, ConcurrentPasses) and len(sides) < 2:
                raise NotLoweredError("a pair of one pass is simulated by SimPy's engine alone")
            first_side = len(self.steps)
            for of, side_ops in sides:
                self._add_side(position, of, side_ops)
            self._inputs += keys
            self._step_table.add(len(self._inputs) - len(keys), len(self._inputs), first_side, len(sides), 1)
        after = self.plan.after_passes(stage, lane)
        num_barriers = 0
        while num_barriers < len(after) and _is_barrier(after[num_barriers]):
            num_barriers += 1
        # a lane enters these at once: its host has nothing to issue
        self._add_bare(tuple(replace(op, issue_ns=None) for op in after[:num_barriers] if isinstance(op, Collective)))
        if after[num_barriers:]:
            side = self._add_side(position, _NO_PASS, after[num_barriers:])
            self._step_table.add(len(self._inputs), len(self._inputs), side, 1, 0)
        return first, len(self._step_table.rows)

    def _add_bare(self, ops: tuple[Op, ...]) -> None:
        """Add ops that belong to no pass."""
        if ops:
            bounds = self._program(ops)
            num_passes = len(self.passes)
            self.steps.append(_NO_PASS)
            side = self._side_table.add(*bounds, num_passes, num_passes)
            self._step_table.add(len(self._inputs), len(self._inputs), side, 1, 0)

    def _add_side(self, position: int, step: Step, ops: tuple[Op, ...]) -> int:
        """Add the ops of a step, or of one side of a pair, with its passes."""
        first_pass = len(self.passes)
        for pass_ in passes_of(step):
            self._add_pass(position, pass_)
        self.steps.append(step)
        return self._side_table.add(*self._program(ops), first_pass, len(self.passes))

    def _add_pass(self, position: int, pass_: Pass) -> None:
        stage, lane = self.positions[position]
        first_send, key = len(self.sends), -2
        if pass_.microbatch >= 0:
            key = self._keys.get((position, (stage, *pass_)), -1)
            for send in self.plan.sends(stage, lane, pass_):
                target = self.number[send.target]
                self._send_table.add(target, self._keys.get((target, send.key), -1), int(send.blocks))
                self.sends.append(send)
        self.passes.append(pass_)
        self._pass_table.add(KIND_CODE[pass_.kind], key, first_send, len(self.sends))

    # ---- ops -----------------------------------------------------------------------------------------------------

    def _program(self, ops: tuple[Op, ...]) -> tuple[int, int]:
        """Return where ops that run one after another begin and end; ops that were added before are found again."""
        known = self._programs.get(id(ops))
        if known is None:
            first = at.FIRST_OP + len(self.ops) * at.OP_SIZE
            self.ops += ops
            end = first + len(ops) * at.OP_SIZE
            known = self._programs[id(ops)] = (first, end, ops)  # kept, so that the id stays its own
        return known[0], known[1]

    def _transfer_numbers(self, transfers: Sequence[Transfer]) -> IntArray:
        """Return the numbers of transfers; each that is new is the next."""
        known = self._known_transfers
        for transfer in transfers:
            if id(transfer) not in known:
                known[id(transfer)] = len(known)
                self.transfers.append(transfer)
        return whole(known[id(transfer)] for transfer in transfers)

    # ---- columns -------------------------------------------------------------------------------------------------

    def _joint_columns(self, joint: dict[int, int], ranks: IntArray) -> dict[int, IntArray]:
        """Return which transfers of several lanes have which lanes in them."""
        rows = np.full(len(self.transfers), -1, dtype=np.int64)
        takes_part = np.zeros((len(joint), len(self.positions)), dtype=np.int64)
        if joint:
            home = np.full(int(self.plan.lane_ranks.max()) + 1, -1)
            for position, of_lane in enumerate(ranks):
                home[of_lane] = position
            for number, row in joint.items():
                rows[number] = row
                lanes = home[self.transfers[number].ranks]
                takes_part[row, lanes[lanes >= 0]] = 1
        return {at.JOINT_ROW: rows, at.TAKES_PART: takes_part.ravel()}

    def _scalars(self, ops: OpColumns) -> dict[int, int]:
        records = op_records(ops.ints)
        num_kernels = records[at.OP_END_KERNEL] - records[at.OP_FIRST_KERNEL]
        issued = num_kernels[records[at.OP_TYPE] == at.ISSUED_COMPUTE]
        return {
            at.NUM_POSITIONS: len(self.positions),
            at.NUM_STREAMS: len(ops.streams),
            at.NUM_LABELS: len(ops.labels),
            at.NUM_RANKS: self.lane_size,
            at.CLAIM_RANKS: max(self.lane_size, ops.most_served),
            at.MOST_KERNELS: int(issued.max(initial=0)),
            at.SHARES_COMPUTE: int(self.plan.shares_compute),
            at.NUM_SMS: self.plan.num_sms or 0,
            at.IS_FLOW: int(self.plan.fidelity == "flow"),
        }


def _most_transfers(ints: dict[int, IntArray]) -> int:
    """Return the most transfers of a batch: of an op, or of all ops of a rendezvous."""
    records = op_records(ints)
    collectives = records[:, records[at.OP_TYPE] == at.COLLECTIVE]
    sizes, meeting = collectives[at.OP_END_TRANSFER] - collectives[at.OP_FIRST_TRANSFER], collectives[at.OP_MEETING]
    together = np.bincount(meeting[meeting >= 0], weights=sizes[meeting >= 0], minlength=1)
    return max(int(sizes.max(initial=1)), int(together.max()))


def _is_barrier(op: Op) -> bool:
    return isinstance(op, Collective) and op.rendezvous is not None and op.rendezvous.is_barrier
