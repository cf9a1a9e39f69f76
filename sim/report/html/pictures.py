"""What the timeline and the pictures around it draw: memory and link load over time, tokens of experts, colours."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sim.engine.trace import LinkUse, Trace
from sim.report.html.colours import account_colours
from sim.report.html.details import RunDetails
from sim.report.html.sections import CATEGORY_NAMES
from sim.results.quantities import format_ratio

__all__ = ["colour_rules", "heats_of", "legend_of", "link_curves", "memory_curve"]

Columns = dict[str, NDArray[Any]]

_MOST_CELLS: Final = 400_000
_NS_PER_S: Final = 1e9


def memory_curve(memory: Mapping[str, Any]) -> tuple[list[dict[str, Any]], Columns]:
    """Return the curve of memory over time, a line for each stage, and its columns."""
    lines, columns, most = [], {}, 0.0
    for timeline in memory.get("timeline") or ():
        stage = timeline["stage"]
        times = np.rint(np.asarray(timeline["time_s"], dtype=np.float64) * _NS_PER_S)
        total = np.full(times.size, float(sum(timeline["held_bytes"].values())))
        for series in timeline["varying_bytes"].values():
            total += np.asarray(series, dtype=np.float64)
        columns[f"memory_{stage}_ns"], columns[f"memory_{stage}_bytes"] = times, total
        most = max(most, float(columns[f"memory_{stage}_bytes"].max(initial=0)))
        lines.append({"name": f"stage {stage}", "time": f"memory_{stage}_ns", "value": f"memory_{stage}_bytes"})
    if not lines:
        return [], {}
    capacity = float(memory["capacity_bytes"])
    limit = capacity if capacity < 2.5 * most else None
    title = "Memory of the fullest GPU of each stage"
    scale = 1.05 * max(most, limit or 0.0)
    curve = {"title": title, "unit": "B", "shows": "most", "most": scale, "limit": limit, "lines": lines}
    return [curve], columns


def link_curves(use: LinkUse) -> tuple[list[dict[str, Any]], Columns]:
    """Return a curve of the load of the busiest link of each kind, and its columns."""
    curves, columns = [], {}
    for number, kind in enumerate(use.kinds):
        load = np.round(use.utilisation[:, number], 4) if use.time_ns.size else np.zeros(0)
        if not load.any():
            continue
        changes = np.concatenate([[True], load[1:] != load[:-1]])
        columns[f"link_{number}_ns"] = use.time_ns[changes]
        columns[f"link_{number}_load"] = load[changes]
        line = {"name": kind, "time": f"link_{number}_ns", "value": f"link_{number}_load"}
        title = f"Load of the busiest {kind} link"
        curve = {"title": title, "unit": "%", "shows": "mean", "most": 1.0, "limit": None, "lines": [line]}
        curves.append(curve)
    return curves, columns


def heats_of(details: RunDetails) -> tuple[list[dict[str, Any]], Columns]:
    """Return the heat map of tokens by microbatch and rank, and its column; nothing without experts."""
    tokens = None if details.rank_tokens is None else details.rank_tokens.sum(axis=0)
    if tokens is None or not tokens.any() or tokens.size > _MOST_CELLS:
        return [], {}
    row, column = np.unravel_index(int(np.argmax(tokens)), tokens.shape)
    of_ranks = tokens.sum(axis=0)
    mean = float(tokens.mean())
    text = (
        f"Most: rank {column} in microbatch {row}, {int(tokens[row, column]):,} tokens, "
        f"{format_ratio(float(tokens[row, column]) / mean if mean else 1.0)} the mean. Over all microbatches, rank "
        f"{int(np.argmax(of_ranks))} has most: {format_ratio(float(of_ranks.max() / (of_ranks.mean() or 1)))} the mean."
    )
    heat = {
        "id": "heat-ranks",
        "title": "Tokens for experts on each rank (across) in each microbatch (down), all layers together",
        "text": text,
        "column": "rank_tokens",
        "rows": tokens.shape[0],
        "columns": tokens.shape[1],
        "rowName": "microbatch",
        "columnName": "rank",
        "rowNumbers": list(range(tokens.shape[0])),
        "unit": "tokens",
    }
    return [heat], {"rank_tokens": tokens.ravel()}


def legend_of(trace: Trace) -> list[dict[str, str]]:
    """Return the kinds of spans that the trace has, with their names, and what the grounds mean."""
    kinds = dict.fromkeys(trace["kind"][np.sort(np.unique(trace.ints("kind"), return_index=True)[1])].tolist())
    more = ["stalled", *(["foreign"] if trace.rows("foreign").size else []), "idle"]
    return [{"id": name, "name": CATEGORY_NAMES[name]} for name in [*kinds, *more]]


def colour_rules() -> str:
    """Return the style rules that fill what shows a category with its colour, on light and dark pages."""
    colours = account_colours()
    light = "".join(f".k-{name} rect,rect.k-{name}{{fill:{of[0]}}}" for name, of in colours.items())
    dark = {name: of[1] for name, of in colours.items() if of[0] != of[1]}
    rules = [(f".k-{name} rect,{{0}} rect.k-{name}", colour) for name, colour in dark.items()]
    chosen = "".join(f"{_scoped(rule, ':root[data-theme=dark]')}{{fill:{colour}}}" for rule, colour in rules)
    automatic = "".join(f"{_scoped(rule, ':root:not([data-theme=light])')}{{fill:{colour}}}" for rule, colour in rules)
    return f"{light}{chosen}@media(prefers-color-scheme:dark){{{automatic}}}"


def _scoped(rule: str, scope: str) -> str:
    return f"{scope} {rule.format(scope)}"
