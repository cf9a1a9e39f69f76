"""A picture of why a step takes as long as it does: the critical path as a waterfall, and the gain of each what-if."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from matplotlib.axes import Axes

from sim.report.canvas import new_figure, save_figure, settings, style_axes
from sim.report.palette import AXIS, CATEGORY_COLOURS, INK, SERIES_COLOURS, STALLED, SUBTLE
from sim.results.quantities import format_quantity

__all__ = ["draw_why"]

_LINE_INCHES: Final = 0.3
_LEAST: Final = 0.0005
"""Parts below this fraction of the step have no line."""
_COLOURS: Final = {**CATEGORY_COLOURS, "stalled": STALLED}


def draw_why(data: Mapping[str, Any], path: Path) -> None:
    """Write the picture of the JSON of `moesim why`."""
    parts = [part for part in data["path"] if part["fraction"] >= _LEAST]
    gains = [one for one in data["what_ifs"] if one["gain_s"] is not None]
    heights = [max(2, len(parts)), max(2, len(gains))]
    with settings():
        height = _LINE_INCHES * sum(heights) + 2.6
        figure = new_figure(9.6, height)
        axes = figure.subplots(2, 1, height_ratios=heights)
        figure.subplots_adjust(left=0.2, right=0.91, top=1 - 0.85 / height, bottom=0.6 / height, hspace=2.6 / height)
        title = data["name"] or "Why the step takes so long"
        figure.suptitle(title, x=0.02, ha="left", y=1 - 0.2 / height, fontsize=13, fontweight="bold", color=INK)
        _waterfall(axes[0], parts, data["step_time_s"])
        _gains(axes[1], gains, data["time_s"], "step" if data["metric"] == "step_time_s" else "request")
        save_figure(figure, path)


def _waterfall(axes: Axes, parts: list[Mapping[str, Any]], step_s: float) -> None:
    """Draw the parts of the critical path one after another."""
    style_axes(axes, f"What the critical path is made of: {format_quantity(step_s, 's')}", grid=True)
    before_ms = 0.0
    for line, part in enumerate(parts):
        took_ms = part["time_s"] * 1e3
        axes.barh(line, took_ms, left=before_ms, height=0.7, color=_COLOURS.get(part["part"], AXIS))
        text = f"{format_quantity(part['time_s'], 's')}, {100 * part['fraction']:.0f} %"
        is_right = before_ms + took_ms > 0.75e3 * step_s
        x_ms = before_ms if is_right else before_ms + took_ms
        gap = (-4, 0) if is_right else (4, 0)
        axes.annotate(
            text,
            (x_ms, line),
            gap,
            textcoords="offset points",
            va="center",
            ha="right" if is_right else "left",
            fontsize=8,
            color=SUBTLE,
        )
        before_ms += took_ms
    _name_lines(axes, [part["part"].replace("_", " ") for part in parts])
    axes.set(xlim=(0, step_s * 1e3))
    axes.set_xlabel("ms of the step", color=SUBTLE, fontsize=8.5)


def _gains(axes: Axes, gains: list[Mapping[str, Any]], as_it_is_s: float, subject: str) -> None:
    """Draw the step time under each what-if."""
    style_axes(axes, f"{subject.capitalize()} time under each what-if, a simulation each", grid=True)
    for line, one in enumerate(gains):
        axes.barh(line, one["time_s"] * 1e3, height=0.7, color=SERIES_COLOURS[0])
        share = one["gain_s"] / as_it_is_s
        text = "as before" if abs(share) < _LEAST else f"{-100 * share:+.1f} %"
        axes.annotate(text, (1.01, line), xycoords=("axes fraction", "data"), va="center", fontsize=8, color=SUBTLE)
    _name_lines(axes, [one["name"].replace("_", " ") for one in gains])
    longest_ms = 1e3 * max([as_it_is_s, *(one["time_s"] for one in gains)])
    axes.axvline(as_it_is_s * 1e3, color=INK, lw=1)
    axes.set(xlim=(0, longest_ms * 1.02))
    axes.set_xlabel(f"{subject} time in ms; the line is the time as it is", color=SUBTLE, fontsize=8.5)


def _name_lines(axes: Axes, names: list[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set(ylim=(max(2, len(names)) - 0.5, -0.5))
