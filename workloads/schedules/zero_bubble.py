"""Zero-bubble schedules: the weight gradient is a pass of its own, W, which fills the time in which stages would wait.

Model
-----
*ZB-H1 and ZB-H2* have a pattern: with f = 1 for ZB-H1 and f = 2 for ZB-H2, stage i of p warms up with f (p - i - 1)
forward passes, then runs F B W with W of a microbatch f i microbatches after its B, and drains. The stage has at most
f (p - i - 1) + 1 microbatches in flight between F and B, f i + 1 between B and W, and never more than f (p - 1) + 1
together: p for ZB-H1, as the first stage of 1F1B, and 2 p - 1 for ZB-H2, where W keeps no more than B. Where W keeps
s > 1 times what B keeps, up to s times as many. With B the backward pass by input alone, uniform stages and no
communication:

- ZB-H1, m >= p and W <= B: the bubble is (p - 1) max(B, F + B - W), which is the (p - 1)(F + B - W) of the paper where
  W <= F; where F < W <= B all stages wait for the first B.
- ZB-H1, m <= p, W <= F and W <= B: all passes end after (m + p - 1)(F + B) + W (appendix H of the paper).
- ZB-H2, m >= 2 p - 1 and W <= F: the bubble is (p - 1) max(0, F + B - 2 W). It is the bubble of the stage with the
  longest span, from its own first pass to its own last pass: stages start and end one after another, and the optimizer
  must not wait for all stages.

*ZB-1p and ZB-2p* are automatic: F, B and W are placed for given times under a limit of p or 2 p microbatches in flight,
M_B each from F to B and `weight_share` times M_B from B to W. The warm-up of stage i runs 2 (p - i) - 1 forward passes,
as many as fill the time until the first B arrives where F = B, one more, or p - i; then B goes before F, and W fills
gaps (see `schedule_search`). The shortest order among these rules is taken, or the order of ZB-H1 or ZB-H2 where that
order is shorter and keeps the limit; an order is as short as the longest span of a stage. So ZB-1p is never longer than
ZB-H1, nor ZB-2p than ZB-1p or ZB-H2, where those keep the limit. The published bubbles of ZB-1p are those of ZB-H1; for
m >= 3 p the stages of ZB-2p wait little more than the hops before their first backward pass.

Where W keeps more than B, fewer forward passes run ahead, so that the limit is kept. Where one W alone keeps more than
the limit, at most limit + M_W - M_B is in flight (`ListScheduler`).

Assumptions
-----------
ZB-1p and ZB-2p are a heuristic and not the integer program of the paper: their bubble need not be the smallest. In the
cases that `moesim validate schedules` runs, their bubbles were at most 0.0007 of the time longer than the published
bubbles, and shorter elsewhere.

References
----------
Qi et al., "Zero bubble pipeline parallelism", 2023, sections 2.1 and 2.2, table 1 and appendix H (ZB-H1, ZB-H2);
sections 3 and 4 (ZB-1p, ZB-2p).
"""

import math
from collections.abc import Sequence
from itertools import product

from workloads.schedules.passes import Order, Pass, Step
from workloads.schedules.pipeline import ChunkLayout, Pipeline
from workloads.schedules.schedule_search import Rule, best_schedule, longest_span_ns

__all__ = ["zb_1p", "zb_2p", "zb_h1", "zb_h2"]

_PRIORITIES = ((("B", 0), ("F", 0)), (("F", 0), ("B", 0)))
_FACTORS = (1, 2)  # ZB-H1, ZB-H2


def zb_h1(pipeline: Pipeline) -> Order:
    """ZB-H1: 1F1B with the weight gradient split off and put where the pipeline drains.

    >>> for stage in zb_h1(Pipeline(num_stages=2, num_microbatches=3)):
    ...     print("".join(p.kind + str(p.microbatch) for p in stage))
    F0F1B0W0F2B1W1B2W2
    F0B0F1B1W0F2B2W1W2
    """
    return _delayed_weights(pipeline, 1)


def zb_h2(pipeline: Pipeline) -> Order:
    """ZB-H2: the warm-up of ZB-H1 doubled, so that no stage waits between its first pass and its last.

    >>> for stage in zb_h2(Pipeline(num_stages=2, num_microbatches=3)):
    ...     print("".join(p.kind + str(p.microbatch) for p in stage))
    F0F1F2B0W0B1W1B2W2
    F0B0F1B1F2B2W0W1W2
    """
    return _delayed_weights(pipeline, 2)


def zb_1p(pipeline: Pipeline) -> Order:
    """ZB-1p: F, B and W placed automatically within the activations of 1F1B, p microbatches.

    >>> "".join(p.kind + str(p.microbatch) for p in zb_1p(Pipeline(num_stages=2, num_microbatches=2))[0])
    'F0F1B0W0B1W1'
    """
    return _shortest(pipeline, limits=[1])


def zb_2p(pipeline: Pipeline) -> Order:
    """ZB-2p: F, B and W placed automatically within twice the activations of 1F1B, 2 p microbatches.

    >>> "".join(p.kind + str(p.microbatch) for p in zb_2p(Pipeline(num_stages=2, num_microbatches=3))[0])
    'F0F1F2B0W0B1W1B2W2'
    """
    return _shortest(pipeline, limits=[2, 1])


# ---- ZB-H1 and ZB-H2 ---------------------------------------------------------------------------------------------


def _delayed_weights(pipeline: Pipeline, factor: int) -> Order:
    """Return the passes of every stage, for f = `factor`."""
    p, m = pipeline.num_stages, pipeline.num_microbatches
    passes = {kind: [Pass(kind, i) for i in range(m)] for kind in "FBW"}
    return [_delayed_weights_of_stage(passes, m, warm_up=factor * (p - i - 1), delay=factor * i) for i in range(p)]


def _delayed_weights_of_stage(passes: dict[str, list[Pass]], num: int, *, warm_up: int, delay: int) -> list[Step]:
    """Return the passes of a stage: `warm_up` times F, then F B W with W of the microbatch `delay` before that of B."""
    forward, backward, weight = passes["F"], passes["B"], passes["W"]
    steps: list[Step] = [*forward[:warm_up]]
    for i in range(num):
        if i + warm_up < num:
            steps.append(forward[i + warm_up])
        steps.append(backward[i])
        if i >= delay:
            steps.append(weight[i - delay])
    return steps + weight[max(0, num - delay) :]


def _delayed_in_flight(pipeline: Pipeline, factor: int) -> float:
    """Return the most microbatches in flight on a stage: 1 from F to B, `weight_share` from B to W.

    Of the microbatches that have begun, up to f (p - 1) + 1, all count 1 on the first stage and `weight_share` on the
    last.

    >>> _delayed_in_flight(Pipeline(num_stages=4, num_microbatches=8), 2)
    7.0
    """
    num_begun = min(pipeline.num_microbatches, factor * (pipeline.num_stages - 1) + 1)
    return num_begun * max(1.0, pipeline.weight_share)


# ---- ZB-1p and ZB-2p ---------------------------------------------------------------------------------------------


def _shortest(pipeline: Pipeline, *, limits: Sequence[int]) -> Order:
    """Return the shortest order found within any of some limits, in units of p microbatches."""
    p = pipeline.num_stages
    layout = ChunkLayout(kind="row", num_stages=p)
    order: Order = []
    span_ns: float = math.inf
    for factor in _FACTORS:
        if _delayed_in_flight(pipeline, factor) <= max(limits) * p:
            delayed = _delayed_weights(pipeline, factor)
            delayed_ns = longest_span_ns(delayed, pipeline, layout)
            if delayed_ns < span_ns:
                order, span_ns = delayed, delayed_ns
    tie_ns = 1  # the first order that the search finds goes before ZB-H1 and ZB-H2 where it is equally short
    for limit in limits:
        if limit * p < pipeline.weight_share <= max(limits) * p:
            continue  # no order keeps this limit, and what is in flight instead may exceed the largest limit
        schedule = best_schedule(pipeline, layout, _rules, max_in_flight=limit * p, shorter_than_ns=span_ns + tie_ns)
        if schedule is not None:
            order, span_ns, tie_ns = schedule.order(), schedule.longest_span_ns, 0
    return order


def _rules(num_stages: int) -> list[Rule]:
    """Return the rules to try: whether B or F goes first, the smallest gap that W fills, and the warm-up."""
    p = num_stages
    warm_ups = [[2 * (p - i) - 1 for i in range(p)], [2 * (p - i) for i in range(p)], [p - i for i in range(p)]]
    return [
        Rule(priority=priority, max_lead=tuple(warm_up), min_gap=min_gap)
        for priority, min_gap, warm_up in product(_PRIORITIES, (0.1, 1.0, 0.5, 0.0, 0.8, 0.3), warm_ups)
    ]
