"""Breadth-first: all microbatches pass a chunk before any passes the next one, forward and then backward.

Model
-----
GPipe on v chunks per stage, which stand as in the interleaved schedule. The bubble is (p - 1)(F + B) / v with uniform
stages and no communication, for m >= p and F and B (the whole backward pass) that divide by v. Each stage keeps the
activations of all m microbatches; a chunk's weights are needed in one stretch, which suits sharded data parallelism.

References
----------
Lamy-Poirier, "Breadth-first pipeline parallelism", 2023, section 4.
"""

from workloads.schedules.base import Order, Pass, Step
from workloads.schedules.pipeline import Pipeline

__all__ = ["breadth_first"]


def breadth_first(pipeline: Pipeline) -> Order:
    """Breadth-first: all microbatches pass a chunk before any passes the next one, forward and then backward.

    >>> order = breadth_first(Pipeline(num_stages=1, num_microbatches=2, num_chunks=2))
    >>> " ".join(f"{p.kind}{p.microbatch}.{p.chunk}" for p in order[0])
    'F0.0 F1.0 F0.1 F1.1 B0.1 B1.1 B0.0 B1.0'
    """
    chunks, microbatches = range(pipeline.num_chunks), range(pipeline.num_microbatches)
    one: list[Step] = [Pass("F", i, chunk) for chunk in chunks for i in microbatches]
    one += [Pass("B", i, chunk) for chunk in reversed(chunks) for i in microbatches]
    return [list(one) for _ in range(pipeline.num_stages)]
