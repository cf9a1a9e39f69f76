"""The order of passes on a pipeline stage, one file per schedule.

Entering a schedule in `SCHEDULES` adds it to the command line and to the conformance tests.
"""

from collections.abc import Callable

from workloads.errors import WorkloadError
from workloads.schedules.base import FixedOrder, Pass, Schedule
from workloads.schedules.forward_only import forward_only
from workloads.schedules.gpipe import gpipe
from workloads.schedules.one_f_one_b import one_f_one_b

__all__ = ["SCHEDULES", "FixedOrder", "Pass", "Schedule", "build_schedule"]

SCHEDULES: dict[str, Callable[[int, int], list[list[Pass]]]] = {
    "gpipe": gpipe,
    "1f1b": one_f_one_b,
}
"""Schedule by name: (stages, microbatches) -> passes of each stage."""


def build_schedule(kind: str, *, num_stages: int, num_microbatches: int, forward: bool = False) -> Schedule:
    """Return the schedule called `kind`; with `forward`, its forward passes alone.

    >>> build_schedule("1f1b", num_stages=2, num_microbatches=2).next_pass(1, 0)
    Pass(kind='F', microbatch=0, chunk=0)
    """
    if kind not in SCHEDULES:
        raise WorkloadError(
            subject="schedule", field="kind", rule=f"be one of {', '.join(SCHEDULES)}", value=kind, cure="Use 1f1b."
        )
    if forward:
        return FixedOrder(forward_only(num_stages, num_microbatches))
    return FixedOrder(SCHEDULES[kind](num_stages, num_microbatches))
