"""The network of a run as tables, from the contract's JSON: how each collective ran, and the hottest links."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.console import Console

from sim.report.console.tables import cell, heading, indented, new_table
from sim.results.quantities import format_quantity

__all__ = ["print_collective", "print_collectives", "print_links"]

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


_MOST: Final = 10
_DIGITS: Final = 9
"""Links whose use agrees to so many digits are equal: of those the first are shown."""


def print_links(links: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Print the links that carried the most for their capacity; none where nothing was carried.

    A link that a slow protocol holds carries little and is the bottleneck all the same: the larger of the two counts.
    """
    hot = sorted((link for link in links if link["bytes"]), key=lambda link: -round(_heat(link), _DIGITS))
    if not hot:
        return
    heading(console, "hottest links", f"{min(_MOST, len(hot))} of {len(hot)} that carried something")
    table = new_table(console, "link", "kind", "bytes", "mean load", "busy", "bottleneck", right=range(2, 6))
    for link in hot[:_MOST]:
        table.add_row(
            cell(link["name"]),
            cell(link["kind"]),
            cell(format_quantity(link["bytes"], "bytes")),
            cell(_percent(link["utilisation"])),
            cell(format_quantity(link["busy_s"], "s")),
            cell(_percent(link.get("bottleneck_fraction"))),
        )
    indented(console, table)
    _print_kinds(links, console)


def _heat(link: Mapping[str, Any]) -> float:
    return max(float(link["utilisation"]), float(link.get("bottleneck_fraction") or 0.0))


def _print_kinds(links: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Print what all links of each kind carried, and the longest that any of them was a bottleneck."""
    heading(console, "links by kind", "mean load of all, the most of any")
    columns = ("kind", "links", "bytes", "mean load", "most loaded", "longest a bottleneck")
    table = new_table(console, *columns, right=range(1, 5))
    for kind in dict.fromkeys(link["kind"] for link in links):
        of = [link for link in links if link["kind"] == kind]
        carried = sum(link["bytes"] for link in of)
        could = sum(link["bytes"] / link["utilisation"] if link["utilisation"] else 0.0 for link in of)
        unused = sum(not link["utilisation"] for link in of)
        mean = carried / could * (len(of) - unused) / len(of) if could else 0.0
        known = [link for link in of if link.get("bottleneck_fraction") is not None]
        worst = max(known, key=lambda link: link["bottleneck_fraction"]) if known else None
        share = _percent(worst["bottleneck_fraction"]) if worst else _percent(None)
        named = f"{share}, {worst['name']}" if worst and worst["bottleneck_fraction"] else share
        loads = (_percent(mean), _percent(max(link["utilisation"] for link in of)))
        table.add_row(*map(cell, (kind, len(of), format_quantity(carried, "bytes"), *loads, named)))
    indented(console, table)


def _percent(share: float | None) -> str:
    """Return a share to a tenth of a percent; a dash where it is not known."""
    return "–" if share is None else f"{share * 100:.1f} %"
