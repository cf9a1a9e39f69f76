"""The hottest links of a run as a table, from the contract's JSON."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.console import Console

from sim.report.console.tables import cell, heading, indented, new_table
from sim.results.quantities import format_quantity

__all__ = ["print_links"]

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
