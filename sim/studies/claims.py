"""The scenario, its alternatives, rivals and seeds, and what they make of each claim.

Each alternative, rival and further seed is a simulation of its own; claims share them.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sim.build.build import Built, build, check_facts
from sim.build.collective import build_collective
from sim.errors import InvalidValueError, did_you_mean
from sim.results.catalog import CATALOG, resolve_metric, unit_of
from sim.results.claims import Claim, Evidence, Outcome, Verdict, judge, relate
from sim.run.limits import NO_LIMITS, Limits
from sim.run.minimum_resources import minimum_of_work
from sim.run.parallel_runs import Observation, run_many
from sim.run.result import Result
from sim.run.simulate import Simulated, Value, simulate_scenario
from sim.scenario.claim_units import check_claim_units
from sim.scenario.claims_section import ClaimSpec
from sim.scenario.load import load_scenario
from sim.scenario.scenario import Scenario
from sim.scenario.workload_section import CollectiveWorkload, PassesWorkload
from sim.studies.fitting import explain_unfit, say_what_fits, what_would_fit
from sim.studies.rivals import suit_rival

__all__ = ["judge_scenario", "simulate"]

_PROBE = "blocking_exchange_completes"


def simulate(
    scenario: str | Path | Scenario,
    *,
    overrides: Sequence[str] = (),
    seed: int | None = None,
    jobs: int = 1,
    limits: Limits = NO_LIMITS,
    pairs: bool = False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Result:
    """Simulate a scenario with its alternatives and rivals, and judge its claims.

    Parameters
    ----------
    scenario
        A path, the name of a bundled scenario, or a loaded one.
    overrides
        Changes such as `"model.top_k=1"`, as `--set` takes them.
    seed
        Replaces the scenario's seed.
    jobs
        Processes for alternatives, rivals and seeds.
    limits
        What each simulation may need: one that is expected to need more is refused before it starts.
    pairs
        Whether to add up the bytes between every two GPUs.
    on_progress
        Hears how many simulations are done, and how many there are.

    Raises
    ------
    InvalidValueError
        The scenario is refused: the message names file, line, field, rule, value and hint.
    SimulationError
        The scenario cannot go on (a deadlock names its cycle), or would go over a limit.

    Examples
    --------
    >>> result = simulate("ep64_tp16_pp4", overrides=["claims=[]", "alternatives=[]", "rivals=[]",
    ...                   "workload.batches=1", "workload.microbatches=4"])
    >>> sum(result.path_ns.values()) == round(result.metrics["step_time_s"] * 1e9)
    True
    """
    if not isinstance(scenario, Scenario):
        loaded = load_scenario(scenario, overrides=overrides, seed=seed)
    elif overrides:
        raise InvalidValueError(
            field="overrides",
            rule="be left out for a scenario that is loaded already",
            value=list(overrides),
            hint="Give them to load_scenario, or use Scenario.variant.",
        )
    else:
        loaded = scenario if seed is None else scenario.variant({"seed": seed})
    return judge_scenario(loaded, jobs=jobs, limits=limits, pairs=pairs, on_progress=on_progress)


def _build_if_any(scenario: Scenario) -> Built | None:
    """Return the work of a model on a cluster; None where passes or a collective run on their own."""
    if isinstance(scenario.spec.workload, PassesWorkload):
        return None
    if isinstance(scenario.spec.workload, CollectiveWorkload):
        build_collective(scenario)
        return None
    return build(scenario)


@dataclass(frozen=True, kw_only=True)
class _Variants:
    """All simulations beside the scenario itself."""

    alternatives: list[Scenario]
    rivals: list[tuple[Scenario, str]]
    seeds: list[Scenario]


def judge_scenario(
    scenario: Scenario,
    *,
    jobs: int = 1,
    limits: Limits = NO_LIMITS,
    pairs: bool = False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Result:
    """Simulate a loaded scenario and judge its claims."""
    spec = scenario.spec
    metrics = [_metric_of(scenario, i) for i in range(len(spec.claims))]
    check_claim_units(scenario, CATALOG)
    built = _build_if_any(scenario)  # refuse before anything runs
    if built is not None:
        limits.check_minimum(minimum_of_work(built.work))
    variants = _variants(scenario)
    others = [*variants.alternatives, *(rival for rival, _ in variants.rivals), *variants.seeds]
    total = 1 + len(others)
    wanted = frozenset(metrics) & {_PROBE}
    spans = built is not None and built.work.mesh.convention.experts_span_stages and bool(spec.claims)
    with run_many(
        others,
        wanted=wanted,
        jobs=min(jobs, os.cpu_count() or 1),
        limits=limits,
        on_done=lambda n: on_progress(1 + n, total),
    ) as observe:
        probed = wanted | ({_PROBE} if spans else frozenset())
        here = simulate_scenario(scenario, wanted=probed, limits=limits, pairs=pairs)
        on_progress(1, total)
        seen = observe()
    here, fitting = _fitting(scenario, built, here)
    here = replace(here, warnings=[*here.warnings, *scenario.left_out])
    verdicts = _verdicts(scenario, metrics, here, variants, seen)
    return Result(
        scenario=scenario,
        simulated=here,
        claims=verdicts,
        findings=[
            *fitting,
            *_findings(here, metrics),
            *_published(scenario),
            *_not_run(scenario, variants, seen),
            *_assumed_elsewhere(here, seen),
        ],
        num_runs=here.num_runs + sum(o.num_runs for o in seen),
    )


def _fitting(scenario: Scenario, built: Built | None, here: Simulated) -> tuple[Simulated, list[str]]:
    """Return a run that does not fit into memory with what would (`memory.would_fit`), and the finding that says so."""
    if built is None or here.memory.get("fits", True):
        return here, []
    found = what_would_fit(scenario, built.work, here.memory)
    memory = {**here.memory, "would_fit": found or []}
    tried = built.work.kind == "training"
    lines = [explain_unfit(memory), *([say_what_fits(found)] if tried else [])]
    return replace(here, memory=memory), [" ".join(lines)]


def _metric_of(scenario: Scenario, position: int) -> str:
    """Return the catalogue's name of a claim's metric, or refuse it."""
    written = scenario.spec.claims[position].metric
    name = resolve_metric(written)
    if name is None:
        near = did_you_mean(written.rpartition(".")[2], CATALOG, otherwise="")
        raise scenario.located(
            InvalidValueError(
                ("claims", position, "metric"),
                rule="name a known metric",
                value=written,
                hint=f"{near} `moesim list metrics` shows all.".lstrip(),
            )
        )
    return name


def _variants(scenario: Scenario) -> _Variants:
    spec = scenario.spec
    judges = bool(spec.claims)
    needs_rivals = any(claim.superlative for claim in spec.claims)
    variants = _Variants(
        alternatives=[scenario.alternative(i) for i in range(len(spec.alternatives))] if judges else [],
        rivals=[suit_rival(scenario, i) for i in range(len(spec.rivals))] if needs_rivals else [],
        seeds=[scenario.variant({"seed": spec.seed + i}) for i in range(1, spec.seeds)] if judges else [],
    )
    for varied in (*variants.alternatives, *(rival for rival, _ in variants.rivals)):
        check_facts(varied)
    return variants


def _verdicts(
    scenario: Scenario, metrics: Sequence[str], here: Simulated, variants: _Variants, seen: Sequence[Observation]
) -> list[Verdict]:
    num_alternatives, num_rivals = len(variants.alternatives), len(variants.rivals)
    by_alternative = seen[:num_alternatives]
    by_rival = seen[num_alternatives : num_alternatives + num_rivals]
    by_seed = seen[num_alternatives + num_rivals :]
    verdicts = []
    for spec, metric in zip(scenario.spec.claims, metrics, strict=True):
        bounds = here.bounds.of_metric(metric, here.batches) if here.bounds else (None, None)
        value = here.values.get(metric)
        evidence = Evidence(
            value=value,
            seeds=_over_seeds(metric, value, by_seed),
            alternatives=[
                Outcome(
                    name=_keys(changes),
                    changes=changes,
                    value=observed.values.get(metric),
                    problem=observed.problem,
                )
                for changes, observed in zip(scenario.spec.alternatives, by_alternative, strict=True)
            ],
            rivals=[
                _as_rival(name, metric, observed) for (_, name), observed in zip(variants.rivals, by_rival, strict=True)
            ],
            bound_compute=bounds[0],
            bound_wires=bounds[1],
            explanation=here.explanations.get(metric),
            fits=here.memory.get("fits", True),
        )
        verdicts.append(judge(_claim(spec, metric), evidence))
    return relate(verdicts)


def _as_rival(name: str, metric: str, observed: Observation) -> Outcome:
    """Return a rival's value; one that does not fit into memory is none."""
    if observed.values.get("fits") is False:
        return Outcome(name=name, value=None, problem="does not fit into memory")
    return Outcome(name=name, value=observed.values.get(metric), problem=observed.problem)


def _over_seeds(metric: str, value: Value | None, by_seed: Sequence[Observation]) -> list[float]:
    """Return the metric under every seed; nothing where it does not depend on one."""
    if not by_seed or value is None or CATALOG[metric].group == "mesh":
        return []
    return [float(value), *(float(o.values[metric]) for o in by_seed if metric in o.values)]


def _published(scenario: Scenario) -> list[str]:
    """Return what becomes of published figures here: nothing."""
    num_figures = len(scenario.spec.published)
    return [f"Published figures: {num_figures}; `moesim validate` holds them against the model"] if num_figures else []


def _not_run(scenario: Scenario, variants: _Variants, seen: Sequence[Observation]) -> list[str]:
    """Return a line for each alternative and rival that could not be run."""
    names = [f"{{{_keys(changes)}}}" for changes in scenario.spec.alternatives] if variants.alternatives else []
    names += [name for _, name in variants.rivals]
    return [
        f"{name} could not be run: {observed.problem}"
        for name, observed in zip(names, seen, strict=False)
        if observed.problem is not None
    ]


def _assumed_elsewhere(here: Simulated, seen: Sequence[Observation]) -> list[str]:
    """Return a line for each fact that alternatives and rivals had to assume and the scenario had not."""
    known = {(item.key, str(item.value)) for item in here.assumptions}
    said = {item.why for item in here.assumptions}
    lines = [
        f"Assumed under alternatives or rivals: {item.key} {item.value}, {item.why}"
        for observed in seen
        for item in observed.assumptions
        if (item.key, str(item.value)) not in known and item.key.startswith("cluster.") and item.why not in said
    ]
    return list(dict.fromkeys(lines))


def _keys(changes: Mapping[str, object]) -> str:
    return ", ".join(f"{key}: {_shown(value)}" for key, value in changes.items())


def _claim(spec: ClaimSpec, metric: str) -> Claim:
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
        asked="" if expect is None else expect.text,
        asked_value=None if expect is None else expect.value,
        expect=None
        if expect is None
        else {"op": expect.op, "value": expect.value, "unit": expect.unit, "tolerance": expect.tolerance},
        superlative=spec.superlative,
        supports=spec.supports,
    )


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _findings(here: Simulated, metrics: Sequence[str]) -> list[str]:
    """Return what was found out beside the claims."""
    findings = []
    if _PROBE in here.mesh and _PROBE not in metrics:
        findings.append(f"Expert exchange over all stages: {here.explanations[_PROBE]}")
    if here.wire_times_s:
        times = ", ".join(f"{time * 1e3:.0f} ms {name}" for name, time in here.wire_times_s.items())
        findings.append(f"NICs alone, for each all-reduce that a layer has, over a batch and a stage's layers: {times}")
    return findings
