"""V-Half: half the activations of 1F1B, in the V shape.

Model
-----
The strides of F and B are 1 and 2 turns in turn (`vee_block`): a microbatch's chunk 0 lives for 6 (p - 1) turns on
stage 0, which are p - 1 chunks, half of what p microbatches keep. The published bubble is half of 1F1B's where
F = B = W; ours is up to 0.6 of it, for the waits that keep the passes of a stage apart.

References
----------
Qi et al., "Pipeline parallelism with controllable memory", 2024, section 3.
"""

from workloads.schedules.base import Order
from workloads.schedules.pipeline import Pipeline
from workloads.schedules.vee_block import vee_block

__all__ = ["v_half"]


def v_half(pipeline: Pipeline) -> Order:
    """Return the passes of every stage.

    >>> " ".join(f"{p.kind}{p.microbatch}.{p.chunk}" for p in v_half(Pipeline(num_stages=2, num_microbatches=1))[0])
    'F0.0 F0.1 B0.1 W0.1 B0.0 W0.0'
    """
    return vee_block(pipeline, (1, 2, 1, 2))
