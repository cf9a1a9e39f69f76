"""Orders of passes from a simulation of the stages under a limit of memory, for the automatic schedules.

Model
-----
A stage that is free takes the first pass that can start, in the order of `Rule.priority`. F must fit the memory: a
microbatch holds 1 of a chunk from F to B, and `Pipeline.weight_share` from B to W. Where neither F nor B can start, W
fills the gap, if the next F or B comes no sooner than `patience` times W. Of the rules given, the order whose longest
span of a stage, from its own first pass to its own last, is shortest wins.

One chunk's room stays free for the forward passes that follow the first chunk's, so that a microbatch that has begun
can always end: there is no deadlock.

Cost
----
That of `ShopFloor` per rule. Rules are tried while the passes simulated stay below `MOST_PASSES`, the first one
always, and until an order is found in which the busiest stage never waits: none is shorter.
"""

from collections.abc import Iterable

from workloads.schedules.base import Order
from workloads.schedules.pipeline import Pipeline
from workloads.schedules.placement import Placement
from workloads.schedules.shop_floor import Rule, ShopFloor

__all__ = ["MOST_PASSES", "Rule", "best_floor", "schedule_list"]

MOST_PASSES = 60_000
"""Passes that are simulated in search of a better order."""


def schedule_list(pipeline: Pipeline, placement: Placement, rules: Iterable[Rule], *, most_held: float) -> Order:
    """Return the order with the shortest longest span; a stage holds `most_held` chunks at most.

    >>> pipeline = Pipeline(num_stages=1, num_microbatches=2)
    >>> rule = Rule(priority=(("B", 0), ("F", 0)), lead=(1,), patience=1.0)
    >>> order = schedule_list(pipeline, Placement(kind="row", num_stages=1), [rule], most_held=2)
    >>> "".join(p.kind + str(p.microbatch) for p in order[0])
    'F0B0F1B1W0W1'
    """
    return best_floor(pipeline, placement, rules, most_held=most_held).order()


def best_floor(pipeline: Pipeline, placement: Placement, rules: Iterable[Rule], *, most_held: float) -> ShopFloor:
    """Return the stages, run under the rule that gives the shortest longest span.

    >>> pipeline = Pipeline(num_stages=1, num_microbatches=2)
    >>> rule = Rule(priority=(("B", 0), ("F", 0)), lead=(1,), patience=1.0)
    >>> best_floor(pipeline, Placement(kind="row", num_stages=1), [rule], most_held=2).longest_span_ns
    6
    """
    best: ShopFloor | None = None
    spent = 0
    for rule in rules:
        floor = ShopFloor(pipeline, placement, rule, most_held=most_held)
        if best is None or floor.longest_span_ns < best.longest_span_ns:
            best = floor
        spent += floor.num_simulated
        if best.longest_span_ns == floor.most_work_ns or spent + floor.num_simulated > MOST_PASSES:
            break
    if best is None:
        raise RuntimeError("an automatic schedule has one rule at least")
    return best
