"""V-Min: a third of the activations of 1F1B, in the V shape.

Model
-----
All strides are 1 turn (`vee_block`): a microbatch's chunk 0 lives for 4 (p - 1) turns on stage 0, which are
2 (p - 1) / 3 chunks, a third of what p microbatches keep. The bubble is two thirds of 1F1B's and a little more where
F = B = W, and grows with m where they differ, for nothing is kept to fill gaps with.

References
----------
Qi et al., "Pipeline parallelism with controllable memory", 2024, section 3.
"""

from workloads.schedules.base import Order
from workloads.schedules.pipeline import Pipeline
from workloads.schedules.vee_block import vee_block

__all__ = ["v_min"]


def v_min(pipeline: Pipeline) -> Order:
    """Return the passes of every stage.

    >>> " ".join(f"{p.kind}{p.microbatch}.{p.chunk}" for p in v_min(Pipeline(num_stages=2, num_microbatches=1))[0])
    'F0.0 F0.1 B0.1 W0.1 B0.0 W0.0'
    """
    return vee_block(pipeline, (1, 1, 1, 1))
