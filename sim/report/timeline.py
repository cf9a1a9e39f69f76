"""The pipeline timeline that a person reads: a band per stage, time to the right.

Reading it
----------
In a band, from the top: passes (hue and number: microbatch; light F, full B, greyed W, dark O), own kernels, transfers
that the pass waits for, sends that nobody waits for, and expert work for other stages with a line per GPU. White behind
the strips means that a pass is open, hatching that it is stalled, grey that the stage is idle.

Every span that touches the window is one bar. In an SVG the bars of a stream are the paths of the group
`moesim:<stream>`, as many as `count_bars` says.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from sim.engine.trace import STREAMS, Trace
from sim.report.bars import Bars, check_window_ns, count_bars, select_bars
from sim.report.canvas import Sheet, check_suffix, settings, text_width_px
from sim.report.layout import BAND_PX, STRIPS, Layout, lay_strips
from sim.report.legend import ROW_PX, draw_legend, flow, legend_entries
from sim.report.overview import draw_overview, overview_height_px
from sim.report.palette import AXIS, FAINT, FOREIGN, IDLE, INK, OPEN, STALLED, SUBTLE, kind_colours, pass_colours
from sim.report.stalls import stalls_ns

__all__ = ["count_bars", "draw_timeline"]

WIDTH_PX: Final = 1600
_LEFT_PX: Final = 112
_MARGIN_PX: Final = 24
_HEAD_PX: Final = 62
_AXIS_PX: Final = 46
_NOTE_PT: Final = 8.0
_NOTE_ROW_PX: Final = 14


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
    """Draw the timeline of one lane of each stage.

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
    InputError
        Another suffix, a lane that the run does not have, or an empty window.
    OSError
        The file could not be written (`sim.report.files` makes it an `OutputError`).
    ValueError
        Not one note per stage.
    """
    target = Path(path)
    check_suffix(target)
    lines = [note.replace(", ", "\n").splitlines() for note in notes or [""] * trace.num_stages]
    if len(lines) != trace.num_stages:
        raise ValueError(
            f"notes: must be one per stage, {trace.num_stages}, got {len(lines)}. Leave them out or give all."
        )
    window = check_window_ns(trace, window_ns, lane=lane)
    with settings():
        _draw(trace, window, lane, title=title, subtitle=subtitle, notes=lines).save(target)


def _draw(
    trace: Trace, window: tuple[int, int], lane: int, *, title: str, subtitle: str, notes: Sequence[Sequence[str]]
) -> Sheet:
    """Return the drawing."""
    bars = {stream: select_bars(trace, stream, window, lane=lane) for stream in STREAMS}
    strips = lay_strips([stream for stream in STREAMS if trace.rows(stream).size])
    stalls = _stalls(trace, window, lane) if "compute" in strips else None
    stalls = stalls if stalls is not None and stalls[0].size else None
    kinds = {stream: frozenset(trace["kind"][chosen.row].tolist()) for stream, chosen in bars.items()}
    styles = (
        {"idle"} | ({"foreign"} if len(bars["foreign"]) else set()) | ({"stalled"} if stalls is not None else set())
    )
    entries = legend_entries(kinds, styles)
    places = flow([e.width_px for e in entries], [not e.patches for e in entries], WIDTH_PX - 2 * _MARGIN_PX)
    legend_px = ROW_PX * (places[-1][1] + 1)
    zoomed = window[0] > trace.start_ns or window[1] < trace.end_ns
    layout = Layout(
        left_px=_LEFT_PX,
        right_px=WIDTH_PX - _MARGIN_PX - _notes_width_px(notes),
        top_px=_HEAD_PX + legend_px + 10,
        window_ns=window,
        num_stages=trace.num_stages,
        strips=strips,
    )
    overview_px = overview_height_px(trace.num_stages) if zoomed else 0
    sheet = Sheet(WIDTH_PX, layout.bottom_px + _AXIS_PX + overview_px)
    _draw_head(sheet, title, _subtitle(trace, window, lane, subtitle))
    draw_legend(sheet, entries, places, left_px=_MARGIN_PX, top_px=_HEAD_PX)
    _draw_frame(sheet, layout, notes)
    _draw_open(sheet, layout, bars["pass"])
    _draw_ticks(sheet, layout)
    if stalls is not None:
        _draw_stalls(sheet, layout, *stalls)
    for stream in strips:
        _draw_stream(sheet, layout, trace, stream, bars[stream])
    _draw_numbers(sheet, layout, trace, bars["pass"])
    if zoomed:
        draw_overview(sheet, trace, layout, top_px=layout.bottom_px + _AXIS_PX, lane=lane)
    return sheet


def _subtitle(trace: Trace, window: tuple[int, int], lane: int, subtitle: str) -> str:
    low, high = window
    whole = low <= trace.start_ns and high >= trace.end_ns
    shown = (
        f"whole run, {_ms(trace.step_ns)} ms" if whole else f"{_ms(low)} to {_ms(high)} ms of {_ms(trace.end_ns)} ms"
    )
    lanes = f"lane {lane} of {trace.num_lanes}" if trace.num_lanes > 1 else ""
    return "  ·  ".join(part for part in (subtitle, shown, lanes) if part)


def _ms(time_ns: int) -> str:
    """Return milliseconds with at most four digits that count, or all before the point."""
    value = time_ns / 1e6
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.4g}"


def _stalls(
    trace: Trace, window: tuple[int, int], lane: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return stage, start and end of the stalls in the window."""
    found = [stalls_ns(trace, stage, lane) for stage in range(trace.num_stages)]
    stage = np.repeat(np.arange(trace.num_stages), [start.size for start, _ in found])
    start = np.maximum(np.concatenate([start for start, _ in found]), window[0])
    end = np.minimum(np.concatenate([end for _, end in found]), window[1])
    inside = start < end
    return stage[inside], start[inside], end[inside]


def _notes_width_px(notes: Sequence[Sequence[str]]) -> int:
    return round(max((text_width_px(line, _NOTE_PT) + 14 for lines in notes for line in lines), default=0.0))


def _draw_head(sheet: Sheet, title: str, subtitle: str) -> None:
    sheet.text(_MARGIN_PX, 23, title, size_pt=14, bold=True)
    sheet.text(_MARGIN_PX, 46, subtitle, size_pt=9.5, colour=SUBTLE)


def _draw_frame(sheet: Sheet, layout: Layout, notes: Sequence[Sequence[str]]) -> None:
    """Draw the ground of each band, its names at the left and its note at the right."""
    stages = np.arange(layout.num_stages)
    across = np.tile(np.array([[layout.left_px, layout.right_px]], dtype=np.float64), (layout.num_stages, 1))
    sheet.bars(across, layout.span_px(stages, list(layout.strips)), IDLE, gid="moesim-idle")
    for stage in range(layout.num_stages):
        top = layout.band_px(stage)
        for stream, strip in layout.strips.items():
            middle = top + strip.top_px + strip.height_px / 2
            if stream == "pass":
                sheet.text(layout.left_px - 8, middle, f"stage {stage}", size_pt=10, bold=True, align="right")
            else:
                sheet.text(layout.left_px - 8, middle, STRIPS[stream][0], size_pt=6.5, colour=SUBTLE, align="right")
        for i, line in enumerate(notes[stage]):
            y = top + 8 + i * min(_NOTE_ROW_PX, (BAND_PX - 10) / len(notes[stage]))
            sheet.text(layout.right_px + 12, y, line, size_pt=_NOTE_PT, colour=INK)


def _draw_open(sheet: Sheet, layout: Layout, passes: Bars) -> None:
    """Draw white behind the strips while a pass is open."""
    y_px = layout.span_px(passes.stage, list(layout.strips))
    sheet.bars(layout.x_px(passes.start_ns, passes.end_ns), y_px, OPEN, gid="moesim-open")


def _draw_stalls(
    sheet: Sheet, layout: Layout, stage: NDArray[np.int64], start: NDArray[np.int64], end: NDArray[np.int64]
) -> None:
    y_px = layout.span_px(stage, ("compute", "comm"))
    sheet.bars(layout.x_px(start, end), y_px, OPEN, gid="moesim-stalled", hatch="//////", hatch_colour=STALLED)


def _draw_stream(sheet: Sheet, layout: Layout, trace: Trace, stream: str, bars: Bars) -> None:
    x_px = layout.x_px(bars.start_ns, bars.end_ns)
    y_px = layout.y_px(stream, bars.stage, bars.top, bars.height)
    edge_px = 0.0
    if stream == "pass":
        colours = pass_colours(trace["kind"][bars.row].astype(np.str_), trace.ints("microbatch")[bars.row])
        edge_px = min(1.0, float(np.median(x_px[:, 1] - x_px[:, 0])) / 8) if len(bars) else 0.0
    elif stream == "foreign":
        colours = np.tile(to_rgb(FOREIGN), (len(bars), 1))
    else:
        colours = kind_colours(trace.ints("kind")[bars.row])
    sheet.bars(x_px, y_px, colours, gid=f"moesim:{stream}", edge_px=edge_px)


def _draw_numbers(sheet: Sheet, layout: Layout, trace: Trace, passes: Bars) -> None:
    """Write microbatch (and chunk, where there are several) into passes that are wide enough."""
    x_px = layout.x_px(passes.start_ns, passes.end_ns)
    y_px = layout.y_px("pass", passes.stage, passes.top, passes.height)
    kinds, microbatches, chunks = (trace[name][passes.row] for name in ("kind", "microbatch", "chunk"))
    chunked = int(trace.ints("chunk").max(initial=0)) > 0
    for i in range(len(passes)):
        text = f"{microbatches[i]}.{chunks[i]}" if chunked else str(microbatches[i])
        text, colour = (text, INK) if kinds[i] != "O" else ("O", "white")
        (left, right), (top, bottom) = x_px[i].tolist(), y_px[i].tolist()
        if text_width_px(text, 7.5) + 4 <= right - left and bottom - top >= 11:
            sheet.text((left + right) / 2, (top + bottom) / 2, text, size_pt=7.5, colour=colour, align="center")


def _draw_ticks(sheet: Sheet, layout: Layout) -> None:
    """Draw ticks, and their milliseconds below the last band."""
    low, high = (time_ns / 1e6 for time_ns in layout.window_ns)
    at_ms = [
        float(t) for t in MaxNLocator(nbins=12, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high) if low <= t <= high
    ]
    x_px = [layout.left_px + (t - low) / (high - low) * (layout.right_px - layout.left_px) for t in at_ms]
    bottom = layout.bottom_px
    sheet.lines(x_px, (layout.top_px - 3, bottom + 5), AXIS, width_px=0.6)
    for x, t in zip(x_px, at_ms, strict=True):
        sheet.text(x, bottom + 14, f"{round(t, 6):,.10g}", size_pt=8, colour=SUBTLE, align="center")
    sheet.text(
        (layout.left_px + layout.right_px) / 2, bottom + 31, "time in ms", size_pt=8, colour=FAINT, align="center"
    )
