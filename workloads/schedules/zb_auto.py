"""Automatic zero-bubble schedules: F, B and W placed for given times under a limit of memory.

Model
-----
The limit is a number of microbatches' activations, M_B each from F to B and `weight_share` times that from B to W.
The warm-up of stage i of p runs 2 (p - i) - 1 forward passes, as many as fill the time until the first B arrives where
F = B, one more, or p - i; then B goes before F, and W fills gaps (see `list_scheduling`). The best of these rules for
the times given is taken, or the order of ZB-H1 or ZB-H2 where it is shorter and holds no more than the limit: the
shortest longest span of a stage.

Where W holds more than B the limit is kept, too, by fewer forward passes ahead. Where one W alone holds more than the
limit, limit + M_W - M_B is held at most (`ListScheduler`).

Assumptions
-----------
A heuristic and not the integer program of the paper: no claim to the least bubble. Compared with the published bubbles
the heuristic's were 0.0007 of the time longer at most, and shorter elsewhere, in the cases that `moesim validate
schedules` runs.

References
----------
Qi et al., "Zero bubble pipeline parallelism", 2023, section 3.
"""

import math
from collections.abc import Sequence
from itertools import product

from workloads.schedules.base import Order
from workloads.schedules.chunk_layout import ChunkLayout
from workloads.schedules.delayed_weights import delayed_weights, most_delayed_held
from workloads.schedules.list_scheduling import Rule, best_floor
from workloads.schedules.order_span import longest_span_ns
from workloads.schedules.pipeline import Pipeline

__all__ = ["zb_auto"]

_PRIORITIES = ((("B", 0), ("F", 0)), (("F", 0), ("B", 0)))
_FACTORS = (1, 2)  # ZB-H1, ZB-H2


def zb_auto(pipeline: Pipeline, *, limits: Sequence[int]) -> Order:
    """Return the shortest order found within any of some limits, in times p microbatches.

    >>> order = zb_auto(Pipeline(num_stages=2, num_microbatches=2), limits=[1])
    >>> ["".join(p.kind + str(p.microbatch) for p in stage) for stage in order]
    ['F0F1B0W0B1W1', 'F0B0F1B1W0W1']
    """
    p = pipeline.num_stages
    layout = ChunkLayout(kind="row", num_stages=p)
    order: Order = []
    span_ns: float = math.inf
    for factor in _FACTORS:
        if most_delayed_held(pipeline, factor) <= max(limits) * p:
            delayed = delayed_weights(pipeline, factor)
            delayed_ns = longest_span_ns(delayed, pipeline, layout)
            if delayed_ns < span_ns:
                order, span_ns = delayed, delayed_ns
    as_short = 1  # what is searched for first goes before ZB-H1 and ZB-H2 where it is as short
    for limit in limits:
        if limit * p < pipeline.weight_share <= max(limits) * p:
            continue  # it cannot be kept, and what is held instead may be more than the largest
        floor = best_floor(pipeline, layout, _rules, most_held=limit * p, shorter_than_ns=span_ns + as_short)
        if floor is not None:
            order, span_ns, as_short = floor.order(), floor.longest_span_ns, 0
    return order


def _rules(num_stages: int) -> list[Rule]:
    """Return what to try: whether B or F goes first, how long a gap W fills, and the warm-up."""
    p = num_stages
    leads = [[2 * (p - i) - 1 for i in range(p)], [2 * (p - i) for i in range(p)], [p - i for i in range(p)]]
    return [
        Rule(priority=priority, lead=tuple(lead), patience=patience)
        for priority, patience, lead in product(_PRIORITIES, (0.1, 1.0, 0.5, 0.0, 0.8, 0.3), leads)
    ]
