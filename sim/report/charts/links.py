"""A picture of links over time: the load of the hottest ones, and of the busiest link of each kind.

A row is a link, its colour the mean load of a bin of time. At the right stand its bytes, its mean load over the step
and the share of the step in which it was the bottleneck of a transfer; of a kind, all bytes, and the most of any link.
"""

from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from sim.engine.trace import LinkUse, Trace
from sim.report.canvas import settings
from sim.report.palette import AXIS, INK, SUBTLE
from sim.results.quantities import format_quantity

__all__ = ["draw_links"]

FloatArray = NDArray[np.float64]

_ROW_INCHES: Final = 0.3
_WIDTH_INCHES: Final = 12.0
_LEFT_INCHES: Final = 2.6
_RIGHT_INCHES: Final = 3.1
_COLOURS: Final = "YlOrRd"
_COLUMNS: Final = ((0.02, "left"), (0.24, "right"), (0.35, "right"), (0.47, "right"))
"""Places of the columns at the right, in widths of the panel, and how they are aligned."""
_UNITS: Final = ((1e9, "s"), (1e6, "ms"), (1e3, "us"), (1.0, "ns"))


def draw_links(trace: Trace, path: Path, *, title: str) -> None:
    """Write the picture; a run whose links carried nothing says so."""
    use = trace.link_use
    hot, kinds = use.hot_utilisation, _busiest_of_kinds(use)
    num_rows = hot.shape[1] + kinds.shape[1]
    height = 1.75 + _ROW_INCHES * max(num_rows, 1) + 0.55
    with settings():
        figure = Figure(figsize=(_WIDTH_INCHES, height), dpi=100, facecolor="white")
        figure.text(0.02, 1 - 0.3 / height, f"{title}: links", fontsize=13, fontweight="bold", color=INK, va="center")
        if not num_rows or use.hot_edges_ns.size < 2:
            figure.text(0.02, 0.5, "No link carried anything.", fontsize=10, color=SUBTLE)
            figure.savefig(path, format=path.suffix[1:], metadata={"Software": "moesim"})
            return
        hot_rows = [_texts_of(trace, link) for link in use.hottest.tolist()]
        first = _panel(figure, 1.0, hot, trace, "hottest links", [use.names[link] for link in use.hottest])
        _notes(first, ("kind", "bytes", "mean load", "bottleneck"), hot_rows)
        top_inches = 1.0 + _ROW_INCHES * hot.shape[1] + 0.5
        second = _panel(figure, top_inches, kinds, trace, "busiest link of each kind", list(use.kinds))
        _notes(
            second, ("links", "bytes", "mean load", "bottleneck"), [_texts_of_kind(trace, kind) for kind in use.kinds]
        )
        scale, unit = next(((s, u) for s, u in _UNITS if trace.end_ns >= 10 * s), _UNITS[-1])
        second.set_xticks(second.get_xticks(), [f"{tick / scale:g}" for tick in second.get_xticks()])
        second.set_xlim(0, trace.end_ns)
        second.set_xlabel(f"time [{unit}]", fontsize=9, color=INK)
        second.tick_params(labelbottom=True, bottom=True)
        _colour_bar(figure, first, height)
        figure.savefig(path, format=path.suffix[1:], metadata={"Software": "moesim"})


def _panel(figure: Figure, top_inches: float, load: FloatArray, trace: Trace, title: str, names: list[str]) -> Axes:  # noqa: PLR0917  # in the order of drawing
    """Draw the rows of `load` [B, rows] so far below the upper edge."""
    rows, (width, height) = load.shape[1], figure.get_size_inches()
    tall = _ROW_INCHES * rows / height
    wide = (width - _LEFT_INCHES - _RIGHT_INCHES) / width
    axes = figure.add_axes((_LEFT_INCHES / width, 1 - top_inches / height - tall, wide, tall))
    edges = trace.link_use.hot_edges_ns
    axes.pcolormesh(edges, np.arange(rows + 1), load.T, cmap=_COLOURS, vmin=0, vmax=1, rasterized=True)
    axes.set(xlim=(0, trace.end_ns), ylim=(rows, 0))
    axes.set_title(title, loc="left", fontsize=10, color=INK, pad=6)
    axes.set_yticks(np.arange(rows) + 0.5, names, fontsize=8.5, color=INK, parse_math=False)
    axes.hlines(np.arange(1, rows), 0, trace.end_ns, colors="white", linewidths=1.2)
    axes.tick_params(length=0, labelbottom=False, colors=SUBTLE, labelsize=8.5)
    axes.tick_params(axis="y", colors=INK)
    for spine in axes.spines.values():
        spine.set_color(AXIS)
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
    for (x, align), head in zip(_COLUMNS, heads, strict=True):
        axes.text(1 + x, 1.0, head, transform=axes.transAxes, ha=align, va="bottom", fontsize=8, color=SUBTLE)
    for row, texts in enumerate(rows):
        for (x, align), text in zip(_COLUMNS, texts, strict=True):
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
    """Draw what the colours mean, at the upper right."""
    width = 1.9 / _WIDTH_INCHES
    box = figure.add_axes((1 - 0.35 / _WIDTH_INCHES - width, 1 - 0.42 / height, width, 0.14 / height))
    bar = figure.colorbar(axes.collections[0], cax=box, orientation="horizontal", ticks=[0, 0.5, 1])
    bar.ax.set_xticklabels(["idle", "half", "full"], fontsize=8, color=SUBTLE)
    bar.ax.tick_params(length=0)
    bar.outline.set_visible(False)


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
