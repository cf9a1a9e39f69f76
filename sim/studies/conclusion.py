"""The conclusion of a run: a few sentences that come first, each figure of them traced to where it comes from.

With claims: what became of the facts that they state; where the strategy is not legal or does not fit into memory;
how far a claimed speed is from the simulated speed and from the arithmetic alone; the rival that is faster. Without
claims: how long a step takes, and where its time goes in the stages' account.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sim.results.accounts import CATEGORY_WORDS
from sim.results.catalog import unit_of
from sim.results.claims import Verdict
from sim.results.facts import Fact, facts_of
from sim.results.quantities import format_quantity, format_ratio
from sim.run.scenario_run import Simulated, Value
from sim.scenario.scenario import Scenario

__all__ = ["Conclusion", "Figure", "conclude"]

_SPEEDS: Final = ("steady_tokens_per_s", "tokens_per_s", "tokens_per_s_per_gpu", "latency_s", "step_time_s")
"""Metrics of speed, the most telling first."""
_LEGAL: Final[Mapping[str, str]] = {"legal_megatron": "Megatron's", "legal_vllm": "vLLM's"}
_WORDS: Final[Mapping[str, tuple[str, str, str]]] = {
    "holds": ("holds", "hold", "Holds"),
    "refuted": ("is refuted", "are refuted", "Refuted"),
    "depends": ("depends on what is left open", "depend on what is left open", "Open"),
    "not_judged": ("is not judged", "are not judged", "Not judged"),
}
"""Verdict -> in a count of one, in a larger count, and as the first word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A figure of the conclusion."""

    text: str
    """As it stands in a sentence."""
    source: str
    """Dotted name of the JSON's value, or the names of two values that are divided."""
    value: float
    """The value, SI."""
    unit: str | None
    """Unit in which it is printed."""


@dataclass(slots=True)
class Conclusion:
    """Sentences, and the figures in them."""

    sentences: list[str] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)

    def say(self, value: Value | None, source: str, unit: str | None = None, *, bare: bool = False) -> str:
        """Return a figure as text, and remember where it comes from; `bare`: without its unit."""
        text = format_quantity(value, unit)
        text = text.partition(" ")[0] if bare else text
        self.figures.append(Figure(text=text, source=source, value=float(value or 0), unit=unit))
        return text

    def times(self, ratio: float, source: str) -> str:
        """Return a ratio as text, and remember where it comes from."""
        text = format_ratio(ratio)
        self.figures.append(Figure(text=text.partition(" ")[0], source=source, value=ratio, unit="times"))
        return text

    def to_dict(self) -> dict[str, Any]:
        """Return what the JSON has of it."""
        figures = [{"text": f.text, "source": f.source, "value": f.value, "unit": f.unit} for f in self.figures]
        return {"conclusion": list(self.sentences), "conclusion_figures": figures}


def conclude(
    scenario: Scenario,
    simulated: Simulated,
    verdicts: Sequence[Verdict],
    *,
    intervals: Mapping[str, tuple[float, float]] | None = None,
    num_draws: int = 0,
) -> Conclusion:
    """Return the conclusion of a scenario that was simulated and judged.

    `intervals` are those of claims by id over draws of constants and seeds, where there were `num_draws`.
    """
    conclusion = Conclusion()
    facts = facts_of(verdicts)
    says = [_verdict_of_all(conclusion, facts)] if facts else []
    says += [_legality(conclusion, scenario, simulated, verdicts), _memory(conclusion, simulated)]
    if facts:
        says += [_speed(conclusion, verdicts, intervals or {}, num_draws), _rival(conclusion, verdicts)]
    else:
        says += [_step(conclusion, simulated), _where_time_goes(conclusion, simulated)]
    conclusion.sentences = [text for text in says if text]
    return conclusion


# ---- sentences ---------------------------------------------------------------------------------------------------


def _verdict_of_all(conclusion: Conclusion, facts: Sequence[Fact]) -> str:
    """Return the verdict on the claims that are no reason for another, and the count of facts."""
    final = {fact.leader.verdict for fact in facts if fact.leader.claim.supports is None}
    verdict = next((v for v in ("refuted", "depends", "not_judged") if v in final), "holds")
    counts = {v: sum(fact.leader.verdict == v for fact in facts) for v in ("refuted", "depends", "holds", "not_judged")}
    counts = {name: number for name, number in counts.items() if number}
    first = _WORDS[verdict][2]
    if len(counts) == 1:
        words = _WORDS[next(iter(counts))]
        which = f"all {conclusion.say(len(facts), 'facts')} facts" if len(facts) > 1 else "the fact"
        verb = words[1] if len(facts) > 1 else words[0]
        return f"{first}: {which} that the claims state {verb}."
    said = [
        f"{conclusion.say(number, f'facts.{name}')} {_WORDS[name][0 if number == 1 else 1]}"
        for name, number in counts.items()
    ]
    idle = sum(fact.leader.verdict == "holds" and fact.leader.relevance == "irrelevant" for fact in facts)
    if idle and counts.get("holds"):
        vain = (
            f"{conclusion.say(idle, 'facts.holds.irrelevant')} of them in vain, for what they are offered for does not"
        )
        said = [f"{text} ({vain})" if name == "holds" else text for name, text in zip(counts, said, strict=True)]
    total = conclusion.say(len(facts), "facts")
    return f"{first}: of the {total} facts that the claims state, {', '.join(said[:-1])} and {said[-1]}."


def _legality(conclusion: Conclusion, scenario: Scenario, simulated: Simulated, verdicts: Sequence[Verdict]) -> str:
    """Return under whose rules the strategy is not legal, where claims of that are refuted."""
    refuted = [v.claim.metric for v in verdicts if v.verdict == "refuted" and v.claim.metric in _LEGAL]
    if not refuted:
        return ""
    rules = " or ".join(_LEGAL[metric] for metric in dict.fromkeys(refuted))
    num_gpus = conclusion.say(simulated.values["num_gpus"], "metrics.num_gpus")
    needs = ""
    if "legal_megatron" in refuted:
        required = conclusion.say(simulated.values["gpus_required_megatron"], "mesh.gpus_required_megatron")
        needs = f" (Megatron's need {required})"
    return f"{_strategy(scenario, simulated)} is not legal on {num_gpus} GPUs under {rules} rules{needs}."


def _memory(conclusion: Conclusion, simulated: Simulated) -> str:
    """Return that the run does not fit into memory, where it does not."""
    memory = simulated.memory
    if not memory or memory["fits"]:
        return ""
    needed = conclusion.say(memory["peak_bytes_per_gpu"]["total"], "memory.peak_bytes_per_gpu.total", "bytes")
    capacity = conclusion.say(memory["capacity_bytes"], "memory.capacity_bytes", "bytes")
    return f"It does not fit into memory: a GPU needs {needed} and has {capacity}."


def _speed(
    conclusion: Conclusion,
    verdicts: Sequence[Verdict],
    intervals: Mapping[str, tuple[float, float]],
    num_draws: int,
) -> str:
    """Return how far the simulated speed is from the claimed speed, and from the arithmetic alone."""
    of_speed = [v for v in verdicts if v.claim.metric in _SPEEDS and v.claim.expect and v.evidence.value is not None]
    of_speed.sort(key=lambda verdict: (verdict.verdict == "holds", _SPEEDS.index(verdict.claim.metric)))
    if not of_speed:
        return ""
    verdict = of_speed[0]
    claim, evidence = verdict.claim, verdict.evidence
    place = f"claims.{claim.id}"
    unit = unit_of(claim.metric)
    does = "takes" if unit == "s" else "does"
    found, claimed = format_quantity(evidence.value, unit), format_quantity(claim.expected_value, unit)
    is_shared = found.partition(" ")[2] == claimed.partition(" ")[2]
    value = conclusion.say(evidence.value, f"{place}.value", unit, bare=is_shared)
    expected = conclusion.say(claim.expected_value, f"{place}.expect.value", unit)
    text = f"It {does} {value} of the {expected} that are claimed"
    bounds = [
        (name, what, bound)
        for name, what, bound in (
            ("bound_compute", "the arithmetic alone, at the full peak of all GPUs,", evidence.bound_compute),
            ("bound_wires", "the wires alone", evidence.bound_wires),
        )
        if bound is not None and verdict.verdict == "refuted"
    ]
    if bounds:
        said = [f"{what} {conclusion.say(bound, f'{place}.{name}', unit)}" for name, what, bound in bounds]
        said[0] = said[0].replace("GPUs,", "GPUs, would allow")
        text += f"; {', '.join(said)}"
    ends, number, draws = intervals.get(claim.id), num_draws, "draws of constants and seeds"
    if ends is None and evidence.seeds:
        ends, number, draws = (min(evidence.seeds), max(evidence.seeds)), len(evidence.seeds), evidence.draws
    if ends is None:
        return f"{text}."
    units = {format_quantity(end, unit).partition(" ")[2] for end in ends}
    low = conclusion.say(ends[0], f"{place}.interval.0", unit, bare=len(units) == 1)
    high = conclusion.say(ends[1], f"{place}.interval.1", unit)
    count = conclusion.say(number, f"{place}.interval_runs")
    return f"{text}. It is {low} to {high} over {count} {draws}."


def _rival(conclusion: Conclusion, verdicts: Sequence[Verdict]) -> str:
    """Return the rival that does the same work in less time."""
    for verdict in verdicts:
        claim, rival, own = verdict.claim, verdict.rival, verdict.evidence.value
        beaten = verdict.verdict == "refuted" and claim.superlative and claim.part is None
        if beaten and claim.metric == "step_time_s" and rival is not None and rival.value and own:
            place = f"claims.{claim.id}"
            ratio = conclusion.times(float(own) / float(rival.value), f"{place}.value / {place}.rival.value")
            return f"{rival.name.partition(' (')[0]} does the same work {ratio} faster."
    return ""


def _step(conclusion: Conclusion, simulated: Simulated) -> str:
    """Return how long a step takes, and what that is in tokens per second or of the bandwidth."""
    metrics = simulated.metrics
    if "collective_time_s" in metrics:
        time_s = conclusion.say(metrics["collective_time_s"], "metrics.collective_time_s", "s")
        rate = conclusion.say(metrics["busbw_bytes_per_s"], "metrics.busbw_bytes_per_s", "bytes/s")
        return f"It takes {time_s}, a bus bandwidth of {rate}."
    if "ttft_mean_s" in metrics:
        return _served(conclusion, simulated)
    time_s = conclusion.say(metrics["step_time_s"], "metrics.step_time_s", "s")
    if "tokens_per_s" not in metrics:
        bubble = conclusion.say(metrics["bubble_fraction"], "metrics.bubble_fraction", "ratio")
        return f"A step takes {time_s}, of which stages are idle for {bubble}."
    rate = conclusion.say(metrics["tokens_per_s"], "metrics.tokens_per_s", "tokens/s")
    num_gpus = conclusion.say(metrics["num_gpus"], "metrics.num_gpus")
    mfu = conclusion.say(metrics["mfu"], "metrics.mfu", "ratio")
    return f"A step takes {time_s}: {rate} on {num_gpus} GPU{'' if num_gpus == '1' else 's'}, an MFU of {mfu}."


def _served(conclusion: Conclusion, simulated: Simulated) -> str:
    """Return what users of a server wait for, and whether it keeps up."""
    metrics = simulated.metrics
    first = conclusion.say(metrics["ttft_p50_s"], "metrics.ttft_p50_s", "s")
    slow = conclusion.say(metrics["ttft_p99_s"], "metrics.ttft_p99_s", "s")
    rate = conclusion.say(metrics["output_tokens_per_s"], "metrics.output_tokens_per_s", "tokens/s")
    text = f"Half of the users see the first token within {first}, 99 of 100 within {slow}"
    if "tpot_p50_s" in metrics:
        further = conclusion.say(metrics["tpot_p50_s"], "metrics.tpot_p50_s", "s")
        text += f", and a further token every {further} (median)"
    keeps_up = "" if metrics["is_stable"] else " The server does not keep up: its queue grows while requests arrive."
    return f"{text}; the server makes {rate}.{keeps_up}"


def _where_time_goes(conclusion: Conclusion, simulated: Simulated) -> str:
    """Return the three largest parts of the stages' account."""
    stages = simulated.stages_ns
    total = sum(sum(stage.values()) for stage in stages)
    if not total or not simulated.memory:
        return ""
    sums = {category: sum(stage[category] for stage in stages) for category in stages[0]}
    top = [category for category in sorted(sums, key=lambda c: -sums[c])[:3] if sums[category]]
    said = [
        f"{CATEGORY_WORDS[category]} {conclusion.say(sums[category] / total, f'stages_ns.{category}', 'ratio')}"
        for category in top
    ]
    return f"Most of a stage's time goes to {', '.join(said)}."


def _strategy(scenario: Scenario, simulated: Simulated) -> str:
    parallel, values = scenario.spec.parallel, simulated.values
    axes = "_".join(f"{axis.upper()}{values[axis]}" for axis in ("ep", "tp", "pp", "dp"))
    return parallel.strategy or axes
