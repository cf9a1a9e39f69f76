"""ZB-V, V-Half and V-Min: each microbatch runs down the stages in one chunk and back up in another chunk.

Model
-----
The last chunk of the model stands on stage 0 with the first chunk: its backward pass starts at once, and all stages
need about equally much memory. The schedules repeat a *building block*: F of chunk 0 runs down the stages, F of chunk 1
up, B of chunk 1 down and B of chunk 0 up, each `strides` slots after the same pass on the stage before. All slots are
equally long. Between two of these four runs a microbatch waits. The next microbatch does the same six slots later (F, B
and W of two chunks): no two passes of a stage may fall on one slot modulo six, and the two slots left over are those of
W. Of the waits for which that holds, the waits with the lowest peak of memory are taken, and of these the shortest.

The activations of a chunk live from its F to its W; their number on a stage is that time over six slots, so that
shorter strides mean less memory and more bubble:

              strides of F0, F1, B1, B0    microbatches in flight
    ZB-V      4, 2, 4, 2                   p
    V-Half    2, 1, 2, 1                   (p + 2) / 2, rounded down
    V-Min     1, 1, 1, 1                   (p + 4) / 3, rounded down

While the pipeline fills and while it drains slots stay free, and `SlotSchedule` squeezes passes into them, within the
memory of the block. Between these phases the block repeats unchanged.

Where F = B = W and m >= p, the bubble of V-Half is at most half of that of 1F1B (0.40 of it for 8 stages, 0.46 for 16)
and the bubble of V-Min at most two thirds. Where F, B and W differ, the bubble of V-Min grows with m, for V-Min keeps
nothing in flight to fill gaps with.

ZB-V places F, B and W by `schedule_search` within p microbatches in flight. Where the stages of that order wait between
their own first pass and their own last, it is compared with the repeated block, and the shorter order is taken. No
stage waits where F = B = W, for m >= 2 p, if W keeps no more than B. Where W keeps more than B, fewer forward passes
run ahead, so that the limit is kept; where W of one chunk with another chunk exceeds the limit, at most p M_B + (M_W -
M_B) / 2 is in flight (`ListScheduler`).

Assumptions
-----------
ZB-V considers the block where the order has at most 60,000 passes and W keeps no more than B, as the block counts
memory; otherwise the rules of `schedule_search` alone decide.

References
----------
Qi et al., "Pipeline parallelism with controllable memory", 2024, section 3. The strides of the block and the
reordering are those of the authors' program (sail-sg/zero-bubble-pipeline-parallelism, `zbv_greedy`); the table of the
authors' playground has memory (p + 2) // 2 and (p + 4) // 3, and bubbles of about p / (2 m) and 2 p / (3 m).
"""

from itertools import product

from workloads.schedules.passes import Order, Pass
from workloads.schedules.pipeline import ChunkLayout, Pipeline
from workloads.schedules.schedule_search import MAX_PASSES, Rule, best_schedule, longest_span_ns
from workloads.schedules.slot_schedule import RUNS, SlotSchedule

__all__ = ["v_half", "v_min", "zb_v"]

_PERIOD = 6
_STRIDES = (4, 2, 4, 2)
_PRIORITIES = (
    (("F", 0), ("F", 1), ("B", 0), ("B", 1)),
    (("B", 0), ("B", 1), ("F", 0), ("F", 1)),
    (("B", 0), ("F", 0), ("F", 1), ("B", 1)),
    (("F", 0), ("B", 0), ("F", 1), ("B", 1)),
    (("B", 1), ("B", 0), ("F", 1), ("F", 0)),
)

_Slots = tuple[int, ...]
"""Slots of the first microbatch on one stage: of the four runs, then of W after B1 and of W after B0."""


def zb_v(pipeline: Pipeline) -> Order:
    """ZB-V: each microbatch runs down the stages in one chunk and back up in another, within the activations of 1F1B.

    >>> " ".join(f"{p.kind}{p.microbatch}.{p.chunk}" for p in zb_v(Pipeline(num_stages=1, num_microbatches=1))[0])
    'F0.0 F0.1 B0.1 B0.0 W0.1 W0.0'
    """
    p = pipeline.num_stages
    layout = ChunkLayout(kind="vee", num_stages=p, num_chunks=2)
    schedule = best_schedule(pipeline, layout, _rules, max_in_flight=2 * p)
    if schedule is None:
        raise RuntimeError("without a bound some rule gives an order")
    considers_block = 6 * p * pipeline.num_microbatches <= MAX_PASSES and pipeline.weight_share <= 1
    if considers_block and schedule.longest_span_ns > schedule.max_work_ns:
        block_order = _repeated_block(pipeline, _STRIDES)
        if longest_span_ns(block_order, pipeline, layout) < schedule.longest_span_ns:
            return block_order
    return schedule.order()


def v_half(pipeline: Pipeline) -> Order:
    """V-Half: half the activations of 1F1B, in the V shape.

    >>> " ".join(f"{p.kind}{p.microbatch}.{p.chunk}" for p in v_half(Pipeline(num_stages=2, num_microbatches=1))[0])
    'F0.0 F0.1 B0.1 W0.1 B0.0 W0.0'
    """
    return _repeated_block(pipeline, (2, 1, 2, 1))


def v_min(pipeline: Pipeline) -> Order:
    """V-Min: a third of the activations of 1F1B, in the V shape.

    >>> " ".join(f"{p.kind}{p.microbatch}.{p.chunk}" for p in v_min(Pipeline(num_stages=2, num_microbatches=1))[0])
    'F0.0 F0.1 B0.1 W0.1 B0.0 W0.0'
    """
    return _repeated_block(pipeline, (1, 1, 1, 1))


def _rules(num_stages: int) -> list[Rule]:
    """Return the rules that ZB-V tries: the warm-up, the smallest gap that W fills, and what goes first."""
    p = num_stages
    warm_ups = [[2 * (p - i) - 1 for i in range(p)], [2 * (p - i) for i in range(p)]]
    return [
        Rule(priority=priority, max_lead=tuple(warm_up), min_gap=min_gap)
        for warm_up, min_gap, priority in product(warm_ups, (0.0, 1.0, 0.5), _PRIORITIES)
    ]


# ---- the building block ------------------------------------------------------------------------------------------


def _repeated_block(pipeline: Pipeline, strides: tuple[int, int, int, int]) -> Order:
    """Return the passes of every stage, for the strides of F0, F1, B1 and B0."""
    p, m = pipeline.num_stages, pipeline.num_microbatches
    block = _block_of_least_memory(p, strides)
    peak = max(map(_peak_in_flight, block))
    schedule = SlotSchedule(block, num_microbatches=m, period=_PERIOD, max_in_flight=peak)
    # On stage 0 the first B of chunk 0 ends the filling, and the last F of chunk 0 comes before the draining.
    filling, draining = range(block[0][RUNS.index(("B", 0))]), range(_PERIOD * (m - 1) + 1, schedule.num_slots)
    if draining.start <= filling.stop:  # nothing repeats
        filling = draining = range(schedule.num_slots)
    schedule.squeeze(filling)
    schedule.squeeze(draining)
    schedule.squeeze(draining, displaces_weights=True)
    passes = [Pass(kind, i, chunk) for kind, chunk in (*RUNS, ("W", 1), ("W", 0)) for i in range(m)]
    return [[passes[number] for number in numbers] for numbers in schedule.order()]


def _block_of_least_memory(num_stages: int, strides: tuple[int, int, int, int]) -> list[_Slots]:
    """Return the slots of every stage for the waits that need the least memory, and of those waits the shortest."""
    candidates = []
    for waits in product(range(_PERIOD), repeat=3):
        runs, start = [], 0
        for number, (stride, wait) in enumerate(zip(strides, (*waits, 0), strict=True)):
            run = [start + stride * step for step in range(num_stages)]
            start = run[-1] + 1 + wait
            runs.append(run if number % 2 == 0 else run[::-1])
        stages = list(zip(*runs, strict=True))
        if all(len({slot % _PERIOD for slot in slots}) == len(RUNS) for slots in stages):
            block = [_with_weights(slots) for slots in stages]
            candidates.append((max(map(_peak_in_flight, block)), sum(waits), block))
    if not candidates:
        raise RuntimeError(f"strides {strides} leave no block for {num_stages} stages")
    return min(candidates, key=lambda candidate: candidate[:2])[2]


def _with_weights(slots: _Slots) -> _Slots:
    """Return the slots with those of W: after each B the first slot that is left over."""
    taken = {slot % _PERIOD for slot in slots}
    weights = []
    for backward in slots[2:]:  # B1 ends before B0
        weight = next(slot for slot in range(backward + 1, backward + _PERIOD + 1) if slot % _PERIOD not in taken)
        taken.add(weight % _PERIOD)
        weights.append(weight)
    return (*slots, *weights)


def _peak_in_flight(slots: _Slots) -> int:
    """Return the most chunks that a stage has in flight, from F to W, while the block repeats.

    >>> _peak_in_flight((0, 1, 2, 3, 4, 5))
    2
    """
    forward, weights = slots[:2], slots[-2:]
    return max(
        sum((now - slot) // _PERIOD for slot in forward) - sum((now - slot) // _PERIOD for slot in weights)
        for now in forward
    )
