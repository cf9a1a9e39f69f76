"""Which spans of a trace a picture shows in a window, and where in its strip each lies.

Every span that touches the window is a bar; none is merged with another or left out for being thin.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.engine.trace import STREAMS, Trace
from sim.errors import InvalidValueError
from sim.report.timeline.slots import share_strip

__all__ = ["Bars", "check_window_ns", "count_bars", "default_window_ns", "select_bars", "touch"]

WHOLE_RUN_PASSES = 64
"""A run of at most as many passes per stage is shown as a whole."""
WINDOW_PASSES = 40
"""A longer run is shown until each stage has ended as many passes: 2.5 batches of 16 microbatches."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bars:
    """The bars of one stream, in the order of the trace."""

    row: NDArray[np.intp]
    """Row of the trace. Shape [B]."""
    stage: NDArray[np.int64]
    """Stage. Shape [B]."""
    start_ns: NDArray[np.int64]
    """Start, cut at the window. Shape [B]."""
    end_ns: NDArray[np.int64]
    """End, cut at the window. Shape [B]."""
    top: NDArray[np.float64]
    """Upper edge in the strip, 0 (top) to 1. Shape [B]."""
    height: NDArray[np.float64]
    """Height, as a part of the strip. Shape [B]."""

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
    top, height = _places(trace, stream, rows, stages, lane)
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

    A span that ends where the window starts does not; one of no length does if it lies in the window or on its edge.

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
            field="lane", rule=f"be 0 to {trace.num_lanes - 1}", value=lane, hint="Choose one of the stage's lanes."
        )
    if window_ns is None:
        return default_window_ns(trace, lane=lane)
    low, high = int(window_ns[0]), int(window_ns[1])
    if low >= high:
        raise InvalidValueError(
            field="window", rule="end after it starts", value=f"{low} to {high} ns", hint="Swap the ends."
        )
    return low, high


def _places(
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
