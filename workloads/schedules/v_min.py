"""V-Min: a third of the activations of 1F1B, in the V shape.

Model
-----
All strides are 1 turn (`vee_block`). A stage holds (p + 4) / 3 microbatches at most, rounded down. Where F = B = W the
bubble is at most two thirds of 1F1B's; where they differ it grows with m, for nothing is kept to fill gaps with.

References
----------
Qi et al., "Pipeline parallelism with controllable memory", 2024, section 3; the table of its authors'
playground has memory (p + 4) // 3 and a bubble of about 2 p / (3 m).
"""

from workloads.schedules.base import Order
from workloads.schedules.pipeline import Pipeline
from workloads.schedules.vee_block import vee_block

__all__ = ["v_min"]


def v_min(pipeline: Pipeline) -> Order:
    """V-Min: a third of the activations of 1F1B, in the V shape.

    >>> " ".join(f"{p.kind}{p.microbatch}.{p.chunk}" for p in v_min(Pipeline(num_stages=2, num_microbatches=1))[0])
    'F0.0 F0.1 B0.1 W0.1 B0.0 W0.0'
    """
    return vee_block(pipeline, (1, 1, 1, 1))
