"""Automatic zero-bubble schedules: F, B and W placed for given times under a limit of memory.

Model
-----
The limit is a number of microbatches' activations, M_B each from F to B and `weight_share` times that from B to W.
The warm-up of stage i of p runs 2 (p - i) - 1 forward passes, as many as fill the time until the first B arrives where
F = B, one more, or p - i; then B goes before F, and W fills gaps (see `list_scheduling`). The best of these rules for
the times given is taken: the shortest longest span of a stage.

Assumptions
-----------
A heuristic and not the integer program of the paper: no claim to the least bubble. Beside the published bubbles it was
0.0007 of the time longer at most, and shorter elsewhere, in the cases that `moesim validate schedules` runs.

References
----------
Qi et al., "Zero bubble pipeline parallelism", 2023, section 3.
"""

from itertools import product

from workloads.schedules.base import Order
from workloads.schedules.list_scheduling import Rule, schedule_list
from workloads.schedules.pipeline import Pipeline
from workloads.schedules.placement import Placement

__all__ = ["zb_auto"]

_PRIORITIES = ((("B", 0), ("F", 0)), (("F", 0), ("B", 0)))


def zb_auto(pipeline: Pipeline, *, most_held: float) -> Order:
    """Return the order for a limit of `most_held` microbatches.

    >>> order = zb_auto(Pipeline(num_stages=2, num_microbatches=2), most_held=2)
    >>> ["".join(p.kind + str(p.microbatch) for p in stage) for stage in order]
    ['F0F1B0W0B1W1', 'F0B0F1B1W0W1']
    """
    p = pipeline.num_stages
    leads = [[2 * (p - i) - 1 for i in range(p)], [2 * (p - i) for i in range(p)], [p - i for i in range(p)]]
    rules = (
        Rule(priority=priority, lead=tuple(lead), patience=patience)
        for priority, patience, lead in product(_PRIORITIES, (0.1, 1.0, 0.5, 0.0, 0.8, 0.3), leads)
    )
    return schedule_list(pipeline, Placement(kind="row", num_stages=p), rules, most_held=most_held)
