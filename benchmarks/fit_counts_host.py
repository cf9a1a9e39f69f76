"""Fit `runtime.counts_host` of the preset megatron-core-2025 to measured steps of models with experts, and print it.

    python benchmarks/fit_counts_host.py

Needs moesim on the path (installed, or `PYTHONPATH=.`). The figures are those of the suite `training` that constants
may be fitted to (`fitted` in its `suite.yaml`), of the cases in `CASES`, with experts; those set apart are left out.
Each is simulated at the times of `TIMES_S`, its step is interpolated between them, and the loss is the mean over the
systems of the median |log(modelled / published)|, so that a table with many rows of one configuration weighs no more.
An interval leaves one system out at a time. Takes some minutes.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from sim.build.build import build
from sim.engine.simulation import run_plan
from sim.plan.pipeline import PipelinePlan
from sim.scenario.scenario import Scenario
from sim.studies.suites import find_suites, is_fitted, system_of

CASES = ("training/simumax_b200_moe", "training/megatron_bridge")
TIMES_S = (0.0, 1.5e-3, 3e-3, 4.5e-3)
_GRID_S = np.linspace(TIMES_S[0], TIMES_S[-1], 91)

Floats = NDArray[np.float64]


def fitted_errors() -> dict[str, Floats]:
    """Return, by system, log(modelled / published) of each figure at the times of the grid. Shape [N, T]."""
    errors: dict[str, list[Floats]] = {}
    steps: dict[str, list[float]] = {}
    for suite in find_suites(CASES):
        for case in suite.cases:
            for i, figure in enumerate(case.scenario.spec.published):
                scenario = case.scenario.case(i)
                if not is_fitted(suite, case, i) or figure.apart or not _has_experts(scenario):
                    continue
                key = f"{case.name} {sorted((figure.set or {}).items())}"
                if key not in steps:
                    steps[key] = [_step_s(scenario, time_s) for time_s in TIMES_S]
                modelled = np.interp(_GRID_S, TIMES_S, steps[key])
                errors.setdefault(system_of(case, i), []).append(np.log(modelled / figure.value))
    return {system: np.stack(rows) for system, rows in errors.items()}


def best_time_s(errors: Mapping[str, Floats]) -> float:
    """Return the time at which the mean over systems of the median error is least."""
    loss = np.mean([np.median(np.abs(rows), axis=0) for rows in errors.values()], axis=0)
    return float(_GRID_S[int(np.argmin(loss))])


def main() -> None:
    """Print the fit, the errors with it by system, and what it is when a system is left out."""
    errors = fitted_errors()
    best_s = best_time_s(errors)
    print(f"counts_host: {best_s * 1e3:.2f} ms")
    at = int(np.argmin(np.abs(_GRID_S - best_s)))
    for system, rows in errors.items():
        others = {name: values for name, values in errors.items() if name != system}
        print(f"  {system}: {_percent(rows[:, 0])} without it, {_percent(rows[:, at])} with it", end="")
        print(f"; left out, {best_time_s(others) * 1e3:.2f} ms" if others else "")


# ---- private -----------------------------------------------------------------------------------------------------


def _has_experts(scenario: Scenario) -> bool:
    return build(scenario).work.model.experts > 0


def _step_s(scenario: Scenario, time_s: float) -> float:
    """Return the step of a scenario with a time of the host."""
    work = build(scenario.variant({"runtime.counts_host": f"{time_s * 1e6:g} us"})).work
    return run_plan(PipelinePlan(work)).trace.step_ns / 1e9


def _percent(logs: Sequence[float] | Floats) -> str:
    """Return the median of errors in percent, signed."""
    return f"{100 * float(np.expm1(np.median(logs))):+.1f} %"


if __name__ == "__main__":
    main()
