"""The pattern of ZB-H1 and ZB-H2: a warm-up of forward passes, then F B W with W some microbatches behind B.

Model
-----
With f = `factor` (1: ZB-H1, 2: ZB-H2), stage i of p warms up with f (p - i - 1) forward passes, then runs F B W with W
f i microbatches behind B, and drains. It holds f (p - i - 1) + 1 microbatches between F and B at most, f i + 1 between
B and W, and never more than f (p - 1) + 1 together.
"""

from workloads.schedules.base import Order, Pass, Step
from workloads.schedules.pipeline import Pipeline

__all__ = ["delayed_weights", "most_delayed_held"]


def delayed_weights(pipeline: Pipeline, factor: int) -> Order:
    """Return the passes of every stage.

    >>> for stage in delayed_weights(Pipeline(num_stages=2, num_microbatches=3), 1):
    ...     print("".join(p.kind + str(p.microbatch) for p in stage))
    F0F1B0W0F2B1W1B2W2
    F0B0F1B1W0F2B2W1W2
    """
    p, m = pipeline.num_stages, pipeline.num_microbatches
    passes = {kind: [Pass(kind, i) for i in range(m)] for kind in "FBW"}
    return [_stage(passes, m, warm_up=factor * (p - i - 1), delay=factor * i) for i in range(p)]


def most_delayed_held(pipeline: Pipeline, factor: int) -> float:
    """Return the most microbatches that a stage holds: 1 from F to B, `weight_share` from B to W.

    Of those that have begun, up to f (p - 1) + 1, all hold 1 on the first stage and `weight_share` on the last.

    >>> most_delayed_held(Pipeline(num_stages=4, num_microbatches=8), 2)
    7.0
    """
    begun = min(pipeline.num_microbatches, factor * (pipeline.num_stages - 1) + 1)
    return begun * max(1.0, pipeline.weight_share)


def _stage(passes: dict[str, list[Pass]], num: int, *, warm_up: int, delay: int) -> list[Step]:
    """Return one stage's passes: `warm_up` times F, then F B W where W is of the microbatch `delay` before B's."""
    forward, backward, weight = passes["F"], passes["B"], passes["W"]
    steps: list[Step] = [*forward[:warm_up]]
    for i in range(num):
        if i + warm_up < num:
            steps.append(forward[i + warm_up])
        steps.append(backward[i])
        if i >= delay:
            steps.append(weight[i - delay])
    return steps + weight[max(0, num - delay) :]
