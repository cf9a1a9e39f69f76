"""What a study will take, from the points of it that were simulated first.

Model
-----
    points left = points x share of those that were looked up which the store does not have
    time left = points left x (mean cost of a point + what one point costs the study itself) / workers
    on a cluster of n workers: the same over n, but not below what the study itself does for the points one by one
    what one point costs the study itself = its key and its look-up, as measured + what the rest is known to take
    size of the store = points left x mean size of a row that was kept
"""

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from sim.errors import OutputError
from sim.studies.store.store import Store

__all__ = ["CLUSTERS", "Plan", "make_plan"]

CLUSTERS: Final = (10, 100)
"""Numbers of workers of clusters that a plan looks at."""
_KEEPING_S: Final = 5e-4
"""What the study does for a point in its own process after the look-up: claim, chunk, result."""
_ROW_BYTES: Final = 1.3
"""Size of a row in a SQLite file over that of its texts: indices, and pages that are not full."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the rest of a study will take."""

    num_points: int
    """Points of the study."""
    num_looked_up: int
    """Points that were looked up in the store."""
    num_left: int
    """Points that are not finished; an estimate where not all points were looked up."""
    sample: int
    """Points that were measured."""
    mean_cost_s: float
    """Seconds that one of them took, on average."""
    study_cost_s: float
    """Seconds that a point takes the process of the study itself, whatever simulates it."""
    num_workers: int
    """Processes that simulate."""
    executor: str
    """What they are."""
    time_left_s: float
    """Seconds until the study is finished."""
    store_bytes: int
    """Size of the store at the end, over what it has now."""
    time_on_workers_s: dict[str, float]
    """Number of workers -> seconds that a cluster of so many would take."""

    def as_dict(self) -> dict[str, Any]:
        """Return the parts for the JSON."""
        return asdict(self)


def make_plan(
    *,
    num_points: int,
    num_looked_up: int,
    num_left: int,
    mean_cost_s: float,
    look_up_s: float,
    sample: int,
    num_workers: int,
    store: Store,
    executor: str,
) -> Plan:
    """Return the plan of what is left.

    Raises
    ------
    OutputError
        The results will not fit onto the disk of the store.
    """
    store_bytes = int(num_left * store.mean_row_bytes() * _ROW_BYTES) if store.is_kept else 0
    _check_room(store, store_bytes)
    study_cost_s = look_up_s + _KEEPING_S
    cost_s = mean_cost_s + study_cost_s
    return Plan(
        num_points=num_points,
        num_looked_up=num_looked_up,
        num_left=num_left,
        sample=sample,
        mean_cost_s=mean_cost_s,
        study_cost_s=study_cost_s,
        num_workers=num_workers,
        executor=executor,
        time_left_s=num_left * max(cost_s / num_workers, study_cost_s),
        store_bytes=store_bytes,
        time_on_workers_s={str(n): num_left * max(cost_s / n, study_cost_s) for n in CLUSTERS},
    )


def _check_room(store: Store, num_bytes: int) -> None:
    """Refuse to begin what cannot be kept."""
    path = store.path
    if path is None:
        return
    free = shutil.disk_usage(Path(path).absolute().parent).free
    if num_bytes > free:
        reason = f"the results take about {num_bytes / 1e9:.1f} GB, and the disk has {free / 1e9:.1f} GB left"
        hint = "What was finished is kept: choose a store on another disk, or sweep less."
        raise OutputError(file=store.name, reason=reason, hint=hint)
