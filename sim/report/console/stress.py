"""The report that `moesim stress` prints, from its JSON: remedies at each skew, what slows it down, the sentence."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from sim.report.console.tables import cell, heading, indented, new_table
from sim.results.quantities import format_quantity

__all__ = ["print_stress"]

Row = Mapping[str, Any]

_TIMES = ("step", "± 95 %", "slowdown", "tokens/s", "bubble")
_LOADS = ("max/mean", "at best", "dropped", "rerouted", "weights", "peak", "fits")
_AT_BEST = "  at best: what no placement with as many slots can be below for these tokens, even a new one at each draw"
_PADDED = "  max/mean is of tokens: the empty rows that experts are padded with, and compute as well, are none"


def print_stress(data: Mapping[str, Any], console: Console, *, written: Mapping[str, str]) -> None:
    """Print a stress test.

    Parameters
    ----------
    data
        The JSON object of `stress`.
    console
        Where to.
    written
        What was written -> path.
    """
    rows = sorted(data["rows"], key=lambda row: [one["name"] for one in data["remedies"]].index(row["remedy"]))
    kept = f", {data['num_kept']} of them done before" if data["num_kept"] else ""
    heading(console, str(data["scenario"]), f"routing {data['routing']}, {data['num_points']} simulations{kept}")
    _print_table(console, rows, _TIMES, _time_cells)
    heading(console, "tokens and memory", "busiest rank over the mean; what experts lost; memory per GPU")
    _print_table(console, rows, _LOADS, _load_cells)
    console.print(Text(_AT_BEST))
    if any(row["padded_fraction"] for row in rows):
        console.print(Text(_PADDED))
    apart = dict.fromkeys(row["remedy"] for row in rows if row["is_comparison"])
    if apart:
        console.print(Text(f"  for comparison, not among the remedies of the sentence: {', '.join(apart)}"))
    heading(console, "the slowdown", "against the first row, seconds added to the step by part, averaged over stages")
    parts = [part for part in rows[0]["parts_s"] if any(row["parts_s"][part] for row in rows)]
    _print_table(
        console,
        rows,
        (*parts, "of it contention"),
        lambda row: [*(_signed(row["slowdown_s"].get(part)) for part in parts), _signed(row["contention_added_s"])],
    )
    problems = dict.fromkeys(row["problem"] for row in rows if row["problem"])
    for problem in problems:
        console.print(Text(f"  not simulated: {problem}"))
    console.print(Text(f"\n{data['sentence']}"))
    if written:
        heading(console, "written")
        table = new_table(console, "", "")
        for what, path in written.items():
            table.add_row(cell(what), cell(path))
        indented(console, table)


def _print_table(
    console: Console, rows: Sequence[Row], columns: Sequence[str], cells: Callable[[Row], Sequence[str]]
) -> None:
    """Print a row for each remedy and skew; a remedy is named once, and what does not fit is red."""
    table = new_table(console, "remedy", "skew", *columns, right=range(1, 2 + len(columns)))
    last = None
    for row in rows:
        remedy = "" if row["remedy"] == last else row["remedy"]
        last, style = row["remedy"], "red" if row["fits"] is False else ""
        values = ["–"] * len(columns) if row["step_time_s"] is None else cells(row)
        table.add_row(cell(remedy), *(cell(text, style) for text in (f"{row['skew']:g}", *values)))
    indented(console, table)


def _time_cells(row: Row) -> list[str]:
    interval = row["step_time_s_interval"]
    return [
        format_quantity(row["step_time_s"], "s"),
        "–" if interval is None else f"{(interval[1] - interval[0]) / 2 / row['step_time_s']:.1%}",
        "–" if row["slowdown"] is None else f"{row['slowdown']:.3f}",
        format_quantity(row["tokens_per_s"], "tokens/s").removesuffix("tokens/s").rstrip(),
        f"{row['bubble_fraction']:.1%}",
    ]


def _load_cells(row: Row) -> list[str]:
    return [
        f"{row['imbalance_max_over_mean']:.2f}",
        f"{row['imbalance_bound_max_over_mean']:.2f}",
        f"{row['dropped_fraction']:.2%}",
        f"{row['rerouted_fraction']:.2%}",
        format_quantity(row["weights_bytes_per_gpu"], "bytes"),
        format_quantity(row["peak_bytes_per_gpu"], "bytes"),
        {None: "–", True: "yes", False: "no"}[row["fits"]],
    ]


def _signed(value: float | None) -> str:
    if value is None:
        return "–"
    return ("+" if value >= 0 else "-") + format_quantity(abs(value), "s")
