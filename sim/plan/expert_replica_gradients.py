"""Gradients of experts that several ranks of an expert group hold: what their copies add up after the last pass.

Model
-----
    copies of an expert     each sees the tokens that were sent to its rank, forward and backward alike
    gradient                the sum over copies, once the replicas of each rank have theirs (`plan.replicas`):
                            an all-reduce over the ranks of the group that hold the expert, layer by layer

Under ZeRO a rank has 1 / replicas of the gradients of its slots by then; the ranks of one group have the same part.
Experts of a layer that lie on the same ranks go together. Then each copy makes its own optimizer step.

Assumptions
-----------
All of a layer start together, as a grouped call, and the next layer waits for them; nothing overlaps with the backward
pass: both are pessimistic. Two copies on one rank add up without the network, and that sum takes no time. Copies keep a
state of the optimizer each, which ZeRO splits over replicas but not over copies. A plan holds for the whole step.
"""

import numpy as np
from numpy.typing import NDArray

from sim.build.expert_routing import expert_groups
from sim.build.work import Work
from sim.plan.costs import Costs
from sim.plan.ops import Collective, RendezvousKey, Transfer
from sim.plan.placed import slots_of

__all__ = ["shared_experts", "sum_over_copies"]

Ranks = NDArray[np.intp]


def sum_over_copies(work: Work, costs: Costs, stage: int, lane: int) -> list[Collective]:
    """Return the sums over copies of experts in which a lane takes part; none where every expert is on one rank."""
    convention = work.mesh.convention
    layers = convention.expert_layers(work.layers_of(stage), work.model.layers)
    ops = []
    for layer in filter(work.model.is_moe_layer, layers):
        slots = slots_of(work, costs, stage, layer)
        shared = {} if slots is None else shared_experts(slots)
        if shared:
            transfers = _transfers(work, costs, (stage, lane), shared)
            join = (
                RendezvousKey(key=("copies", layer), members=_all_lanes(work))
                if convention.experts_span_stages
                else None
            )
            ops.append(Collective(kind="dp", layer=layer, transfers=transfers, join=join))
    return ops


def shared_experts(slots: Ranks) -> dict[tuple[int, ...], int]:
    """Return how many experts lie on each set of several ranks, of the expert in each slot of each rank [R, C].

    >>> shared_experts(np.array([[0, 1], [0, 2], [3, 3]]))
    {(0, 1): 1}
    """
    holders: dict[int, list[int]] = {}
    for rank, held in enumerate(slots.tolist()):
        for expert in sorted(set(held)):
            holders.setdefault(expert, []).append(rank)
    sets = [tuple(ranks) for ranks in holders.values() if len(ranks) > 1]
    return {ranks: sets.count(ranks) for ranks in sorted(set(sets))}


# ---- private -----------------------------------------------------------------------------------------------------


def _transfers(
    work: Work, costs: Costs, place: tuple[int, int], shared: dict[tuple[int, ...], int]
) -> tuple[Transfer, ...]:
    """Return the sums whose first rank is in a lane: all of its groups under `megatron`."""
    stage, lane = place
    parts = work.mesh.expert_dp_groups(stage).shape[1] if work.zero else 1
    expert_bytes = work.model.num_expert_params * work.precision.gradient_bytes / parts
    own = set(work.mesh.lanes(stage)[lane].tolist())
    groups = [
        (group[list(ranks)], count * expert_bytes)
        for _, group in expert_groups(work, stage, lane)
        for ranks, count in shared.items()
        if int(group[ranks[0]]) in own
    ]
    return tuple(
        costs.transfers.collective("all_reduce", ranks, num_bytes, group=lane * len(groups) + number)
        for number, (ranks, num_bytes) in enumerate(groups)
    )


def _all_lanes(work: Work) -> tuple[tuple[int, int], ...]:
    mesh = work.mesh
    return tuple((stage, lane) for stage in range(mesh.num_stages) for lane in range(mesh.num_lanes))
