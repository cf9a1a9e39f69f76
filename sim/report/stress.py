"""The report that `moesim stress` prints, from its JSON: remedies at each skew, what slows it down, the sentence."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from sim.report.tables import cell, heading, indented, new_table
from sim.results.quantities import format_quantity

__all__ = ["print_stress"]

Row = Mapping[str, Any]

_STEP = (
    "remedy",
    "skew",
    "step",
    "95 % of seeds",
    "slowdown",
    "tokens/s",
    "bubble",
    "max/mean",
    "dropped",
    "rerouted",
    "weights",
    "peak",
    "fits",
)
_PARTS = ("compute", "dispatch", "combine", "waiting", "bubble", "other")


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
    heading(console, str(data["scenario"]), f"routing {data['routing']}, {data['num_points']} simulations")
    told = [name for name in _STEP if name != "rerouted" or any(row["rerouted_fraction"] for row in rows)]
    table = new_table(console, *told, right=range(1, len(told)))
    for row in rows:
        style, cells = "red" if row["fits"] is False else "", dict(zip(_STEP, _step_cells(row), strict=True))
        table.add_row(*(cell(cells[name], style) for name in told))
    indented(console, table)
    heading(console, "the slowdown", "against the first row, seconds added to the step by part, averaged over stages")
    table = new_table(console, "remedy", "skew", *_PARTS, right=range(1, 2 + len(_PARTS)))
    for row in rows:
        added = [_signed(row["slowdown_s"].get(part)) for part in _PARTS]
        table.add_row(*map(cell, (row["remedy"], f"{row['skew']:g}", *added)))
    indented(console, table)
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


def _step_cells(row: Row) -> list[str]:
    if row["step_time_s"] is None:
        return [row["remedy"], f"{row['skew']:g}", *["–"] * (len(_STEP) - 2)]
    interval = row["step_time_s_interval"]
    return [
        row["remedy"],
        f"{row['skew']:g}",
        format_quantity(row["step_time_s"], "s"),
        "–" if interval is None else f"± {(interval[1] - interval[0]) / 2 / row['step_time_s']:.1%}",
        f"{row['slowdown']:.3f}",
        format_quantity(row["tokens_per_s"], "tokens/s").removesuffix("tokens/s").rstrip(),
        f"{row['bubble_fraction']:.1%}",
        f"{row['imbalance_max_over_mean']:.2f}",
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
