"""Parameters that a rank holds, dense ones and experts apart, for they have different replicas.

Model
-----
    dense   attention, norms, router, shared experts and dense FFN of the stage's layers; embedding, last norm and
            output head where they stand: divided by TP, norms, routers and shared experts whole
    expert  routed experts of the stage's layers (under `spanning` of all layers) / EP
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from workloads.mesh import Mesh
from workloads.model import ModelSpec

__all__ = [
    "StageParameters",
    "held_in_order",
    "kinds_of_layers",
    "layer_params_per_rank",
    "optimized_params_per_rank",
    "params_per_rank",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageParameters:
    """What a stage holds of the model, in all of its chunks."""

    layers: Sequence[int]
    """Layers."""
    has_embedding: bool = False
    """Whether the embedding is among it."""
    has_head: bool = False
    """Whether the last norm and the output head are."""
    replicas: int = 0
    """Copies of a layer's experts beside the first of each, spread evenly over the ranks."""


def held_in_order(stage_layers: Sequence[int]) -> tuple[StageParameters, ...]:
    """Return what each stage holds of a model that is cut into as many parts as there are stages.

    >>> [list(held.layers) for held in held_in_order([2, 1])]
    [[0, 1], [2]]
    """
    last = len(stage_layers) - 1
    return tuple(
        StageParameters(layers=range(end - count, end), has_embedding=i == 0, has_head=i == last)
        for i, (end, count) in enumerate(zip(accumulate(stage_layers), stage_layers, strict=True))
    )


def params_per_rank(model: ModelSpec, mesh: Mesh, held: StageParameters) -> tuple[int, int]:
    """Return the dense and the expert parameters that each rank of a stage holds.

    Under `spanning` a rank holds its experts for all layers of the model, otherwise for the layers of its stage.
    """
    kinds = kinds_of_layers(model, held.layers)
    dense = sum(count * layer_params_per_rank(model, layer, mesh)[0] for layer, count in kinds)
    embedding = model.num_embedding_params // mesh.strategy.tp
    dense += held.has_embedding * embedding + held.has_head * (embedding + model.hidden)
    num_moe = sum(map(model.is_moe_layer, mesh.convention.expert_layers(held.layers, model.layers)))
    return dense, num_moe * model.num_expert_params * (model.experts + held.replicas) // mesh.strategy.ep


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
    split = tp if mesh.replicates_tokens_over_tp else 1  # shared experts: as `workloads.layers` computes them
    params += model.hidden * model.experts + model.shared_experts * model.num_expert_params // split
    return params, model.num_expert_params * (model.experts + replicas) // mesh.strategy.ep


def optimized_params_per_rank(model: ModelSpec, mesh: Mesh, held: StageParameters, stage: int, *, zero: int) -> float:
    """Return the parameters whose optimizer state each rank of a stage holds and updates.

    Under ZeRO 1 to 3 each family is split over the ranks that hold the same ones: dense parameters over DP, experts
    over the ranks with the same slots (one under `spanning`, and wherever EP covers the stage). Each copy of an expert
    has a state of its own.
    """
    dense, expert = params_per_rank(model, mesh, held)
    if not zero:
        return float(dense + expert)
    return float(dense / mesh.dp_groups(stage).shape[1] + expert / mesh.expert_dp_groups(stage).shape[1])


def kinds_of_layers(model: ModelSpec, layers: Sequence[int]) -> list[tuple[int, int]]:
    """Return of some layers one of each kind, dense and mixture of experts, with how many there are."""
    moe = [layer for layer in layers if model.is_moe_layer(layer)]
    dense = [layer for layer in layers if not model.is_moe_layer(layer)]
    return [(kind[0], len(kind)) for kind in (dense, moe) if kind]
