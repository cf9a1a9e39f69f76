"""The pipeline timeline that a person reads: a band per stage, time to the right.

Reading it
----------
In a band, from the top: passes (hue and number: microbatch; light F, full B, greyed W, dark O), own kernels, transfers
that the pass waits for, sends that nobody waits for, and expert work for other stages with a line per GPU. White behind
the strips means that a pass is open, hatching that it is stalled, grey that the stage is idle.

Of a whole run, two passes of one stage are shown again, wider; of a part, the whole run in small.

Every span that touches the window is one bar. In an SVG the bars of a stream are the paths of the group
`moesim:<stream>`, as many as `count_bars` says.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from sim.engine.trace import STREAMS, Trace
from sim.report.canvas import Sheet, check_suffix, settings
from sim.report.palette import SUBTLE
from sim.report.timeline.bands import AXIS_PX, Bands, notes_width_px
from sim.report.timeline.bars import check_window_ns, count_bars
from sim.report.timeline.closeup import closeup_height_px, closeup_of, draw_closeup
from sim.report.timeline.layout import Layout, lay_strips
from sim.report.timeline.legend import ROW_PX, draw_legend, flow, legend_entries
from sim.report.timeline.overview import draw_overview, overview_height_px

__all__ = ["count_bars", "draw_timeline"]

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
    InvalidValueError
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
    places = flow([e.width_px for e in entries], [not e.patches for e in entries], WIDTH_PX - 2 * _MARGIN_PX)
    layout = replace(layout, top_px=_HEAD_PX + ROW_PX * (places[-1][1] + 1) + 10)
    bands.move(layout)
    zoomed = window[0] > trace.start_ns or window[1] < trace.end_ns
    close = None if zoomed else closeup_of(layout, bands.bars.get("pass"))
    below_px = overview_height_px(trace.num_stages) if zoomed else closeup_height_px() if close else 0
    sheet = Sheet(WIDTH_PX, layout.bottom_px + AXIS_PX + below_px)
    sheet.text(_MARGIN_PX, 23, title, size_pt=14, bold=True)
    sheet.text(_MARGIN_PX, 46, _subtitle(trace, window, lane, subtitle), size_pt=9.5, colour=SUBTLE)
    draw_legend(sheet, entries, places, left_px=_MARGIN_PX, top_px=_HEAD_PX)
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
    return "  ·  ".join(part for part in (subtitle, shown, lanes) if part)


def _ms(time_ns: int) -> str:
    """Return milliseconds with at most four digits that count, or all before the point."""
    value = time_ns / 1e6
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.4g}"
