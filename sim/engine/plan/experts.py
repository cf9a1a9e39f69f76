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
    """Draw the routing of a layer and price its exchange."""
    mesh, model = work.mesh, work.model
    lane_ranks = mesh.lanes(stage)[lane]
    groups = mesh.ep_groups(stage) if mesh.convention == "spanning" else lane_ranks.reshape(-1, mesh.strategy.ep)
    is_replicated = mesh.convention == "vllm" and mesh.dp == 1
    num_sources = 1 if is_replicated else lane_ranks.size
    owned = work.tokens if is_replicated else work.tokens // mesh.strategy.tp
    counts = draw_counts(
        work.routing,
        num_sources=num_sources,
        tokens=owned,
        num_experts=model.experts,
        top_k=model.top_k,
        seed=work.seed,
        layers=[layer],
        microbatch=0 if work.routing == "balanced" else microbatch,
        lane=lane,
    )[0]
    copy_bytes = float(model.hidden * model.dtype_bytes)
    tokens, trips = [], []
    for number, group in enumerate(groups):
        senders = lane_ranks if len(groups) == 1 else group
        source_counts = counts if len(groups) == 1 else counts[number * group.size : (number + 1) * group.size]
        per_host = source_counts.reshape(source_counts.shape[0], group.size, -1)
        tokens.append(per_host.sum(axis=0))
        if not is_replicated:
            matrix = per_host.sum(axis=2) * copy_bytes
            trips.append(costs.round_trip(senders, group, matrix, group=lane * len(groups) + number))
    return ExpertLayer(
        layer=layer,
        lane_ranks=lane_ranks,
        hosts=groups.ravel(),
        tokens=tokens[0] if len(tokens) == 1 else np.concatenate(tokens),
        there=tuple(there for there, _ in trips),
        back=tuple(back for _, back in trips),
        num_routed=int(counts.sum()),
        owned_tokens=owned,
    )


def expert_forward(work: Work, costs: Costs, routed: ExpertLayer, *, counted: bool = True) -> list[Op]:
    """Return the ops of the expert block: router, dispatch, experts, combine.

    With `counted` false (recomputation) its tokens are left out of the account of conservation.
    """
    num_routed = routed.num_routed if counted else 0
    place = (routed.layer, int(routed.lane_ranks[0]))
    ops = list(costs.once(("router", *place, num_routed), lambda: [_before_experts(work, costs, routed, num_routed)]))
    ops += _travel("ep_dispatch", routed, routed.there)
    tokens = routed.tokens.sum(axis=1) if counted else None
    ops.append(_experts(costs, routed, expert_block(work.model, routed.tokens), tokens))
    ops += _travel("ep_combine", routed, routed.back)
    return ops + costs.once(("gather", *place), lambda: _after_experts(work, costs, routed))


def expert_backward(work: Work, costs: Costs, routed: ExpertLayer) -> list[Op]:
    """Return the backward ops: gradients to the experts, their products twice, gradients back, router."""
    model, num_ranks, owned = work.model, routed.lane_ranks.size, routed.owned_tokens
    copies = permute(model, float(owned * model.top_k))
    before = [*router_block(model, owned), *shared_expert_block(model, owned)]
    ops: list[Op] = [costs.compute([copies], num_ranks, layer=routed.layer)]
    ops += _travel("ep_combine", routed, routed.there)
    ops.append(_experts(costs, routed, backward_of(expert_block(model, routed.tokens))))
    ops += _travel("ep_dispatch", routed, routed.back)
    ops.append(costs.compute([copies, *backward_of(before)], num_ranks, layer=routed.layer))
    return ops + _spread_over_tp(work, costs, routed)


# ---- private -----------------------------------------------------------------------------------------------------


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


def _experts(costs: Costs, routed: ExpertLayer, kernels: list[Kernel], counted: NDArray[np.int64] | None = None) -> Op:
    num_hosts = routed.hosts.size
    if num_hosts == routed.lane_ranks.size:
        return costs.compute(kernels, num_hosts, layer=routed.layer, expert_tokens=counted)
    duration_ns, flops = np.zeros(num_hosts, dtype=np.int64), np.zeros(num_hosts)
    for kernel in kernels:
        duration_ns += costs.kernel_ns(kernel, num_hosts)
        flops += kernel.flops
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
