"""The whole run in a few lines of pixels, below a timeline that shows a part of it."""

import numpy as np

from sim.engine.trace import Trace
from sim.report.canvas import Sheet
from sim.report.palette import IDLE, INK, SUBTLE, pass_colours
from sim.report.timeline.bars import select_bars
from sim.report.timeline.layout import Layout

__all__ = ["draw_overview", "overview_height_px"]

_MAX_PX = 48
_LINE_PX = 7
_BELOW_PX = 14


def overview_height_px(num_stages: int) -> int:
    """Return the height of the overview with its margin.

    >>> overview_height_px(4), overview_height_px(64)
    (42, 62)
    """
    return round(_LINE_PX * min(num_stages, _MAX_PX / _LINE_PX)) + _BELOW_PX


def draw_overview(sheet: Sheet, trace: Trace, layout: Layout, *, top_px: int, lane: int) -> None:
    """Draw the passes of the whole run, a line per stage, and a frame around the window."""
    whole = trace.start_ns, trace.end_ns
    bars = select_bars(trace, "pass", whole, lane=lane)
    line_px = min(float(_LINE_PX), _MAX_PX / trace.num_stages)
    height_px = line_px * trace.num_stages
    left, width = layout.left_px, layout.right_px - layout.left_px
    sheet.bars(
        np.array([[left, left + width]], dtype=np.float64),
        np.array([[top_px, top_px + height_px]], dtype=np.float64),
        [IDLE],
        gid="moesim-overview-ground",
    )
    at = (np.stack([bars.start_ns, bars.end_ns], axis=1) - whole[0]) / max(1, trace.step_ns)
    top = top_px + line_px * bars.stage
    colours = pass_colours(trace["kind"][bars.row].astype(np.str_), trace.ints("microbatch")[bars.row])
    y_px = np.stack([top, top + line_px * 0.86], axis=1)
    sheet.bars(left + at * width, y_px, colours, gid="moesim-overview")
    frame = [left + (edge - whole[0]) / max(1, trace.step_ns) * width for edge in layout.window_ns]
    sheet.lines(frame, (top_px - 4, top_px + height_px + 4), INK, width_px=1.4)
    sheet.text(left - 8, top_px + height_px / 2, "whole run", size_pt=8, colour=SUBTLE, align="right")
