"""The claims of a document and their verdicts, as they are printed.

A wide console has the reason beside the claim, a narrow one below it; neither cuts it short.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sim.report.tables import bullets, cell, heading, indented
from sim.results.catalog import CATALOG, unit_of
from sim.results.quantities import format_quantity

__all__ = ["asked", "group_alternatives", "print_claims"]

WIDE: Final = 118
"""From this width on reasons stand beside claims."""

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


def print_claims(claims: Sequence[Claim], console: Console) -> None:
    """Print the verdict of each claim with its reason, and what the alternatives say."""
    if not claims:
        return
    counts = {verdict: sum(claim["verdict"] == verdict for claim in claims) for verdict in _VERDICTS}
    heading(console, "claims", ", ".join(f"{n} {_VERDICTS[verdict][2]}" for verdict, n in counts.items() if n))
    console.print()
    indented(console, _table(claims, wide=console.width >= WIDE))
    groups = group_alternatives(claims)
    if groups:
        heading(console, "under the alternatives")
        bullets(console, [f"{what}: {', '.join(ids)}" for what, ids in groups], mark="·")


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


def group_alternatives(claims: Sequence[Claim]) -> list[tuple[str, list[str]]]:
    """Return what alternatives do to verdicts, each with the claims to which they do it, in the claims' order.

    >>> outcomes = [{"set": {"model.top_k": 1}, "value": 1, "verdict": "holds"}]
    >>> group_alternatives([{"id": "a", "verdict": "holds", "alternatives": outcomes}])
    [('holds under all 1', ['a'])]
    """
    groups: dict[str, list[str]] = {}
    for claim in claims:
        if claim.get("alternatives"):
            groups.setdefault(_under_alternatives(claim), []).append(str(claim["id"]))
    return list(groups.items())


# ---- private -----------------------------------------------------------------------------------------------------


def _under_alternatives(claim: Claim) -> str:
    """Return what alternatives do to one verdict."""
    outcomes = claim["alternatives"]
    judged = [outcome for outcome in outcomes if outcome["verdict"] in ("holds", "refuted")]
    left = len(outcomes) - len(judged)
    rest = f" ({left} could not be judged)" if left and judged else ""
    if not judged:
        return f"not judged under {'any of ' if left > 1 else ''}{left}"
    holding = [outcome for outcome in judged if outcome["verdict"] == "holds"]
    if len(holding) in (0, len(judged)):
        return f"{'holds' if holding else 'refuted'} under all {len(judged)}{rest}"
    few, word = (
        (holding, "holds only")
        if 2 * len(holding) <= len(judged)
        else (
            [outcome for outcome in judged if outcome["verdict"] == "refuted"],
            "refuted only",
        )
    )
    return f"{word} under {', '.join(_shown(outcome, claim) for outcome in few)}, of {len(judged)}{rest}"


def _shown(outcome: Mapping[str, Any], claim: Claim) -> str:
    changes = ", ".join(f"{key}: {value}" for key, value in outcome["set"].items())
    return f"{{{changes}}} ({_value(outcome.get('value'), claim)})"


def _value(value: Any, claim: Claim) -> str:  # noqa: ANN401  # any JSON value
    """Return a value of the claim's metric."""
    metric = str(claim.get("metric", ""))
    unit = unit_of(metric) if metric in CATALOG else (claim.get("expect") or {}).get("unit")
    return format_quantity(value, unit)


def _table(claims: Sequence[Claim], *, wide: bool) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0), expand=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold", ratio=4)
    if wide:
        table.add_column(overflow="fold", ratio=7)
    for i, claim in enumerate(claims):
        if i:
            table.add_row()
        what, why = _what(claim), _why(claim)
        table.add_row(_verdict(claim), *((what, why) if wide else (Text("\n").join([what, why]),)))
    return table


def _verdict(claim: Claim) -> Text:
    symbol, colour, _ = _VERDICTS.get(claim["verdict"], ("?", "", ""))
    relevance = claim.get("relevance") or ""
    return Text.assemble(
        cell(f"{symbol} {claim['verdict'].replace('_', ' ')}", f"bold {colour}".strip()),
        cell(f"\n  {relevance}" if relevance else "", _RELEVANCE_STYLES.get(relevance, "dim")),
    )


def _what(claim: Claim) -> Text:
    """Return what the document says and where, what was simulated and what was asked."""
    source = f", {claim['source']}" if claim.get("source") else ""
    lines = [
        Text.assemble(cell(claim["id"], "bold"), cell(f"  “{claim['says']}”"), cell(source, "dim")),
        Text.assemble(cell(_simulated(claim), "bold"), cell(f", asked {asked(claim.get('expect') or {})}")),
    ]
    bounds = [("arithmetic", claim.get("bound_compute")), ("wires", claim.get("bound_wires"))]
    known = [f"{name} {_value(bound, claim)}" for name, bound in bounds if bound is not None]
    if known:
        lines.append(cell(f"bounds: {', '.join(known)}", "dim"))
    if claim.get("rival"):
        rival = claim["rival"]
        lines.append(cell(f"best rival: {_value(rival.get('value'), claim)} with {rival['strategy']}", "dim"))
    return Text("\n").join(lines)


def _simulated(claim: Claim) -> str:
    value, interval = _value(claim.get("value"), claim), claim.get("interval")
    if not interval:
        return value
    low, high = (_value(end, claim) for end in interval)
    return f"{value} ({low} to {high} over seeds)"


def _why(claim: Claim) -> Text:
    """Return the whole reason, and why the claim matters or not."""
    lines = [cell(claim.get("reason") or "")]
    if claim.get("relevance_reason"):
        lines.append(cell(f"{claim.get('relevance') or 'relevance'}: {claim['relevance_reason']}", "dim"))
    return Text("\n").join(lines)
