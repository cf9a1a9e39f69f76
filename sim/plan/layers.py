"""The ops of a layer, forward and backward.

Model
-----
With TP > 1 the blocks of a layer are bracketed by collectives over TP::

    sequence parallel    all-gather | block | reduce-scatter
    otherwise                         block | all-reduce

and backward, where the two products of the block's first matrix run last, next to transfers on the stream `tp`::

    sequence parallel    all-gather | block | by input, next to an all-gather of the block's input, which was not kept
                                            | by weight, next to the reduce-scatter | norm
    otherwise                         block | by input | by weight, next to the all-reduce | norm

With sequence parallelism a layer has 4 collectives forward and 6 backward. With `runtime.overlap_tp` those that a block
waits for run in pieces next to its first and last product (`sim.plan.tp_overlap`).

Documents packed into sequences (`workloads.documents`) give each replica attention of a length of its own, in kernels
that take a time of their own on each rank.

Expert blocks under sequence parallelism need none of these: each rank routes the tokens that it owns. The projection of
MTP needs none: a rank projects the tokens that it owns (without sequence parallelism its columns, gathered for nothing:
optimistic).

References
----------
Korthikanti et al., "Reducing activation recomputation in large transformer models", 2022, sections 4.2.2 and 4.3 (the
input is gathered again, next to the product by input).
Megatron-LM, megatron/core/tensor_parallel/layers.py, `LinearWithGradAccumulationAndAsyncCommunication.backward`.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from sim.build.work import Work
from sim.plan.context import ContextLowering
from sim.plan.costs import Costs
from sim.plan.expert_block import ExpertBlock
from sim.plan.expert_router import ExpertRouter
from sim.plan.kernel_costs import makes_weight_gradient
from sim.plan.ops import NO_LAYER, AwaitStream, Collective, LanePosition, Op, Transfer, by_rank, in_layer
from sim.plan.tp_overlap import USERBUFFERS_SMS, Piece, with_gather, with_scatter
from workloads.blocks.core import MixerKernels
from workloads.blocks.ffn import DenseFfn, MoeFfn
from workloads.blocks.layer import Layer, Mixer
from workloads.blocks.recompute import Recompute
from workloads.kernels import Kernel, backward_of
from workloads.layers import attention_block, dense_ffn_block, mtp_projection_block, norm_of

__all__ = ["TP_STREAM", "LayerLowering"]

TP_STREAM = "tp"
"""Stream of the collectives over TP that run next to kernels."""


class LayerLowering:
    """Lowers the layers of a work; ops that microbatches share are made once for layers that are alike."""

    def __init__(self, work: Work, costs: Costs, router: ExpertRouter) -> None:
        self._work, self._costs, self._router = work, costs, router
        self._experts, self._context = ExpertBlock(work, costs), ContextLowering(work, costs)
        self._tp_transfers: dict[tuple[LanePosition, str, float], tuple[Transfer, ...]] = {}
        self._pieces: dict[tuple[LanePosition, str, int], tuple[Transfer, ...]] = {}
        self._kinds_met: set[Hashable] = set()
        self._ops_of_kind: dict[Hashable, list[Op]] = {}
        self._ops_of_layer: dict[tuple[Hashable, int], list[Op]] = {}

    def forward(self, position: LanePosition, layer: int, microbatch: int, *, is_recomputed: bool = False) -> list[Op]:
        """Return the ops of one layer's forward pass of one microbatch (`is_recomputed`: see `ExpertBlock.forward`)."""
        make = partial(self._forward, position, layer, microbatch, is_recomputed=is_recomputed)
        kind = (position, id(self._work.model.layer(layer)))
        if kind not in self._kinds_met:  # choices are listed in the order in which a pass meets them
            self._kinds_met.add(kind)
            self._ops_before_ffn(position, layer, microbatch)
        figures = self._routed_figures(position, layer)
        return make() if figures is None else self._of_alike(("F", *kind, is_recomputed, figures), layer, make)

    def backward(self, position: LanePosition, layer: int, microbatch: int) -> list[Op]:
        """Return the ops of one layer's backward pass, with what is recomputed first."""
        make, figures = partial(self._backward, position, layer, microbatch), self._routed_figures(position, layer)
        kind = ("B", position, id(self._work.model.layer(layer)), self._work.recompute_of(layer), figures)
        return make() if figures is None else self._of_alike(kind, layer, make)

    def _forward(self, position: LanePosition, layer: int, microbatch: int, *, is_recomputed: bool) -> list[Op]:
        ffn, ops = self._work.model.layer(layer).ffn, self._ops_before_ffn(position, layer, microbatch)
        if ffn is None:
            return list(ops)
        if isinstance(ffn, DenseFfn):
            return ops + self._bracket(position, layer, [self._compute(layer, self._dense_ffn(ffn))])
        routed = self._router.route(position, layer, microbatch)
        return ops + self._experts.forward(routed, is_recomputed=is_recomputed)

    def _backward(self, position: LanePosition, layer: int, microbatch: int) -> list[Op]:
        recompute, blocks = self._work.recompute_of(layer), self._work.model.layer(layer)
        ops: list[Op] = []
        if recompute.kind == "full":
            ops += self.forward(position, layer, microbatch, is_recomputed=True)
        if isinstance(blocks.ffn, MoeFfn):
            routed = self._router.route(position, layer, microbatch)
            if recompute.recomputes("moe"):
                ops += self._experts.forward(routed, is_recomputed=True)
            ops += self._experts.backward(routed)
        elif blocks.ffn is not None:
            ffn = self._dense_ffn(blocks.ffn)
            if recompute.recomputes("mlp"):
                ops += self._bracket(position, layer, [self._compute(layer, ffn)])
            norm = [] if recompute.recomputes("mlp") else self._recomputed_norm(ffn)
            ops += self.backward_bracket(position, layer, [*norm, *backward_of(ffn)])
        if blocks.attention is not None:
            backward = partial(self._attention_backward, position, layer, blocks.attention, recompute)
            ops += self._of_lengths(position, layer, microbatch, ("attention backward", recompute), backward)
        if blocks.is_mtp:
            ops.append(self._compute(layer, backward_of(self._projection(blocks))))
        return ops

    def tp_collective(
        self, position: LanePosition, operation: str, *, layer: int = NO_LAYER, stream: str | None = None
    ) -> Collective:
        """Return a collective of a microbatch's activations over each TP group of a lane.

        What is gathered before a layer's block is the operand of its first product, in fp8 where a recipe says so.
        """
        is_operand = operation == "all_gather" and layer != NO_LAYER
        num_bytes = self._work.gathered_bytes if is_operand else self._work.activation_bytes
        key = (position, operation, num_bytes)
        if key not in self._tp_transfers:
            groups = self._work.mesh.lanes(position.stage)[position.lane].reshape(-1, self._work.mesh.strategy.tp)
            self._tp_transfers[key] = self._costs.transfers.collectives(operation, groups, num_bytes)
        transfers = self._tp_transfers[key]
        return Collective(kind="tp", layer=layer, transfers=transfers, stream=stream)

    def backward_bracket(
        self,
        position: LanePosition,
        layer: int,
        kernels: Sequence[Kernel],
        *,
        gathers_gradient: bool = True,
        first: Sequence[Op] = (),
    ) -> list[Op]:
        """Return the backward kernels of a block with its collectives over TP.

        Under sequence parallelism the block first gathers the gradient of its result, unless that is whole
        (`gathers_gradient` False: that of the logits). The ops `first` are the block's own, before its `kernels`.
        """
        if self._work.mesh.strategy.tp == 1:
            return [*first, self._compute(layer, kernels)]
        by_weight = max(at for at, kernel in enumerate(kernels) if makes_weight_gradient(kernel))
        before, by_input, after = kernels[: by_weight - 1], kernels[by_weight - 1], kernels[by_weight + 1 :]
        ops = [*first, *([self._compute(layer, before)] if before else [])]
        stream = TP_STREAM if self._work.runtime.overlap_tp_backward or self._work.overlaps_tp else None
        awaited: list[Op] = [] if stream is None else [AwaitStream(stream=stream, layer=layer)]
        if self._work.mesh.sp:
            if gathers_gradient and self._work.overlaps_tp:
                ops = with_gather(ops, self._piece(position, layer, "all_gather"))
            elif gathers_gradient:
                ops = [self.tp_collective(position, "all_gather", layer=layer), *ops]
            ops.append(self.tp_collective(position, "all_gather", layer=layer, stream=stream))
        ops.append(self._compute(layer, [by_input]))
        if self._work.mesh.sp:
            ops += awaited
        operation = "reduce_scatter" if self._work.mesh.sp else "all_reduce"
        ops.append(self.tp_collective(position, operation, layer=layer, stream=stream))
        ops += [self._compute(layer, [kernels[by_weight]]), *awaited]
        return [*ops, self._compute(layer, after)] if after else ops

    # ---- private -------------------------------------------------------------------------------------------------

    def _ops_before_ffn(self, position: LanePosition, layer: int, microbatch: int) -> list[Op]:
        """Return the ops of a layer's projection (MTP) and attention."""
        blocks = self._work.model.layer(layer)
        ops = [self._compute(layer, self._projection(blocks))] if blocks.is_mtp else []
        if blocks.attention is None:
            return ops
        forward = partial(self._attention_forward, position, layer, blocks.attention)
        return ops + self._of_lengths(position, layer, microbatch, "attention", forward)

    def _of_lengths(
        self, position: LanePosition, layer: int, microbatch: int, what: Hashable, make: Callable[[int], list[Op]]
    ) -> list[Op]:
        """Return the ops that `make` makes of an attended length, each once, where replicas may have their own."""
        kind, lengths = (what, position, id(self._work.model.layer(layer))), None
        if self._work.documents is not None:
            lengths = self._work.attended_lengths_on(position.lane, microbatch)
        if lengths is None:
            length = self._work.sequence_length
            return self._of_alike((*kind, length), layer, partial(make, length))
        different, of_rank = np.unique(lengths, return_inverse=True)
        made = [self._of_alike((*kind, length), layer, partial(make, length)) for length in different.tolist()]
        return made[0] if len(made) == 1 else [by_rank(ops, of_rank) for ops in zip(*made, strict=True)]

    def _routed_figures(self, position: LanePosition, layer: int) -> Hashable | None:
        """Return what the routing makes of a layer, alike in all microbatches; None where each has ops of its own."""
        work = self._work
        if work.documents is not None:
            return None
        if not work.model.is_moe_layer(layer):
            return ()
        return self._router.route(position, layer, 0).figures if work.has_balanced_routing else None

    def _of_alike(self, kind: Hashable, layer: int, make: Callable[[], list[Op]]) -> list[Op]:
        """Return the ops of a layer: made for the first of a kind, the same but for their layer for the others."""
        if (kind, layer) not in self._ops_of_layer:
            if kind in self._ops_of_kind:
                ops = [in_layer(op, layer) for op in self._ops_of_kind[kind]]
            else:
                ops = self._ops_of_kind[kind] = make()
            self._ops_of_layer[kind, layer] = ops
        return self._ops_of_layer[kind, layer]

    def _projection(self, layer: Layer) -> list[Kernel]:
        """Return the norms and the projection that begin a layer of MTP; TP splits the projection by columns."""
        work = self._work
        return mtp_projection_block(layer, self._norm_tokens(), tp=1 if work.mesh.sp else work.mesh.strategy.tp)

    def _compute(self, layer: int, kernels: Sequence[Kernel]) -> Op:
        return self._costs.kernels.compute(kernels, self._work.mesh.lane_size, layer=layer)

    def _recomputed_norm(self, block: Sequence[Kernel]) -> list[Kernel]:
        """Return the norm that begins a block of attention or FFN, where the norm is recomputed on its own."""
        return norm_of(block) if self._work.recompute.recomputes("layernorm") else []

    def _norm_tokens(self) -> int:
        """Tokens that a rank's norms see."""
        work = self._work
        return work.rank_tokens // work.mesh.strategy.tp if work.mesh.sp else work.rank_tokens

    def _attention_forward(self, position: LanePosition, layer: int, attention: Mixer, length: int) -> list[Op]:
        """Return the ops of a layer's attention in a forward pass."""
        block, kernels = self._attention(attention, length)
        if self._work.context.size == 1:
            return self._bracket(position, layer, [self._compute(layer, block)])
        first = block[: -len(kernels.all)]
        return self._bracket(position, layer, self._context.forward(position, layer, attention, kernels, first=first))

    def _attention_backward(
        self, position: LanePosition, layer: int, attention: Mixer, recompute: Recompute, length: int
    ) -> list[Op]:
        """Return the ops of a layer's attention in a backward pass, with what is recomputed first."""
        block, kernels = self._attention(attention, length)
        recomputed = [*self._recomputed_norm(block), *attention.recomputed_kernels(recompute, kernels)]
        if self._work.context.size == 1:
            return self.backward_bracket(position, layer, [*recomputed, *backward_of(block)])
        first = self._context.backward(position, layer, attention, kernels, recomputed=recomputed)
        before_core = block[: -len([*kernels.core, *kernels.after])]
        return self.backward_bracket(position, layer, backward_of(before_core), first=first)

    def _attention(self, attention: Mixer, length: int) -> tuple[list[Kernel], MixerKernels]:
        """Return the kernels of a block of attention in sequences of a length, and those of the attention alone."""
        tokens, tp = self._work.rank_tokens, self._work.mesh.strategy.tp
        block = attention_block(attention, tokens, length, tp=tp, norm_tokens=self._norm_tokens())
        return block, attention.kernels(tokens, length, tp=tp)

    def _dense_ffn(self, ffn: DenseFfn) -> list[Kernel]:
        work = self._work
        return dense_ffn_block(ffn, work.rank_tokens, tp=work.mesh.strategy.tp, norm_tokens=self._norm_tokens())

    def _piece(self, position: LanePosition, layer: int, operation: str) -> Piece:
        """Return what makes the pieces of a collective that is exchanged next to a product."""

        def piece(number: int, num_pieces: int) -> Collective:
            key = (position, operation, num_pieces)
            if key not in self._pieces:
                groups = self._work.mesh.lanes(position.stage)[position.lane].reshape(-1, self._work.mesh.strategy.tp)
                num_bytes = self._work.activation_bytes / num_pieces
                transfers = self._costs.transfers.collectives(operation, groups, num_bytes)
                self._pieces[key] = tuple(replace(transfer, num_sms=USERBUFFERS_SMS) for transfer in transfers)
            label = (operation, number)
            return Collective(kind="tp", layer=layer, transfers=self._pieces[key], stream=TP_STREAM, label=label)

        return piece

    def _bracket(self, position: LanePosition, layer: int, ops: list[Op]) -> list[Op]:
        """Return the ops of a block between its collectives over TP."""
        if self._work.mesh.strategy.tp == 1:
            return ops
        if self._work.overlaps_tp:
            scattered = with_scatter(ops, self._piece(position, layer, "reduce_scatter"))
            return with_gather(scattered, self._piece(position, layer, "all_gather"))
        if not self._work.mesh.sp:
            return [*ops, self.tp_collective(position, "all_reduce", layer=layer)]
        return [
            self.tp_collective(position, "all_gather", layer=layer),
            *ops,
            self.tp_collective(position, "reduce_scatter", layer=layer),
        ]
