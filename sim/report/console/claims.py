"""The claims of a document and their verdicts, as they are printed.

First a line for each claim, then the whole reason of each verdict.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sim.report.console.tables import cell, heading, indented, new_table
from sim.results.catalog import CATALOG, unit_of
from sim.results.quantities import format_quantity, format_ranges, format_span

__all__ = [
    "claim_value",
    "claim_words",
    "closest_words",
    "expectation",
    "flip_words",
    "print_claims",
    "print_sensitivity",
]

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

    `assumptions` maps the key of each assumption to its number; below a verdict stand the assumptions that it rests on.
    """
    if not claims:
        return
    facts = [claim for claim in claims if not claim.get("because_of")]
    counts = {verdict: sum(claim["verdict"] == verdict for claim in facts) for verdict in _VERDICTS}
    counted = ", ".join(f"{n} {_VERDICTS[verdict][2]}" for verdict, n in counts.items() if n)
    heading(console, "claims", f"{len(facts)} facts: {counted}" if len(facts) < len(claims) else counted)
    indented(console, _summary(claims, console))
    heading(console, "why")
    indented(console, _reasons(claims, assumptions or {}))


def claim_value(claim: Claim) -> str:
    """Return the value that was found for a claim, with its interval."""
    value, interval = _value(claim.get("value"), claim), claim.get("interval")
    if not interval or ("share_met" in claim and interval[0] == interval[1]):
        return value
    over = "seeds and constants" if "share_met" in claim else claim.get("interval_over") or "seeds"
    return f"{value} ({format_span(interval[0], interval[1], _unit(claim))} over {over})"


def claim_words(claim: Claim) -> str:
    """Return the document's words: in quotation marks where they are a quote."""
    return str(claim["says"]) if claim.get("paraphrase") else f"“{claim['says']}”"


def flip_words(row: Mapping[str, Any], claim: Claim) -> str:
    """Return at which change of an assumption a claim flips."""
    return f"{claim['id']}: {row['key']} {row['own']:,.6g} -> {row['after']:,.6g} ({_value(row['metric'], claim)})"


def closest_words(row: Mapping[str, Any], claim: Claim) -> str:
    """Return which change comes closest, where none flips a claim."""
    if not row.get("closest"):
        return ""
    change = f"{row['closest']} {row['own']:,.6g} -> {row['after']:,.6g}"
    return f" (closest {_value(row['metric'], claim)}, {change})"


def print_sensitivity(rows: Sequence[Mapping[str, Any]], claims: Sequence[Claim], console: Console) -> None:
    """Print for each quantitative claim which assumptions flip it, and where."""
    if not rows:
        return
    heading(console, "sensitivity", "the smallest change of an assumption alone, up to 8 times, that flips a verdict")
    table = new_table(console, "claim", "assumption", "here", "still", "flips at", "value there", right=[2, 3, 4])
    by_id = {claim["id"]: claim for claim in claims}
    for row in rows:
        if row["key"] is None:
            name = f"none; closest: {row['closest']}" if row.get("closest") else "none"
            numbers = [cell("" if row[key] is None else f"{row[key]:,.6g}") for key in ("own", "before", "after")]
            value = cell("" if row["metric"] is None else _value(row["metric"], by_id[row["claim"]]))
            table.add_row(cell(row["claim"], "bold"), cell(name), *numbers, value)
            continue
        numbers = [cell(f"{row[name]:,.6g}") for name in ("own", "before", "after")]
        value = cell(_value(row["metric"], by_id[row["claim"]]))
        table.add_row(cell(row["claim"], "bold"), cell(row["key"]), *numbers, value)
    indented(console, table)


def expectation(expect: Mapping[str, Any]) -> str:
    """Return the expectation of a claim in words.

    >>> expectation({"op": ">=", "value": 26e6, "unit": "tokens/s", "tolerance": 0.5e6})
    'at least 26 M tokens/s'
    >>> expectation({"superlative": "least"})
    'the least of all rivals'
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
    return format_quantity(value, _unit(claim))


def _unit(claim: Claim) -> str | None:
    """Return the unit of the claim's metric."""
    metric = str(claim.get("metric", ""))
    return unit_of(metric) if metric in CATALOG else (claim.get("expect") or {}).get("unit")


def _summary(claims: Sequence[Claim], console: Console) -> Table:
    """Return a line for each claim: verdict, relevance, the simulated value and the expected value."""
    table = new_table(console, "verdict", "relevance", "claim", "simulated", "expected")
    for claim in claims:
        symbol, colour, _ = _VERDICTS.get(claim["verdict"], ("?", "", ""))
        relevance = claim.get("relevance") or ""
        table.add_row(
            cell(f"{symbol} {claim['verdict'].replace('_', ' ')}", f"bold {colour}".strip()),
            cell(relevance, _RELEVANCE_STYLES.get(relevance, "dim")),
            cell(claim["id"], "bold"),
            cell(claim_value(claim)),
            cell(expectation(claim.get("expect") or {})),
        )
    return table


def _reasons(claims: Sequence[Claim], assumptions: Mapping[str, int]) -> Table:
    """Return, for each claim, the words of the document, the reason of the verdict, and the reason of the relevance."""
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold", ratio=1)
    said: set[str] = set()  # what relevance rests on is said once
    for claim in claims:
        symbol, colour, _ = _VERDICTS.get(claim["verdict"], ("?", "", ""))
        source = f", {claim['source']}" if claim.get("source") else ""
        lines = [
            Text.assemble(
                cell(claim["id"], "bold"),
                cell(f"  {claim_words(claim)}"),
                cell(source, "dim"),
                cell(_note(claim), "dim"),
            ),
            cell(claim.get("reason") or ""),
        ]
        if claim.get("relevance_reason"):
            relevance = f"{claim.get('relevance') or 'relevance'}: {claim['relevance_reason']}"
            if relevance not in said:
                lines.append(cell(relevance, "dim"))
            said.add(relevance)
        if claim.get("because_of"):
            lines.append(cell(f"the same fact as {claim['because_of']}", "dim"))
        numbers = [assumptions[key] for key in claim.get("assumptions") or () if key in assumptions]
        if numbers:
            which = (
                "all assumptions" if len(numbers) == len(assumptions) > 1 else f"assumptions {format_ranges(numbers)}"
            )
            lines.append(cell(f"rests on {which}", "dim"))
        table.add_row(cell(symbol, f"bold {colour}".strip()), Text("\n").join(lines))
    return table


def _note(claim: Claim) -> str:
    return f" ({claim['note']})" if claim.get("note") else ""
