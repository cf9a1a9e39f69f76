"""A picture of a stress test: step time, throughput, bubble, drops against skew; parts of the step; a heat map."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sim.report.canvas import settings
from sim.report.palette import AXIS, IDLE, INK, KIND_COLOURS, STALLED, SUBTLE

__all__ = ["draw_stress"]

_COLOURS: Final = ("#3e4c59", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
_MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X")
_PART_COLOURS: Final = {
    "compute": KIND_COLOURS["expert"],
    "dispatch": KIND_COLOURS["ep_dispatch"],
    "combine": KIND_COLOURS["ep_combine"],
    "moves": KIND_COLOURS["ep_moves"],
    "waiting": STALLED,
    "bubble": IDLE,
    "other": KIND_COLOURS["tp"],
}
_DPI: Final = 100

Row = Mapping[str, Any]


def draw_stress(data: Mapping[str, Any], path: Path) -> None:
    """Write the picture of `stress`'s JSON."""
    with settings():
        figure = Figure(figsize=(15.0, 8.6), dpi=_DPI, facecolor="white")
        panels = figure.subplots(2, 3)
        figure.subplots_adjust(left=0.06, right=0.985, top=0.86, bottom=0.13, wspace=0.24, hspace=0.36)
        title = f"{data['scenario']}: routing {data['routing']} under stress"
        figure.suptitle(title, x=0.06, ha="left", y=0.965, fontsize=13, fontweight="bold", color=INK)
        figure.text(0.06, 0.905, _wrapped(data["sentence"]), fontsize=9, color=SUBTLE)
        names = [remedy["name"] for remedy in data["remedies"]]
        rows = [row for row in data["rows"] if row["step_time_s"] is not None]
        _lines(panels[0, 0], rows, names, key="step_time_s", factor=1e3, label="step time [ms]")
        _lines(panels[0, 1], rows, names, key="tokens_per_s", factor=1e-6, label="million tokens/s")
        _lines(panels[0, 2], rows, names, key="bubble_fraction", factor=100.0, label="bubble [% of the step]")
        _lines(panels[1, 0], rows, names, key="dropped_fraction", factor=100.0, label="dropped [% of copies]")
        _parts(panels[1, 1], rows, names)
        _heat(panels[1, 2], data["expert_tokens"])
        handles, labels = panels[0, 0].get_legend_handles_labels()
        figure.legend(
            handles, labels, loc="lower left", bbox_to_anchor=(0.055, 0.01), ncols=4, frameon=False, fontsize=9
        )
        figure.savefig(path, format=path.suffix[1:], metadata={"Software": "moesim"})


# ---- private -----------------------------------------------------------------------------------------------------


def _lines(panel: Axes, rows: list[Row], names: list[str], *, key: str, factor: float, label: str) -> None:
    """Draw a value against skew, a line for each remedy, with its interval over seeds."""
    for number, name in enumerate(names):
        mine = sorted((row for row in rows if row["remedy"] == name), key=lambda row: float(row["skew"]))
        skews = [row["skew"] for row in mine]
        colour, marker = _COLOURS[number % len(_COLOURS)], _MARKERS[number % len(_MARKERS)]
        panel.plot(skews, [factor * row[key] for row in mine], color=colour, marker=marker, ms=4.5, lw=1.4, label=name)
        ends = [row[f"{key}_interval"] for row in mine if row.get(f"{key}_interval")]
        if len(ends) == len(mine):
            low, high = (np.array([factor * end[i] for end in ends]) for i in (0, 1))
            panel.fill_between(skews, np.maximum(low, 0), high, color=colour, alpha=0.15, lw=0)
    panel.set_ylim(bottom=0)
    panel.set_xlabel("skew", color=INK)
    _dress(panel, label)


def _parts(panel: Axes, rows: list[Row], names: list[str]) -> None:
    """Draw what the step takes at the largest skew, by part, a bar for each remedy."""
    largest = max((row["skew"] for row in rows), default=0.0)
    mine = {row["remedy"]: row for row in rows if row["skew"] == largest}
    places = [name for name in names if name in mine]
    left = np.zeros(len(places))
    for part, colour in _PART_COLOURS.items():
        widths = np.array([1e3 * mine[name]["parts_s"][part] for name in places])
        panel.barh(range(len(places)), widths, left=left, color=colour, label=part, height=0.6)
        left += widths
    panel.set_yticks(range(len(places)), [str(i + 1) for i in range(len(places))])
    panel.invert_yaxis()
    panel.set_xlabel("ms of the step, averaged over stages; remedies in the legend's order", color=INK)
    panel.legend(frameon=False, fontsize=7.5, ncols=3, loc="lower right", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.1)
    _dress(panel, f"parts at skew {largest:g}")


def _heat(panel: Axes, experts: Mapping[str, Any]) -> None:
    """Draw the tokens of each expert over layers, over their mean."""
    tokens = np.array(experts["tokens"], dtype=float)
    if tokens.size:
        relative = tokens / tokens.mean(axis=1, keepdims=True)
        shown = panel.imshow(relative, aspect="auto", cmap="viridis", interpolation="nearest", vmin=0)
        bar = panel.figure.colorbar(shown, ax=panel, fraction=0.05, pad=0.02)
        bar.ax.tick_params(labelsize=8, colors=SUBTLE)
    panel.yaxis.set_major_locator(MaxNLocator(integer=True))
    panel.set_xlabel("expert", color=INK)
    _dress(panel, f"tokens over their mean at skew {experts['skew']:g}, by layer")
    panel.grid(visible=False)


def _dress(panel: Axes, title: str) -> None:
    panel.set_title(title, loc="left", fontsize=10, color=INK)
    for spine in panel.spines.values():
        spine.set_color(AXIS)
    panel.tick_params(colors=SUBTLE, labelsize=8.5)
    panel.grid(visible=True, color=IDLE, lw=0.6)
    panel.set_axisbelow(True)


def _wrapped(text: str, width: int = 190) -> str:
    """Return a text in lines."""
    lines, line = [], ""
    for word in text.split():
        if line and len(line) + len(word) >= width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
    return "\n".join([*lines, line])
