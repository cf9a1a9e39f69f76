"""The repeated block of V-Half and V-Min: when each microbatch's passes start, in turns of equal length.

Model
-----
A microbatch runs F of chunk 0 down the stages, F of chunk 1 up, B of chunk 1 down and B of chunk 0 up, each `strides`
turns after the same pass on the stage before. Between two of these runs lie waits. The next microbatch does the same
six turns later (F, B and W of two chunks): no two passes of a stage may fall on one turn modulo six, and the two turns
left over are those of W. Of the waits for which that holds, those with the least peak of memory are taken, and of these
the shortest.

A chunk's activations live from its F to its W; their number on a stage is that time over six turns, so that shorter
strides mean less memory and more bubble.

While the pipeline fills and while it drains turns stay free, and `SlotSchedule` pulls passes forward into them, within
the memory of the block. Between these phases the block repeats as it is.

References
----------
Qi et al., "Pipeline parallelism with controllable memory", 2024, section 3; the block's strides and the
reordering are those of the authors' program (sail-sg/zero-bubble-pipeline-parallelism, `zbv_greedy`).
"""

from itertools import product

from workloads.schedules.base import Order, Pass
from workloads.schedules.pipeline import Pipeline
from workloads.schedules.slot_schedule import RUNS, SlotSchedule

__all__ = ["vee_block"]

_PERIOD = 6

_Turns = tuple[int, ...]
"""Turns of the first microbatch on one stage: of the four runs, then of W after B1 and after B0."""


def vee_block(pipeline: Pipeline, strides: tuple[int, int, int, int]) -> Order:
    """Return the passes of every stage, for the strides of F0, F1, B1 and B0.

    >>> order = vee_block(Pipeline(num_stages=1, num_microbatches=1), (1, 1, 1, 1))
    >>> " ".join(f"{p.kind}{p.microbatch}.{p.chunk}" for p in order[0])
    'F0.0 F0.1 B0.1 B0.0 W0.1 W0.0'
    """
    p, m = pipeline.num_stages, pipeline.num_microbatches
    block = _least_block(p, strides)
    table = SlotSchedule(block, num_microbatches=m, period=_PERIOD, most_held=max(map(_peak, block)))
    # On stage 0 the first B of chunk 0 ends the filling, and the last F of chunk 0 comes before the draining.
    filling, draining = range(block[0][RUNS.index(("B", 0))]), range(_PERIOD * (m - 1) + 1, table.num_turns)
    if draining.start <= filling.stop:  # nothing repeats
        filling = draining = range(table.num_turns)
    table.pull(filling)
    table.pull(draining)
    table.pull(draining, before_weights=True)
    passes = [[Pass(kind, i, chunk) for i in range(m)] for kind, chunk in (*RUNS, ("W", 1), ("W", 0))]
    flat = [one for row in passes for one in row]
    return [[flat[number] for number in numbers] for numbers in table.order()]


def _least_block(num_stages: int, strides: tuple[int, int, int, int]) -> list[_Turns]:
    """Return the block of every stage that needs the least memory, and of those the shortest."""
    found = []
    for waits in product(range(_PERIOD), repeat=3):
        runs, start = [], 0
        for run, (stride, wait) in enumerate(zip(strides, (*waits, 0), strict=True)):
            along = [start + stride * step for step in range(num_stages)]
            start = along[-1] + 1 + wait
            runs.append(along if run % 2 == 0 else along[::-1])
        stages = list(zip(*runs, strict=True))
        if all(len({turn % _PERIOD for turn in turns}) == len(RUNS) for turns in stages):
            block = [_with_weights(turns) for turns in stages]
            found.append((max(map(_peak, block)), sum(waits), block))
    if not found:
        raise RuntimeError(f"strides {strides} leave no block for {num_stages} stages")
    return min(found, key=lambda one: one[:2])[2]


def _with_weights(turns: _Turns) -> _Turns:
    """Return the turns with those of W: after each B the first turn that is left over."""
    taken = {turn % _PERIOD for turn in turns}
    weights = []
    for back in turns[2:]:  # B1 ends before B0
        weight = next(t for t in range(back + 1, back + _PERIOD + 1) if t % _PERIOD not in taken)
        taken.add(weight % _PERIOD)
        weights.append(weight)
    return (*turns, *weights)


def _peak(turns: _Turns) -> int:
    """Return the most chunks that a stage holds, from F to W, while the block repeats.

    >>> _peak((0, 1, 2, 3, 4, 5))
    2
    """
    forward, weights = turns[:2], turns[-2:]
    at = [
        sum((now - turn) // _PERIOD for turn in forward) - sum((now - turn) // _PERIOD for turn in weights)
        for now in forward
    ]
    return max(at)
