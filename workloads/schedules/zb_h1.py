"""ZB-H1: 1F1B with the weight gradient split off and put where the pipeline drains.

Model
-----
Stage i of p warms up as in 1F1B, with p - i - 1 forward passes, and runs W of a microbatch i microbatches after its B.
With uniform stages and no communication, B being the backward pass by input alone:

- for m >= p and W <= B the bubble is (p - 1) max(B, F + B - W): that of the paper, (p - 1)(F + B - W), where W <= F;
  where F < W <= B all wait for the first B.
- for m <= p, W <= F and W <= B all ends after (m + p - 1)(F + B) + W (appendix H of the paper).

A stage holds p microbatches at most, as 1F1B's first stage, where W holds no more than B; where it holds s times that,
s > 1, up to s p (`delayed_weights`).

References
----------
Qi et al., "Zero bubble pipeline parallelism", 2023, section 2.1, table 1 and appendix H.
"""

from workloads.schedules.base import Order
from workloads.schedules.delayed_weights import delayed_weights
from workloads.schedules.pipeline import Pipeline

__all__ = ["zb_h1"]


def zb_h1(pipeline: Pipeline) -> Order:
    """ZB-H1: 1F1B with the weight gradient split off and put where the pipeline drains.

    >>> for stage in zb_h1(Pipeline(num_stages=2, num_microbatches=3)):
    ...     print("".join(p.kind + str(p.microbatch) for p in stage))
    F0F1B0W0F2B1W1B2W2
    F0B0F1B1W0F2B2W1W2
    """
    return delayed_weights(pipeline, 1)
