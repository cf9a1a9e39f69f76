"""Verdicts on a document's claims: the simulated metrics compared with what the document says.

Verdict
-------
    holds        met here and under every declared alternative; of a part of a strategy, no change of it is better
    refuted      met nowhere; for a superlative, one rival is better
    depends      met under some of them, which the reason names
    not_judged   nothing to compare the claim with: no value, or no better rival found

A run that assumes what is claimed (balanced routing, for a claim of balance) counts neither way.

Relevance
---------
A true sentence can support nothing. A claim may name the claim that it `supports`, its conclusion::

    claim refuted                        contradicts     the simulation speaks against the document
    claim holds, conclusion holds        supports
    claim holds, conclusion does not     irrelevant      it is true, and the conclusion is not
    depends or not judged                irrelevant      it carries nothing as long as it is open

A claim without a conclusion stands for itself: it supports the document where it holds and contradicts it where it is
refuted.

Every reason is made of the values compared. `sentence` is its most telling part, for those who read one line.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from sim.results.quantities import format_quantity, format_ratio, format_span

__all__ = [
    "Claim",
    "Evidence",
    "Outcome",
    "Verdict",
    "judge_expectation",
    "metric_words",
    "relate",
    "sentence",
]

Value = float | int | bool

_WORDS: Final = {"imbalance_max_over_mean": "tokens of the busiest rank over the mean"}
"""Metric -> what sentences call it, where that is not its name."""


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
    """Why it could not be run, or does not count."""
    assumes_claim: bool = False
    """Whether the simulation assumes what is claimed, and so counts neither way."""
    step_time_s: float | None = None
    """Time of its whole step."""
    peak_bytes: float | None = None
    """Peak of its memory per GPU."""
    rivals: Sequence["Outcome"] = ()
    """The metric of each rival under this alternative, where they were run."""
    is_same_work: bool = False
    """Whether an alternative changes only how the work is laid out: it is another reading of the same strategy."""
    open_keys: Sequence[str] = ()
    """Of a change of a part that sets nothing but what the document leaves open: the keys that it sets."""


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
    paraphrase: bool = False
    """Whether `says` is no quote."""
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
    part: str | None = None
    """Part of the strategy that a superlative is about."""
    because_of: str | None = None
    """Id of the claim that this claim follows from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What was simulated for a claim."""

    value: Value | None
    """The metric in the scenario itself."""
    seeds: Sequence[float] = ()
    """The metric under further seeds, the scenario's own included."""
    draws: str = "seeds"
    """What differs between these values, in words."""
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
    assumes_claim: bool = False
    """Whether the scenario assumes what is claimed."""
    step_time_s: float | None = None
    """Time of the scenario's whole step."""
    not_run: Sequence[str] = ()
    """Names of changes of the part that were not simulated."""
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
    sentence: str = ""
    """The most telling part of the reason, in one or two plain sentences; empty where value and expectation say all."""
    rival: Outcome | None = None
    """The best rival (superlatives)."""
    relevance: str = "supports"
    """supports, irrelevant or contradicts."""
    relevance_reason: str = ""
    """Reason for the relevance, in one sentence."""


def judge_expectation(claim: Claim, evidence: Evidence) -> Verdict:
    """Return the verdict on a claim that expects a value; its relevance is set by `relate`.

    Examples
    --------
    >>> fast = Claim(id="fast", says="50 ms", source="1", metric="latency_s", unit="s", is_met=lambda x: x <= 0.05,
    ...              expected="<= 50 ms", expected_value=0.05)
    >>> print(judge_expectation(fast, Evidence(value=0.2, bound_compute=0.06)).reason)
    simulated 200 ms, expected <= 50 ms (4 times); arithmetic alone at the peak of all GPUs allows 60 ms
    """
    is_met = claim.is_met
    if is_met is None or evidence.value is None:
        why = f"{claim.metric} has no value here"
        return Verdict(claim=claim, evidence=evidence, verdict="not_judged", reason=why, sentence=sentence(why))
    known = [outcome for outcome in evidence.alternatives if outcome.value is not None]
    counted = [outcome for outcome in known if not outcome.assumes_claim]
    met = [outcome for outcome in counted if outcome.value is not None and is_met(outcome.value)]
    met_here = None if evidence.assumes_claim else bool(is_met(evidence.value))
    verdict = _verdict_of(met_here, len(met), len(counted))
    parts = [_compare(claim, evidence), *_bound_clauses(claim, evidence)]
    if evidence.explanation:
        parts.append(evidence.explanation)
    parts += _alternative_clauses(claim, evidence, met_here, met, counted)
    telling = sentence(*_telling_clauses(claim, evidence, verdict, met, counted))
    return Verdict(claim=claim, evidence=evidence, verdict=verdict, reason="; ".join(parts), sentence=telling)


def relate(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Return the verdicts with their relevance."""
    by_id = {verdict.claim.id: verdict for verdict in verdicts}
    related = []
    for verdict in verdicts:
        relevance, reason = _relevance(verdict, by_id)
        related.append(replace(verdict, relevance=relevance, relevance_reason=reason))
    return related


def metric_words(claim: Claim) -> str:
    """Return the name of a claim's metric as words.

    >>> metric_words(Claim(id="a", says="a", source="1", metric="bubble_fraction"))
    'bubble fraction'
    """
    return _WORDS.get(claim.metric, claim.metric.replace("_", " "))


def sentence(*clauses: str) -> str:
    """Return clauses as sentences.

    >>> sentence("it leaves EP out", "", "TP16 spans 2 nodes")
    'It leaves EP out. TP16 spans 2 nodes.'
    """
    return " ".join(f"{clause[:1].upper()}{clause[1:]}." for clause in clauses if clause)


# ---- expectations ------------------------------------------------------------------------------------------------


def _verdict_of(met_here: bool | None, num_met: int, num_known: int) -> str:
    """Return the verdict of what counts: the scenario itself (None: it does not) and the alternatives that ran."""
    num_met, num = num_met + (met_here is True), num_known + (met_here is not None)
    if num == 0:
        return "not_judged"
    return "holds" if num_met == num else "refuted" if num_met == 0 else "depends"


def _compare(claim: Claim, evidence: Evidence) -> str:
    value = evidence.value
    origin = "simulated" if claim.is_simulated else "computed"
    text = f"{origin} {format_quantity(value, claim.unit)}, expected {claim.expected}"
    numbers = [x for x in (value, claim.expected_value) if not isinstance(x, bool) and x]
    if claim.is_met is not None and value is not None and not claim.is_met(value) and len(numbers) == 2:
        text += f" ({format_ratio(float(value) / float(claim.expected_value or 1))})"
    if evidence.seeds:
        low, high = min(evidence.seeds), max(evidence.seeds)
        text += f", {format_span(low, high, claim.unit)} over {len(evidence.seeds)} {evidence.draws}"
        if claim.is_met is not None and len({claim.is_met(seed) for seed in evidence.seeds}) > 1:
            text += ", which reach over what is claimed"
    return text


def _bound_clauses(claim: Claim, evidence: Evidence) -> list[str]:
    clauses = []
    for bound, what, allows in (
        (evidence.bound_compute, "arithmetic alone at the peak of all GPUs", "allows"),
        (evidence.bound_wires, "the wires alone at their datasheet rate", "allow"),
    ):
        if bound is not None and claim.is_met is not None:
            clauses.append(f"{what} {allows} {format_quantity(bound, claim.unit)}")
    return clauses


def _alternative_clauses(
    claim: Claim, evidence: Evidence, met_here: bool | None, met: Sequence[Outcome], counted: Sequence[Outcome]
) -> list[str]:
    if not evidence.alternatives:
        return ["nothing else is declared that could show it"] if met_here is None else []
    num = len(counted)
    if not num:
        failed = sum(outcome.value is None for outcome in evidence.alternatives)
        if met_here is not None or failed == len(evidence.alternatives):
            return [f"none of {len(evidence.alternatives)} alternatives could be run"]
        return ["all alternatives assume it too"]
    if met_here is None:
        return [f"the {num} alternatives that do not assume it: {_named(claim, counted)}{_cost(evidence, counted)}"]
    if len(met) == num:
        if met_here:
            return [f"holds under all {num} alternatives"]
        return [f"refuted as declared, holds under all {num} alternatives"]
    if not met:
        if not met_here:
            return [f"refuted under all {num} alternatives"]
        return [f"holds only as declared, refuted under all {num} alternatives"]
    fewer = met if len(met) <= num - len(met) else [outcome for outcome in counted if outcome not in met]
    word = "holds" if fewer is met else "refuted"
    start = "holds as declared" if met_here else "refuted as declared"
    return [f"{start}, {word} under {len(fewer)} of {num} alternatives: {_named(claim, fewer)}"]


def _telling_clauses(
    claim: Claim, evidence: Evidence, verdict: str, met: Sequence[Outcome], counted: Sequence[Outcome]
) -> list[str]:
    """Return the clauses that say more than the value and the expectation do."""
    said = [evidence.explanation.partition("; ")[0]] if evidence.explanation else []
    if claim.is_met is not None and len({bool(claim.is_met(seed)) for seed in evidence.seeds}) > 1:
        said.insert(0, f"over {len(evidence.seeds)} {evidence.draws} it is met in some and not in others")
    if evidence.assumes_claim:
        if not counted:
            return [*said, "no alternative is declared that could show it"]
        return [f"{metric_words(claim)}: {_named(claim, counted)}{_cost(evidence, counted)}", *said]
    if verdict == "depends":
        missed = [outcome for outcome in counted if outcome not in met]
        is_fewer = bool(met) and (len(met) <= len(missed) or not missed)
        fewer = met if is_fewer else missed
        is_flag = isinstance(evidence.value, bool)
        named = f"under {_named(claim, fewer)}" if is_flag else _named(claim, fewer)
        return [*said, f"{'true' if is_fewer else 'not true'}: {named}"]
    numbers = [float(outcome.value) for outcome in counted if outcome.value is not None]
    is_number = not isinstance(evidence.value, bool)
    if verdict == "refuted" and claim.is_simulated and is_number and len(counted) > 1:
        is_bounded = evidence.bound_compute is not None or evidence.bound_wires is not None
        span = f"{format_span(min(numbers), max(numbers), claim.unit)} under {len(counted)} alternatives"
        return [span, *([] if is_bounded else said)]
    return said


def _named(claim: Claim, outcomes: Sequence[Outcome], most: int = 3) -> str:
    """Return outcomes with their names and values."""
    names = [
        f"{{{outcome.name}}}{f' ({short})' if (short := (outcome.problem or '').partition('. ')[0]) else ''}"
        if isinstance(outcome.value, bool)
        else f"{format_quantity(outcome.value, claim.unit)} under {{{outcome.name}}}"
        for outcome in outcomes[:most]
    ]
    more = f" and {len(outcomes) - most} more" if len(outcomes) > most else ""
    return f"{', '.join(names)}{more}"


def _cost(evidence: Evidence, outcomes: Sequence[Outcome]) -> str:
    """Return what routings cost in step time, next to the scenario's own."""
    own_s = evidence.step_time_s
    costs = [
        100 * (outcome.step_time_s / own_s - 1)
        for outcome in outcomes
        if own_s and outcome.step_time_s and all(key.startswith("routing.") for key in outcome.changes)
    ]
    if not costs:
        return ""
    return f", at a cost of {' and '.join(f'{cost:.2g} %' for cost in costs[:3])} of step time"


# ---- relevance ---------------------------------------------------------------------------------------------------


def _relevance(verdict: Verdict, by_id: Mapping[str, Verdict]) -> tuple[str, str]:
    target = by_id.get(verdict.claim.supports or "")
    if verdict.verdict == "refuted":
        against = f"'{target.claim.id}'" if target else "the document"
        return "contradicts", f"it speaks against {against}"
    if verdict.verdict in ("depends", "not_judged"):
        return "irrelevant", "it carries nothing while it is open"
    if target is None:
        return "supports", "it stands for itself"
    if target.verdict == "holds":
        return "supports", f"'{target.claim.id}' holds too"
    word = {"refuted": "is refuted", "depends": "depends", "not_judged": "is not judged"}[target.verdict]
    return "irrelevant", f"it is true, but '{target.claim.id}', which it is a reason for, {word}"
