"""What the simulations of a scenario make of its claims: the evidence for each claim, and the verdict on it."""

from collections.abc import Mapping, Sequence

from sim.errors import InvalidValueError, did_you_mean
from sim.results.catalog import CATALOG, resolve_metric, unit_of
from sim.results.claims import Claim, Evidence, Outcome, Verdict, judge, relate
from sim.run.parallel_runs import Observation
from sim.run.scenario_run import Simulated, Value
from sim.scenario.claims_section import ClaimSpec
from sim.scenario.scenario import Scenario
from sim.studies.variants import Variants

__all__ = ["format_changes", "judge_claims", "known_metric"]


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
    of_seeds = observations[num_alternatives + num_rivals :]
    verdicts = []
    for spec, metric in zip(scenario.spec.claims, metrics, strict=True):
        bounds = simulated.bounds.of_metric(metric, simulated.batches) if simulated.bounds else (None, None)
        value = simulated.values.get(metric)
        evidence = Evidence(
            value=value,
            seeds=_over_seeds(metric, value, of_seeds),
            alternatives=[
                Outcome(
                    name=format_changes(changes),
                    changes=changes,
                    value=observation.values.get(metric),
                    problem=observation.problem,
                )
                for changes, observation in zip(scenario.spec.alternatives, of_alternatives, strict=True)
            ],
            rivals=[
                _rival_outcome(name, metric, observation)
                for name, observation in zip(variants.rival_names, of_rivals, strict=True)
            ],
            bound_compute=bounds[0],
            bound_wires=bounds[1],
            explanation=simulated.explanations.get(metric),
            fits=simulated.memory.get("fits", True),
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


def _rival_outcome(name: str, metric: str, observation: Observation) -> Outcome:
    """Return a rival's value; a rival that does not fit into memory has none."""
    if observation.values.get("fits") is False:
        return Outcome(name=name, value=None, problem="does not fit into memory")
    return Outcome(name=name, value=observation.values.get(metric), problem=observation.problem)


def _over_seeds(metric: str, value: Value | None, of_seeds: Sequence[Observation]) -> list[float]:
    """Return the metric under every seed; nothing where it does not depend on the seed."""
    if not of_seeds or value is None or CATALOG[metric].group == "mesh":
        return []
    return [float(value), *(float(seed.values[metric]) for seed in of_seeds if metric in seed.values)]


def _claim(spec: ClaimSpec, metric: str) -> Claim:
    """Return a claim of a scenario as the judge takes it."""
    expect = spec.expect
    return Claim(
        id=spec.id,
        says=spec.says,
        source=spec.source,
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
    )
