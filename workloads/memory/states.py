"""Weights, gradients and optimizer states of a rank, under ZeRO 0 to 3.

Model
-----
With P parameters on the rank and P' = dense / DP + experts / their replicas, and the usual precision::

    zero   weights        gradients   optimizer   working
    0      dtype * P      4 P         12 P
    1      dtype * P      4 P         12 P'
    2      dtype * P      4 P'        12 P'       one layer's gradients, whole
    3      dtype * P'     4 P'        12 P'       one layer's gradients, two layers' weights, whole

In bf16 that is Megatron's mixed precision: 2 + 4 + 12 = 18 bytes per parameter without ZeRO, 6 + 12 / DP with its
distributed optimizer.

Assumptions
-----------
The layer that is computed and the next one are gathered under ZeRO 3; frameworks
that prefetch more hold more.

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
from workloads.mesh import Mesh
from workloads.model import ModelSpec

__all__ = ["GRADIENT_BYTES", "OPTIMIZER_BYTES", "ZERO_LEVELS", "StateBytes", "state_bytes"]

GRADIENT_BYTES = MEGATRON_PRECISION.gradient_bytes
"""Bytes of a gradient by default."""
OPTIMIZER_BYTES = MEGATRON_PRECISION.optimizer_bytes
"""Bytes of Adam's state per parameter by default."""
ZERO_LEVELS = (0, 1, 2, 3)
"""Levels of ZeRO; each level splits more states over the replicas."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StateBytes:
    """Bytes that a rank holds in training from the first to the last step."""

    weights: float
    gradients: float
    optimizer: float
    """Master weights and moments."""
    working: float
    """Gradients and weights of layers, split over replicas, that are whole while computed (ZeRO 2 and 3)."""


def state_bytes(
    model: ModelSpec,
    mesh: Mesh,
    stage_parameters: StageParameters,
    stage: int,
    *,
    zero: int = 0,
    precision: Precision = MEGATRON_PRECISION,
) -> StateBytes:
    """Return the bytes of weights, gradients and optimizer on each rank of a stage.

    Parameters
    ----------
    model, mesh, stage_parameters, stage
        Which parameters a rank holds.
    zero
        0: every replica holds all; 1: the optimizer is split over the replicas; 2: gradients too; 3: weights too.
    precision
        Types of gradients and optimizer states.
    """
    whole = float(sum(params_per_rank(model, mesh, stage_parameters)))
    split = optimized_params_per_rank(model, mesh, stage_parameters, stage, zero=1)
    split_dense, split_expert = mesh.dp_groups(stage).shape[1] > 1, mesh.expert_dp_groups(stage).shape[1] > 1
    of_layers = [
        layer_params_per_rank(layer, mesh, expert_replicas=stage_parameters.expert_replicas)
        for layer, _ in model.layer_kinds(stage_parameters.layers)
    ]
    largest = max((dense * split_dense + expert * split_expert for dense, expert in of_layers), default=0)
    gathered = 2 * model.dtype_bytes * largest if zero == 3 else 0
    working = gathered + (precision.gradient_bytes * largest if zero >= 2 else 0)
    return StateBytes(
        weights=model.dtype_bytes * (split if zero == 3 else whole),
        gradients=precision.gradient_bytes * (split if zero >= 2 else whole),
        optimizer=precision.optimizer_bytes * (split if zero >= 1 else whole),
        working=float(working),
    )
