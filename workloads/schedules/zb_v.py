"""ZB-V: each microbatch runs down the stages in one chunk and back up in another, within the activations of 1F1B.

Model
-----
The last part of the model stands on stage 0 with the first: its backward pass starts at once, and all stages need about
as much memory. F, B and W are placed by `list_scheduling` within p microbatches; no stage waits between its own first
pass and its own last where F = B = W and `weight_share` is 0.4, for m of 2 p or more.

Assumptions
-----------
Where W holds as much as F (`weight_share` 1) the heuristic leaves gaps of up to (p - 1) F over 2 that the paper's
schedule does not have.

References
----------
Qi et al., "Pipeline parallelism with controllable memory", 2024, section 3.
"""

from itertools import product

from workloads.schedules.base import Order
from workloads.schedules.list_scheduling import Rule, schedule_list
from workloads.schedules.pipeline import Pipeline
from workloads.schedules.placement import Placement

__all__ = ["zb_v"]

_PRIORITIES = (
    (("F", 0), ("F", 1), ("B", 0), ("B", 1)),
    (("B", 0), ("B", 1), ("F", 0), ("F", 1)),
    (("B", 0), ("F", 0), ("F", 1), ("B", 1)),
    (("F", 0), ("B", 0), ("F", 1), ("B", 1)),
    (("B", 1), ("B", 0), ("F", 1), ("F", 0)),
)


def zb_v(pipeline: Pipeline) -> Order:
    """Return the passes of every stage.

    >>> " ".join(f"{p.kind}{p.microbatch}.{p.chunk}" for p in zb_v(Pipeline(num_stages=1, num_microbatches=1))[0])
    'F0.0 F0.1 B0.1 B0.0 W0.1 W0.0'
    """
    p = pipeline.num_stages
    leads = [[2 * (p - i) - 1 for i in range(p)], [2 * (p - i) for i in range(p)]]
    rules = (
        Rule(priority=priority, lead=tuple(lead), patience=patience)
        for lead, patience, priority in product(leads, (0.0, 1.0, 0.5), _PRIORITIES)
    )
    return schedule_list(pipeline, Placement(kind="vee", num_stages=p, num_chunks=2), rules, most_held=2 * p)
