"""The expert block of a layer: the routing turned into ops, under each convention of EP.

Model
-----
    megatron   tokens of a rank go to the experts of its EP group and come back
                   all-to-all, experts, all-to-all
    vllm       DP 1: tokens are on all ranks, each rank runs its own experts, results are summed
                   experts, all-reduce
               DP > 1: as megatron, then an all-gather over TP
    ETP        ranks with slices of the same experts gather what each received, and sum what each computed
                   all-to-all, all-gather, experts, reduce-scatter, all-to-all
               vllm, DP > 1: all ranks of a stage gather all tokens, each once, and no all-to-all
                   all-gather, experts, reduce-scatter
    spanning   tokens of rank t mod TP go to experts on the GPUs of *all* stages, one-sided
                   all-to-all, service, all-to-all, all-gather over TP

In the backward pass the gradients travel the same ways in the opposite order, with the same draw.

Assumptions
-----------
Shared experts are computed by the tokens' owners, whole, as is the router; where tokens are on all TP ranks (vllm,
DP 1) their width is split over TP. They run before the exchanges, or next to them (`sim.plan.expert_overlap`). Bytes
of a token copy are hidden * dtype both ways; routing weights and indices are left out (under 1 %).
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from sim.build.work import Work
from sim.plan.costs import Costs
from sim.plan.expert_overlap import run_next_to
from sim.plan.expert_router import RoutedLayer
from sim.plan.kernel_costs import Block
from sim.plan.ops import Collective, Compute, ExpertTokens, Op, Service, TimedKernel, Transfer
from workloads.kernels import Kernel, backward_of
from workloads.layers import expert_block, norm_of, permute, router_block, shared_expert_block

__all__ = ["ExpertBlock"]


class ExpertBlock:
    """Lowers expert blocks; ops that do not depend on the microbatch are made once."""

    def __init__(self, work: Work, costs: Costs) -> None:
        self._work, self._costs = work, costs
        self._before: dict[tuple[int, int, int], Compute] = {}
        self._after: dict[tuple[int, int], list[Op]] = {}
        self._overlapped: dict[tuple[int, int, bool], tuple[list[Op], list[Op]]] = {}

    def forward(self, routed: RoutedLayer, *, is_recomputed: bool = False) -> list[Op]:
        """Return the ops of the forward pass: router, dispatch, experts, combine.

        Tokens of a forward pass that is recomputed are left out of the account of conservation.
        """
        up, down = self._shared_next_to_exchanges(routed)
        ops: list[Op] = [self._before_experts(routed, is_recomputed=is_recomputed)]
        ops += run_next_to(_exchanges("ep_dispatch", routed, routed.dispatch, routed.gather), up)
        ops.append(self._experts(routed, expert_tokens=None if is_recomputed else routed.expert_tokens))
        ops += run_next_to(_exchanges("ep_combine", routed, routed.scatter, routed.combine), down)
        return ops + self._after_experts(routed)

    def backward(self, routed: RoutedLayer) -> list[Op]:
        """Return the ops of the backward pass: gradients to the experts, two products each, gradients back, router."""
        model, owned = self._work.model, routed.owned_tokens
        is_overlapped = self._work.runtime.overlap_shared_experts
        shared = [] if is_overlapped else shared_expert_block(model.moe_ffn, owned)
        up, down = self._shared_next_to_exchanges(routed, is_backward=True)
        before = [*router_block(model.moe_ffn, owned), *shared]
        before_experts = [*self._recomputed(routed), *self._dispatch_casts(routed), *self._permutes(routed)]
        ops: list[Op] = [self._compute(routed, before_experts)] if before_experts else []
        ops += run_next_to(_exchanges("ep_combine", routed, routed.dispatch, routed.gather), down)
        ops.append(self._experts(routed, is_backward=True))
        ops += run_next_to(_exchanges("ep_dispatch", routed, routed.scatter, routed.combine), up)
        ops.append(self._compute(routed, [*self._permutes(routed, is_inverse=True), *backward_of(before)]))
        return ops + self._gather_over_tp(routed)

    # ---- private -------------------------------------------------------------------------------------------------

    def _shared_next_to_exchanges(self, routed: RoutedLayer, *, is_backward: bool = False) -> tuple[list[Op], list[Op]]:
        """Return the halves of shared experts that run next to the exchanges: up to the activation, and after it.

        Both are empty where shared experts run before the exchanges.
        """
        key = (routed.layer, int(routed.lane_ranks[0]), is_backward)
        if key not in self._overlapped:
            ffn = self._work.model.moe_ffn
            is_overlapped = self._work.runtime.overlap_shared_experts
            halves = ffn.shared_halves(routed.owned_tokens) if is_overlapped else ([], [])
            up, down = (backward_of(half) if is_backward else half for half in halves)
            self._overlapped[key] = (
                [self._compute(routed, up)] if up else [],
                [self._compute(routed, down)] if down else [],
            )
        return self._overlapped[key]

    def _recomputed(self, routed: RoutedLayer) -> list[Kernel]:
        """Return what selective recomputation adds on the tokens' owners, other than the block as a whole.

        `moe_act` recomputes the experts' activation where it is used: a kernel of the mean rank's tokens.
        """
        recompute, model = self._work.recompute, self._work.model
        if recompute.recomputes("moe"):
            return []
        norm = norm_of(router_block(model.moe_ffn, routed.owned_tokens))
        kernels: list[Kernel] = norm if recompute.recomputes("layernorm") else []
        if recompute.recomputes("shared_experts"):
            kernels += shared_expert_block(model.moe_ffn, routed.owned_tokens)
        if recompute.recomputes("moe_act"):
            kernels += self._work.expert_slice.expert_activation(self._copies(routed) * self._work.mesh.strategy.etp)
        return kernels

    def _dispatch_casts(self, routed: RoutedLayer) -> list[Kernel]:
        """Return what casts the tokens, or the gradients of their results, that are sent to experts."""
        model = self._work.model
        if not routed.dispatch:
            return []
        return model.formats.dispatch_casts("other_compute", routed.owned_tokens, model.expert_hidden)

    def _before_experts(self, routed: RoutedLayer, *, is_recomputed: bool) -> Op:
        """Return router, shared experts and permutation, on the ranks that own the tokens."""
        num_routed = 0 if is_recomputed else routed.num_routed
        key = (routed.layer, int(routed.lane_ranks[0]), num_routed)
        if key not in self._before:
            model, owned = self._work.model, routed.owned_tokens
            shared = shared_expert_block(
                model.moe_ffn, owned, tp=self._work.mesh.strategy.tp if self._work.has_replicated_tokens else 1
            )
            if self._work.runtime.overlap_shared_experts:
                shared = []
            casts = self._dispatch_casts(routed)
            kernels = [*router_block(model.moe_ffn, owned), *shared, *casts, *self._permutes(routed)]
            self._before[key] = self._compute(routed, kernels, tokens_routed=num_routed)
        before = self._before[key]
        if is_recomputed or not (routed.num_dropped or routed.num_padded or routed.num_rerouted):
            return before
        return replace(
            before,
            tokens_dropped=routed.num_dropped,
            tokens_padded=routed.num_padded,
            tokens_rerouted=routed.num_rerouted,
        )

    def _after_experts(self, routed: RoutedLayer) -> list[Op]:
        """Return what makes one tensor of the copies that came back."""
        key = (routed.layer, int(routed.lane_ranks[0]))
        if key not in self._after:
            back = self._permutes(routed, is_inverse=True)
            permuted = [self._compute(routed, back)] if back else []
            self._after[key] = [*permuted, *self._gather_over_tp(routed)]
        return self._after[key]

    def _compute(self, routed: RoutedLayer, kernels: Sequence[Kernel], *, tokens_routed: int = 0) -> Compute:
        num_ranks = routed.lane_ranks.size
        return self._costs.kernels.compute(kernels, num_ranks, layer=routed.layer, tokens_routed=tokens_routed)

    def _permutes(self, routed: RoutedLayer, *, is_inverse: bool = False) -> list[Kernel]:
        """Return what sorts copies by expert on the tokens' owners, or puts them back; nothing where receivers do."""
        if not self._work.permutes_at_source:
            return []
        return [permute(self._work.model, self._copies(routed), is_inverse=is_inverse)]

    def _copies(self, routed: RoutedLayer) -> float:
        """Return the copies of tokens that a rank sorts: of tokens that it owns, or those for its experts among all."""
        work = self._work
        if work.gathers_tokens:
            return work.copies_per_host
        copies = float(routed.owned_tokens * work.model.top_k)
        return copies / work.mesh.strategy.ep if work.has_replicated_tokens else copies

    def _experts(
        self, routed: RoutedLayer, *, is_backward: bool = False, expert_tokens: ExpertTokens | None = None
    ) -> Op:
        """Return the expert kernels: on the lane's own ranks, or on those that serve all stages."""
        block, index = partial(self._expert_kernels, is_backward), routed.index
        if routed.expert_ranks.size == routed.lane_ranks.size:
            return self._own_experts(routed, block, is_backward=is_backward, expert_tokens=expert_tokens)
        duration_ns, flops = routed.batch.price(
            ("service", is_backward),
            lambda tokens: self._costs.kernels.service(block, tokens, key=("expert", is_backward)),
        )
        return Service(
            kind="expert",
            layer=routed.layer,
            ranks=routed.expert_ranks,
            duration_ns=duration_ns[index],
            flops=flops[index],
            expert_tokens=expert_tokens,
        )

    def _expert_kernels(self, is_backward: bool, tokens: NDArray[np.int64]) -> list[Kernel]:
        forward = expert_block(self._work.expert_slice, tokens, arrival=self._work.arrival)
        return backward_of(forward) if is_backward else forward

    def _own_experts(
        self, routed: RoutedLayer, block: Block, *, is_backward: bool, expert_tokens: ExpertTokens | None
    ) -> Op:
        """Return the expert kernels where each rank of the lane has its own experts."""
        kernels, index = self._costs.kernels, routed.index
        if not self._costs.is_random:  # equal for all microbatches, and priced once
            num_ranks = routed.expert_ranks.size
            return kernels.compute(
                block(routed.slot_tokens), num_ranks, layer=routed.layer, expert_tokens=expert_tokens
            )
        priced = routed.batch.price(("kernels", is_backward), lambda tokens: kernels.each(block, tokens))
        timed = [
            TimedKernel(
                kind=kind,
                layer=routed.layer,
                duration_ns=times_ns[index],
                flops=flops[index],
                is_weight_gradient=is_weight_gradient,
            )
            for kind, times_ns, flops, is_weight_gradient in priced
        ]
        return Compute(kernels=tuple(timed), expert_tokens=expert_tokens)

    def _gather_over_tp(self, routed: RoutedLayer) -> list[Op]:
        """Give every TP rank all tokens, where tokens are replicated between blocks."""
        work = self._work
        if work.mesh.strategy.tp == 1 or work.mesh.sp:
            return []
        operation, kind = ("all_reduce", "ep_combine") if work.has_replicated_tokens else ("all_gather", "tp")
        groups = routed.lane_ranks.reshape(-1, work.mesh.strategy.tp)
        return [
            Collective(
                kind=kind,
                layer=routed.layer,
                transfers=self._costs.transfers.collectives(operation, groups, work.activation_bytes),
            )
        ]


def _exchanges(kind: str, routed: RoutedLayer, *steps: tuple[Transfer, ...]) -> list[Op]:
    """Return the exchanges of a layer on one way, step by step."""
    return [Collective(kind=kind, layer=routed.layer, transfers=transfers) for transfers in steps if transfers]
