"""The table that `moesim schedules` prints, from its JSON."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from sim.report.tables import bullets, cell, heading, indented, new_table
from sim.results.quantities import format_quantity

__all__ = ["print_schedules"]


def print_schedules(data: Mapping[str, Any], console: Console, *, name: str) -> None:
    """Print the schedules that ran, fastest first, the cheapest that fits marked; then those that cannot run."""
    rows = data["rows"]
    has_memory = any("peak_bytes_per_gpu" in row for row in rows)
    mark = "the cheapest that fits" if has_memory else "the fastest: without a model there is no memory to fit"
    heading(console, "schedules", f"of {name}, on the same work; * is {mark}")
    columns = ["", "schedule", "with", "step time", "bubble", "in flight"]
    columns += ["activations", "p2p", "peak memory", "fits"] if has_memory else ["hops"]
    table = new_table(console, *columns, right=range(3, len(columns) - has_memory))
    for row in rows:
        style = "bold green" if row["is_cheapest_that_fits"] else "red" if row["fits"] is False else ""
        table.add_row(*(cell(text, style) for text in _cells(row, has_memory=has_memory)))
    indented(console, table)
    if data["refused"]:
        heading(console, "cannot run this work")
        bullets(console, [f"{one['schedule']}: {one['reason']}" for one in data["refused"]], mark="•")
    if data.get("written"):
        console.print()
        console.print(cell(f"Wrote {data['written']}."))


def _cells(row: Mapping[str, Any], *, has_memory: bool) -> list[str]:
    """Return the texts of a row."""
    given = ", ".join(f"{key.rpartition('.')[2]} {value}" for key, value in row["set"].items())
    texts = [
        "*" if row["is_cheapest_that_fits"] else "",
        row["schedule"],
        given,
        format_quantity(row["step_time_s"], "s"),
        format_quantity(round(row["bubble_fraction"], 4), "ratio"),
        f"{row['in_flight_microbatches']:.4g}",
    ]
    if not has_memory:
        return [*texts, f"{row['p2p_hops']:,}"]
    sizes = ("activation_bytes", "p2p_bytes", "peak_bytes_per_gpu")
    return [*texts, *(format_quantity(float(row[key]), "bytes") for key in sizes), "yes" if row["fits"] else "no"]
