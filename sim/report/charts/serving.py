"""A picture of a server's run: what its steps computed over time, its queue and cache, and what users waited for."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from sim.report.canvas import literal, new_figure, save_figure, settings, style_axes
from sim.report.palette import CATEGORY_COLOURS, INK, STALLED, SUBTLE
from sim.results.serving import ServingSteps

__all__ = ["draw_serving"]

_BINS = 240
_PREFILL, _DECODE, _WAITING, _CACHE = (
    CATEGORY_COLOURS["attention"],
    CATEGORY_COLOURS["expert"],
    STALLED,
    CATEGORY_COLOURS["tp"],
)


def draw_serving(data: Mapping[str, Any], steps: ServingSteps, path: Path) -> None:
    """Write the picture of the JSON of a run, and of its steps."""
    with settings():
        figure = new_figure(10.4, 8.2)
        figure.text(0.06, 0.965, literal(str(data["scenario"].get("name") or "serving")), fontsize=11, color=INK)
        over_time = [figure.add_axes((0.07, low, 0.87, 0.19)) for low in (0.72, 0.45)]
        _draw_tokens(over_time[0], steps)
        _draw_queue(over_time[1], steps)
        places = zip(("ttft", "tpot", "latency"), (0.07, 0.39, 0.71), strict=True)
        for name, left in places:
            _draw_distribution(figure.add_axes((left, 0.07, 0.23, 0.28)), data, name)
        save_figure(figure, path)


def _edges(steps: ServingSteps) -> NDArray[np.float64]:
    return np.linspace(float(steps.start_ns.min()), float(steps.end_ns.max()), _BINS + 1)


def _means(steps: ServingSteps, values: NDArray[np.int64], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return values of steps in bins of time, each weighted by its duration and counted where it starts. Shape [B].

    A bin in which no step starts has the value of the bin before it: a step goes on.
    """
    place = np.clip(np.searchsorted(edges, steps.start_ns, side="right") - 1, 0, _BINS - 1)
    weights = (steps.end_ns - steps.start_ns).astype(float)
    weight = np.bincount(place, weights, minlength=_BINS)
    means = np.bincount(place, weights * values, minlength=_BINS) / np.maximum(weight, 1.0)
    last = np.maximum.accumulate(np.where(weight > 0, np.arange(_BINS), 0))
    return np.asarray(means[last], dtype=float)


def _draw_tokens(axes: Axes, steps: ServingSteps) -> None:
    """Draw the tokens that were computed each second, of prompts and of answers."""
    edges = _edges(steps)
    place = np.clip(np.searchsorted(edges, steps.start_ns, side="right") - 1, 0, _BINS - 1)
    width_s = (edges[1] - edges[0]) / 1e9
    rates = [np.bincount(place, n, minlength=_BINS) / width_s for n in (steps.num_decodes, steps.num_prefill_tokens)]
    style_axes(axes, "Tokens computed a second", grid=True)
    axes.stackplot(
        edges[:-1] / 1e9, rates, step="post", colors=[_DECODE, _PREFILL], labels=["decoded", "of prompts"], linewidth=0
    )
    axes.set_xlim(edges[0] / 1e9, edges[-1] / 1e9)
    axes.legend(loc="upper right", fontsize=8, frameon=False, ncols=2)


def _draw_queue(axes: Axes, steps: ServingSteps) -> None:
    """Draw the requests in service and waiting, and the use of the KV cache."""
    edges = _edges(steps)
    times = edges[:-1] / 1e9
    style_axes(axes, "Requests in service and waiting, mean of the groups of ranks; KV blocks in use", grid=True)
    axes.plot(times, _means(steps, steps.num_running, edges), color=_DECODE, linewidth=1.2, label="in service")
    axes.plot(times, _means(steps, steps.num_waiting, edges), color=INK, linewidth=1.2, label="waiting")
    axes.set_xlim(edges[0] / 1e9, edges[-1] / 1e9)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("s", color=SUBTLE, fontsize=8.5)
    axes.legend(loc="upper left", fontsize=8, frameon=False, ncols=2)
    cache = axes.twinx()
    num_ranks = len(steps.blocks_left) // (int(steps.group.max(initial=0)) + 1)
    use = _means(steps, steps.blocks_used, edges) / (steps.num_blocks * max(1, num_ranks))
    cache.plot(times, 100 * use, color=_CACHE, linewidth=1.0, linestyle="--", label="KV blocks, %")
    cache.set_ylim(0, 105)
    cache.spines[:].set_visible(False)
    cache.tick_params(labelsize=8, colors=SUBTLE)
    cache.legend(loc="upper right", fontsize=8, frameon=False)


def _draw_distribution(axes: Axes, data: Mapping[str, Any], name: str) -> None:
    """Draw which part of the requests is done within a time, and what was promised."""
    warmup = data["scenario"]["workload"]["requests"]["warmup"]
    values = np.sort([row[f"{name}_s"] for row in data["requests"][warmup:] if row[f"{name}_s"] is not None])
    unit, factor = ("ms", 1e3) if values.size and values[-1] < 1.0 else ("s", 1.0)
    words = {"ttft": "Time to first token", "tpot": "Time per further token", "latency": "Latency"}[name]
    style_axes(axes, f"{words}, {unit}", grid=True)
    if values.size:
        axes.step(factor * values, 100 * np.arange(1, values.size + 1) / values.size, where="post", color=_DECODE)
    promised = (data["scenario"]["workload"].get("slo") or {}).get(name)
    if promised is not None:
        axes.axvline(factor * promised, color=_WAITING, linestyle="--", linewidth=1.0)
        axes.annotate("promised", (factor * promised, 4), fontsize=7.5, color=SUBTLE, ha="right", rotation=90)
    axes.set_ylim(0, 101)
    axes.set_ylabel("% of requests" if name == "ttft" else "", color=SUBTLE, fontsize=8)
