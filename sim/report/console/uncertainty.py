"""How sure a run is, as it is printed: intervals of its figures, and what each uncertain constant moves."""

from collections.abc import Mapping
from typing import Any, Final

from rich.console import Console

from sim.report.console.tables import bullets, cell, heading, indented, new_table
from sim.results.catalog import unit_of
from sim.results.quantities import format_quantity

__all__ = ["print_uncertainty"]

_LEAST_EFFECT: Final = 0.0005
"""Effects below are not printed: they would read 0.0 %."""


def print_uncertainty(uncertainty: Mapping[str, Any], metrics: Mapping[str, Any], console: Console) -> None:
    """Print the intervals of figures that have a width, and the effects of constants on the headline."""
    if not uncertainty:
        return
    drawn = "constants and seeds" if uncertainty["unexplained"] is None else "constants, seeds and what is unexplained"
    heading(console, "uncertainty", f"5 to 95 % of {uncertainty['samples']} draws of fitted {drawn}")
    table = new_table(console, "figure", "value", "5 %", "95 %", right=[1, 2, 3])
    for name, (low, high) in uncertainty["figures"].items():
        if low < high:
            shown = [format_quantity(value, unit_of(name)) for value in (metrics[name], low, high)]
            table.add_row(cell(name, "bold" if name == uncertainty["headline"] else ""), *map(cell, shown))
    indented(console, table)
    headline = uncertainty["headline"]
    heading(console, "what moves it", f"{headline} with each constant alone at the ends of its interval")
    table = new_table(console, "constant", "interval", "at the ends", "effect", "source", right=[3])
    for item in uncertainty["constants"]:
        if abs(item["effect"]) >= _LEAST_EFFECT:
            table.add_row(
                cell(_key_of(item["name"]), "bold"),
                cell(" to ".join(f"{end:.2f}" for end in item["interval"])),
                cell(" to ".join(format_quantity(value, unit_of(headline)) for value in item["values"])),
                cell(f"{100 * item['effect']:+.1f} %"),
                cell(f"{item['source']}; {item['num_groups']} groups", "dim"),
            )
    indented(console, table)
    texts = [f"{_key_of(uncertainty['moves_most'])} moves {headline} most."] if uncertainty["moves_most"] else []
    if uncertainty["failed"]:
        texts.append(f"{uncertainty['failed']} draws could not be run.")
    if (unexplained := uncertainty["unexplained"]) is None:
        texts.append("What the model leaves out has no interval, and makes most steps longer (docs/uncertainty.md).")
    else:
        low, high = (f"{end:.2f}" for end in unexplained["own_interval"])
        texts.append(
            f"Unexplained is what published steps under {unexplained['preset']} leave; a factor of {low} to {high} "
            "of it is of each strategy alone, and can change their order (docs/uncertainty.md)."
        )
    bullets(console, texts, mark="•", style="cyan")


def _key_of(constant: str) -> str:
    """Return what a constant is called: its key, or what no constant explains."""
    return constant if constant == "unexplained" else f"factors.{constant}"
