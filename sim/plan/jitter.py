"""A plan whose passes take more or less time than modelled: `jitter` of a scenario.

Every kernel of a pass, those that other GPUs run for it included, takes its time times the factor of its rank in this
pass and the lasting factor of the rank (`workloads.jitter`). Transfers, the host and the order of passes are the
plan's: what waits for a slow rank waits longer. No lane can run for another.
"""

from collections.abc import Sequence
from typing import Any, Final

from sim.plan.even_stages import EvenedPlan
from sim.plan.ops import ConcurrentPasses, Op, Service, scaled
from sim.plan.passes import PassesPlan
from sim.plan.pipeline import PipelinePlan
from sim.plan.what_if import ChangedPlan
from workloads.jitter import Jitter
from workloads.schedules import Step

__all__ = ["JitteredPlan", "jittered"]

_KINDS: Final = ("F", "B", "W", "FB")
_AFTER_PASSES: Final = len(_KINDS)
"""Stands for the kind of a pass in the key of what follows the passes."""

Plan = PipelinePlan | PassesPlan | EvenedPlan | ChangedPlan


class JitteredPlan:
    """A plan whose kernels take a factor of their time; everything else is that of the plan."""

    def __init__(self, plan: Plan, jitter: Jitter, seed: int) -> None:
        self._plan, self._jitter, self._seed = plan, jitter, seed
        self._num_ranks = int(plan.lane_ranks.max()) + 1
        self._ranks_factors = jitter.rank_factors(self._num_ranks, seed)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # any attribute of the plan
        return getattr(self._plan, name)

    def ops(self, stage: int, lane: int, step: Step) -> tuple[Op, ...] | ConcurrentPasses:
        """Return the ops of a step."""
        ops = self._plan.ops(stage, lane, step)
        if isinstance(ops, ConcurrentPasses):
            return ConcurrentPasses(
                sides=tuple((pass_, self._timed(stage, lane, _key(pass_), side)) for pass_, side in ops.sides)
            )
        return self._timed(stage, lane, _key(step), ops)

    def after_passes(self, stage: int, lane: int) -> tuple[Op, ...]:
        """Return what follows the last pass."""
        return self._timed(stage, lane, (_AFTER_PASSES,), self._plan.after_passes(stage, lane))

    # ---- private -------------------------------------------------------------------------------------------------

    def _timed(self, stage: int, lane: int, key: tuple[int, ...], ops: Sequence[Op]) -> tuple[Op, ...]:
        """Return the ops of a pass with the factors of their ranks."""
        drawn = self._jitter.pass_factors(self._num_ranks, self._seed, (stage, lane, *key))
        factors = self._ranks_factors * drawn
        own = factors[self._plan.lane_ranks[stage, lane]]
        return tuple(scaled(op, own, factors[op.ranks] if isinstance(op, Service) else own) for op in ops)


def jittered(plan: Plan, jitter: Jitter, seed: int) -> Plan | JitteredPlan:
    """Return a plan under jitter; where nothing varies it is the plan itself."""
    return JitteredPlan(plan, jitter, seed) if jitter.is_on else plan


# ---- private -----------------------------------------------------------------------------------------------------


def _key(step: Step) -> tuple[int, ...]:
    return (_KINDS.index(step.kind), step.microbatch, step.chunk)
