"""V-Half: half the activations of 1F1B, in the V shape.

Model
-----
The strides of F and B are 2 and 1 turns in turn (`vee_block`). A stage holds (p + 2) / 2 microbatches at most, rounded
down. Where F = B = W and m >= p, the bubble is at most half of 1F1B's: 0.40 of it for 8 stages, 0.46 for 16.

References
----------
Qi et al., "Pipeline parallelism with controllable memory", 2024, section 3; the table of its authors'
playground has memory (p + 2) // 2 and a bubble of about p / (2 m).
"""

from workloads.schedules.base import Order
from workloads.schedules.pipeline import Pipeline
from workloads.schedules.vee_block import vee_block

__all__ = ["v_half"]


def v_half(pipeline: Pipeline) -> Order:
    """V-Half: half the activations of 1F1B, in the V shape.

    >>> " ".join(f"{p.kind}{p.microbatch}.{p.chunk}" for p in v_half(Pipeline(num_stages=2, num_microbatches=1))[0])
    'F0.0 F0.1 B0.1 W0.1 B0.0 W0.0'
    """
    return vee_block(pipeline, (2, 1, 2, 1))
