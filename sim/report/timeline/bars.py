"""Which spans of a trace a timeline shows in a window, and where each span lies in its strip.

Every span that touches the window is a bar; no span is merged with another span or left out for being thin.

Model
-----
Spans of a stream may overlap. In the order of their starts (the longest first) each span takes the first slot whose
last span has ended. The number of slots is the largest number of spans that are open at one time, the least possible.

A lane is stalled while a pass is open and the lane neither computes nor communicates, as in `sim.results.stages`:

    stalled = union of open passes - union of own kernels, own transfers and foreign work

Where only some ranks of a lane compute for others, `sim.results.stages` counts the others' share of the gap as stalled.

References
----------
Interval partitioning: Kleinberg and Tardos, Algorithm Design, 2005, section 4.1.
"""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.engine.trace import STREAMS, Trace
from sim.errors import InvalidValueError
from sim.results.exposed import exposed_pieces

__all__ = [
    "Bars",
    "check_window_ns",
    "count_bars",
    "default_window_ns",
    "first_free_slots",
    "select_bars",
    "share_strip",
    "stalls_in",
    "stalls_ns",
    "touch",
]

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

WHOLE_RUN_PASSES = 64
"""A run of at most this number of passes of each stage is shown as a whole."""
WINDOW_PASSES = 40
"""A longer run is shown until each stage has ended this number of passes: 2.5 batches of 16 microbatches."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bars:
    """The bars of a stream, in the order of the trace."""

    row: NDArray[np.intp]
    """Row of the trace. Shape [B]."""
    stage: NDArray[np.int64]
    """Pipeline stage of each bar. Shape [B]."""
    start_ns: NDArray[np.int64]
    """Start, not before the start of the window. Shape [B]."""
    end_ns: NDArray[np.int64]
    """End, not after the end of the window. Shape [B]."""
    top: NDArray[np.float64]
    """Upper edge in the strip, 0 (top) to 1. Shape [B]."""
    height: NDArray[np.float64]
    """Height as a share of the strip. Shape [B]."""

    def __len__(self) -> int:
        return int(self.row.size)


def default_window_ns(trace: Trace, *, lane: int = 0) -> tuple[int, int]:
    """Return the whole run where it is short, else its first passes, to a round number of milliseconds."""
    window_ns = trace.start_ns, max(trace.end_ns, trace.start_ns + 1)
    ends = [np.sort(trace.ints("end_ns")[trace.rows("pass", stage=s, lane=lane)]) for s in range(trace.num_stages)]
    if max(map(len, ends), default=0) <= WHOLE_RUN_PASSES:
        return window_ns
    shown_ns = max(int(end[min(WINDOW_PASSES, end.size) - 1]) for end in ends if end.size) - trace.start_ns
    step_ns = 10 ** max(0, int(math.log10(max(1, shown_ns))) - 1)
    return trace.start_ns, min(trace.end_ns, trace.start_ns + -(-shown_ns // step_ns) * step_ns)


def select_bars(
    trace: Trace, stream: str, window_ns: tuple[int, int], *, lane: int = 0, stage: int | None = None
) -> Bars:
    """Return the bars of a stream's spans (of a stage) that touch the window.

    Foreign work lies at the height of its rank in the lane; other spans share their strip where they overlap.
    """
    rows = trace.rows(stream, stage=stage, lane=lane)
    start, end = trace.ints("start_ns")[rows], trace.ints("end_ns")[rows]
    low, high = window_ns
    inside = touch(start, end, window_ns)
    rows, start, end = rows[inside], start[inside], end[inside]
    stages = trace.ints("stage")[rows]
    top, height = _tops_and_heights(trace, stream, rows, stages, lane)
    return Bars(
        row=rows,
        stage=stages,
        start_ns=np.maximum(start, low),
        end_ns=np.minimum(end, high),
        top=top,
        height=height,
    )


def touch(start: NDArray[np.int64], end: NDArray[np.int64], window_ns: tuple[int, int]) -> NDArray[np.bool_]:
    """Return which spans touch a window. Shapes [N], [N] -> [N].

    A span that ends where the window starts does not touch the window; a span of no length touches the window if it
    lies within the window or on an edge.

    >>> touch(np.array([0, 0, 10, 20]), np.array([10, 11, 10, 30]), (10, 20)).tolist()
    [False, True, True, False]
    """
    low, high = window_ns
    return np.where(start == end, (start >= low) & (start <= high), (start < high) & (end > low))


def count_bars(trace: Trace, window_ns: tuple[int, int] | None = None, lane: int = 0) -> dict[str, int]:
    """Return how many bars of each stream a picture of the window has: spans that touch it.

    Parameters
    ----------
    trace
        The run.
    window_ns
        From and to, ns; the window that `draw_timeline` would choose if None.
    lane
        The lane of each stage.
    """
    window = check_window_ns(trace, window_ns, lane=lane)
    return {stream: len(select_bars(trace, stream, window, lane=lane)) for stream in STREAMS}


def check_window_ns(trace: Trace, window_ns: Sequence[int] | None, *, lane: int) -> tuple[int, int]:
    """Return the window to draw; refuse a lane or a window that the run does not have."""
    if not 0 <= lane < trace.num_lanes:
        raise InvalidValueError(
            field="lane", rule=f"be 0 to {trace.num_lanes - 1}", value=lane, hint="Choose a lane of the stage."
        )
    if window_ns is None:
        return default_window_ns(trace, lane=lane)
    low, high = int(window_ns[0]), int(window_ns[1])
    if low >= high:
        raise InvalidValueError(
            field="window", rule="end after it starts", value=f"{low} to {high} ns", hint="Swap the ends."
        )
    return low, high


def _tops_and_heights(
    trace: Trace, stream: str, rows: NDArray[np.intp], stage: NDArray[np.int64], lane: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return top and height in the strip of each row."""
    top, height = np.zeros(rows.size), np.ones(rows.size)
    start, end, ranks = trace.ints("start_ns")[rows], trace.ints("end_ns")[rows], trace.ints("rank")[rows]
    for number in range(trace.num_stages):
        here = stage == number
        if stream == "foreign":
            members = np.sort(trace.lane_ranks[number, lane])
            height[here] = 1.0 / members.size
            top[here] = np.searchsorted(members, ranks[here]) / members.size
        else:
            top[here], height[here] = share_strip(start[here], end[here])
    return top, height


def first_free_slots(start: IntArray, end: IntArray) -> IntArray:
    """Return the row of each span, from 0. Shapes [N], [N] -> [N].

    >>> first_free_slots(np.array([0, 1, 5, 9]), np.array([5, 3, 9, 9])).tolist()
    [0, 1, 0, 0]
    """
    slots = np.zeros(start.size, dtype=np.int64)
    order, reached = _in_order(start, end)
    if bool((start[order] >= reached).all()):
        return slots
    starts, ends = start.tolist(), end.tolist()
    busy: list[tuple[int, int]] = []
    free: list[int] = []
    for span in order.tolist():
        while busy and busy[0][0] <= starts[span]:
            heapq.heappush(free, heapq.heappop(busy)[1])
        slot = heapq.heappop(free) if free else len(busy)
        heapq.heappush(busy, (ends[span], slot))
        slots[span] = slot
    return slots


def share_strip(start: IntArray, end: IntArray) -> tuple[FloatArray, FloatArray]:
    """Return top and height of each span in a strip from 0 (top) to 1. Shapes [N], [N] -> [N], [N].

    Spans that overlap, directly or through others, share the strip's height evenly; a span alone has all of it.

    >>> top, height = share_strip(np.array([0, 1, 5]), np.array([5, 3, 9]))
    >>> top.tolist(), height.tolist()
    ([0.0, 0.5, 0.0], [0.5, 0.5, 1.0])
    """
    if start.size == 0:
        return np.zeros(0), np.zeros(0)
    slots = first_free_slots(start, end)
    order, reached = _in_order(start, end)
    cluster = np.empty(start.size, dtype=np.int64)
    cluster[order] = np.cumsum(start[order] >= reached)
    num_slots = np.zeros(int(cluster.max()) + 1, dtype=np.int64)
    np.maximum.at(num_slots, cluster, slots + 1)
    height = 1.0 / num_slots[cluster]
    return slots * height, height


def _in_order(start: IntArray, end: IntArray) -> tuple[NDArray[np.intp], IntArray]:
    """Return the order of starts, and for each span in it the latest end of those before."""
    order = np.lexsort((-end, start))
    if order.size == 0:
        return order, start
    return order, np.concatenate([start[order[:1]], np.maximum.accumulate(end[order])[:-1]])


def stalls_ns(trace: Trace, stage: int, lane: int) -> tuple[IntArray, IntArray]:
    """Return starts and ends of the stalls of a lane, in time order. Shapes [K], [K], ns."""
    start, end = trace.ints("start_ns"), trace.ints("end_ns")
    passes = trace.rows("pass", stage=stage, lane=lane)
    work = np.concatenate([trace.rows(stream, stage=stage, lane=lane) for stream in ("compute", "comm", "foreign")])
    exposed = exposed_pieces(trace, stage, lane)
    work_from = np.concatenate([start[work], exposed.start_ns])
    work_to = np.concatenate([end[work], exposed.end_ns])
    edges = np.unique(np.concatenate([start[passes], end[passes], work_from, work_to]))
    if edges.size == 0:
        return edges, edges
    at = edges[:-1]
    stalled = (_num_open(start[passes], end[passes], at) > 0) & (_num_open(work_from, work_to, at) == 0)
    change = np.diff(np.concatenate([[0], stalled.astype(np.int64), [0]]))
    return edges[np.flatnonzero(change == 1)], edges[np.flatnonzero(change == -1)]


def stalls_in(
    trace: Trace, window_ns: tuple[int, int], stages: Sequence[int], *, lane: int
) -> tuple[IntArray, IntArray, IntArray]:
    """Return stage, start and end of the stalls of some stages, cut at the window. Each of shape [K]."""
    found = [stalls_ns(trace, stage, lane) for stage in stages]
    stage = np.repeat(np.array(stages, dtype=np.int64), [start.size for start, _ in found])
    start = np.maximum(np.concatenate([start for start, _ in found]), window_ns[0])
    end = np.minimum(np.concatenate([end for _, end in found]), window_ns[1])
    inside = start < end
    return stage[inside], start[inside], end[inside]


def _num_open(start: IntArray, end: IntArray, at: IntArray) -> IntArray:
    """Return how many spans are open from each point on."""
    opened = np.searchsorted(np.sort(start), at, "right")
    return (opened - np.searchsorted(np.sort(end), at, "right")).astype(np.int64)
