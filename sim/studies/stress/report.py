"""A stress test, from the scenario to the object that the reports show."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.build.build import build
from sim.errors import InvalidValueError
from sim.plan.expert_routing import copies_drawn
from sim.scenario.claims_section import RemedySpec, StressSpec
from sim.scenario.load import load_scenario
from sim.scenario.scenario import Scenario
from sim.scenario.workload_section import ForwardWorkload, TrainingWorkload
from sim.studies.store.open_database import IN_MEMORY
from sim.studies.stress.grid import build_grid, with_outdated_plans
from sim.studies.stress.points import run_grid
from sim.studies.stress.summary import summarise
from sim.studies.stress.verdict import conclusion

__all__ = ["expert_tokens", "stress_test"]

_SCHEMA_VERSION = 2
"""1: families `compute` (with foreign work), `waiting` and `bubble`, no `useful_tokens_per_s`."""


def stress_test(
    scenario: str,
    *,
    overrides: Sequence[str] = (),
    trace: Path | None = None,
    skews: Sequence[float] | None = None,
    remedies: Sequence[RemedySpec] | None = None,
    num_seeds: int | None = None,
    jobs: int = 1,
    store: str = IN_MEMORY,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Return the rows of a stress test, the tokens of the experts at the largest skew, and the conclusion.

    Parameters
    ----------
    scenario, overrides
        Name or path of the scenario, and assignments that change its keys.
    trace
        Recording that replaces the scenario's routing: it is compared with the same tokens balanced.
    skews, remedies, num_seeds
        Parts of the grid that replace those of the scenario.
    jobs
        Processes.
    store
        Path or URL of the store that keeps the results of finished simulations; without one nothing is kept.
    on_progress
        Receives the number of finished simulations, and the number of all simulations.

    Raises
    ------
    InvalidValueError
        The scenario has no experts to route tokens to, or a point of the grid is refused.
    """
    loaded = load_scenario(scenario, overrides=overrides, trace=trace)
    _check_routes_tokens(loaded)
    section = loaded.spec.stress or StressSpec(skew=(0.0,))
    is_other = any(change.partition("=")[0] in {"routing", "routing.kind"} for change in overrides)
    grid = build_grid(
        loaded,
        skews=skews,
        remedies=with_outdated_plans(loaded, remedies or section.remedies),
        num_seeds=num_seeds,
        is_other_routing=is_other,
    )
    for point in {(p.skew, p.remedy): p for p in reversed(grid.points)}.values():
        build(point.scenario)  # refuses an impossible point before the first simulation
    results, num_kept = run_grid(grid, jobs=jobs, store=store, on_progress=on_progress)
    rows = summarise(grid, results)
    said = conclusion(rows)
    hottest = max((point for point in grid.points if point.remedy == grid.remedies[0]), key=lambda point: point.skew)
    return {
        "schema_version": _SCHEMA_VERSION,
        "scenario": loaded.spec.name or Path(scenario).stem,
        "routing": loaded.spec.routing.kind,
        "skews": list(grid.skews),
        "remedies": [
            {"name": name, "set": dict(grid.changes[name]), "plan": grid.plans[name]} for name in grid.remedies
        ],
        "num_points": len(grid.points),
        "num_kept": num_kept,
        "rows": rows,
        "expert_tokens": {
            "skew": hottest.skew,
            **({"load": grid.loads[hottest.skew]} if grid.loads else {}),
            "tokens": expert_tokens(hottest.scenario).tolist(),
        },
        "conclusion": said,
        "sentence": " ".join(said),
    }


def expert_tokens(scenario: Scenario) -> NDArray[np.int64]:
    """Return the token copies for each expert of each layer with experts, in the first microbatch. Shape [L, E]."""
    work = build(scenario).work
    layers = [layer for layer in range(work.model.layers) if work.model.is_moe_layer(layer)]
    drawn = [copies_drawn(work, lane, layers, [0]).sum(axis=1) for lane in range(work.mesh.num_lanes)]
    return np.asarray(np.sum(drawn, axis=0), dtype=np.int64)


def _check_routes_tokens(scenario: Scenario) -> None:
    """Refuse a scenario without experts, or without a model that runs."""
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
