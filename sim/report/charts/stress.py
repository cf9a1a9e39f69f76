"""A picture of a stress test: figures of each remedy over skew, the step by kind of work, a heat map of experts."""

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from sim.report.canvas import new_figure, save_figure, settings, style_axes, style_colour_bar
from sim.report.palette import IDLE, INK, KIND_COLOURS, SERIES_COLOURS, SERIES_MARKERS, STALLED, SUBTLE

__all__ = ["draw_stress"]

_COLOURS: Final = (SERIES_COLOURS[-1], *SERIES_COLOURS[:-1])
_MARKERS: Final = SERIES_MARKERS[: len(_COLOURS)]
_KIND_OF_WORK_COLOURS: Final = {
    "compute": KIND_COLOURS["expert"],
    "dispatch": KIND_COLOURS["ep_dispatch"],
    "combine": KIND_COLOURS["ep_combine"],
    **{axis: KIND_COLOURS[axis] for axis in ("tp", "pp", "dp", "cp")},
    "moves": KIND_COLOURS["ep_moves"],
    "waiting": STALLED,
    "bubble": IDLE,
}
_UNFIT: Final = "#b3001b"
_WIDTH: Final = 19.0
_HEIGHT: Final = 9.0
_LINE: Final = 0.15
"""Height of a line of the sentence in inches."""

Row = Mapping[str, Any]


def draw_stress(data: Mapping[str, Any], path: Path) -> None:
    """Write the picture of `stress`'s JSON."""
    names = [remedy["name"] for remedy in data["remedies"]]
    rows: list[Row] = [
        {**row, "lost_fraction": row["dropped_fraction"] + row["rerouted_fraction"]}
        for row in data["rows"]
        if row["step_time_s"] is not None
    ]
    sentence = textwrap.fill(data["sentence"], 265)
    legend_rows = -(-(len(names) + 2) // 5)
    above, below = 0.95 + _LINE * (sentence.count("\n") + 1), 1.05 + 0.22 * legend_rows
    height = _HEIGHT + _LINE * sentence.count("\n") + 0.22 * legend_rows
    with settings():
        figure = new_figure(_WIDTH, height)
        panels = figure.subplots(2, 4)
        top, bottom = 1 - above / height, below / height
        figure.subplots_adjust(left=0.045, right=0.985, top=top, bottom=bottom, wspace=0.26, hspace=0.34)
        title = f"{data['scenario']}: routing {data['routing']} under stress"
        figure.text(0.045, 1 - 0.38 / height, title, fontsize=13, fontweight="bold", color=INK)
        figure.text(0.045, 1 - 0.5 / height, sentence, fontsize=9, color=SUBTLE, va="top")
        _lines(panels[0, 0], rows, names, key="step_time_s", factor=1e3, label="step time [ms]")
        _lines(panels[0, 1], rows, names, key="tokens_per_s", factor=1e-6, label="million tokens/s")
        _lines(panels[0, 2], rows, names, key="bubble_fraction", factor=100.0, label="bubble [% of the step]")
        _imbalance(panels[0, 3], rows, names)
        _lines(panels[1, 0], rows, names, key="lost_fraction", factor=100.0, label="dropped or rerouted [% of copies]")
        _memory(panels[1, 1], rows, names)
        _kinds_of_work(panels[1, 2], rows, names)
        _heat(panels[1, 3], data["expert_tokens"])
        handles, labels = panels[0, 0].get_legend_handles_labels()
        for handle, label in _signs(rows):
            handles.append(handle)
            labels.append(label)
        figure.legend(
            handles, labels, loc="lower left", bbox_to_anchor=(0.04, 0.01), ncols=5, frameon=False, fontsize=9
        )
        save_figure(figure, path)


# ---- private -----------------------------------------------------------------------------------------------------


def _lines(panel: Axes, rows: list[Row], names: list[str], *, key: str, factor: float, label: str) -> None:
    """Draw a value over skew, a line and an interval for each remedy; points that do not fit are crossed."""
    for number, name in enumerate(names):
        mine = sorted((row for row in rows if row["remedy"] == name), key=lambda row: float(row["skew"]))
        skews = [row["skew"] for row in mine]
        colour, marker = _look(number)
        panel.plot(skews, [factor * row[key] for row in mine], color=colour, marker=marker, ms=4.5, lw=1.4, label=name)
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
    panel.set_xlabel("routing" if loads else "skew", color=INK)
    style_axes(panel, label, grid=True)


def _look(number: int) -> tuple[str, str]:
    """Return colour and marker of a remedy."""
    return _COLOURS[number % len(_COLOURS)], _MARKERS[number % len(_MARKERS)]


def _signs(rows: list[Row]) -> list[tuple[Line2D, str]]:
    """Return the signs that do not belong to a remedy, with their meaning."""
    signs = [(Line2D([], [], color=SUBTLE, ls=":", lw=1.2), "at best: no placement with as many slots is below")]
    if any(row["fits"] is False for row in rows):
        signs.append((Line2D([], [], color=_UNFIT, ls="", marker="x", ms=9, mew=1.8), "does not fit into memory"))
    return signs


def _imbalance(panel: Axes, rows: list[Row], names: list[str]) -> None:
    """Draw the busiest rank over the mean, and its bound under the best placement as a dotted line."""
    _lines(panel, rows, names, key="imbalance_max_over_mean", factor=1.0, label="busiest rank over the mean, in tokens")
    for number, name in enumerate(names):
        mine = sorted((row for row in rows if row["remedy"] == name), key=lambda row: float(row["skew"]))
        bounds = [row["imbalance_bound_max_over_mean"] for row in mine]
        panel.plot([row["skew"] for row in mine], bounds, color=_look(number)[0], ls=":", lw=1.2)


def _memory(panel: Axes, rows: list[Row], names: list[str]) -> None:
    """Draw the peak of memory, and the capacity where it is near."""
    _lines(panel, rows, names, key="peak_bytes_per_gpu", factor=1e-9, label="peak memory [GB per GPU]")
    capacity = min((1e-9 * row["capacity_bytes_per_gpu"] for row in rows), default=0.0)
    if capacity and capacity < 2 * panel.get_ylim()[1]:
        panel.axhline(capacity, color=_UNFIT, lw=1.0, ls="--")
        panel.text(0.01, capacity, f"a GPU has {capacity:g} GB", transform=panel.get_yaxis_transform(),
                   va="bottom", fontsize=8, color=_UNFIT)  # fmt: skip


def _kinds_of_work(panel: Axes, rows: list[Row], names: list[str]) -> None:
    """Draw the step at the largest skew by kind of work, a bar for each remedy."""
    largest = max((row["skew"] for row in rows), default=0.0)
    mine = {row["remedy"]: row for row in rows if row["skew"] == largest}
    shown_names = [name for name in names if name in mine]
    left = np.zeros(len(shown_names))
    for kind, colour in _KIND_OF_WORK_COLOURS.items():
        widths = np.array([1e3 * mine[name]["parts_s"][kind] for name in shown_names])
        if widths.any():
            panel.barh(range(len(shown_names)), widths, left=left, color=colour, label=kind, height=0.45)
        left += widths
    panel.set_yticks([])
    for at, name in enumerate(shown_names):
        unfit = mine[name]["fits"] is False
        text = f" {textwrap.shorten(name, 60, placeholder=' ...')}{'  × does not fit' if unfit else ''}"
        panel.text(0, at - 0.27, text, fontsize=8.5, va="bottom", color=_UNFIT if unfit else INK)
    panel.set_ylim(len(shown_names) - 0.6, -0.75)
    panel.set_xlabel("ms of the step, averaged over stages", color=INK)
    handles, labels = panel.get_legend_handles_labels()
    panel.legend(
        handles, labels, frameon=False, fontsize=8, ncols=5, handlelength=1.0, columnspacing=0.9,
        loc="upper left", bbox_to_anchor=(-0.01, -0.15), borderaxespad=0.1,
    )  # fmt: skip
    is_recorded = any("load" in row for row in mine.values())
    load = "with the recording" if is_recorded else f"at skew {largest:g}"
    style_axes(panel, f"parts {load}", grid=True)


def _heat(panel: Axes, experts: Mapping[str, Any]) -> None:
    """Draw the tokens of each expert over layers, over their mean; colours go with the square root."""
    tokens = np.array(experts["tokens"], dtype=float)
    if tokens.size:
        relative = tokens / np.maximum(tokens.mean(axis=1, keepdims=True), 1e-9)
        norm = PowerNorm(0.5, vmin=0, vmax=max(2.0, float(relative.max())))
        shown = panel.imshow(relative, aspect="auto", cmap="viridis", interpolation="nearest", norm=norm)
        bar = panel.figure.colorbar(shown, ax=panel, fraction=0.05, pad=0.02)
        style_colour_bar(bar)
    panel.yaxis.set_major_locator(MaxNLocator(integer=True))
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    panel.set_xlabel("expert", color=INK)
    panel.set_ylabel("layer with experts", color=INK)
    load = "with the recording" if "load" in experts else f"at skew {experts['skew']:g}"
    style_axes(panel, f"tokens over their mean {load}, first seed")
