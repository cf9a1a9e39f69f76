"""All simulations of a stress test, those that are done already left out."""

from collections.abc import Callable
from pathlib import Path

from sim.run.imbalance_bound import IMBALANCE_BOUND
from sim.run.parallel_runs import run_many
from sim.studies.stress.grid import Grid
from sim.studies.stress.point import Done, PointFile, point_key

__all__ = ["run_grid"]


def run_grid(
    grid: Grid,
    *,
    jobs: int = 1,
    file: Path | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[list[Done], int]:
    """Return what each point of the grid gave, and how many had been kept in `file`.

    Each point is written to `file` when it is done, so that an interrupt loses none.

    Raises
    ------
    OutputError
        The file could not be read or written.
    """
    kept = PointFile(file)
    keys = [point_key(point.scenario) for point in grid.points]
    first = {key: i for i, key in reversed(list(enumerate(keys)))}  # points that are the same are simulated once
    todo = [i for i in sorted(first.values()) if keys[i] not in kept.done]
    num_kept = len(first) - len(todo)
    on_progress(num_kept, len(first))
    with run_many(
        [grid.points[i].scenario for i in todo],
        wanted=frozenset({IMBALANCE_BOUND}),
        jobs=jobs,
        on_done=lambda done: on_progress(num_kept + done, len(first)),
        on_each=lambda place, seen: kept.add(keys[todo[place]], Done.of(seen)),
    ) as observe:
        seen = observe()
    kept.check()
    fresh = {keys[i]: Done.of(one) for i, one in zip(todo, seen, strict=True)}
    return [fresh[key] if key in fresh else kept.done[key] for key in keys], num_kept
