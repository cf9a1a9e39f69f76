"""GPipe and breadth-first: all forward passes, then all backward passes, chunk by chunk.

Model
-----
All microbatches pass a chunk before any microbatch passes the next chunk. Breadth-first has v chunks on each stage,
round robin; GPipe has one chunk. With uniform stages and no communication the bubble is, B being the whole backward
pass,

- GPipe: (p - 1)(F + B), the fraction (p - 1) / (m + p - 1), for every number of stages p and of microbatches m;
- breadth-first: (p - 1)(F + B) / v, for m >= p and F and B that divide by v.

Each stage keeps the activations of all m microbatches. In breadth-first the weights of a chunk are needed in one
stretch of time, which suits sharded data parallelism.

References
----------
Huang et al., "GPipe: Efficient training of giant neural networks using pipeline parallelism", 2019, section 2.
Lamy-Poirier, "Breadth-first pipeline parallelism", 2023, section 4.
"""

from workloads.schedules.passes import Order, Pass, Step
from workloads.schedules.pipeline import Pipeline

__all__ = ["breadth_first", "gpipe"]


def gpipe(pipeline: Pipeline) -> Order:
    """GPipe: all forward passes, then all backward passes.

    >>> "".join(p.kind + str(p.microbatch) for p in gpipe(Pipeline(num_stages=1, num_microbatches=2))[0])
    'F0F1B0B1'
    """
    return _chunk_by_chunk(pipeline, 1)


def breadth_first(pipeline: Pipeline) -> Order:
    """Breadth-first: all microbatches pass a chunk before any passes the next one, forward and then backward.

    >>> order = breadth_first(Pipeline(num_stages=1, num_microbatches=2, num_chunks=2))
    >>> " ".join(f"{p.kind}{p.microbatch}.{p.chunk}" for p in order[0])
    'F0.0 F1.0 F0.1 F1.1 B0.1 B1.1 B0.0 B1.0'
    """
    return _chunk_by_chunk(pipeline, pipeline.num_chunks)


def _chunk_by_chunk(pipeline: Pipeline, num_chunks: int) -> Order:
    """Return the steps of every stage, which are the same for all stages."""
    chunks, microbatches = range(num_chunks), range(pipeline.num_microbatches)
    steps: list[Step] = [Pass("F", i, chunk) for chunk in chunks for i in microbatches]
    steps += [Pass("B", i, chunk) for chunk in reversed(chunks) for i in microbatches]
    return [list(steps) for _ in range(pipeline.num_stages)]
