"""The page of a stress test: which remedy helps, at what price, and why, in one HTML file that loads nothing."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from sim.report.html.columns import pack_columns
from sim.report.html.pictures import expert_heat
from sim.report.html.sections import CATEGORY_NAMES, percent_of
from sim.report.html.shell import render_page
from sim.results.quantities import format_quantity, format_ratio

__all__ = ["write_stress_page"]

Data = Mapping[str, Any]
Row = dict[str, Any]

_SECTIONS: Final = (
    ("grid", "Remedies", "Which remedy helps, and what does it cost?"),
    ("accounts", "Time", "Where the time goes at the largest skew"),
    ("experts", "Experts", "How uneven is the load of experts?"),
    ("reproduce", "Reproduce", "How to get this again"),
)

_PARTS: Final[Mapping[str, str]] = {
    "kernels": "expert",
    "foreign": "foreign",
    "dispatch": "ep_dispatch",
    "combine": "ep_combine",
    "moves": "ep_moves",
    "tp": "tp",
    "pp": "pp",
    "dp": "dp",
    "cp": "cp",
    "stalled": "stalled",
    "idle": "idle",
}
"""Kind of work in a stress test -> category whose colour it has."""


def write_stress_page(data: Data, path: str | Path) -> None:
    """Write the page of the JSON object of `moesim stress`.

    Raises
    ------
    OSError
        The file could not be written (`sim.report.files` makes it an `OutputError`).
    """
    tokens = np.asarray(data["expert_tokens"]["tokens"], dtype=np.int64)
    heat = expert_heat(tokens, range(len(tokens)), f"in the first microbatch at skew {data['expert_tokens']['skew']:g}")
    packed = pack_columns({"expert_tokens": tokens.ravel()})
    payload = {"index": packed.index, "bands": [], "curves": [], "heat": [heat]}
    content = {
        "name": str(data["scenario"]),
        "subtitle": f"stress test, routing {data['routing']}, {data['num_points']} simulations",
        "conclusion": [[{"text": sentence}] for sentence in data["conclusion"]],
        "figures": [],
        "grid": _tables(data),
        "accounts": _accounts(data),
        "experts": True,
        "experts_lead": "A step waits for the rank that holds the busiest experts.",
        "heats": [heat],
        "reproduce": True,
        "command": "moesim stress SCENARIO --out DIR",
        "scenario": "",
    }
    Path(path).write_text(render_page(content, _SECTIONS, payload, packed.text), encoding="utf-8", newline="\n")


# ---- private -----------------------------------------------------------------------------------------------------


def _tables(data: Data) -> list[Row]:
    """Return a table of remedies over skews for each measure; the best of a skew is marked."""
    tables = [
        _table(
            data, "Tokens that are computed in full, in a second: more is better", "useful_tokens_per_s", _tokens, max
        ),
        _table(data, "Step time: less is better", "step_time_s", lambda value: format_quantity(value, "s"), min),
        _table(data, "Busiest rank over the mean: less is better", "imbalance_max_over_mean", format_ratio, min),
        _table(data, "Peak memory of a GPU: less is better", "peak_bytes_per_gpu", _bytes, min),
    ]
    if any((row.get("lost_fraction") or 0) > 0 for row in data["rows"]):
        title = "Copies of tokens that are lost: less is better"
        tables.append(_table(data, title, "lost_fraction", lambda value: format_quantity(value, "ratio"), min))
    return tables


def _table(
    data: Data, title: str, name: str, text: Callable[[float], str], best: Callable[[list[float]], float]
) -> Row:
    skews = list(dict.fromkeys(row["skew"] for row in data["rows"]))
    cells = {(row["remedy"], row["skew"]): row.get(name) for row in data["rows"]}
    most = max((abs(value) for value in cells.values() if value is not None), default=0) or 1
    bests = {}
    for skew in skews:
        values = [cells[remedy["name"], skew] for remedy in data["remedies"] if cells.get((remedy["name"], skew))]
        bests[skew] = best(values) if values else None
    rows = []
    for remedy in data["remedies"]:
        row = []
        for skew in skews:
            value = cells.get((remedy["name"], skew))
            shown = "could not be run" if value is None else text(value)
            share = 0.0 if value is None else abs(value) / most
            row.append({"text": shown, "share": share, "is_best": value is not None and value == bests[skew]})
        rows.append({"name": remedy["name"], "cells": row})
    return {"title": title, "skews": [f"{skew:g}" for skew in skews], "rows": rows}


def _accounts(data: Data) -> Row:
    """Return the step of each remedy at the largest skew by kind of work, as shares of the longest."""
    last = max(row["skew"] for row in data["rows"])
    rows = [row for row in data["rows"] if row["skew"] == last and row["step_time_s"]]
    used = [part for part in _PARTS if any(row["parts_s"].get(part) for row in rows)]
    longest = max((row["step_time_s"] for row in rows), default=1.0)
    return {
        "title": f"The step at skew {last:g} by kind of work; the longest bar is {format_quantity(longest, 's')}.",
        "categories": [{"id": _PARTS[part], "name": _name(part)} for part in used],
        "bars": [{"name": row["remedy"], "parts": _parts(row, used, longest)} for row in rows],
    }


def _name(part: str) -> str:
    return "kernels" if part == "kernels" else CATEGORY_NAMES[_PARTS[part]]


def _parts(row: Data, used: Sequence[str], longest: float) -> list[Row]:
    begin, parts = 0.0, []
    for part in used:
        spent = row["parts_s"].get(part) or 0.0
        percent = percent_of(spent / row["step_time_s"]) if spent else "–"
        time = format_quantity(spent, "s") if spent else "–"
        parts.append(
            {"id": _PARTS[part], "begin": begin / longest, "share": spent / longest, "time": time, "percent": percent}
        )
        begin += spent
    return parts


def _tokens(value: float) -> str:
    return format_quantity(value, "tokens/s")


def _bytes(value: float) -> str:
    return format_quantity(value, "bytes")
