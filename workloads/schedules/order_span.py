"""How long the stages of an order are busy, from their own first pass to their own last, with given times.

Model
-----
A stage runs its passes in the order given, each as soon as the stage is free and what it needs of another stage has
come, a hop after its end there. Times are v times as long as given, as in `ListScheduler`.
"""

from collections.abc import Sequence

from workloads.schedules.base import Pass, Step
from workloads.schedules.chunk_layout import ChunkLayout
from workloads.schedules.pipeline import Pipeline

__all__ = ["longest_span_ns"]


def longest_span_ns(order: Sequence[Sequence[Step]], pipeline: Pipeline, layout: ChunkLayout) -> int:
    """Return the longest time from a stage's first pass to its last, times v; of passes without pairs.

    >>> pipeline = Pipeline(num_stages=2, num_microbatches=2)
    >>> order = [[Pass("F", 0), Pass("F", 1)]] * 2
    >>> longest_span_ns(order, pipeline, ChunkLayout(kind="row", num_stages=2))
    2
    """
    runs = _runs(pipeline, layout)
    hop_ns = pipeline.hop_ns * layout.num_chunks
    num_stages = len(order)
    position, free, first = [0] * num_stages, [0] * num_stages, [-1] * num_stages
    todo = list(range(num_stages))
    while todo:
        stage = todo.pop()
        steps, of_stage, free_ns = order[stage], runs[stage], free[stage]
        for at in range(position[stage], len(steps)):
            one = steps[at]
            run, number = of_stage[one.kind, one.chunk], one.microbatch
            if run.source is not None:
                ended_ns = run.source.ends_ns.get(number)
                if ended_ns is None:
                    run.source.awaited[number] = stage
                    position[stage] = at
                    break
                free_ns = max(free_ns, ended_ns + hop_ns)
            if first[stage] < 0:
                first[stage] = free_ns
            free_ns += run.duration_ns
            run.ends_ns[number] = free_ns
            if number in run.awaited:
                todo.append(run.awaited.pop(number))
        free[stage] = free_ns
    return max(end - start for end, start in zip(free, first, strict=True))


class _Run:
    """The passes of one kind and chunk on one stage."""

    __slots__ = ("awaited", "duration_ns", "ends_ns", "source")

    def __init__(self, duration_ns: int) -> None:
        self.duration_ns = duration_ns
        self.ends_ns: dict[int, int] = {}  # by microbatch
        self.awaited: dict[int, int] = {}  # microbatch -> the stage that waits for it
        self.source: _Run | None = None


def _runs(pipeline: Pipeline, layout: ChunkLayout) -> list[dict[tuple[str, int], _Run]]:
    """Return the passes of every stage by kind and chunk, each with those of another stage that it needs."""
    runs = [
        {
            (kind, chunk): _Run(duration_ns)
            for kind, duration_ns in (("F", times.forward_ns), ("B", times.backward_ns), ("W", times.weight_ns))
            for chunk in range(layout.num_chunks)
        }
        for times in pipeline.stage_times
    ]
    for stage, of_stage in enumerate(runs):
        for (kind, chunk), run in of_stage.items():
            for other, needed in layout.needs(stage, Pass(kind, 0, chunk)):
                if other != stage:
                    run.source = runs[other][needed.kind, needed.chunk]
    return runs
