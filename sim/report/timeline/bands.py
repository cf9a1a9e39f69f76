"""The bands of a timeline: where each stage and each strip lies in pixels, and how a band is drawn.

A stage is a band of 90 pixels. Where kernels are wide enough, it has a strip for each stream that the trace has; else
one strip of how each moment is spent (`sim.report.timeline.spent`). The first strip, of the passes, takes the height
that the other strips leave.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from matplotlib.colors import to_rgb
from numpy.typing import NDArray

from sim.engine.trace import Trace
from sim.report.canvas import Sheet, text_width_px
from sim.report.palette import (
    CATEGORY_COLOURS,
    FOREIGN,
    IDLE,
    INK,
    OPEN,
    STALLED,
    SUBTLE,
    kind_colours,
    pass_colours,
)
from sim.report.timeline.bars import Bars, select_bars, stalls_in
from sim.report.timeline.spent import STACKED, spent_in

__all__ = ["AXIS_PX", "BAND_PX", "STRIPS", "Bands", "Layout", "Strip", "lay_strips", "notes_width_px"]

BAND_PX: Final = 90
"""Height of a stage with its gap."""
GAP_PX: Final = 8
"""Gap between bands."""

STRIPS: Final[Mapping[str, tuple[str, int]]] = {
    "pass": ("passes", 0),
    "spent": ("time spent", 48),
    "compute": ("compute", 11),
    "comm": ("waiting for", 11),
    "p2p": ("sends", 8),
    "foreign": ("foreign", 16),
    "async": ("on streams", 11),
}
"""Stream, or `spent` -> the name of its strip and its height where it is not the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """The rows of pixels that a stream has in a band."""

    top_px: int
    """Upper edge, from the top of the band."""
    height_px: int


def lay_strips(streams: Collection[str]) -> dict[str, Strip]:
    """Return the strips of a band for streams that the trace has, from the top.

    >>> lay_strips(["pass", "p2p"])["pass"]
    Strip(top_px=0, height_px=72)
    """
    shown = [stream for stream in STRIPS if stream in streams] or ["pass"]
    heights = {stream: STRIPS[stream][1] for stream in shown}
    heights[shown[0]] = BAND_PX - GAP_PX - sum(STRIPS[stream][1] + 2 for stream in shown[1:])
    strips, top = {}, 0
    for stream in shown:
        strips[stream] = Strip(top_px=top, height_px=heights[stream])
        top += heights[stream] + 2
    return strips


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The positions of bands, strips and times in the picture."""

    left_px: int
    """Left edge of the bars."""
    right_px: int
    """Right edge of the bars."""
    top_px: int
    """Top of the first band."""
    window_ns: tuple[int, int]
    """Times at the left and right edge."""
    num_stages: int
    first_stage: int = 0
    """Stage of the first band."""
    strips: Mapping[str, Strip]
    """Strips of each band."""

    @property
    def bottom_px(self) -> int:
        """Bottom of the last band."""
        return self.top_px + BAND_PX * self.num_stages - GAP_PX

    def band_px(self, stage: int) -> int:
        """Return the top of a band."""
        return self.top_px + BAND_PX * (stage - self.first_stage)

    def x_px(self, start_ns: NDArray[np.int64], end_ns: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return left and right edges. Shapes [B], [B] -> [B, 2]."""
        low, high = self.window_ns
        at = (np.stack([start_ns, end_ns], axis=1) - low) / (high - low)
        return self.left_px + at * (self.right_px - self.left_px)

    def y_px(
        self, stream: str, stage: NDArray[np.int64], top: NDArray[np.float64], height: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return upper and lower edges in the strip of a stream. Shape [B, 2]."""
        strip = self.strips[stream]
        base = self.top_px + BAND_PX * (stage - self.first_stage) + strip.top_px
        return np.stack([base + strip.height_px * top, base + strip.height_px * (top + height)], axis=1)

    def span_px(self, stage: NDArray[np.int64], streams: Sequence[str]) -> NDArray[np.float64]:
        """Return upper and lower edges over several strips. Shape [B, 2]."""
        strips = [self.strips[stream] for stream in streams if stream in self.strips]
        base = self.top_px + BAND_PX * (stage - self.first_stage)
        last = strips[-1]
        return np.stack([base + strips[0].top_px, base + last.top_px + last.height_px], axis=1).astype(np.float64)


AXIS_PX: Final = 46
"""Height of the axis below the bands."""
_NOTE_PT: Final = 8.0
_NOTE_ROW_PX: Final = 14
_NUMBER_PT: Final = 7.5


class Bands:
    """The bands of the stages of a layout, in its window.

    The names of the groups of bars begin with `group`: `<group>:pass`, `<group>:compute`.
    """

    def __init__(self, trace: Trace, layout: Layout, *, lane: int, group: str, colour: str = "microbatch") -> None:
        self._trace, self._layout, self._group, self._colour = trace, layout, group, colour
        stages = range(layout.first_stage, layout.first_stage + layout.num_stages)
        streams = [stream for stream in layout.strips if stream != "spent"]
        self.bars = {
            stream: _of_stages(select_bars(trace, stream, layout.window_ns, lane=lane), stages) for stream in streams
        }
        self._spent = (
            spent_in(trace, layout.window_ns, stages, lane=lane, width_px=layout.right_px - layout.left_px)
            if "spent" in layout.strips
            else None
        )
        computes = "compute" in layout.strips
        self._stalls = stalls_in(trace, layout.window_ns, stages if computes else [], lane=lane) if computes else None
        self._stages = np.array(stages)

    @property
    def kinds(self) -> dict[str, Collection[str]]:
        """Kinds of the bars of each stream; categories of the strip `spent`."""
        kinds: dict[str, Collection[str]] = {
            stream: frozenset(self._trace["kind"][bars.row].tolist()) for stream, bars in self.bars.items()
        }
        return kinds if self._spent is None else kinds | {"spent": self._spent.categories}

    @property
    def styles(self) -> set[str]:
        """Which of foreign, stalled and idle are shown next to the kinds."""
        foreign = {"foreign"} if "foreign" in self.bars and len(self.bars["foreign"]) else set()
        return {"idle"} | foreign | ({"stalled"} if self._stalls is not None and self._stalls[0].size else set())

    @property
    def layout(self) -> Layout:
        """Where the bands lie."""
        return self._layout

    def move(self, layout: Layout) -> None:
        """Use another layout of the same window and strips."""
        self._layout = layout

    def draw(self, sheet: Sheet, *, notes: Sequence[Sequence[str]] = ()) -> None:
        """Draw everything; `notes` are lines per stage for the right margin."""
        self._draw_ground(sheet, notes)
        if "pass" in self.bars:
            passes = self.bars["pass"]
            everything = self._layout.span_px(passes.stage, list(self._layout.strips))
            sheet.bars(self._x_px(passes), everything, OPEN, gid=f"{self._group}-open")
        self._draw_ticks(sheet)
        if self._stalls is not None:
            stage, start, end = self._stalls
            x_px, y_px = self._layout.x_px(start, end), self._layout.span_px(stage, ("compute", "comm"))
            sheet.bars(x_px, y_px, OPEN, gid=f"{self._group}-stalled", hatch="//////", hatch_colour=STALLED)
        for stream, bars in self.bars.items():
            self._draw_stream(sheet, stream, bars)
        if self._spent is not None:
            self._draw_spent(sheet)
        if "pass" in self.bars:
            self._draw_numbers(sheet)

    def middle_px(self, stream: str, row: int) -> tuple[float, float, float]:
        """Return the left and right edge and the middle height of the bar of a row, which must be shown."""
        bars = self.bars[stream]
        at = np.flatnonzero(bars.row == row)
        (left, right), (top, bottom) = self._x_px(bars)[at[0]].tolist(), self._y_px(stream)[at[0]].tolist()
        return left, right, (top + bottom) / 2

    # ---- private -------------------------------------------------------------------------------------------------

    def _x_px(self, bars: Bars) -> NDArray[np.float64]:
        return self._layout.x_px(bars.start_ns, bars.end_ns)

    def _y_px(self, stream: str) -> NDArray[np.float64]:
        bars = self.bars[stream]
        return self._layout.y_px(stream, bars.stage, bars.top, bars.height)

    def _draw_ground(self, sheet: Sheet, notes: Sequence[Sequence[str]]) -> None:
        """Draw the grey of each band, its names at the left and its note at the right."""
        layout = self._layout
        across = np.tile(np.array([[layout.left_px, layout.right_px]], dtype=np.float64), (layout.num_stages, 1))
        sheet.bars(across, layout.span_px(self._stages, list(layout.strips)), IDLE, gid=f"{self._group}-idle")
        for position, stage in enumerate(self._stages.tolist()):
            top = layout.band_px(stage)
            for stream, strip in layout.strips.items():
                middle = top + strip.top_px + strip.height_px / 2
                if strip.top_px == 0:
                    sheet.text(layout.left_px - 8, middle, f"stage {stage}", size_pt=10, bold=True, align="right")
                else:
                    sheet.text(layout.left_px - 8, middle, STRIPS[stream][0], size_pt=6.5, colour=SUBTLE, align="right")
            lines = notes[position] if notes else ()
            for i, line in enumerate(lines):
                y = top + 8 + i * min(_NOTE_ROW_PX, (BAND_PX - 10) / len(lines))
                sheet.text(layout.right_px + 12, y, line, size_pt=_NOTE_PT)

    def _draw_ticks(self, sheet: Sheet) -> None:
        """Draw ticks through the bands, and their milliseconds below the last."""
        layout = self._layout
        first_ns, last_ns = layout.window_ns
        edges_px = layout.left_px, layout.right_px
        sheet.time_axis((first_ns / 1e6, last_ns / 1e6), edges_px, layout.bottom_px, top_px=layout.top_px - 3)

    def _draw_stream(self, sheet: Sheet, stream: str, bars: Bars) -> None:
        x_px, edge_px = self._x_px(bars), 0.0
        if stream == "pass":
            kinds, microbatches = self._trace["kind"][bars.row].astype(np.str_), self._trace.ints("microbatch")
            colours = pass_colours(kinds, microbatches[bars.row], by=self._colour)
            edge_px = min(1.0, float(np.median(x_px[:, 1] - x_px[:, 0])) / 8) if len(bars) else 0.0
        elif stream == "foreign":
            colours = np.tile(to_rgb(FOREIGN), (len(bars), 1))
        else:
            colours = kind_colours(self._trace.ints("kind")[bars.row])
        sheet.bars(x_px, self._y_px(stream), colours, gid=f"{self._group}:{stream}", edge_px=edge_px)

    def _draw_spent(self, sheet: Sheet) -> None:
        """Draw the stacked strip, a group of bars for each category."""
        spent, layout = self._spent, self._layout
        if spent is None:
            return
        x_px = layout.x_px(spent.start_ns, spent.end_ns)
        y_px = layout.y_px("spent", spent.stage, spent.top, spent.height)
        for category in spent.categories:
            mine = spent.category == STACKED.index(category)
            is_stalled = category == "stalled"
            sheet.bars(
                x_px[mine],
                y_px[mine],
                CATEGORY_COLOURS[category],
                gid=f"{self._group}-spent:{category}",
                hatch="//////" if is_stalled else None,
                hatch_colour=STALLED,
            )

    def _draw_numbers(self, sheet: Sheet) -> None:
        """Write microbatch (and chunk, where there are several) into passes that are wide enough."""
        passes, trace = self.bars["pass"], self._trace
        x_px, y_px = self._x_px(passes), self._y_px("pass")
        kinds, microbatches, chunks = (trace[name][passes.row] for name in ("kind", "microbatch", "chunk"))
        chunked = int(trace.ints("chunk").max(initial=0)) > 0
        for i in range(len(passes)):
            text = f"{microbatches[i]}.{chunks[i]}" if chunked else str(microbatches[i])
            colour = INK if kinds[i] != "O" else "white"
            (left, right), (top, bottom) = x_px[i].tolist(), y_px[i].tolist()
            texts = {"O": ["O"], "W": [f"W{text}", "W"]}.get(str(kinds[i]), [text])
            fitting = [each for each in texts if text_width_px(each, _NUMBER_PT) + 4 <= right - left]
            if fitting and bottom - top >= 11:
                middle = (left + right) / 2, (top + bottom) / 2
                sheet.text(*middle, fitting[0], size_pt=_NUMBER_PT, colour=colour, align="center")


def _of_stages(bars: Bars, stages: Collection[int]) -> Bars:
    """Return the bars of some stages."""
    here = np.isin(bars.stage, list(stages))
    return replace(bars, **{name: getattr(bars, name)[here] for name in Bars.__dataclass_fields__})


def notes_width_px(notes: Sequence[Sequence[str]]) -> int:
    """Return the width of the right margin that notes need; 0 without any."""
    return round(max((text_width_px(line, _NOTE_PT) + 14 for lines in notes for line in lines), default=0.0))
