"""GPipe: all forward passes, then all backward passes.

Model
-----
With uniform stages and no communication the bubble is (p - 1)(F + B), the fraction (p - 1) / (m + p - 1), for every
number of stages p and of microbatches m; B is the whole backward pass. Each stage keeps the activations of all m
microbatches.

References
----------
Huang et al., "GPipe: Efficient training of giant neural networks using pipeline parallelism", 2019, section 2.
"""

from workloads.schedules.base import Order, Pass, Step
from workloads.schedules.pipeline import Pipeline

__all__ = ["gpipe"]


def gpipe(pipeline: Pipeline) -> Order:
    """GPipe: all forward passes, then all backward passes.

    >>> "".join(p.kind + str(p.microbatch) for p in gpipe(Pipeline(num_stages=1, num_microbatches=2))[0])
    'F0F1B0B1'
    """
    one: list[Step] = [Pass(kind, i) for kind in ("F", "B") for i in range(pipeline.num_microbatches)]
    return [list(one) for _ in range(pipeline.num_stages)]
