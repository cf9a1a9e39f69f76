"""Chimera: two pipelines over the same stages, one down and one up, each with half of the microbatches.

Model
-----
Microbatches come in units of p. Half of a unit goes down the stages (chunk 0) and half goes up (chunk 1), both as in
1F1B with slots of equal length for F and B: one half takes the odd slots of every stage and the other half the even
slots, and a unit starts where the unit before it leaves slots free. The bubble is (p - 2) / 2 (F + B) for F = B (the
whole backward pass) and m a multiple of p: the fraction (p - 2) / (2 m + p - 2). Each stage keeps the weights of two
chunks of the model.

Assumptions
-----------
Passes run in the order of these slots, whatever their real lengths are (units are concatenated directly).

References
----------
Li and Hoefler, "Chimera: efficiently training large-scale neural networks with bidirectional pipelines", 2021,
sections 3.1 and 3.5, table 2.
"""

from workloads.schedules.passes import Order, Pass, Step
from workloads.schedules.pipeline import Pipeline, require

__all__ = ["check_chimera", "chimera"]


def check_chimera(pipeline: Pipeline) -> None:
    """Refuse an odd number of stages.

    Raises
    ------
    InvalidValueError
        The number of stages is odd.
    """
    p = pipeline.num_stages
    require(p % 2 == 0, "parallel.pp", "be even for chimera", p, "Two pipelines meet halfway.")


def chimera(pipeline: Pipeline) -> Order:
    """Chimera: two pipelines over the same stages, one down and one up, each with half of the microbatches.

    >>> for stage in chimera(Pipeline(num_stages=2, num_microbatches=2)):
    ...     print(" ".join(f"{p.kind}{p.microbatch}.{p.chunk}" for p in stage))
    F0.0 F1.1 B1.1 B0.0
    F1.1 F0.0 B0.0 B1.1
    """
    p = pipeline.num_stages
    return [_steps(stage, p, pipeline.num_microbatches) for stage in range(p)]


def _steps(stage: int, num_stages: int, num_microbatches: int) -> list[Step]:
    """Return the passes of a stage in the order of their slots."""
    slotted = []
    for i in range(num_microbatches):
        unit, number = divmod(i, num_stages)
        half = (min(num_stages, num_microbatches - unit * num_stages) + 1) // 2
        chunk = int(number >= half)
        hops = num_stages - 1 - stage if chunk else stage
        start = 2 * num_stages * unit + 2 * (number - chunk * half)
        slotted.append((start + hops, Pass("F", i, chunk)))
        slotted.append((start + 2 * num_stages - 1 - hops, Pass("B", i, chunk)))
    return [pass_ for _, pass_ in sorted(slotted)]
