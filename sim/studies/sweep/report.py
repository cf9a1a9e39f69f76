"""A sweep, from the scenario to the object that the reports show."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sim.errors import InvalidValueError, did_you_mean
from sim.results.catalog import CATALOG
from sim.scenario.load import load_scenario
from sim.scenario.scenario import Scenario
from sim.studies.executors.executor import Executor
from sim.studies.store.record import Record
from sim.studies.store.store import Store, study_row
from sim.studies.sweep.grid import Axis, Grid, build_grid
from sim.studies.sweep.points import Outcome, Watch, run_points

__all__ = ["DEFAULT_METRICS", "SWEEP_METRICS_HINT", "load_sweep", "sweep"]

_SCHEMA_VERSION: Final = 1
DEFAULT_METRICS: Final = (
    "step_time_s",
    "tokens_per_s",
    "tokens_per_s_per_gpu",
    "mfu",
    "bubble_fraction",
    "exposed_communication_fraction",
    "imbalance_max_over_mean",
    "collective_time_s",
    "busbw_bytes_per_s",
    "output_tokens_per_s_per_gpu",
    "tokens_per_s_per_user",
    "ttft_mean_s",
    "tpot_mean_s",
    "total",
    "fits",
)
"""Columns of the table where no metrics are named; those that no point has are left out."""
SWEEP_METRICS_HINT: Final = "`moesim list metrics` shows all."
_ROWS: Final = 5000
"""Results that are read at a time."""


def load_sweep(
    scenario: str, axes: Sequence[Axis], *, num_seeds: int | None = None, overrides: Sequence[str] = ()
) -> tuple[Scenario, Grid]:
    """Return the scenario and the grid of a sweep.

    Raises
    ------
    InvalidValueError
        The scenario or the grid is refused.
    """
    loaded = load_scenario(scenario, overrides=overrides).without_judgement()
    return loaded, build_grid(loaded, axes, num_seeds=num_seeds)


def sweep(
    scenario: Scenario,
    grid: Grid,
    *,
    store: Store,
    executor: Executor,
    metrics: Sequence[str] = (),
    against: str | None = None,
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Simulate what the store does not have, and return the table of all points with what it took.

    Parameters
    ----------
    scenario, grid
        What `load_sweep` returns.
    store
        Store that has results of earlier studies and keeps those of this one.
    executor
        What simulates.
    metrics
        Columns of the table; none: the usual ones.
    against
        A further column, over which the first is drawn; None: it is drawn over an axis.
    watch
        What hears how far the sweep is.

    Raises
    ------
    InvalidValueError
        A metric has no such name.
    OutputError
        The store could not be written.
    SimulationError
        The executor cannot go on.
    """
    check_metrics(metrics)
    settings = {axis.key: list(axis.values) for axis in grid.axes}
    study = study_row("sweep", scenario, settings, grid.num_points)
    store.begin_study(study)
    outcome = run_points(scenario, grid, study=study.id, store=store, executor=executor, watch=watch)
    wanted = list(dict.fromkeys([*(metrics or DEFAULT_METRICS), *([] if against is None else [against])]))
    rows = _rows(grid, outcome, store, wanted)
    columns = [name for name in wanted if any(row.get(name) is not None for row in rows)]
    axes = [axis.key for axis in grid.axes]
    return {
        "schema_version": _SCHEMA_VERSION,
        "scenario": study.scenario,
        "study": study.id,
        "axes": [{"key": axis.key, "values": list(axis.values)} for axis in grid.axes],
        "metrics": columns,
        "against": against,
        "num_points": grid.num_points,
        "num_simulated": outcome.num_simulated,
        "num_kept": outcome.num_kept,
        "num_problems": sum("problem" in row for row in rows),
        "plan": None if outcome.plan is None else outcome.plan.as_dict(),
        "rows": [_ordered(row, [*axes, *columns]) for row in rows],
    }


def check_metrics(names: Sequence[str], option: str = "--metric") -> None:
    """Refuse a metric that does not exist, with the option that names it."""
    for name in names:
        if name not in CATALOG:
            hint = did_you_mean(name, CATALOG, otherwise=SWEEP_METRICS_HINT)
            raise InvalidValueError(option, "be the name of a metric", name, hint)


# ---- private -----------------------------------------------------------------------------------------------------


def _rows(grid: Grid, outcome: Outcome, store: Store, metrics: Sequence[str]) -> list[dict[str, Any]]:
    """Return a row for each point that is finished: its values of the axes, its metrics, or why it has none."""
    rows: list[dict[str, Any]] = []
    for first in range(0, grid.num_points, _ROWS):
        numbers = range(first, min(first + _ROWS, grid.num_points))
        rows += [
            {**grid.changes(number), **_values(record, metrics)}
            for number, record in zip(numbers, outcome.records(store, numbers), strict=True)
            if record is not None
        ]
    return rows


def _values(record: Record, metrics: Sequence[str]) -> dict[str, Any]:
    if record.problem is not None:
        return {"problem": record.problem}
    return {name: record.values[name] for name in metrics if name in record.values}


def _ordered(row: Mapping[str, Any], columns: Sequence[str]) -> dict[str, Any]:
    problem = {"problem": row["problem"]} if "problem" in row else {}
    return {name: row.get(name) for name in columns} | problem
