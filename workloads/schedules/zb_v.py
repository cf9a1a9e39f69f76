"""ZB-V: each microbatch runs down the stages in one chunk and back up in another, within the activations of 1F1B.

Model
-----
The last part of the model stands on stage 0 with the first: its backward pass starts at once, and all stages need about
as much memory, p microbatches. F, B and W are placed by `list_scheduling` within that; where stages wait between their
own first pass and their own last, the repeated block with strides of 4 and 2 turns (`vee_block`) is held against it,
and the shorter order taken. No stage waits where F = B = W, for m of 2 p or more, if W holds no more than B.

Where W holds more than B the limit is kept, too, by fewer forward passes ahead; where one chunk's W with another chunk
is more than the limit, p M_B + (M_W - M_B) / 2 is held at most (`ListScheduler`).

Assumptions
-----------
The block is looked at where the order has at most 60,000 passes and W holds no more than B, as the block counts
memory; else the rules alone decide.

References
----------
Qi et al., "Pipeline parallelism with controllable memory", 2024, section 3.
"""

from itertools import product

from workloads.schedules.base import Order
from workloads.schedules.chunk_layout import ChunkLayout
from workloads.schedules.list_scheduling import Rule, best_floor
from workloads.schedules.order_span import longest_span_ns
from workloads.schedules.pipeline import Pipeline
from workloads.schedules.vee_block import vee_block

__all__ = ["zb_v"]

_MOST_OF_BLOCK = 60_000
_STRIDES = (4, 2, 4, 2)
_PRIORITIES = (
    (("F", 0), ("F", 1), ("B", 0), ("B", 1)),
    (("B", 0), ("B", 1), ("F", 0), ("F", 1)),
    (("B", 0), ("F", 0), ("F", 1), ("B", 1)),
    (("F", 0), ("B", 0), ("F", 1), ("B", 1)),
    (("B", 1), ("B", 0), ("F", 1), ("F", 0)),
)


def zb_v(pipeline: Pipeline) -> Order:
    """ZB-V: each microbatch runs down the stages in one chunk and back up in another, within the activations of 1F1B.

    >>> " ".join(f"{p.kind}{p.microbatch}.{p.chunk}" for p in zb_v(Pipeline(num_stages=1, num_microbatches=1))[0])
    'F0.0 F0.1 B0.1 B0.0 W0.1 W0.0'
    """
    p = pipeline.num_stages
    layout = ChunkLayout(kind="vee", num_stages=p, num_chunks=2)
    floor = best_floor(pipeline, layout, _rules, most_held=2 * p)
    if floor is None:
        raise RuntimeError("without a bound some rule gives an order")
    few = 6 * p * pipeline.num_microbatches <= _MOST_OF_BLOCK and pipeline.weight_share <= 1
    if few and floor.longest_span_ns > floor.most_work_ns:
        block = vee_block(pipeline, _STRIDES)
        if longest_span_ns(block, pipeline, layout) < floor.longest_span_ns:
            return block
    return floor.order()


def _rules(num_stages: int) -> list[Rule]:
    """Return what to try: the warm-up, how long a gap W fills, and what goes first."""
    p = num_stages
    leads = [[2 * (p - i) - 1 for i in range(p)], [2 * (p - i) for i in range(p)]]
    return [
        Rule(priority=priority, lead=tuple(lead), patience=patience)
        for lead, patience, priority in product(leads, (0.0, 1.0, 0.5), _PRIORITIES)
    ]
