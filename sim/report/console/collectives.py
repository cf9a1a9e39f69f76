"""How collectives were run, from the contract's JSON: algorithm, protocol and time of each."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from sim.report.console.tables import cell, heading, indented, new_table
from sim.results.quantities import format_quantity

__all__ = ["print_collective", "print_collectives"]

Row = Mapping[str, Any]


def print_collective(data: Mapping[str, Any], console: Console) -> None:
    """Print a collective that was run on its own: how, how long, and at what bandwidths."""
    metrics, path_ns = data.get("metrics") or {}, data.get("path_ns") or {}
    heading(console, "collective")
    table = new_table(
        console,
        "",
        "ranks",
        "bytes",
        "algorithm",
        "protocol",
        "time",
        "latency",
        "algbw",
        "busbw",
        right=(1, 2, 5, 6, 7, 8),
    )
    for row in data.get("collectives") or ():
        table.add_row(
            *_how([row]),
            cell(format_quantity(metrics["collective_time_s"], "s"), "bold"),
            cell(format_quantity(path_ns.get("latency", 0) / 1e9, "s")),
            cell(format_quantity(metrics["algbw_bytes_per_s"], "bytes/s"), "bold"),
            cell(format_quantity(metrics["busbw_bytes_per_s"], "bytes/s"), "bold"),
        )
    indented(console, table)


def print_collectives(rows: Sequence[Row], network: Mapping[str, Any], console: Console) -> None:
    """Print a line for each kind of collective of a run: those of other sizes that ran alike are one."""
    kinds: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        kinds.setdefault(tuple(row[key] for key in ("operation", "num_ranks", "algorithm", "protocol")), []).append(row)
    if not kinds:
        return
    is_auto = network.get("all_reduce", "auto") == "auto"
    heading(console, "collectives", "what `auto` picked, the time when alone" if is_auto else "the time when alone")
    table = new_table(console, "", "ranks", "bytes", "algorithm", "protocol", "alone", right=(1, 2, 5))
    for alike in kinds.values():
        table.add_row(*_how(alike), cell(_range([row["time_ns"] / 1e9 for row in alike], "s")))
    indented(console, table)


# ---- private -----------------------------------------------------------------------------------------------------


def _how(rows: Sequence[Row]) -> tuple[Any, ...]:
    first = rows[0]
    return (
        cell(first["operation"].replace("_", "-"), "bold"),
        cell(first["num_ranks"]),
        cell(_range([row["num_bytes"] for row in rows], "bytes")),
        cell(first["algorithm"].replace("_", "-")),
        cell(first["protocol"]),
    )


def _range(values: Sequence[float], unit: str) -> str:
    """Return the least and the most of some values, once where they are the same.

    >>> _range([2e6, 1e6], "bytes"), _range([3.0], "s")
    ('1 MB to 2 MB', '3 s')
    """
    ends = dict.fromkeys(format_quantity(value, unit) for value in (min(values), max(values)))
    return " to ".join(ends)
