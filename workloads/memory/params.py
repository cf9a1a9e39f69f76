"""Parameters that a rank holds, dense ones and experts apart, for they have different replicas.

Model
-----
    dense   attention, norms, router, shared experts and dense FFN of the stage's layers; embedding on the first stage,
            last norm and output head on the last: divided by TP, norms, routers and shared experts whole
    expert  routed experts of the stage's layers (under `spanning` of all layers) / EP
"""

from collections.abc import Sequence

from workloads.mesh import Mesh
from workloads.model import ModelSpec

__all__ = ["kinds_of_layers", "layer_params_per_rank", "optimized_params_per_rank", "params_per_rank"]


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
    dense = sum(count * layer_params_per_rank(model, layer, mesh)[0] for layer, count in kinds_of_layers(model, layers))
    if stage == 0:
        dense += model.num_embedding_params // tp
    if stage == mesh.num_stages - 1:
        dense += model.num_embedding_params // tp + model.hidden
    held = range(model.layers) if mesh.convention == "spanning" else layers
    num_moe = sum(count for layer, count in kinds_of_layers(model, held) if model.is_moe_layer(layer))
    return dense, num_moe * model.num_expert_params * (model.experts + replicas) // mesh.strategy.ep


def layer_params_per_rank(model: ModelSpec, layer: int, mesh: Mesh, *, replicas: int = 0) -> tuple[int, int]:
    """Return the dense and the expert parameters of one layer on a rank, with `replicas` copies of experts more.

    Where KV heads are fewer than TP ranks, each rank holds one whole KV head.
    """
    tp = mesh.strategy.tp
    kv_copies = max(1, tp // model.kv_heads)
    kv_extra = (kv_copies - 1) * 2 * model.kv_heads * model.head_dim * model.hidden
    params = (model.num_attention_params + kv_extra) // tp + 2 * model.hidden
    if not model.is_moe_layer(layer):
        return params + model.num_dense_ffn_params // tp, 0
    split = (
        tp if mesh.convention == "vllm" and mesh.dp == 1 else 1
    )  # shared experts: as `workloads.layers` computes them
    params += model.hidden * model.experts + model.shared_experts * model.num_expert_params // split
    return params, model.num_expert_params * (model.experts + replicas) // mesh.strategy.ep


def optimized_params_per_rank(
    model: ModelSpec, mesh: Mesh, stage_layers: Sequence[int], stage: int, *, zero: int, replicas: int = 0
) -> float:
    """Return the parameters whose optimizer state each rank of a stage holds and updates.

    Under ZeRO 1 to 3 each family is split over the ranks that hold the same ones: dense parameters over DP, experts
    over the ranks with the same slots (one under `spanning`, and wherever EP covers the stage). Of each layer's experts
    there are `replicas` copies more, each with a state of its own.
    """
    dense, expert = params_per_rank(model, mesh, stage_layers, stage, replicas=replicas)
    if not zero:
        return float(dense + expert)
    return float(dense / mesh.dp_groups(stage).shape[1] + expert / mesh.expert_dp_groups(stage).shape[1])


def kinds_of_layers(model: ModelSpec, layers: range) -> list[tuple[int, int]]:
    """Return of consecutive layers one of each kind, dense and mixture of experts, with how many there are."""
    border = min(max(model.layers - model.num_moe_layers, layers.start), layers.stop)
    parts = (range(layers.start, border), range(border, layers.stop))
    return [(part.start, len(part)) for part in parts if part]
