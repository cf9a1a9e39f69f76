"""A pass becomes ops: pass, model chunk, layers, kernels and transfers.

Model
-----
    F of a chunk   [receive: all-gather over TP] [embedding, summed over TP] layers [output head]
    B of a chunk   [receive] [output head backward] layers backward, last first, [embedding backward]
    W of a chunk   the products that make gradients of weights, of all layers and the output head, one after another;
                   where a schedule splits W off, B runs all the rest: the products by the input, attention, norms,
                   recomputation, and every transfer

The embedding stands with the first model chunk, and the output head and the layers of MTP with the last, unless `Work`
says otherwise. A layer of MTP looks the embedding up before it, and the output head is passed once more for each (as
Megatron-LM does, on the stage of the loss). What MTP adds to the send between two stages is left out: optimistic.

A stage sends 1 / TP of its activations from each rank to the same rank of the next stage; the receivers gather them
over TP. No gathering is needed under sequence parallelism, where each rank keeps its part, nor where the chunk before
stands on the same stage. Time on a degraded GPU is the device's over the GPU's speed, rounded up to whole nanoseconds.

Assumptions
-----------
Of context-parallel ranks the first has the last tokens of a prefill; the others are taken to compute the head of as
many. Experts that serve other stages (the spanning convention) make both gradients at once, in B. The gradient of the
embedding stays in B. All kernels of a slow GPU are slower alike, whether they wait for arithmetic or for memory.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from sim.build.work import Work
from sim.plan.costs import Costs
from sim.plan.expert_overlap import delay_weight_gradients, on_expert_stream
from sim.plan.expert_replicas import ExpertReplicas
from sim.plan.expert_router import ExpertRouter
from sim.plan.fsdp import FsdpLowering
from sim.plan.gradient_overlap import GradientOverlap
from sim.plan.gradients import GradientLowering
from sim.plan.host_lowering import HostLowering
from sim.plan.layers import LayerLowering
from sim.plan.offload import wait_for_copy
from sim.plan.ops import NO_LAYER, Collective, Compute, LanePosition, Op, RendezvousKey, Service, Transfer
from workloads.collectives import OPERATIONS
from workloads.kernels import Kernel, backward_of
from workloads.layers import embedding_backward, embedding_block, head_block
from workloads.schedules import Pass, PipelineOrder

__all__ = ["Lowering", "passes_differ", "slow_down"]

_NCCL_KINDS = frozenset({"tp", "dp", "cp"})
_EXCHANGE_KINDS = frozenset(operation.kind for operation in OPERATIONS.values() if operation.is_exchange)


class Lowering:
    """Lowers the passes of a work, and what follows them; ops that do not depend on the microbatch are made once."""

    def __init__(
        self,
        work: Work,
        costs: Costs,
        running_lanes: Callable[[], Sequence[int]] | None = None,
        order: Callable[[], PipelineOrder] | None = None,
    ) -> None:
        """Lower `work` at `costs`.

        Where some lanes run for others, `running_lanes` returns those that run. `order` returns the steps of all
        stages: where exchanges of gradients overlap with passes, as FSDP's do, the first and last passes must be known.
        """
        self.work, self.costs = work, costs
        self._running_lanes = running_lanes or partial(range, work.mesh.num_lanes)
        self.router = ExpertRouter(work, costs)
        self.layers = LayerLowering(work, costs, self.router)
        self.gradients = GradientLowering(work, costs)
        self.overlap = None if order is None else GradientOverlap(work, self.gradients, order)
        if work.fsdp is not None and order is None:
            raise TypeError("lowering of a work with FSDP needs the order of its passes")
        self._fsdp = (
            None if order is None or work.fsdp is None else FsdpLowering(work, work.fsdp, self.gradients, order)
        )
        self._host = HostLowering(work) if work.runtime.has_host else None
        self.expert_replicas = ExpertReplicas(work, costs, self.router)
        self._passes: dict[tuple[LanePosition, str, int, bool], tuple[Op, ...]] = {}
        self._passes_differ = passes_differ(work)
        self._issued_ops: dict[tuple[tuple[Op, ...], str, int], tuple[Op, ...]] = {}
        self._taking_sms: dict[Collective, Collective] = {}
        self._slowing_transfers: dict[Transfer, Transfer] = {}
        self._num_exchanges: dict[LanePosition, int] = {}
        self._relocated: set[tuple[LanePosition, int, int]] = set()

    def lower(self, position: LanePosition, pass_: Pass, *, is_split: bool) -> tuple[Op, ...]:
        """Return the ops of a pass on a lane, with all that the lane exchanges meanwhile.

        `is_split` says whether W is split off a pass B. Passes of equal ops get the same tuple: engines find it again.
        """
        ops = self._as_blocking(position, self._compute_and_exchange(position, pass_, is_split=is_split))
        if self._fsdp is not None:
            ops = self._fsdp.around(position, pass_, ops, is_split=is_split, lanes=self._running_lanes())
        elif self.work.sharding.gradients:
            ops = self.gradients.with_sharding(position, pass_, ops, is_split=is_split, lanes=self._running_lanes())
        if self.overlap is not None and (self.overlap.reduces or self.overlap.gathers):
            ops = self.overlap.with_exchanges(position, pass_, ops, self._running_lanes())
        if self.work.placement.moves:
            ops = (*self._relocation(position, pass_), *ops)
        if self._passes_differ:
            return self._issued(position, pass_, ops)
        key = (ops, pass_.kind, self._model_chunk(position, pass_))
        if key not in self._issued_ops:
            self._issued_ops[key] = self._issued(position, pass_, ops)
        return self._issued_ops[key]

    def chunk_ops(self, position: LanePosition, pass_: Pass, *, is_split: bool) -> tuple[Op, ...]:
        """Return the ops of a pass through a model chunk, without exchanges between replicas or stages."""
        ops = self._forward(position, pass_) if pass_.kind == "F" else self._backward(position, pass_)
        if pass_.kind == "W":
            ops = [op for op in _half(ops, makes_weight_gradients=True) if isinstance(op, Compute)]
        elif is_split:
            ops = _half(ops, makes_weight_gradients=False)
        elif pass_.kind == "B" and self.work.runtime.delay_wgrad:
            ops = delay_weight_gradients(ops, of_experts_only=not self.work.runs_pairs)
        if self.work.overlaps_moe:
            ops = on_expert_stream(ops)
        return self._at_speed(position, ops)

    def own_ops(self, position: LanePosition, pass_: Pass, *, is_split: bool) -> tuple[Op, ...]:
        """Return the ops of a pass as the host issues them, without what replicas exchange meanwhile."""
        ops = self._as_blocking(position, self._compute_and_exchange(position, pass_, is_split=is_split))
        return self._issued(position, pass_, ops)

    def before_passes(self, position: LanePosition) -> tuple[Op, ...]:
        """Return what a lane starts before its first pass."""
        if self.overlap is None:
            return ()
        return self._with_sms(tuple(self.overlap.before_passes(position, self._running_lanes())))

    def after_passes(self, position: LanePosition) -> tuple[Op, ...]:
        """Return gradient reduction and optimizer step (training)."""
        lanes = self._running_lanes()
        ops = [] if self._fsdp is None else self._fsdp.before_step()
        ops += self.gradients.reduction(position, lanes)
        if self.overlap is not None and self.overlap.reduces:
            ops += self.overlap.reduction(position, lanes)
        ops += self.expert_replicas.sum_gradients(position)
        found = self._with_sms(self._at_speed(position, [*ops, *self.gradients.step(position, lanes)]))
        return found if self._host is None else self._host.after_passes(found)

    def _issued(self, position: LanePosition, pass_: Pass, ops: tuple[Op, ...]) -> tuple[Op, ...]:
        """Return the ops of a pass with the SMs that collectives take, as the host issues them."""
        ops = self._with_sms(ops)
        return ops if self._host is None else self._host.of_pass(pass_, self._model_chunk(position, pass_), ops)

    def _with_sms(self, ops: tuple[Op, ...]) -> tuple[Op, ...]:
        """Return ops whose collectives of NCCL's that run next to kernels take multiprocessors of these."""
        num_sms = self.work.runtime.collective_sms
        if not num_sms:
            return ops
        return tuple(self._taking(op, num_sms) if isinstance(op, Collective) and op.stream else op for op in ops)

    def _taking(self, op: Collective, num_sms: int) -> Collective:
        is_exchange = op.kind in _EXCHANGE_KINDS and self.work.network.all_to_all_algorithm.is_of_nccl
        if not (op.kind in _NCCL_KINDS or is_exchange) or not op.transfers or op.transfers[0].num_sms:
            return op
        if is_exchange and not self.work.has_balanced_routing:  # each is there once or twice: do not keep it
            return replace(op, transfers=tuple(replace(transfer, num_sms=num_sms) for transfer in op.transfers))
        if op not in self._taking_sms:
            self._taking_sms[op] = replace(op, transfers=tuple(map(self._slowing(num_sms), op.transfers)))
        return self._taking_sms[op]

    def _slowing(self, num_sms: int) -> Callable[[Transfer], Transfer]:
        """Return what gives a transfer its multiprocessors; equal transfers stay equal."""

        def take(transfer: Transfer) -> Transfer:
            if transfer not in self._slowing_transfers:
                self._slowing_transfers[transfer] = replace(transfer, num_sms=num_sms)
            return self._slowing_transfers[transfer]

        return take

    # ---- private: passes -----------------------------------------------------------------------------------------

    def _compute_and_exchange(self, position: LanePosition, pass_: Pass, *, is_split: bool) -> tuple[Op, ...]:
        """Return the ops of a pass through a model chunk, made once where they do not depend on the microbatch."""
        if self._passes_differ:  # the ops of a microbatch are needed once or twice: do not keep them
            return self.chunk_ops(position, pass_, is_split=is_split)
        key = (position, pass_.kind, pass_.chunk, is_split)
        if key not in self._passes:
            self._passes[key] = self.chunk_ops(position, pass_, is_split=is_split)
        return self._passes[key]

    def _forward(self, position: LanePosition, pass_: Pass) -> list[Op]:
        """Return the ops of a forward pass, without those that take no time."""
        work, chunk = self.work, self._model_chunk(position, pass_)
        ops = self._receive(position, pass_, step=-1)
        ops += self._embedding(position) if chunk == work.embedding_chunk else []
        for layer in work.layers_of_model_chunk(chunk):
            ops += self._embedding(position) if work.model.is_mtp_layer(layer) else []
            of_layer = self.layers.forward(position, layer, pass_.microbatch)
            ops += [*of_layer, *wait_for_copy(work, layer, of_layer)]
        for _ in range(work.num_heads if chunk == work.head_chunk else 0):
            ops += self._head(position)
        return [op for op in ops if not _is_empty(op)]

    def _backward(self, position: LanePosition, pass_: Pass) -> list[Op]:
        """Return the ops of a whole backward pass, without those that take no time."""
        work, chunk = self.work, self._model_chunk(position, pass_)
        ops = self._receive(position, pass_, step=1)
        for _ in range(work.num_heads if chunk == work.head_chunk else 0):
            ops += self._head_backward(position)
        for layer in reversed(work.layers_of_model_chunk(chunk)):
            of_layer = self.layers.backward(position, layer, pass_.microbatch)
            ops += [*of_layer, *wait_for_copy(work, layer, of_layer)]
            ops += self._embedding_backward(position) if work.model.is_mtp_layer(layer) else []
        ops += self._embedding_backward(position) if chunk == work.embedding_chunk else []
        return [op for op in ops if not _is_empty(op)]

    def _model_chunk(self, position: LanePosition, pass_: Pass) -> int:
        return self.work.chunk_layout.model_chunk_of(position.stage, pass_.chunk)

    def _receive(self, position: LanePosition, pass_: Pass, *, step: int) -> list[Op]:
        """Gather what comes from the model chunk that is `step` chunks further on, if it stands on another stage."""
        source = self.work.chunk_layout.neighbour(position.stage, pass_.chunk, step)
        if source is None or source.stage == position.stage or self.work.mesh.sp:
            return []
        return self._over_tp(position, "all_gather")

    def _over_tp(self, position: LanePosition, operation: str) -> list[Op]:
        """Return a collective of a microbatch's activations over TP (none for TP 1)."""
        return [] if self.work.mesh.strategy.tp == 1 else [self.layers.tp_collective(position, operation)]

    def _embedding(self, position: LanePosition) -> list[Op]:
        """Return the look-up of embeddings, which TP splits by the vocabulary and sums."""
        ops: list[Op] = [self._compute(embedding_block(self.work.model, self.work.rank_tokens))]
        return ops + self._over_tp(position, "reduce_scatter" if self.work.mesh.sp else "all_reduce")

    def _embedding_backward(self, position: LanePosition) -> list[Op]:
        ops = self._over_tp(position, "all_gather") if self.work.mesh.sp else []
        return [*ops, self._compute(self._embedding_gradient())]

    def _embedding_gradient(self) -> list[Kernel]:
        work = self.work
        gradient_bytes = work.precision.gradient_bytes
        return embedding_backward(work.model, work.rank_tokens, tp=work.mesh.strategy.tp, gradient_bytes=gradient_bytes)

    def _head(self, position: LanePosition) -> list[Op]:
        """Return the output head; sequence parallelism has split the tokens of which training's head needs all."""
        work = self.work
        ops = self._over_tp(position, "all_gather") if work.mesh.sp and work.kind.trains else []
        return [*ops, self._compute(self._head_kernels())]

    def _head_backward(self, position: LanePosition) -> list[Op]:
        kernels = backward_of(self._head_kernels())
        return self.layers.backward_bracket(position, NO_LAYER, kernels, gathers_gradient=False)

    def _head_kernels(self) -> list[Kernel]:
        work = self.work
        return head_block(work.model, work.rank_head_tokens, tp=work.mesh.strategy.tp, has_loss=work.kind.trains)

    def _compute(self, kernels: list[Kernel]) -> Op:
        return self.costs.kernels.compute(kernels, self.work.mesh.lane_size)

    def _at_speed(self, position: LanePosition, ops: Sequence[Op]) -> tuple[Op, ...]:
        """Return ops of a lane at the speeds of its GPUs."""
        return slow_down(tuple(ops), self.work.mesh.lanes(position.stage)[position.lane], self.work.cluster.speeds)

    # ---- private: exchanges --------------------------------------------------------------------------------------

    def _relocation(self, position: LanePosition, pass_: Pass) -> list[Collective]:
        """Return the relocation of experts before the first forward pass of a chunk under a plan."""
        plan = self.work.placement.plan_at(pass_.microbatch)
        key = (position, pass_.chunk, plan)
        if pass_.kind != "F" or key in self._relocated:
            return []
        self._relocated.add(key)
        layers = self.work.layers_of_model_chunk(self._model_chunk(position, pass_))
        return self.expert_replicas.relocate(position, layers, plan)

    def _as_blocking(self, position: LanePosition, ops: tuple[Op, ...]) -> tuple[Op, ...]:
        """Let all stages enter each expert exchange together, where it is to block as one collective of all ranks."""
        if self.work.exchange != "blocking" or not self.work.mesh.convention.experts_span_stages:
            return ops
        members = tuple((stage, position.lane) for stage in range(self.work.mesh.num_stages))
        joined: list[Op] = []
        for op in ops:
            if isinstance(op, Collective) and op.kind in _EXCHANGE_KINDS:
                number = self._num_exchanges.get(position, 0)
                self._num_exchanges[position] = number + 1
                key = ("exchange", position.lane, number)
                joined.append(replace(op, rendezvous=RendezvousKey(key=key, members=members)))
            else:
                joined.append(op)
        return tuple(joined)


def passes_differ(work: Work) -> bool:
    """Tell whether every pass has operations of its own: its tokens choose experts, or its documents are drawn."""
    return (not work.has_balanced_routing and work.model.num_moe_layers > 0) or work.documents is not None


def slow_down(ops: tuple[Op, ...], ranks: NDArray[np.intp], speeds: NDArray[np.float64]) -> tuple[Op, ...]:
    """Return ops of a lane of `ranks` [R] as they run at the `speeds` [G] of all ranks."""
    if (speeds == 1.0).all():
        return ops
    return tuple(_slowed(op, ranks, speeds) for op in ops)


# ---- private -----------------------------------------------------------------------------------------------------


def _slowed(op: Op, ranks: NDArray[np.intp], speeds: NDArray[np.float64]) -> Op:
    if isinstance(op, Compute):
        kernels = [replace(kernel, duration_ns=_at_speeds(kernel.duration_ns, speeds[ranks])) for kernel in op.kernels]
        return replace(op, kernels=tuple(kernels))
    if isinstance(op, Service):
        return replace(op, duration_ns=_at_speeds(op.duration_ns, speeds[op.ranks]))
    return op


def _at_speeds(duration_ns: NDArray[np.int64], speeds: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.where(speeds == 1.0, duration_ns, np.ceil(duration_ns / speeds)).astype(np.int64)


def _half(ops: list[Op], *, makes_weight_gradients: bool) -> list[Op]:
    """Return ops with the kernels of one half of a backward pass; a `Compute` that has none of them is left out."""
    kept: list[Op] = []
    for op in ops:
        if not isinstance(op, Compute):
            kept.append(op)
            continue
        kernels = tuple(kernel for kernel in op.kernels if kernel.is_weight_gradient == makes_weight_gradients)
        if kernels:
            kept.append(op if len(kernels) == len(op.kernels) else replace(op, kernels=kernels))
    return kept


def _is_empty(op: Op) -> bool:
    """Tell whether an op takes no time and nothing looks for it: a collective of groups of one."""
    if not isinstance(op, Collective) or op.rendezvous is not None or op.label is not None:
        return False
    return op.transfers[0].total_bytes == 0 if len(op.transfers) == 1 else not any(t.total_bytes for t in op.transfers)
