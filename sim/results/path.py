"""The path account: the step time along what released what.

Model
-----
From the last row to end, walk back: a row's time from its start to the point reached falls into its parts; then go on
with the row that released it. A wait between a release and a start is `stalled`. The sum is the step time, to the
nanosecond.

Where a row was released by one that ended later (ranks of a lane that end at different times), the later one is counted
up to the point reached.
"""

import numpy as np

from sim.engine.trace import Trace
from sim.results.apportion import apportion
from sim.results.parts import COMMUNICATION_PARTS, empty_account

__all__ = ["exposed_communication_ns", "path_ns", "path_rows"]

_SPLIT = ("base_ns", "imbalance_ns", "contention_ns", "latency_ns")


def path_rows(trace: Trace) -> list[tuple[int, int, int]]:
    """Return (row, from, to) along the path, last first; `to` - `from` is what the row adds."""
    start, end, released = trace.ints("start_ns"), trace.ints("end_ns"), trace.ints("released_by")
    kind = trace.ints("kind")
    candidates = np.flatnonzero(trace.ints("end_ns") == trace.end_ns)
    streams = trace["stream"][candidates]
    candidates = candidates[streams != "pass"]
    if candidates.size == 0:
        return []
    row = int(min(candidates, key=lambda r: (kind[r], r)))
    reached, rows = trace.end_ns, []
    while row >= 0 and reached > trace.start_ns:
        begin = int(start[row])
        if begin < reached:
            rows.append((row, begin, min(reached, int(end[row]))))
            reached = begin
        row = int(released[row])
    return rows


def path_ns(trace: Trace) -> dict[str, int]:
    """Return nanoseconds of each part along the path; they sum to the step time."""
    account = empty_account()
    columns = [trace.ints(name) for name in _SPLIT]
    kinds = trace["kind"]
    reached = trace.end_ns
    for row, begin, to in path_rows(trace):
        account["stalled"] += reached - to
        whole = [int(column[row]) for column in columns]
        parts = whole if sum(whole) == to - begin else apportion(to - begin, whole)
        for name, value in zip((str(kinds[row]), "imbalance", "contention", "latency"), parts, strict=True):
            account[name] += value
        reached = begin
    account["stalled"] += reached - trace.start_ns
    return account


def exposed_communication_ns(trace: Trace) -> dict[str, int]:
    """Return the time on the path of each kind of communication, latency, contention and imbalance included."""
    exposed = dict.fromkeys(COMMUNICATION_PARTS, 0)
    kinds = trace["kind"]
    for row, begin, to in path_rows(trace):
        if kinds[row] in exposed:
            exposed[str(kinds[row])] += to - begin
    return exposed
