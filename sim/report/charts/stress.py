"""A picture of a stress test: four panels that answer which remedy helps, at what price, and why.

Useful tokens/s over skew, the share of lost token copies, the busiest rank against what any placement could reach, and
the step at the largest skew by kind of work. Everything else is in the JSON. A remedy with an outdated plan has the
colour of the remedy and a dashed line.
"""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from sim.report.canvas import new_figure, save_figure, settings, style_axes
from sim.report.palette import CATEGORY_COLOURS, FOREIGN, INK, SERIES_COLOURS, SERIES_MARKERS, STALLED, SUBTLE

__all__ = ["draw_stress"]

_COLOURS: Final = (SERIES_COLOURS[-1], *SERIES_COLOURS[:-1])
_MARKERS: Final = SERIES_MARKERS[: len(_COLOURS)]
_KIND_OF_WORK_COLOURS: Final = {
    "kernels": CATEGORY_COLOURS["expert"],
    "foreign": FOREIGN,
    "dispatch": CATEGORY_COLOURS["ep_dispatch"],
    "combine": CATEGORY_COLOURS["ep_combine"],
    **{axis: CATEGORY_COLOURS[axis] for axis in ("tp", "pp", "dp", "cp")},
    "moves": CATEGORY_COLOURS["ep_moves"],
    "stalled": "#ffffff",
    "idle": CATEGORY_COLOURS["idle"],
}
_UNFIT: Final = "#b3001b"
_WIDTH: Final = 14.0
_PANEL_HEIGHT: Final = 3.3
_LINE: Final = 0.18
"""Height of a line of the conclusion in inches."""

Row = Mapping[str, Any]


def draw_stress(data: Mapping[str, Any], path: Path) -> None:
    """Write the picture of `stress`'s JSON."""
    names = [remedy["name"] for remedy in data["remedies"]]
    rows: list[Row] = [row for row in data["rows"] if row["step_time_s"] is not None]
    lines = [line for sentence in data["conclusion"] for line in textwrap.wrap(sentence, 180)]
    looks = _looks(data["remedies"])
    signs = _signs(rows)
    legend_rows = -(-(len(names) + len(signs)) // 4)
    bar_height = max(_PANEL_HEIGHT, 0.55 + 0.42 * len(names))
    above, below = 0.85 + _LINE * len(lines), 0.75 + 0.22 * legend_rows
    height = above + below + _PANEL_HEIGHT + bar_height + 0.85
    with settings():
        figure = new_figure(_WIDTH, height)
        panels = figure.subplots(2, 2, height_ratios=(_PANEL_HEIGHT, bar_height))
        gap = 0.85 / ((_PANEL_HEIGHT + bar_height) / 2)
        figure.subplots_adjust(
            left=0.06, right=0.98, top=1 - above / height, bottom=below / height, wspace=0.16, hspace=gap
        )
        title = f"{data['scenario']}: what helps against skew (routing {data['routing']})"
        figure.text(0.025, 1 - 0.3 / height, title, fontsize=13, fontweight="bold", color=INK, va="center")
        for i, line in enumerate(lines):
            y = 1 - (0.58 + _LINE * i) / height
            figure.text(0.025, y, line, fontsize=9, color=SUBTLE, va="center")
        most = max((row["useful_tokens_per_s"] for row in rows), default=1.0)
        factor, unit = (1e-6, "million") if most >= 1e6 else (1e-3, "thousand")
        _lines(panels[0, 0], rows, looks, "useful_tokens_per_s", factor)
        style_axes(panels[0, 0], f"how fast? useful tokens/s [{unit} per s], lost copies not counted", grid=True)
        _lines(panels[0, 1], rows, looks, "lost_fraction", 100.0)
        style_axes(panels[0, 1], "at what loss? dropped or rerouted [% of the token copies]", grid=True)
        _imbalance(panels[1, 0], rows, looks)
        _kinds_of_work(panels[1, 1], rows, names)
        handles, labels = panels[0, 0].get_legend_handles_labels()
        handles, labels = [*handles, *(handle for handle, _ in signs)], [*labels, *(label for _, label in signs)]
        figure.legend(
            handles, labels, loc="lower left", bbox_to_anchor=(0.02, 0.0), ncols=4, frameon=False, fontsize=8.5
        )
        save_figure(figure, path)


# ---- private -----------------------------------------------------------------------------------------------------

_Look = tuple[str, str, str]
"""Colour, marker and style of the line of a remedy."""


def _looks(remedies: Sequence[Mapping[str, Any]]) -> dict[str, _Look]:
    """Return the look of each remedy; a remedy with an outdated plan looks like the remedy before, but dashed."""
    looks: dict[str, _Look] = {}
    number = -1
    for remedy in remedies:
        is_outdated = remedy.get("plan") == "outdated" and number >= 0
        number += not is_outdated
        place = number % len(_COLOURS)
        looks[remedy["name"]] = (_COLOURS[place], _MARKERS[place], "--" if is_outdated else "-")
    return looks


def _of(rows: Sequence[Row], name: str) -> list[Row]:
    """Return the rows of a remedy in the order of skews."""
    return sorted((row for row in rows if row["remedy"] == name), key=lambda row: float(row["skew"]))


def _lines(panel: Axes, rows: list[Row], looks: Mapping[str, _Look], key: str, factor: float) -> None:
    """Draw a value over skew, a line and an interval for each remedy; points that do not fit are crossed."""
    for name, (colour, marker, style) in looks.items():
        mine = _of(rows, name)
        skews = [row["skew"] for row in mine]
        values = [factor * row[key] for row in mine]
        panel.plot(skews, values, color=colour, marker=marker, ms=4.5, lw=1.4, ls=style, label=name)
        ends = [row[f"{key}_interval"] for row in mine if row.get(f"{key}_interval")]
        if len(ends) == len(mine):
            low, high = (np.array([factor * end[i] for end in ends]) for i in (0, 1))
            panel.fill_between(skews, np.maximum(low, 0), high, color=colour, alpha=0.15, lw=0)
    unfit = [row for row in rows if row["fits"] is False]
    panel.plot(
        [row["skew"] for row in unfit], [factor * row[key] for row in unfit],
        ls="", marker="x", ms=9, mew=1.8, color=_UNFIT, zorder=5,
    )  # fmt: skip
    panel.set_ylim(0, 1.04 * panel.get_ylim()[1])
    if not any(row[key] for row in rows):  # an axis around nothing has a scale of nothing
        panel.set_ylim(0, 1)
        panel.set_yticks([0])
        panel.text(0.5, 0.5, "none anywhere", transform=panel.transAxes, ha="center", fontsize=10, color=SUBTLE)
    loads = {row["skew"]: row["load"] for row in rows if "load" in row}
    if loads:
        panel.set_xticks(list(loads), list(loads.values()))
    panel.set_xlabel("routing" if loads else "skew", color=INK, fontsize=9)


def _signs(rows: list[Row]) -> list[tuple[Line2D, str]]:
    """Return the signs that do not belong to a remedy, with their meaning."""
    signs = [(Line2D([], [], color=SUBTLE, ls=":", lw=1.2), "dotted: no placement with as many slots is below")]
    if any(row["fits"] is False for row in rows):
        signs.append((Line2D([], [], color=_UNFIT, ls="", marker="x", ms=9, mew=1.8), "does not fit into memory"))
    return signs


def _imbalance(panel: Axes, rows: list[Row], looks: Mapping[str, _Look]) -> None:
    """Draw the busiest rank over the mean, and its bound under the best placement as a dotted line."""
    _lines(panel, rows, looks, "imbalance_max_over_mean", 1.0)
    for name, (colour, _, style) in looks.items():
        if style == "-":
            mine = _of(rows, name)
            bounds = [row["imbalance_bound_max_over_mean"] for row in mine]
            panel.plot([row["skew"] for row in mine], bounds, color=colour, ls=":", lw=1.2)
    style_axes(panel, "why? tokens of the busiest rank over the mean", grid=True)


def _kinds_of_work(panel: Axes, rows: list[Row], names: list[str]) -> None:
    """Draw the step at the largest skew by kind of work, a bar for each remedy."""
    largest = max((row["skew"] for row in rows), default=0.0)
    mine = {row["remedy"]: row for row in rows if row["skew"] == largest}
    shown_names = [name for name in names if name in mine]
    left = np.zeros(len(shown_names))
    for kind, colour in _KIND_OF_WORK_COLOURS.items():
        widths = np.array([1e3 * mine[name]["parts_s"][kind] for name in shown_names])
        if widths.any():
            bars = panel.barh(range(len(shown_names)), widths, left=left, color=colour, label=kind, height=0.42)
            for bar in bars if kind == "stalled" else ():
                bar.set(hatch="//////", edgecolor=STALLED, linewidth=0)
        left += widths
    panel.set_yticks([])
    for at, name in enumerate(shown_names):
        unfit = mine[name]["fits"] is False
        text = f" {textwrap.shorten(name, 60, placeholder=' ...')}{'  × does not fit' if unfit else ''}"
        panel.text(0, at - 0.25, text, fontsize=8.5, va="bottom", color=_UNFIT if unfit else INK)
    panel.set_ylim(len(shown_names) - 0.6, -0.8)
    panel.set_xlabel("ms of the step, averaged over stages", color=INK, fontsize=9)
    handles, labels = panel.get_legend_handles_labels()
    if handles:
        panel.legend(
            handles, labels, frameon=False, fontsize=8, ncols=8, handlelength=1.0, columnspacing=0.9,
            loc="upper left", bbox_to_anchor=(-0.01, -0.48 / panel.get_window_extent().height * 100),
            borderaxespad=0.0,
        )  # fmt: skip
    is_recorded = any("load" in row for row in mine.values())
    load = "with the recording" if is_recorded else f"at skew {largest:g}"
    style_axes(panel, f"where? the step {load} by kind of work", grid=True)
