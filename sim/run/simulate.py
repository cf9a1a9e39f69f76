"""One scenario, one simulation: each kind of workload with the object that builds and runs it."""

from collections.abc import Set
from typing import Final

from sim.run.collective_run import CollectiveRun
from sim.run.memory_guard import bounded_memory
from sim.run.model_run import ModelRun
from sim.run.passes_run import PassesRun
from sim.run.resources import NO_LIMITS, Limits
from sim.run.scenario_run import RunOptions, ScenarioRun, Simulated
from sim.run.serving_run import ServingRun
from sim.scenario.scenario import Scenario

__all__ = ["build_run", "simulate_scenario"]

_RUNS: Final[dict[str, type[ScenarioRun]]] = {
    "forward": ModelRun,
    "training": ModelRun,
    "passes": PassesRun,
    "collective": CollectiveRun,
    "serving": ServingRun,
}


def build_run(scenario: Scenario) -> ScenarioRun:
    """Build a scenario, once: what is returned can be run, and says what the run needs.

    A cluster that is wired link by link may take as much memory as a run, and is bounded like one.

    Raises
    ------
    InvalidValueError
        With the place in the file, where a preset is unknown, the mesh is illegal or parts do not go together.
    """
    with bounded_memory():
        return _RUNS[scenario.spec.workload.kind](scenario)


def simulate_scenario(
    scenario: Scenario,
    *,
    wanted: Set[str] = frozenset(),
    link_timeline: bool = True,
    links: bool = True,
    pairs: bool = False,
    limits: Limits = NO_LIMITS,
    runs_alike: int = 1,
) -> Simulated:
    """Build a scenario and simulate it once; the options are those of `RunOptions`."""
    options = RunOptions(
        wanted=wanted,
        link_timeline=link_timeline,
        links=links,
        pairs=pairs,
        limits=limits,
        runs_alike=runs_alike,
    )
    return build_run(scenario).simulate(options)
