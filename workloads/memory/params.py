"""Parameters that a rank holds, dense ones and experts apart, for they have different replicas.

Model
-----
    dense   attention, norms, router, shared experts and dense FFN of the stage's layers; embedding, last norm and
            output head where they stand: divided by TP, norms, routers and shared experts whole. A stage with layers
            of MTP has the embedding too; of a tied embedding and head that are on one stage there is one
    expert  routed experts of the stage's layers (of all layers, where experts span stages) / (EP x ETP)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from workloads.blocks.layer import Layer
from workloads.memory.sharding import Sharding
from workloads.mesh import Mesh
from workloads.model import ModelSpec

__all__ = [
    "StageParameters",
    "layer_params_per_rank",
    "optimized_params_per_rank",
    "params_per_rank",
    "stage_parameters_in_order",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageParameters:
    """Which parameters of the model a stage holds, in all of its chunks."""

    layers: Sequence[int]
    """Numbers of the layers, from 0."""
    has_embedding: bool = False
    """Whether the stage holds the embedding: the first stage, and the stage of the layers of MTP."""
    has_head: bool = False
    """Whether the stage holds the last norm and the output head."""
    expert_replicas: int = 0
    """Replicas of a layer's experts, beyond one copy of each, spread evenly over the ranks of an EP group."""


def stage_parameters_in_order(stage_layers: Sequence[int]) -> tuple[StageParameters, ...]:
    """Return the parameters of each stage of a model that is cut into as many chunks as there are stages.

    >>> [list(stage.layers) for stage in stage_parameters_in_order([2, 1])]
    [[0, 1], [2]]
    """
    last = len(stage_layers) - 1
    return tuple(
        StageParameters(layers=range(end - count, end), has_embedding=i == 0, has_head=i == last)
        for i, (end, count) in enumerate(zip(accumulate(stage_layers), stage_layers, strict=True))
    )


def params_per_rank(model: ModelSpec, mesh: Mesh, stage_parameters: StageParameters) -> tuple[int, int]:
    """Return the dense and the expert parameters that each rank of a stage holds."""
    stage = stage_parameters
    dense = sum(count * layer_params_per_rank(layer, mesh)[0] for layer, count in model.layer_kinds(stage.layers))
    tp = mesh.strategy.tp
    embedding = model.padded_vocab(tp) * model.hidden // tp
    has_embedding = stage.has_embedding or any(map(model.is_mtp_layer, stage.layers))
    shares_head = model.tie_word_embeddings and has_embedding  # one matrix, where both stand on the stage
    dense += has_embedding * embedding + stage.has_head * ((not shares_head) * embedding + model.hidden)
    dense += stage.has_embedding * model.n_positions * model.hidden
    num_moe = sum(map(model.is_moe_layer, mesh.convention.expert_layers(stage.layers, model.layers)))
    num_experts = model.experts + stage.expert_replicas
    return dense, num_moe * model.num_expert_params * num_experts // (mesh.strategy.ep * mesh.strategy.etp)


def layer_params_per_rank(layer: Layer, mesh: Mesh, *, expert_replicas: int = 0) -> tuple[int, int]:
    """Return the dense and the expert parameters of one layer on a rank, norms among the dense ones."""
    tp = mesh.strategy.tp
    return layer.sliced(mesh.strategy.etp).num_params_per_rank(
        tp=tp,
        ep=mesh.strategy.ep,
        shared_tp=tp if mesh.replicates_tokens_over_tp else 1,  # as `workloads.layers` computes shared experts
        expert_replicas=expert_replicas,
    )


def optimized_params_per_rank(
    model: ModelSpec, mesh: Mesh, stage_parameters: StageParameters, stage: int, *, sharding: Sharding
) -> float:
    """Return the parameters whose optimizer state each rank of a stage holds and updates.

    Where the optimizer is split, dense parameters are split over DP, and experts over the ranks that hold the same
    experts (one rank where experts span stages, and wherever EP covers the stage), or over those of them that form an
    instance. Each replica of an expert has a state of its own.
    """
    dense, expert = params_per_rank(model, mesh, stage_parameters)
    num_dense, num_expert = (
        sharding.num_shards(groups.shape[1]) for groups in (mesh.dp_groups(stage), mesh.expert_dp_groups(stage))
    )
    return float(dense / num_dense + expert / num_expert)
