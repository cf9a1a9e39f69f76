"""The pipeline timeline that a person reads: a band for each stage, time to the right.

Reading it
----------
A stage is a band. At its top are its passes (hue and number: microbatch; light F, full B, greyed W, black O). Below,
where kernels would be too narrow to be read, one strip stacks how each moment is spent: compute by kind, foreign work,
waiting by cause; grey is idle. Where kernels are wide enough, there are strips for own kernels, transfers that the pass
waits for, sends that nobody waits for, and expert work for other stages with a line for each GPU; hatching says that
the pass is stalled.

In the right margin stands how the stage spends the whole step: compute, foreign, waiting and idle sum to 100 %.

Below the timeline of a whole run, two passes of a stage are drawn again, wider (the close-up); where stages exchange
tokens with each other, with the next stage and with arrows for the tokens of one layer. Below the timeline of a window,
the whole run is drawn in a few lines of pixels (the overview).

Every span that touches the window is one bar of its strip. In an SVG the bars of a stream are the paths of the group
`moesim:<stream>`, as many as `count_bars` says where the stream has a strip.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sim.engine.trace import STREAMS, Trace
from sim.report.canvas import Sheet, check_suffix, settings
from sim.report.palette import IDLE, INK, SUBTLE, pass_colours
from sim.report.timeline.bands import AXIS_PX, BAND_PX, GAP_PX, Bands, Layout, lay_strips, notes_width_px
from sim.report.timeline.bars import Bars, check_window_ns, count_bars, select_bars
from sim.report.timeline.legend import ROW_PX, draw_legend, flow, legend_entries
from sim.report.timeline.spent import spent_is_clearer

__all__ = [
    "CloseUp",
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


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseUp:
    """Which stages are drawn again, wider, and from when to when."""

    first_stage: int
    num_stages: int
    """One; two where stages compute for each other."""
    window_ns: tuple[int, int]


def closeup_of(trace: Trace, layout: Layout, passes: Bars | None) -> CloseUp | None:
    """Return the close-up of two passes in the middle of the run; None for wide passes or without kernels."""
    if passes is None or len(passes) == 0 or not {"compute", "spent"} & set(layout.strips):
        return None
    widths = layout.x_px(passes.start_ns, passes.end_ns)
    if "spent" not in layout.strips and np.median(widths[:, 1] - widths[:, 0]) > _CLOSEUP_NARROW_PX:
        return None
    has_foreign = trace.rows("foreign").size > 0 and layout.num_stages > 1
    stage = layout.num_stages // 2 - has_foreign
    here = np.flatnonzero(passes.stage == stage)
    if here.size < 2:
        return None
    here = here[np.argsort(passes.start_ns[here], kind="stable")]
    places = np.flatnonzero(trace["kind"][passes.row[here[:-1]]] == "F")  # a forward pass and the next pass
    at = int(places[np.argmin(np.abs(places - here.size // 2 + 1))]) if places.size else here.size // 2 - 1
    first, second = here[at], here[at + 1]
    window_ns = int(passes.start_ns[first]), int(max(passes.end_ns[first], passes.end_ns[second]))
    return CloseUp(first_stage=stage, num_stages=1 + has_foreign, window_ns=window_ns)


def closeup_height_px(num_stages: int) -> int:
    """Return the height of a close-up with its heading and axis."""
    return _CLOSEUP_HEAD_PX + BAND_PX * num_stages - GAP_PX + AXIS_PX


def draw_closeup(sheet: Sheet, layout: Layout, closeup: Layout, bands: Bands, trace: Trace) -> None:
    """Draw the close-up below the bands of `layout`, and mark there where it lies."""
    first, count, window_ns = closeup.first_stage, closeup.num_stages, closeup.window_ns
    low, high = layout.window_ns
    at = [layout.left_px + (t - low) / (high - low) * (layout.right_px - layout.left_px) for t in window_ns]
    top = layout.band_px(first)
    sheet.frame((at[0], at[1]), (top - 3, top + BAND_PX * count - GAP_PX + 3), INK)
    stages = f"stage {first}" if count == 1 else f"stages {first} and {first + 1}"
    exchange = _exchange_of(trace, bands, first) if {"comm", "foreign"} <= set(bands.bars) else None
    heading = f"close-up of the frame in {stages}: {(window_ns[1] - window_ns[0]) / 1e6:.4g} ms"
    if exchange:
        layer = int(trace.ints("layer")[exchange[0]])
        heading += f"; arrows: tokens of layer {layer} go to experts of stage {first + 1} and come back"
    sheet.text(layout.left_px, closeup.top_px - _CLOSEUP_HEAD_PX + 8, heading, size_pt=9, colour=SUBTLE, bold=True)
    bands.draw(sheet)
    if exchange:
        (_, sent, out), (start, end, there), (back, _, home) = (
            bands.middle_px(stream, row) for stream, row in zip(("comm", "foreign", "comm"), exchange, strict=True)
        )
        sheet.arrow((sent, out + 4), (start, there - 5), INK, width_px=1.3, gid="moesim-arrow:there")
        sheet.arrow((end, there - 5), (back, home + 5), INK, width_px=1.3, gid="moesim-arrow:back")


def _exchange_of(trace: Trace, bands: Bands, stage: int) -> tuple[int, int, int] | None:
    """Return the rows of a dispatch of a stage, of what another stage computes for it, and of the combine behind it."""
    sends, work = bands.bars["comm"], bands.bars["foreign"]
    kind, start, end = trace["kind"], trace.ints("start_ns"), trace.ints("end_ns")
    mine = sends.row[(sends.stage == stage) & (start[sends.row] >= bands.layout.window_ns[0])]
    theirs = work.row[work.stage == stage + 1]
    for dispatch in mine[kind[mine] == "ep_dispatch"].tolist():
        back = _later_of_layer(trace, mine[kind[mine] == "ep_combine"], dispatch)
        done = _later_of_layer(trace, theirs, dispatch)
        if back.size and done.size and end[done[0]] <= start[back[0]]:
            return dispatch, int(done[end[done] <= start[back[0]]][-1]), int(back[0])
    return None


def _later_of_layer(trace: Trace, rows: NDArray[np.intp], after: int) -> NDArray[np.intp]:
    """Return the rows of the layer and microbatch of a row that start when it has ended, in the order of time."""
    start = trace.ints("start_ns")
    is_later = start[rows] >= trace.ints("end_ns")[after]
    for name in ("microbatch", "layer"):
        is_later &= trace.ints(name)[rows] == trace.ints(name)[after]
    later: NDArray[np.intp] = rows[is_later]
    return later[np.argsort(start[later], kind="stable")]


_OVERVIEW_MAX_PX = 48
_OVERVIEW_LINE_PX = 7
_OVERVIEW_BELOW_PX = 14


def overview_height_px(num_stages: int) -> int:
    """Return the height of the overview with its margin.

    >>> overview_height_px(4), overview_height_px(64)
    (42, 62)
    """
    return round(_OVERVIEW_LINE_PX * min(num_stages, _OVERVIEW_MAX_PX / _OVERVIEW_LINE_PX)) + _OVERVIEW_BELOW_PX


def draw_overview(
    sheet: Sheet, trace: Trace, layout: Layout, *, top_px: int, lane: int, colour: str = "microbatch"
) -> None:
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
    colours = pass_colours(trace["kind"][bars.row].astype(np.str_), trace.ints("microbatch")[bars.row], by=colour)
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
    colour: str = "microbatch",
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
    colour
        What the hue of a pass is: `microbatch` or `kind`.

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
        _draw(trace, window, lane, title=title, subtitle=subtitle, notes=lines, colour=colour).save(target)


def _draw(
    trace: Trace,
    window: tuple[int, int],
    lane: int,
    *,
    title: str,
    subtitle: str,
    notes: Sequence[Sequence[str]],
    colour: str,
) -> Sheet:
    """Return the drawing."""
    left_px, right_px = _LEFT_PX, WIDTH_PX - _MARGIN_PX - notes_width_px(notes)
    streams = [stream for stream in STREAMS if trace.rows(stream).size]
    is_stacked = spent_is_clearer(trace, window, right_px - left_px, lane=lane)
    layout = Layout(
        left_px=left_px,
        right_px=right_px,
        top_px=_HEAD_PX,
        window_ns=window,
        num_stages=trace.num_stages,
        strips=lay_strips(["pass", "spent"] if is_stacked else streams),
    )
    bands = Bands(trace, layout, lane=lane, group="moesim", colour=colour)
    zoomed = window[0] > trace.start_ns or window[1] < trace.end_ns
    close = None if zoomed else closeup_of(trace, layout, bands.bars.get("pass"))
    inside, closer = None, None
    if close is not None:
        inside = replace(
            layout,
            strips=lay_strips([stream for stream in streams if _is_in(trace, stream, close, lane)]),
            first_stage=close.first_stage,
            num_stages=close.num_stages,
            window_ns=close.window_ns,
        )
        closer = Bands(trace, inside, lane=lane, group="moesim-closeup", colour=colour)
    styles = bands.styles | (closer.styles if closer else set())
    entries = legend_entries(_joined(bands, closer), styles, colour=colour)
    positions = flow([e.width_px for e in entries], [not e.patches for e in entries], WIDTH_PX - 2 * _MARGIN_PX)
    layout = replace(layout, top_px=_HEAD_PX + ROW_PX * (positions[-1][1] + 1) + 14)
    bands.move(layout)
    below_px = overview_height_px(trace.num_stages) if zoomed else closeup_height_px(close.num_stages) if close else 0
    sheet = Sheet(WIDTH_PX, layout.bottom_px + AXIS_PX + below_px)
    sheet.text(_MARGIN_PX, 23, title, size_pt=14, bold=True)
    sheet.text(_MARGIN_PX, 46, _subtitle(trace, window, lane, subtitle), size_pt=9.5, colour=SUBTLE)
    draw_legend(sheet, entries, positions, left_px=_MARGIN_PX, top_px=_HEAD_PX)
    bands.draw(sheet, notes=notes)
    if any(notes):
        sheet.text(right_px + 12, layout.top_px - 9, "of the step:", size_pt=7.5, colour=SUBTLE)
    if zoomed:
        draw_overview(sheet, trace, layout, top_px=layout.bottom_px + AXIS_PX, lane=lane, colour=colour)
    elif inside is not None and closer is not None:
        inside = replace(inside, top_px=layout.bottom_px + AXIS_PX + _CLOSEUP_HEAD_PX)
        closer.move(inside)
        draw_closeup(sheet, layout, inside, closer, trace)
    return sheet


def _is_in(trace: Trace, stream: str, close: CloseUp, lane: int) -> bool:
    """Tell whether a stream has spans in a close-up."""
    bars = select_bars(trace, stream, close.window_ns, lane=lane)
    return bool(((bars.stage >= close.first_stage) & (bars.stage < close.first_stage + close.num_stages)).any())


def _joined(bands: Bands, closer: Bands | None) -> dict[str, Collection[str]]:
    """Return the kinds of bands and close-up, those that the stacked strip shows once."""
    kinds = bands.kinds
    if closer is None:
        return kinds
    if "spent" not in kinds:
        return kinds | {stream: {*some, *kinds.get(stream, ())} for stream, some in closer.kinds.items()}
    return kinds | {stream: some for stream, some in closer.kinds.items() if stream in {"p2p", "async"}}


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
    answers = "when each stage runs its passes, and what it spends its time on"
    return "  ·  ".join(filter(None, (subtitle, answers, shown, lanes)))


def _ms(time_ns: int) -> str:
    """Return milliseconds with at most four digits that count, or all before the point."""
    value = time_ns / 1e6
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.4g}"
