"""A plan whose stages compute equally long: the what-ifs `even_stages` and `even_last_stage`.

Model
-----
    took      kernels of a microbatch's forward (or backward) passes on a stage, each as long as on its slowest rank
    factor    mean of `took` over stages / `took` of the stage        for every kernel of these passes

With `even_last_stage` the factor is 1 on all stages but the last. B and W count as one backward pass. Transfers, the
host, what follows the passes and their order are the plan's. A pass that has no kernels stays empty.

References
----------
Lin et al., "Understanding Stragglers in Large Model Training Using What-if Analysis", OSDI 2025, mend the last stage
in the same way: its passes take the mean of all passes of their kind.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from sim.plan.ops import Compute, ConcurrentPasses, Op, Service, scaled
from sim.plan.passes import PassesPlan
from sim.plan.pipeline import PipelinePlan
from workloads.schedules import Step, passes_of

__all__ = ["EvenedPlan"]


class _Part(NamedTuple):
    """The work of a microbatch in one direction."""

    direction: str
    """F; B, with W; or FB, where a pair is one kernel."""
    microbatch: int


class EvenedPlan:
    """A plan whose kernels take a factor of their time, so that stages compute equally long."""

    def __init__(self, plan: PipelinePlan | PassesPlan, *, last_only: bool) -> None:
        self._plan, self._last_only = plan, last_only
        self._factors_of: dict[int, Mapping[tuple[int, _Part], float]] = {}

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # any attribute of the plan
        return getattr(self._plan, name)

    def ops(self, stage: int, lane: int, step: Step) -> tuple[Op, ...] | ConcurrentPasses:
        """Return the ops of a step."""
        ops = self._plan.ops(stage, lane, step)
        if self._last_only and stage != self._plan.lane_ranks.shape[0] - 1:
            return ops
        if lane not in self._factors_of:
            self._factors_of[lane] = self._factors(lane)
        factors = self._factors_of[lane]
        if isinstance(ops, ConcurrentPasses):
            sides = ((pass_, _scaled(side, factors[stage, _part(pass_)])) for pass_, side in ops.sides)
            return ConcurrentPasses(sides=tuple(sides))
        return _scaled(ops, factors[stage, _part(step)])

    # ---- private -------------------------------------------------------------------------------------------------

    def _factors(self, lane: int) -> Mapping[tuple[int, _Part], float]:
        """Return the factor of each stage's passes on a lane."""
        took_ns: dict[_Part, dict[int, int]] = {}
        for stage, steps in enumerate(self._plan.pipeline_order.order):
            for step in steps:
                ops = self._plan.ops(stage, lane, step)
                for pass_, side in ops.sides if isinstance(ops, ConcurrentPasses) else ((step, ops),):
                    of_stage = took_ns.setdefault(_part(pass_), {})
                    of_stage[stage] = of_stage.get(stage, 0) + sum(_took_ns(op) for op in side)
        return {
            (stage, part): sum(of_stage.values()) / len(of_stage) / own_ns if own_ns else 1.0
            for part, of_stage in took_ns.items()
            for stage, own_ns in of_stage.items()
        }


# ---- private -----------------------------------------------------------------------------------------------------


def _part(step: Step) -> _Part:
    direction = "B" if step.kind == "W" else step.kind
    return _Part(direction, passes_of(step)[0].microbatch)


def _took_ns(op: Op) -> int:
    if isinstance(op, Compute):
        return sum(int(kernel.duration_ns.max()) for kernel in op.kernels)
    return int(op.duration_ns.max(initial=0)) if isinstance(op, Service) else 0


def _scaled(ops: Sequence[Op], factor: float) -> tuple[Op, ...]:
    return tuple(scaled(op, np.float64(factor), np.float64(factor)) for op in ops)
