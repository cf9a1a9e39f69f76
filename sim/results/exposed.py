"""The transfers of streams that a lane waits for: a transfer counts only while the lane awaits it.

Model
-----
    exposed time of a transfer on a stream = its time within the waits of its lane for streams

The rest of it runs next to what the lane does and is in no account.

    uncovered time of a lane = time in which one of its passes is open less that in which a kernel of its own runs
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.engine.trace import Trace

__all__ = ["Pieces", "cut_to", "exposed_pieces", "uncovered_ns"]

IntArray = NDArray[np.int64]


class Pieces(NamedTuple):
    """Rows of a trace from when to when each counts; one may be there several times. Each of shape [P]."""

    rows: NDArray[np.intp]
    start_ns: IntArray
    end_ns: IntArray


def cut_to(pieces: Pieces, begins_ns: IntArray, ends_ns: IntArray) -> Pieces:
    """Return pieces cut to intervals [I], which are in order; an interval that ends before it begins is empty.

    >>> cut_to(Pieces(np.array([7]), np.array([2]), np.array([9])), np.array([0, 5]), np.array([3, 6]))
    Pieces(rows=array([7, 7]), start_ns=array([2, 5]), end_ns=array([3, 6]))
    """
    rows, start_ns, end_ns = pieces
    first, last = np.searchsorted(ends_ns, start_ns, "right"), np.searchsorted(begins_ns, end_ns, "left") - 1
    num_met = np.maximum(last - first + 1, 0)
    which = np.repeat(np.arange(rows.size), num_met)
    interval = np.arange(which.size) - np.repeat(np.cumsum(num_met) - num_met, num_met) + first[which]
    low, high = np.maximum(begins_ns[interval], start_ns[which]), np.minimum(ends_ns[interval], end_ns[which])
    some = low < high
    return Pieces(rows[which][some], low[some], high[some])


def exposed_pieces(trace: Trace, stage: int, lane: int) -> Pieces:
    """Return the transfers of a lane's streams, cut to the time in which the lane waits for streams."""
    start_ns, end_ns = trace.ints("start_ns"), trace.ints("end_ns")
    transfers, waits = (trace.rows(stream, stage=stage, lane=lane) for stream in ("async", "await"))
    if not transfers.size:
        return Pieces(transfers, start_ns[transfers], end_ns[transfers])
    order = np.argsort(start_ns[waits], kind="stable")
    begins_ns, reached_ns = start_ns[waits][order], np.maximum.accumulate(end_ns[waits][order])
    opens = np.flatnonzero(begins_ns[1:] > reached_ns[:-1]) + 1  # the two passes of a pair may wait at a time
    lows = begins_ns[[0, *opens]] if waits.size else begins_ns
    highs = reached_ns[[*(opens - 1), -1]] if waits.size else reached_ns
    return cut_to(Pieces(transfers, start_ns[transfers], end_ns[transfers]), lows, highs)


def uncovered_ns(trace: Trace) -> float:
    """Return the time in which a pass is open and no kernel runs, as profilers show it: mean over stages and lanes."""
    total = sum(
        count
        * (
            _covered_ns(trace, trace.rows("pass", stage=stage, lane=lane))
            - _covered_ns(trace, trace.rows("compute", stage=stage, lane=lane))
        )
        for stage in range(trace.num_stages)
        for lane, count in trace.num_of.items()
    )
    return total / (trace.num_stages * sum(trace.num_of.values()))


# ---- private -----------------------------------------------------------------------------------------------------


def _covered_ns(trace: Trace, rows: NDArray[np.intp]) -> int:
    """Return the time in which one of some rows runs at least."""
    order = np.argsort(trace.ints("start_ns")[rows], kind="stable")
    start_ns, end_ns = trace.ints("start_ns")[rows][order], trace.ints("end_ns")[rows][order]
    reached_ns = np.concatenate([[trace.start_ns], np.maximum.accumulate(end_ns)])[:-1]
    return int(np.maximum(0, end_ns - np.maximum(start_ns, reached_ns)).sum())
