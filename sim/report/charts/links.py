"""Pictures of the network: the load of links over time, and the bytes between every two GPUs.

In the picture of links a row is a class of links: those that join the same kinds of vertices with equal capacities. The
colour is the mean load in a bin of time of the link that carried the most. At the right stand how many links the class
has, the bytes of all, the mean load of all over the step with the least and the most of any, and the largest share of
the step in which one of them was the bottleneck of a transfer.

In the picture of pairs a row is a sender, a column a receiver, and lines lie between nodes. Colours are logarithmic,
from the least to the most that any pair exchanged; white is nothing. What the switch of a node reduces and multicasts
is no traffic of pairs: it stands in two strips of its own, to the switch at the right and from the switch below.
"""

from pathlib import Path
from typing import Final

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator
from numpy.typing import NDArray

from sim.engine.network.linkuse import link_classes
from sim.engine.trace import Trace
from sim.plan.logs import PairUse
from sim.report.canvas import literal, new_figure, save_figure, settings, style_axes, style_colour_bar
from sim.report.palette import FAINT, INK, SUBTLE
from sim.results.quantities import format_quantity, time_unit_ns

__all__ = ["draw_links", "draw_pairs"]

FloatArray = NDArray[np.float64]

_ROW_INCHES: Final = 0.3
_WIDTH_INCHES: Final = 12.0
_LEFT_INCHES: Final = 1.9
_RIGHT_INCHES: Final = 3.9
_LOAD_COLOURS: Final = "YlOrRd"
_NOTE_HEADS: Final = ("links", "bytes of all", "mean load", "least to most", "bottleneck")
_NOTE_COLUMNS: Final = (0.05, 0.175, 0.28, 0.44, 0.55)
"""Right edges of the columns at the right, in widths of the panel."""


def draw_links(trace: Trace, path: Path, *, title: str) -> None:
    """Write the picture of the links; the picture of a run whose links carried nothing says that."""
    use = trace.link_use
    hot = use.hot_utilisation
    height = 1.05 + _ROW_INCHES * max(hot.shape[1], 1) + 0.65
    with settings():
        figure = new_figure(_WIDTH_INCHES, height)
        figure.text(0.02, 1 - 0.3 / height, f"{title}: links", fontsize=13, fontweight="bold", color=INK, va="center")
        if not hot.shape[1] or use.hot_edges_ns.size < 2:
            figure.text(0.02, 0.5, "No link carried anything.", fontsize=10, color=SUBTLE)
            save_figure(figure, path)
            return
        text = (
            "which links are busy, and when? A row is a class of alike links, coloured by the load of its busiest link"
        )
        figure.text(0.02, 1 - 0.56 / height, text, fontsize=9, color=SUBTLE, va="center")
        classes = link_classes(use.names, use.capacity_bytes_per_s)
        names = [classes[link] for link in use.hottest.tolist()]
        axes = _panel(figure, 1.05, hot, trace, names)
        _notes(axes, [_texts_of_class(trace, np.array([each == name for each in classes])) for name in names])
        scale, unit = time_unit_ns(trace.end_ns)
        axes.set_xticks(axes.get_xticks(), [f"{tick / scale:g}" for tick in axes.get_xticks()])
        axes.set_xlim(0, trace.end_ns)
        axes.set_xlabel(f"time [{unit}]", fontsize=9, color=INK)
        axes.tick_params(labelbottom=True, bottom=True)
        _colour_bar(figure, axes, height)
        save_figure(figure, path)


def _panel(figure: Figure, top_inches: float, load: FloatArray, trace: Trace, names: list[str]) -> Axes:
    """Draw the rows of `load` [B, rows] so far below the upper edge."""
    rows, (width, height) = load.shape[1], figure.get_size_inches()
    tall = _ROW_INCHES * rows / height
    wide = (width - _LEFT_INCHES - _RIGHT_INCHES) / width
    axes = figure.add_axes((_LEFT_INCHES / width, 1 - top_inches / height - tall, wide, tall))
    edges = trace.link_use.hot_edges_ns
    axes.pcolormesh(edges, np.arange(rows + 1), load.T, cmap=_LOAD_COLOURS, vmin=0, vmax=1, rasterized=True)
    axes.set(xlim=(0, trace.end_ns), ylim=(rows, 0))
    style_axes(axes)
    axes.set_yticks(np.arange(rows) + 0.5, [literal(name) for name in names], fontsize=8.5, color=INK, parse_math=False)
    axes.hlines(np.arange(1, rows), 0, trace.end_ns, colors="white", linewidths=1.2)
    axes.tick_params(length=0, labelbottom=False)
    axes.tick_params(axis="y", colors=INK)
    return axes


def _texts_of_class(trace: Trace, is_member: NDArray[np.bool_]) -> tuple[str, ...]:
    """Return number and bytes of the links of a class, their mean load and its spread, and the longest bottleneck."""
    use, step_s = trace.link_use, trace.step_ns / 1e9 or 1.0
    num_bytes, capacity = use.num_bytes[is_member], use.capacity_bytes_per_s[is_member]
    loads = num_bytes / np.where(capacity > 0, capacity * step_s, np.inf)
    least, most = (f"{100 * load:.1f}" for load in (loads.min(), loads.max()))
    return (
        f"{num_bytes.size:,}",
        format_quantity(float(num_bytes.sum()), "bytes"),
        _percent(float(num_bytes.sum() / (capacity.sum() * step_s or 1.0))),
        f"{least} to {most} %" if least != most else "all alike",
        _percent(None if use.bottleneck_s is None else float(use.bottleneck_s[is_member].max() / step_s)),
    )


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def _notes(axes: Axes, rows: list[tuple[str, ...]]) -> None:
    """Write columns at the right of rows."""
    for x, head in zip(_NOTE_COLUMNS, _NOTE_HEADS, strict=True):
        axes.text(1 + x, 1.02, head, transform=axes.transAxes, ha="right", va="bottom", fontsize=8, color=SUBTLE)
    for row, texts in enumerate(rows):
        for x, text in zip(_NOTE_COLUMNS, texts, strict=True):
            axes.text(
                1 + x,
                row + 0.5,
                text,
                transform=axes.get_yaxis_transform(),
                ha="right",
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


_PAIR_COLOURS: Final = ListedColormap(colormaps["YlGnBu"](np.linspace(0.15, 1.0, 256)))
"""From a colour that is not white."""
_MOST_LABELS: Final = 16
_MAP_INCHES: Final = 7.0
_PAIRS_WIDTH_INCHES: Final = 9.9
_PAIRS_HEIGHT_INCHES: Final = 9.45


def draw_pairs(pairs: PairUse, path: Path, *, title: str) -> None:
    """Write the picture of the pairs; the picture of a run in which no GPU sent anything says that."""
    between = pairs.num_bytes if pairs.by_switch is None else pairs.num_bytes - pairs.by_switch
    between = np.where(between > 1e-9 * pairs.num_bytes, between, 0.0)
    with settings():
        figure = new_figure(_PAIRS_WIDTH_INCHES, _PAIRS_HEIGHT_INCHES)
        left = 0.95 / _PAIRS_WIDTH_INCHES
        heads = (
            (0.3, f"{title}: who sends how many bytes to whom", 13, "bold", INK),
            (0.6, _summary(pairs, between), 9, "normal", SUBTLE),
            (0.82, _explained(pairs, between), 9, "normal", SUBTLE),
        )
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
        to_switch = None if pairs.by_switch is None else pairs.by_switch.sum(axis=1)
        from_switch = None if pairs.by_switch is None else pairs.by_switch.sum(axis=0)
        every = [some[some > 0] for some in (between, to_switch) if some is not None]
        sent = np.concatenate([some.ravel() for some in every])
        if sent.size:
            norm = LogNorm(min(float(sent.min()), float(sent.max()) / 1.001), float(sent.max()))
            axes = figure.add_axes(_box(0.95, 0.95, _MAP_INCHES, _MAP_INCHES))
            image = _heat_map(axes, pairs, between, norm)
            if to_switch is not None and from_switch is not None:
                _strips(figure, to_switch, from_switch, norm)
            _scale(figure, image, norm)
        save_figure(figure, path)


def _box(left: float, bottom: float, width: float, height: float) -> tuple[float, float, float, float]:
    """Return a place in inches as shares of the figure."""
    across, up = _PAIRS_WIDTH_INCHES, _PAIRS_HEIGHT_INCHES
    return left / across, bottom / up, width / across, height / up


def _summary(pairs: PairUse, between: FloatArray) -> str:
    """Return in words how many bytes stayed inside a node, went between nodes, and went by way of switches."""
    is_local = pairs.node_of[:, None] == pairs.node_of
    inside, across = (float(between[pairs_of].sum()) for pairs_of in (is_local, ~is_local))
    by_switch = 0.0 if pairs.by_switch is None else float(pairs.by_switch.sum())
    if not inside + across + by_switch:
        return "No GPU sent anything."
    texts = [f"{format_quantity(inside, 'bytes')} inside nodes", f"{format_quantity(across, 'bytes')} between nodes"]
    texts += [f"{format_quantity(by_switch, 'bytes')} to switches that reduce and multicast"] if by_switch else []
    return ", ".join([*texts, f"a row is {pairs.ranks_per_row} GPUs"] if pairs.ranks_per_row > 1 else texts)


def _explained(pairs: PairUse, between: FloatArray) -> str:
    """Return in words what white cells are."""
    if not (between > 0).any():
        return ""
    rows, is_single = between.shape[0], pairs.ranks_per_row == 1
    of = rows * (rows - 1) if is_single else rows * rows
    absent = of - int((between > 0).sum())
    nothing = f"{absent:,} of {of:,} {'pairs' if is_single else 'pairs of rows'}, which exchanged nothing"
    itself = "a GPU with itself" if is_single else ""
    white = ", and ".join(filter(None, (nothing if absent else "", itself)))
    return f"white: {white}" if white else ""


def _heat_map(axes: Axes, pairs: PairUse, between: FloatArray, norm: LogNorm) -> ScalarMappable:
    """Draw the matrix and the lines between nodes."""
    rows = between.shape[0]
    shown = np.ma.masked_equal(between, 0.0)
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
    axes.tick_params(length=0, colors=INK, top=True, labeltop=True, bottom=False, labelbottom=False)
    axes.xaxis.set_label_position("top")
    axes.set_xlabel("to node", color=INK, fontsize=9)
    axes.set_ylabel("from", color=INK, fontsize=9)
    return image


def _strips(figure: Figure, to_switch: FloatArray, from_switch: FloatArray, norm: LogNorm) -> None:
    """Draw what each GPU sends to the switch of its node, and receives from it."""
    places = (
        (
            to_switch[:, None],
            _box(0.95 + _MAP_INCHES + 0.12, 0.95, 0.25, _MAP_INCHES),
            "to\nswitch",
            (0.5, 1.01, "bottom"),
        ),
        (from_switch[None, :], _box(0.95, 0.95 - 0.37, _MAP_INCHES, 0.25), "from switch", (0.5, -0.25, "top")),
    )
    for values, place, label, (x, y, va) in places:
        axes = figure.add_axes(place)
        shown = np.ma.masked_equal(values, 0.0)
        axes.imshow(shown, cmap=_PAIR_COLOURS, norm=norm, interpolation="nearest", aspect="auto")
        style_axes(axes)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.text(x, y, label, transform=axes.transAxes, ha="center", va=va, fontsize=8.5, color=INK)


def _scale(figure: Figure, image: ScalarMappable, norm: LogNorm) -> None:
    """Draw the scale of the colours."""
    least, most = float(norm.vmin or 1.0), float(norm.vmax or 1.0)
    bar = figure.colorbar(image, cax=figure.add_axes(_box(0.95 + _MAP_INCHES + 0.62, 0.95, 0.18, _MAP_INCHES)))
    ticks = np.geomspace(least, most, 5) if most > 1.01 * least else np.array([most])
    bar.set_ticks(ticks.tolist())
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: format_quantity(value, "bytes")))
    bar.ax.yaxis.set_minor_locator(NullLocator())
    style_colour_bar(bar)
    bar.ax.tick_params(length=0)
