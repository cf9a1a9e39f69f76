"""A picture of rankings: the measured order of strategies against the modelled order, a panel for each group.

A strategy stands at its rank in the measured order (x) and in the modelled order (y), the best at 1. On the diagonal
the order is right. The star is the strategy that is modelled as best: how far right it stands is the regret. Of many
groups those with the most strategies are drawn.
"""

from collections.abc import Mapping
from math import ceil
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from sim.report.canvas import new_figure, save_figure, settings, style_axes
from sim.report.palette import FAINT, INK, SERIES_COLOURS, SUBTLE

__all__ = ["draw_rankings"]

_MOST_PANELS: Final = 24
_COLUMNS: Final = 4
_PANEL_INCHES: Final = 2.7
_MOST_CHARACTERS: Final = 44
"""A longer name of a group is cut over a panel."""

Group = Mapping[str, Any]


def draw_rankings(groups: Mapping[str, Group], path: Path) -> None:
    """Write the picture of the `groups` of `validate`'s JSON."""
    largest = sorted(groups.items(), key=lambda item: -item[1]["num"])[:_MOST_PANELS]
    systems = list(dict.fromkeys(group["system"] for _, group in largest))
    columns = min(_COLUMNS, len(largest))
    rows = ceil(len(largest) / columns)
    with settings():
        width, height = columns * _PANEL_INCHES + 0.6, rows * (_PANEL_INCHES + 0.5) + 0.8
        figure = new_figure(width, height)
        axes = figure.subplots(rows, columns, squeeze=False)
        figure.subplots_adjust(
            left=0.6 / width, right=1 - 0.2 / width, bottom=0.55 / height, top=1 - 1.1 / height, wspace=0.3, hspace=0.55
        )
        title = f"Order of strategies, {len(largest)} of {len(groups)} groups"
        figure.suptitle(title, x=0.6 / width, ha="left", y=1 - 0.2 / height, fontsize=13, fontweight="bold", color=INK)
        for panel, (name, group) in zip(axes.flat, largest, strict=False):
            _panel(panel, name, group, SERIES_COLOURS[systems.index(group["system"]) % len(SERIES_COLOURS)])
        for panel in axes.flat[len(largest) :]:
            panel.set_visible(False)
        for panel in axes[:, 0]:
            panel.set_ylabel("modelled order", color=SUBTLE, fontsize=8)
        for panel in axes[-1]:
            panel.set_xlabel("measured order", color=SUBTLE, fontsize=8)
        save_figure(figure, path)


def _panel(panel: Axes, name: str, group: Group, colour: str) -> None:
    """Draw the strategies of a group, which stand in the order in which they were measured."""
    style_axes(panel, grid=True)
    measured = np.arange(1, group["num"] + 1)
    modelled = _modelled_ranks(group)
    panel.plot([1, group["num"]], [1, group["num"]], color=FAINT, lw=0.8, zorder=1)
    panel.plot(measured, modelled, linestyle="", marker="o", markersize=4.5, color=colour, alpha=0.9, zorder=3)
    best = int(np.argmin(modelled))
    panel.plot([measured[best]], [modelled[best]], linestyle="", marker="*", markersize=10, color=INK, zorder=4)
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True, nbins=5, min_n_ticks=2))
    tau = "–" if group["kendall_tau"] is None else f"{group['kendall_tau']:.2f}"
    shown = name if len(name) <= _MOST_CHARACTERS else f"{name[: _MOST_CHARACTERS - 1]}…"
    panel.set_title(f"{shown}\ntau {tau}, regret {group['regret_pct']:.1f} %", fontsize=7.5, color=INK, loc="left")


def _modelled_ranks(group: Group) -> np.ndarray:
    """Return the rank of each strategy in the modelled order, the best at 1."""
    costs = np.array(group["modelled_cost"])
    ranks = np.empty(len(costs), dtype=int)
    ranks[np.argsort(costs, kind="stable")] = np.arange(1, len(costs) + 1)
    return ranks
