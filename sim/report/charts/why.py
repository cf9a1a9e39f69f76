"""A picture of why a step takes as long as it does: the critical path as a waterfall, and the gain of each what-if."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from matplotlib.axes import Axes

from sim.report.canvas import new_figure, save_figure, settings, style_axes
from sim.report.palette import AXIS, CATEGORY_COLOURS, INK, SERIES_COLOURS, STALLED, SUBTLE
from sim.results.quantities import format_quantity

__all__ = ["draw_why"]

_LINE_INCHES: Final = 0.3
_LEAST: Final = 0.0005
"""Parts below this fraction of the step have no line."""
_COLOURS: Final = {**CATEGORY_COLOURS, "stalled": STALLED}


class _Without(NamedTuple):
    """What the lower panel shows: times without one thing each."""

    title: str
    rows: list[Mapping[str, Any]]
    """Each with its name, `time_s` and `gain_s`."""
    as_it_is_s: float
    subject: str
    """What takes the time: a step or a request."""


def draw_why(data: Mapping[str, Any], path: Path) -> None:
    """Write the picture of the JSON of `moesim why`."""
    parts = [part for part in data["path"] if part["fraction"] >= _LEAST]
    without = _without(data)
    heights = [max(2, len(parts)), *([max(2, len(without.rows))] if without.rows else [])]
    with settings():
        height = _LINE_INCHES * sum(heights) + 1.3 * len(heights)
        figure = new_figure(9.6, height)
        axes = figure.subplots(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
        figure.subplots_adjust(left=0.2, right=0.91, top=1 - 0.85 / height, bottom=0.6 / height, hspace=2.6 / height)
        title = data["name"] or "Why the step takes so long"
        figure.suptitle(title, x=0.02, ha="left", y=1 - 0.2 / height, fontsize=13, fontweight="bold", color=INK)
        _waterfall(axes[0], parts, data["step_time_s"])
        if without.rows:
            _gains(axes[1], without)
        save_figure(figure, path)


def _without(data: Mapping[str, Any]) -> _Without:
    """Return the what-ifs; of a measured job, which has none, the causes of stragglers."""
    gains = [one for one in data["what_ifs"] if one["gain_s"] is not None]
    found = data["stragglers"]
    if not gains and found:
        return _Without(
            "Step time without each cause of stragglers, a replay each", found["causes"], found["as_it_is_s"], "step"
        )
    subject = "step" if data["metric"] == "step_time_s" else "request"
    title = f"{subject.capitalize()} time under each what-if, a simulation each"
    return _Without(title, gains, data["time_s"], subject)


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


def _gains(axes: Axes, without: _Without) -> None:
    """Draw the time without each thing."""
    style_axes(axes, without.title, grid=True)
    for line, one in enumerate(without.rows):
        axes.barh(line, one["time_s"] * 1e3, height=0.7, color=SERIES_COLOURS[0])
        share = one["gain_s"] / without.as_it_is_s
        text = "as before" if abs(share) < _LEAST else f"{-100 * share:+.1f} %"
        axes.annotate(text, (1.01, line), xycoords=("axes fraction", "data"), va="center", fontsize=8, color=SUBTLE)
    _name_lines(axes, [one["name"].replace("_", " ") for one in without.rows])
    longest_ms = 1e3 * max([without.as_it_is_s, *(one["time_s"] for one in without.rows)])
    axes.axvline(without.as_it_is_s * 1e3, color=INK, lw=1)
    axes.set(xlim=(0, longest_ms * 1.02))
    axes.set_xlabel(f"{without.subject} time in ms; the line is the time as it is", color=SUBTLE, fontsize=8.5)


def _name_lines(axes: Axes, names: list[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set(ylim=(max(2, len(names)) - 0.5, -0.5))
