"""The path account: the step time along what released what.

Model
-----
From the last row to end, walk back: a row's time from its start to the point reached falls into its components; then
go on with the row that released it. A wait between a release and a start is `stalled`. The sum is the step time, to
the nanosecond.

Where a row was released by one that ended later (ranks of a lane that end at different times), the later one is counted
up to the point reached.
"""

import numpy as np

from sim.engine.trace import Trace
from sim.results.accounts import COMMUNICATION_CATEGORIES, SLOWDOWNS, apportion, empty_account

__all__ = ["exposed_communication_ns", "path_ns", "path_rows"]

_SPLIT = ("base_ns", "imbalance_ns", "contention_ns", "latency_ns")


def path_rows(trace: Trace) -> list[tuple[int, int, int]]:
    """Return (row, from, to) along the path, last first; `to` - `from` is what the row adds."""
    start, end, released = trace.ints("start_ns"), trace.ints("end_ns"), trace.ints("released_by")
    kind = trace.ints("kind")
    first_ns, last_ns = trace.start_ns, trace.end_ns  # each looks at all rows
    candidates = np.flatnonzero(end == last_ns)
    streams = trace["stream"][candidates]
    candidates = candidates[(streams != "pass") & (streams != "await")]
    if candidates.size == 0:
        return []
    row = int(min(candidates, key=lambda r: (kind[r], r)))
    reached, rows = last_ns, []
    while row >= 0 and reached > first_ns:
        begin = int(start[row])
        if begin < reached:
            rows.append((row, begin, min(reached, int(end[row]))))
            reached = begin
        row = int(released[row])
    return rows


def path_ns(trace: Trace) -> dict[str, int]:
    """Return nanoseconds of each category along the path; they sum to the step time."""
    account = empty_account()
    rows, begin, to = np.array(path_rows(trace), dtype=np.int64).reshape(-1, 3).T
    kinds = trace["kind"][rows]
    split = np.stack([trace.ints(name)[rows] for name in _SPLIT])
    is_whole = split.sum(axis=0) == to - begin
    for kind in np.unique(kinds).tolist():
        account[kind] += int(split[0, is_whole & (kinds == kind)].sum())
    for name, values in zip(SLOWDOWNS, split[1:], strict=True):
        account[name] += int(values[is_whole].sum())
    for i in np.flatnonzero(~is_whole).tolist():
        shares = apportion(int(to[i] - begin[i]), split[:, i].tolist())
        for name, value in zip((str(kinds[i]), *SLOWDOWNS), shares, strict=True):
            account[name] += value
    account["stalled"] += trace.step_ns - int((to - begin).sum())
    return account


def exposed_communication_ns(trace: Trace) -> dict[str, int]:
    """Return the time on the path of each kind of communication, latency, contention and imbalance included.

    What runs on the path while the same lane computes is hidden, and not counted: of two concurrent passes the path may
    go through the exchanges of one while the other computes.
    """
    exposed = dict.fromkeys(COMMUNICATION_CATEGORIES, 0)
    kinds, stages, lanes = trace["kind"], trace.ints("stage"), trace.ints("lane")
    computing: dict[tuple[int, int], _Computing] = {}
    for row, begin, to in path_rows(trace):
        if kinds[row] not in exposed:
            continue
        lane = (int(stages[row]), int(lanes[row]))
        if lane not in computing:
            computing[lane] = _Computing(trace, *lane)
        hidden_ns = computing[lane].until(to) - computing[lane].until(begin)
        exposed[str(kinds[row])] += to - begin - hidden_ns
    return exposed


class _Computing:
    """The time in which kernels of a lane run, those of two concurrent passes counted once."""

    def __init__(self, trace: Trace, stage: int, lane: int) -> None:
        rows = trace.rows("compute", stage=stage, lane=lane)
        order = np.argsort(trace.ints("start_ns")[rows], kind="stable")
        start_ns, end_ns = trace.ints("start_ns")[rows][order], np.maximum.accumulate(trace.ints("end_ns")[rows][order])
        self._end_ns = end_ns
        self._start_ns = np.maximum(start_ns, np.concatenate([start_ns[:1], end_ns[:-1]]))  # of what is not counted yet
        self._sum_ns = np.concatenate([[0], np.cumsum(np.maximum(0, end_ns - self._start_ns))])

    def until(self, at_ns: int) -> int:
        """Return the time before `at_ns` in which kernels run."""
        num_started = int(np.searchsorted(self._start_ns, at_ns))
        if not num_started:
            return 0
        return int(self._sum_ns[num_started]) - max(0, int(self._end_ns[num_started - 1]) - at_ns)
