"""What the simulations of a scenario make of its claims: the evidence for each claim, and the verdict on it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from sim.errors import InvalidValueError, did_you_mean
from sim.results.catalog import CATALOG, resolve_metric, unit_of
from sim.results.claims import Claim, Evidence, Outcome, Verdict, relate
from sim.results.superlatives import TOO_LARGE, judge
from sim.run.parallel_runs import Observation
from sim.run.scenario_run import Simulated, Value
from sim.scenario.claims_section import ClaimSpec, is_rival_key
from sim.scenario.scenario import Scenario
from sim.studies.variants import Rival, Variants
from workloads.routing import ROUTINGS

__all__ = ["format_changes", "judge_claims", "known_metric"]


_EXPLAINED_BY: Final = {"tp": "tp_nodes", "all_reduce": "tp_nodes", "pipeline": "bubble_fraction"}
"""Part of a strategy -> the metric whose explanation says most about it, where that is not the claim's own."""


def known_metric(scenario: Scenario, section: str, position: int, metric: str) -> str:
    """Return the catalogue's name of the metric that an entry of `claims` or `published` gives.

    Raises
    ------
    InvalidValueError
        With the place of the entry: there is no such metric.
    """
    name = resolve_metric(metric)
    if name is None:
        near = did_you_mean(metric.rpartition(".")[2], CATALOG, otherwise="")
        refused = InvalidValueError(
            (section, position, "metric"),
            rule="name a known metric",
            value=metric,
            hint=f"{near} `moesim list metrics` shows all.".lstrip(),
        )
        raise scenario.located(refused)
    return name


def judge_claims(
    scenario: Scenario,
    metrics: Sequence[str],
    simulated: Simulated,
    variants: Variants,
    observations: Sequence[Observation],
) -> list[Verdict]:
    """Return the verdict on each claim of a scenario.

    Parameters
    ----------
    scenario
        The scenario.
    metrics
        The catalogue's name of the metric of each claim.
    simulated
        The run of the scenario itself.
    variants, observations
        The further scenarios, and what the run of each of them gave, in equal order.
    """
    num_alternatives, num_rivals = len(variants.alternatives), len(variants.rivals)
    of_alternatives = observations[:num_alternatives]
    of_rivals = observations[num_alternatives : num_alternatives + num_rivals]
    rest = iter(observations[num_alternatives + num_rivals :])
    of_seeds = [next(rest) for _ in variants.seeds]
    of_crossed = [[next(rest) for _ in under] for under in variants.crossed]
    verdicts = []
    for spec, metric in zip(scenario.spec.claims, metrics, strict=True):
        bounds = simulated.bounds.of_metric(metric, simulated.batches) if simulated.bounds else (None, None)
        value = simulated.values.get(metric)
        alternatives = [
            _alternative_outcome(changes, metric, variant, observation)
            for changes, variant, observation in zip(
                scenario.spec.alternatives, variants.alternatives, of_alternatives, strict=True
            )
        ]
        if spec.superlative and spec.part is None and of_crossed:
            alternatives = [
                replace(outcome, rivals=_rivals_under(scenario, variants.crossed[i], metric, of_crossed[i], simulated))
                for i, outcome in enumerate(alternatives)
            ]
        about = variants.rivals_about(spec.part) if spec.superlative else []
        evidence = Evidence(
            value=value,
            seeds=_over_seeds(metric, value, of_seeds, with_own=not variants.are_jittered),
            draws=variants.draws,
            alternatives=alternatives,
            rivals=[_rival_outcome(scenario, variants.rivals[i], metric, of_rivals[i], simulated) for i in about],
            bound_compute=bounds[0],
            bound_wires=bounds[1],
            explanation=simulated.explanations.get(_EXPLAINED_BY.get(spec.part or "", metric)),
            fits=simulated.memory.get("fits", True),
            assumes_claim=_assumes(scenario, metric),
            step_time_s=_number(simulated.values.get("step_time_s")),
            not_run=variants.not_run.get(spec.part or "", ()),
        )
        verdicts.append(judge(_claim(spec, metric), evidence))
    return relate(verdicts)


def format_changes(changes: Mapping[str, object]) -> str:
    """Return changes of a scenario as a reader would write them.

    >>> format_changes({"model.top_k": 1, "model.gated": True})
    'model.top_k: 1, model.gated: true'
    """
    return ", ".join(
        f"{key}: {str(value).lower() if isinstance(value, bool) else value}" for key, value in changes.items()
    )


# ---- private -----------------------------------------------------------------------------------------------------


def _alternative_outcome(
    changes: Mapping[str, object], metric: str, variant: Scenario, observation: Observation
) -> Outcome:
    """Return the value under an alternative."""
    return Outcome(
        name=format_changes(changes),
        changes=changes,
        value=observation.values.get(metric),
        problem=observation.problem,
        assumes_claim=_assumes(variant, metric),
        step_time_s=_number(observation.values.get("step_time_s")),
        is_same_work=all(map(is_rival_key, changes)),
    )


def _rival_outcome(
    scenario: Scenario, rival: Rival, metric: str, observation: Observation, simulated: Simulated
) -> Outcome:
    """Return a rival's value; one that does not fit into memory has none, and no change that costs memory."""
    values, problem = observation.values, observation.problem
    if values.get("fits") is False:
        problem = TOO_LARGE
    elif rival.part == "pipeline" and values.get("total", 0) > simulated.values.get("total", 0):
        problem = "needs more memory"
    assumed = scenario.spec.assumed
    # what sets the bubble is no choice that the document leaves open: it says that the split of layers does
    is_open = rival.part != "pipeline" and all(key in assumed or not scenario.is_given(key) for key in rival.changes)
    open_keys = tuple(key for key in rival.changes if key in assumed) if is_open else ()
    return Outcome(
        name=rival.name,
        changes=rival.changes,
        value=None if problem else values.get(metric),
        problem=problem,
        open_keys=open_keys,
        step_time_s=_number(values.get("step_time_s")),
    )


def _assumes(scenario: Scenario, metric: str) -> bool:
    """Tell whether a scenario assumes what a metric says: balanced routing is balanced by decree."""
    spec = scenario.spec
    has_experts = spec.workload.kind in ("forward", "training")
    return metric == "imbalance_max_over_mean" and has_experts and ROUTINGS[spec.routing.kind].is_balanced


def _number(value: Value | None) -> float | None:
    return None if value is None else float(value)


def _rivals_under(
    scenario: Scenario, rivals: Sequence[Rival], metric: str, observations: Sequence[Observation], simulated: Simulated
) -> list[Outcome]:
    """Return the values of rivals under an alternative."""
    pairs = zip(rivals, observations, strict=True)
    return [_rival_outcome(scenario, rival, metric, observation, simulated) for rival, observation in pairs]


def _over_seeds(metric: str, value: Value | None, of_seeds: Sequence[Observation], *, with_own: bool) -> list[float]:
    """Return the metric under every seed; nothing where it does not depend on the seed."""
    if not of_seeds or value is None or CATALOG[metric].group == "mesh" or isinstance(value, bool):
        return []
    own = [float(value)] if with_own else []
    found = [*own, *(float(seed.values[metric]) for seed in of_seeds if metric in seed.values)]
    return found if with_own or len(set(found)) > 1 else []


def _claim(spec: ClaimSpec, metric: str) -> Claim:
    """Return a claim of a scenario as the judge takes it."""
    expect = spec.expect
    return Claim(
        id=spec.id,
        says=spec.says,
        source=spec.source,
        paraphrase=spec.paraphrase,
        note=spec.note,
        metric=metric,
        unit=unit_of(metric),
        is_simulated=CATALOG[metric].group != "mesh",
        is_met=None if expect is None else expect.is_met,
        expected="" if expect is None else expect.text,
        expected_value=None if expect is None else expect.value,
        expect=None
        if expect is None
        else {"op": expect.op, "value": expect.value, "unit": expect.unit, "tolerance": expect.tolerance},
        superlative=spec.superlative,
        supports=spec.supports,
        part=spec.part,
        because_of=spec.because_of,
    )
