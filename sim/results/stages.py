"""The stages account: the step time of each stage, category by category.

Model
-----
A lane's time is cut into its own kernels and the transfers that it waits for (each in its components), and gaps. A gap
while a pass is open is `stalled`, otherwise `idle`. Of transfers and gaps, the share in which the lane's ranks compute
for other stages (mean over the ranks) is `foreign`. A stage is the mean of its lanes, in whole nanoseconds that sum to
the step time.

Rows that run at the same time (groups of a lane) count once: the longest, then what others add at its end. While both
passes of a pair run, a transfer counts only where no kernel of the other pass runs. A transfer on a stream counts only
while the lane waits for streams (`sim.results.exposed`).

Pictures show the same account over time (`spent_over_time`): the parts of a row are spread evenly over its time.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.engine.trace import KINDS, Trace
from sim.results.accounts import CATEGORIES, COMPUTE_CATEGORIES, SLOWDOWNS, apportion, apportion_each, empty_account
from sim.results.exposed import Pieces, cut_to, exposed_pieces

__all__ = ["spent_over_time", "stages_ns"]

IntArray = NDArray[np.int64]
_NEVER = np.iinfo(np.int64).max
_IS_COMPUTE = np.array([kind in COMPUTE_CATEGORIES for kind in KINDS])
"""Whether a kind, by its code, is that of a kernel of the stage's own."""
_SPLIT = ("base_ns", "imbalance_ns", "contention_ns", "latency_ns")


def stages_ns(trace: Trace) -> list[dict[str, int]]:
    """Return the account of each stage; each sums to the step time."""
    accounts = []
    for stage in range(trace.num_stages):
        lanes = [(_lane_ns(trace, stage, lane), count) for lane, count in trace.num_of.items()]
        totals = [sum(account[category] * count for account, count in lanes) for category in CATEGORIES]
        accounts.append(dict(zip(CATEGORIES, apportion(trace.step_ns, totals), strict=True)))
    return accounts


def spent_over_time(trace: Trace, stage: int, lane: int, edges_ns: IntArray) -> dict[str, NDArray[np.float64]]:
    """Return the nanoseconds that a lane spends on each category in each bin of time. Shape of each [B].

    Parameters
    ----------
    trace, stage, lane
        The run, and which lane of it.
    edges_ns
        Edges of the bins, ascending. Shape [B + 1].

    Returns
    -------
    dict
        Category -> nanoseconds in each bin. They sum to the length of the bin where it lies in the run.
    """
    spent = {category: np.zeros(edges_ns.size - 1) for category in CATEGORIES}
    counted = _count(trace, stage, lane, cut_at_ns=edges_ns)
    for piece in (counted.rows, counted.gaps):
        for category, amounts in piece.amounts.items():
            total = np.concatenate([[0.0], np.cumsum(amounts)])
            at = np.stack([piece.start_ns, piece.end_ns], axis=1).ravel()
            reached = np.stack([total[:-1], total[1:]], axis=1).ravel()
            spent[category] += np.diff(np.interp(edges_ns, at, reached)) if at.size else 0.0
    return spent


# ---- private -----------------------------------------------------------------------------------------------------


class _Amounts(NamedTuple):
    """Intervals that lie apart, in the order of time, and what was spent in each. Each array of shape [N]."""

    start_ns: IntArray
    end_ns: IntArray
    amounts: dict[str, IntArray]
    """Category -> nanoseconds."""


class _Counted(NamedTuple):
    """What a lane's account counts: its rows where they count, and the gaps between them."""

    rows: _Amounts
    gaps: _Amounts


def _lane_ns(trace: Trace, stage: int, lane: int) -> dict[str, int]:
    account = empty_account()
    for piece in _count(trace, stage, lane):
        for category, amounts in piece.amounts.items():
            account[category] += int(amounts.sum())
    return account


def _count(trace: Trace, stage: int, lane: int, *, cut_at_ns: IntArray | None = None) -> _Counted:
    """Return what a lane spent its time on; gaps are cut at `cut_at_ns` too."""
    rows, start, end = _rows_of(trace, stage, lane)
    order = np.lexsort((rows, -end, start))
    rows, start, end = rows[order], start[order], end[order]
    reached = np.concatenate([[trace.start_ns], np.maximum.accumulate(end)])[:-1]
    foreign = _Cumulated.of_rows(trace, trace.rows("foreign", stage=stage, lane=lane), trace.lane_ranks.shape[2])
    last = int(end.max(initial=trace.start_ns))
    is_gap = reached < start
    gaps = np.array([[*reached[is_gap], last], [*start[is_gap], trace.end_ns]])
    passes = trace.rows("pass", stage=stage, lane=lane)
    return _Counted(
        _row_amounts(trace, rows, start=np.maximum(start, reached), end=end, foreign=foreign),
        _gap_amounts(trace, passes, gaps, foreign, cut_at_ns=cut_at_ns),
    )


def _rows_of(trace: Trace, stage: int, lane: int) -> tuple[NDArray[np.intp], IntArray, IntArray]:
    """Return the rows of kernels and transfers, from when to when each counts; one may be there several times."""
    kernels, waited = (trace.rows(stream, stage=stage, lane=lane) for stream in ("compute", "comm"))
    start, end = trace.ints("start_ns"), trace.ints("end_ns")
    transfers = Pieces(waited, start[waited], end[waited])
    exposed = exposed_pieces(trace, stage, lane)
    if exposed.rows.size:
        transfers = Pieces(*(np.concatenate(columns) for columns in zip(transfers, exposed, strict=True)))
    if _has_pairs(trace, trace.rows("pass", stage=stage, lane=lane)):
        order = np.argsort(start[kernels], kind="stable")
        busy_from, busy_to = start[kernels][order], np.maximum.accumulate(end[kernels][order])
        # the free time before each kernel, and after the last
        free_from = np.concatenate([[np.iinfo(np.int64).min], busy_to])
        transfers = cut_to(transfers, free_from, np.concatenate([busy_from, [_NEVER]]))
    return (
        np.concatenate([kernels, transfers.rows]),
        np.concatenate([start[kernels], transfers.start_ns]),
        np.concatenate([end[kernels], transfers.end_ns]),
    )


def _has_pairs(trace: Trace, passes: NDArray[np.intp]) -> bool:
    """Tell whether some of a lane's passes, in the order in which they closed, ran at the same time."""
    return bool((trace.ints("start_ns")[passes][1:] < trace.ints("end_ns")[passes][:-1]).any())


def _row_amounts(
    trace: Trace,
    rows: NDArray[np.intp],
    *,
    start: IntArray,
    end: IntArray,
    foreign: "_Cumulated",
) -> _Amounts:
    """Return what rows count from `start`, where earlier rows have reached, to their end."""
    kinds = trace.ints("kind")[rows]
    split = np.stack([trace.ints(name)[rows] for name in _SPLIT])
    counted = np.maximum(end - start, 0)
    taken = np.where(_IS_COMPUTE[kinds], 0, np.minimum(foreign.between(start, np.maximum(start, end)), counted))
    is_whole = (split.sum(axis=0) == counted) & (taken == 0)
    is_cut = ~is_whole & (counted > 0)
    split[:, is_cut] = apportion_each((counted - taken)[is_cut], split[:, is_cut])
    split[:, ~is_whole & (counted == 0)] = 0
    amounts = {KINDS[code]: np.where(kinds == code, split[0], 0) for code in np.unique(kinds).tolist()}
    amounts |= dict(zip(SLOWDOWNS, split[1:], strict=True)) | {"foreign": taken}
    return _Amounts(start, np.maximum(start, end), amounts)


def _gap_amounts(
    trace: Trace, passes: NDArray[np.intp], gaps: IntArray, foreign: "_Cumulated", *, cut_at_ns: IntArray | None
) -> _Amounts:
    """Return what gaps [2, G] count, cut where passes open and close; what lies in an open pass is stalled."""
    opens, closes = np.sort(trace.ints("start_ns")[passes]), np.sort(trace.ints("end_ns")[passes])
    begins, ends = gaps  # in order, and apart
    edges = np.union1d(opens, closes)
    edges = edges if cut_at_ns is None else np.union1d(edges, cut_at_ns)
    gap = np.searchsorted(begins, edges, "left") - 1  # the last gap that begins before the edge
    inner = edges[(gap >= 0) & (edges < ends[gap])]
    low, high = np.sort(np.concatenate([begins, inner])), np.sort(np.concatenate([inner, ends]))
    num_open = np.searchsorted(opens, low, "right") - np.searchsorted(closes, low, "right")
    taken = np.minimum(high - low, foreign.between(low, high))
    rest = high - low - taken
    amounts = {"foreign": taken, "stalled": np.where(num_open > 0, rest, 0), "idle": np.where(num_open > 0, 0, rest)}
    return _Amounts(low, high, amounts)


class _Cumulated:
    """The time spent in intervals up to any point, summed over ranks and divided by their number."""

    def __init__(self, edges: IntArray, spent: NDArray[np.float64]) -> None:
        self._edges, self._spent = edges, spent

    @classmethod
    def of_rows(cls, trace: Trace, rows: NDArray[np.intp], num_ranks: int) -> "_Cumulated":
        """Add up the rows' intervals, a share of 1 / `num_ranks` each: piecewise linear between their edges."""
        if not rows.size:
            return cls(np.zeros(0, dtype=np.int64), np.zeros(0))
        start, end = trace.ints("start_ns")[rows], trace.ints("end_ns")[rows]
        times = np.concatenate([start, end])
        slopes = np.concatenate([np.ones(start.size), -np.ones(end.size)])
        order = np.argsort(times, kind="stable")
        edges = times[order]
        active = np.cumsum(slopes[order])
        spent = np.concatenate([[0.0], np.cumsum(active[:-1] * np.diff(edges))])
        return cls(edges, spent / num_ranks)

    def between(self, start: IntArray, end: IntArray) -> IntArray:
        """Return the whole nanoseconds spent between each start and end."""
        if self._edges.size == 0:
            return np.zeros(start.shape, dtype=np.int64)
        spent = np.interp(end, self._edges, self._spent) - np.interp(start, self._edges, self._spent)
        return np.floor(spent + 1e-6).astype(np.int64)
