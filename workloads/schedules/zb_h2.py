"""ZB-H2: the warm-up of ZB-H1 doubled, so that no stage waits between its first pass and its last.

Model
-----
Stage i of p warms up with 2 (p - i - 1) forward passes and runs W of a microbatch 2 i microbatches after its B. A stage
holds 2 p - 1 microbatches at most where W holds no more than B; where it holds s times that, s > 1, up to s (2 p - 1)
(`delayed_weights`).

The published bubble (p - 1)(F + B - 2 W), B being the backward pass by input alone, is that of the stage with the
longest span, from its own first pass to its own last: stages start and end one after another, and the optimizer must
not wait for all of them. It holds for uniform stages without communication, W <= F and m >= 2 p - 1, and is none where
that is negative: (p - 1) max(0, F + B - 2 W).

References
----------
Qi et al., "Zero bubble pipeline parallelism", 2023, section 2.2 and table 1.
"""

from workloads.schedules.base import Order
from workloads.schedules.delayed_weights import delayed_weights
from workloads.schedules.pipeline import Pipeline

__all__ = ["zb_h2"]


def zb_h2(pipeline: Pipeline) -> Order:
    """ZB-H2: the warm-up of ZB-H1 doubled, so that no stage waits between its first pass and its last.

    >>> for stage in zb_h2(Pipeline(num_stages=2, num_microbatches=3)):
    ...     print("".join(p.kind + str(p.microbatch) for p in stage))
    F0F1F2B0W0B1W1B2W2
    F0B0F1B1F2B2W0W1W2
    """
    return delayed_weights(pipeline, 2)
