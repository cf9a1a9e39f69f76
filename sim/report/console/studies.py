"""The reports of `moesim schedules` and `moesim stress`, from their JSON."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich.console import Console
from rich.text import Text

from sim.report.console.tables import bullets, cell, heading, indented, new_table
from sim.results.quantities import format_quantity

__all__ = ["print_schedules", "print_stress"]

_LAYERS: Final = "parallel.stage_layers"
_MOST_LAYERS: Final = 32  # chunks whose layers are written out


def print_schedules(data: Mapping[str, Any], console: Console, *, name: str) -> None:
    """Print the schedules that ran, fastest first, the cheapest that fits marked; then those that cannot run."""
    rows = data["rows"]
    has_memory = any("peak_bytes_per_gpu" in row for row in rows)
    mark = "the cheapest that fits" if has_memory else "the fastest: without a model there is no memory to fit"
    heading(console, "schedules", f"of {name}, on the same work; * is {mark}")
    hidden = {"p2p_hops"} if has_memory else {"fits"}
    columns = [one for one in _COLUMNS if one.key not in hidden and any(one.key in row for row in rows)]
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
        bullets(console, [f"{one['schedule']}: {one['reason']}" for one in data["refused"]], mark="•")
    if data.get("written"):
        console.print()
        console.print(cell(f"Wrote {data['written']}."))


def _notes(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield what the table's words mean, where they are not plain."""
    if any("bubble_fraction_published_form" in row for row in rows):
        yield "own span: bubble of the stage that is longest from its own first pass to its last, as papers publish it."
    split = {tuple(row["set"][_LAYERS]) for row in rows if _LAYERS in row["set"]}
    for layers in sorted(split):
        names = ", ".join(row["schedule"] for row in rows if row["set"].get(_LAYERS) == list(layers))
        told = " ".join(map(str, layers)) if len(layers) <= _MOST_LAYERS else f"{len(layers)} chunks"
        yield f"split: each stage's layers are divided over the chunks of {names}, in the model's order: {told}."


def _shown(row: Mapping[str, Any], column: "_Column") -> str:
    """Return a cell's text."""
    value = row.get(column.key)
    if column.key == "set":
        return _given(row["set"])
    if value is None:
        return "–"
    if column.key == "fits":
        return "yes" if value else "no"
    if column.unit is None:
        return f"{value:,.4g}" if isinstance(value, float) else f"{value:,}"
    return format_quantity(round(value, 4) if column.unit == "ratio" else float(value), column.unit)


def _given(changes: Mapping[str, Any]) -> str:
    """Return the chunks that a schedule was run with, where they are not the scenario's; the JSON has the keys."""
    chunks = changes.get("parallel.vpp")
    words = [] if chunks is None else [f"vpp {chunks}"]
    return ", ".join([*words, *(["split"] if _LAYERS in changes else [])])


@dataclass(frozen=True, slots=True)
class _Column:
    """One column, shown where a row has its key."""

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
