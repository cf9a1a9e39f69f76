"""A picture of a validation: modelled against published figures, both logarithmic, a marker for each system.

There is a panel for each unit. On the diagonal the model is right; the band is 10 % to either side. Markers of figures
that are set apart are hollow.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from sim.report.canvas import new_figure, save_figure, settings, style_axes
from sim.report.palette import FAINT, IDLE, INK, SERIES_COLOURS, SERIES_MARKERS, SUBTLE
from sim.results.quantities import format_quantity

__all__ = ["draw_validation"]

_BAND: Final = 0.1
_PANEL_INCHES: Final = 5.4

Row = Mapping[str, Any]
Point = tuple[Row, bool]


def draw_validation(data: Mapping[str, Any], path: Path, *, title: str) -> None:
    """Write the picture of `validate`'s JSON; limits, and figures without a modelled value, are left out."""
    points = [(row, False) for row in data["rows"] if not row["at_most"]] + [(row, True) for row in data["apart"]]
    points = [(row, is_apart) for row, is_apart in points if (row["modelled"] or 0) > 0 and row["published"] > 0]
    units = list(dict.fromkeys(row["unit"] for row, _ in points)) or [None]
    systems = list(dict.fromkeys((row["suite"], row["system"]) for row, _ in points))
    columns = len(units)
    legend_inches = 0.24 * -(-(len(systems) + 2) // columns)
    with settings():
        width, height = _PANEL_INCHES * len(units) + 0.4, _PANEL_INCHES + legend_inches + 0.7
        figure = new_figure(width, height)
        axes = figure.subplots(1, len(units), squeeze=False)[0]
        left, bottom = 0.95 / width, (legend_inches + 0.85) / height
        figure.subplots_adjust(left=left, right=1 - 0.25 / width, top=1 - 0.65 / height, bottom=bottom, wspace=0.3)
        figure.suptitle(title, x=left, ha="left", y=1 - 0.2 / height, fontsize=13, fontweight="bold", color=INK)
        for panel, unit in zip(axes, units, strict=True):
            _panel(panel, unit, [point for point in points if point[0]["unit"] == unit], systems)
        labels = [system if len(data["suites"]) == 1 else f"{suite}: {system}" for suite, system in systems]
        figure.legend(
            handles=_handles(labels, has_apart=any(is_apart for _, is_apart in points)),
            loc="upper left",
            bbox_to_anchor=(left, (legend_inches + 0.2) / height),
            borderaxespad=0,
            frameon=False,
            fontsize=8.5,
            labelcolor=INK,
            ncols=columns,
        )
        save_figure(figure, path)


def _handles(labels: Sequence[str], *, has_apart: bool) -> list[Artist]:
    """Return the legend: the band, the hollow markers, and the marker of each system."""
    handles: list[Artist] = [Patch(facecolor=IDLE, label="within 10 %")]
    if has_apart:
        handles.append(Line2D([], [], **_marker(-1, is_apart=True), label="hollow: set apart, counted in nothing"))
    return handles + [
        Line2D([], [], **_marker(number, is_apart=False), label=label) for number, label in enumerate(labels)
    ]


def _marker(number: int, *, is_apart: bool) -> dict[str, Any]:
    """Return how the figures of a system are drawn; -1: of any."""
    colour = SUBTLE if number < 0 else SERIES_COLOURS[number % len(SERIES_COLOURS)]
    return {
        "linestyle": "",
        "marker": SERIES_MARKERS[max(number, 0) % len(SERIES_MARKERS)],
        "markersize": 5.5,
        "markerfacecolor": "white" if is_apart else colour,
        "markeredgecolor": colour,
        "markeredgewidth": 0.9,
    }


def _panel(panel: Axes, unit: str | None, points: Sequence[Point], systems: Sequence[tuple[str, str]]) -> None:
    """Draw the figures of a unit."""
    panel.set(xscale="log", yscale="log", aspect="equal")
    style_axes(panel, grid=True)
    panel.set_xlabel("published", color=INK)
    panel.set_ylabel("modelled", color=INK)
    limits = _limits(points)
    ends = np.array(limits)
    panel.fill_between(ends, ends * (1 - _BAND), ends * (1 + _BAND), color=IDLE, lw=0, zorder=0)
    panel.plot(ends, ends, color=FAINT, lw=0.8, zorder=1)
    for number, system in enumerate(systems):
        for is_apart in (False, True):
            rows = [row for row, apart in points if apart == is_apart and (row["suite"], row["system"]) == system]
            published, modelled = ([row[key] for row in rows] for key in ("published", "modelled"))
            panel.plot(published, modelled, **_marker(number, is_apart=is_apart), alpha=0.9, zorder=3)
    panel.set(xlim=limits, ylim=limits)
    formatter = FuncFormatter(lambda value, _: format_quantity(value, unit))
    for axis in (panel.xaxis, panel.yaxis):
        narrow = limits[1] / limits[0] < 30
        axis.set_major_locator(LogLocator(10, subs=(1.0, 2.0, 5.0) if narrow else (1.0,), numticks=20))
        axis.set_major_formatter(formatter)
        axis.set_minor_formatter(NullFormatter())


def _limits(points: Sequence[Point]) -> tuple[float, float]:
    """Return limits that hold all figures with a margin."""
    values = [row[key] for row, _ in points for key in ("published", "modelled") if row[key] > 0] or [1.0]
    margin = max(1.25, (max(values) / min(values)) ** 0.06)
    return min(values) / margin, max(values) * margin
