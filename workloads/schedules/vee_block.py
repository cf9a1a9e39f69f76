"""The repeated block of V-Half and V-Min: when each microbatch's passes start, in turns of equal length.

Model
-----
A microbatch runs F of chunk 0 down the stages, F of chunk 1 up, B of chunk 1 down and B of chunk 0 up, each `strides`
turns after the same pass on the stage before. Between two of these runs lie waits. The next microbatch does the same
six turns later (F, B and W of two chunks): no two passes of a stage may fall on one turn modulo six, and the two turns
left over are those of W. The waits are the shortest for which that holds.

A chunk's activations live from its F to its B; their number on a stage is that time over six turns, so that shorter
strides mean less memory and more bubble.

Passes run in the order of their turns. Each pass's turn lies after the turns of all that it needs: there is no
deadlock, whatever the passes' real lengths are.

References
----------
Qi et al., "Pipeline parallelism with controllable memory", 2024, section 3.
"""

from itertools import product

from workloads.schedules.base import Order, Pass, Step
from workloads.schedules.pipeline import Pipeline

__all__ = ["vee_block"]

_PERIOD = 6
_RUNS = (("F", 0), ("F", 1), ("B", 1), ("B", 0))


def vee_block(pipeline: Pipeline, strides: tuple[int, int, int, int]) -> Order:
    """Return the passes of every stage, for the strides of F0, F1, B1 and B0.

    >>> order = vee_block(Pipeline(num_stages=1, num_microbatches=1), (1, 1, 1, 1))
    >>> " ".join(f"{p.kind}{p.microbatch}.{p.chunk}" for p in order[0])
    'F0.0 F0.1 B0.1 B0.0 W0.1 W0.0'
    """
    p, m = pipeline.num_stages, pipeline.num_microbatches
    return [_stage(turns, m) for turns in zip(*_turns(p, strides), strict=True)]


def _turns(num_stages: int, strides: tuple[int, int, int, int]) -> list[list[int]]:
    """Return the turns of the first microbatch: of each run, of each stage."""
    for waits in sorted(product(range(_PERIOD), repeat=3), key=sum):
        runs, start = [], 0
        for run, (stride, wait) in enumerate(zip(strides, (*waits, 0), strict=True)):
            along = [start + stride * step for step in range(num_stages)]
            start = along[-1] + 1 + wait
            runs.append(along if run % 2 == 0 else along[::-1])
        if all(len({turn % _PERIOD for turn in turns}) == len(_RUNS) for turns in zip(*runs, strict=True)):
            return runs
    raise RuntimeError(f"strides {strides} leave no block for {num_stages} stages")


def _stage(turns: tuple[int, ...], num_microbatches: int) -> list[Step]:
    """Return a stage's passes, given the turns of its first microbatch."""
    taken = {turn % _PERIOD for turn in turns}
    block = [(turn, kind, chunk) for turn, (kind, chunk) in zip(turns, _RUNS, strict=True)]
    for back in (2, 3):  # W of each chunk on the first turn left over after its B
        turn = next(t for t in range(turns[back] + 1, turns[back] + _PERIOD + 1) if t % _PERIOD not in taken)
        taken.add(turn % _PERIOD)
        block.append((turn, "W", _RUNS[back][1]))
    timed = [(turn + _PERIOD * i, Pass(kind, i, chunk)) for turn, kind, chunk in block for i in range(num_microbatches)]
    return [one for _, one in sorted(timed)]
