"""The pipeline timeline that a person reads: a band for each stage, time to the right.

Reading it
----------
In a band, from the top: passes (hue and number: microbatch; light F, full B, greyed W, dark O), own kernels, transfers
that the pass waits for, sends that nobody waits for, and expert work for other stages with a line for each GPU. White
behind the strips means that a pass is open, hatching that the pass is stalled, grey that the stage is idle.

Below the timeline of a whole run, two passes of one stage are drawn again, wider (the close-up). Below the timeline of
a window, the whole run is drawn in a few lines of pixels (the overview).

Every span that touches the window is one bar. In an SVG the bars of a stream are the paths of the group
`moesim:<stream>`, as many as `count_bars` says.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from sim.engine.trace import STREAMS, Trace
from sim.report.canvas import Sheet, check_suffix, settings
from sim.report.palette import IDLE, INK, SUBTLE, pass_colours
from sim.report.timeline.bands import AXIS_PX, BAND_PX, GAP_PX, Bands, Layout, lay_strips, notes_width_px
from sim.report.timeline.bars import Bars, check_window_ns, count_bars, select_bars
from sim.report.timeline.legend import ROW_PX, draw_legend, flow, legend_entries

__all__ = [
    "closeup_height_px",
    "closeup_of",
    "count_bars",
    "draw_closeup",
    "draw_overview",
    "draw_timeline",
    "overview_height_px",
]

_CLOSEUP_HEAD_PX: Final = 22
_CLOSEUP_NARROW_PX: Final = 80
"""Passes of at most this width have a close-up."""


def closeup_of(layout: Layout, passes: Bars | None) -> tuple[int, tuple[int, int]] | None:
    """Return the stage and the window that show two passes in the middle of the run; None where all passes are wide."""
    if passes is None or len(passes) == 0 or "compute" not in layout.strips:
        return None
    widths = layout.x_px(passes.start_ns, passes.end_ns)
    if np.median(widths[:, 1] - widths[:, 0]) > _CLOSEUP_NARROW_PX:
        return None
    stage = layout.num_stages // 2
    here = np.flatnonzero(passes.stage == stage)
    if here.size < 2:
        return None
    here = here[np.argsort(passes.start_ns[here], kind="stable")]
    first, second = here[here.size // 2 - 1], here[here.size // 2]
    return stage, (int(passes.start_ns[first]), int(max(passes.end_ns[first], passes.end_ns[second])))


def closeup_height_px() -> int:
    """Return the height of a close-up with its heading and axis."""
    return _CLOSEUP_HEAD_PX + BAND_PX - GAP_PX + AXIS_PX


def draw_closeup(
    sheet: Sheet, trace: Trace, layout: Layout, where: tuple[int, tuple[int, int]], *, top_px: int, lane: int
) -> None:
    """Draw the close-up below the bands of `layout`, and mark there where it lies."""
    stage, window_ns = where
    low, high = layout.window_ns
    at = [layout.left_px + (t - low) / (high - low) * (layout.right_px - layout.left_px) for t in window_ns]
    band = layout.band_px(stage)
    sheet.frame((at[0], at[1]), (band - 3, band + BAND_PX - GAP_PX + 3), INK)
    heading = f"close-up of the frame in stage {stage}: {(window_ns[1] - window_ns[0]) / 1e6:.4g} ms"
    sheet.text(layout.left_px, top_px + 8, heading, size_pt=9, colour=SUBTLE, bold=True)
    closeup = Layout(
        left_px=layout.left_px,
        right_px=layout.right_px,
        top_px=top_px + _CLOSEUP_HEAD_PX,
        window_ns=window_ns,
        num_stages=1,
        strips=layout.strips,
        first_stage=stage,
    )
    Bands(trace, closeup, lane=lane, group="moesim-closeup").draw(sheet)


_OVERVIEW_MAX_PX = 48
_OVERVIEW_LINE_PX = 7
_OVERVIEW_BELOW_PX = 14


def overview_height_px(num_stages: int) -> int:
    """Return the height of the overview with its margin.

    >>> overview_height_px(4), overview_height_px(64)
    (42, 62)
    """
    return round(_OVERVIEW_LINE_PX * min(num_stages, _OVERVIEW_MAX_PX / _OVERVIEW_LINE_PX)) + _OVERVIEW_BELOW_PX


def draw_overview(sheet: Sheet, trace: Trace, layout: Layout, *, top_px: int, lane: int) -> None:
    """Draw the passes of the whole run, a line per stage, and a frame around the window."""
    whole = trace.start_ns, trace.end_ns
    bars = select_bars(trace, "pass", whole, lane=lane)
    line_px = min(float(_OVERVIEW_LINE_PX), _OVERVIEW_MAX_PX / trace.num_stages)
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


WIDTH_PX: Final = 1600
_LEFT_PX: Final = 112
_MARGIN_PX: Final = 24
_HEAD_PX: Final = 62


def draw_timeline(
    trace: Trace,
    path: str | Path,
    *,
    title: str,
    subtitle: str = "",
    window_ns: tuple[int, int] | None = None,
    lane: int = 0,
    notes: Sequence[str] | None = None,
) -> None:
    """Draw the timeline of a lane of each stage.

    Parameters
    ----------
    trace
        The run.
    path
        File to write; its suffix (.png, .svg, .pdf) is the format.
    title, subtitle
        Heading; the window and the lane are added to the subtitle.
    window_ns
        From and to. The whole run if None, of a long run its first passes, with an overview of the whole below.
    lane
        The lane of each stage.
    notes
        A text per stage for the right margin; a comma or line break starts a new line.

    Raises
    ------
    InvalidValueError
        Another suffix, a lane that the run does not have, or an empty window.
    OSError
        The file could not be written (`sim.report.files` makes it an `OutputError`).
    ValueError
        The number of notes is not the number of stages.
    """
    target = Path(path)
    check_suffix(target)
    lines = [note.replace(", ", "\n").splitlines() for note in notes or [""] * trace.num_stages]
    if len(lines) != trace.num_stages:
        raise ValueError(
            f"notes: must be {trace.num_stages}, one for each stage, got {len(lines)}. Leave notes out or give all."
        )
    window = check_window_ns(trace, window_ns, lane=lane)
    with settings():
        _draw(trace, window, lane, title=title, subtitle=subtitle, notes=lines).save(target)


def _draw(
    trace: Trace, window: tuple[int, int], lane: int, *, title: str, subtitle: str, notes: Sequence[Sequence[str]]
) -> Sheet:
    """Return the drawing."""
    layout = Layout(
        left_px=_LEFT_PX,
        right_px=WIDTH_PX - _MARGIN_PX - notes_width_px(notes),
        top_px=_HEAD_PX,
        window_ns=window,
        num_stages=trace.num_stages,
        strips=lay_strips([stream for stream in STREAMS if trace.rows(stream).size]),
    )
    bands = Bands(trace, layout, lane=lane, group="moesim")
    entries = legend_entries(bands.kinds, bands.styles)
    positions = flow([e.width_px for e in entries], [not e.patches for e in entries], WIDTH_PX - 2 * _MARGIN_PX)
    layout = replace(layout, top_px=_HEAD_PX + ROW_PX * (positions[-1][1] + 1) + 10)
    bands.move(layout)
    zoomed = window[0] > trace.start_ns or window[1] < trace.end_ns
    close = None if zoomed else closeup_of(layout, bands.bars.get("pass"))
    below_px = overview_height_px(trace.num_stages) if zoomed else closeup_height_px() if close else 0
    sheet = Sheet(WIDTH_PX, layout.bottom_px + AXIS_PX + below_px)
    sheet.text(_MARGIN_PX, 23, title, size_pt=14, bold=True)
    sheet.text(_MARGIN_PX, 46, _subtitle(trace, window, lane, subtitle), size_pt=9.5, colour=SUBTLE)
    draw_legend(sheet, entries, positions, left_px=_MARGIN_PX, top_px=_HEAD_PX)
    bands.draw(sheet, notes=notes)
    if zoomed:
        draw_overview(sheet, trace, layout, top_px=layout.bottom_px + AXIS_PX, lane=lane)
    elif close:
        draw_closeup(sheet, trace, layout, close, top_px=layout.bottom_px + AXIS_PX, lane=lane)
    return sheet


def _subtitle(trace: Trace, window: tuple[int, int], lane: int, subtitle: str) -> str:
    low, high = window
    whole = low <= trace.start_ns and high >= trace.end_ns
    shown = (
        f"whole run, {_ms(trace.step_ns)} ms" if whole else f"{_ms(low)} to {_ms(high)} ms of {_ms(trace.end_ns)} ms"
    )
    lanes = f"lane {lane} of {trace.num_lanes}" if trace.num_lanes > 1 else ""
    runs = lane if trace.lane_of is None else int(trace.lane_of[lane])
    if runs != lane:
        lanes += f", which runs like lane {runs}"
    elif trace.num_of[runs] > 1:
        lanes += f", and {trace.num_of[runs] - 1} run like it"
    return "  ·  ".join(filter(None, (subtitle, shown, lanes)))


def _ms(time_ns: int) -> str:
    """Return milliseconds with at most four digits that count, or all before the point."""
    value = time_ns / 1e6
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.4g}"
