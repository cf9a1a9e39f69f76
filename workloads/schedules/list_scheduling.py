"""Orders of passes from a simulation of the stages under a limit of memory, for the automatic schedules.

Model
-----
A stage that is free takes the first pass that can start, in the order of `Rule.priority`. F must fit the memory: a
microbatch holds 1 of a chunk from F to B, and `Pipeline.weight_share` from B to W (see `ListScheduler` where that is
more than 1). Where neither F nor B can start, W fills the gap, if the next F or B comes no sooner than `patience` times
W. Of the rules given, that wins whose longest span of a stage, from its own first pass to its own last, is shortest.

One chunk's room stays free for the forward passes that follow the first chunk's, so that a microbatch that has begun
can always end: there is no deadlock.

Where all rules would be too many passes to simulate, they are held against each other in rehearsals first: all with 8
of the stages, evenly picked, the best 12 of them with 16. A rehearsal has as many microbatches per stage, up to 8 and
what is left over, and as much memory per stage: how the warm-up, the wait for the first B and the limit relate hangs on
these ratios, and so does which rule is best. The full pipeline is then run under the best few.

Assumptions
-----------
Stages that are not picked do not bear on the rehearsal: where stages differ, the rule may be another than the best.

Cost
----
That of `ListScheduler` per rule. On the full pipeline rules are tried while the passes simulated stay below
`MOST_PASSES`, the first rule always, until an order is found in which the busiest stage never waits: none is shorter.
A rule is given up as soon as it can no longer be the best.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from workloads.schedules.chunk_layout import ChunkLayout
from workloads.schedules.list_scheduler import ListScheduler, Rule
from workloads.schedules.pipeline import Pipeline

__all__ = ["MOST_PASSES", "Rule", "best_floor"]

MOST_PASSES = 60_000
"""Passes of the full pipeline that are simulated in search of a better order."""
_REHEARSALS = ((8, None), (16, 12))
"""Stages of each rehearsal, and how many rules are held against each other in it; None: all."""
_PER_STAGE = 8
"""Microbatches of a rehearsal per stage."""

RulesOf = Callable[[int], Sequence[Rule]]
"""The rules for a number of stages, always as many and in one order."""


def best_floor(
    pipeline: Pipeline,
    layout: ChunkLayout,
    rules_of: RulesOf,
    *,
    most_held: float,
    shorter_than_ns: float = math.inf,
) -> ListScheduler | None:
    """Return the stages, run under the rule that gives the shortest longest span.

    A stage holds `most_held` chunks at most. None if no rule gives a span below `shorter_than_ns`, times v.

    >>> pipeline = Pipeline(num_stages=1, num_microbatches=2)
    >>> rule = Rule(priority=(("B", 0), ("F", 0)), lead=(1,), patience=1.0)
    >>> floor = best_floor(pipeline, ChunkLayout(kind="row", num_stages=1), lambda _: [rule], most_held=2)
    >>> floor.longest_span_ns, "".join(p.kind + str(p.microbatch) for p in floor.order()[0])
    (6, 'F0B0F1B1W0W1')
    """
    rules = list(rules_of(pipeline.num_stages))
    num_passes = 3 * layout.num_chunks * pipeline.num_stages * pipeline.num_microbatches
    if len(rules) * num_passes > MOST_PASSES:
        rules = [rules[number] for number in _rehearse(pipeline, layout, rules_of, most_held=most_held)]
    best: ListScheduler | None = None
    spent = 0
    for rule in rules:
        floor = ListScheduler(pipeline, layout, rule, most_held=most_held, shorter_than_ns=shorter_than_ns)
        if not floor.is_given_up and floor.longest_span_ns < shorter_than_ns:
            best, shorter_than_ns = floor, floor.longest_span_ns
        spent += floor.num_simulated
        if shorter_than_ns <= floor.most_work_ns or spent + floor.num_simulated > MOST_PASSES:
            break
    return best


def _rehearse(pipeline: Pipeline, layout: ChunkLayout, rules_of: RulesOf, *, most_held: float) -> list[int]:
    """Return the numbers of the rules that did best in rehearsals, the best one first."""
    p = pipeline.num_stages
    numbers = list(range(len(rules_of(p))))
    for num_stages, num_rules in _REHEARSALS:
        if num_rules is not None and num_stages >= p:
            break
        shorter = _shorter(pipeline, min(p, num_stages))
        rules, row = rules_of(shorter.num_stages), replace(layout, num_stages=shorter.num_stages)
        held = most_held * shorter.num_stages / p
        spans = {
            number: ListScheduler(shorter, row, rules[number], most_held=held).longest_span_ns
            for number in numbers[:num_rules]
        }
        numbers = sorted(spans, key=spans.__getitem__)
    return numbers


def _shorter(pipeline: Pipeline, num_stages: int) -> Pipeline:
    """Return a pipeline of fewer stages that is like the one given."""
    p = pipeline.num_stages
    alike = max(1, round(pipeline.num_microbatches * num_stages / p))
    return replace(
        pipeline,
        num_stages=num_stages,
        num_microbatches=min(alike, _PER_STAGE * num_stages + alike % num_stages),
        times=tuple(pipeline.stage_times[(2 * i + 1) * p // (2 * num_stages)] for i in range(num_stages)),
    )
