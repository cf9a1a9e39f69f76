"""The kernel's ranks whose kernels slow down while transfers take SMs (`sim.engine.slowed_compute`)."""

from sim.engine.compiled.events import give_back, push, take
from sim.engine.compiled.layout import *
from sim.engine.compiled.layout import IntArray

__all__ = ["FUNCTIONS"]

_MOST_WORK = 2**62  # as in `sim.engine.slowed_compute`


def speed_of(m: IntArray, rank: int) -> int:
    """Return the SMs that kernels of a rank have now."""
    return int(max(m[m[SMS_LEFT] + rank], 1))


def claim_rank(m: IntArray, claim: int, place: int, rank: int, duration_ns: int) -> None:
    """Queue work on a rank that may be slowed: the claim's own at `place`."""
    at = claim * m[CLAIM_RANKS] + place
    free_ns = m[RANK_FREE_NS] + rank
    if duration_ns > _MOST_WORK // m[NUM_SMS]:
        m[STATUS] = GAVE_UP
        return
    start_ns, work, speed = max(m[free_ns], m[NOW]), duration_ns * m[NUM_SMS], speed_of(m, rank)
    end_ns = start_ns - (-work // speed)
    m[m[CLAIM_RANK] + at] = rank
    m[m[CLAIM_START] + at] = start_ns
    m[m[CLAIM_END] + at] = end_ns
    m[m[CLAIM_WORK] + at] = work
    m[m[CLAIM_SPEED] + at] = speed
    m[m[CLAIM_SINCE] + at] = 0
    m[m[CLAIM_HOLDER] + at] = m[m[HOLDER] + rank]
    m[m[CLAIM_PAST] + at] = -1
    m[free_ns] = end_ns


def find_last(m: IntArray, claim: int) -> None:
    """Find the place of a claim that ends last, the first of several."""
    ends, last = m[CLAIM_END] + claim * m[CLAIM_RANKS], 0
    for place in range(1, m[m[CLAIM_SIZE] + claim]):
        if m[ends + place] > m[ends + last]:
            last = place
    m[m[CLAIM_LAST] + claim] = last


def set_alarm(m: IntArray, claim: int) -> None:
    """Let an event come at the end of a claim, if its end is another than it seemed."""
    end_ns = m[m[CLAIM_END] + claim * m[CLAIM_RANKS] + m[m[CLAIM_LAST] + claim]]
    if end_ns != m[m[CLAIM_LAST_NS] + claim]:
        m[m[CLAIM_LAST_NS] + claim] = end_ns
        m[m[CLAIM_ALARM] + claim] = push(m, end_ns, NORMAL, CLAIM_ENDS, claim)


def open_claim(m: IntArray, size: int) -> int:
    """Return a new claim on `size` ranks, to be filled by `claim_rank`."""
    claim = take(m, CLAIM_NEXT, FREE_CLAIM, LEFT_CLAIM)
    m[m[CLAIM_SIZE] + claim] = size
    m[m[CLAIM_LAST_NS] + claim] = -1
    m[m[CLAIM_ALARM] + claim] = -1
    m[m[CLAIM_MOVED] + claim] = 0
    m[m[CLAIM_PROGRAM] + claim] = -1
    m[m[CLAIM_ENTRY] + claim] = -1
    m[m[CLAIM_SERVED] + claim] = -1
    return claim


def begin_claim(m: IntArray, claim: int) -> None:
    """Let a claim whose ranks are filled run, if it does not end at once."""
    find_last(m, claim)
    if m[m[CLAIM_END] + claim * m[CLAIM_RANKS] + m[m[CLAIM_LAST] + claim]] > m[NOW]:
        m[m[RUNNING] + m[NUM_RUNNING]] = claim
        m[NUM_RUNNING] += 1
        set_alarm(m, claim)


def drop_claim(m: IntArray, claim: int) -> None:
    """Return the rows of a claim."""
    pasts = m[CLAIM_PAST] + claim * m[CLAIM_RANKS]
    for place in range(m[m[CLAIM_SIZE] + claim]):
        past = m[pasts + place]
        while past >= 0:
            before = m[m[PAST_NEXT] + past]
            give_back(m, past, PAST_NEXT, FREE_PAST, LEFT_PAST)
            past = before
    give_back(m, claim, CLAIM_NEXT, FREE_CLAIM, LEFT_CLAIM)


def stop_running(m: IntArray, claim: int) -> None:
    """Take a claim out of those that run, which stay in the order in which they came."""
    running, i = m[RUNNING], 0
    while m[running + i] != claim:
        i += 1
    m[NUM_RUNNING] -= 1
    for j in range(i, m[NUM_RUNNING]):
        m[running + j] = m[running + j + 1]


def advance_claim(m: IntArray, claim: int) -> int:
    """Take off what has been done since the last change of speed, on ranks that are marked; count those."""
    first, marks, now_ns, num_touched = claim * m[CLAIM_RANKS], m[RANK_STAMP], m[NOW], 0
    for at in range(first, first + m[m[CLAIM_SIZE] + claim]):
        is_touched = m[marks + m[m[CLAIM_RANK] + at]] == m[STAMP] and m[m[CLAIM_END] + at] > now_ns
        m[m[CLAIM_TOUCHED] + at] = int(is_touched)
        if not is_touched:
            continue
        num_touched += 1
        since_ns, work, speed = m[m[CLAIM_SINCE] + at], m[m[CLAIM_WORK] + at], m[m[CLAIM_SPEED] + at]
        if m[LEFT_PAST] == 0:
            m[STATUS] = GAVE_UP
            return 0
        past = take(m, PAST_NEXT, FREE_PAST, LEFT_PAST)
        m[m[PAST_SINCE] + past], m[m[PAST_WORK] + past], m[m[PAST_SPEED] + past] = since_ns, work, speed
        m[m[PAST_NEXT] + past] = m[m[CLAIM_PAST] + at]
        m[m[CLAIM_PAST] + at] = past
        ran_ns = max(now_ns - max(m[m[CLAIM_START] + at], since_ns), 0)
        m[m[CLAIM_WORK] + at] = work - ran_ns * speed
        m[m[CLAIM_SINCE] + at] = now_ns
    return num_touched


def predict_claim(m: IntArray, claim: int) -> None:
    """Set starts and ends where speeds have changed, or where ranks are free at another time."""
    first, now_ns = claim * m[CLAIM_RANKS], m[NOW]
    for at in range(first, first + m[m[CLAIM_SIZE] + claim]):
        if not m[m[CLAIM_TOUCHED] + at]:
            continue
        rank, start_ns = m[m[CLAIM_RANK] + at], m[m[CLAIM_START] + at]
        if start_ns > now_ns:
            start_ns = m[m[CLAIM_START] + at] = m[m[RANK_FREE_NS] + rank]
        speed = speed_of(m, rank)
        end_ns = max(start_ns, now_ns) - (-m[m[CLAIM_WORK] + at] // speed)
        m[m[CLAIM_END] + at], m[m[CLAIM_SPEED] + at] = end_ns, speed
        m[m[RANK_FREE_NS] + rank] = end_ns
    find_last(m, claim)
    m[m[CLAIM_MOVED] + claim] = 1
    set_alarm(m, claim)


def change_sms(m: IntArray, transfer: int, num_sms: int) -> None:
    """Give SMs to the kernels of a transfer's ranks, or take some; predict anew what they end when."""
    first, end, is_over = m[SM_RANK] + m[m[FIRST_RANK] + transfer], m[SM_RANK] + m[m[END_RANK] + transfer], False
    m[STAMP] += 1
    for at in range(first, end):
        m[m[RANK_STAMP] + m[at]] = m[STAMP]
    running, num_met = m[RUNNING], 0
    for i in range(m[NUM_RUNNING]):
        claim = m[running + i]
        if advance_claim(m, claim):
            m[m[MET_CLAIM] + num_met] = claim
            num_met += 1
    for at in range(first, end):
        m[m[SMS_LEFT] + m[at]] += num_sms
        is_over = is_over or m[m[SMS_LEFT] + m[at]] <= 0
    for i in range(num_met):
        predict_claim(m, m[m[MET_CLAIM] + i])
    if is_over and num_sms < 0:
        push(m, m[NOW], AFTER_ALL, CHECK_SMS, transfer)


def check_sms(m: IntArray, transfer: int) -> None:
    """Give up where transfers leave a rank no SM."""
    for at in range(m[SM_RANK] + m[m[FIRST_RANK] + transfer], m[SM_RANK] + m[m[END_RANK] + transfer]):
        if m[m[SMS_LEFT] + m[at]] <= 0:
            m[STATUS] = GAVE_UP


FUNCTIONS = (
    speed_of,
    claim_rank,
    find_last,
    set_alarm,
    open_claim,
    begin_claim,
    drop_claim,
    stop_running,
    advance_claim,
    predict_claim,
    change_sms,
    check_sms,
)
"""All functions, each after those that it calls: in this order they are compiled."""
