"""The table that `moesim schedules` prints, from its JSON."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich.console import Console

from sim.report.console.tables import bullets, cell, heading, indented, new_table
from sim.results.quantities import format_quantity

__all__ = ["print_schedules"]

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
