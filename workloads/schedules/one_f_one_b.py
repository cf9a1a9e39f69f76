"""1F1B (PipeDream-Flush): after a warm-up, each stage alternates one forward and one backward pass.

Model
-----
Stage i of p warms up with min(m, p - i - 1) forward passes, then alternates, then drains. With uniform stages and no
communication the bubble is that of GPipe, (p - 1)(F + B), the fraction (p - 1) / (m + p - 1), for every p and m; B is
the whole backward pass. A stage keeps the activations of at most p - i microbatches.

References
----------
Narayanan et al., "Efficient large-scale language model training on GPU clusters using Megatron-LM", 2021, section 2.2.
"""

from workloads.schedules.base import Order, Pass, Step
from workloads.schedules.pipeline import Pipeline

__all__ = ["one_f_one_b"]


def one_f_one_b(pipeline: Pipeline) -> Order:
    """1F1B (PipeDream-Flush): after a warm-up, each stage alternates one forward and one backward pass.

    >>> for stage in one_f_one_b(Pipeline(num_stages=2, num_microbatches=3)):
    ...     print("".join(p.kind + str(p.microbatch) for p in stage))
    F0F1B0F2B1B2
    F0B0F1B1F2B2
    """
    p, m = pipeline.num_stages, pipeline.num_microbatches
    return [_stage(min(m, p - stage - 1), m) for stage in range(p)]


def _stage(warm_up: int, num_microbatches: int) -> list[Step]:
    passes: list[Step] = [Pass("F", i) for i in range(warm_up)]
    for i in range(num_microbatches - warm_up):
        passes += [Pass("F", warm_up + i), Pass("B", i)]
    return passes + [Pass("B", i) for i in range(num_microbatches - warm_up, num_microbatches)]
