"""The ops of a pass through one part of a model: what comes in, the embedding, its layers, the output head.

Model
-----
    F of a part    [receive: all-gather over TP] [embedding, summed over TP] layers [output head]
    B of a part    [receive] [output head backward] layers backward, last first, [embedding backward]

The embedding stands with the first part and the output head with the last.

A stage sends 1 / TP of its activations from each rank to the same rank of the next stage; the receivers gather them
over TP. They need not under sequence parallelism, where each rank keeps its part, nor where the part before stands on
the same stage.
"""

import numpy as np
from numpy.typing import NDArray

from sim.build.work import Work
from sim.plan.costs import Costs
from sim.plan.layer import layer_backward, layer_forward, tp_collective
from sim.plan.ops import NO_LAYER, Collective, Op
from workloads.kernels import Kernel
from workloads.layers import backward_of, embedding_block, head_block
from workloads.schedules import Pass

__all__ = ["chunk_backward", "chunk_forward"]

ChunkPosition = tuple[int, int]


def chunk_forward(work: Work, costs: Costs, place: ChunkPosition, chosen: Pass) -> list[Op]:
    """Return the ops of a forward pass on a (stage, lane), without those that take no time."""
    stage, lane = place
    ranks, parts = work.mesh.lanes(stage)[lane], work.chunk_layout
    part = parts.model_chunk_of(stage, chosen.chunk)
    ops = _receive(work, costs, place, chosen, step=-1)
    if part == 0:
        ops.append(_edge(costs, embedding_block(work.model, work.tokens), ranks))
        ops += _over_tp(work, costs, "reduce_scatter" if work.mesh.sp else "all_reduce", ranks)
    for layer in work.layers_of_part(part):
        ops += layer_forward(work, costs, stage=stage, lane=lane, layer=layer, microbatch=chosen.microbatch)
    if part == parts.num_model_chunks - 1:
        # sequence parallelism has split the tokens of which training's head needs all
        ops += _over_tp(work, costs, "all_gather", ranks) if work.mesh.sp and work.kind.trains else []
        ops.append(_edge(costs, _head(work), ranks))
    return [op for op in ops if not _is_empty(op)]


def chunk_backward(work: Work, costs: Costs, place: ChunkPosition, chosen: Pass) -> list[Op]:
    """Return the ops of a whole backward pass on a (stage, lane), without those that take no time."""
    stage, lane = place
    ranks, parts = work.mesh.lanes(stage)[lane], work.chunk_layout
    part = parts.model_chunk_of(stage, chosen.chunk)
    ops = _receive(work, costs, place, chosen, step=1)
    if part == parts.num_model_chunks - 1:
        ops.append(_edge(costs, backward_of(_head(work)), ranks))
        ops += _over_tp(work, costs, "reduce_scatter" if work.mesh.sp else "all_reduce", ranks)
    for layer in reversed(work.layers_of_part(part)):
        ops += layer_backward(work, costs, stage=stage, lane=lane, layer=layer, microbatch=chosen.microbatch)
    if part == 0:
        ops += _over_tp(work, costs, "all_gather", ranks) if work.mesh.sp else []
        ops.append(_edge(costs, backward_of(embedding_block(work.model, work.tokens)), ranks))
    return [op for op in ops if not _is_empty(op)]


# ---- private -----------------------------------------------------------------------------------------------------


def _receive(work: Work, costs: Costs, place: ChunkPosition, chosen: Pass, *, step: int) -> list[Op]:
    """Gather what comes from the part that is `step` parts further on, if that stands elsewhere."""
    stage, lane = place
    before = work.chunk_layout.neighbour(stage, chosen.chunk, step)
    if before is None or before.stage == stage or work.mesh.sp:
        return []
    return _over_tp(work, costs, "all_gather", work.mesh.lanes(stage)[lane])


def _over_tp(work: Work, costs: Costs, operation: str, ranks: NDArray[np.intp]) -> list[Op]:
    """Return a collective of a microbatch's activations over TP (none for TP 1)."""
    if work.mesh.strategy.tp == 1:
        return []
    return [tp_collective(work, costs, ranks, operation, kind="tp", layer=NO_LAYER)]


def _head(work: Work) -> list[Kernel]:
    return head_block(work.model, work.head_tokens, tp=work.mesh.strategy.tp)


def _edge(costs: Costs, kernels: list[Kernel], ranks: NDArray[np.intp]) -> Op:
    return costs.kernels.compute(kernels, ranks.size)


def _is_empty(op: Op) -> bool:
    """Tell whether an op takes no time: a collective of groups of one."""
    if not isinstance(op, Collective) or op.join is not None:
        return False
    return op.transfers[0].total_bytes == 0 if len(op.transfers) == 1 else not any(t.total_bytes for t in op.transfers)
