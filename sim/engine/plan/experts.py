"""Experts of a layer: the routing turned into bytes, tokens and ops, under each reading of EP.

Model
-----
    megatron   tokens of a rank go to the experts of its EP group and come back
                   all-to-all, experts, all-to-all
    vllm       DP 1: tokens are on all ranks, each runs its own experts, results are summed
                   experts, all-reduce
               DP > 1: as megatron, then an all-gather over TP
    spanning   tokens of rank t mod TP go to experts on the GPUs of *all* stages, one-sided
                   all-to-all, service, all-to-all, all-gather over TP

In the backward pass the gradients travel the same ways in the opposite order, with the same draw.

Assumptions
-----------
Shared experts are computed by the tokens' owners, whole, beside the router; where tokens are on all TP ranks (vllm,
DP 1) their width is split over TP. Bytes of a token copy are hidden * dtype both ways; routing weights and indices are
left out (under 1 %).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.engine.ops import Collective, Op, Service, Transfer
from sim.engine.plan.costs import Costs
from sim.engine.plan.work import Work
from workloads.kernels import Kernel
from workloads.layers import backward_of, expert_block, permute, router_block, shared_expert_block
from workloads.routing import draw_counts

__all__ = ["ExpertLayer", "expert_backward", "expert_forward", "route"]

Ranks = NDArray[np.intp]

_MOST_COUNTS = 2**16  # of layers routed together, 0.5 MB; their byte matrices are several times that


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ExpertLayer:
    """One layer's routing of one microbatch on one lane, priced."""

    layer: int
    """Layer."""
    lane_ranks: Ranks
    """Ranks of the lane. Shape [R]."""
    hosts: Ranks
    """Ranks that hold the experts: of the lane, or of all stages under `spanning`. Shape [H]."""
    tokens: NDArray[np.int64]
    """Tokens that arrive for each local expert of each host. Shape [H, E]."""
    there: tuple[Transfer, ...]
    """From the tokens' owners to the experts; empty where tokens are everywhere."""
    back: tuple[Transfer, ...]
    """From the experts to the tokens' owners."""
    num_routed: int
    """Copies of tokens that the sources send, counted at the sources."""
    owned_tokens: int
    """Tokens that each rank owns."""


def route(work: Work, costs: Costs, *, stage: int, lane: int, layer: int, microbatch: int) -> ExpertLayer:
    """Draw the routing of a layer and price its exchange, together with layers that the same pass will ask for."""
    layers = _asked_together(work, stage, layer)
    microbatch = 0 if work.routing == "balanced" else microbatch
    routed = costs.latest(
        ("route", stage, lane, layers[0], microbatch),
        lambda: _route(work, costs, stage=stage, lane=lane, layers=layers, microbatch=microbatch),
    )
    return routed[layers.index(layer)]


def expert_forward(work: Work, costs: Costs, routed: ExpertLayer, *, counted: bool = True) -> list[Op]:
    """Return the ops of the expert block: router, dispatch, experts, combine.

    With `counted` false (recomputation) its tokens are left out of the account of conservation.
    """
    num_routed = routed.num_routed if counted else 0
    place = (routed.layer, int(routed.lane_ranks[0]))
    ops = list(costs.once(("router", *place, num_routed), lambda: [_before_experts(work, costs, routed, num_routed)]))
    ops += _travel("ep_dispatch", routed, routed.there)
    tokens = routed.tokens.sum(axis=1) if counted else None
    ops.append(_experts(work, costs, routed, counted=tokens))
    ops += _travel("ep_combine", routed, routed.back)
    return ops + costs.once(("gather", *place), lambda: _after_experts(work, costs, routed))


def expert_backward(work: Work, costs: Costs, routed: ExpertLayer) -> list[Op]:
    """Return the backward ops: gradients to the experts, their products twice, gradients back, router."""
    model, num_ranks, owned = work.model, routed.lane_ranks.size, routed.owned_tokens
    copies = permute(model, float(owned * model.top_k))
    before = [*router_block(model, owned), *shared_expert_block(model, owned)]
    ops: list[Op] = [costs.compute([copies], num_ranks, layer=routed.layer)]
    ops += _travel("ep_combine", routed, routed.there)
    ops.append(_experts(work, costs, routed, is_backward=True))
    ops += _travel("ep_dispatch", routed, routed.back)
    ops.append(costs.compute([copies, *backward_of(before)], num_ranks, layer=routed.layer))
    return ops + _spread_over_tp(work, costs, routed)


# ---- private -----------------------------------------------------------------------------------------------------


def _asked_together(work: Work, stage: int, layer: int) -> list[int]:
    """Return the expert layers of a stage that are routed with `layer`: more calls saved, or less memory held."""
    layers = [other for other in work.layers_of(stage) if work.model.is_moe_layer(other)]
    at_once = max(1, _MOST_COUNTS // (work.mesh.lanes(stage)[0].size * work.model.experts))
    first = layers.index(layer) // at_once * at_once
    return layers[first : first + at_once]


def _route(work: Work, costs: Costs, *, stage: int, lane: int, layers: list[int], microbatch: int) -> list[ExpertLayer]:
    mesh, model = work.mesh, work.model
    lane_ranks = mesh.lanes(stage)[lane]
    groups = mesh.ep_groups(stage) if mesh.convention == "spanning" else lane_ranks.reshape(-1, mesh.strategy.ep)
    is_replicated = mesh.convention == "vllm" and mesh.dp == 1
    owned = work.tokens if is_replicated else work.tokens // mesh.strategy.tp
    counts = draw_counts(
        work.routing,
        num_sources=1 if is_replicated else lane_ranks.size,
        tokens=owned,
        num_experts=model.experts,
        top_k=model.top_k,
        seed=work.seed,
        layers=layers,
        microbatch=microbatch,
        lane=lane,
    )
    copy_bytes = float(model.hidden * model.dtype_bytes)
    tokens, trips = [], []
    for number, group in enumerate(groups):
        senders = lane_ranks if len(groups) == 1 else group
        source_counts = counts if len(groups) == 1 else counts[:, number * group.size : (number + 1) * group.size]
        per_host = source_counts.reshape(*source_counts.shape[:2], group.size, -1)
        tokens.append(per_host.sum(axis=1))
        if not is_replicated:
            matrices = per_host.sum(axis=3) * copy_bytes
            trips.append(costs.round_trips(senders, group, matrices, group=lane * len(groups) + number))
    arrived, num_routed = np.concatenate(tokens, axis=1), counts.sum(axis=(1, 2)).tolist()
    return [
        ExpertLayer(
            layer=layer,
            lane_ranks=lane_ranks,
            hosts=groups.ravel(),
            tokens=arrived[i],
            there=tuple(of_group[i][0] for of_group in trips),
            back=tuple(of_group[i][1] for of_group in trips),
            num_routed=num_routed[i],
            owned_tokens=owned,
        )
        for i, layer in enumerate(layers)
    ]


def _before_experts(work: Work, costs: Costs, routed: ExpertLayer, num_routed: int) -> Op:
    """Return router, shared experts and permutation, on the ranks that own the tokens."""
    model, owned = work.model, routed.owned_tokens
    shared = shared_expert_block(model, owned, tp=1 if routed.there else work.mesh.strategy.tp)
    kernels = [*router_block(model, owned), *shared, permute(model, _copies(work, routed))]
    return costs.compute(kernels, routed.lane_ranks.size, layer=routed.layer, tokens_routed=num_routed)


def _after_experts(work: Work, costs: Costs, routed: ExpertLayer) -> list[Op]:
    """Return what makes one tensor of the copies that came back."""
    gathered = costs.compute([permute(work.model, _copies(work, routed))], routed.lane_ranks.size, layer=routed.layer)
    return [gathered, *_spread_over_tp(work, costs, routed)]


def _copies(work: Work, routed: ExpertLayer) -> float:
    """Return the copies of tokens that a rank sorts: of tokens that it owns, or those for its experts among all."""
    copies = float(routed.owned_tokens * work.model.top_k)
    return copies if routed.there else copies / work.mesh.strategy.ep


def _travel(kind: str, routed: ExpertLayer, transfers: tuple[Transfer, ...]) -> list[Op]:
    return [Collective(kind=kind, layer=routed.layer, transfers=transfers)] if transfers else []


def _experts(
    work: Work,
    costs: Costs,
    routed: ExpertLayer,
    *,
    is_backward: bool = False,
    counted: NDArray[np.int64] | None = None,
) -> Op:
    def block(tokens: NDArray[np.int64]) -> list[Kernel]:
        forward = expert_block(work.model, tokens)
        return backward_of(forward) if is_backward else forward

    if routed.hosts.size == routed.lane_ranks.size:
        return costs.compute(block(routed.tokens), routed.hosts.size, layer=routed.layer, expert_tokens=counted)
    duration_ns, flops = costs.service(block, routed.tokens, key=("expert", is_backward))
    return Service(
        kind="expert",
        layer=routed.layer,
        ranks=routed.hosts,
        duration_ns=duration_ns,
        flops=flops,
        expert_tokens=counted,
    )


def _spread_over_tp(work: Work, costs: Costs, routed: ExpertLayer) -> list[Op]:
    """Give every TP rank all tokens again, where they are replicated between blocks."""
    tp, model = work.mesh.strategy.tp, work.model
    if tp == 1 or work.mesh.sp:
        return []
    operation, kind = ("all_gather", "tp") if routed.there else ("all_reduce", "ep_combine")
    num_bytes = float(work.tokens * model.hidden * model.dtype_bytes)
    transfers = tuple(
        costs.collective(operation, ranks, num_bytes, group=group)
        for group, ranks in enumerate(routed.lane_ranks.reshape(-1, tp))
    )
    return [Collective(kind=kind, layer=routed.layer, transfers=transfers)]
