"""What a change of plan costs: experts copied to the ranks that come to hold them.

Model
-----
    before      the plan before, made `placement.every` microbatches earlier; the contiguous placement without `every`
    copied      by a rank, each expert that it holds in the new plan and not in the old, from the first that did
    bytes       of an expert's weights; in training of its optimizer state too, of which ZeRO leaves a rank its part

A lane copies the layers of a chunk over the real links before the first forward pass of the chunk under the new plan,
and waits for all of them.

Assumptions
-----------
Nothing overlaps with the copies, which is pessimistic. A rank takes an expert once for all its slots. Old weights stay
until passes that need them are over: no memory is counted for that. What ranks tell each other of their loads is not
sent. Gradients do not travel: plans change between steps. Under `spanning`, lanes of a stage share the ranks that hold
experts, and the first of them copies; the others do not wait.
"""

import numpy as np
from numpy.typing import NDArray

from sim.build.expert_routing import expert_groups
from sim.build.work import Work
from sim.plan.costs import Costs
from sim.plan.ops import NO_LAYER, Collective
from sim.plan.placed import placement_before, slots_of
from workloads.placement.slots import moved_experts

__all__ = ["moved_bytes", "moves_before"]


def moves_before(work: Work, costs: Costs, place: tuple[int, int], part: int, plan: int) -> list[Collective]:
    """Return the copies that the first forward pass under a plan through a part of the model waits for.

    `place` is the (stage, lane) that runs it.
    """
    stage, lane = place
    if work.mesh.convention.experts_span_stages and lane > 0:
        return []
    moved = moved_bytes(work, costs, stage, work.layers_of_part(part), plan)
    if not moved.any():
        return []
    transfers = tuple(
        costs.exchanges.round_trip(group, group, moved, group=number)[0]
        for number, group in expert_groups(work, stage, lane)
    )
    return [Collective(kind="ep_moves", layer=NO_LAYER, transfers=transfers)]


def moved_bytes(work: Work, costs: Costs, stage: int, layers: range, plan: int) -> NDArray[np.float64]:
    """Return what ranks of an expert group copy when a plan begins, from by to, for all of `layers`. Shape [R, R]."""
    size = work.mesh.strategy.ep
    moved = np.zeros((size, size))
    for layer in filter(work.model.is_moe_layer, layers):
        after = slots_of(work, costs, stage, layer, plan=plan)
        if after is not None:
            moved += moved_experts(placement_before(work, costs, stage, layer, plan), after)
    return moved * work.model.num_expert_params * _bytes_per_param(work, stage)


# ---- private -----------------------------------------------------------------------------------------------------


def _bytes_per_param(work: Work, stage: int) -> float:
    """Return what a rank copies for each parameter of an expert."""
    parts = work.mesh.expert_dp_groups(stage).shape[1]
    weights = work.model.dtype_bytes / (parts if work.zero == 3 else 1)
    if not work.kind.trains:
        return weights
    return weights + work.precision.optimizer_bytes / (parts if work.zero else 1)
