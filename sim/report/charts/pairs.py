"""A picture of the bytes between every two GPUs: a row per sender, a column per receiver, lines between nodes.

Colours are logarithmic, from the least to the most that any pair exchanged; white is nothing.
"""

from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from sim.plan.pairs import PairUse
from sim.report.canvas import settings
from sim.report.palette import AXIS, FAINT, INK, SUBTLE
from sim.results.quantities import format_quantity

__all__ = ["draw_pairs"]

_COLOURS: Final = "YlGnBu"
_MOST_LABELS: Final = 16
_MAP_INCHES: Final = 7.0
_WIDTH: Final = 9.6
_HEIGHT: Final = 9.0


def draw_pairs(pairs: PairUse, path: Path, *, title: str) -> None:
    """Write the picture; a run in which no GPU sent anything says so."""
    with settings():
        figure = Figure(figsize=(_WIDTH, _HEIGHT), dpi=100, facecolor="white")
        left = 0.95 / _WIDTH
        heads = ((0.3, f"{title}: bytes per GPU pair", 13, "bold", INK), (0.62, _summary(pairs), 9, "normal", SUBTLE))
        for y, text, size, weight, colour in heads:
            figure.text(
                left,
                1 - y / _HEIGHT,
                text,
                fontsize=size,
                fontweight=weight,
                color=colour,
                va="center",
                parse_math=False,
            )
        sent = pairs.num_bytes[pairs.num_bytes > 0]
        if sent.size:
            box = (left, 0.75 / _HEIGHT, _MAP_INCHES / _WIDTH, _MAP_INCHES / _HEIGHT)
            _heat_map(figure, figure.add_axes(box), pairs, float(sent.min()), float(sent.max()))
        figure.savefig(path, format=path.suffix[1:], metadata={"Software": "moesim"})


def _summary(pairs: PairUse) -> str:
    """Return in words how much stayed in a node and how much left one."""
    is_local = pairs.node_of[:, None] == pairs.node_of
    inside, between = (float(pairs.num_bytes[chosen].sum()) for chosen in (is_local, ~is_local))
    if not inside + between:
        return "No GPU sent anything."
    texts = [f"{format_quantity(inside, 'bytes')} inside nodes", f"{format_quantity(between, 'bytes')} between nodes"]
    return ", ".join([*texts, f"a row is {pairs.ranks_per_row} GPUs"] if pairs.ranks_per_row > 1 else texts)


def _heat_map(figure: Figure, axes: Axes, pairs: PairUse, least: float, most: float) -> None:
    """Draw the matrix, the lines between nodes, and what the colours mean."""
    rows = pairs.num_bytes.shape[0]
    norm = LogNorm(min(least, most / 1.001), most)
    shown = np.ma.masked_equal(pairs.num_bytes, 0.0)
    image = axes.imshow(shown, cmap=_COLOURS, norm=norm, interpolation="nearest", extent=(0, rows, rows, 0))
    starts = np.flatnonzero(np.diff(pairs.node_of, prepend=-1))
    if starts.size <= rows / 2:
        axes.hlines(starts[1:], 0, rows, colors=FAINT, linewidths=0.8)
        axes.vlines(starts[1:], 0, rows, colors=FAINT, linewidths=0.8)
    middles = (starts + np.append(starts[1:], rows)) / 2
    step = -(-starts.size // _MOST_LABELS)
    names = [f"node {pairs.node_of[start]}" for start in starts[::step]]
    axes.set_yticks(middles[::step], names, fontsize=8.5)
    axes.set_xticks(middles[::step], [name.removeprefix("node ") for name in names], fontsize=8.5)
    axes.tick_params(length=0, colors=INK)
    axes.set_xlabel("to node", color=INK, fontsize=9)
    axes.set_ylabel("from", color=INK, fontsize=9)
    for spine in axes.spines.values():
        spine.set_color(AXIS)
    place = axes.get_position()
    box = figure.add_axes((place.x1 + 0.25 / _WIDTH, place.y0, 0.18 / _WIDTH, place.height))
    bar = figure.colorbar(image, cax=box)
    ticks = np.geomspace(norm.vmin or least, most, 5) if most > 1.01 * least else np.array([most])
    bar.set_ticks(ticks.tolist())
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: format_quantity(value, "bytes")))
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.ax.tick_params(labelsize=8, length=0, colors=SUBTLE)
    bar.outline.set_visible(False)
