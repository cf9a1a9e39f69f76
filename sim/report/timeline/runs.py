"""Several runs, or one run in little height, on one axis of time: a band for each run, a line for each stage.

A pass is a bar in the line of its stage. Its colour is its microbatch (hue; light F, full B, greyed W) or its kind.
Grey ground is idle time within the run; where a run has ended, the ground ends.

Where the account of a run is given, a bar above its lines divides its step time into parts, on the same axis: the bar
ends where the run ends. A run without a trace, such as a saved result without its arrays, has the bar alone.

Lines are 6 to 18 pixels high: 64 stages take 384 pixels. Numbers of microbatches stand in bars that have room for them.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sim.engine.trace import Trace
from sim.errors import InvalidValueError
from sim.report.canvas import Sheet, check_suffix, settings, text_width_px
from sim.report.palette import CATEGORY_COLOURS, IDLE, STALLED, SUBTLE, pass_colours
from sim.report.timeline.bars import select_bars
from sim.report.timeline.legend import ROW_PX, Entry, draw_legend, flow, legend_entries, part_entries

__all__ = ["COLOURINGS", "ShownRun", "draw_runs"]

COLOURINGS: Final = ("microbatch", "kind")
"""What the colour of a pass may be."""

_WIDTH_PX: Final = 1600
_LEFT_PX: Final = 190
_RIGHT_PX: Final = 1576
_HEAD_PX: Final = 84
_FOOT_PX: Final = 46
_GAP_PX: Final = 18
_RUN_PX: Final = 320
"""Height that the lines of a run share, as far as each has at least the least height and at most the most."""
_LEAST_LINE_PX: Final = 6.0
_MOST_LINE_PX: Final = 18.0
_NUMBER_PT: Final = 6.5
_NAME_PT: Final = 9.5
_PARTS_PX: Final = 16
"""Height of the bar of parts."""
_LEAST_NAMED: Final = 0.002
"""Parts below this fraction of the longest run are drawn, and have no entry in the legend."""
_LEAST_BAND_PX: Final = 46
"""Height that the name and the time of a run need."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownRun:
    """A run with what stands next to its band."""

    name: str
    trace: Trace | None
    lane: int = 0
    """Lane of each stage that is drawn."""
    parts_ns: Mapping[str, float] = field(default_factory=dict)
    """Category of the accounts of time -> its time; they sum to the step time. Empty where no bar is drawn."""

    @property
    def step_ns(self) -> float:
        """First start to last end."""
        return self.trace.step_ns if self.trace is not None else sum(self.parts_ns.values())

    @property
    def lines_px(self) -> float:
        """Height of the lines of its stages."""
        return 0.0 if self.trace is None else _line_px(self.trace.num_stages) * self.trace.num_stages

    @property
    def height_px(self) -> float:
        """Height of its band."""
        return max(self.lines_px + (_PARTS_PX + 4 if self.parts_ns else 0), _LEAST_BAND_PX if self.parts_ns else 0)


def draw_runs(
    runs: Sequence[ShownRun],
    path: str | Path,
    *,
    title: str,
    window_ns: tuple[int, int] | None = None,
    colour: str = "microbatch",
) -> None:
    """Draw runs below one another, each from its own start on.

    Parameters
    ----------
    runs
        The runs, from the top.
    path
        File to write; its suffix (.png, .svg, .pdf) is the format.
    title
        Heading.
    window_ns
        From and to, since the start of each run; None from the start of all to the end of the longest.
    colour
        One of `COLOURINGS`.

    Raises
    ------
    InvalidValueError
        Another suffix or colouring, or a window that ends before it starts.
    """
    target = Path(path)
    check_suffix(target)
    if colour not in COLOURINGS:
        rule, hint = f"be one of {', '.join(COLOURINGS)}", "For example: --colour kind"
        raise InvalidValueError(field="colour", rule=rule, value=colour, hint=hint)
    low, high = window_ns or (0, max(1, *(round(run.step_ns) for run in runs)))
    if low >= high:
        rule = "end after it starts"
        raise InvalidValueError(field="window", rule=rule, value=f"{low} to {high} ns", hint="Swap the ends.")
    legend = _legend(runs, colour)
    places = flow([entry.width_px for entry in legend], [not entry.patches for entry in legend], _WIDTH_PX - 48)
    head = _HEAD_PX + ROW_PX * places[-1][1]
    bottom = head + sum(run.height_px for run in runs) + _GAP_PX * (len(runs) - 1)
    with settings():
        sheet = Sheet(_WIDTH_PX, round(bottom + _FOOT_PX))
        sheet.text(24, 23, title, size_pt=14, bold=True)
        sheet.text(24, 46, _subtitle(runs, (low, high)), size_pt=9.5, colour=SUBTLE)
        draw_legend(sheet, legend, places, left_px=24, top_px=66 - ROW_PX / 2)
        top = float(head)
        for run in runs:
            _draw_run(sheet, run, top, (low, high), colour)
            top += run.height_px + _GAP_PX
        edges_px = _LEFT_PX, _RIGHT_PX
        sheet.time_axis((low / 1e6, high / 1e6), edges_px, bottom, top_px=head - 3, line_px=0.5)
        sheet.save(target)


# ---- private -----------------------------------------------------------------------------------------------------


def _line_px(num_stages: int) -> float:
    """Return the height of the line of a stage.

    >>> _line_px(4), _line_px(32), _line_px(64)
    (18.0, 10.0, 6.0)
    """
    return min(_MOST_LINE_PX, max(_LEAST_LINE_PX, _RUN_PX / num_stages))


def _subtitle(runs: Sequence[ShownRun], window_ns: tuple[int, int]) -> str:
    longest = round(max(run.step_ns for run in runs))
    low, high = window_ns
    whole = low <= 0 and high >= longest
    shown = f"{_ms(longest)} ms" if whole else f"{_ms(low)} to {_ms(high)} ms of {_ms(longest)} ms"
    of_parts = "; above, what they spend the step on, mean over stages" if any(run.parts_ns for run in runs) else ""
    return f"when each stage runs its passes: a line for each stage, the first at the top{of_parts}  ·  {shown}"


def _legend(runs: Sequence[ShownRun], colour: str) -> list[Entry]:
    """Return what the legend names: kinds of passes, then parts of the step."""
    traces = [run.trace for run in runs if run.trace is not None]
    used = {kind for trace in traces for kind in np.unique(trace["kind"][trace.rows("pass")]).tolist()}
    entries = legend_entries({"pass": used}, {"idle"}, colour=colour)
    least_ns = _LEAST_NAMED * max(run.step_ns for run in runs)
    parts = [part for part in CATEGORY_COLOURS if any(run.parts_ns.get(part, 0) >= least_ns > 0 for run in runs)]
    return entries + part_entries(parts)


def _draw_run(sheet: Sheet, run: ShownRun, top: float, window_ns: tuple[int, int], colour: str) -> None:
    """Draw the parts and the lines of a run, and its name and time at the left."""
    _draw_names(sheet, run, top, run.height_px)
    if run.parts_ns:
        _draw_parts(sheet, run, top, window_ns)
        top += _PARTS_PX + 4
    _draw_lines(sheet, run, top, window_ns, colour)


def _draw_parts(sheet: Sheet, run: ShownRun, top: float, window_ns: tuple[int, int]) -> None:
    """Draw the step time of a run, divided into parts."""
    before_ns = 0.0
    for part, took_ns in run.parts_ns.items():
        ends_ns = np.array([[before_ns, before_ns + took_ns]]).clip(*window_ns)
        before_ns += took_ns
        if ends_ns[0, 1] > ends_ns[0, 0]:
            sheet.bars(
                _x(ends_ns, window_ns),
                np.array([[top, top + _PARTS_PX]]),
                [CATEGORY_COLOURS[part]],
                gid=f"moesim-parts:{run.name}-{part}",
                hatch="//////" if part == "stalled" else None,
                hatch_colour=STALLED,
            )


def _draw_lines(sheet: Sheet, run: ShownRun, top: float, window_ns: tuple[int, int], colour: str) -> None:
    """Draw a line for each stage of a run."""
    trace = run.trace
    if trace is None:
        return
    line, begin = _line_px(trace.num_stages), trace.start_ns
    height = line * trace.num_stages
    until = min(window_ns[1], trace.step_ns)
    if until > window_ns[0]:
        ground = _x(np.array([[window_ns[0], until]]), window_ns)
        sheet.bars(ground, np.array([[top, top + height - line * 0.1]]), [IDLE], gid=f"moesim-run:{run.name}-idle")
    bars = select_bars(trace, "pass", (begin + window_ns[0], begin + window_ns[1]), lane=run.lane)
    x_px = _x(np.stack([bars.start_ns, bars.end_ns], axis=1) - begin, window_ns)
    upper = top + line * (bars.stage + bars.top * 0.9)
    y_px = np.stack([upper, upper + line * 0.9 * bars.height], axis=1)
    kinds, microbatches = trace["kind"][bars.row].astype(np.str_), trace.ints("microbatch")[bars.row]
    colours = pass_colours(kinds, microbatches, by=colour)
    edge_px = min(0.7, float(np.median(x_px[:, 1] - x_px[:, 0])) / 8) if len(bars) else 0.0
    sheet.bars(x_px, y_px, colours, gid=f"moesim-run:{run.name}", edge_px=edge_px)
    _draw_numbers(sheet, x_px, y_px, microbatches)


def _draw_names(sheet: Sheet, run: ShownRun, top: float, height: float) -> None:
    """Write name, stages and time at the left of a run."""
    texts = [f"{_ms(round(run.step_ns))} ms"]
    if run.trace is not None:
        count, num_lanes = run.trace.num_stages, run.trace.num_lanes
        lanes = f", lane {run.lane} of {num_lanes}" if num_lanes > 1 else ""
        texts.append(f"{count} stage{'s' if count > 1 else ''}{lanes}")
    lines = _wrapped(run.name, _LEFT_PX - 34)
    middle = top + height / 2 - 7 * (len(lines) + len(texts) - 1)
    for at, text in enumerate(lines):
        sheet.text(_LEFT_PX - 10, middle + 14 * at, text, size_pt=_NAME_PT, bold=True, align="right")
    for at, text in enumerate(texts, len(lines)):
        sheet.text(_LEFT_PX - 10, middle + 14 * at, text, size_pt=8, colour=SUBTLE, align="right")


def _wrapped(name: str, width_px: float) -> list[str]:
    """Return a name in at most two lines that fit a width; what does not fit ends in an ellipsis."""
    lines: list[str] = []
    rest = name.strip()
    while rest and len(lines) < 2:
        # how many characters fit
        end = max(1, bisect_right(range(1, len(rest) + 1), width_px, key=partial(_width_px, rest)))
        space = rest.rfind(" ", 1, end + 1)
        end = space if end < len(rest) and space > 0 else end
        lines.append(rest[:end].strip())
        rest = rest[end:].strip()
    if rest:
        lines[-1] = f"{lines[-1][:-1]}…"
    return lines or [""]


def _width_px(text: str, length: int) -> float:
    return text_width_px(text[:length], _NAME_PT, bold=True)


def _draw_numbers(
    sheet: Sheet, x_px: NDArray[np.float64], y_px: NDArray[np.float64], numbers: NDArray[np.int64]
) -> None:
    """Write the microbatch into passes that are wide and high enough."""
    for (left, right), (upper, lower), number in zip(x_px.tolist(), y_px.tolist(), numbers.tolist(), strict=True):
        if number >= 0 and lower - upper >= 11 and text_width_px(str(number), _NUMBER_PT) + 4 <= right - left:
            sheet.text((left + right) / 2, (upper + lower) / 2, str(number), size_pt=_NUMBER_PT, align="center")


def _x(time_ns: NDArray[np.int64] | NDArray[np.float64], window_ns: tuple[int, int]) -> NDArray[np.float64]:
    low, high = window_ns
    at: NDArray[np.float64] = _LEFT_PX + (time_ns - low) / (high - low) * (_RIGHT_PX - _LEFT_PX)
    return at


def _ms(time_ns: int) -> str:
    value = time_ns / 1e6
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.4g}"
