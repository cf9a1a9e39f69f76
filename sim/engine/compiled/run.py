"""A plan in, a trace out, by the compiled kernel: the same as by `sim.engine.simulation`, to the nanosecond."""

import time
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sim.engine.clock import MAX_EVENTS
from sim.engine.compiled import layout as at
from sim.engine.compiled.arrays import ArrayPlan, KeptPlan, NotLoweredError, lower_plan, op_records
from sim.engine.compiled.compiler import RunKernel, compiled_run
from sim.engine.compiled.flows import KernelFlows
from sim.engine.compiled.layout import FREE_LISTS, Memory, build_memory
from sim.engine.compiled.record import Record
from sim.engine.optional_numba import NoNumbaError
from sim.engine.run_state import Plan
from sim.engine.simulation import EngineStats, Run, collector_paused, run_plan
from sim.engine.trace import LinkUse, Trace
from sim.errors import MoesimError

__all__ = ["STOPPED", "run_compiled", "run_kernel", "run_lowered", "step_time_ns"]

IntArray = NDArray[np.int64]
STOPPED: Final = "it cannot go on, and SimPy's engine says why"
"""Why the kernel ran no plan that does not end well: a deadlock, a dead link, an event budget."""
_MAX_STILL: Final = 1_000_000  # events at one time, as in `sim.engine.clock`


def run_compiled(
    plan: Plan,
    *,
    max_events: int = MAX_EVENTS,
    link_timeline: bool = True,
    keep_ended: bool = False,
    links: bool = True,
    kernel: RunKernel | None = None,
) -> Run:
    """Run a plan by the compiled kernel, or by SimPy's engine what the kernel cannot run; the record says which.

    The arguments are those of `run_plan`, and a kernel to run it with; None: the compiled one.

    Raises
    ------
    SimulationError
        As `run_plan` does, in the same words: what does not end well is run again by SimPy's engine.
    """
    kept, options = KeptPlan(plan), {"link_timeline": link_timeline, "keep_ended": keep_ended, "links": links}
    try:
        with collector_paused():
            return run_kernel(kept, kernel or compiled_run(), max_events=max_events, **options)
    except (NotLoweredError, NoNumbaError) as error:
        why = str(error)
    except MoesimError:
        why = "the plan is refused"
    run = run_plan(kept, max_events=max_events, **options)
    return replace(run, stats=replace(run.stats, why_not_compiled=why))


def step_time_ns(plan: Plan, kernel: RunKernel | None = None) -> int:
    """Return how long the step of a plan takes, and nothing else: no trace is kept, which is what takes longest.

    Parameters
    ----------
    plan
        What is to be run.
    kernel
        The kernel, interpreted or compiled; None: compiled.

    Raises
    ------
    SimulationError
        As `run_plan` does.
    """
    kept = KeptPlan(plan)
    try:
        with collector_paused():
            arrays = lower_plan(kept)
            m = run_lowered(arrays, kernel or compiled_run(), keeps_rows=False).m
        return max(0, int(m[at.LAST_NS] - m[at.FIRST_NS]))
    except (NotLoweredError, NoNumbaError):
        return run_plan(kept, link_timeline=False).trace.step_ns


def run_kernel(
    plan: KeptPlan,
    kernel: RunKernel,
    *,
    max_events: int = MAX_EVENTS,
    link_timeline: bool = True,
    keep_ended: bool = False,
    links: bool = True,
) -> Run:
    """Run a plan to its end, as `run_plan` does.

    Raises
    ------
    NotLoweredError
        The kernel cannot run the plan, or gave up: SimPy's engine says why.
    """
    began = time.perf_counter()
    _ = plan.folding  # the plan finds it at the first access
    arrays = lower_plan(plan)
    flows = KernelFlows(arrays) if arrays.scalars[at.IS_FLOW] else None
    memory = run_lowered(arrays, kernel, max_events=max_events, flows=flows)
    record = Record(plan, arrays, memory)
    columns, joint_rows = record.rows()
    tokens = record.tokens()
    tokens_computed, imbalance = tokens.sums()
    wall_s = time.perf_counter() - began - plan.plan_wall_s
    num_stages, num_lanes, _ = plan.lane_ranks.shape
    trace = Trace(
        columns=columns,
        num_stages=num_stages,
        num_lanes=num_lanes,
        lane_ranks=plan.lane_ranks,
        lane_of=None if plan.folding is None else plan.folding.lane_of,
        joint_rows=joint_rows,
        link_use=(
            (record if flows is None else flows).link_use(with_timeline=link_timeline)
            if links
            else LinkUse.unknown(plan.capacity_bytes_per_s, plan.link_names, plan.link_kinds)
        ),
    )
    sent, received = memory.floats(at.BYTES).tolist()
    return Run(
        trace=trace,
        stats=EngineStats(
            wall_s=wall_s,
            plan_wall_s=plan.plan_wall_s,
            num_events=int(memory.m[at.NUM_EVENTS]),
            num_solves=int(memory.m[at.NUM_SOLVES]) if flows is None else flows.num_solves,
            num_stage_ops=arrays.num_stage_ops,
            num_spans=len(trace),
            is_compiled=True,
        ),
        tokens_routed=tokens.routed,
        tokens_computed=tokens_computed,
        tokens_dropped=tokens.dropped,
        tokens_padded=tokens.padded,
        tokens_rerouted=tokens.rerouted,
        imbalance_max_over_mean=imbalance,
        tokens_received=tokens.received(),
        tokens_sent=tokens.sent(),
        exchange_skew=tokens.exchange_skew(),
        bytes_sent=sent,
        bytes_received=received,
        num_ended=record.num_ended() if keep_ended else {},
    )


def run_lowered(
    arrays: ArrayPlan,
    kernel: RunKernel,
    *,
    max_events: int = MAX_EVENTS,
    keeps_rows: bool = True,
    flows: KernelFlows | None = None,
) -> Memory:
    """Run the kernel on a lowered plan to its end, and give it memory when it needs more.

    Its flows, where it has any, are moved by `flows`; None: by a network that nobody sees.

    Raises
    ------
    NotLoweredError
        It gave up, or a lane still waits.
    """
    memory = _first_state(arrays, max_events, keeps_rows=keeps_rows)
    if flows is None and arrays.scalars[at.IS_FLOW]:
        flows = KernelFlows(arrays)
    while (status := kernel(memory.m, memory.f)) in (at.NEEDS_MEMORY, at.ASKS):
        if status == at.NEEDS_MEMORY:
            memory = _with_more(memory)
        elif flows is not None:
            flows.answer(memory.m)
    if status != at.HAS_RUN or memory.m[at.NUM_BLOCKED] or memory.column(at.IS_ASLEEP).any():
        raise NotLoweredError(STOPPED)
    return memory


# ---- private ------------------------------------------------------------------------------------------------------


def _first_state(arrays: ArrayPlan, max_events: int, *, keeps_rows: bool) -> Memory:
    """Return the state in which a run begins."""
    sizes = _sizes(arrays, keeps_rows=keeps_rows)
    memory = build_memory(sizes)
    m = memory.m
    for name, value in arrays.scalars.items():
        m[name] = value
    m[m[at.FIRST_COLUMN] : m[at.STATE]] = np.concatenate([arrays.ints[name] for name in _OF_PLAN])
    memory.f[: m[at.BYTES]] = np.concatenate([arrays.floats[name] for name in _FLOATS_OF_PLAN])
    m[at.MAX_EVENTS], m[at.MAX_STILL], m[at.KEEPS_ROWS] = max_events, _MAX_STILL, int(keeps_rows)
    m[at.MOVED_AT], m[at.FIRST_NS] = 1, 2**62
    m[at.MARGIN], m[at.HEAP_LIMIT] = _margin(arrays), sizes[at.HEAP_TIME]
    m[at.INTERVAL_LIMIT], m[at.SHARE_LIMIT] = sizes[at.INTERVAL_START], sizes[at.SHARE_TRANSFER]
    m[at.SPEED_LIMIT], m[at.PAST_LIMIT] = sizes[at.SPEED_ENTRY], sizes[at.PAST_NEXT]
    for links, head, left in FREE_LISTS:
        memory.column(links)[:-1] = np.arange(1, sizes[links])
        memory.column(links)[-1] = -1
        m[head], m[left] = 0, sizes[links]
    num_positions = arrays.scalars[at.NUM_POSITIONS]
    num_streams = arrays.scalars[at.NUM_STREAMS]
    position = np.arange(num_positions)
    memory.column(at.POSITION)[:] = np.concatenate([position, np.repeat(position, 2), np.repeat(position, num_streams)])
    for name in _NOTHING_AT_FIRST:
        memory.column(name)[:] = -1
    memory.column(at.ARRIVED)[:] = -2
    memory.column(at.NEXT_STEP)[:] = arrays.ints[at.FIRST_STEP]
    memory.column(at.SMS_LEFT)[:] = arrays.scalars[at.NUM_SMS]
    _let_lanes_begin(memory, num_positions)
    return memory


_OF_PLAN, _FLOATS_OF_PLAN = range(at.FIRST_COLUMN, at.STATE), range(at.FLOW_BYTES, at.BYTES)
_NOTHING_AT_FIRST: Final = (
    at.LAST_ROW,
    at.LAST_STARTED,
    at.QUEUE_HEAD,
    at.STREAM_ROW,
    at.LABELLED,
    at.MEETING_WAITER,
    at.OWNER,
    at.HOLDER,
)


def _let_lanes_begin(memory: Memory, num_positions: int) -> None:
    """Make the events in which lanes begin: each in its turn, at time 0, which is a heap as it stands."""
    numbers = np.arange(num_positions)
    memory.column(at.HEAP_TIME, num_positions)[:] = 0
    memory.column(at.HEAP_KEY, num_positions)[:] = (at.URGENT << at.PRIORITY_BITS) | numbers
    memory.column(at.HEAP_WHAT, num_positions)[:] = (numbers << at.KIND_BITS) | at.RESUME
    memory.m[at.HEAP_SIZE] = memory.m[at.NEXT_EVENT] = num_positions


def _with_more(memory: Memory) -> Memory:
    """Return the same state with columns twice as long where an event may fill them."""
    sizes, old = memory.sizes.copy(), int(memory.sizes[at.PAST_NEXT])
    for names in _GROWING:
        sizes[names] *= 2
    bigger = memory.grown(sizes)
    m = bigger.m
    for name, column in (
        (at.HEAP_LIMIT, at.HEAP_TIME),
        (at.INTERVAL_LIMIT, at.INTERVAL_START),
        (at.SHARE_LIMIT, at.SHARE_TRANSFER),
        (at.PAST_LIMIT, at.PAST_NEXT),
        (at.SPEED_LIMIT, at.SPEED_ENTRY),
    ):
        m[name] = sizes[column]
    chain = bigger.column(at.PAST_NEXT)
    chain[old:] = np.append(np.arange(old + 1, 2 * old), m[at.FREE_PAST])
    m[at.FREE_PAST] = old
    m[at.LEFT_PAST] += old
    return bigger


def _most_flowing(arrays: ArrayPlan) -> int:
    """Return the most transfers that may be on their way at a time: those of all programs, and all sends."""
    return _num_programs(arrays) * arrays.most_transfers + _num_sends(arrays)


def _num_programs(arrays: ArrayPlan) -> int:
    return arrays.scalars[at.NUM_POSITIONS] * (3 + arrays.scalars[at.NUM_STREAMS])


def _num_sends(arrays: ArrayPlan) -> int:
    return len(arrays.sends)


def _margin(arrays: ArrayPlan) -> int:
    """Return how many rows one event may add to a column."""
    return 64 + 8 * _num_programs(arrays) + 2 * _most_flowing(arrays)


def _of_sides(arrays: ArrayPlan, *per_op: NDArray[np.int64 | np.bool_]) -> list[int]:
    """Return the sums of figures of ops over all sides, which may share ops."""
    sums = np.zeros((len(per_op), len(arrays.ops) + 1), dtype=np.int64)
    np.cumsum(per_op, axis=1, out=sums[:, 1:])
    first, end = (at.op_number(arrays.ints[name]) for name in (at.SIDE_FIRST_OP, at.SIDE_END_OP))
    whole: list[int] = (sums[:, end] - sums[:, first]).sum(1).tolist()
    return whole


def _sizes(arrays: ArrayPlan, *, keeps_rows: bool) -> IntArray:
    """Return the length of each column."""
    ints, scalars = arrays.ints, arrays.scalars
    ops = op_records(ints)
    lengths, types = ops[at.OP_END_KERNEL] - ops[at.OP_FIRST_KERNEL], ops[at.OP_TYPE]
    is_collective, is_service, most = types == at.COLLECTIVE, types == at.SERVE, arrays.most_transfers
    is_joint, is_on_stream = (is_collective & (ops[name] >= 0) for name in (at.OP_MEETING, at.OP_STREAM))
    entries = np.where(types == at.ISSUED_COMPUTE, lengths, np.where(is_joint, most, 1))
    counts = ops[at.OP_COUNTS] * (is_service | (types == at.COMPUTE) | (types == at.ISSUED_COMPUTE))
    num_sends, flowing, programs = _num_sends(arrays), _most_flowing(arrays), _num_programs(arrays)
    num_batches, num_places, num_started, num_entries, num_counted, num_served = _of_sides(
        arrays, is_collective, is_collective * lengths, is_on_stream, entries, counts, is_service * lengths
    )
    num_batches, num_places = num_batches + num_sends, num_places + num_sends
    num_entries += len(arrays.passes) + num_sends
    margin, num_ranks = _margin(arrays), int(ints[at.LANE_RANKS].max(initial=0)) + 1
    num_ranks = max(num_ranks, int(ints[at.SERVICE_RANK].max(initial=0)) + 1, int(ints[at.SM_RANK].max(initial=0)) + 1)
    num_claims = programs if scalars[at.NUM_SMS] else 1
    num_links = arrays.columns.size
    past = 4096 + 64 * num_ranks if scalars[at.NUM_SMS] else 4
    streams, positions = scalars[at.NUM_STREAMS], scalars[at.NUM_POSITIONS]
    sizes = np.zeros(at.NUM_HEADER, dtype=np.int64)
    sizes[at.FIRST_COLUMN : at.STATE] = [ints[name].size for name in _OF_PLAN]
    sizes[at.FLOW_BYTES : at.BYTES] = [arrays.floats[name].size for name in _FLOATS_OF_PLAN]
    for first, end, size in (
        (at.STATE, at.LAST_STARTED, programs),
        (at.LAST_STARTED, at.ISSUED_NS, programs * streams),
        (at.ISSUED_NS, at.NEXT_STEP, programs * scalars[at.MOST_KERNELS]),
        (at.NEXT_STEP, at.ARRIVED, positions),
        (at.ARRIVED, at.QUEUE_HEAD, int(ints[at.INPUT_KEY].max(initial=-1)) + 1),
        (at.QUEUE_HEAD, at.LABELLED, positions * streams),
        (at.LABELLED, at.MEETING_COUNT, positions * scalars[at.NUM_LABELS]),
        (at.MEETING_COUNT, at.MEETING_ROW, ints[at.MEETING_SIZE].size),
        (at.MEETING_ROW, at.GROUP_HEAD, int(ints[at.MEETING_SIZE].sum())),
        (at.GROUP_HEAD, at.ALONE_HEAD, most),
        (at.ALONE_HEAD, at.TO_MAKE, flowing + 1),
        (at.TO_MAKE, at.KNOWN_SET, 3 * (flowing + 1)),
        (at.KNOWN_SET, at.OWNER, at.NUM_KNOWN * (at.MOST_KNOWN + 1)),
        (at.OWNER, at.LINK_STAMP, int(ints[at.CLASS].max(initial=-1)) + 1),
        (at.LINK_STAMP, at.ENDED_COUNT, num_links),
        (at.ENDED_COUNT, at.RANK_FREE_NS, len(arrays.transfers)),
        (at.RANK_FREE_NS, at.CLAIM_SIZE, num_ranks),
        (at.CLAIM_SIZE, at.CLAIM_RANK, num_claims),
        (at.CLAIM_RANK, at.PAST_SINCE, num_claims * scalars[at.CLAIM_RANKS]),
        (at.PAST_SINCE, at.HEAP_TIME, past),
        (at.HEAP_TIME, at.STARTED_OP, 4 * margin),
        (at.STARTED_OP, at.BATCH_START, num_started),
        (at.BATCH_START, at.PLACE_TRANSFER, num_batches),
        (at.PLACE_TRANSFER, at.ENTRY_TYPE, num_places),
        (at.ENTRY_TYPE, at.COUNTED_OP, num_entries if keeps_rows else 0),
        (at.COUNTED_OP, at.SERVED_RANK, num_counted),
        (at.SERVED_RANK, at.INTERVAL_START, num_served if keeps_rows else 0),
        (at.INTERVAL_START, at.SHARE_TRANSFER, 2 * num_places + 4 * margin if keeps_rows else margin),
        (at.SHARE_TRANSFER, at.SPEED_ENTRY, 6 * num_places + 4 * margin if keeps_rows else margin),
        (at.SPEED_ENTRY, at.FLOW_BYTES, 2 * past + 4 * margin),
        (at.BYTES, at.REMAINING, 2),
        (at.REMAINING, at.WANTED, flowing + 1),
        (at.WANTED, at.KNOWN_RATE, num_links),
    ):
        sizes[first:end] = size
    sizes[at.KNOWN_RATE], sizes[at.SHARE_RATE] = sizes[at.KNOWN_SET], sizes[at.SHARE_TRANSFER]
    return sizes


_GROWING: Final = (
    slice(at.PAST_SINCE, at.HEAP_TIME),
    slice(at.HEAP_TIME, at.STARTED_OP),
    slice(at.INTERVAL_START, at.FLOW_BYTES),
    at.SHARE_RATE,
)
"""Columns that an event may fill."""
