"""A scenario with its alternatives, rivals and seeds: all are simulated, and the claims of the scenario are judged.

The scenario is built once, before anything runs. Each alternative, rival and further seed is a scenario of its own,
which the process that runs it builds; the claims share these runs.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from sim.errors import InvalidValueError
from sim.results.catalog import CATALOG
from sim.run.model_run import BLOCKING_EXCHANGE, EXCHANGE, ModelRun
from sim.run.parallel_runs import Observation, run_many
from sim.run.resources import NO_LIMITS, Limits, Resources
from sim.run.result import Result
from sim.run.scenario_run import RunOptions, ScenarioRun, Simulated
from sim.run.simulate import build_run
from sim.scenario.claim_units import check_claim_units
from sim.scenario.load import load_scenario
from sim.scenario.scenario import Scenario
from sim.studies.conclusion import conclude
from sim.studies.fitting import explain_unfit, say_what_fits, what_would_fit
from sim.studies.sensitivity import flips_of
from sim.studies.variants import Variants, variants_of
from sim.studies.verdicts import format_changes, judge_claims, known_metric

__all__ = ["judge_scenario", "simulate"]


def simulate(
    scenario: str | Path | Scenario,
    *,
    overrides: Sequence[str] = (),
    seed: int | None = None,
    trace: Path | None = None,
    jobs: int = 1,
    limits: Limits = NO_LIMITS,
    pairs: bool = False,
    thorough: bool = False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    on_long_run: Callable[[Resources, int], None] | None = None,
) -> Result:
    """Simulate a scenario with its alternatives and rivals, and judge its claims.

    Parameters
    ----------
    scenario
        A path, the name of a bundled scenario, or a loaded scenario.
    overrides
        Changes such as `"model.top_k=1"`, as `--set` takes them.
    seed
        Replaces the scenario's seed.
    trace
        Recording of routing that replaces the routing of a scenario that is not loaded yet.
    jobs
        Processes for alternatives, rivals and seeds.
    limits
        What each simulation may need: a simulation that needs more is refused before it starts.
    pairs
        Whether to add up the bytes between every two GPUs.
    thorough
        Whether to run all that `Variants` may hold: several times the simulations.
    on_progress
        Is called with the simulations that are done, and how many there are.
    on_long_run
        Is called before a run that is expected to take long, with what the run is expected to need and how
        many simulations there are.

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
        loaded = load_scenario(scenario, overrides=overrides, seed=seed, trace=trace)
    elif overrides or trace is not None:
        raise InvalidValueError(
            field="overrides" if overrides else "trace",
            rule="be left out for a scenario that is loaded already",
            value=list(overrides) or str(trace),
            hint="Give them to load_scenario, or use Scenario.variant.",
        )
    else:
        loaded = scenario if seed is None else scenario.variant({"seed": seed})
    return judge_scenario(
        loaded,
        jobs=jobs,
        limits=limits,
        pairs=pairs,
        thorough=thorough,
        on_progress=on_progress,
        on_long_run=on_long_run,
    )


def judge_scenario(
    scenario: Scenario,
    *,
    jobs: int = 1,
    limits: Limits = NO_LIMITS,
    pairs: bool = False,
    thorough: bool = False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    on_long_run: Callable[[Resources, int], None] | None = None,
) -> Result:
    """Simulate a loaded scenario and judge its claims; the parameters are those of `simulate`."""
    claims = scenario.spec.claims
    metrics = [known_metric(scenario, "claims", i, claim.metric) for i, claim in enumerate(claims)]
    check_claim_units(scenario, CATALOG)
    run = build_run(scenario)
    limits.check_minimum(run.minimum_resources())  # before anything runs
    variants = variants_of(scenario, thorough=thorough)
    total = 1 + len(variants.scenarios)
    if on_long_run is not None and (expected := run.expected_if_long()) is not None:
        on_long_run(expected, total)
    wanted = frozenset(metrics) & {BLOCKING_EXCHANGE}
    with run_many(
        variants.scenarios,
        wanted=wanted,
        jobs=min(jobs, os.cpu_count() or 1),
        limits=limits,
        on_done=lambda num_done: on_progress(1 + num_done, total),
    ) as observe:
        probes = run.probes if claims else frozenset()
        simulated = run.simulate(RunOptions(wanted=wanted | probes, limits=limits, pairs=pairs))
        on_progress(1, total)
        observations = observe()
    simulated, fitting = _with_fitting_changes(run, simulated)
    simulated = replace(simulated, warnings=[*simulated.warnings, *scenario.left_out])
    verdicts = judge_claims(scenario, metrics, simulated, variants, observations)
    of_changes = observations[len(observations) - len(variants.changes) :]
    flips = flips_of(verdicts, variants.changes, [observation.values for observation in of_changes])
    return Result(
        scenario=scenario,
        simulated=simulated,
        claims=verdicts,
        sensitivity=[flip.to_dict() for flip in flips] if variants.changes else None,
        conclusion=conclude(scenario, simulated, verdicts).to_dict(),
        findings=[
            *fitting,
            *_findings_of_run(simulated, metrics),
            *_published_figures(scenario),
            *_variants_not_run(scenario, variants, observations),
            *(_not_run_by_default(variants) if claims and not thorough else []),
            *_assumptions_of_variants(simulated, observations),
        ],
        num_runs=simulated.num_runs + sum(observation.num_runs for observation in observations),
    )


# ---- findings ----------------------------------------------------------------------------------------------------


def _with_fitting_changes(run: ScenarioRun, simulated: Simulated) -> tuple[Simulated, list[str]]:
    """Return a run that does not fit into memory with what would (`memory.would_fit`), and the finding that says so."""
    if not isinstance(run, ModelRun) or simulated.memory["fits"]:
        return simulated, []
    fitting = what_would_fit(run.scenario, run.work, simulated.memory)
    memory = {**simulated.memory, "would_fit": fitting or []}
    sentences = [explain_unfit(memory)]
    if run.work.kind.trains:
        sentences.append(say_what_fits(fitting))
    return replace(simulated, memory=memory), [" ".join(sentences)]


def _findings_of_run(simulated: Simulated, metrics: Sequence[str]) -> list[str]:
    """Return the findings of the scenario's own run that no claim is about."""
    findings = []
    if BLOCKING_EXCHANGE in simulated.mesh and not {BLOCKING_EXCHANGE, EXCHANGE} & set(metrics):
        findings.append(f"Expert exchange over all stages: {simulated.explanations[BLOCKING_EXCHANGE]}")
    if simulated.wire_times_s:
        times = ", ".join(f"{time_s * 1e3:.0f} ms {name}" for name, time_s in simulated.wire_times_s.items())
        findings.append(f"NICs alone, for each all-reduce that a layer has, over a batch and a stage's layers: {times}")
    return findings


def _published_figures(scenario: Scenario) -> list[str]:
    """Return that published figures are judged elsewhere."""
    num_figures = len(scenario.spec.published)
    return [f"Published figures: {num_figures}; `moesim validate` holds them against the model"] if num_figures else []


def _variants_not_run(scenario: Scenario, variants: Variants, observations: Sequence[Observation]) -> list[str]:
    """Return a sentence on each alternative and rival that could not be run."""
    names = [f"{{{format_changes(changes)}}}" for changes in scenario.spec.alternatives if variants.alternatives]
    names += [rival.name for rival in variants.rivals if rival.part is None]
    return [
        f"{name} could not be run: {observation.problem}"
        for name, observation in zip(names, observations, strict=False)
        if observation.problem is not None
    ]


def _not_run_by_default(variants: Variants) -> list[str]:
    """Return a sentence on what a thorough run simulates more."""
    names = [name for of_part in variants.not_run.values() for name in of_part]
    more = ["rivals under every alternative"] if variants.rivals and variants.alternatives else []
    return [f"Not run without --thorough: {', '.join([*names, *more, 'seeds with jitter, changed assumptions'])}"]


def _assumptions_of_variants(simulated: Simulated, observations: Sequence[Observation]) -> list[str]:
    """Return a sentence on each fact that alternatives and rivals had to assume and the scenario had not."""
    known = {(assumption.key, str(assumption.value)) for assumption in simulated.assumptions}
    reasons = {assumption.why for assumption in simulated.assumptions}
    sentences = [
        f"Assumed under alternatives or rivals: {assumption.key} {assumption.value}, {assumption.why}"
        for observation in observations
        for assumption in observation.assumptions
        if (assumption.key, str(assumption.value)) not in known
        and assumption.key.startswith("cluster.")
        and assumption.why not in reasons
    ]
    return list(dict.fromkeys(sentences))
