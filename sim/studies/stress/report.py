"""A stress test from scenario to the object that its reports are made of."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sim.build.build import build
from sim.errors import InvalidValueError
from sim.scenario.load import load_scenario
from sim.scenario.scenario import Scenario
from sim.scenario.stress_section import RemedySpec
from sim.scenario.workload_section import ForwardWorkload, TrainingWorkload
from sim.studies.stress.grid import build_grid
from sim.studies.stress.heat import expert_tokens
from sim.studies.stress.run import run_grid
from sim.studies.stress.summary import summarise
from sim.studies.stress.verdict import verdict

__all__ = ["stress_test"]

_SCHEMA_VERSION = 1


def stress_test(
    scenario: str,
    *,
    overrides: Sequence[str] = (),
    skews: Sequence[float] | None = None,
    remedies: Sequence[RemedySpec] | None = None,
    num_seeds: int | None = None,
    jobs: int = 1,
    file: Path | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Return the rows of a stress test, the tokens of its experts at the largest skew, and the sentence.

    Parameters
    ----------
    scenario, overrides
        What is simulated, and keys that are changed first.
    skews, remedies, num_seeds
        Parts of the grid instead of the scenario's own.
    jobs
        Processes.
    file
        Where simulations that are done are kept, and found again.
    on_progress
        Hears how many are done, of how many.

    Raises
    ------
    InvalidValueError
        The scenario has no experts to route tokens to, or a point of the grid is refused.
    """
    loaded = load_scenario(scenario, overrides=overrides)
    _check_has_routing(loaded)
    grid = build_grid(loaded, skews=skews, remedies=remedies, num_seeds=num_seeds)
    for point in {(p.skew, p.remedy): p for p in reversed(grid.points)}.values():
        build(point.scenario)  # refuse what cannot be before the first simulation
    done, num_kept = run_grid(grid, jobs=jobs, file=file, on_progress=on_progress)
    rows = summarise(grid, done)
    hottest = max((point for point in grid.points if point.remedy == grid.remedies[0]), key=lambda point: point.skew)
    return {
        "schema_version": _SCHEMA_VERSION,
        "scenario": loaded.spec.name or Path(scenario).stem,
        "routing": loaded.spec.routing.kind,
        "skews": list(grid.skews),
        "remedies": [{"name": name, "set": dict(grid.changes[name])} for name in grid.remedies],
        "num_points": len(grid.points),
        "num_kept": num_kept,
        "rows": rows,
        "expert_tokens": {"skew": hottest.skew, "tokens": expert_tokens(hottest.scenario).tolist()},
        "sentence": verdict(rows),
    }


def _check_has_routing(scenario: Scenario) -> None:
    """Refuse what has no experts that tokens could choose unevenly."""
    if not isinstance(scenario.spec.workload, (ForwardWorkload, TrainingWorkload)):
        kind, hint = scenario.spec.workload.kind, "A stress test needs a model that runs; `moesim run` takes others."
        raise scenario.located(
            InvalidValueError("workload.kind", rule="be forward or training in a stress test", value=kind, hint=hint)
        )
    model = build(scenario).work.model
    if not model.num_moe_layers:
        hint = "In a dense model there is no routing to be skewed."
        raise scenario.located(
            InvalidValueError("model.experts", rule="be at least 2 in a stress test", value=model.experts, hint=hint)
        )
