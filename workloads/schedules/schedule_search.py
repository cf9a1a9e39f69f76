"""The search for the shortest order of passes: list schedules under several rules, with a limit of memory.

Model
-----
`ListScheduler` places the passes under a rule. An order is as short as the longest span of a stage, from its own first
pass to its own last pass; of the rules given, the rule with the shortest order wins.

Where all rules together would be too many passes to simulate, the rules are compared on shorter pipelines first: all
rules on 8 of the stages, evenly picked, and the best 12 rules on 16. A shorter pipeline has as many microbatches for
each stage, up to 8 and the remainder, and as much memory for each stage: how the warm-up, the wait for the first B and
the limit relate depends on these ratios, and so does which rule is best. The full pipeline is then run under the best
rules.

`longest_span_ns` gives the span of an order that is known: a stage runs its passes in the order given, each as soon as
the stage is free and what the pass needs of another stage has arrived, a hop after its end there.

All spans are v times as long as with the times given, as in `ListScheduler`.

Assumptions
-----------
Stages that are not picked do not influence the comparison on shorter pipelines: where stages differ, the rule that wins
may not be the best.

Cost
----
That of `ListScheduler` for each rule. On the full pipeline rules are tried while the passes simulated stay below
`MAX_PASSES`, the first rule always, until an order is found in which the busiest stage never waits: none is shorter.
A rule is abandoned as soon as its order can no longer be the shortest.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from workloads.schedules.list_scheduler import ListScheduler, Rule
from workloads.schedules.passes import Pass, Step
from workloads.schedules.pipeline import ChunkLayout, Pipeline

__all__ = ["MAX_PASSES", "Rule", "best_schedule", "longest_span_ns"]

MAX_PASSES = 60_000
"""Passes of the full pipeline that are simulated in search of a shorter order."""
_COMPARISONS = ((8, None), (16, 12))
"""Stages of each shorter pipeline, and how many rules are compared on it; None: all."""
_MICROBATCHES_PER_STAGE = 8
"""Microbatches of a shorter pipeline for each of its stages."""

RulesOf = Callable[[int], Sequence[Rule]]
"""The rules for a number of stages, always equally many and in the same order."""


def best_schedule(
    pipeline: Pipeline,
    layout: ChunkLayout,
    rules_of: RulesOf,
    *,
    max_in_flight: float,
    shorter_than_ns: float = math.inf,
) -> ListScheduler | None:
    """Return the list schedule under the rule that gives the shortest longest span.

    A stage has at most `max_in_flight` chunks in flight. None if no rule gives a span below `shorter_than_ns`, times v.

    >>> pipeline = Pipeline(num_stages=1, num_microbatches=2)
    >>> rule = Rule(priority=(("B", 0), ("F", 0)), max_lead=(1,), min_gap=1.0)
    >>> schedule = best_schedule(pipeline, ChunkLayout(kind="row", num_stages=1), lambda _: [rule], max_in_flight=2)
    >>> schedule.longest_span_ns, "".join(p.kind + str(p.microbatch) for p in schedule.order()[0])
    (6, 'F0B0F1B1W0W1')
    """
    rules = list(rules_of(pipeline.num_stages))
    num_passes = 3 * layout.num_chunks * pipeline.num_stages * pipeline.num_microbatches
    if len(rules) * num_passes > MAX_PASSES:
        numbers = _compare_on_fewer_stages(pipeline, layout, rules_of, max_in_flight=max_in_flight)
        rules = [rules[number] for number in numbers]
    best: ListScheduler | None = None
    num_simulated = 0
    for rule in rules:
        schedule = ListScheduler(pipeline, layout, rule, max_in_flight=max_in_flight, shorter_than_ns=shorter_than_ns)
        if not schedule.is_abandoned and schedule.longest_span_ns < shorter_than_ns:
            best, shorter_than_ns = schedule, schedule.longest_span_ns
        num_simulated += schedule.num_simulated
        if shorter_than_ns <= schedule.max_work_ns or num_simulated + schedule.num_simulated > MAX_PASSES:
            break
    return best


def _compare_on_fewer_stages(
    pipeline: Pipeline, layout: ChunkLayout, rules_of: RulesOf, *, max_in_flight: float
) -> list[int]:
    """Return the numbers of the rules that did best on shorter pipelines, the best rule first."""
    p = pipeline.num_stages
    numbers = list(range(len(rules_of(p))))
    for num_stages, num_rules in _COMPARISONS:
        if num_rules is not None and num_stages >= p:
            break
        shorter = _with_stages(pipeline, min(p, num_stages))
        rules, short_layout = rules_of(shorter.num_stages), replace(layout, num_stages=shorter.num_stages)
        limit = max_in_flight * shorter.num_stages / p
        spans_ns = {
            number: ListScheduler(shorter, short_layout, rules[number], max_in_flight=limit).longest_span_ns
            for number in numbers[:num_rules]
        }
        numbers = sorted(spans_ns, key=spans_ns.__getitem__)
    return numbers


def _with_stages(pipeline: Pipeline, num_stages: int) -> Pipeline:
    """Return a pipeline with fewer stages, evenly picked, and as many microbatches for each stage."""
    p = pipeline.num_stages
    num_microbatches = max(1, round(pipeline.num_microbatches * num_stages / p))
    return replace(
        pipeline,
        num_stages=num_stages,
        num_microbatches=min(num_microbatches, _MICROBATCHES_PER_STAGE * num_stages + num_microbatches % num_stages),
        times=tuple(pipeline.stage_times[(2 * i + 1) * p // (2 * num_stages)] for i in range(num_stages)),
    )


def longest_span_ns(order: Sequence[Sequence[Step]], pipeline: Pipeline, layout: ChunkLayout) -> int:
    """Return the longest time from the first pass of a stage to its last, times v; the order must be without pairs.

    >>> pipeline = Pipeline(num_stages=2, num_microbatches=2)
    >>> order = [[Pass("F", 0), Pass("F", 1)]] * 2
    >>> longest_span_ns(order, pipeline, ChunkLayout(kind="row", num_stages=2))
    2
    """
    queues = _pass_queues(pipeline, layout)
    hop_ns = pipeline.hop_ns * layout.num_chunks
    num_stages = len(order)
    position, free, first = [0] * num_stages, [0] * num_stages, [-1] * num_stages
    ready = list(range(num_stages))
    while ready:
        stage = ready.pop()
        steps, stage_queues, free_ns = order[stage], queues[stage], free[stage]
        for number in range(position[stage], len(steps)):
            step = steps[number]
            queue, microbatch = stage_queues[step.kind, step.chunk], step.microbatch
            if queue.source is not None:
                ended_ns = queue.source.ends_ns.get(microbatch)
                if ended_ns is None:
                    queue.source.waiting_stage[microbatch] = stage
                    position[stage] = number
                    break
                free_ns = max(free_ns, ended_ns + hop_ns)
            if first[stage] < 0:
                first[stage] = free_ns
            free_ns += queue.duration_ns
            queue.ends_ns[microbatch] = free_ns
            if microbatch in queue.waiting_stage:
                ready.append(queue.waiting_stage.pop(microbatch))
        free[stage] = free_ns
    return max(end - start for end, start in zip(free, first, strict=True))


class _PassQueue:
    """The passes of one kind and chunk on one stage."""

    __slots__ = ("duration_ns", "ends_ns", "source", "waiting_stage")

    def __init__(self, duration_ns: int) -> None:
        self.duration_ns = duration_ns
        self.ends_ns: dict[int, int] = {}  # by microbatch
        self.waiting_stage: dict[int, int] = {}  # by microbatch: the stage that waits for the end of its pass
        self.source: _PassQueue | None = None


def _pass_queues(pipeline: Pipeline, layout: ChunkLayout) -> list[dict[tuple[str, int], _PassQueue]]:
    """Return the queues of every stage by kind and chunk, each with the queue of another stage that it waits for."""
    queues = [
        {
            (kind, chunk): _PassQueue(duration_ns)
            for kind, duration_ns in (("F", times.forward_ns), ("B", times.backward_ns), ("W", times.weight_ns))
            for chunk in range(layout.num_chunks)
        }
        for times in pipeline.stage_times
    ]
    for stage, stage_queues in enumerate(queues):
        for (kind, chunk), queue in stage_queues.items():
            for sender, pass_ in layout.dependencies(stage, Pass(kind, 0, chunk)):
                if sender != stage:
                    queue.source = queues[sender][pass_.kind, pass_.chunk]
    return queues
