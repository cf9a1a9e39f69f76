"""The kernel's loop: events one after another, until none is left (`sim.engine.clock`)."""

from typing import Any

from sim.engine.compiled.events import give_back, pop, push
from sim.engine.compiled.lanes import deliver, go_on, go_on_all
from sim.engine.compiled.layout import *
from sim.engine.compiled.layout import FloatArray, IntArray
from sim.engine.compiled.ranks import change_sms, check_sms, drop_claim, stop_running
from sim.engine.compiled.sharing import advance_component, set_owner, solve_stale, split
from sim.engine.compiled.transfers import leave_alone, start_to_flow

__all__ = ["FUNCTIONS", "run", "run_arrays"]

_LAST_NS = 2**62  # as in `sim.engine.clock`


def end_batch(m: IntArray, f: FloatArray, batch: int) -> None:
    """Let those go on that wait for a batch whose transfers have all ended."""
    m[m[BATCH_WAITING] + batch] = -1
    if m[m[BATCH_SEND] + batch] >= 0:
        deliver(m, batch)
    go_on_all(m, f, m[m[BATCH_WAITER] + batch])


def finish(m: IntArray, f: FloatArray, place: int) -> None:
    """End a transfer."""
    transfer, batch = m[m[PLACE_TRANSFER] + place], m[m[PLACE_BATCH] + place]
    f[m[BYTES] + 1] += f[m[TOTAL_BYTES] + transfer]
    m[m[PLACE_END] + place] = m[NOW]
    if m[m[ENDED_COUNT] + transfer] == 0:
        m[m[ENDED_ORDER] + m[NUM_ENDED]] = transfer
        m[NUM_ENDED] += 1
    m[m[ENDED_COUNT] + transfer] += 1
    if m[m[TRANSFER_SMS] + transfer]:
        change_sms(m, transfer, m[m[TRANSFER_SMS] + transfer])
    m[m[BATCH_WAITING] + batch] -= 1
    if m[m[BATCH_WAITING] + batch] == 0:
        end_batch(m, f, batch)


def end_alone(m: IntArray, f: FloatArray, alone: int) -> None:
    """End transfers that nobody has met."""
    if m[m[ALONE_ALARM] + alone] != m[EVENT]:
        return  # they have met others since
    place = m[m[ALONE_HEAD] + alone]
    leave_alone(m, f, alone)
    while place >= 0:
        after = m[m[PLACE_NEXT] + place]
        finish(m, f, place)
        place = after


def end_some(m: IntArray, f: FloatArray, component: int) -> None:
    """End the members of a component that have less than 1 ns left, and let the others go on."""
    if m[m[COMPONENT_ALARM] + component] != m[EVENT]:
        return  # rates have changed since it was set
    advance_component(m, f, component)
    num_ended, member, last = 0, m[m[COMPONENT_HEAD] + component], -1
    m[m[COMPONENT_HEAD] + component] = -1
    while member >= 0:
        after = m[m[MEMBER_NEXT] + member]
        if f[m[REMAINING] + member] < f[m[RATE] + member] * 1e-9:
            m[m[ENDED_PLACE] + num_ended] = m[m[MEMBER_PLACE] + member]
            num_ended += 1
            set_owner(m, m[m[MEMBER_TRANSFER] + member], -1)
            give_back(m, member, MEMBER_NEXT, FREE_MEMBER, LEFT_MEMBER)
        else:
            if last < 0:
                m[m[COMPONENT_HEAD] + component] = member
            else:
                m[m[MEMBER_NEXT] + last] = member
            m[m[MEMBER_NEXT] + member] = -1
            last = member
        member = after
    split(m, f, component)
    for i in range(num_ended):
        finish(m, f, m[m[ENDED_PLACE] + i])


def end_claim(m: IntArray, f: FloatArray, claim: int) -> None:
    """End work on ranks whose kernels may be slowed, and let its program go on."""
    if m[m[CLAIM_ALARM] + claim] != m[EVENT]:
        return  # speeds have changed since it was set
    stop_running(m, claim)
    m[m[CLAIM_ALARM] + claim] = -1
    program, entry = m[m[CLAIM_PROGRAM] + claim], m[m[CLAIM_ENTRY] + claim]
    first, last = claim * m[CLAIM_RANKS], m[m[CLAIM_LAST] + claim]
    start_ns, end_ns = m[m[CLAIM_START] + first + last], m[m[CLAIM_END] + first + last]
    if m[m[CLAIM_SERVED] + claim] >= 0:
        if entry >= 0:
            served = m[m[CLAIM_SERVED] + claim]
            for place in range(m[m[CLAIM_SIZE] + claim]):
                m[m[SERVED_START] + served + place] = m[m[CLAIM_START] + first + place]
                m[m[SERVED_END] + served + place] = m[m[CLAIM_END] + first + place]
            m[m[ENTRY_END] + entry] = end_ns
            m[m[LAST_ROW] + program] = (entry << REFERENCE_BITS) + last
    elif entry >= 0 and (m[m[CLAIM_MOVED] + claim] or m[m[CLAIM_SPEED] + first + last] != m[NUM_SMS]):
        m[m[ENTRY_START] + entry], m[m[ENTRY_END] + entry], m[m[ENTRY_RANK] + entry] = start_ns, end_ns, last
        is_late = start_ns > m[m[CLAIM_AT] + claim]
        m[m[ENTRY_BY] + entry] = m[m[CLAIM_HOLDER] + first + last] if is_late else m[m[CLAIM_BY] + claim]
        log_speeds(m, claim, entry, first + last)
    drop_claim(m, claim)
    go_on(m, f, program)


def log_speeds(m: IntArray, claim: int, entry: int, at: int) -> None:
    """Keep the speeds at which the shown rank of a claim ran, from the last to the first."""
    since_ns, work, speed, past = (
        m[m[CLAIM_SINCE] + at],
        m[m[CLAIM_WORK] + at],
        m[m[CLAIM_SPEED] + at],
        m[m[CLAIM_PAST] + at],
    )
    while True:
        number = m[NUM_SPEEDS]
        m[NUM_SPEEDS] += 1
        m[m[SPEED_ENTRY] + number] = entry
        m[m[SPEED_SINCE] + number], m[m[SPEED_WORK] + number], m[m[SPEED_NOW] + number] = since_ns, work, speed
        if past < 0:
            return
        since_ns, work, speed = m[m[PAST_SINCE] + past], m[m[PAST_WORK] + past], m[m[PAST_SPEED] + past]
        past = m[m[PAST_NEXT] + past]


def process(m: IntArray, f: FloatArray) -> None:
    """Do what an event says."""
    kind, argument = m[WHAT] & ((1 << KIND_BITS) - 1), m[WHAT] >> KIND_BITS
    if kind == RESUME:
        go_on(m, f, argument)
    elif kind == ALONE_ENDS:
        end_alone(m, f, argument)
    elif kind == STARTS_TO_FLOW:
        start_to_flow(m, f, argument)
    elif kind == COMPONENT_ENDS:
        end_some(m, f, argument)
    elif kind == SOLVE:
        solve_stale(m, f)
    elif kind == CLAIM_ENDS:
        end_claim(m, f, argument)
    elif kind == SIDE_ENDED:
        m[m[NUM_SIDES_ENDED] + argument] += 1
        if m[m[NUM_SIDES_ENDED] + argument] == 2:
            push(m, m[NOW], NORMAL, RESUME, argument)
    elif kind == EMPTY_ENDS:
        end_batch(m, f, argument)
    elif kind == MEETING_BEGINS:
        go_on_all(m, f, m[m[MEETING_WAITER] + argument])
    elif kind == CHECK_SMS:
        check_sms(m, argument)
    elif kind == FLOWS_START or kind == OF_FLOWS:
        m[STATUS] = ASKS


def answer_flows(m: IntArray, f: FloatArray) -> None:
    """Make the events, and end the transfers, that the network of flows has answered."""
    num_events, num_ended, events = m[NUM_TO_MAKE], m[NUM_TO_END], m[TO_MAKE]
    m[NUM_TO_MAKE] = m[NUM_TO_END] = 0
    for i in range(num_events):
        push(m, m[events + 3 * i], m[events + 3 * i + 1], OF_FLOWS, m[events + 3 * i + 2])
    for i in range(num_ended):
        finish(m, f, m[m[ENDED_PLACE] + i])


def needs_memory(m: IntArray) -> bool:
    """Tell whether an event may fill a column."""
    margin = m[MARGIN]
    return bool(
        m[HEAP_SIZE] + margin > m[HEAP_LIMIT]
        or m[NUM_INTERVALS] + margin > m[INTERVAL_LIMIT]
        or m[NUM_SHARES] + margin > m[SHARE_LIMIT]
        or m[NUM_SPEEDS] + m[PAST_LIMIT] - m[LEFT_PAST] + margin > m[SPEED_LIMIT]
        or 4 * m[LEFT_PAST] < m[PAST_LIMIT]
    )


def run(m: IntArray, f: FloatArray) -> int:
    """Process events until none is left, the state has no room or an event is of flows; return the status."""
    m[STATUS] = RUNS
    answer_flows(m, f)
    while m[STATUS] == RUNS:
        if m[HEAP_SIZE] == 0:
            m[STATUS] = HAS_RUN
            break
        if needs_memory(m):
            m[STATUS] = NEEDS_MEMORY
            break
        before_ns = m[NOW]
        pop(m)
        process(m, f)
        m[NUM_EVENTS] += 1
        if m[NOW] != before_ns:
            m[MOVED_AT] = m[NUM_EVENTS]
        if m[NUM_EVENTS] - m[MOVED_AT] > m[MAX_STILL] or m[NUM_EVENTS] > m[MAX_EVENTS] or m[NOW] > _LAST_NS:
            m[STATUS] = GAVE_UP
    return int(m[STATUS])


def run_arrays(m: Any, f: Any) -> int:  # noqa: ANN401  # numba's own attribute of arrays
    """Do `run` on pointers to the first entries of two arrays: the entry of the compiled kernel alone."""
    return run(m.ctypes, f.ctypes)


FUNCTIONS = (
    end_batch,
    finish,
    end_alone,
    end_some,
    log_speeds,
    end_claim,
    process,
    answer_flows,
    needs_memory,
    run,
)
"""All functions, each after those that it calls: in this order they are compiled."""
