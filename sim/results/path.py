"""The path account: the step time along what released what.

Model
-----
From the last row to end, walk back: a row's time from its start to the point reached falls into its components; then
go on with the row that released it. A wait between a release and a start is `stalled`. The sum is the step time, to
the nanosecond.

Where a row was released by one that ended later (ranks of a lane that end at different times), the later one is counted
up to the point reached.
"""

from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from sim.engine.trace import KINDS, STREAMS, Trace
from sim.results.accounts import COMMUNICATION_CATEGORIES, SLOWDOWNS, apportion_each, empty_account

__all__ = ["exposed_communication_ns", "path_ns", "path_rows"]

IntArray = NDArray[np.int64]
_PASS, _AWAIT = STREAMS.index("pass"), STREAMS.index("await")
_IS_COMMUNICATION = np.array([kind in COMMUNICATION_CATEGORIES for kind in KINDS])
"""Whether a kind, by its code, is that of a transfer."""
_known_paths: WeakKeyDictionary[Trace, list[tuple[int, int, int]]] = WeakKeyDictionary()
_SPLIT = ("base_ns", "imbalance_ns", "contention_ns", "latency_ns")


def path_rows(trace: Trace) -> list[tuple[int, int, int]]:
    """Return (row, from, to) along the path, last first; `to` - `from` is what the row adds.

    The path of a trace is walked once; do not change what is returned.
    """
    known = _known_paths.get(trace)
    if known is None:
        known = _known_paths[trace] = _walk(trace)
    return known


def path_ns(trace: Trace) -> dict[str, int]:
    """Return nanoseconds of each category along the path; they sum to the step time."""
    account = empty_account()
    rows, begin, to = np.array(path_rows(trace), dtype=np.int64).reshape(-1, 3).T
    kinds = trace.ints("kind")[rows]
    split = np.stack([trace.ints(name)[rows] for name in _SPLIT])
    is_cut = split.sum(axis=0) != to - begin
    split[:, is_cut] = apportion_each((to - begin)[is_cut], split[:, is_cut])
    for code in np.unique(kinds).tolist():
        account[KINDS[code]] += int(split[0, kinds == code].sum())
    for name, values in zip(SLOWDOWNS, split[1:], strict=True):
        account[name] += int(values.sum())
    account["stalled"] += trace.step_ns - int((to - begin).sum())
    return account


def exposed_communication_ns(trace: Trace) -> dict[str, int]:
    """Return the time on the path of each kind of communication, latency, contention and imbalance included.

    What runs on the path while the same lane computes is hidden, and not counted: of two concurrent passes the path may
    go through the exchanges of one while the other computes.
    """
    exposed = dict.fromkeys(COMMUNICATION_CATEGORIES, 0)
    rows, begin, to = np.array(path_rows(trace), dtype=np.int64).reshape(-1, 3).T
    is_communication = _IS_COMMUNICATION[trace.ints("kind")[rows]]
    rows, begin, to = rows[is_communication], begin[is_communication], to[is_communication]
    lane = trace.ints("stage")[rows] * trace.num_lanes + trace.ints("lane")[rows]
    exposed_ns = to - begin
    for number in np.unique(lane).tolist():
        of_lane, computing = lane == number, _Computing(trace, *divmod(number, trace.num_lanes))
        exposed_ns[of_lane] -= computing.until(to[of_lane]) - computing.until(begin[of_lane])
    codes = trace.ints("kind")[rows]
    return exposed | {KINDS[code]: int(exposed_ns[codes == code].sum()) for code in np.unique(codes).tolist()}


# ---- private -----------------------------------------------------------------------------------------------------


def _walk(trace: Trace) -> list[tuple[int, int, int]]:
    end, kind, stream = trace.ints("end_ns"), trace.ints("kind"), trace.ints("stream")
    first_ns, last_ns = trace.start_ns, trace.end_ns  # each looks at all rows
    candidates = np.flatnonzero(end == last_ns)
    candidates = candidates[(stream[candidates] != _PASS) & (stream[candidates] != _AWAIT)]
    if candidates.size == 0:
        return []
    row = int(min(candidates, key=lambda r: (kind[r], r)))
    start_of, end_of, released_by = trace.ints("start_ns").item, end.item, trace.ints("released_by").item
    reached, rows = last_ns, []
    while row >= 0 and reached > first_ns:
        begin = start_of(row)
        if begin < reached:
            rows.append((row, begin, min(reached, end_of(row))))
            reached = begin
        row = released_by(row)
    return rows


class _Computing:
    """The time in which kernels of a lane run, those of two concurrent passes counted once."""

    def __init__(self, trace: Trace, stage: int, lane: int) -> None:
        rows = trace.rows("compute", stage=stage, lane=lane)
        order = np.argsort(trace.ints("start_ns")[rows], kind="stable")
        start_ns, end_ns = trace.ints("start_ns")[rows][order], np.maximum.accumulate(trace.ints("end_ns")[rows][order])
        self._end_ns = end_ns
        self._start_ns = np.maximum(start_ns, np.concatenate([start_ns[:1], end_ns[:-1]]))  # of what is not counted yet
        self._sum_ns = np.concatenate([[0], np.cumsum(np.maximum(0, end_ns - self._start_ns))])

    def until(self, at_ns: IntArray) -> IntArray:
        """Return the time before each of `at_ns` [N] in which kernels run. Shape [N]."""
        if not self._start_ns.size:
            return np.zeros_like(at_ns)
        num_started = np.searchsorted(self._start_ns, at_ns)
        left_ns = np.maximum(0, self._end_ns[num_started - 1] - at_ns)
        return np.where(num_started > 0, self._sum_ns[num_started] - left_ns, 0)
