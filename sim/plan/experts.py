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

from dataclasses import replace
from functools import partial
from typing import cast

import numpy as np
from numpy.typing import NDArray

from sim.build.work import Work
from sim.plan.costs import Costs
from sim.plan.kernel_costs import Block
from sim.plan.ops import Collective, Compute, ExpertTokens, Op, Service, TimedKernel, Transfer
from sim.plan.route import ExpertLayer
from workloads.kernels import Kernel, Memory
from workloads.layers import backward_of, expert_block, permute, router_block, shared_expert_block

__all__ = ["expert_backward", "expert_forward"]


def expert_forward(work: Work, costs: Costs, routed: ExpertLayer, *, counted: bool = True) -> list[Op]:
    """Return the ops of the expert block: router, dispatch, experts, combine.

    With `counted` false (recomputation) its tokens are left out of the account of conservation.
    """
    num_routed = routed.num_routed if counted else 0
    place = (routed.layer, int(routed.lane_ranks[0]))
    ops = list(costs.once(("router", *place, num_routed), lambda: [_before_experts(work, costs, routed, num_routed)]))
    if counted and (routed.num_dropped or routed.num_padded or routed.num_rerouted):
        ops[0] = replace(
            cast("Compute", ops[0]),
            tokens_dropped=routed.num_dropped,
            tokens_padded=routed.num_padded,
            tokens_rerouted=routed.num_rerouted,
        )
    ops += _travel("ep_dispatch", routed, routed.there)
    ops.append(_experts(work, costs, routed, counted=routed.received if counted else None))
    ops += _travel("ep_combine", routed, routed.back)
    return ops + costs.once(("gather", *place), lambda: _after_experts(work, costs, routed))


def expert_backward(work: Work, costs: Costs, routed: ExpertLayer) -> list[Op]:
    """Return the backward ops: gradients to the experts, their products twice, gradients back, router."""
    model, num_ranks, owned = work.model, routed.lane_ranks.size, routed.owned_tokens
    copies = permute(model, float(owned * model.top_k))
    before = [*router_block(model, owned), *shared_expert_block(model, owned)]
    ops: list[Op] = [costs.kernels.compute([*_remade(work, routed), copies], num_ranks, layer=routed.layer)]
    ops += _travel("ep_combine", routed, routed.there)
    ops.append(_experts(work, costs, routed, is_backward=True))
    ops += _travel("ep_dispatch", routed, routed.back)
    ops.append(costs.kernels.compute([copies, *backward_of(before)], num_ranks, layer=routed.layer))
    return ops + _spread_over_tp(work, costs, routed)


# ---- private -----------------------------------------------------------------------------------------------------


def _remade(work: Work, routed: ExpertLayer) -> list[Kernel]:
    """Return what selective recomputation makes again on the tokens' owners, other than the block as a whole.

    The experts' activation is made again where it is used, by `moe_act`: a kernel of the mean rank's tokens.
    """
    again, model = work.recompute, work.model
    if again.recomputes("moe"):
        return []
    kernels: list[Kernel] = router_block(model, routed.owned_tokens)[:1] if again.recomputes("layernorm") else []
    if again.recomputes("shared_experts"):
        kernels += shared_expert_block(model, routed.owned_tokens)
    if again.recomputes("moe_act"):
        width = (3 if model.gated else 2) * model.ffn
        kernels.append(Memory(kind="expert", num_bytes=_copies(work, routed) * width * model.dtype_bytes))
    return kernels


def _before_experts(work: Work, costs: Costs, routed: ExpertLayer, num_routed: int) -> Op:
    """Return router, shared experts and permutation, on the ranks that own the tokens."""
    model, owned = work.model, routed.owned_tokens
    shared = shared_expert_block(model, owned, tp=1 if routed.there else work.mesh.strategy.tp)
    kernels = [*router_block(model, owned), *shared, permute(model, _copies(work, routed))]
    return costs.kernels.compute(kernels, routed.lane_ranks.size, layer=routed.layer, tokens_routed=num_routed)


def _after_experts(work: Work, costs: Costs, routed: ExpertLayer) -> list[Op]:
    """Return what makes one tensor of the copies that came back."""
    gathered = costs.kernels.compute(
        [permute(work.model, _copies(work, routed))], routed.lane_ranks.size, layer=routed.layer
    )
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
    counted: ExpertTokens | None = None,
) -> Op:
    block = partial(_expert_block, work, is_backward)
    if routed.hosts.size == routed.lane_ranks.size:
        return _own_experts(costs, routed, block, is_backward=is_backward, counted=counted)
    duration_ns, flops = routed.together.once(
        ("service", is_backward), lambda tokens: costs.kernels.service(block, tokens, key=("expert", is_backward))
    )
    return Service(
        kind="expert",
        layer=routed.layer,
        ranks=routed.hosts,
        duration_ns=duration_ns[routed.place],
        flops=flops[routed.place],
        expert_tokens=counted,
    )


def _expert_block(work: Work, is_backward: bool, tokens: NDArray[np.int64]) -> list[Kernel]:
    forward = expert_block(work.model, tokens)
    return backward_of(forward) if is_backward else forward


def _own_experts(
    costs: Costs, routed: ExpertLayer, block: Block, *, is_backward: bool, counted: ExpertTokens | None
) -> Op:
    """Return the expert kernels where each rank of the lane has its own: balanced, the same come again and again."""
    if not costs.is_random:
        return costs.kernels.compute(block(routed.tokens), routed.hosts.size, layer=routed.layer, expert_tokens=counted)
    priced = routed.together.once(("kernels", is_backward), lambda tokens: costs.kernels.each(block, tokens))
    kernels = [
        TimedKernel(
            kind=kind,
            layer=routed.layer,
            duration_ns=times_ns[routed.place],
            flops=flops[routed.place],
            is_weight_gradient=is_weight_gradient,
        )
        for kind, times_ns, flops, is_weight_gradient in priced
    ]
    return Compute(kernels=tuple(kernels), expert_tokens=counted)


def _spread_over_tp(work: Work, costs: Costs, routed: ExpertLayer) -> list[Op]:
    """Give every TP rank all tokens again, where they are replicated between blocks."""
    tp, model = work.mesh.strategy.tp, work.model
    if tp == 1 or work.mesh.sp:
        return []
    operation, kind = ("all_gather", "tp") if routed.there else ("all_reduce", "ep_combine")
    num_bytes = float(work.tokens * model.hidden * model.dtype_bytes)
    transfers = tuple(
        costs.transfers.collective(operation, ranks, num_bytes, group=group)
        for group, ranks in enumerate(routed.lane_ranks.reshape(-1, tp))
    )
    return [Collective(kind=kind, layer=routed.layer, transfers=transfers)]
