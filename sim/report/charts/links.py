"""Pictures of the network: the load of links over time, and the bytes between every two GPUs.

In the picture of links a row is a link, and the colour is the mean load in a bin of time. At the right stand the bytes
of the link, its mean load over the step, and the share of the step in which the link was the bottleneck of a transfer;
of a kind of link, the bytes of all links, and the largest share of any link.

In the picture of pairs a row is a sender, a column a receiver, and lines lie between nodes. Colours are logarithmic,
from the least to the most that any pair exchanged; white is nothing.
"""

from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator
from numpy.typing import NDArray

from sim.engine.trace import LinkUse, Trace
from sim.plan.logs import PairUse
from sim.report.canvas import literal, new_figure, save_figure, settings, style_axes, style_colour_bar
from sim.report.palette import FAINT, INK, SUBTLE
from sim.results.quantities import format_quantity, time_unit_ns

__all__ = ["draw_links", "draw_pairs"]

FloatArray = NDArray[np.float64]

_ROW_INCHES: Final = 0.3
_WIDTH_INCHES: Final = 12.0
_LEFT_INCHES: Final = 2.6
_RIGHT_INCHES: Final = 3.1
_LOAD_COLOURS: Final = "YlOrRd"
_NOTE_COLUMNS: Final = ((0.02, "left"), (0.24, "right"), (0.35, "right"), (0.47, "right"))
"""Positions of the columns at the right, in widths of the panel, and how they are aligned."""


def draw_links(trace: Trace, path: Path, *, title: str) -> None:
    """Write the picture of the links; the picture of a run whose links carried nothing says that."""
    use = trace.link_use
    hot, kinds = use.hot_utilisation, _busiest_of_kinds(use)
    num_rows = hot.shape[1] + kinds.shape[1]
    height = 1.75 + _ROW_INCHES * max(num_rows, 1) + 0.55
    with settings():
        figure = new_figure(_WIDTH_INCHES, height)
        figure.text(0.02, 1 - 0.3 / height, f"{title}: links", fontsize=13, fontweight="bold", color=INK, va="center")
        if not num_rows or use.hot_edges_ns.size < 2:
            figure.text(0.02, 0.5, "No link carried anything.", fontsize=10, color=SUBTLE)
            save_figure(figure, path)
            return
        hot_rows = [_texts_of(trace, link) for link in use.hottest.tolist()]
        first = _panel(figure, 1.0, hot, trace, "hottest links", [use.names[link] for link in use.hottest])
        _notes(first, ("kind", "bytes", "mean load", "bottleneck"), hot_rows)
        top_inches = 1.0 + _ROW_INCHES * hot.shape[1] + 0.5
        second = _panel(figure, top_inches, kinds, trace, "busiest link of each kind", list(use.kinds))
        _notes(
            second, ("links", "bytes", "mean load", "bottleneck"), [_texts_of_kind(trace, kind) for kind in use.kinds]
        )
        scale, unit = time_unit_ns(trace.end_ns)
        second.set_xticks(second.get_xticks(), [f"{tick / scale:g}" for tick in second.get_xticks()])
        second.set_xlim(0, trace.end_ns)
        second.set_xlabel(f"time [{unit}]", fontsize=9, color=INK)
        second.tick_params(labelbottom=True, bottom=True)
        _colour_bar(figure, first, height)
        save_figure(figure, path)


def _panel(figure: Figure, top_inches: float, load: FloatArray, trace: Trace, title: str, names: list[str]) -> Axes:  # noqa: PLR0917  # in the order of drawing
    """Draw the rows of `load` [B, rows] so far below the upper edge."""
    rows, (width, height) = load.shape[1], figure.get_size_inches()
    tall = _ROW_INCHES * rows / height
    wide = (width - _LEFT_INCHES - _RIGHT_INCHES) / width
    axes = figure.add_axes((_LEFT_INCHES / width, 1 - top_inches / height - tall, wide, tall))
    edges = trace.link_use.hot_edges_ns
    axes.pcolormesh(edges, np.arange(rows + 1), load.T, cmap=_LOAD_COLOURS, vmin=0, vmax=1, rasterized=True)
    axes.set(xlim=(0, trace.end_ns), ylim=(rows, 0))
    style_axes(axes, title)
    axes.set_yticks(np.arange(rows) + 0.5, [literal(name) for name in names], fontsize=8.5, color=INK, parse_math=False)
    axes.hlines(np.arange(1, rows), 0, trace.end_ns, colors="white", linewidths=1.2)
    axes.tick_params(length=0, labelbottom=False)
    axes.tick_params(axis="y", colors=INK)
    return axes


def _texts_of(trace: Trace, link: int) -> tuple[str, ...]:
    """Return kind, bytes, mean load and share as bottleneck of a link."""
    use, step_s = trace.link_use, trace.step_ns / 1e9 or 1.0
    load = float(use.num_bytes[link] / (use.capacity_bytes_per_s[link] * step_s))
    bottleneck = None if use.bottleneck_s is None else float(use.bottleneck_s[link] / step_s)
    return (
        use.link_kinds[link],
        format_quantity(float(use.num_bytes[link]), "bytes"),
        _percent(load),
        _percent(bottleneck),
    )


def _texts_of_kind(trace: Trace, kind: str) -> tuple[str, ...]:
    """Return number and bytes of the links of a kind, their mean load, and the most of any as bottleneck."""
    use, step_s = trace.link_use, trace.step_ns / 1e9 or 1.0
    links = np.flatnonzero(np.array(use.link_kinds) == kind)
    num_bytes = float(use.num_bytes[links].sum())
    load = num_bytes / (float(use.capacity_bytes_per_s[links].sum()) * step_s or 1.0)
    bottleneck = None if use.bottleneck_s is None else float(use.bottleneck_s[links].max() / step_s)
    return str(links.size), format_quantity(num_bytes, "bytes"), _percent(load), _percent(bottleneck)


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def _notes(axes: Axes, heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Write columns at the right of rows."""
    for (x, align), head in zip(_NOTE_COLUMNS, heads, strict=True):
        axes.text(1 + x, 1.0, head, transform=axes.transAxes, ha=align, va="bottom", fontsize=8, color=SUBTLE)
    for row, texts in enumerate(rows):
        for (x, align), text in zip(_NOTE_COLUMNS, texts, strict=True):
            axes.text(
                1 + x,
                row + 0.5,
                text,
                transform=axes.get_yaxis_transform(),
                ha=align,
                va="center",
                fontsize=8.5,
                color=INK,
                parse_math=False,
            )


def _colour_bar(figure: Figure, axes: Axes, height: float) -> None:
    """Draw the scale of the colours, at the upper right."""
    width = 1.9 / _WIDTH_INCHES
    box = figure.add_axes((1 - 0.35 / _WIDTH_INCHES - width, 1 - 0.42 / height, width, 0.14 / height))
    bar = figure.colorbar(axes.collections[0], cax=box, orientation="horizontal", ticks=[0, 0.5, 1])
    bar.ax.set_xticklabels(["idle", "half", "full"], fontsize=8, color=SUBTLE)
    style_colour_bar(bar)
    bar.ax.tick_params(length=0)


def _busiest_of_kinds(use: LinkUse) -> FloatArray:
    """Return the mean over each bin of the load of the busiest link of each kind. Shape [B, kinds]."""
    edges, times = use.hot_edges_ns.astype(float), use.time_ns.astype(float)
    if times.size < 2 or edges.size < 2:
        return np.zeros((max(edges.size - 1, 0), len(use.kinds)))
    carried = np.zeros(use.utilisation.shape)
    carried[1:] = np.cumsum(use.utilisation[:-1] * np.diff(times)[:, None], axis=0)
    at_edges = np.stack([np.interp(edges, times, column) for column in carried.T], axis=1)
    means: FloatArray = np.clip(np.diff(at_edges, axis=0) / np.diff(edges)[:, None], 0, 1)
    return means


_PAIR_COLOURS: Final = "YlGnBu"
_MOST_LABELS: Final = 16
_MAP_INCHES: Final = 7.0
_PAIRS_WIDTH_INCHES: Final = 9.6
_PAIRS_HEIGHT_INCHES: Final = 9.0


def draw_pairs(pairs: PairUse, path: Path, *, title: str) -> None:
    """Write the picture of the pairs; the picture of a run in which no GPU sent anything says that."""
    with settings():
        figure = new_figure(_PAIRS_WIDTH_INCHES, _PAIRS_HEIGHT_INCHES)
        left = 0.95 / _PAIRS_WIDTH_INCHES
        heads = ((0.3, f"{title}: bytes per GPU pair", 13, "bold", INK), (0.62, _summary(pairs), 9, "normal", SUBTLE))
        for y, text, size, weight, colour in heads:
            figure.text(
                left,
                1 - y / _PAIRS_HEIGHT_INCHES,
                text,
                fontsize=size,
                fontweight=weight,
                color=colour,
                va="center",
                parse_math=False,
            )
        sent = pairs.num_bytes[pairs.num_bytes > 0]
        if sent.size:
            box = (
                left,
                0.75 / _PAIRS_HEIGHT_INCHES,
                _MAP_INCHES / _PAIRS_WIDTH_INCHES,
                _MAP_INCHES / _PAIRS_HEIGHT_INCHES,
            )
            _heat_map(figure, figure.add_axes(box), pairs, float(sent.min()), float(sent.max()))
        save_figure(figure, path)


def _summary(pairs: PairUse) -> str:
    """Return in words how many bytes stayed inside a node and how many went between nodes."""
    is_local = pairs.node_of[:, None] == pairs.node_of
    inside, between = (float(pairs.num_bytes[pairs_of].sum()) for pairs_of in (is_local, ~is_local))
    if not inside + between:
        return "No GPU sent anything."
    texts = [f"{format_quantity(inside, 'bytes')} inside nodes", f"{format_quantity(between, 'bytes')} between nodes"]
    return ", ".join([*texts, f"a row is {pairs.ranks_per_row} GPUs"] if pairs.ranks_per_row > 1 else texts)


def _heat_map(figure: Figure, axes: Axes, pairs: PairUse, least: float, most: float) -> None:
    """Draw the matrix, the lines between nodes, and the scale of the colours."""
    rows = pairs.num_bytes.shape[0]
    norm = LogNorm(min(least, most / 1.001), most)
    shown = np.ma.masked_equal(pairs.num_bytes, 0.0)
    image = axes.imshow(shown, cmap=_PAIR_COLOURS, norm=norm, interpolation="nearest", extent=(0, rows, rows, 0))
    starts = np.flatnonzero(np.diff(pairs.node_of, prepend=-1))
    if starts.size <= rows / 2:
        axes.hlines(starts[1:], 0, rows, colors=FAINT, linewidths=0.8)
        axes.vlines(starts[1:], 0, rows, colors=FAINT, linewidths=0.8)
    middles = (starts + np.append(starts[1:], rows)) / 2
    step = -(-starts.size // _MOST_LABELS)
    names = [f"node {pairs.node_of[start]}" for start in starts[::step]]
    style_axes(axes)
    axes.set_yticks(middles[::step], names, fontsize=8.5)
    axes.set_xticks(middles[::step], [name.removeprefix("node ") for name in names], fontsize=8.5)
    axes.tick_params(length=0, colors=INK)
    axes.set_xlabel("to node", color=INK, fontsize=9)
    axes.set_ylabel("from", color=INK, fontsize=9)
    position = axes.get_position()
    box = figure.add_axes(
        (position.x1 + 0.25 / _PAIRS_WIDTH_INCHES, position.y0, 0.18 / _PAIRS_WIDTH_INCHES, position.height)
    )
    bar = figure.colorbar(image, cax=box)
    ticks = np.geomspace(norm.vmin or least, most, 5) if most > 1.01 * least else np.array([most])
    bar.set_ticks(ticks.tolist())
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: format_quantity(value, "bytes")))
    bar.ax.yaxis.set_minor_locator(NullLocator())
    style_colour_bar(bar)
    bar.ax.tick_params(length=0)
