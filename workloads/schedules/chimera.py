"""Chimera: two pipelines over the same stages, one down and one up, each with half of the microbatches.

Model
-----
Microbatches come in units of p, half of each going down (chunk 0) and half up (chunk 1), both as in 1F1B with a turn of
F as long as one of B: the two take the odd and the even turns of every stage, and a unit starts where the one before it
leaves turns free. The bubble is (p - 2) / 2 (F + B) for F = B (the whole backward pass) and m a multiple of p: the
fraction (p - 2) / (2 m + p - 2). Each stage keeps the weights of two parts of the model.

Assumptions
-----------
Passes run in the order of these turns, whatever their real lengths are (units are concatenated directly).

References
----------
Li and Hoefler, "Chimera: efficiently training large-scale neural networks with bidirectional pipelines", 2021,
sections 3.1 and 3.5, table 2.
"""

from workloads.schedules.base import Order, Pass, Step
from workloads.schedules.pipeline import Pipeline, require

__all__ = ["check_chimera", "chimera"]


def check_chimera(pipeline: Pipeline) -> None:
    """Refuse a pipeline that the schedule cannot run.

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
    return [_stage(stage, p, pipeline.num_microbatches) for stage in range(p)]


def _stage(stage: int, num_stages: int, num_microbatches: int) -> list[Step]:
    """Return a stage's passes in the order of their turns."""
    timed = []
    for i in range(num_microbatches):
        unit, place = divmod(i, num_stages)
        in_unit = min(num_stages, num_microbatches - unit * num_stages)
        chunk = int(place >= (in_unit + 1) // 2)
        along = num_stages - 1 - stage if chunk else stage
        start = 2 * num_stages * unit + 2 * (place - chunk * ((in_unit + 1) // 2))
        timed.append((start + along, Pass("F", i, chunk)))
        timed.append((start + 2 * num_stages - 1 - along, Pass("B", i, chunk)))
    return [one for _, one in sorted(timed)]
