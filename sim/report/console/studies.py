"""The reports of `moesim schedules` and `moesim stress`, from their JSON."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich.console import Console
from rich.text import Text

from sim.report.console.tables import bullets, cell, heading, indented, new_table, print_written
from sim.results.quantities import format_quantity

__all__ = ["print_schedules", "print_stress"]

_LAYERS: Final = "parallel.stage_layers"
_MOST_LAYERS: Final = 32  # chunks whose layers are written out


def print_schedules(data: Mapping[str, Any], console: Console, *, name: str) -> None:
    """Print the schedules that ran, the fastest first and the cheapest that fits marked; then those that cannot run."""
    rows = data["rows"]
    has_memory = any("peak_bytes_per_gpu" in row for row in rows)
    mark = (
        "cheapest schedule that fits" if has_memory else "fastest schedule: without a model there is no memory to fit"
    )
    heading(console, "schedules", f"of {name}, on the same work; * marks the {mark}")
    hidden = {"p2p_hops"} if has_memory else {"fits"}
    columns = [column for column in _COLUMNS if column.key not in hidden and any(column.key in row for row in rows)]
    right = [2 + i for i, column in enumerate(columns) if column.is_right]
    table = new_table(console, "", "schedule", *(column.title for column in columns), right=right)
    for row in rows:
        style = "bold green" if row["is_cheapest_that_fits"] else "red" if row["fits"] is False else ""
        texts = ["*" if row["is_cheapest_that_fits"] else "", row["schedule"]]
        table.add_row(*(cell(text, style) for text in [*texts, *(_shown(row, column) for column in columns)]))
    indented(console, table)
    bullets(console, _notes(rows), mark="•")
    if data["refused"]:
        heading(console, "cannot run this work")
        bullets(console, [f"{refusal['schedule']}: {refusal['reason']}" for refusal in data["refused"]], mark="•")
    if data.get("written"):
        console.print()
        console.print(cell(f"Wrote {data['written']}."))


def _notes(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield explanations of the table's words."""
    if any("bubble_fraction_published_form" in row for row in rows):
        yield "own span: bubble of the stage with the longest time from its first to its last pass, as in papers."
    split = {tuple(row["set"][_LAYERS]) for row in rows if _LAYERS in row["set"]}
    for layers in sorted(split):
        names = ", ".join(row["schedule"] for row in rows if row["set"].get(_LAYERS) == list(layers))
        counts = " ".join(map(str, layers)) if len(layers) <= _MOST_LAYERS else f"{len(layers)} chunks"
        yield f"split: each stage's layers are divided over the chunks of {names}, in the model's order: {counts}."


def _shown(row: Mapping[str, Any], column: "_Column") -> str:
    """Return a cell's text."""
    value = row.get(column.key)
    if column.key == "set":
        return _changed_chunks(row["set"])
    if value is None:
        return "–"
    if column.key == "fits":
        return "yes" if value else "no"
    if column.unit is None:
        return f"{value:,.4g}" if isinstance(value, float) else f"{value:,}"
    return format_quantity(round(value, 4) if column.unit == "ratio" else float(value), column.unit)


def _changed_chunks(changes: Mapping[str, Any]) -> str:
    """Return the chunks of a schedule where they differ from the scenario's chunks."""
    chunks = changes.get("parallel.vpp")
    words = [] if chunks is None else [f"vpp {chunks}"]
    return ", ".join([*words, *(["split"] if _LAYERS in changes else [])])


@dataclass(frozen=True, slots=True)
class _Column:
    """A column, shown where a row has its key."""

    title: str
    key: str
    unit: str | None = None
    is_right: bool = True


_COLUMNS: Final = (
    _Column("with", "set", is_right=False),
    _Column("step time", "step_time_s", "s"),
    _Column("bubble", "bubble_fraction", "ratio"),
    _Column("own span", "bubble_fraction_published_form", "ratio"),
    _Column("in flight", "in_flight_microbatches"),
    _Column("activations", "activation_bytes", "bytes"),
    _Column("p2p", "p2p_bytes", "bytes"),
    _Column("hops", "p2p_hops"),
    _Column("peak memory", "peak_bytes_per_gpu", "bytes"),
    _Column("fits", "fits", is_right=False),
)


Row = Mapping[str, Any]

_TIMES = ("step", "± 95 %", "slowdown", "tokens/s", "bubble")
_LOADS = ("max/mean", "at best", "dropped", "rerouted", "weights", "peak", "fits")
_AT_BEST = "  at best: lower bound of every placement with as many slots, even if experts are placed anew at each draw"
_PADDED = "  max/mean counts tokens, not the empty rows with which experts are padded and which they compute as well"


def print_stress(data: Mapping[str, Any], console: Console, *, written: Mapping[str, str]) -> None:
    """Print a stress test.

    Parameters
    ----------
    data
        The JSON object of `stress`.
    console
        Where to.
    written
        Content of each file -> its path.
    """
    rows = sorted(data["rows"], key=lambda row: [remedy["name"] for remedy in data["remedies"]].index(row["remedy"]))
    kept = f", {data['num_kept']} of them from an earlier run" if data["num_kept"] else ""
    heading(console, str(data["scenario"]), f"routing {data['routing']}, {data['num_points']} simulations{kept}")
    _print_table(console, rows, _TIMES, _time_cells)
    heading(console, "tokens and memory", "busiest rank over the mean; tokens that experts lost; memory per GPU")
    _print_table(console, rows, _LOADS, _load_cells)
    console.print(Text(_AT_BEST))
    if any(row["padded_fraction"] for row in rows):
        console.print(Text(_PADDED))
    apart = dict.fromkeys(row["remedy"] for row in rows if row["is_comparison"])
    if apart:
        console.print(Text(f"  shown for comparison, left out of the sentence below: {', '.join(apart)}"))
    heading(
        console, "the slowdown", "time that each kind of work adds to the step of the first row, averaged over stages"
    )
    kinds = [kind for kind in rows[0]["parts_s"] if any(row["parts_s"][kind] for row in rows)]
    _print_table(
        console,
        rows,
        (*kinds, "of which contention"),
        lambda row: [*(_signed(row["slowdown_s"].get(kind)) for kind in kinds), _signed(row["contention_added_s"])],
    )
    problems = dict.fromkeys(row["problem"] for row in rows if row["problem"])
    for problem in problems:
        console.print(Text(f"  not simulated: {problem}"))
    console.print(Text(f"\n{data['sentence']}"))
    print_written(written, console)


def _print_table(
    console: Console, rows: Sequence[Row], columns: Sequence[str], cells: Callable[[Row], Sequence[str]]
) -> None:
    """Print a row for each remedy and skew; a remedy is named once, and a row that does not fit is red."""
    load = "routing" if rows and "load" in rows[0] else "skew"
    table = new_table(console, "remedy", load, *columns, right=range(1, 2 + len(columns)))
    last = None
    for row in rows:
        remedy = "" if row["remedy"] == last else row["remedy"]
        last, style = row["remedy"], "red" if row["fits"] is False else ""
        values = ["–"] * len(columns) if row["step_time_s"] is None else cells(row)
        table.add_row(cell(remedy), *(cell(text, style) for text in (row.get("load", f"{row['skew']:g}"), *values)))
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
