"""ZeRO 2 and 3: replicas exchange gradients, and weights too, layer by layer in every pass.

Model
-----
    zero 2    B, or W where it is split off: after a layer, reduce-scatter of its gradients
    zero 3    F and B: before a layer, all-gather of its weights; B or W: after it, reduce-scatter of its gradients

Embedding and output head are gathered before the first op of no layer and reduced after the last.

Assumptions
-----------
A rank waits for each of these collectives: nothing is prefetched and nothing overlaps, which is pessimistic. Gradients
are reduced in every microbatch, for a rank that kept them until the last would hold them whole.

References
----------
Rajbhandari et al., "ZeRO: memory optimizations toward training trillion parameter models", 2020, section 7.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sim.build.work import Work
from sim.plan.costs import Costs
from sim.plan.data_parallel import over_replicas
from sim.plan.ops import NO_LAYER, Collective, Compute, Op
from workloads.memory import StageParameters, layer_params_per_rank, params_per_rank
from workloads.schedules import Pass

__all__ = ["with_sharding"]

Ranks = NDArray[np.intp]


def with_sharding(
    work: Work, costs: Costs, place: tuple[int, int], lane_of: Ranks, ops: Sequence[Op], *, chosen: Pass, reduces: bool
) -> tuple[Op, ...]:
    """Return the ops of a pass with the exchanges of ZeRO 2 and 3 around each layer's.

    A pass `reduces` if it makes gradients of weights: W, or B where W is not split off.
    """
    part = work.chunk_layout.model_chunk_of(place[0], chosen.chunk)

    def exchange(layer: int, operation: str) -> list[Op]:
        """Return a collective of a layer's parameters; each pass meets for itself."""
        ops = costs.once(
            ("sharded", operation, *place, layer, part if layer == NO_LAYER else None),
            lambda: _of_layer(work, costs, place, lane_of, where=(part, layer), operation=operation),
        )
        key = ("sharded", operation, place[0], layer, *chosen)
        return [
            replace(op, join=replace(op.join, key=key)) if isinstance(op, Collective) and op.join is not None else op
            for op in ops
        ]

    layers = [op.kernels[0].layer if isinstance(op, Compute) else op.layer for op in ops]
    first = {layer: i for i, layer in reversed(list(enumerate(layers)))}
    last = {layer: i for i, layer in enumerate(layers)}
    result: list[Op] = []
    for i, (layer, op) in enumerate(zip(layers, ops, strict=True)):
        if work.zero == 3 and chosen.kind != "W" and first[layer] == i:
            result += exchange(layer, "all_gather")
        result.append(op)
        if last[layer] == i and (reduces or _is_embedding_backward(work, part, layer, chosen)):
            result += exchange(layer, "reduce_scatter")
    return tuple(result)


# ---- private -----------------------------------------------------------------------------------------------------


def _is_embedding_backward(work: Work, part: int, layer: int, chosen: Pass) -> bool:
    """Tell whether a B makes the gradients of the embedding, which has no product to split off."""
    return layer == NO_LAYER and chosen.kind == "B" and part == 0 < work.chunk_layout.num_model_chunks - 1


def _of_layer(
    work: Work, costs: Costs, place: tuple[int, int], lane_of: Ranks, *, where: tuple[int, int], operation: str
) -> list[Op]:
    """Return a collective of the parameters of a (part, layer) in which a lane takes part."""
    found = over_replicas(
        work,
        costs,
        place,
        lane_of,
        operation=operation,
        params=_params_of(work, *where),
        bytes_per_param=work.model.dtype_bytes if operation == "all_gather" else work.precision.gradient_bytes,
        layer=where[1],
    )
    return list(found)


def _params_of(work: Work, part: int, layer: int) -> tuple[int, int]:
    """Return the dense and expert parameters of a layer, or those of a part of the model that belong to none."""
    if layer != NO_LAYER:
        return layer_params_per_rank(work.model, layer, work.mesh, expert_replicas=work.placement.replicas)
    ends = StageParameters(layers=(), has_embedding=part == 0, has_head=part == work.chunk_layout.num_model_chunks - 1)
    return params_per_rank(work.model, work.mesh, ends)[0], 0
