"""Experts that several ranks of a group hold, and experts that a new plan puts on other ranks.

Model
-----
    gradients     each replica of an expert sees the tokens that were sent to its rank, forward and backward alike.
                  Once the data-parallel replicas of each rank have their sum, the replicas of the expert add up theirs:
                  an all-reduce over the ranks of the group that hold the expert, layer by layer. Experts of a layer on
                  the same ranks go together. Then each replica makes its own optimizer step
    relocation    by a rank, each expert that the rank holds in the new plan and not in the plan before: the plan made
                  `placement.every` microbatches earlier, or the contiguous placement without `every`. Bytes are those
                  of the expert's weights; in training those of its optimizer state too, of which ZeRO leaves a rank
                  its part

Under ZeRO a rank has 1 / replicas of the gradients of its slots by then; the ranks of one group have the same part.
A lane relocates the experts of a chunk over the real links before the first forward pass of the chunk under the new
plan, and waits for all of them.

Assumptions
-----------
All sums of a layer start together, as a grouped call, and the next layer waits for them; nothing overlaps with the
backward pass or with the relocation: both are pessimistic. Two replicas on one rank add up without the network, and
that sum takes no time. Each replica keeps a state of the optimizer, which ZeRO splits over data-parallel replicas but
not over replicas of experts. A rank takes an expert once for all its slots. Old weights stay until passes that need
them are over: no memory is counted for that. The loads that ranks report to each other are not sent. Gradients are not
relocated: plans change between steps. Under `spanning`, lanes of a stage share the ranks that hold experts, and the
first of these lanes relocates; the other lanes do not wait.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sim.build.work import Work
from sim.plan.costs import Costs
from sim.plan.expert_router import ExpertRouter
from sim.plan.expert_routing import expert_groups
from sim.plan.ops import NO_LAYER, Collective, LanePosition, RendezvousKey, Transfer
from workloads.placement.slots import moved_experts

__all__ = ["ExpertReplicas", "experts_by_ranks"]

Ranks = NDArray[np.intp]


class ExpertReplicas:
    """Lowers the sums over expert replicas, and the relocation of experts."""

    def __init__(self, work: Work, costs: Costs, router: ExpertRouter) -> None:
        self._work, self._costs, self._router = work, costs, router

    def sum_gradients(self, position: LanePosition) -> list[Collective]:
        """Return the sums over replicas of experts in which a lane takes part; none without such replicas."""
        work, convention = self._work, self._work.mesh.convention
        layers = convention.expert_layers(work.layers_of(position.stage), work.model.layers)
        ops = []
        for layer in filter(work.model.is_moe_layer, layers):
            slots = self._router.slots(position.stage, layer)
            replicated = {} if slots is None else experts_by_ranks(slots)
            if replicated:
                rendezvous = None
                if convention.experts_span_stages:
                    rendezvous = RendezvousKey(key=("expert_replicas", layer), members=work.mesh.lane_positions)
                transfers = self._sums(position, replicated)
                ops.append(Collective(kind="dp", layer=layer, transfers=transfers, rendezvous=rendezvous))
        return ops

    def relocate(self, position: LanePosition, layers: Sequence[int], plan: int) -> list[Collective]:
        """Return the relocation that the first forward pass under a plan through some layers waits for."""
        if self._work.mesh.convention.experts_span_stages and position.lane > 0:
            return []
        relocated = self.relocated_bytes(position.stage, layers, plan)
        if not relocated.any():
            return []
        transfers = tuple(
            self._costs.exchanges.round_trip(group, group, relocated, group=number)[0]
            for number, group in expert_groups(self._work, *position)
        )
        return [Collective(kind="ep_moves", layer=NO_LAYER, transfers=transfers)]

    def relocated_bytes(self, stage: int, layers: Sequence[int], plan: int) -> NDArray[np.float64]:
        """Return what ranks of a group receive when a plan begins, from by to, of all `layers`. Shape [R, R]."""
        work, size = self._work, self._work.mesh.strategy.ep
        num_experts = np.zeros((size, size))
        for layer in filter(work.model.is_moe_layer, layers):
            after = self._router.slots(stage, layer, plan=plan)
            if after is not None:
                num_experts += moved_experts(self._router.slots_before(stage, layer, plan), after)
        return num_experts * work.expert_slice.expert.num_params * self._relocated_bytes_per_param(stage)

    # ---- private -------------------------------------------------------------------------------------------------

    def _sums(self, position: LanePosition, replicated: dict[tuple[int, ...], int]) -> tuple[Transfer, ...]:
        """Return the sums whose first rank is in a lane: all of its groups under `megatron`."""
        work, (stage, lane) = self._work, position
        parts = work.sharding.num_shards(work.mesh.expert_dp_groups(stage).shape[1])
        expert_bytes = work.expert_slice.expert.num_params * work.precision.gradient_bytes / parts
        own = set(work.mesh.lanes(stage)[lane].tolist())
        groups = [
            (group[list(ranks)], count * expert_bytes)
            for _, group in expert_groups(work, stage, lane)
            for ranks, count in replicated.items()
            if int(group[ranks[0]]) in own
        ]
        return tuple(
            self._costs.transfers.collective("all_reduce", ranks, num_bytes, group=lane * len(groups) + number)
            for number, (ranks, num_bytes) in enumerate(groups)
        )

    def _relocated_bytes_per_param(self, stage: int) -> float:
        """Return what a rank receives for each parameter of a relocated expert."""
        work = self._work
        parts = work.sharding.num_shards(work.mesh.expert_dp_groups(stage).shape[1])
        weight_bytes = (work.model.dtype_bytes if work.kind.trains else work.model.weight_bytes) / (
            parts if work.sharding.weights else 1
        )
        if not work.kind.trains:
            return weight_bytes
        return weight_bytes + work.precision.optimizer_bytes / parts


def experts_by_ranks(slots: Ranks) -> dict[tuple[int, ...], int]:
    """Return how many experts lie on each set of several ranks, of the expert in each slot of each rank [R, C].

    >>> experts_by_ranks(np.array([[0, 1], [0, 2], [3, 3]]))
    {(0, 1): 1}
    """
    ranks_of: dict[int, list[int]] = {}
    for rank, experts in enumerate(slots.tolist()):
        for expert in sorted(set(experts)):
            ranks_of.setdefault(expert, []).append(rank)
    sets = [tuple(ranks) for ranks in ranks_of.values() if len(ranks) > 1]
    return {ranks: sets.count(ranks) for ranks in sorted(set(sets))}
