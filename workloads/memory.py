"""Bytes per GPU, part by part.

Model
-----
    weights      parameters * bytes of the dtype
    gradients    parameters * 4                          training
    optimizer    parameters * 12, each family / its replicas under ZeRO 1    training: master weight, two moments, fp32
    kv_cache     tokens in flight * layers * 2 * kv_heads * head_dim * bytes / TP        forward
    activations  microbatches in flight * layers * what backward needs of a layer        training
                 one microbatch's residual stream and largest block                      forward

What backward needs of a layer, per token (fused attention keeps no scores)::

    attention  norm and QKV inputs 2h, Q K V and output (2 heads + 2 kv) d
    FFN        norm and up inputs 2h (experts: per copy of the token), up, activation (gates + 1) w per copy

What tensor parallelism splits is divided by TP, the rest too under sequence parallelism. Full recompute keeps the
layer's input alone. Selective recompute saves nothing here: fused attention keeps no scores in the first place.

Assumptions
-----------
Fragmentation, framework buffers and communication buffers beyond one microbatch are left out: optimistic by some GB.

References
----------
Korthikanti et al., "Reducing activation recomputation in large transformer models", 2022, section 4.1, without the
terms of unfused scores and of dropout. Rajbhandari et al., "ZeRO", 2020, section 3.1 (12 bytes of optimizer state).
"""

from collections.abc import Sequence

from workloads.mesh import Mesh
from workloads.model import ModelSpec

__all__ = [
    "GRADIENT_BYTES",
    "OPTIMIZER_BYTES",
    "activation_bytes_per_microbatch",
    "forward_working_bytes",
    "kv_cache_bytes",
    "optimized_params_per_rank",
    "params_per_rank",
]

GRADIENT_BYTES = 4
"""Bytes of a gradient: accumulated in fp32, as Megatron does by default."""
OPTIMIZER_BYTES = 12
"""Bytes of Adam's state per parameter: master weight and two moments in fp32."""


def params_per_rank(
    model: ModelSpec, mesh: Mesh, stage_layers: Sequence[int], stage: int, *, replicas: int = 0
) -> tuple[int, int]:
    """Return the dense and the expert parameters that each rank of a stage holds.

    Embedding stands on the first stage, last norm and output head on the last. Under `spanning` a rank holds its
    experts for all layers of the model, otherwise for the layers of its stage. Of each layer's experts there are
    `replicas` copies more, spread evenly over the ranks.
    """
    tp = mesh.strategy.tp
    first = sum(stage_layers[:stage])
    layers = range(first, first + stage_layers[stage])
    dense = sum(count * _dense_params_of_layer(model, layer, mesh) for layer, count in _kinds_of(model, layers))
    if stage == 0:
        dense += model.num_embedding_params // tp
    if stage == mesh.num_stages - 1:
        dense += model.num_embedding_params // tp + model.hidden
    held = range(model.layers) if mesh.convention == "spanning" else layers
    num_moe = sum(count for layer, count in _kinds_of(model, held) if model.is_moe_layer(layer))
    return dense, num_moe * model.num_expert_params * (model.experts + replicas) // mesh.strategy.ep


def optimized_params_per_rank(
    model: ModelSpec, mesh: Mesh, stage_layers: Sequence[int], stage: int, *, zero: int
) -> float:
    """Return the parameters whose optimizer state each rank of a stage holds and updates.

    Under ZeRO 1 each family is split over the ranks that hold the same ones: dense parameters over DP, experts over
    their own copies (one under `spanning`, and wherever EP covers the stage).
    """
    dense, expert = params_per_rank(model, mesh, stage_layers, stage)
    if not zero:
        return float(dense + expert)
    return float(dense / mesh.dp_groups(stage).shape[1] + expert / mesh.expert_dp_groups(stage).shape[1])


def kv_cache_bytes(model: ModelSpec, num_layers: int, tokens: int, tp: int) -> float:
    """Return the bytes of keys and values of `tokens` tokens in `num_layers` layers on one of `tp` ranks.

    >>> small = ModelSpec(layers=1, hidden=4, heads=2, kv_heads=2, head_dim=2, ffn=8, dense_ffn=8, vocab=10)
    >>> kv_cache_bytes(small, 1, 10, 2)  # 10 tokens * 2 * 2 heads * 2 * 2 bytes / 2
    80.0
    """
    shards = min(tp, model.kv_heads)
    return num_layers * tokens * model.kv_cache_bytes_per_token_layer / shards


def activation_bytes_per_microbatch(
    model: ModelSpec, mesh: Mesh, layers: Sequence[int], tokens: int, recompute: str
) -> float:
    """Return what a microbatch in flight keeps for the backward pass of `layers` on a rank, with balanced experts."""
    tp = mesh.strategy.tp
    shared = tp if mesh.sp else 1
    if recompute == "full":
        return len(layers) * tokens * model.hidden * model.dtype_bytes / shared
    attention = 2 * model.hidden / shared + (2 * model.heads + 2 * model.kv_heads) * model.head_dim / tp
    total = 0.0
    for layer in layers:
        total += attention + _ffn_elements_per_token(model, layer, tp, shared)
    return total * tokens * model.dtype_bytes


def forward_working_bytes(model: ModelSpec, mesh: Mesh, tokens: int) -> float:
    """Return the residual stream (twice: in and out) and the largest block of one microbatch on one rank."""
    tp = mesh.strategy.tp
    shared = tp if mesh.sp else 1
    residual = 2 * model.hidden / shared
    attention = (2 * model.heads + 2 * model.kv_heads) * model.head_dim / tp
    kinds = _kinds_of(model, range(model.layers))
    ffn = max(_ffn_elements_per_token(model, layer, tp, shared) for layer, _ in kinds)
    return (residual + max(attention, ffn)) * tokens * model.dtype_bytes


def _kinds_of(model: ModelSpec, layers: range) -> list[tuple[int, int]]:
    """Return of consecutive layers one of each kind, dense and mixture of experts, with how many there are."""
    border = min(max(model.layers - model.num_moe_layers, layers.start), layers.stop)
    parts = (range(layers.start, border), range(border, layers.stop))
    return [(part.start, len(part)) for part in parts if part]


def _ffn_elements_per_token(model: ModelSpec, layer: int, tp: int, shared: int) -> float:
    """Return the elements that the FFN of a layer keeps on one rank for each token of its replica."""
    gates = 2 if model.gated else 1
    norm = model.hidden / shared
    if not model.is_moe_layer(layer):
        return norm + model.hidden / shared + (gates + 1) * model.dense_ffn / tp
    width = model.hidden + (gates + 1) * model.ffn
    return norm + (model.top_k + model.shared_experts) * width / tp


def _dense_params_of_layer(model: ModelSpec, layer: int, mesh: Mesh) -> int:
    tp = mesh.strategy.tp
    kv_copies = max(1, tp // model.kv_heads)
    kv_extra = (kv_copies - 1) * 2 * model.kv_heads * model.head_dim * model.hidden
    params = (model.num_attention_params + kv_extra) // tp + 2 * model.hidden
    if not model.is_moe_layer(layer):
        return params + model.num_dense_ffn_params // tp
    split = (
        tp if mesh.convention == "vllm" and mesh.dp == 1 else 1
    )  # shared experts: as `workloads.layers` computes them
    return params + model.hidden * model.experts + model.shared_experts * model.num_expert_params // split
