"""The report of `moesim schedules`, from its JSON."""

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
    """Print what the schedules say, those that ran, the fastest first, and those that cannot run."""
    rows = data["rows"]
    has_memory = any("peak_bytes_per_gpu" in row for row in rows)
    heading(console, "schedules", f"of {name}, on the same work")
    bullets(console, data["conclusion"], mark="•")
    console.print()
    hidden = {"p2p_hops"} if has_memory else set()
    columns = [column for column in _COLUMNS if column.key not in hidden and any(column.key in row for row in rows)]
    table = new_table(console, "", "schedule", *(column.title for column in columns), right=range(2, 2 + len(columns)))
    for row in rows:
        style = "bold green" if row["is_cheapest_that_fits"] else "red" if row["fits"] is False else ""
        mark = "*" if row["is_cheapest_that_fits"] else "✗" if row["fits"] is False else ""
        texts = [mark, f"{row['schedule']}{_changed_chunks(row['set'])}"]
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
    """Yield explanations of the table's words and marks."""
    if any(row["fits"] is False for row in rows):
        yield "* fastest that fits; ✗ does not fit into memory."
    if any("peak_bytes_per_gpu" in row for row in rows):
        yield "in flight: most microbatches between F and B on a stage; peak: memory per GPU, activations part of it."
    if any("bubble_fraction_published_form" in row for row in rows):
        yield "own span: bubble of the stage with the longest time from first to last pass, as in papers."
    split = {tuple(row["set"][_LAYERS]) for row in rows if _LAYERS in row["set"]}
    for layers in sorted(split):
        names = ", ".join(row["schedule"] for row in rows if row["set"].get(_LAYERS) == list(layers))
        counts = " ".join(map(str, layers)) if len(layers) <= _MOST_LAYERS else f"{len(layers)} chunks"
        yield f"split: each stage's layers are divided over the chunks of {names}, in the model's order: {counts}."


def _shown(row: Mapping[str, Any], column: "_Column") -> str:
    """Return a cell's text."""
    value = row.get(column.key)
    if value is None:
        return "–"
    if column.unit is None:
        return f"{value:,.4g}" if isinstance(value, float) else f"{value:,}"
    return format_quantity(round(value, 4) if column.unit == "ratio" else float(value), column.unit)


def _changed_chunks(changes: Mapping[str, Any]) -> str:
    """Return in brackets the chunks of a schedule where they differ from the scenario's chunks."""
    chunks = changes.get("parallel.vpp")
    words = [] if chunks is None else [f"vpp {chunks}"]
    words += ["split"] if _LAYERS in changes else []
    return f" ({', '.join(words)})" if words else ""


@dataclass(frozen=True, slots=True)
class _Column:
    """A column, shown where a row has its key."""

    title: str
    key: str
    unit: str | None = None


_COLUMNS: Final = (
    _Column("step time", "step_time_s", "s"),
    _Column("bubble", "bubble_fraction", "ratio"),
    _Column("own span", "bubble_fraction_published_form", "ratio"),
    _Column("in flight", "in_flight_microbatches"),
    _Column("activations", "activation_bytes", "bytes"),
    _Column("p2p", "p2p_bytes", "bytes"),
    _Column("hops", "p2p_hops"),
    _Column("peak", "peak_bytes_per_gpu", "bytes"),
)
