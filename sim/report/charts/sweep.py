"""Small multiples of a sweep: a metric over one axis, a line for each value of another, a panel for each of the rest.

The axis along a panel is the one with the most numbers; the lines are of the axis with the next most values. Seeds are
no axis of the picture: their mean is drawn, with the range as a band. With `--against` the metric is drawn over another
metric, a point for each value of the axis along the panel.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, Final

from matplotlib.axes import Axes

from sim.report.canvas import literal, new_figure, save_figure, settings, style_axes
from sim.report.palette import INK, SERIES_COLOURS, SERIES_MARKERS, SUBTLE
from sim.results.catalog import CATALOG
from sim.studies.sweep.grid import label_of

__all__ = ["draw_sweep"]

_MAX_PANELS: Final = 24
_COLUMNS: Final = 4
_PANEL_INCHES: Final = (3.4, 2.5)
_MAX_LINES: Final = 8

Row = Mapping[str, Any]
Axis = Mapping[str, Any]


def draw_sweep(data: Mapping[str, Any], path: Path) -> None:
    """Write the picture of `sweep`'s JSON."""
    rows: list[Row] = [row for row in data["rows"] if "problem" not in row]
    metric = next(iter(data["metrics"]), None)
    along, lines, rest = _roles([axis for axis in data["axes"] if axis["key"] != "seed"] or data["axes"])
    combinations = list(product(*(axis["values"] for axis in rest)))
    shown = combinations[:_MAX_PANELS]
    columns = min(_COLUMNS, len(shown))
    num_rows = -(-len(shown) // columns)
    width = max(columns * _PANEL_INCHES[0], 2 * _PANEL_INCHES[0])
    height = num_rows * _PANEL_INCHES[1] + 1.5
    with settings():
        figure = new_figure(width, height)
        panels = figure.subplots(num_rows, columns, sharey=True, squeeze=False).flat
        against = data.get("against")
        figure.subplots_adjust(
            left=0.9 / width,
            right=1 - 0.25 / width,
            top=1 - 0.95 / height,
            bottom=0.9 / height,
            hspace=0.55,
            wspace=0.1,
        )
        unit = CATALOG[metric].unit if metric else None
        named = "nothing could be simulated" if metric is None else f"{metric}{_unit_text(unit)}"
        title = f"{data['scenario']}: {named}" if against is None else str(data["scenario"])
        figure.text(0.02, 1 - 0.3 / height, literal(title), fontsize=13, fontweight="bold", color=INK)
        note = "" if against is None else f"{named} over {against}; "
        note += f"{len(rows):,} of {data['num_points']:,} points"
        note += f"; the first {_MAX_PANELS} of {len(combinations):,} panels" if len(combinations) > len(shown) else ""
        if lines and len(lines["values"]) > _MAX_LINES:
            note += f"; the first {_MAX_LINES} of {len(lines['values'])} values of {lines['key']}"
        figure.text(0.02, 1 - 0.55 / height, literal(note), fontsize=9, color=SUBTLE)
        for panel, combination in zip(panels, shown, strict=False):
            chosen = dict(zip((axis["key"] for axis in rest), combination, strict=True))
            mine = [row for row in rows if all(row[key] == value for key, value in chosen.items())]
            if against is None:
                _panel(panel, mine, along, lines, metric)
            else:
                _panel_against(panel, mine, along, lines, (metric, against))
            title = ", ".join(f"{key.rpartition('.')[2]} {label_of(value)}" for key, value in chosen.items())
            style_axes(panel, literal(title) if title else None, grid=True)
        for panel in list(panels)[len(shown) :]:
            panel.set_visible(False)
        handles, labels = figure.axes[0].get_legend_handles_labels()
        if lines and handles:
            figure.legend(handles, labels, loc="lower left", ncols=8, frameon=False, fontsize=8.5, title=lines["key"])
        save_figure(figure, path)


# ---- private -----------------------------------------------------------------------------------------------------


def _roles(axes: Sequence[Axis]) -> tuple[Axis, Axis | None, list[Axis]]:
    """Return the axis along a panel, the one of the lines, and those of the panels."""
    order = sorted(axes, key=lambda axis: (-_is_numeric(axis), -len(axis["values"])))
    rest = [axis for axis in axes if axis not in order[:2]]
    return order[0], order[1] if len(order) > 1 else None, rest


def _is_numeric(axis: Axis) -> bool:
    return len(axis["values"]) > 1 and all(
        isinstance(value, (int, float)) and not isinstance(value, bool) for value in axis["values"]
    )


def _panel(panel: Axes, rows: Sequence[Row], along: Axis, lines: Axis | None, metric: str | None) -> None:
    """Draw the lines of one panel over the places of the values of an axis, which may be texts."""
    values = sorted(along["values"]) if _is_numeric(along) else along["values"]
    for number, line in enumerate(lines["values"][:_MAX_LINES] if lines else [None]):
        mine = rows if lines is None else [row for row in rows if row[lines["key"]] == line]
        found = [
            [row[metric] for row in mine if row[along["key"]] == value and row.get(metric) is not None]
            if metric
            else []
            for value in values
        ]
        places = [place for place, group in enumerate(found) if group]
        groups = [group for group in found if group]
        means = [sum(group) / len(group) for group in groups]
        colour, marker = SERIES_COLOURS[number % len(SERIES_COLOURS)], SERIES_MARKERS[number % len(SERIES_MARKERS)]
        panel.plot(places, means, color=colour, marker=marker, ms=4, lw=1.3, label=literal(label_of(line)))
        if any(len(group) > 1 for group in groups):
            low, high = [min(group) for group in groups], [max(group) for group in groups]
            panel.fill_between(places, low, high, color=colour, alpha=0.15, lw=0)
    if not any(metric is not None and row.get(metric) is not None for row in rows):
        panel.text(0.5, 0.5, "none simulated", transform=panel.transAxes, ha="center", fontsize=9, color=SUBTLE)
    step = -(-len(values) // 8)
    panel.set_xticks(range(0, len(values), step), [literal(label_of(value)) for value in values[::step]])
    panel.set_xlim(-0.3, len(values) - 0.7)
    panel.margins(y=0.1)
    panel.set_ylim(bottom=0)
    panel.set_xlabel(literal(along["key"]), color=INK, fontsize=8.5)


def _panel_against(
    panel: Axes, rows: Sequence[Row], along: Axis, lines: Axis | None, metrics: tuple[str | None, str]
) -> None:
    """Draw a metric over another, a point with its value of an axis for each, joined along the axis."""
    metric, against = metrics
    for number, line in enumerate(lines["values"][:_MAX_LINES] if lines else [None]):
        points = []
        for value in sorted(along["values"]) if _is_numeric(along) else along["values"]:
            mine = [row for row in rows if row[along["key"]] == value and (not lines or row[lines["key"]] == line)]
            both = [(row[against], row[metric]) for row in mine if metric and None not in {row[against], row[metric]}]
            if both:
                points.append((*(sum(each) / len(both) for each in zip(*both, strict=True)), label_of(value)))
        colour, marker = SERIES_COLOURS[number % len(SERIES_COLOURS)], SERIES_MARKERS[number % len(SERIES_MARKERS)]
        places = [[point[i] for point in points] for i in (0, 1)]
        panel.plot(*places, color=colour, marker=marker, ms=4, lw=1.3, label=literal(label_of(line)))
        for x, y, text in points:
            panel.annotate(literal(text), (x, y), xytext=(4, 4), textcoords="offset points", fontsize=7.5, color=SUBTLE)
    panel.margins(x=0.08, y=0.1)  # before a limit is set, after which margins change nothing
    panel.set_xlim(left=0)
    panel.set_ylim(bottom=0)
    label = f"{against}{_unit_text(CATALOG[against].unit)}; numbers: {along['key'].rpartition('.')[2]}"
    panel.set_xlabel(literal(label), color=INK, fontsize=8.5)


def _unit_text(unit: str | None) -> str:
    return f" [{unit}]" if unit and unit not in {"ratio", "ratio1", "flag"} else ""
