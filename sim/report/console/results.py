"""The reports of `moesim results`, from their JSON."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from rich.console import Console

from sim.report.console.tables import cell, heading, indented, new_table, print_rows
from sim.results.catalog import CATALOG
from sim.results.quantities import format_quantity
from sim.studies.sweep.grid import label_of

__all__ = ["print_exported", "print_point", "print_pruned", "print_studies"]


def print_studies(data: Mapping[str, Any], console: Console) -> None:
    """Print the studies of a store."""
    rows = [
        [
            study["id"][:8],
            study["command"],
            study["scenario"],
            f"{study['num_simulated']:,} of {study['num_points']:,}",
            format_quantity(study["bytes"], "bytes"),
            "this program" if study["is_this_program"] else f"another program, {study['version']}",
            datetime.fromtimestamp(study["created"], UTC).strftime("%Y-%m-%d %H:%M"),
        ]
        for study in data["studies"]
    ]
    if not rows:
        heading(console, "studies", f"none in {data['store']}")
        return
    columns = ["study", "command", "scenario", "simulated", "size", "program", "begun (UTC)"]
    print_rows("studies", columns, rows, console, note=f"in {data['store']}")


def print_point(data: Mapping[str, Any], console: Console) -> None:
    """Print one point."""
    changes = ", ".join(f"{key}={label_of(value)}" for key, value in data["changes"].items())
    heading(console, "point", f"{data['key']}: {changes or 'the scenario as it is'}")
    table = new_table(console, "", "")
    if data["problem"] is not None:
        table.add_row(cell("could not be simulated"), cell(data["problem"]))
    for name, value in data["values"].items():
        unit = CATALOG[name].unit if name in CATALOG else None
        table.add_row(cell(name), cell(format_quantity(value, unit)))
    for name, value in data["parts_s"].items():
        if value:
            table.add_row(cell(f"time: {name}"), cell(format_quantity(value, "s")))
    indented(console, table)


def print_exported(data: Mapping[str, Any], console: Console) -> None:
    """Print what was written."""
    console.print(cell(f"{data['num_points']:,} points in {data['written']}"))


def print_pruned(data: Mapping[str, Any], console: Console) -> None:
    """Print what was removed."""
    console.print(cell(f"{len(data['studies']):,} studies removed, with {data['num_points']:,} points"))
