"""The ops of a layer, forward and backward.

Model
-----
With TP > 1 the blocks of a layer are bracketed by collectives over TP::

    sequence parallel    all-gather | block | reduce-scatter         (backward the same)
    otherwise                         block | all-reduce             (backward the same)

Expert blocks under sequence parallelism need none: each rank routes the tokens that it owns.

References
----------
Korthikanti et al., "Reducing activation recomputation in large transformer models", 2022, section 4.2.2.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sim.build.work import Work
from sim.plan.costs import Costs
from sim.plan.experts import expert_backward, expert_forward
from sim.plan.ops import Collective, Op
from sim.plan.route import route
from workloads.kernels import Attention, Kernel
from workloads.layers import attention_block, backward_of, dense_ffn_block

__all__ = ["layer_backward", "layer_forward", "tp_collective"]

Ranks = NDArray[np.intp]


def layer_forward(
    work: Work, costs: Costs, *, stage: int, lane: int, layer: int, microbatch: int, counted: bool = True
) -> list[Op]:
    """Return the ops of one layer's forward pass of one microbatch on one lane (`counted`: see `expert_forward`)."""
    ops = costs.once(
        ("attention", stage, lane, layer),
        lambda: _bracket(work, costs, work.mesh.lanes(stage)[lane], layer, _attention(work)),
    )
    if not work.model.is_moe_layer(layer):
        return ops + _bracket(work, costs, work.mesh.lanes(stage)[lane], layer, _dense_ffn(work))
    routed = route(work, costs, stage=stage, lane=lane, layer=layer, microbatch=microbatch)
    return ops + expert_forward(work, costs, routed, counted=counted)


def layer_backward(work: Work, costs: Costs, *, stage: int, lane: int, layer: int, microbatch: int) -> list[Op]:
    """Return the ops of one layer's backward pass, with what is recomputed first."""
    ranks = work.mesh.lanes(stage)[lane]
    ops: list[Op] = []
    if work.recompute.kind == "full":
        ops += layer_forward(work, costs, stage=stage, lane=lane, layer=layer, microbatch=microbatch, counted=False)
    if work.model.is_moe_layer(layer):
        routed = route(work, costs, stage=stage, lane=lane, layer=layer, microbatch=microbatch)
        if work.recompute.recomputes("moe"):
            ops += expert_forward(work, costs, routed, counted=False)
        ops += expert_backward(work, costs, routed)
    else:
        if work.recompute.recomputes("mlp"):
            ops += _bracket(work, costs, ranks, layer, _dense_ffn(work))
        ops += _bracket(work, costs, ranks, layer, [*_remade_norm(work, "mlp"), *backward_of(_dense_ffn(work))])
    attention = _attention(work)
    again = (
        [kernel for kernel in attention if isinstance(kernel, Attention)]
        if work.recompute.recomputes("core_attn")
        else []
    )
    return ops + _bracket(work, costs, ranks, layer, [*_remade_norm(work), *again, *backward_of(attention)])


def tp_collective(
    work: Work, costs: Costs, ranks: Ranks, operation: str, *, kind: str, layer: int, num_bytes: float | None = None
) -> Collective:
    """Return a collective over each TP group of a lane; by default of a microbatch's activations."""
    size = float(work.tokens * work.model.hidden * work.model.dtype_bytes) if num_bytes is None else num_bytes
    groups = ranks.reshape(-1, work.mesh.strategy.tp)
    return Collective(
        kind=kind,
        layer=layer,
        transfers=tuple(
            costs.transfers.collective(operation, group, size, group=number) for number, group in enumerate(groups)
        ),
    )


# ---- private -----------------------------------------------------------------------------------------------------


def _remade_norm(work: Work, unless: str = "") -> list[Kernel]:
    """Return the norm before attention or FFN where it is computed again on its own."""
    if not work.recompute.recomputes("layernorm") or work.recompute.recomputes(unless):
        return []
    return _attention(work)[:1]  # its norm is like the FFN's


def _split_tokens(work: Work) -> int:
    """Tokens that a rank's norms see."""
    return work.tokens // work.mesh.strategy.tp if work.mesh.sp else work.tokens


def _attention(work: Work) -> list[Kernel]:
    tp = work.mesh.strategy.tp
    return attention_block(work.model, work.tokens, work.sequence_length, tp=tp, norm_tokens=_split_tokens(work))


def _dense_ffn(work: Work) -> list[Kernel]:
    return dense_ffn_block(work.model, work.tokens, tp=work.mesh.strategy.tp, norm_tokens=_split_tokens(work))


def _bracket(work: Work, costs: Costs, ranks: Ranks, layer: int, kernels: Sequence[Kernel]) -> list[Op]:
    compute = costs.kernels.compute(kernels, ranks.size, layer=layer)
    if work.mesh.strategy.tp == 1:
        return [compute]
    if not work.mesh.sp:
        return [compute, tp_collective(work, costs, ranks, "all_reduce", kind="tp", layer=layer)]
    return [
        tp_collective(work, costs, ranks, "all_gather", kind="tp", layer=layer),
        compute,
        tp_collective(work, costs, ranks, "reduce_scatter", kind="tp", layer=layer),
    ]
