"""The simulations of a stress test, each kept in a store, so that no simulation is run twice."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sim.run.imbalance_bound import IMBALANCE_BOUND
from sim.studies.executors.local import LocalProcesses
from sim.studies.store.open_database import IN_MEMORY
from sim.studies.store.record import Record
from sim.studies.store.store import Store, study_row
from sim.studies.stress.grid import Grid, Point
from sim.studies.sweep.points import Watch, run_points

__all__ = ["KEPT_VALUES", "PointResult", "run_grid"]

KEPT_VALUES: Final = (
    "step_time_s",
    "tokens_per_s",
    "steady_tokens_per_s",
    "bubble_fraction",
    "stall_fraction",
    "imbalance_max_over_mean",
    IMBALANCE_BOUND,
    "fits",
    "capacity_bytes",
    "weights",
    "total",
)
"""Values of a simulation that are kept; the last three are bytes per GPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PointResult:
    """The part of a simulation's result that a stress test keeps."""

    values: Mapping[str, float]
    """Metrics and memory by name (`KEPT_VALUES`)."""
    parts_s: Mapping[str, float]
    """Account of time by part, averaged over the stages."""
    tokens: Mapping[str, int]
    """Token copies that were routed, computed, dropped, padded and rerouted."""
    problem: str | None = None
    """Why the scenario could not be simulated."""

    @classmethod
    def of(cls, record: Record) -> "PointResult":
        """Return the part of what a store keeps."""
        values: dict[str, float] = {name: float(record.values[name]) for name in KEPT_VALUES if name in record.values}
        return cls(values=values, parts_s=record.parts_s, tokens=record.tokens, problem=record.problem)


@dataclass(frozen=True, slots=True)
class _GridPoints:
    """The points of a grid as a study has them."""

    points: Sequence[Point]

    @property
    def num_points(self) -> int:
        """How many there are."""
        return len(self.points)

    def changes(self, number: int) -> Mapping[str, object]:
        """Return the dotted keys and values of a point that differ from the grid's scenario."""
        return self.points[number].changes


def run_grid(
    grid: Grid,
    *,
    jobs: int = 1,
    store: str = IN_MEMORY,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[list[PointResult], int]:
    """Return the result of each point of the grid, and how many results were found in a store.

    Each result is kept as soon as it is known, so that an interrupt loses none. Equal points are simulated once.

    Parameters
    ----------
    grid
        Simulations.
    jobs
        Processes.
    store
        Path or URL of the store that keeps results; without one nothing is kept.
    on_progress
        Receives the number of finished simulations, and the number of all simulations.

    Raises
    ------
    InvalidValueError
        The database is no store.
    OutputError
        The store could not be opened or written.
    """
    scenario = grid.scenario.without_judgement()
    # remedies that meet the same tokens follow one another: a process then draws these once
    order = sorted(range(len(grid.points)), key=lambda i: (grid.points[i].skew, grid.points[i].seed))
    points = _GridPoints([grid.points[i] for i in order])
    with LocalProcesses(jobs) as executor, Store(store) as kept:
        study = study_row(
            "stress", scenario, {"remedies": list(grid.remedies), "skew": list(grid.skews)}, len(grid.points)
        )
        kept.begin_study(study)
        outcome = run_points(
            scenario,
            points,
            study=study.id,
            store=kept,
            executor=executor,
            wanted=frozenset({IMBALANCE_BOUND}),
            watch=Watch(on_progress=on_progress),
        )
        # back into the order of the grid
        records = outcome.records(kept, sorted(range(len(order)), key=order.__getitem__))
    return [PointResult.of(record) for record in records if record is not None], outcome.num_kept
