"""GPipe: all forward passes, then all backward passes.

Model
-----
With uniform stages and no communication the bubble is (p - 1)(F + B), the fraction (p - 1) / (m + p - 1), for every
number of stages p and of microbatches m. Each stage keeps the activations of all m microbatches.

References
----------
Huang et al., "GPipe: Efficient training of giant neural networks using pipeline parallelism", 2019, section 2.
"""

from workloads.schedules.base import Pass

__all__ = ["gpipe"]


def gpipe(num_stages: int, num_microbatches: int) -> list[list[Pass]]:
    """Return F0..Fm-1 B0..Bm-1 for every stage.

    >>> "".join(p.kind + str(p.microbatch) for p in gpipe(1, 2)[0])
    'F0F1B0B1'
    """
    one = [Pass(kind, i) for kind in ("F", "B") for i in range(num_microbatches)]
    return [list(one) for _ in range(num_stages)]
