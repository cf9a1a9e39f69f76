"""What the page says of claims: the conclusion, and the facts that the claims state, each with what decided it."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sim.report.console.claims import expectation
from sim.report.html.sections import meaning_of
from sim.results.catalog import CATALOG, unit_of
from sim.results.quantities import format_quantity

__all__ = ["claim_facts", "conclusion", "count_verdicts"]

Data = Mapping[str, Any]
Row = dict[str, Any]

_VERDICTS: Final[Mapping[str, tuple[str, str, str]]] = {
    "refuted": ("✗", "refuted", "are refuted"),
    "depends": ("~", "depends", "depend on what is left open"),
    "holds": ("✓", "holds", "hold"),
    "not_judged": ("?", "not judged", "are not judged"),
}
"""Verdict -> symbol, words of one claim, words of several; in the order in which the page has them."""

_SECTIONS_OF_SOURCES: Final = (
    ("metrics.", "facts"),
    ("mesh.", "facts"),
    ("memory.", "memory"),
    ("bounds.", "facts"),
    ("facts", "claims"),
)
"""Begin of the source of a figure -> section of the page that has the figure."""


def conclusion(data: Data) -> list[list[Row]]:
    """Return the sentences of the conclusion in pieces: `text`, and `section` where a figure has its source there.

    A result without a conclusion says how many of its claims have which verdict.

    >>> figure = {"text": "64", "source": "metrics.num_gpus"}
    >>> conclusion({"conclusion": ["Not legal on 64 GPUs."], "conclusion_figures": [figure]})
    [[{'text': 'Not legal on '}, {'text': '64', 'section': 'facts'}, {'text': ' GPUs.'}]]
    """
    said, claims = data.get("conclusion"), data.get("claims") or ()
    if not said:
        return [[{"text": count_verdicts(claims)}]] if claims else []
    sentences = [[{"text": str(text)}] for text in ([said] if isinstance(said, str) else said)]
    for figure in data.get("conclusion_figures") or ():
        section = _section_of(str(figure["source"]))
        if section:
            _link(sentences, str(figure["text"]), section)
    return sentences


def count_verdicts(claims: Sequence[Data]) -> str:
    """Return how many claims, or facts that they state, have which verdict.

    >>> count_verdicts([{"verdict": "holds"}, {"verdict": "refuted"}, {"verdict": "holds"}])
    'Of 3, 1 is refuted, 2 hold.'
    """
    counts = {verdict: sum(claim["verdict"] == verdict for claim in claims) for verdict in _VERDICTS}
    parts = [f"{count} {_words(verdict, count)}" for verdict, count in counts.items() if count]
    return f"Of {len(claims)}, {', '.join(parts)}."


def claim_facts(data: Data) -> list[Row]:
    """Return the facts that the claims state, refuted facts first, each with its claims.

    Claims that follow from one another state one fact (`facts` of the JSON object); where the object does not say,
    each claim states a fact of its own.
    """
    by_id = {claim["id"]: claim for claim in data.get("claims") or ()}
    facts = data.get("facts") or [{**claim, "claims": [claim["id"]]} for claim in by_id.values()]
    order = list(_VERDICTS)
    rows = [_fact(fact, [by_id[name] for name in fact["claims"] if name in by_id]) for fact in facts]
    return sorted(rows, key=lambda row: order.index(row["verdict"]) if row["verdict"] in order else len(order))


# ---- private -----------------------------------------------------------------------------------------------------


def _section_of(source: str) -> str | None:
    claim = re.match(r"claims\.([\w-]+)\.", source)
    if claim:
        return f"claim-{claim[1]}"
    return next((section for begin, section in _SECTIONS_OF_SOURCES if source.startswith(begin)), None)


def _link(sentences: list[list[Row]], figure: str, section: str) -> None:
    """Make the first piece of text that has a figure three pieces, of which the second leads to a section."""
    pattern = re.compile(rf"(?<![\w.,]){re.escape(figure)}(?![\w]|[.,]\d)")
    for pieces in sentences:
        for at, piece in enumerate(pieces):
            found = None if "section" in piece else pattern.search(piece["text"])
            if found:
                before, after = piece["text"][: found.start()], piece["text"][found.end() :]
                linked = [{"text": before}, {"text": figure, "section": section}, {"text": after}]
                pieces[at : at + 1] = [part for part in linked if part["text"]]
                return


def _words(verdict: str, count: int) -> str:
    """Return what a number of claims do."""
    words = _VERDICTS[verdict][2]
    return words if count != 1 else words.replace("are ", "is ").replace("hold", "holds").replace("depend ", "depends ")


def _fact(fact: Data, claims: Sequence[Data]) -> Row:
    symbol, words = _verdict(fact["verdict"])
    return {
        "verdict": fact["verdict"],
        "symbol": symbol,
        "words": words,
        "relevance": fact.get("relevance") or "",
        "sentence": fact.get("sentence") or "",
        "claims": [_claim(claim) for claim in claims],
    }


def _verdict(verdict: str) -> tuple[str, str]:
    symbol, words, _ = _VERDICTS.get(verdict, ("?", verdict, ""))
    return symbol, words


def _claim(claim: Data) -> Row:
    unit = unit_of(claim["metric"]) if claim["metric"] in CATALOG else (claim.get("expect") or {}).get("unit")
    interval = claim.get("interval")
    ends = [format_quantity(end, unit) for end in interval] if interval and interval[0] != interval[1] else []
    return {
        **{key: claim.get(key) for key in ("id", "says", "source", "note", "metric", "supports", "relevance_reason")},
        "meaning": meaning_of(claim["metric"]),
        "value": format_quantity(claim.get("value"), unit),
        "interval": " to ".join(ends),
        "share_met": "" if claim.get("share_met") is None else format_quantity(claim["share_met"], "ratio"),
        "expected": expectation(claim.get("expect") or {}),
        "reason": claim.get("reason") or "",
        "alternatives": [_alternative(outcome, unit) for outcome in claim.get("alternatives") or ()],
    }


def _alternative(outcome: Data, unit: str | None) -> Row:
    symbol, words = _verdict(outcome["verdict"])
    changes = ", ".join(f"{key}: {value}" for key, value in outcome["set"].items())
    value = outcome.get("problem") or format_quantity(outcome.get("value"), unit)
    return {"set": changes, "value": value, "symbol": symbol, "words": words, "verdict": outcome["verdict"]}
