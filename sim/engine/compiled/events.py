"""The kernel's queue of events, its lists of unused rows, and what it writes down.

Events come in the order of (time, priority, insertion), as in SimPy: a binary heap of times and of keys, where a key is
the priority in front of the event's number. Each event that SimPy's engine makes is made here too, for its number
decides ties.
"""

from sim.engine.compiled.layout import *
from sim.engine.compiled.layout import IntArray

__all__ = ["FUNCTIONS", "latest", "note", "pop", "push", "take", "wait_in_line"]


def push(m: IntArray, at_ns: int, priority: int, kind: int, argument: int) -> int:
    """Make an event; return its number."""
    number = m[NEXT_EVENT]
    m[NEXT_EVENT] += 1
    key = (priority << PRIORITY_BITS) | number
    times, keys, whats = m[HEAP_TIME], m[HEAP_KEY], m[HEAP_WHAT]
    i = m[HEAP_SIZE]
    m[HEAP_SIZE] += 1
    while i > 0:
        above = (i - 1) >> 1
        if m[times + above] < at_ns or (m[times + above] == at_ns and m[keys + above] < key):
            break
        m[times + i], m[keys + i], m[whats + i] = m[times + above], m[keys + above], m[whats + above]
        i = above
    m[times + i], m[keys + i], m[whats + i] = at_ns, key, (argument << KIND_BITS) | kind
    return int(number)


def pop(m: IntArray) -> None:
    """Take the first event out of the queue, and move the clock to its time."""
    times, keys, whats = m[HEAP_TIME], m[HEAP_KEY], m[HEAP_WHAT]
    m[NOW], m[EVENT], m[WHAT] = m[times], m[keys] & ((1 << PRIORITY_BITS) - 1), m[whats]
    m[HEAP_SIZE] -= 1
    size = m[HEAP_SIZE]
    at_ns, key, what = m[times + size], m[keys + size], m[whats + size]
    i = 0
    while True:
        below = 2 * i + 1
        if below >= size:
            break
        if below + 1 < size and (
            m[times + below + 1] < m[times + below]
            or (m[times + below + 1] == m[times + below] and m[keys + below + 1] < m[keys + below])
        ):
            below += 1
        if at_ns < m[times + below] or (at_ns == m[times + below] and key < m[keys + below]):
            break
        m[times + i], m[keys + i], m[whats + i] = m[times + below], m[keys + below], m[whats + below]
        i = below
    m[times + i], m[keys + i], m[whats + i] = at_ns, key, what


def take(m: IntArray, links: int, head: int, left: int) -> int:
    """Return an unused row of a table; `links`, `head` and `left` are those of `FREE_LISTS`."""
    row = m[head]
    m[head] = m[m[links] + row]
    m[left] -= 1
    return int(row)


def give_back(m: IntArray, row: int, links: int, head: int, left: int) -> None:
    """Return a row of a table to those that are unused."""
    m[m[links] + row] = m[head]
    m[head] = row
    m[left] += 1


def wait_in_line(m: IntArray, first: int, program: int) -> None:
    """Let a program wait behind those that wait already; the first of them stands at `m[first]`."""
    nexts = m[NEXT_WAITER]
    m[nexts + program] = -1
    if m[first] < 0:
        m[first] = program
        return
    last = m[first]
    while m[nexts + last] >= 0:
        last = m[nexts + last]
    m[nexts + last] = program


def note(m: IntArray, type_: int, kind: int, start_ns: int, end_ns: int, released_by: int) -> int:
    """Open an entry of the record; return the reference of its first row (-1 where no rows are kept)."""
    if type_ != COMPUTE_ENTRY and type_ != SERVICE_ENTRY:  # those stand within a pass
        m[FIRST_NS] = min(m[FIRST_NS], start_ns)
        m[LAST_NS] = max(m[LAST_NS], end_ns)
    if not m[KEEPS_ROWS]:
        return -1
    entry = m[NUM_ENTRIES]
    m[NUM_ENTRIES] += 1
    m[m[ENTRY_TYPE] + entry] = type_
    m[m[ENTRY_KIND] + entry] = kind
    m[m[ENTRY_START] + entry] = start_ns
    m[m[ENTRY_END] + entry] = end_ns
    m[m[ENTRY_BY] + entry] = released_by
    return int(entry << REFERENCE_BITS)


def describe(m: IntArray, reference: int, program: int, side: int, op: int, x: int, y: int) -> None:
    """Write down what else there is to say of an entry."""
    if reference < 0:
        return
    entry = reference >> REFERENCE_BITS
    m[m[ENTRY_POSITION] + entry] = m[m[POSITION] + program]
    m[m[ENTRY_SIDE] + entry] = side
    m[m[ENTRY_OP] + entry] = op
    m[m[ENTRY_X] + entry] = x
    m[m[ENTRY_Y] + entry] = y


def latest(m: IntArray, one: int, other: int) -> int:
    """Return the row that ended last; ties go by the order of kinds, then to the lower number. -1 for none."""
    if one < 0 or other < 0:
        return max(one, other)
    ends, kinds = m[ENTRY_END], m[ENTRY_KIND]
    first, second = one >> REFERENCE_BITS, other >> REFERENCE_BITS
    if m[ends + first] != m[ends + second]:
        return one if m[ends + first] > m[ends + second] else other
    if m[kinds + first] != m[kinds + second]:
        return one if m[kinds + first] < m[kinds + second] else other
    return min(one, other)


FUNCTIONS = (push, pop, take, give_back, wait_in_line, note, describe, latest)
"""All functions, each after those that it calls: in this order they are compiled."""
