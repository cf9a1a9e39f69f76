"""ZB-H1: 1F1B with the weight gradient split off and put where the pipeline drains.

Model
-----
Stage i of p warms up as in 1F1B, with p - i - 1 forward passes, and runs W of a microbatch i microbatches after its B.
With uniform stages, no communication, W <= B and m >= p the bubble is (p - 1)(F + B - W), B being the backward pass by
input alone. A stage keeps what p microbatches keep at most, as 1F1B's first stage.

References
----------
Qi et al., "Zero bubble pipeline parallelism", 2023, section 2.1 and table 1.
"""

from workloads.schedules.base import Order
from workloads.schedules.delayed_weights import delayed_weights
from workloads.schedules.pipeline import Pipeline

__all__ = ["zb_h1"]


def zb_h1(pipeline: Pipeline) -> Order:
    """Return the passes of every stage.

    >>> for stage in zb_h1(Pipeline(num_stages=2, num_microbatches=3)):
    ...     print("".join(p.kind + str(p.microbatch) for p in stage))
    F0F1B0W0F2B1W1B2W2
    F0B0F1B1W0F2B2W1W2
    """
    p, m = pipeline.num_stages, pipeline.num_microbatches
    return [delayed_weights(m, warm_up=p - stage - 1, delay=stage) for stage in range(p)]
