"""How long the stages of an order are busy, from their own first pass to their own last, with given times.

Model
-----
A stage runs its passes in the order given, each as soon as the stage is free and what it needs of another stage has
come, a hop after its end there. Times are v times as long as given, as in `ShopFloor`.
"""

from collections.abc import Sequence

from workloads.schedules.base import Pass, Step
from workloads.schedules.pipeline import Pipeline
from workloads.schedules.placement import Placement

__all__ = ["longest_span_ns"]

_Key = tuple[int, str, int, int]
"""Stage, kind, chunk, microbatch."""


def longest_span_ns(order: Sequence[Sequence[Step]], pipeline: Pipeline, placement: Placement) -> int:
    """Return the longest time from a stage's first pass to its last, times v; of passes without pairs.

    >>> pipeline = Pipeline(num_stages=2, num_microbatches=2)
    >>> order = [[Pass("F", 0), Pass("F", 1)]] * 2
    >>> longest_span_ns(order, pipeline, Placement(kind="row", num_stages=2))
    2
    """
    sources = _sources(placement)
    hop_ns = pipeline.hop_ns * placement.num_chunks
    took = [{"F": t.forward_ns, "B": t.backward_ns, "W": t.weight_ns} for t in pipeline.stage_times]
    ends: dict[_Key, int] = {}
    waiting: dict[_Key, int] = {}
    num_stages = len(order)
    position, free, first = [0] * num_stages, [0] * num_stages, [-1] * num_stages
    todo = list(range(num_stages))
    while todo:
        stage = todo.pop()
        steps = order[stage]
        for at in range(position[stage], len(steps)):
            one = steps[at]
            start, source = free[stage], sources[stage].get((one.kind, one.chunk))
            if source is not None:
                needed = (*source, one.microbatch)
                if needed not in ends:
                    waiting[needed] = stage
                    position[stage] = at
                    break
                start = max(start, ends[needed] + hop_ns)
            first[stage] = start if first[stage] < 0 else first[stage]
            free[stage] = start + took[stage][one.kind]
            key = (stage, one.kind, one.chunk, one.microbatch)
            ends[key] = free[stage]
            if key in waiting:
                todo.append(waiting.pop(key))
    return max(end - start for end, start in zip(free, first, strict=True))


def _sources(placement: Placement) -> list[dict[tuple[str, int], tuple[int, str, int]]]:
    """Return, for each stage, what F and B need of another stage: (kind, chunk) -> (stage, kind, chunk)."""
    found: list[dict[tuple[str, int], tuple[int, str, int]]] = []
    for stage in range(placement.num_stages):
        of_stage = {}
        for kind in "FB":
            for chunk in range(placement.num_chunks):
                for other, needed in placement.needs(stage, Pass(kind, 0, chunk)):
                    if other != stage:
                        of_stage[kind, chunk] = (other, needed.kind, needed.chunk)
        found.append(of_stage)
    return found
