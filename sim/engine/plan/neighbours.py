"""What a pass needs, and where its output goes, in a pipeline whose stages stand in a row.

Model
-----
F of a stage needs F of the stage before it; B needs its own F and B of the stage after it.
"""

from sim.engine.ops import Input
from workloads.schedules import Pass

__all__ = ["inputs_of", "target_of"]


def inputs_of(stage: int, num_stages: int, chosen: Pass) -> tuple[Input, ...]:
    """Return what a pass needs before it opens.

    >>> inputs_of(0, 2, Pass("B", 3))
    (Input(stage=0, kind='F', microbatch=3, chunk=0), Input(stage=1, kind='B', microbatch=3, chunk=0))
    """
    if chosen.kind == "F":
        return (Input(stage - 1, *chosen),) if stage > 0 else ()
    own = Input(stage, "F", chosen.microbatch, chosen.chunk)
    return (own, Input(stage + 1, *chosen)) if stage < num_stages - 1 else (own,)


def target_of(stage: int, num_stages: int, chosen: Pass) -> int | None:
    """Return the stage that a pass's output goes to; None at the end of the row.

    >>> target_of(0, 2, Pass("F", 0)), target_of(0, 2, Pass("B", 0))
    (1, None)
    """
    target = stage + 1 if chosen.kind == "F" else stage - 1
    return target if 0 <= target < num_stages else None
