"""The network of a run as tables, from the contract's JSON: how each collective ran, and the hottest links."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.console import Console

from sim.report.console.tables import cell, heading, indented, new_table, percent
from sim.results.quantities import format_quantity

__all__ = ["print_collective", "print_collectives", "print_links"]

Row = Mapping[str, Any]


def print_collective(data: Mapping[str, Any], console: Console) -> None:
    """Print a collective that was run alone: algorithm, time and bandwidths."""
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
    """Print a line for each kind of collective of a run; collectives of different sizes that ran alike share a line."""
    kinds: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        kinds.setdefault(tuple(row[key] for key in ("operation", "num_ranks", "algorithm", "protocol")), []).append(row)
    if not kinds:
        return
    is_auto = network.get("all_reduce", "auto") == "auto"
    heading(
        console,
        "collectives",
        "algorithms that `auto` chose; time without other traffic" if is_auto else "time without other traffic",
    )
    table = new_table(console, "", "ranks", "bytes", "algorithm", "protocol", "time alone", right=(1, 2, 5))
    for same_kind in kinds.values():
        table.add_row(*_how(same_kind), cell(_range([row["time_ns"] / 1e9 for row in same_kind], "s")))
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
    """Return the smallest and the largest of some values, once where they are equal.

    >>> _range([2e6, 1e6], "bytes"), _range([3.0], "s")
    ('1 MB to 2 MB', '3 s')
    """
    ends = dict.fromkeys(format_quantity(value, unit) for value in (min(values), max(values)))
    return " to ".join(ends)


_MOST: Final = 10
_DIGITS: Final = 9
"""Links whose use agrees to this number of digits count as equal."""


def print_links(links: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Print the links with the highest use, where any link carried bytes.

    The use of a link is its mean load or its share of the step as a bottleneck, whichever is larger: with a slow
    protocol a link carries little and is a bottleneck nevertheless.
    """
    hot = sorted((link for link in links if link["bytes"]), key=lambda link: -round(_heat(link), _DIGITS))
    if not hot:
        return
    heading(console, "hottest links", f"{min(_MOST, len(hot))} of the {len(hot)} links that carried bytes")
    table = new_table(console, "link", "kind", "bytes", "mean load", "busy", "bottleneck", right=range(2, 6))
    for link in hot[:_MOST]:
        table.add_row(
            cell(link["name"]),
            cell(link["kind"]),
            cell(format_quantity(link["bytes"], "bytes")),
            cell(percent(link["utilisation"])),
            cell(format_quantity(link["busy_s"], "s")),
            cell(percent(link.get("bottleneck_fraction"))),
        )
    indented(console, table)
    _print_kinds(links, console)


def _heat(link: Mapping[str, Any]) -> float:
    return max(float(link["utilisation"]), float(link.get("bottleneck_fraction") or 0.0))


def _print_kinds(links: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Print the bytes of all links of each kind, and the longest time that a link of the kind was a bottleneck."""
    heading(console, "links by kind", "mean load of all links of the kind; highest values of any link")
    columns = ("kind", "links", "bytes", "mean load", "highest load", "longest bottleneck")
    table = new_table(console, *columns, right=range(1, 5))
    for kind in dict.fromkeys(link["kind"] for link in links):
        group = [link for link in links if link["kind"] == kind]
        carried = sum(link["bytes"] for link in group)
        possible = sum(link["bytes"] / link["utilisation"] if link["utilisation"] else 0.0 for link in group)
        unused = sum(not link["utilisation"] for link in group)
        mean = carried / possible * (len(group) - unused) / len(group) if possible else 0.0
        known = [link for link in group if link.get("bottleneck_fraction") is not None]
        worst = max(known, key=lambda link: link["bottleneck_fraction"]) if known else None
        share = percent(worst["bottleneck_fraction"]) if worst else percent(None)
        named = f"{share}, {worst['name']}" if worst and worst["bottleneck_fraction"] else share
        loads = (percent(mean), percent(max(link["utilisation"] for link in group)))
        table.add_row(*map(cell, (kind, len(group), format_quantity(carried, "bytes"), *loads, named)))
    indented(console, table)
