"""Weights, gradients and optimizer states of a rank, under ZeRO 0 to 3 and under FSDP.

Model
-----
With P parameters on the rank and P' = dense / DP + experts / their replicas, and the usual precision::

    zero   weights        gradients   optimizer   working
    0      dtype * P      4 P         12 P
    1      dtype * P      4 P         12 P'
    2      dtype * P      4 P'        12 P'       one layer's gradients, whole
    3      dtype * P'     4 P'        12 P'       one layer's gradients, two layers' weights, whole

FSDP is as zero 3, with the weights of embedding and output head and the gradients of the head whole as well; P' counts
the ranks of an instance (HSDP). Where layers stay gathered from forward to backward pass, all weights are whole; where
gradients are reduced after the last microbatch alone, 4 P of gradients are kept. Parameters that no other rank shares,
such as experts whose EP covers the stage, are never gathered: they are whole anyway, and count once.

In bf16 that is Megatron's mixed precision: 2 + 4 + 12 = 18 bytes per parameter without ZeRO, 6 + 12 / DP with its
distributed optimizer.

Assumptions
-----------
The layer that is computed and the next one are gathered under ZeRO 3 and FSDP; frameworks that prefetch more hold more.
The gradients of the embedding come when the activations of their microbatch are gone, and are left out of what FSDP
has whole. Whole gradients are in the type they are kept in; PyTorch has them in the type of the weights until they are
reduced: pessimistic for bf16.

References
----------
Rajbhandari et al., "ZeRO: memory optimizations toward training trillion parameter models", 2020, section 3.1, figure 1.
Megatron-LM, `distributed optimizer` (6 + 12 / d bytes per parameter with bf16 weights and fp32 gradients).
"""

from dataclasses import dataclass

from workloads.memory.params import (
    StageParameters,
    layer_params_per_rank,
    optimized_params_per_rank,
    params_per_rank,
)
from workloads.memory.precision import MEGATRON_PRECISION, Precision
from workloads.memory.sharding import ZERO_LEVELS, Sharding
from workloads.mesh import Mesh
from workloads.model import ModelSpec

__all__ = ["GRADIENT_BYTES", "OPTIMIZER_BYTES", "StateBytes", "params_of_layers", "state_bytes"]

GRADIENT_BYTES = MEGATRON_PRECISION.gradient_bytes
"""Bytes of a gradient by default."""
OPTIMIZER_BYTES = MEGATRON_PRECISION.optimizer_bytes
"""Bytes of Adam's state per parameter by default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StateBytes:
    """Bytes that a rank holds in training from the first to the last step."""

    weights: float
    gradients: float
    optimizer: float
    """Master weights and moments."""
    working: float
    """Gradients and weights of layers, split over replicas, that are whole while computed (ZeRO 2 and 3, FSDP)."""


def state_bytes(
    model: ModelSpec,
    mesh: Mesh,
    stage_parameters: StageParameters,
    stage: int,
    *,
    sharding: Sharding = ZERO_LEVELS[0],
    precision: Precision = MEGATRON_PRECISION,
) -> StateBytes:
    """Return the bytes of weights, gradients and optimizer on each rank of a stage.

    Parameters
    ----------
    model, mesh, stage_parameters, stage
        Which parameters a rank holds.
    sharding
        What the replicas split.
    precision
        Types of gradients and optimizer states.
    """
    formats, layers = model.formats, float(params_of_layers(model, mesh, stage_parameters))
    ends = float(_params_of_ends(model, mesh, stage_parameters))
    split = optimized_params_per_rank(model, mesh, stage_parameters, stage, sharding=sharding)
    working = _whole_for_a_time(model, mesh, stage_parameters, stage, sharding)
    if sharding.weights:
        held_ends = ends / sharding.num_shards(mesh.dp_groups(stage).shape[1])
        held_layers, copied = split - held_ends, working.kept_layers
    else:
        held_ends, held_layers, copied = ends, layers, layers
    in_two_bytes = 0 if formats.has_fp8_weights else model.dtype_bytes  # of layers
    weights = model.dtype_bytes * held_ends + in_two_bytes * held_layers + formats.weight_copy_bytes * copied
    if formats.has_fp8_weights and sharding.weights:
        weights += formats.operand_bytes * (held_layers - copied)  # what is kept whole has all copies
    return StateBytes(
        weights=weights,
        gradients=precision.gradient_bytes * (split if sharding.gradients else layers + ends),
        optimizer=precision.optimizer_bytes * (split if sharding.optimizer else layers + ends),
        working=(in_two_bytes + formats.weight_copy_bytes) * working.layers
        + model.dtype_bytes * working.ends
        + precision.gradient_bytes * working.gradients,
    )


def params_of_layers(model: ModelSpec, mesh: Mesh, stage_parameters: StageParameters) -> int:
    """Return the parameters of a rank that belong to layers, experts among them: those that a recipe casts to fp8."""
    return sum(params_per_rank(model, mesh, stage_parameters)) - _params_of_ends(model, mesh, stage_parameters)


# ---- private -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Working:
    """Parameters of a rank that are whole for a time, and those that are whole all the time."""

    layers: float
    """Parameters of layers that are split, and whose weights are gathered."""
    ends: float
    """The same of embedding and output head."""
    gradients: float
    """Parameters that are split, and whose gradients are whole."""
    kept_layers: float
    """Parameters of layers that no other rank shares, and that are never gathered."""


def _whole_for_a_time(
    model: ModelSpec, mesh: Mesh, stage_parameters: StageParameters, stage: int, sharding: Sharding
) -> _Working:
    """Return what is whole on a rank while it computes."""
    split_dense, split_expert = (
        sharding.num_shards(groups.shape[1]) > 1 for groups in (mesh.dp_groups(stage), mesh.expert_dp_groups(stage))
    )
    of_layers = [
        layer_params_per_rank(layer, mesh, expert_replicas=stage_parameters.expert_replicas)
        for layer, _ in model.layer_kinds(stage_parameters.layers)
    ]
    largest = max((dense * split_dense + expert * split_expert for dense, expert in of_layers), default=0)
    dense, expert = params_per_rank(model, mesh, stage_parameters)
    ends = _params_of_ends(model, mesh, stage_parameters)
    split_layers = (dense - ends) * split_dense + expert * split_expert
    gradients = float(largest)
    if sharding.gathers_ends_once and stage_parameters.has_head:
        head = StageParameters(layers=(), has_head=True)
        gradients += split_dense * params_per_rank(model, mesh, head)[0]
    gathers_ends = sharding.weights and (sharding.gathers_ends_once or sharding.keeps_gathered)
    return _Working(
        layers=sharding.weights * float(split_layers if sharding.keeps_gathered else min(split_layers, 2 * largest)),
        ends=float(gathers_ends * split_dense * ends),
        gradients=sharding.gradients * gradients,
        kept_layers=float(dense - ends + expert - split_layers),
    )


def _params_of_ends(model: ModelSpec, mesh: Mesh, stage_parameters: StageParameters) -> int:
    """Return the parameters of a rank that belong to no layer: embedding and output head."""
    layers = sum(
        count * layer_params_per_rank(layer, mesh)[0] for layer, count in model.layer_kinds(stage_parameters.layers)
    )
    return params_per_rank(model, mesh, stage_parameters)[0] - layers
