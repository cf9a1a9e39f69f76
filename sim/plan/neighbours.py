"""What a step needs, and where its passes' output goes, in the engine's terms.

Model
-----
F of a part of the model needs F of the part before it; B needs its own F and B of the part after it; W needs its own B.
Which part stands where, the schedule's placement says. A pair needs what both of its passes need. What goes from one
chunk of a stage to another of the same stage is not sent.
"""

from sim.plan.ops import Input
from workloads.schedules import ChunkLayout, Pass, Step, passes_of

__all__ = ["inputs_of", "target_of"]


def inputs_of(placement: ChunkLayout, stage: int, chosen: Step) -> tuple[Input, ...]:
    """Return what a step needs before it opens.

    >>> inputs_of(ChunkLayout(kind="row", num_stages=2), 0, Pass("B", 3))
    (Input(stage=0, kind='F', microbatch=3, chunk=0), Input(stage=1, kind='B', microbatch=3, chunk=0))
    """
    return tuple(Input(where, *one) for part in passes_of(chosen) for where, one in placement.dependencies(stage, part))


def target_of(placement: ChunkLayout, stage: int, chosen: Pass) -> int | None:
    """Return the stage that a pass's output is sent to; None where it stays or ends.

    >>> row = ChunkLayout(kind="row", num_stages=2)
    >>> target_of(row, 0, Pass("F", 0)), target_of(row, 0, Pass("B", 0))
    (1, None)
    """
    target = placement.receiver(stage, chosen)
    return None if target is None or target.stage == stage else target.stage
