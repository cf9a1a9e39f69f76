"""The screen that `moesim run` prints by default, which begins with the conclusion, from the contract's JSON.

Order: the phrases of the run; the conclusion; what was found of each fact, grouped by verdict; where the time went;
memory; assumptions; what was not run; warnings; the files written. `--verbose` prints the whole report
(`sim.report.console.run`).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sim.report.console.claims import claim_value, claim_words, closest_words, flip_words
from sim.report.console.network import print_collective
from sim.report.console.serving import print_serving
from sim.report.console.tables import cell, indented, without_padding
from sim.results.accounts import CATEGORIES, CATEGORY_WORDS
from sim.results.catalog import unit_of
from sim.results.quantities import format_quantity

__all__ = ["SUMMARY_WIDTH", "print_conclusion", "print_summary"]

SUMMARY_WIDTH: Final = 100
"""Widest line of the summary."""
_SMALL: Final = 0.05
"""Parts of the step time below this share are not said."""
_MOST_WORDS: Final = 4
"""Words of an item of a list; what has more of them is a sentence."""
_GROUPS: Final[Sequence[tuple[str, str | None, str, str, str]]] = (
    ("refuted", None, "✗", "red", "refuted"),
    ("depends", None, "~", "yellow", "depends on what is left open"),
    ("not_judged", None, "?", "cyan", "not judged"),
    ("holds", "irrelevant", "✓", "green", "true, but what it is offered for is not"),
    ("holds", "supports", "✓", "green", "holds"),
)
"""Verdict, relevance (None: any), symbol, colour and heading of each group, in the order in which they are printed."""
_SENTENCES: Final = re.compile(r"(?<=[.]) (?=[A-Z{(\d])")
"""Between two sentences."""

Data = Mapping[str, Any]


def print_summary(data: Data, console: Console, *, written: Mapping[str, str], header: Callable[[], None]) -> None:
    """Print a run on a screen; `header` prints the phrases of the run."""
    console.width = min(console.width, SUMMARY_WIDTH)
    with without_padding(console):
        _print_all(data, console, written=written, header=header)


def print_conclusion(sentences: Sequence[str], console: Console) -> None:
    """Print the sentences of the conclusion, in bold."""
    if sentences:
        console.print()
        console.print(cell(" ".join(sentences), "bold"))


# ---- private -----------------------------------------------------------------------------------------------------


def _print_all(data: Data, console: Console, *, written: Mapping[str, str], header: Callable[[], None]) -> None:
    """Print the summary, line by line."""
    header()
    print_conclusion(data.get("conclusion") or (), console)
    if ((data.get("scenario") or {}).get("workload") or {}).get("kind") == "collective":
        print_collective(data, console)
    if data.get("requests"):
        print_serving(data, console)
    console.print()
    _print_facts(data, console)
    lines = {
        "searched": (data.get("search") or {}).get("certificate") or "",
        "uncertainty": _uncertainty(data),
        "what would flip it": _sensitivity(data),
        "where the time went": _times(data),
        "memory": _what_would_fit(data),
        "memory per GPU": "" if _judges_memory(data) else _memory(data.get("memory") or {}),
        "assumed": _assumed(data),
        "not run": _not_run(data.get("findings") or ()),
    }
    for title, text in lines.items():
        if text:
            console.print(Text.assemble(cell(title.upper(), "bold"), cell(f"  {text}")))
    for warning in data.get("warnings") or ():
        short = warning if len(warning) <= console.width - 2 else _without_list(warning)
        console.print(Text.assemble(cell("! ", "bold yellow"), cell(short)))
    runs = (data.get("engine") or {}).get("runs")
    if runs:
        more = "--verbose prints every reason, metric, link, assumption and warning"
        console.print(cell(f"{runs:,} simulation{'' if runs == 1 else 's'}; {more}", "dim"))
    if written:
        paths = [PurePath(path) for path in written.values()]
        names = ", ".join(path.name for path in paths)
        console.print(Text.assemble(cell("WRITTEN", "bold"), cell(f"  {paths[0].parent}/: {names}")))


def _without_list(warning: str) -> str:
    """Return a warning without the list of particulars that ends it; a reason or a remedy stays.

    >>> _without_list("kernels are extrapolated: norm 3 of 3, gemm 3 of 4."), _without_list("no numba: pip install x.")
    ('kernels are extrapolated', 'no numba: pip install x.')
    """
    said, _, rest = warning.rpartition(": ")
    items = rest.split(", ")
    is_list = said and len(items) > 1 and all(len(item.split()) <= _MOST_WORDS for item in items)
    return said if is_list else warning


def _print_facts(data: Data, console: Console) -> None:
    """Print the facts by groups: the document's words, what was found, and the most telling reason.

    A sentence that two facts have in common is said once.
    """
    claims = {claim["id"]: claim for claim in data.get("claims") or ()}
    facts = data.get("facts") or ()
    said: set[str] = set()
    for verdict, relevance, symbol, colour, title in _GROUPS:
        group = [f for f in facts if f["verdict"] == verdict and relevance in (None, f["relevance"])]
        if not group:
            continue
        console.print(Text.assemble(cell(title.upper(), "bold"), cell(f"  {len(group)} of {len(facts)} facts", "dim")))
        group.sort(key=lambda fact: claims[fact["claims"][0]].get("supports") is not None)
        grid = Table.grid(padding=(0, 1, 0, 0))
        grid.add_column(no_wrap=True)
        grid.add_column(overflow="fold", ratio=1)
        texts = []
        for fact in group:
            sentences = [text for text in _SENTENCES.split(fact.get("sentence") or "") if text]
            new = [text for text in sentences if text not in said]
            new = new if new or verdict == "holds" else sentences  # a verdict against a claim has its reason
            said.update(new)
            of_fact = [claims[name] for name in fact["claims"]]
            texts.append(_fact(_shortest(new, of_fact), of_fact))
            target = claims.get(of_fact[0].get("supports") or "")
            if relevance == "irrelevant" and target is not None:
                texts[-1].append_text(cell(f" Offered for {claim_words(target)}."))
        for text in texts:
            grid.add_row(cell(symbol, f"bold {colour}"), text)
        indented(console, grid)


def _shortest(sentences: list[str], claims: Sequence[Data]) -> list[str]:
    """Return all sentences on a claim that does not hold, two on a superlative that holds, and one on any other."""
    if claims[0]["verdict"] != "holds":
        return sentences
    return sentences[: 2 if "superlative" in (claims[0].get("expect") or {}) else 1]


def _fact(sentences: Sequence[str], claims: Sequence[Data]) -> Text:
    """Return the words of the document, where they stand, the values that were found, and sentences."""
    words = ", ".join(dict.fromkeys(claim_words(claim) for claim in claims))
    sources = ", ".join(dict.fromkeys(str(claim.get("source") or "") for claim in claims))
    notes = [str(claim["note"]) for claim in claims if claim.get("note")]
    if len(notes) == 1 and (not sentences or isinstance(claims[0].get("value"), bool)):
        sources += f"; {notes[0]}"
    values = ", ".join(dict.fromkeys(claim_value(claim) for claim in claims if _is_telling(claim)))
    said = " ".join([*([f"{values}."] if values else []), *sentences])
    return Text.assemble(cell(words, "bold"), cell(f" ({sources}){': ' if said else '.'}", "dim"), cell(said))


def _is_telling(claim: Data) -> bool:
    """Tell whether the value of a claim says something that its sentence does not."""
    is_superlative = "superlative" in (claim.get("expect") or {})
    is_flag = isinstance(claim.get("value"), bool)
    is_same = claim["verdict"] == "holds" and (claim.get("expect") or {}).get("op") == "==" and not _differs(claim)
    return not (is_flag or is_superlative or claim.get("assumes_claim") or is_same)


def _differs(claim: Data) -> bool:
    """Tell whether a value is met by its tolerance alone."""
    return bool(claim.get("value") != claim["expect"].get("value"))


def _sensitivity(data: Data) -> str:
    """Return for each claim the smallest change of an assumption that flips its verdict."""
    claims = {claim["id"]: claim for claim in data.get("claims") or ()}
    nearest: dict[str, Data] = {}
    for row in data.get("sensitivity") or ():
        nearest.setdefault(row["claim"], row)
    said = [flip_words(row, claims[name]) for name, row in nearest.items() if row["key"] is not None]
    for name, row in nearest.items():
        if row["key"] is None:
            said.append(f"{name}: nothing, up to 8 times{closest_words(row, claims[name])}")
    return "; ".join(said)


def _uncertainty(data: Data) -> str:
    """Return the interval of the headline of `--uncertainty`, and what moves it most."""
    uncertainty = data.get("uncertainty") or {}
    name = str(uncertainty.get("headline"))
    if name not in (uncertainty.get("figures") or {}):
        return ""
    low, high = (format_quantity(end, unit_of(name)) for end in uncertainty["figures"][name])
    most = uncertainty["moves_most"]
    what = f"; {most if most == 'unexplained' else f'factors.{most}'} moves it most" if most else ""
    return f"{name} {low} to {high}, 5 to 95 % of {uncertainty['samples']} draws{what}"


def _times(data: Data) -> str:
    """Return the parts of the step time, mean over stages, the largest first."""
    stages = data.get("stages_ns") or ()
    total = sum(sum(stage.values()) for stage in stages)
    if not total or (len(stages) == 1 and not data.get("memory")):
        return ""
    shares = {c: sum(stage.get(c, 0) for stage in stages) / total for c in CATEGORIES}
    said = [
        f"{CATEGORY_WORDS[category]} {100 * shares[category]:.0f} %"
        for category in sorted(shares, key=lambda c: -shares[c])
        if shares[category] >= _SMALL
    ]
    step = format_quantity((data.get("metrics") or {}).get("step_time_s"), "s")
    of = "mean of the stages" if len(stages) > 1 else "of a step"
    small = sum(share for share in shares.values() if share < _SMALL)
    rest = f", all else {100 * small:.0f} %" if small >= _SMALL / 10 else ""
    return f"a step of {step}, {of}: {', '.join(said)}{rest}"


def _what_would_fit(data: Data) -> str:
    """Return the finding on a run that does not fit into memory: what fills it, and what would fit."""
    fits = (data.get("memory") or {}).get("fits", True)
    return "" if fits else next(iter(data.get("findings") or ()), "")


def _judges_memory(data: Data) -> bool:
    """Tell whether a claim is about the peak of memory, and so says what it is made of."""
    return any(str(claim.get("metric")) in ("total", "peak_fraction") for claim in data.get("claims") or ())


def _memory(memory: Data) -> str:
    """Return the peak of memory and what it is made of."""
    components = dict(memory.get("peak_bytes_per_gpu") or {})
    total, capacity = components.pop("total", 0), memory.get("capacity_bytes")
    if not total or not capacity:
        return ""
    parts = ", ".join(
        f"{name.replace('_', ' ')} {format_quantity(size, 'bytes')}"
        for name, size in sorted(components.items(), key=lambda item: -item[1])
        if size
    )
    return f"{format_quantity(total, 'bytes')} of {format_quantity(capacity, 'bytes')} at the peak: {parts}"


def _assumed(data: Data) -> str:
    """Return the assumptions that alternatives change, key and value, and how many others there are."""
    assumptions = data.get("assumptions") or ()
    varied = {key for claim in data.get("claims") or () for one in claim["alternatives"] for key in one["set"]}
    named = [item for item in assumptions if item["key"] in varied]
    text = ", ".join(f"{_short_key(item['key'])} {_short(item['value'])}" for item in named)
    others = f"{len(assumptions) - len(named)} {'more' if named else 'facts'} (--verbose)"
    return f"{text}, and {others}" if named else others if assumptions else ""


def _short_key(key: str) -> str:
    """Return the last part of a key that says what it is.

    >>> _short_key("cluster.device.preset"), _short_key("model.top_k")
    ('device', 'top_k')
    """
    *around, last = key.split(".")
    return around[-1] if around and last in ("preset", "kind") else last


def _short(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _not_run(findings: Sequence[str]) -> str:
    """Return what was left out, without the reasons and names, which the whole report has."""
    marks = (" could not be run: ", "Not run without --thorough: ")
    failed = [text.partition(marks[0])[0] for text in findings if marks[0] in text and "deadlock" not in text]
    said = [f"{', '.join(failed)}: not possible here"] if failed else []
    if any(text.startswith(marks[1]) for text in findings):
        said.append("with --thorough: more changes of parts, rivals under alternatives, intervals, sensitivity")
    return "; ".join(said)
