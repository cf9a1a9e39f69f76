"""Verdicts on superlatives: no rival may have less, or more, of a metric.

Model
-----
    refuted      one rival is better, whatever is assumed about what the document leaves open. The best is named
    depends      one is better, but by a choice that the document leaves open, or not than every reading of the strategy
    holds        of a part of a strategy: every change of it was simulated, and none is better
    not_judged   no declared rival is better: another strategy could be. The gap to the bounds is stated

A strategy that does not fit into memory is no strategy that could be the best, and no rival.
"""

from collections.abc import Sequence

from sim.results.claims import Claim, Evidence, Outcome, Verdict, judge_expectation, metric_words, sentence
from sim.results.quantities import format_quantity, format_ratio

__all__ = ["judge"]

TOO_LARGE = "does not fit into memory"
"""Problem of a rival that does not fit."""


def judge(claim: Claim, evidence: Evidence) -> Verdict:
    """Return the verdict on one claim; its relevance is set by `relate`.

    Examples
    --------
    >>> best = Claim(id="best", says="optimal", source="1", metric="step_time_s", unit="s", superlative="least")
    >>> judge(best, Evidence(value=1.0, rivals=[Outcome(name="TP8", value=0.8)])).sentence
    'With TP8 the whole step takes 800 ms instead of 1 s.'
    """
    if claim.superlative is None:
        return judge_expectation(claim, evidence)
    known = [rival for rival in evidence.rivals if rival.value is not None]
    if evidence.value is None or not known:
        why = "no rival could be run, or fits into memory" if evidence.rivals else "no rivals are declared"
        why = f"{claim.metric} has no value here" if evidence.value is None else why
        return Verdict(claim=claim, evidence=evidence, verdict="not_judged", reason=why, sentence=sentence(why))
    sign = 1 if claim.superlative == "least" else -1
    best = min(known, key=lambda rival: sign * float(rival.value or 0))
    if not evidence.fits:
        theirs = format_quantity(best.value, claim.unit)
        why = f"it does not fit into memory, and so is no strategy that could be the best; {best.name} does: {theirs}"
        return Verdict(
            claim=claim, evidence=evidence, verdict="refuted", reason=why, sentence=sentence(why), rival=best
        )
    is_beaten = sign * float(best.value or 0) < sign * float(evidence.value)
    if is_beaten:
        refuting = [rival for rival in known if _beats_every_reading(rival, evidence, sign)]
        verdict = "refuted" if refuting else "depends"
        best = min(refuting or [best], key=lambda rival: sign * float(rival.value or 0))
        parts = _beaten(claim, evidence, best, known, sign)
        if best.open_keys:
            parts[0] = f"that depends on {' and '.join(best.open_keys)}, which the document leaves open: {parts[0]}"
        elif not refuting:
            same = [o for o in evidence.alternatives if o.is_same_work and o.value is not None]
            reading = min(same, key=lambda outcome: sign * float(outcome.value or 0))
            parts[0] += f", but {format_quantity(reading.value, claim.unit)} under {{{reading.name}}}"
    else:
        verdict = "holds" if claim.part and not evidence.not_run else "not_judged"
        parts = _unbeaten(claim, evidence, best, known)
    telling = [parts[0].replace(best.name, _short_name(best.name))] + (
        [evidence.explanation] if evidence.explanation and claim.part else []
    )
    parts += _left_out(evidence)
    if evidence.explanation:
        parts.append(evidence.explanation)
    under = _under_alternatives(claim, evidence, sign)
    return Verdict(
        claim=claim,
        evidence=evidence,
        verdict=verdict,
        reason="; ".join([*parts, *under]),
        sentence=sentence(*telling, *under),
        rival=best,
    )


# ---- private -----------------------------------------------------------------------------------------------------


def _beaten(claim: Claim, evidence: Evidence, best: Outcome, known: Sequence[Outcome], sign: int) -> list[str]:
    """Return what the best rival has, and how many are better."""
    own = float(evidence.value or 0)
    ours, theirs = format_quantity(evidence.value, claim.unit), format_quantity(best.value, claim.unit)
    step, it = "", "the whole step takes" if claim.metric == "step_time_s" else f"the {metric_words(claim)} is"
    if claim.metric != "step_time_s" and evidence.step_time_s and best.step_time_s:
        own_step, step_s = (format_quantity(time_s, "s") for time_s in (evidence.step_time_s, best.step_time_s))
        step = f" (a step takes {step_s} instead of {own_step})"
    better = [rival for rival in known if sign * float(rival.value or 0) < sign * own]
    parts = [f"with {best.name} {it} {theirs} instead of {ours}{step}"]
    if len(known) > 1:
        parts.append(f"{len(better)} of {len(known)} {'changes' if claim.part else 'rivals'} are better")
    return parts


def _unbeaten(claim: Claim, evidence: Evidence, best: Outcome, known: Sequence[Outcome]) -> list[str]:
    """Return that nothing is better, what comes next, and the gap to the bounds."""
    ours, theirs = format_quantity(evidence.value, claim.unit), format_quantity(best.value, claim.unit)
    one, more = ("change of this part", "changes of this part alone") if claim.part else ("rival", "rivals")
    none = f"of {len(known)} {more} none is better" if len(known) > 1 else f"the only {one} that was run is no better"
    parts = [f"{none}: {ours} here, {theirs} with {best.name}"]
    for bound, allows in (
        (evidence.bound_compute, "arithmetic alone allows"),
        (evidence.bound_wires, "the wires alone allow"),
    ):
        if bound and evidence.value:
            ratio = format_ratio(float(evidence.value) / bound)
            parts.append(f"{allows} {format_quantity(bound, claim.unit)} ({ratio})")
    return parts


def _beats_every_reading(rival: Outcome, evidence: Evidence, sign: int) -> bool:
    """Tell whether a rival is better than the strategy as declared and in every reading that was simulated."""
    readings = [evidence.value, *(outcome.value for outcome in evidence.alternatives if outcome.is_same_work)]
    values = [sign * float(value) for value in readings if value is not None]
    return not rival.open_keys and sign * float(rival.value or 0) < min(values)


def _short_name(name: str) -> str:
    """Return a rival's name with the microbatches that were filled in, and without the convention.

    >>> _short_name("EP8_TP1_PP1_DP64 (convention megatron, microbatches 1)")
    'EP8_TP1_PP1_DP64 (microbatches 1)'
    """
    start, _, given = name.partition(" (")
    kept = [word for word in given.rstrip(")").split(", ") if word.startswith("microbatches ")]
    return f"{start} ({kept[0]})" if kept else start


def _left_out(evidence: Evidence) -> list[str]:
    """Return which rivals have no value, and which were not simulated."""
    parts = []
    problems = dict.fromkeys(rival.problem for rival in evidence.rivals if rival.value is None and rival.problem)
    for problem in problems:
        names = ", ".join(rival.name for rival in evidence.rivals if rival.problem == problem)
        short = problem if len(problem) <= len(TOO_LARGE) else "could not be run"
        parts.append(f"left out: {names} ({short})")
    if evidence.not_run:
        parts.append(f"not run without --thorough: {', '.join(evidence.not_run)}")
    return parts


def _under_alternatives(claim: Claim, evidence: Evidence, sign: int) -> list[str]:
    """Return under how many alternatives a rival is better, and by how much at least."""
    margins = []
    for outcome in evidence.alternatives:
        values = [float(rival.value) for rival in outcome.rivals if rival.value is not None]
        if outcome.value is not None and values:
            best = sign * min(sign * value for value in values)
            worse, better = (outcome.value, best) if sign > 0 else (best, outcome.value)
            margins.append(float(worse) / float(better) if better else 1.0)
    if not margins:
        return []
    beaten = [margin for margin in margins if margin > 1]
    least = f", by {format_ratio(min(beaten))} at least" if beaten else ""
    return [f"a rival is better under {len(beaten)} of {len(margins)} alternatives{least}"]
