"""Verdicts on a document's claims: the simulated metrics compared with what the document says.

Verdict
-------
    holds        met here and under every declared alternative
    refuted      met nowhere; for a superlative, one rival is better
    depends      met under some of them, which the reason names
    not_judged   nothing to compare the claim with: no value, or no better rival found

Relevance
---------
A true sentence can support nothing. A claim may name the claim that it `supports`, its conclusion::

    claim refuted                        contradicts     the simulation speaks against the document
    claim holds, conclusion holds        supports
    claim holds, conclusion does not     irrelevant      it is true and the conclusion fails all the same
    depends or not judged                irrelevant      it carries nothing as long as it is open

A claim without a conclusion stands for itself: it supports the document where it holds and contradicts it where it is
refuted.

Every reason is made of the values compared.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from sim.results.quantities import format_quantity, format_ratio

__all__ = ["Claim", "Evidence", "Outcome", "Verdict", "judge", "relate"]

Value = float | int | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The metric of a claim in one simulation more: an alternative or a rival."""

    name: str
    """The keys that were set, or the rival's strategy."""
    changes: Mapping[str, object] = field(default_factory=dict)
    """Dotted keys that were set, with their values."""
    value: Value | None
    """The metric; None where it could not be run."""
    problem: str | None = None
    """Why it could not be run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a document says of a metric."""

    id: str
    """Name of the claim, unique in its scenario."""
    says: str
    """The document's words."""
    source: str
    """Place of these words in the document."""
    metric: str
    """Metric that decides it."""
    note: str | None = None
    """How the sentence is read, where it can be read in several ways."""
    unit: str | None = None
    """SI unit of the metric, for reasons."""
    is_met: Callable[[Value], bool] | None = None
    """Whether a value agrees with the claim; None for a superlative."""
    is_simulated: bool = True
    """Whether the metric comes from a run; false where it follows from the mesh alone."""
    expected: str = ""
    """What is expected, as the reader wrote it."""
    expected_value: Value | None = None
    """The expected value, SI."""
    expect: Mapping[str, object] | None = None
    """Fields of the expectation for the JSON: op, value, unit, tolerance."""
    superlative: str | None = None
    """least or most, against rivals."""
    supports: str | None = None
    """Id of the claim that this claim is a reason for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What was simulated for a claim."""

    value: Value | None
    """The metric in the scenario itself."""
    seeds: Sequence[float] = ()
    """The metric under further seeds, the scenario's own included."""
    alternatives: Sequence[Outcome] = ()
    """The metric under each declared alternative."""
    rivals: Sequence[Outcome] = ()
    """The metric of each rival."""
    bound_compute: float | None = None
    """The best value that arithmetic allows."""
    bound_wires: float | None = None
    """The best value that the wires allow."""
    fits: bool = True
    """Whether the scenario itself fits into memory."""
    explanation: str | None = None
    """What the figures say about this metric, in a line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of a claim."""

    claim: Claim
    evidence: Evidence
    """Simulated values that the claim was compared with."""
    verdict: str
    """holds, refuted, depends or not_judged."""
    reason: str
    """Reason for the verdict, made of the values compared."""
    rival: Outcome | None = None
    """The best rival (superlatives)."""
    relevance: str = "supports"
    """supports, irrelevant or contradicts."""
    relevance_reason: str = ""
    """Reason for the relevance, in one sentence."""


def judge(claim: Claim, evidence: Evidence) -> Verdict:
    """Return the verdict on one claim; its relevance is set by `relate`.

    Examples
    --------
    >>> fast = Claim(id="fast", says="50 ms", source="1", metric="latency_s", unit="s", is_met=lambda x: x <= 0.05,
    ...              expected="<= 50 ms", expected_value=0.05)
    >>> print(judge(fast, Evidence(value=0.2, bound_compute=0.06)).reason)
    simulated 200 ms, expected <= 50 ms (4 times); arithmetic alone at the peak of all GPUs allows 60 ms
    """
    if claim.superlative is not None:
        return _judge_superlative(claim, evidence)
    return _judge_expectation(claim, evidence)


def relate(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Return the verdicts with their relevance."""
    by_id = {verdict.claim.id: verdict for verdict in verdicts}
    return [_with_relevance(verdict, by_id) for verdict in verdicts]


# ---- expectations ------------------------------------------------------------------------------------------------


def _judge_expectation(claim: Claim, evidence: Evidence) -> Verdict:
    is_met = claim.is_met
    if is_met is None or evidence.value is None:
        return Verdict(claim=claim, evidence=evidence, verdict="not_judged", reason=f"{claim.metric} has no value here")
    known = [outcome for outcome in evidence.alternatives if outcome.value is not None]
    met_here = is_met(evidence.value)
    met = [outcome for outcome in known if outcome.value is not None and is_met(outcome.value)]
    if met_here and len(met) == len(known):
        verdict = "holds"
    elif not met_here and not met:
        verdict = "refuted"
    else:
        verdict = "depends"
    parts = [_compare(claim, evidence)]
    parts += _bound_sentences(claim, evidence)
    if evidence.explanation:
        parts.append(evidence.explanation)
    parts += _alternative_sentences(claim, evidence, met_here, met, known)
    return Verdict(claim=claim, evidence=evidence, verdict=verdict, reason="; ".join(parts))


def _compare(claim: Claim, evidence: Evidence) -> str:
    value = evidence.value
    origin = "simulated" if claim.is_simulated else "computed"
    text = f"{origin} {format_quantity(value, claim.unit)}, expected {claim.expected}"
    numbers = [x for x in (value, claim.expected_value) if not isinstance(x, bool) and x]
    if claim.is_met is not None and value is not None and not claim.is_met(value) and len(numbers) == 2:
        text += f" ({format_ratio(float(value) / float(claim.expected_value or 1))})"
    if evidence.seeds:
        low, high = min(evidence.seeds), max(evidence.seeds)
        span = f"{format_quantity(low, claim.unit)} to {format_quantity(high, claim.unit)}"
        text += f", {span} over {len(evidence.seeds)} seeds"
    return text


def _bound_sentences(claim: Claim, evidence: Evidence) -> list[str]:
    sentences = []
    for bound, what, allows in (
        (evidence.bound_compute, "arithmetic alone at the peak of all GPUs", "allows"),
        (evidence.bound_wires, "the wires alone at their datasheet rate", "allow"),
    ):
        if bound is not None and claim.is_met is not None:
            sentences.append(f"{what} {allows} {format_quantity(bound, claim.unit)}")
    return sentences


def _alternative_sentences(
    claim: Claim, evidence: Evidence, met_here: bool, met: Sequence[Outcome], known: Sequence[Outcome]
) -> list[str]:
    if not evidence.alternatives:
        return []
    failed = len(evidence.alternatives) - len(known)
    tail = f" ({failed} could not be run)" if failed else ""
    if not known:
        return [f"none of {failed} alternatives could be run"]
    num = len(known)
    if len(met) == num:
        if met_here:
            return [f"holds under all {num} alternatives{tail}"]
        return [f"refuted as declared, holds under all {num} alternatives{tail}"]
    if not met:
        if not met_here:
            return [f"refuted under all {num} alternatives{tail}"]
        return [f"holds only as declared, refuted under all {num} alternatives{tail}"]
    fewer = met if len(met) <= num - len(met) else [outcome for outcome in known if outcome not in met]
    names = ", ".join(f"{{{outcome.name}}} {format_quantity(outcome.value, claim.unit)}" for outcome in fewer[:4]) + (
        f" and {len(fewer) - 4} more" if len(fewer) > 4 else ""
    )
    word = "holds" if fewer is met else "refuted"
    start = "holds as declared" if met_here else "refuted as declared"
    return [f"{start}, {word} under {len(fewer)} of {num} alternatives{tail}: {names}"]


# ---- superlatives ------------------------------------------------------------------------------------------------


def _judge_superlative(claim: Claim, evidence: Evidence) -> Verdict:
    known = [rival for rival in evidence.rivals if rival.value is not None]
    if evidence.value is None or not known:
        why = "no rival could be run, or fits into memory" if evidence.rivals else "no rivals are declared"
        why = f"{claim.metric} has no value here" if evidence.value is None else why
        return Verdict(claim=claim, evidence=evidence, verdict="not_judged", reason=why)
    sign = 1 if claim.superlative == "least" else -1
    best = min(known, key=lambda rival: sign * float(rival.value or 0))
    if not evidence.fits:
        theirs = format_quantity(best.value, claim.unit)
        why = f"it does not fit into memory, and so is no strategy that could be the best; {best.name} does: {theirs}"
        return Verdict(claim=claim, evidence=evidence, verdict="refuted", reason=why, rival=best)
    own_value, rival_value = float(evidence.value), float(best.value or 0)
    ours, theirs = format_quantity(evidence.value, claim.unit), format_quantity(best.value, claim.unit)
    words = f"{ours} here, {theirs} with {best.name}"
    if sign * rival_value < sign * own_value:
        better = sum(sign * float(rival.value or 0) < sign * own_value for rival in known)
        ratio = f" ({format_ratio(own_value / rival_value)})" if rival_value else ""
        parts = [f"{words}{ratio}", f"{better} of {len(known)} rivals have {'less' if sign > 0 else 'more'}"]
        verdict = "refuted"
    else:
        parts = [f"no rival of {len(known)} is better: {words}", *_gap_sentences(evidence, claim)]
        verdict = "not_judged"
    too_big = [rival.name for rival in evidence.rivals if rival.problem == "does not fit into memory"]
    if too_big:
        parts.append(f"left out, for they do not fit into memory: {', '.join(too_big)}")
    if evidence.explanation:
        parts.append(evidence.explanation)
    if evidence.alternatives:
        parts.append("rivals were run as declared, not under the alternatives")
    return Verdict(claim=claim, evidence=evidence, verdict=verdict, reason="; ".join(parts), rival=best)


def _gap_sentences(evidence: Evidence, claim: Claim) -> list[str]:
    sentences = []
    for bound, what in (
        (evidence.bound_compute, "arithmetic alone allows"),
        (evidence.bound_wires, "the wires alone allow"),
    ):
        if bound and evidence.value:
            ratio = format_ratio(float(evidence.value) / bound)
            sentences.append(f"{what} {format_quantity(bound, claim.unit)} ({ratio})")
    return sentences


# ---- relevance ---------------------------------------------------------------------------------------------------


def _with_relevance(verdict: Verdict, by_id: Mapping[str, Verdict]) -> Verdict:
    relevance, reason = _relevance(verdict, by_id)
    return Verdict(
        claim=verdict.claim,
        evidence=verdict.evidence,
        verdict=verdict.verdict,
        reason=verdict.reason,
        rival=verdict.rival,
        relevance=relevance,
        relevance_reason=reason,
    )


def _relevance(verdict: Verdict, by_id: Mapping[str, Verdict]) -> tuple[str, str]:
    target = by_id.get(verdict.claim.supports or "")
    if verdict.verdict == "refuted":
        against = f"'{target.claim.id}'" if target else "the document"
        return "contradicts", f"what was found speaks against {against}"
    if verdict.verdict in ("depends", "not_judged"):
        open_ = "as long as the facts it depends on are open" if verdict.verdict == "depends" else "without a verdict"
        return "irrelevant", f"it carries nothing {open_}"
    if target is None:
        return "supports", "it stands for itself"
    if target.verdict == "holds":
        return "supports", f"'{target.claim.id}' holds too"
    word = {"refuted": "is refuted", "depends": "still depends", "not_judged": "is not judged"}[target.verdict]
    why = target.evidence.explanation or target.reason.split("; ")[0]
    return "irrelevant", f"true, and '{target.claim.id}' {word} all the same: {why}"
