"""What the timeline and the pictures around it draw: memory and link load over time, tokens of experts, colours."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sim.engine.trace import PASS_KINDS, LinkUse, Trace
from sim.report.html.colours import account_colours
from sim.report.html.details import RunDetails
from sim.report.html.sections import CATEGORY_NAMES
from sim.results.quantities import format_ratio

__all__ = ["colour_rules", "expert_heat", "heats_of", "legend_of", "link_curves", "memory_curve"]

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
    """Return the heat maps of tokens by layer and expert, and by microbatch and rank; nothing without experts."""
    heats, columns = [], {}
    if details.expert_tokens is not None:
        heats.append(expert_heat(details.expert_tokens, details.expert_layers, "in the first microbatch"))
        columns["expert_tokens"] = details.expert_tokens.ravel()
    tokens = None if details.rank_tokens is None else details.rank_tokens.sum(axis=0)
    if tokens is not None and tokens.any() and tokens.size <= _MOST_CELLS:
        title = "Tokens for experts on each rank (across) in each microbatch (down), all layers together"
        heats.append(_heat("rank_tokens", tokens, title, rows=("microbatch", range(len(tokens))), column="rank"))
        columns["rank_tokens"] = tokens.ravel()
    return heats, columns


def expert_heat(tokens: NDArray[np.int64], layers: Sequence[int], when: str) -> dict[str, Any]:
    """Return the heat map of tokens by layer and expert [L, E]; its column is `expert_tokens`."""
    title = f"Copies of tokens for each expert (across) of each layer (down), {when}"
    return _heat("expert_tokens", tokens, title, rows=("layer", layers), column="expert")


def _heat(
    name: str, tokens: NDArray[np.int64], title: str, *, rows: tuple[str, Sequence[int]], column: str
) -> dict[str, Any]:
    """Return a heat map, and what it shows as a text."""
    row_name, numbers = rows
    row, most = np.unravel_index(int(np.argmax(tokens)), tokens.shape)
    mean, of_columns = float(tokens.mean()) or 1.0, tokens.sum(axis=0)
    if tokens.min() == tokens.max():
        text = f"Even: {int(tokens.max()):,} tokens everywhere."
        return _described_heat(name, tokens, title, text, rows=rows, column=column)
    text = (
        f"Most: {column} {most} in {row_name} {numbers[int(row)]}, {int(tokens[row, most]):,} tokens, "
        f"{format_ratio(float(tokens[row, most]) / mean)} the mean. All together, {column} "
        f"{int(np.argmax(of_columns))} has most: {format_ratio(float(of_columns.max() / (of_columns.mean() or 1)))} "
        "the mean."
    )
    return _described_heat(name, tokens, title, text, rows=rows, column=column)


def _described_heat(
    name: str, tokens: NDArray[np.int64], title: str, text: str, *, rows: tuple[str, Sequence[int]], column: str
) -> dict[str, Any]:
    return {
        "id": f"heat-{name.replace('_', '-')}",
        "title": title,
        "text": text,
        "column": name,
        "rows": tokens.shape[0],
        "columns": tokens.shape[1],
        "rowName": rows[0],
        "columnName": column,
        "rowNumbers": list(rows[1]),
        "unit": "tokens",
    }


def legend_of(trace: Trace) -> list[dict[str, str]]:
    """Return the kinds of spans that the trace has, with their names, and what the grounds mean."""
    kinds = dict.fromkeys(trace["kind"][np.sort(np.unique(trace.ints("kind"), return_index=True)[1])].tolist())
    more = ["foreign"] if trace.rows("foreign").size else []
    grounds = [{"id": f"ground-{name}", "name": f"{name} (ground)"} for name in ("stalled", "idle")]
    by_kind = dict.fromkeys(PASS_KINDS, " (passes by kind)")  # else their hue is the microbatch
    return [{"id": name, "name": CATEGORY_NAMES[name] + by_kind.get(name, "")} for name in [*kinds, *more]] + grounds


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
