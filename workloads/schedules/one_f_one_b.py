"""1F1B (PipeDream-Flush): after a warm-up, each stage alternates one forward and one backward pass.

Model
-----
Stage i of p warms up with min(m, p - i - 1) forward passes, then alternates, then drains. With uniform stages and no
communication the bubble is that of GPipe, (p - 1)(F + B), the fraction (p - 1) / (m + p - 1), for every p and m; a
stage keeps the activations of at most p - i microbatches.

References
----------
Narayanan et al., "Efficient large-scale language model training on GPU clusters using Megatron-LM", 2021, section 2.2.
"""

from workloads.schedules.base import Pass

__all__ = ["one_f_one_b"]


def one_f_one_b(num_stages: int, num_microbatches: int) -> list[list[Pass]]:
    """Return the passes of every stage.

    >>> for stage in one_f_one_b(2, 3):
    ...     print("".join(p.kind + str(p.microbatch) for p in stage))
    F0F1B0F2B1B2
    F0B0F1B1F2B2
    """
    return [_stage(min(num_microbatches, num_stages - stage - 1), num_microbatches) for stage in range(num_stages)]


def _stage(warm_up: int, num_microbatches: int) -> list[Pass]:
    passes = [Pass("F", i) for i in range(warm_up)]
    for i in range(num_microbatches - warm_up):
        passes += [Pass("F", warm_up + i), Pass("B", i)]
    return passes + [Pass("B", i) for i in range(num_microbatches - warm_up, num_microbatches)]
