"""ZB-1p: F, B and W placed automatically within the activations of 1F1B, p microbatches.

Model
-----
See `zb_auto`: no stage's span is longer than ZB-H1's longest, where that holds no more than p microbatches (W no more
than B). The published bubbles are those of ZB-H1.

References
----------
Qi et al., "Zero bubble pipeline parallelism", 2023, sections 3 and 4.
"""

from workloads.schedules.base import Order
from workloads.schedules.pipeline import Pipeline
from workloads.schedules.zb_auto import zb_auto

__all__ = ["zb_1p"]


def zb_1p(pipeline: Pipeline) -> Order:
    """ZB-1p: F, B and W placed automatically within the activations of 1F1B, p microbatches.

    >>> "".join(p.kind + str(p.microbatch) for p in zb_1p(Pipeline(num_stages=2, num_microbatches=2))[0])
    'F0F1B0W0B1W1'
    """
    return zb_auto(pipeline, limits=[1])
