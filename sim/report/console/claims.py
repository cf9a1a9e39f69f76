"""The claims of a document and their verdicts, as they are printed.

First a line for each claim, then the reasons, none cut short.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sim.report.console.tables import cell, heading, indented, new_table
from sim.results.catalog import CATALOG, unit_of
from sim.results.quantities import format_quantity

__all__ = ["asked", "print_claims"]

_VERDICTS: Final[Mapping[str, tuple[str, str, str]]] = {
    "holds": ("✓", "green", "hold"),
    "refuted": ("✗", "red", "refuted"),
    "depends": ("~", "yellow", "depend"),
    "not_judged": ("?", "cyan", "not judged"),
}
"""Verdict -> symbol, colour, and the word in a count."""
_RELEVANCE_STYLES: Final[Mapping[str, str]] = {"supports": "green", "contradicts": "red"}
_OPS: Final[Mapping[str, str]] = {
    ">=": "at least",
    "<=": "at most",
    "==": "",
    "!=": "not",
    ">": "more than",
    "<": "less than",
}

Claim = Mapping[str, Any]


def print_claims(claims: Sequence[Claim], console: Console, assumptions: Mapping[str, int] | None = None) -> None:
    """Print a line for each claim with its verdict, then the reasons.

    `assumptions` has the number of each assumption by its key; under a verdict stand those that it rests on.
    """
    if not claims:
        return
    counts = {verdict: sum(claim["verdict"] == verdict for claim in claims) for verdict in _VERDICTS}
    heading(console, "claims", ", ".join(f"{n} {_VERDICTS[verdict][2]}" for verdict, n in counts.items() if n))
    indented(console, _summary(claims, console))
    heading(console, "why")
    indented(console, _reasons(claims, assumptions or {}))


def asked(expect: Mapping[str, Any]) -> str:
    """Return what a claim expects, in words.

    >>> asked({"op": ">=", "value": 26e6, "unit": "tokens/s", "tolerance": 0.5e6}), asked({"superlative": "least"})
    ('at least 26 M tokens/s', 'the least of all rivals')
    """
    if "superlative" in expect:
        return f"the {expect['superlative']} of all rivals"
    value = expect.get("value")
    if isinstance(value, float) and expect.get("unit") is None and value.is_integer():
        value = int(value)
    return f"{_OPS.get(expect.get('op', ''), '')} {format_quantity(value, expect.get('unit'))}".strip()


# ---- private -----------------------------------------------------------------------------------------------------


def _value(value: Any, claim: Claim) -> str:  # noqa: ANN401  # any JSON value
    """Return a value of the claim's metric."""
    metric = str(claim.get("metric", ""))
    unit = unit_of(metric) if metric in CATALOG else (claim.get("expect") or {}).get("unit")
    return format_quantity(value, unit)


def _summary(claims: Sequence[Claim], console: Console) -> Table:
    """Return a line for each claim: verdict, relevance, what was simulated beside what was asked."""
    table = new_table(console, "verdict", "relevance", "claim", "simulated", "asked")
    for claim in claims:
        symbol, colour, _ = _VERDICTS.get(claim["verdict"], ("?", "", ""))
        relevance = claim.get("relevance") or ""
        table.add_row(
            cell(f"{symbol} {claim['verdict'].replace('_', ' ')}", f"bold {colour}".strip()),
            cell(relevance, _RELEVANCE_STYLES.get(relevance, "dim")),
            cell(claim["id"], "bold"),
            cell(_simulated(claim)),
            cell(asked(claim.get("expect") or {})),
        )
    return table


def _reasons(claims: Sequence[Claim], assumptions: Mapping[str, int]) -> Table:
    """Return what the document says, the whole reason, and why the claim matters or not."""
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold", ratio=1)
    for claim in claims:
        symbol, colour, _ = _VERDICTS.get(claim["verdict"], ("?", "", ""))
        source = f", {claim['source']}" if claim.get("source") else ""
        lines = [
            Text.assemble(
                cell(claim["id"], "bold"), cell(f"  “{claim['says']}”"), cell(source, "dim"), cell(_note(claim), "dim")
            ),
            cell(claim.get("reason") or ""),
        ]
        if claim.get("relevance_reason"):
            lines.append(cell(f"{claim.get('relevance') or 'relevance'}: {claim['relevance_reason']}", "dim"))
        numbers = [assumptions[key] for key in claim.get("assumptions") or () if key in assumptions]
        if numbers:
            which = "all assumptions" if len(numbers) == len(assumptions) > 1 else f"assumptions {_ranges(numbers)}"
            lines.append(cell(f"rests on {which}", "dim"))
        table.add_row(cell(symbol, f"bold {colour}".strip()), Text("\n").join(lines))
    return table


def _ranges(numbers: Sequence[int]) -> str:
    """Return ascending numbers with runs drawn together.

    >>> _ranges([1, 2, 3, 5, 7, 8])
    '1-3, 5, 7-8'
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def _note(claim: Claim) -> str:
    return f" ({claim['note']})" if claim.get("note") else ""


def _simulated(claim: Claim) -> str:
    value, interval = _value(claim.get("value"), claim), claim.get("interval")
    if not interval:
        return value
    low, high = (_value(end, claim) for end in interval)
    return f"{value} ({low} to {high} over seeds)"
