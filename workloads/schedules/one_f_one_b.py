"""1F1B and interleaved 1F1B: after a warm-up, each stage alternates one forward and one backward pass.

Model
-----
*1F1B* (PipeDream-Flush): stage i of p warms up with min(m, p - i - 1) forward passes, then alternates, then drains.
With uniform stages and no communication the bubble is that of GPipe, (p - 1)(F + B), the fraction (p - 1) / (m + p -
1), for every p and m; B is the whole backward pass. A stage keeps the activations of at most p - i microbatches.

*Interleaved*: each stage has v chunks of the model, round robin. Microbatches pass in groups; a group goes through
chunk 0, then chunk 1 and so on, before the next group starts. Stage i warms up with 2 (p - i - 1) + (v - 1) g forward
passes, g the size of the first group, then alternates. The bubble is (p - 1)(F + B) / v with uniform stages and no
communication, for m a multiple of p and F and B (the whole backward pass) that divide by v; hops are v times as many as
in 1F1B.

*Pairs* (`Pipeline.pairs`): each stage warms up with one forward pass more, and then runs each forward pass together
with the next backward pass. The two never wait for each other, for the backward pass is that of an earlier microbatch.
So does Megatron Core, of interleaved schedules and of a single stage, which warms up with one pass.

Assumptions
-----------
Groups of interleaved 1F1B have p microbatches. Where m does not divide by p the first group takes the remainder too: a
smaller last group would leave stages waiting for each other for ever. The bubble is then longer than the closed form,
and more activations are kept.

References
----------
Narayanan et al., "Efficient large-scale language model training on GPU clusters using Megatron-LM", 2021, section 2.2.
Korthikanti et al., "Reducing activation recomputation in large transformer models", 2022, section 4.2.3 (activations).
Megatron-LM, megatron/core/pipeline_parallel/combined_1f1b.py and schedules.py, `get_pp_rank_microbatches` (pairs).
"""

from collections.abc import Sequence

from workloads.schedules.passes import Order, Pair, Pass, Step
from workloads.schedules.pipeline import Pipeline

__all__ = ["interleaved", "interleaved_in_flight", "one_f_one_b"]


def one_f_one_b(pipeline: Pipeline) -> Order:
    """1F1B (PipeDream-Flush): after a warm-up, each stage alternates one forward and one backward pass.

    >>> for stage in one_f_one_b(Pipeline(num_stages=2, num_microbatches=3)):
    ...     print("".join(p.kind + str(p.microbatch) for p in stage))
    F0F1B0F2B1B2
    F0B0F1B1F2B2
    """
    p, m, pairs = pipeline.num_stages, pipeline.num_microbatches, pipeline.pairs
    forward, backward = ([Pass(kind, i) for i in range(m)] for kind in "FB")
    return [_alternate(forward, backward, p - stage - 1, pairs=pairs) for stage in range(p)]


def interleaved(pipeline: Pipeline) -> Order:
    """Interleaved 1F1B: each stage holds v chunks of the model, and microbatches go round the stages v times.

    >>> for stage in interleaved(Pipeline(num_stages=2, num_microbatches=2, num_chunks=2)):
    ...     print(" ".join(f"{p.kind}{p.microbatch}.{p.chunk}" for p in stage))
    F0.0 F1.0 F0.1 F1.1 B0.1 B1.1 B0.0 B1.0
    F0.0 F1.0 F0.1 B0.1 F1.1 B1.1 B0.0 B1.0
    """
    p, m, v = pipeline.num_stages, pipeline.num_microbatches, pipeline.num_chunks
    first = _first_group(pipeline)
    groups = [range(first), *(range(start, start + p) for start in range(first, m, p))]
    forward = [Pass("F", i, chunk) for group in groups for chunk in range(v) for i in group]
    backward = [Pass("B", i, chunk) for group in groups for chunk in reversed(range(v)) for i in group]
    return [
        _alternate(forward, backward, 2 * (p - stage - 1) + (v - 1) * first, pairs=pipeline.pairs) for stage in range(p)
    ]


def interleaved_in_flight(pipeline: Pipeline) -> int:
    """Return the most chunks whose activations a stage has in flight: those of the warm-up of stage 0, and one more.

    >>> interleaved_in_flight(Pipeline(num_stages=4, num_microbatches=8, num_chunks=2))
    11
    """
    p, v = pipeline.num_stages, pipeline.num_chunks
    return min(pipeline.num_microbatches * v, 2 * (p - 1) + (v - 1) * _first_group(pipeline) + 1 + pipeline.pairs)


def _first_group(pipeline: Pipeline) -> int:
    """Return the size of the first group: p microbatches, and the remainder of m over p."""
    p, m = pipeline.num_stages, pipeline.num_microbatches
    return p + m % p if m >= p else m


def _alternate(forward: Sequence[Pass], backward: Sequence[Pass], warm_up: int, *, pairs: bool) -> list[Step]:
    """Return `warm_up` forward passes, then a forward and a backward pass in turn, then the other backward passes.

    With `pairs` a forward and a backward pass run together, after one forward pass more.

    >>> steps = _alternate([Pass("F", i) for i in range(3)], [Pass("B", i) for i in range(3)], 0, pairs=True)
    >>> steps[1:]
    [Pair(kind='FB', microbatch=1, chunk=0, backward_microbatch=0, backward_chunk=0), \
Pair(kind='FB', microbatch=2, chunk=0, backward_microbatch=1, backward_chunk=0), Pass(kind='B', microbatch=2, chunk=0)]
    """
    warm_up = min(len(forward), warm_up + pairs)
    steps: list[Step] = [*forward[:warm_up]]
    for f, b in zip(forward[warm_up:], backward, strict=False):
        steps += [Pair("FB", f.microbatch, f.chunk, b.microbatch, b.chunk)] if pairs else [f, b]
    return [*steps, *backward[len(forward) - warm_up :]]
