"""Weights, gradients and optimizer states of a rank, under ZeRO 0 to 3 and under FSDP.

Model
-----
With P parameters on the rank and P' = dense / DP + experts / their replicas, and the usual precision::

    zero   weights        gradients   optimizer   working
    0      dtype * P      4 P         12 P
    1      dtype * P      4 P         12 P'
    2      dtype * P      4 P'        12 P'       one layer's gradients, whole
    3      dtype * P'     4 P'        12 P'       one layer's gradients, two layers' weights, whole

FSDP is as zero 3, with embedding and output head whole as well; P' counts the ranks of an instance (HSDP). Where layers
stay gathered from forward to backward pass, all weights are whole; where gradients are reduced after the last
microbatch alone, 4 P of gradients are kept.

In bf16 that is Megatron's mixed precision: 2 + 4 + 12 = 18 bytes per parameter without ZeRO, 6 + 12 / DP with its
distributed optimizer.

Assumptions
-----------
The layer that is computed and the next one are gathered under ZeRO 3 and FSDP; frameworks that prefetch more hold more.

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
    whole = float(sum(params_per_rank(model, mesh, stage_parameters)))
    split = optimized_params_per_rank(model, mesh, stage_parameters, stage, sharding=sharding)
    largest = _largest_split_layer(model, mesh, stage_parameters, stage, sharding)
    gathered = 0.0
    if sharding.weights:
        gathered = whole if sharding.keeps_gathered else 2.0 * largest
        if sharding.gathers_ends_once and not sharding.keeps_gathered:
            gathered += _params_of_ends(model, mesh, stage_parameters)
    formats, layers = model.formats, float(params_of_layers(model, mesh, stage_parameters))
    in_fp8 = formats.weight_copy_bytes * (min(gathered, layers) if sharding.weights else layers)
    held = split if sharding.weights else whole
    weights, whole_bytes = model.dtype_bytes * held, model.dtype_bytes * gathered
    if formats.has_fp8_weights:
        of_layers = layers * held / whole
        weights -= model.dtype_bytes * of_layers
        weights += formats.operand_bytes * of_layers if sharding.weights else 0.0
        whole_bytes -= model.dtype_bytes * min(gathered, layers)
    working = whole_bytes + (precision.gradient_bytes * largest if sharding.gradients else 0)
    return StateBytes(
        weights=weights + (0.0 if sharding.weights else in_fp8),
        gradients=precision.gradient_bytes * (split if sharding.gradients else whole),
        optimizer=precision.optimizer_bytes * (split if sharding.optimizer else whole),
        working=float(working + (in_fp8 if sharding.weights else 0.0)),
    )


def params_of_layers(model: ModelSpec, mesh: Mesh, stage_parameters: StageParameters) -> int:
    """Return the parameters of a rank that belong to layers, experts among them: those that a recipe casts to fp8."""
    return sum(params_per_rank(model, mesh, stage_parameters)) - _params_of_ends(model, mesh, stage_parameters)


# ---- private -----------------------------------------------------------------------------------------------------


def _largest_split_layer(
    model: ModelSpec, mesh: Mesh, stage_parameters: StageParameters, stage: int, sharding: Sharding
) -> int:
    """Return the parameters of the stage's largest layer that are split over several ranks."""
    split_dense, split_expert = (
        sharding.num_shards(groups.shape[1]) > 1 for groups in (mesh.dp_groups(stage), mesh.expert_dp_groups(stage))
    )
    of_layers = [
        layer_params_per_rank(layer, mesh, expert_replicas=stage_parameters.expert_replicas)
        for layer, _ in model.layer_kinds(stage_parameters.layers)
    ]
    return max((dense * split_dense + expert * split_expert for dense, expert in of_layers), default=0)


def _params_of_ends(model: ModelSpec, mesh: Mesh, stage_parameters: StageParameters) -> int:
    """Return the parameters of a rank that belong to no layer: embedding and output head."""
    layers = sum(
        count * layer_params_per_rank(layer, mesh)[0] for layer, count in model.layer_kinds(stage_parameters.layers)
    )
    return params_per_rank(model, mesh, stage_parameters)[0] - layers
