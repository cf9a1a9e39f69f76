"""A picture of several schedules on the same work: a band for each schedule, a line for each stage, times aligned.

Hue is the microbatch; light is F, full B, greyed W, and a darker shade a second chunk. Grey ground is idle.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from sim.engine.trace import Trace
from sim.report.canvas import Sheet, check_suffix, settings, text_width_px
from sim.report.palette import IDLE, INK, STALLED, SUBTLE, pass_colours
from sim.report.timeline.bars import select_bars

__all__ = ["Band", "draw_schedules"]

Band = tuple[str, str, Trace, str]
"""Name of a schedule, its time, its run, and a note; a note that begins with a star marks the best schedule."""

_WIDTH_PX: Final = 1600
_LEFT_PX: Final = 150
_RIGHT_PX: Final = 1576
_HEAD_PX: Final = 74
_GAP_PX: Final = 12
_BAND_PX: Final = 200  # at most, of many stages
_LINE_PX: Final = 15
_FOOT_PX: Final = 44
_NUMBER_PT: Final = 6.5
_CHUNK_DARKER: Final = 0.22


def draw_schedules(bands: Sequence[Band], path: str | Path, *, title: str) -> None:
    """Draw the whole run of each band, below each other and with a common axis of time.

    Parameters
    ----------
    bands
        Name, time, run and note of each schedule; a note that begins with a star marks the best schedule.
    path
        File to write; its suffix (.png, .svg, .pdf) is the format.
    title
        Heading.
    """
    target = Path(path)
    check_suffix(target)
    end_ns = max(trace.step_ns for _, _, trace, _ in bands)
    heights = [_height_px(trace.num_stages) for _, _, trace, _ in bands]
    with settings():
        sheet = Sheet(_WIDTH_PX, round(_HEAD_PX + sum(heights) + _GAP_PX * len(bands) + _FOOT_PX))
        sheet.text(24, 23, title, size_pt=14, bold=True)
        legend = "a line per stage; hue: microbatch; light F, full B, greyed W; darker: second chunk; grey ground: idle"
        if any((trace.ints("microbatch")[trace.rows("pass")] < 0).any() for _, _, trace, _ in bands):
            legend += "; black: gradients and optimizer"
        sheet.text(24, 46, legend, size_pt=9.5, colour=SUBTLE)
        top = float(_HEAD_PX)
        bottom = top + sum(heights) + _GAP_PX * (len(bands) - 1)
        for band, height in zip(bands, heights, strict=True):
            _draw_band(sheet, band, top, height, end_ns)
            top += height + _GAP_PX
        edges_px = _LEFT_PX, _RIGHT_PX
        sheet.time_axis((0.0, end_ns / 1e6), edges_px, bottom, top_px=_HEAD_PX - 4, line_px=0.5)
        sheet.save(target)


# ---- private -----------------------------------------------------------------------------------------------------


def _height_px(num_stages: int) -> float:
    return min(float(_BAND_PX), _LINE_PX * max(num_stages, 3))


def _x(time_ns: np.ndarray, end_ns: int) -> np.ndarray:
    return np.asarray(_LEFT_PX + time_ns / max(1, end_ns) * (_RIGHT_PX - _LEFT_PX))


def _draw_band(sheet: Sheet, band: Band, top: float, height: float, end_ns: int) -> None:
    """Draw the passes of a schedule, and its name and time at the left."""
    name, took, trace, note = band
    line = height / trace.num_stages
    own_end = np.array([[0, trace.step_ns]])
    ground = np.array([[top, top + height - line * 0.1]])
    sheet.bars(_x(own_end, end_ns), ground, [IDLE], gid=f"moesim-schedule:{name}-idle")
    bars = select_bars(trace, "pass", (trace.start_ns, trace.end_ns))
    at = _x(np.stack([bars.start_ns, bars.end_ns], axis=1) - trace.start_ns, end_ns)
    upper = top + line * (bars.stage + bars.top * 0.9)
    y_px = np.stack([upper, upper + line * 0.9 * bars.height], axis=1)
    microbatch, chunk = trace.ints("microbatch")[bars.row], trace.ints("chunk")[bars.row].clip(min=0)
    colours = pass_colours(trace["kind"][bars.row].astype(np.str_), microbatch)
    colours = colours * (1 - _CHUNK_DARKER * (chunk > 0)[:, None])
    edge_px = min(0.7, float(np.median(at[:, 1] - at[:, 0])) / 8) if len(bars) else 0.0
    sheet.bars(at, y_px, colours, gid=f"moesim-schedule:{name}", edge_px=edge_px)
    _draw_numbers(sheet, at, y_px, microbatch)
    middle = top + height / 2
    is_best = note.startswith("*")
    sheet.text(_LEFT_PX - 10, middle - 8, f"* {name}" if is_best else name, size_pt=10, bold=True, align="right")
    sheet.text(_LEFT_PX - 10, middle + 8, took, size_pt=8, colour=SUBTLE, align="right")
    colour = INK if is_best else STALLED
    sheet.text(_LEFT_PX - 10, middle + 21, note.lstrip("* "), size_pt=7.5, colour=colour, align="right")


def _draw_numbers(sheet: Sheet, x_px: np.ndarray, y_px: np.ndarray, microbatch: np.ndarray) -> None:
    """Write the microbatch into passes that are wide and high enough."""
    for (left, right), (upper, lower), number in zip(x_px.tolist(), y_px.tolist(), microbatch.tolist(), strict=True):
        if number >= 0 and lower - upper >= 11 and text_width_px(str(number), _NUMBER_PT) + 4 <= right - left:
            sheet.text((left + right) / 2, (upper + lower) / 2, str(number), size_pt=_NUMBER_PT, align="center")
