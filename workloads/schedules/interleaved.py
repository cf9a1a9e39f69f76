"""Interleaved 1F1B: each stage holds v chunks of the model, and microbatches go round the stages v times.

Model
-----
Microbatches pass in groups; a group goes through chunk 0, then chunk 1 and so on, before the next group starts. Stage i
warms up with 2 (p - i - 1) + (v - 1) g forward passes, g the size of the first group, then alternates.

The bubble is (p - 1)(F + B) / v with uniform stages and no communication, for m a multiple of p and F and B (the whole
backward pass) that divide by v; hops are v times as many as in 1F1B.

Assumptions
-----------
Groups are of p. Where m does not divide by p the first group takes the rest with it: a last group of fewer could not
fill its turns and deadlocks. The bubble is then longer than the closed form, and more activations are kept.

References
----------
Narayanan et al., "Efficient large-scale language model training on GPU clusters using Megatron-LM", 2021, section 2.2.
"""

from workloads.schedules.base import Order, Pass, Step
from workloads.schedules.pipeline import Pipeline

__all__ = ["interleaved", "interleaved_in_flight"]


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
    forward: list[Step] = [Pass("F", i, chunk) for group in groups for chunk in range(v) for i in group]
    backward: list[Step] = [Pass("B", i, chunk) for group in groups for chunk in reversed(range(v)) for i in group]
    warm_ups = (min(m * v, 2 * (p - stage - 1) + (v - 1) * first) for stage in range(p))
    return [_alternate(forward, backward, warm_up) for warm_up in warm_ups]


def interleaved_in_flight(pipeline: Pipeline) -> int:
    """Return the most chunks whose activations a stage has in flight: those of the warm-up of stage 0, and one more.

    >>> interleaved_in_flight(Pipeline(num_stages=4, num_microbatches=8, num_chunks=2))
    11
    """
    p, v = pipeline.num_stages, pipeline.num_chunks
    return min(pipeline.num_microbatches * v, 2 * (p - 1) + (v - 1) * _first_group(pipeline) + 1)


def _first_group(pipeline: Pipeline) -> int:
    """Return the number of microbatches of the first group: p, and those that no group of p takes."""
    p, m = pipeline.num_stages, pipeline.num_microbatches
    return p + m % p if m >= p else m


def _alternate(forward: list[Step], backward: list[Step], warm_up: int) -> list[Step]:
    passes = forward[:warm_up]
    for one, other in zip(forward[warm_up:], backward, strict=False):
        passes += [one, other]
    return passes + backward[len(forward) - warm_up :]
