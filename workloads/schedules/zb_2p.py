"""ZB-2p: F, B and W placed automatically within twice the activations of 1F1B, 2 p microbatches.

Model
-----
See `zb_auto`: no stage's span is longer than the longest of ZB-1p, nor of ZB-H2, where those hold no more than 2 p
microbatches. For m of 3 p or more the stages then wait little more than the hops before their first backward pass.

References
----------
Qi et al., "Zero bubble pipeline parallelism", 2023, sections 3 and 4.
"""

from workloads.schedules.base import Order
from workloads.schedules.pipeline import Pipeline
from workloads.schedules.zb_auto import zb_auto

__all__ = ["zb_2p"]


def zb_2p(pipeline: Pipeline) -> Order:
    """ZB-2p: F, B and W placed automatically within twice the activations of 1F1B, 2 p microbatches.

    >>> "".join(p.kind + str(p.microbatch) for p in zb_2p(Pipeline(num_stages=2, num_microbatches=3))[0])
    'F0F1F2B0W0B1W1B2W2'
    """
    return zb_auto(pipeline, limits=[2, 1])
