"""A picture of several runs: the step time of each, divided into what the stages spend it on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from sim.report.canvas import new_figure, save_figure, settings, style_axes
from sim.report.palette import AXIS, CATEGORY_COLOURS, INK, STALLED, SUBTLE
from sim.results.quantities import format_quantity

__all__ = ["draw_comparison"]

_COLOURS: Final = {**CATEGORY_COLOURS, "stalled": STALLED}
_LEAST: Final = 0.005
"""Parts below this fraction of the longest step are drawn, and not named in the legend."""
_MOST_CHARACTERS: Final = 30


def draw_comparison(data: Mapping[str, Any], path: Path) -> None:
    """Write the picture of the JSON of `moesim compare`."""
    runs = data["runs"]
    longest_ms = 1e3 * max(sum(run["parts_s"].values()) for run in runs)
    with settings():
        height = 0.55 * len(runs) + 1.9
        figure = new_figure(9.6, height)
        axes = figure.add_axes((0.24, 1.45 / height, 0.68, 0.55 * len(runs) / height))
        style_axes(axes, "Where the time of each run goes, mean over stages", grid=True)
        before_ms = np.zeros(len(runs))
        for part in runs[0]["parts_s"]:
            took_ms = np.array([1e3 * run["parts_s"][part] for run in runs])
            name = part.replace("_", " ") if took_ms.max() >= _LEAST * longest_ms else None
            axes.barh(
                range(len(runs)),
                took_ms,
                left=before_ms,
                height=0.66,
                color=_COLOURS.get(part, AXIS),
                edgecolor="white",
                linewidth=0.4,
                label=name,
            )
            before_ms += took_ms
        for line, run in enumerate(runs):
            text = format_quantity(sum(run["parts_s"].values()), "s")
            axes.annotate(text, (1.01, line), xycoords=("axes fraction", "data"), va="center", fontsize=8.5, color=INK)
        axes.set_yticks(range(len(runs)), [_short(run["name"]) for run in runs])
        axes.set(ylim=(len(runs) - 0.5, -0.5), xlim=(0, longest_ms))
        axes.set_xlabel("ms of the step", color=SUBTLE, fontsize=8.5)
        figure.legend(loc="lower left", bbox_to_anchor=(0.02, 0.02), ncols=6, fontsize=8, frameon=False)
        save_figure(figure, path)


def _short(name: str) -> str:
    return name if len(name) <= _MOST_CHARACTERS else f"{name[: _MOST_CHARACTERS - 1]}…"
