"""Which slot of which rank holds which expert of a layer, worked out once for each layer and plan."""

import numpy as np
from numpy.typing import NDArray

from sim.build.expert_routing import placed_experts
from sim.build.work import Work
from sim.plan.costs import Costs

__all__ = ["placement_before", "slots_of"]


def slots_of(work: Work, costs: Costs, stage: int, layer: int, *, plan: int = 0) -> NDArray[np.intp] | None:
    """Return the same, planned once for each layer; None where rank r holds the r-th of the experts in order."""
    if work.placement.is_contiguous:
        return None
    return costs.placed(layer, plan, lambda: placed_experts(work, stage, layer, plan=plan))


def placement_before(work: Work, costs: Costs, stage: int, layer: int, plan: int) -> NDArray[np.intp]:
    """Return the expert in each slot before a plan begins: under the one before, or in order. Shape [R, C]."""
    slots = slots_of(work, costs, stage, layer, plan=plan - 1) if work.placement.every is not None else None
    return np.arange(work.model.experts).reshape(work.mesh.strategy.ep, -1) if slots is None else slots
