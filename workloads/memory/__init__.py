"""Bytes per GPU: what a rank holds at all times, and what a microbatch in flight adds.

Contents
--------
- `workloads.memory.params`: parameters of a rank; `states`: their bytes; `precision`: in which types;
  `sharding`: what ZeRO and FSDP split.
- `workloads.memory.activations`: what a microbatch keeps for its backward pass; `inference`: what prefill keeps.
- `workloads.memory.reserved`: memory that a process takes in addition to a framework's tensors.
"""

from workloads.blocks.recompute import RECOMPUTE_MODULES, Recompute
from workloads.memory.activations import (
    activation_bytes_per_microbatch,
    bytes_per_token_copy,
    gradient_bytes_in_block,
    weight_pass_bytes_per_microbatch,
)
from workloads.memory.inference import forward_working_bytes, kv_cache_bytes
from workloads.memory.params import (
    StageParameters,
    layer_params_per_rank,
    optimized_params_per_rank,
    params_per_rank,
    stage_parameters_in_order,
)
from workloads.memory.precision import MEGATRON_PRECISION, STATE_DTYPE_BYTES, Precision
from workloads.memory.reserved import deepep_buffer_bytes, reserved_bytes
from workloads.memory.sharding import FSDP_KINDS, ZERO_LEVELS, Fsdp, Sharding
from workloads.memory.states import GRADIENT_BYTES, OPTIMIZER_BYTES, StateBytes, params_of_layers, state_bytes

__all__ = [
    "FSDP_KINDS",
    "GRADIENT_BYTES",
    "MEGATRON_PRECISION",
    "OPTIMIZER_BYTES",
    "RECOMPUTE_MODULES",
    "STATE_DTYPE_BYTES",
    "ZERO_LEVELS",
    "Fsdp",
    "Precision",
    "Recompute",
    "Sharding",
    "StageParameters",
    "StateBytes",
    "activation_bytes_per_microbatch",
    "bytes_per_token_copy",
    "deepep_buffer_bytes",
    "forward_working_bytes",
    "gradient_bytes_in_block",
    "kv_cache_bytes",
    "layer_params_per_rank",
    "optimized_params_per_rank",
    "params_of_layers",
    "params_per_rank",
    "reserved_bytes",
    "stage_parameters_in_order",
    "state_bytes",
    "weight_pass_bytes_per_microbatch",
]
