"""A picture of several schedules on the same work: a band for each schedule, a line for each stage, times aligned.

Hue is the microbatch; light is F, full B, greyed W, and a darker shade a second chunk. Grey ground is idle. At the left
of a band stand step time, bubble and memory of the schedule. Passes that overlap share the height of their line, and
such lines are higher, so that both numbers can be read.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from sim.engine.trace import Trace
from sim.report.canvas import Sheet, check_suffix, settings, text_width_px
from sim.report.palette import IDLE, INK, STALLED, SUBTLE, pass_colours
from sim.report.timeline.bars import select_bars
from sim.report.timeline.legend import ROW_PX, Entry, draw_legend, flow, legend_entries
from sim.results.quantities import format_quantity

__all__ = ["Band", "draw_schedules"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Band:
    """A schedule in the picture."""

    name: str
    trace: Trace
    """Its run."""
    step_time_s: float
    bubble_fraction: float
    peak_bytes: int | None = None
    """Memory of the fullest GPU; None without a model."""
    fits: bool | None = None
    """Whether it fits into memory; None without a model."""
    is_fastest: bool = False
    """Whether it is the fastest of those that fit."""

    @property
    def overlaps(self) -> bool:
        """Whether passes of a stage run at the same time."""
        return bool((select_bars(self.trace, "pass", (self.trace.start_ns, self.trace.end_ns)).height < 1).any())

    @property
    def height_px(self) -> float:
        """Height of the band."""
        line_px, most_px = (_PAIR_LINE_PX, _MOST_PAIRS_PX) if self.overlaps else (_LINE_PX, _MOST_PX)
        return min(float(most_px), max(line_px * self.trace.num_stages, _TEXTS_PX))

    def lines(self) -> list[tuple[str, str]]:
        """Return the texts below the name, with their colours."""
        texts = [(format_quantity(self.step_time_s, "s"), INK), (f"bubble {100 * self.bubble_fraction:.1f} %", SUBTLE)]
        if self.peak_bytes is not None:
            texts.append((f"memory {format_quantity(float(self.peak_bytes), 'bytes')}", SUBTLE))
        if self.fits is False:
            texts[-1] = (f"{texts[-1][0]}: does not fit", STALLED)
        return texts


_WIDTH_PX: Final = 1600
_LEFT_PX: Final = 190
_RIGHT_PX: Final = 1576
_HEAD_PX: Final = 38
_SENTENCE_PX: Final = 16
_GAP_PX: Final = 12
_MOST_PX: Final = 200
"""Highest band, of many stages."""
_MOST_PAIRS_PX: Final = 400
_LINE_PX: Final = 15
_PAIR_LINE_PX: Final = 24
"""Height of a line in which passes overlap."""
_TEXTS_PX: Final = 60
"""Height of the texts at the left."""
_FOOT_PX: Final = 44
_NUMBER_PT: Final = 6.5
_CHUNK_DARKER: Final = 0.22


def draw_schedules(bands: Sequence[Band], path: str | Path, *, title: str, sentences: Sequence[str] = ()) -> None:
    """Draw the whole run of each band, below each other and with a common axis of time.

    Parameters
    ----------
    bands
        The schedules, in the order in which they are drawn.
    path
        File to write; its suffix (.png, .svg, .pdf) is the format.
    title
        Name of the work.
    sentences
        What the schedules say, written below the title.
    """
    target = Path(path)
    check_suffix(target)
    end_ns = max(band.trace.step_ns for band in bands)
    heights = [band.height_px for band in bands]
    lines = textwrap.wrap(" ".join(sentences), 230)
    with settings():
        entries = _legend(bands)
        positions = flow([e.width_px for e in entries], [not e.patches for e in entries], _WIDTH_PX - 48)
        legend_top = _HEAD_PX + _SENTENCE_PX * len(lines) + 4
        top = legend_top + ROW_PX * (positions[-1][1] + 1) + 14.0
        head = top
        sheet = Sheet(_WIDTH_PX, round(top + sum(heights) + _GAP_PX * len(bands) + _FOOT_PX))
        sheet.text(24, 23, f"{title}: the same work under {len(bands)} schedules", size_pt=14, bold=True)
        for i, line in enumerate(lines):
            sheet.text(24, _HEAD_PX + _SENTENCE_PX * (i + 0.5), line, size_pt=9, colour=SUBTLE)
        draw_legend(sheet, entries, positions, left_px=24, top_px=legend_top)
        bottom = top + sum(heights) + _GAP_PX * (len(bands) - 1)
        for band, height in zip(bands, heights, strict=True):
            _draw_band(sheet, band, top, height, end_ns)
            top += height + _GAP_PX
        sheet.time_axis((0.0, end_ns / 1e6), (_LEFT_PX, _RIGHT_PX), bottom, top_px=head - 4, line_px=0.5)
        sheet.save(target)


# ---- private -----------------------------------------------------------------------------------------------------


def _legend(bands: Sequence[Band]) -> list[Entry]:
    kinds = {kind for band in bands for kind in band.trace["kind"][band.trace.rows("pass")].tolist()}
    entries = legend_entries({"pass": kinds}, {"idle"})
    if any(band.trace.ints("chunk").max(initial=0) > 0 for band in bands):
        colours = pass_colours(np.array(["F", "F"]), np.array([0, 0])) * np.array([[1.0], [1 - _CHUNK_DARKER]])
        first, second = ((float(r), float(g), float(b)) for r, g, b in colours)
        entries.insert(-1, Entry(label="first and later chunks", patches=(first, second)))
    if any(band.overlaps for band in bands):
        entries.append(Entry(label="one above the other: passes that overlap"))
    return entries


def _x(time_ns: np.ndarray, end_ns: int) -> np.ndarray:
    return np.asarray(_LEFT_PX + time_ns / max(1, end_ns) * (_RIGHT_PX - _LEFT_PX))


def _draw_band(sheet: Sheet, band: Band, top: float, height: float, end_ns: int) -> None:
    """Draw the passes of a schedule, and its name and figures at the left."""
    name, trace = band.name, band.trace
    line = height / trace.num_stages
    own_end = np.array([[0, trace.step_ns]])
    ground = np.array([[top, top + height - line * 0.1]])
    sheet.bars(_x(own_end, end_ns), ground, [IDLE], gid=f"moesim-schedule:{name}-idle")
    bars = select_bars(trace, "pass", (trace.start_ns, trace.end_ns))
    at = _x(np.stack([bars.start_ns, bars.end_ns], axis=1) - trace.start_ns, end_ns)
    upper = top + line * (bars.stage + bars.top * 0.9)
    y_px = np.stack([upper, upper + line * 0.9 * bars.height], axis=1)
    microbatch, chunk = trace.ints("microbatch")[bars.row], trace.ints("chunk")[bars.row].clip(min=0)
    kind = trace["kind"][bars.row].astype(np.str_)
    colours = pass_colours(kind, microbatch) * (1 - _CHUNK_DARKER * (chunk > 0)[:, None])
    edge_px = min(0.7, float(np.median(at[:, 1] - at[:, 0])) / 8) if len(bars) else 0.0
    sheet.bars(at, y_px, colours, gid=f"moesim-schedule:{name}", edge_px=edge_px)
    _draw_numbers(sheet, at, y_px, kind, microbatch)
    lines = band.lines()
    first = top + height / 2 - 6.5 * len(lines)
    sheet.text(_LEFT_PX - 10, first, f"* {name}" if band.is_fastest else name, size_pt=10, bold=True, align="right")
    for i, (text, colour) in enumerate(lines):
        sheet.text(_LEFT_PX - 10, first + 14 + 13 * i, text, size_pt=8, colour=colour, align="right")


def _draw_numbers(sheet: Sheet, x_px: np.ndarray, y_px: np.ndarray, kind: np.ndarray, microbatch: np.ndarray) -> None:
    """Write the microbatch into passes that are wide and high enough, and W before or in place of it."""
    for i, number in enumerate(microbatch.tolist()):
        (left, right), (upper, lower) = x_px[i].tolist(), y_px[i].tolist()
        texts = [f"W{number}", "W"] if kind[i] == "W" else [str(number)]
        fitting = [text for text in texts if text_width_px(text, _NUMBER_PT) + 3 <= right - left]
        if number >= 0 and fitting and lower - upper >= 9:
            sheet.text((left + right) / 2, (upper + lower) / 2, fitting[0], size_pt=_NUMBER_PT, align="center")
