"""A plan in, a trace out, by the compiled kernel: the same as by `sim.engine.simulation`, to the nanosecond."""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sim.engine.clock import MAX_EVENTS
from sim.engine.compiled import layout as at
from sim.engine.compiled.arrays import ArrayPlan, KeptPlan, NotLoweredError, lower_plan
from sim.engine.compiled.compiler import RunKernel, compiled_run, has_numba
from sim.engine.compiled.flows import KernelFlows
from sim.engine.compiled.layout import FREE_LISTS, Memory, build_memory
from sim.engine.compiled.record import Record
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
    if kernel is None and not has_numba():
        why = "numba is not installed: pip install 'moesim[fast]'"
    else:
        try:
            with collector_paused():
                return run_kernel(kept, kernel or compiled_run(), max_events=max_events, **options)
        except NotLoweredError as error:
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
    except NotLoweredError:
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
    for columns, read in ((arrays.ints, memory.column), (arrays.floats, memory.floats)):
        values = np.concatenate([*columns.values()])  # columns of the plan come first, in this order
        read(next(iter(columns)), values.size)[:] = values
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
    sizes = memory.sizes
    bigger = memory.grown({name: 2 * sizes[name] for name in (*_HEAP, *_INTERVAL, *_SHARE, *_PAST, *_SPEED)})
    m = bigger.m
    for name, column in (
        (at.HEAP_LIMIT, at.HEAP_TIME),
        (at.INTERVAL_LIMIT, at.INTERVAL_START),
        (at.SHARE_LIMIT, at.SHARE_TRANSFER),
        (at.PAST_LIMIT, at.PAST_NEXT),
        (at.SPEED_LIMIT, at.SPEED_ENTRY),
    ):
        m[name] = bigger.sizes[column]
    old = sizes[at.PAST_NEXT]
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
    whole: list[int] = (sums[:, arrays.ints[at.SIDE_END_OP]] - sums[:, arrays.ints[at.SIDE_FIRST_OP]]).sum(1).tolist()
    return whole


def _sizes(arrays: ArrayPlan, *, keeps_rows: bool) -> Mapping[int, int]:
    """Return the length of each column."""
    ints, scalars = arrays.ints, arrays.scalars
    types = ints[at.OP_TYPE]
    transfers = ints[at.OP_END_TRANSFER] - ints[at.OP_FIRST_TRANSFER]
    kernels = ints[at.OP_END_KERNEL] - ints[at.OP_FIRST_KERNEL]
    is_collective, most = types == at.COLLECTIVE, arrays.most_transfers
    is_joint, is_on_stream = (is_collective & (ints[name] >= 0) for name in (at.OP_MEETING, at.OP_STREAM))
    entries = np.where(types == at.ISSUED_COMPUTE, kernels, np.where(is_joint, most, 1))
    served = ints[at.OP_END_RANK] - ints[at.OP_FIRST_RANK]
    num_sends, flowing, programs = _num_sends(arrays), _most_flowing(arrays), _num_programs(arrays)
    num_batches, num_places, num_started, num_entries, num_counted, num_served = _of_sides(
        arrays, is_collective, transfers, is_on_stream, entries, ints[at.OP_COUNTS], served
    )
    num_batches, num_places = num_batches + num_sends, num_places + num_sends
    num_entries += len(arrays.passes) + num_sends
    margin, num_ranks = _margin(arrays), int(ints[at.LANE_RANKS].max(initial=0)) + 1
    num_ranks = max(num_ranks, int(ints[at.SERVICE_RANK].max(initial=0)) + 1, int(ints[at.SM_RANK].max(initial=0)) + 1)
    num_claims = programs if scalars[at.NUM_SMS] else 1
    num_links, claim_places = arrays.columns.size, num_claims * scalars[at.CLAIM_RANKS]
    num_meetings = ints[at.MEETING_SIZE].size
    past = 4096 + 64 * num_ranks if scalars[at.NUM_SMS] else 4
    groups: list[tuple[int, tuple[int, ...]]] = [
        *((values.size, (name,)) for name, values in (*ints.items(), *arrays.floats.items())),
        (4 * margin, _HEAP),
        (programs, _PROGRAM),
        (programs * scalars[at.NUM_STREAMS], (at.LAST_STARTED,)),
        (programs * scalars[at.MOST_KERNELS], (at.ISSUED_NS,)),
        (scalars[at.NUM_POSITIONS], _POSITION),
        (int(ints[at.INPUT_KEY].max(initial=-1)) + 1, (at.ARRIVED,)),
        (scalars[at.NUM_POSITIONS] * scalars[at.NUM_STREAMS], _STREAM),
        (scalars[at.NUM_POSITIONS] * scalars[at.NUM_LABELS], (at.LABELLED,)),
        (num_started, _STARTED),
        (num_meetings, (at.MEETING_COUNT, at.MEETING_BATCH, at.MEETING_WAITER)),
        (int(ints[at.MEETING_SIZE].sum()), (at.MEETING_ROW, at.MEETING_OP)),
        (num_batches, _BATCH),
        (num_places, _PLACE),
        (most, (at.GROUP_HEAD, at.GROUP_TAIL, at.GROUP_IS_APART)),
        (flowing + 1, _FLOWING),
        (ints[at.CLASS].max(initial=-1) + 1, (at.OWNER, at.CLASS_STAMP, at.CLASS_PIECE)),
        (num_links, _LINK),
        (len(arrays.transfers), (at.ENDED_COUNT, at.ENDED_ORDER)),
        (num_ranks, (at.RANK_FREE_NS, at.HOLDER, at.SMS_LEFT, at.RANK_STAMP)),
        (num_claims, _CLAIM),
        (claim_places, _CLAIM_PLACE),
        (past, _PAST),
        (2 * past + 4 * margin, _SPEED),
        (num_entries if keeps_rows else 0, _ENTRY),
        (num_counted, (at.COUNTED_OP, at.COUNTED_POSITION, at.COUNTED_SIDE)),
        (num_served if keeps_rows else 0, _SERVED),
        (2 * num_places + 4 * margin if keeps_rows else margin, _INTERVAL),
        (6 * num_places + 4 * margin if keeps_rows else margin, _SHARE),
        (at.NUM_KNOWN * (at.MOST_KNOWN + 1), (at.KNOWN_SET, at.KNOWN_RATE)),
        (3 * (flowing + 1), (at.TO_MAKE,)),
        (2, (at.BYTES,)),
    ]
    return {name: size for size, names in groups for name in names}


_HEAP: Final = (at.HEAP_TIME, at.HEAP_KEY, at.HEAP_WHAT)
_PROGRAM: Final = (
    at.STATE,
    at.POSITION,
    at.SIDE,
    at.NEXT_OP,
    at.NEXT_PASS,
    at.NEXT_SEND,
    at.OPENED_NS,
    at.OPENED_BY,
    at.LAST_ROW,
    at.MET_BY,
    at.WAITS_FOR,
    at.SINCE_NS,
    at.NEXT_WAITER,
    at.NEXT_KERNEL,
    at.CURRENT,
)
_POSITION: Final = (at.NEXT_STEP, at.NEXT_INPUT, at.IS_ASLEEP, at.NUM_SIDES_ENDED, at.HOST_FREE_NS)
_STREAM: Final = (at.QUEUE_HEAD, at.QUEUE_TAIL, at.IS_OPEN, at.STREAM_ROW, at.STREAM_COUNT)
_STARTED: Final = (
    at.STARTED_OP,
    at.STARTED_SIDE,
    at.STARTED_BY,
    at.STARTED_ROW,
    at.STARTED_NUMBER,
    at.STARTED_NEXT,
    at.HAS_ENDED,
    at.STARTED_WAITER,
)
_BATCH: Final = (
    at.BATCH_START,
    at.BATCH_FIRST,
    at.BATCH_SIZE,
    at.BATCH_WAITING,
    at.BATCH_WAITER,
    at.BATCH_SEND,
    at.BATCH_PASS,
    at.BATCH_PROGRAM,
    at.BATCH_BY,
)
_PLACE: Final = (at.PLACE_TRANSFER, at.PLACE_BATCH, at.PLACE_END, at.PLACE_NEXT)
_FLOWING: Final = (
    at.ALONE_HEAD,
    at.ALONE_SINCE,
    at.ALONE_ALARM,
    at.ALONE_NUMBER,
    at.ALONE_NEXT,
    at.COMPONENT_HEAD,
    at.COMPONENT_TAIL,
    at.COMPONENT_LAST,
    at.COMPONENT_ALARM,
    at.COMPONENT_NUMBER,
    at.COMPONENT_SOLVED,
    at.IS_STALE,
    at.COMPONENT_NEXT,
    at.MEMBER_PLACE,
    at.MEMBER_TRANSFER,
    at.MEMBER_NEXT,
    at.STALE,
    at.STALE_NUMBER,
    at.MET_ALONE,
    at.MET_COMPONENT,
    at.FREE_MEMBERS,
    at.STOPPED,
    at.ENDED_PLACE,
    at.PIECE_HEAD,
    at.PIECE_TAIL,
    at.PIECE_PARENT,
    at.REMAINING,
    at.RATE,
)
_LINK: Final = (
    at.LINK_STAMP,
    at.USED_LINKS,
    at.WANTED,
    at.USED,
    at.TAKEN,
)
_CLAIM: Final = (
    at.CLAIM_SIZE,
    at.CLAIM_LAST,
    at.CLAIM_LAST_NS,
    at.CLAIM_ALARM,
    at.CLAIM_MOVED,
    at.CLAIM_PROGRAM,
    at.CLAIM_ENTRY,
    at.CLAIM_AT,
    at.CLAIM_BY,
    at.CLAIM_SERVED,
    at.CLAIM_NEXT,
    at.RUNNING,
    at.MET_CLAIM,
)
_CLAIM_PLACE: Final = (
    at.CLAIM_RANK,
    at.CLAIM_START,
    at.CLAIM_END,
    at.CLAIM_WORK,
    at.CLAIM_SPEED,
    at.CLAIM_SINCE,
    at.CLAIM_HOLDER,
    at.CLAIM_TOUCHED,
    at.CLAIM_PAST,
)
_PAST: Final = (at.PAST_SINCE, at.PAST_WORK, at.PAST_SPEED, at.PAST_NEXT)
_SPEED: Final = (at.SPEED_ENTRY, at.SPEED_SINCE, at.SPEED_WORK, at.SPEED_NOW)
_ENTRY: Final = (
    at.ENTRY_TYPE,
    at.ENTRY_OP,
    at.ENTRY_POSITION,
    at.ENTRY_SIDE,
    at.ENTRY_START,
    at.ENTRY_END,
    at.ENTRY_KIND,
    at.ENTRY_BY,
    at.ENTRY_RANK,
    at.ENTRY_X,
    at.ENTRY_Y,
)
_SERVED: Final = (at.SERVED_RANK, at.SERVED_START, at.SERVED_END, at.SERVED_BY)
_INTERVAL: Final = (
    at.INTERVAL_START,
    at.INTERVAL_END,
    at.INTERVAL_FIRST,
    at.INTERVAL_SOLVED,
)
_SHARE: Final = (at.SHARE_TRANSFER, at.SHARE_RATE)
