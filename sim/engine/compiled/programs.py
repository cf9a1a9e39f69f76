"""The kernel's programs: what runs ops one after another (`sim.engine.program`), and where it goes on.

A program is a lane, a side of a pair of passes, or a stream of a lane. SimPy's engine has a process for each; here a
program has a state, which says what it does when an event lets it go on.
"""

from sim.engine.compiled.events import describe, latest, note, push, wait_in_line
from sim.engine.compiled.layout import *
from sim.engine.compiled.layout import FloatArray, IntArray
from sim.engine.compiled.ranks import begin_claim, claim_rank, drop_claim, open_claim
from sim.engine.compiled.transfers import add_place, begin, open_batch

__all__ = ["FUNCTIONS"]


def count_tokens(m: IntArray, program: int, op: int) -> None:
    """Note an op whose tokens count."""
    number = m[NUM_COUNTED]
    m[NUM_COUNTED] += 1
    m[m[COUNTED_OP] + number] = op
    m[m[COUNTED_POSITION] + number] = m[m[POSITION] + program]
    m[m[COUNTED_SIDE] + number] = m[m[SIDE] + program]


def sleep(m: IntArray, program: int, until_ns: int) -> bool:
    """Let a program go on at a time; tell whether that is now."""
    if until_ns <= m[NOW]:
        return True
    push(m, until_ns, NORMAL, RESUME, program)
    return False


# ---- kernels ------------------------------------------------------------------------------------------------------


def duration_of(m: IntArray, op: int, first: int, end: int, place: int) -> int:
    """Return the time of some kernels of an op, on a rank of the lane."""
    if m[op + OP_FIRST_KERNEL] == first and m[op + OP_END_KERNEL] == end:
        rows = m[op + OP_DURATIONS]
        return int(m[op + OP_NS] if rows < 0 else m[m[DURATION_NS] + rows + place])
    total_ns = 0
    for kernel in range(first, end):
        rows = m[m[KERNEL_DURATIONS] + kernel]
        total_ns += m[m[KERNEL_NS] + kernel] if rows < 0 else m[m[DURATION_NS] + rows + place]
    return total_ns


def compute(m: IntArray, program: int, op: int, first: int, end: int) -> bool:
    """Run kernels `first` to before `end` of an op on the lane's ranks; tell whether they end now."""
    if m[op + OP_COUNTS] and first == m[op + OP_FIRST_KERNEL]:
        count_tokens(m, program, op)
    if m[NUM_SMS]:
        return compute_slowed(m, program, op, first, end)
    now_ns, is_even = m[NOW], m[op + OP_DURATIONS] < 0
    ranks = m[LANE_RANKS] + m[m[POSITION] + program] * m[NUM_RANKS]
    last, start_ns, end_ns, released_by = 0, now_ns, now_ns - 1, m[m[LAST_ROW] + program]
    duration_ns = duration_of(m, op, first, end, 0)
    if m[SHARES_COMPUTE]:
        for place in range(m[NUM_RANKS]):
            if not is_even:
                duration_ns = duration_of(m, op, first, end, place)
            free = m[RANK_FREE_NS] + m[ranks + place]
            begins_ns = max(m[free], now_ns)
            m[free] = begins_ns + duration_ns
            if m[free] > end_ns:
                last, start_ns, end_ns = place, begins_ns, m[free]
        if start_ns > now_ns:
            released_by = m[m[HOLDER] + m[ranks + last]]
    elif first == m[op + OP_FIRST_KERNEL] and end == m[op + OP_END_KERNEL]:
        last, end_ns = m[op + OP_SLOWEST], now_ns + m[op + OP_NS]
    elif is_even:
        end_ns = now_ns + duration_ns
    else:
        for place in range(m[NUM_RANKS]):
            duration_ns = duration_of(m, op, first, end, place)
            if now_ns + duration_ns > end_ns:
                last, end_ns = place, now_ns + duration_ns
    row = note_kernels(m, program, op, first, end, start_ns, end_ns, released_by, last)
    if m[SHARES_COMPUTE]:
        for place in range(m[NUM_RANKS]):
            m[m[HOLDER] + m[ranks + place]] = row
    m[m[LAST_ROW] + program] = row
    return sleep(m, program, end_ns)


def note_kernels(
    m: IntArray,
    program: int,
    op: int,
    first: int,
    end: int,
    start_ns: int,
    end_ns: int,
    released_by: int,
    place: int,
) -> int:
    """Record kernels of an op on the rank that ends last; return the reference of the last of them."""
    kind = m[op + OP_KIND]
    if end != m[op + OP_END_KERNEL]:
        kind = m[m[KERNEL_KIND] + end - 1]
    row = note(m, COMPUTE_ENTRY, kind, start_ns, end_ns, released_by)
    if row < 0:
        return row
    describe(m, row, program, m[m[SIDE] + program], op, first, end)
    m[m[ENTRY_RANK] + (row >> REFERENCE_BITS)] = place
    return row + end - first - 1


def compute_slowed(m: IntArray, program: int, op: int, first: int, end: int) -> bool:
    """Run kernels on ranks whose kernels slow down while transfers take SMs; tell whether they end now."""
    ranks = m[LANE_RANKS] + m[m[POSITION] + program] * m[NUM_RANKS]
    is_even, duration_ns = m[op + OP_DURATIONS] < 0, duration_of(m, op, first, end, 0)
    claim = open_claim(m, m[NUM_RANKS])
    for place in range(m[NUM_RANKS]):
        if not is_even:
            duration_ns = duration_of(m, op, first, end, place)
        claim_rank(m, claim, place, m[ranks + place], duration_ns)
    begin_claim(m, claim)
    at = claim * m[CLAIM_RANKS] + m[m[CLAIM_LAST] + claim]
    start_ns, end_ns, before = m[m[CLAIM_START] + at], m[m[CLAIM_END] + at], m[m[LAST_ROW] + program]
    released_by = m[m[CLAIM_HOLDER] + at] if start_ns > m[NOW] else before
    place = m[m[CLAIM_LAST] + claim]
    row = note_kernels(m, program, op, first, end, start_ns, end_ns, released_by, place)
    for place in range(m[NUM_RANKS]):
        m[m[HOLDER] + m[ranks + place]] = row
    m[m[LAST_ROW] + program] = row
    return await_claim(m, program, claim, row, before)


def await_claim(m: IntArray, program: int, claim: int, row: int, before: int) -> bool:
    """Let a program wait until a claim has ended; tell whether it has."""
    if m[m[CLAIM_ALARM] + claim] < 0:
        drop_claim(m, claim)
        return True
    m[m[CLAIM_ENTRY] + claim] = row >> REFERENCE_BITS if row >= 0 else -1
    m[m[CLAIM_PROGRAM] + claim] = program
    m[m[CLAIM_AT] + claim], m[m[CLAIM_BY] + claim] = m[NOW], before
    return False


def run_kernels(m: IntArray, program: int, op: int) -> bool:
    """Run kernels as the host issues them, in one piece as long as the host is ahead; tell whether all have ended."""
    issued, kernels = m[ISSUED_NS] + program * m[MOST_KERNELS], m[op + OP_FIRST_KERNEL]
    num_kernels = m[op + OP_END_KERNEL] - kernels
    while m[m[NEXT_KERNEL] + program] < num_kernels:
        first = m[m[NEXT_KERNEL] + program]
        if not sleep(m, program, m[issued + first]):
            return False
        reached_ns, end = m[NOW], first
        while end < num_kernels and m[issued + end] <= reached_ns:
            reached_ns += m[m[KERNEL_NS] + kernels + end]
            end += 1
        m[m[NEXT_KERNEL] + program] = end
        if not compute(m, program, op, kernels + first, kernels + end):
            return False
    return True


def host_work(m: IntArray, position: int, work_ns: int, not_before_ns: int) -> int:
    """Let the host of a lane work after all before, and not before a time; return the end."""
    at = m[HOST_FREE_NS] + position
    m[at] = max(m[at], not_before_ns) + work_ns
    return int(m[at])


def issue_kernels(m: IntArray, program: int, op: int) -> None:
    """Let the host issue the kernels of an op, one after another."""
    issued, kernels = m[ISSUED_NS] + program * m[MOST_KERNELS], m[op + OP_FIRST_KERNEL]
    for i in range(m[op + OP_END_KERNEL] - kernels):
        work_ns = m[m[KERNEL_ISSUE_NS] + kernels + i]
        m[issued + i] = host_work(m, m[m[POSITION] + program], work_ns, 0)
    m[m[NEXT_KERNEL] + program] = 0


# ---- services -----------------------------------------------------------------------------------------------------


def serve(m: IntArray, program: int, op: int) -> bool:
    """Queue expert kernels on ranks of any stage; tell whether there is none, or they end now."""
    count_tokens(m, program, op)
    first, end, num_served = m[op + OP_FIRST_RANK], m[op + OP_END_RANK], 0
    for at in range(first, end):
        num_served += int(m[m[SERVICE_NS] + at] > 0)
    if num_served == 0:
        return True
    if m[NUM_SMS]:
        return serve_slowed(m, program, op, num_served)
    now_ns, before, keeps, served = m[NOW], m[m[LAST_ROW] + program], m[KEEPS_ROWS], m[NUM_SERVED]
    row = m[NUM_ENTRIES] << REFERENCE_BITS if keeps else -1
    number, last, last_ns = 0, 0, -1
    for at in range(first, end):
        duration_ns, rank = m[m[SERVICE_NS] + at], m[m[SERVICE_RANK] + at]
        if duration_ns <= 0:
            continue
        start_ns = max(m[m[RANK_FREE_NS] + rank], now_ns)
        end_ns = start_ns + duration_ns
        if keeps:
            by = m[m[HOLDER] + rank] if start_ns > now_ns else before
            note_served(m, at - first, start_ns, end_ns, by)
            m[m[HOLDER] + rank] = row + number
        m[m[RANK_FREE_NS] + rank] = end_ns
        if end_ns > last_ns:
            last, last_ns = number, end_ns
        number += 1
    row = note(m, SERVICE_ENTRY, m[op + OP_KIND], now_ns, last_ns, before)
    describe(m, row, program, m[m[SIDE] + program], op, served, num_served)
    m[m[LAST_ROW] + program] = row + last if keeps else -1
    push(m, last_ns, NORMAL, RESUME, program)
    return False


def note_served(m: IntArray, place: int, start_ns: int, end_ns: int, released_by: int) -> None:
    """Record a kernel of a service, by its place in the op."""
    served = m[NUM_SERVED]
    m[NUM_SERVED] += 1
    m[m[SERVED_RANK] + served] = place
    m[m[SERVED_START] + served], m[m[SERVED_END] + served] = start_ns, end_ns
    m[m[SERVED_BY] + served] = released_by


def serve_slowed(m: IntArray, program: int, op: int, num_served: int) -> bool:
    """Queue expert kernels on ranks that may be slowed; tell whether they end now."""
    first, before, served, number = m[op + OP_FIRST_RANK], m[m[LAST_ROW] + program], m[NUM_SERVED], 0
    claim = open_claim(m, num_served)
    row = m[NUM_ENTRIES] << REFERENCE_BITS if m[KEEPS_ROWS] else -1
    for at in range(first, m[op + OP_END_RANK]):
        if m[m[SERVICE_NS] + at] <= 0:
            continue
        rank = m[m[SERVICE_RANK] + at]
        claim_rank(m, claim, number, rank, m[m[SERVICE_NS] + at])
        if m[KEEPS_ROWS]:
            own = claim * m[CLAIM_RANKS] + number
            start_ns, end_ns = m[m[CLAIM_START] + own], m[m[CLAIM_END] + own]
            note_served(m, at - first, start_ns, end_ns, m[m[HOLDER] + rank] if start_ns > m[NOW] else before)
            m[m[HOLDER] + rank] = row + number
        number += 1
    begin_claim(m, claim)
    last = m[m[CLAIM_LAST] + claim]
    end_ns = m[m[CLAIM_END] + claim * m[CLAIM_RANKS] + last]
    row = note(m, SERVICE_ENTRY, m[op + OP_KIND], m[NOW], end_ns, before)
    describe(m, row, program, m[m[SIDE] + program], op, served, num_served)
    m[m[CLAIM_SERVED] + claim] = served
    return await_claim(m, program, claim, row, before)


# ---- collectives --------------------------------------------------------------------------------------------------


def begin_collective(m: IntArray, f: FloatArray, program: int, op: int) -> None:
    """Begin the transfers of a collective, and let the program wait for them."""
    batch = open_batch(m)
    for at in range(m[OP_TRANSFER] + m[op + OP_FIRST_TRANSFER], m[OP_TRANSFER] + m[op + OP_END_TRANSFER]):
        add_place(m, batch, m[at])
    begin(m, f, batch)
    m[m[WAITS_FOR] + program] = batch
    m[m[STATE] + program] = NOTE_BATCH
    wait_in_line(m, m[BATCH_WAITER] + batch, program)


def note_batch(m: IntArray, program: int, op: int) -> None:
    """Record transfers of a lane alone that have ended."""
    batch = m[m[WAITS_FOR] + program]
    first, size = m[m[BATCH_FIRST] + batch], m[m[BATCH_SIZE] + batch]
    if size == 0:
        return
    ends, last = m[PLACE_END], 0
    for i in range(1, size):
        if m[ends + first + i] > m[ends + first + last]:
            last = i
    start_ns, end_ns = m[m[BATCH_START] + batch], m[ends + first + last]
    row = note(m, COLLECTIVE_ENTRY, m[op + OP_KIND], start_ns, end_ns, m[m[LAST_ROW] + program])
    describe(m, row, program, m[m[SIDE] + program], op, first, size)
    m[m[LAST_ROW] + program] = row + last if row >= 0 else -1


def enter_meeting(m: IntArray, f: FloatArray, program: int, op: int) -> bool:
    """Enter a rendezvous; the last to come starts the transfers of all. Tell whether the program goes on."""
    meeting, last_row = m[op + OP_MEETING], m[m[LAST_ROW] + program]
    number = m[m[MEETING_COUNT] + meeting]
    m[m[MEETING_COUNT] + meeting] += 1
    first = m[m[MEETING_FIRST] + meeting]
    m[m[MEETING_ROW] + first + number], m[m[MEETING_OP] + first + number] = last_row, op
    if number + 1 < m[m[MEETING_SIZE] + meeting]:
        m[NUM_BLOCKED] += 1
        m[m[STATE] + program] = MEETING_BEGUN
        wait_in_line(m, m[MEETING_WAITER] + meeting, program)
        return False
    batch = open_batch(m)
    for i in range(first, first + number + 1):
        entered = m[m[MEETING_OP] + i]
        for at in range(m[entered + OP_FIRST_TRANSFER], m[entered + OP_END_TRANSFER]):
            add_place(m, batch, m[m[OP_TRANSFER] + at])
    begin(m, f, batch)
    m[m[MEETING_BATCH] + meeting] = batch
    push(m, m[NOW], NORMAL, MEETING_BEGINS, meeting)
    return await_meeting(m, program, op)


def note_meeting(m: IntArray, program: int, op: int) -> None:
    """Record the transfers of a rendezvous in which the lane takes part."""
    batch, row, position = m[m[MEETING_BATCH] + m[op + OP_MEETING]], -1, m[m[POSITION] + program]
    first, start_ns = m[m[BATCH_FIRST] + batch], m[m[BATCH_START] + batch]
    released_by = m[m[MET_BY] + program]
    for place in range(first, first + m[m[BATCH_SIZE] + batch]):
        joint = m[m[JOINT_ROW] + m[m[PLACE_TRANSFER] + place]]
        if not m[m[TAKES_PART] + joint * m[NUM_POSITIONS] + position]:
            continue
        own = note(m, JOINT_ENTRY, m[op + OP_KIND], start_ns, m[m[PLACE_END] + place], released_by)
        describe(m, own, program, m[m[SIDE] + program], op, place, 0)
        row = latest(m, row, own)
    m[m[LAST_ROW] + program] = row if row >= 0 else released_by


def await_meeting(m: IntArray, program: int, op: int) -> bool:
    """Wait for the transfers of a rendezvous that has begun; tell whether they have ended."""
    meeting = m[op + OP_MEETING]
    first, released_by = m[m[MEETING_FIRST] + meeting], -1
    for i in range(first, first + m[m[MEETING_SIZE] + meeting]):
        released_by = latest(m, released_by, m[m[MEETING_ROW] + i])
    m[m[MET_BY] + program] = released_by
    m[m[STATE] + program] = NOTE_MEETING
    batch = m[m[MEETING_BATCH] + meeting]
    if m[m[BATCH_WAITING] + batch] < 0:
        note_meeting(m, program, op)
        return True
    wait_in_line(m, m[BATCH_WAITER] + batch, program)
    return False


# ---- streams ------------------------------------------------------------------------------------------------------


def start_on_stream(m: IntArray, program: int, op: int) -> None:
    """Start a collective after those that were started on its stream before."""
    position, stream = m[m[POSITION] + program], m[op + OP_STREAM]
    own = position * m[NUM_STREAMS] + stream
    started = m[NUM_STARTED]
    m[NUM_STARTED] += 1
    m[m[STARTED_OP] + started], m[m[STARTED_SIDE] + started] = op, m[m[SIDE] + program]
    m[m[STARTED_BY] + started], m[m[STARTED_ROW] + started] = m[m[LAST_ROW] + program], -1
    m[m[STARTED_NUMBER] + started] = m[m[STREAM_COUNT] + own]
    m[m[STREAM_COUNT] + own] += 1
    m[m[STARTED_NEXT] + started] = m[m[STARTED_WAITER] + started] = -1
    m[m[HAS_ENDED] + started] = 0
    if m[m[QUEUE_HEAD] + own] < 0:
        m[m[QUEUE_HEAD] + own] = started
    else:
        m[m[STARTED_NEXT] + m[m[QUEUE_TAIL] + own]] = started
    m[m[QUEUE_TAIL] + own] = started
    m[m[LAST_STARTED] + program * m[NUM_STREAMS] + stream] = started
    if m[op + OP_LABEL] >= 0:
        m[m[LABELLED] + position * m[NUM_LABELS] + m[op + OP_LABEL]] = started
    if not m[m[IS_OPEN] + own]:
        m[m[IS_OPEN] + own] = 1
        own_program = 3 * m[NUM_POSITIONS] + own
        m[m[STATE] + own_program] = NEXT_ON_STREAM
        push(m, m[NOW], URGENT, RESUME, own_program)


def await_stream(m: IntArray, program: int, op: int) -> bool:
    """Wait for a collective that was started on a stream; tell whether the program goes on with the next op."""
    label, position = m[op + OP_LABEL], m[m[POSITION] + program]
    if label < 0:
        started = m[m[LAST_STARTED] + program * m[NUM_STREAMS] + m[op + OP_STREAM]]
        if started < 0:
            return True
    else:
        started = m[m[LABELLED] + position * m[NUM_LABELS] + label]
        if started < 0:
            m[STATUS] = GAVE_UP
            return False
    m[m[WAITS_FOR] + program], m[m[SINCE_NS] + program] = started, m[NOW]
    if not m[m[HAS_ENDED] + started]:
        m[m[STATE] + program] = AWAITED
        wait_in_line(m, m[STARTED_WAITER] + started, program)
        return False
    go_on_after_stream(m, program)
    return True


def go_on_after_stream(m: IntArray, program: int) -> None:
    """Record the wait for a collective that has ended."""
    started, since_ns = m[m[WAITS_FOR] + program], m[m[SINCE_NS] + program]
    before = m[m[LAST_ROW] + program]
    if m[NOW] > since_ns:
        op = m[m[STARTED_OP] + started]
        row = note(m, AWAIT_ENTRY, m[op + OP_KIND], since_ns, m[NOW], before)
        describe(m, row, program, m[m[SIDE] + program], op, 0, 0)
    m[m[LAST_ROW] + program] = latest(m, before, m[m[STARTED_ROW] + started])


FUNCTIONS = (
    count_tokens,
    sleep,
    duration_of,
    note_kernels,
    await_claim,
    compute_slowed,
    compute,
    run_kernels,
    host_work,
    issue_kernels,
    note_served,
    serve_slowed,
    serve,
    begin_collective,
    note_batch,
    note_meeting,
    await_meeting,
    enter_meeting,
    start_on_stream,
    go_on_after_stream,
    await_stream,
)
"""All functions, each after those that it calls: in this order they are compiled."""
