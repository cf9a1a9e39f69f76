"""Forward passes alone: microbatches stream through the stages in order, as in prefill."""

from workloads.schedules.base import Pass

__all__ = ["forward_only"]


def forward_only(num_stages: int, num_microbatches: int) -> list[list[Pass]]:
    """Return F0 F1 F2 ... for every stage.

    >>> forward_only(1, 2)
    [[Pass(kind='F', microbatch=0, chunk=0), Pass(kind='F', microbatch=1, chunk=0)]]
    """
    return [[Pass("F", i) for i in range(num_microbatches)] for _ in range(num_stages)]
