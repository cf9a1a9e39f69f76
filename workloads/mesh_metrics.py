"""Metrics of a mesh and a model that need no run: numbers that claims are judged by.

`explain_mesh_metrics` gives a line of explanation, made from the figures, for each metric that may surprise.
"""

from collections.abc import Sequence

import numpy as np

from workloads.conventions import CONVENTIONS, MEGATRON, Convention
from workloads.memory import StageParameters, params_per_rank
from workloads.mesh import Mesh
from workloads.model import ModelSpec

__all__ = ["explain_mesh_metrics", "mesh_metrics"]

Metric = int | float | bool


def mesh_metrics(
    mesh: Mesh, model: ModelSpec, *, stages: Sequence[StageParameters], num_gpus: int, gpus_per_node: int
) -> dict[str, Metric]:
    """Return the metrics by name; `stages` gives the parameters that each stage holds.

    Examples
    --------
    >>> from workloads.memory import stage_parameters_in_order
    >>> from workloads.mesh import build_mesh
    >>> from workloads.presets import MODELS
    >>> from workloads.strategy import Strategy
    >>> stages = stage_parameters_in_order([16, 16])
    >>> mesh = build_mesh(Strategy.parse("EP8_TP2_PP2_DP4"), "megatron", num_gpus=16)
    >>> metrics = mesh_metrics(mesh, MODELS["mixtral-8x7b"], stages=stages, num_gpus=16, gpus_per_node=8)
    >>> metrics["tp_times_pp"], metrics["experts_per_gpu"], metrics["legal_megatron"], metrics["legal_spanning"]
    (4, 1, True, False)
    """
    s = mesh.strategy
    moe_layers = [sum(map(model.is_moe_layer, stage.layers)) for stage in stages]
    size = mesh.stage_ranks(0).size
    slots_per_gpu = (model.experts + stages[0].expert_replicas) // s.ep
    experts_on_stage = min(model.experts, slots_per_gpu * mesh.stage_ranks(0).size // s.etp)
    metrics: dict[str, Metric] = {
        "num_gpus": mesh.world,
        "tp": s.tp,
        "pp": s.pp,
        "ep": s.ep,
        "dp": mesh.dp,
        "tp_times_pp": s.tp * s.pp,
        "ep_times_pp": s.ep * s.pp,
        "gpus_required_megatron": MEGATRON.num_gpus_required(s),
        "stages_are_consecutive": all(
            np.array_equal(np.sort(mesh.stage_ranks(i)), np.arange(i * size, (i + 1) * size)) for i in range(s.pp)
        ),
        "expert_is_its_gpu": model.experts == mesh.world
        and np.array_equal(mesh.ep_groups(0).ravel(), np.arange(mesh.world)),
        "layers_per_stage_max": max(len(stage.layers) for stage in stages),
        "layers_per_stage_min": min(len(stage.layers) for stage in stages),
        "heads_per_rank": model.heads // s.tp,
        "hidden_per_rank": model.hidden // s.tp if model.hidden % s.tp == 0 else model.hidden / s.tp,
        "experts_per_gpu": slots_per_gpu,
        "experts_on_stage": experts_on_stage,
        "experts_off_stage": model.experts - experts_on_stage,
        "expert_params_per_gpu": max(params_per_rank(model, mesh, stage)[1] for stage in stages),
        "expert_params_per_gpu_of_own_layers": slots_per_gpu * max(moe_layers) * model.num_expert_params // s.etp,
        "tp_nodes": _num_nodes(mesh.tp_groups(0)[0], gpus_per_node),
        "ep_nodes": _num_nodes(mesh.ep_groups(0)[0], gpus_per_node),
    }
    for name, rules in CONVENTIONS.items():
        metrics[f"legal_{name}"] = _why(mesh, rules, num_gpus, gpus_per_node) is None
    return metrics


def explain_mesh_metrics(
    mesh: Mesh,
    model: ModelSpec,
    metrics: dict[str, Metric],
    *,
    stages: Sequence[StageParameters],
    num_gpus: int,
    gpus_per_node: int,
) -> dict[str, str]:
    """Return a line of explanation for the metrics that need one, by name."""
    s = mesh.strategy
    why = {}
    for name, rules in CONVENTIONS.items():
        why_illegal = _why(mesh, rules, num_gpus, gpus_per_node)
        why[f"legal_{name}"] = rules.legal_product(s) if why_illegal is None else why_illegal
    if model.experts:
        of_all, own = metrics["expert_params_per_gpu"], metrics["expert_params_per_gpu_of_own_layers"]
        if of_all != own:
            num, layers = metrics["experts_per_gpu"], max(len(stage.layers) for stage in stages)
            why["expert_params_per_gpu"] = why["num_params_per_gpu"] = (
                f"that is {num} of {model.experts} experts for all {model.num_moe_layers} layers, "
                f"{of_all / 1e6:,.1f} M. For the {layers} layers of its stage alone it would be {own / 1e6:,.1f} M, "
                f"with {metrics['experts_off_stage']} of {model.experts} experts on other stages"
            )
        why["experts_per_gpu"] = "where experts are says nothing of how many tokens choose them"
    if metrics["expert_is_its_gpu"]:
        line = f"only where an expert serves all stages ({mesh.convention.name} reading)"
        others = [name for name in CONVENTIONS if not CONVENTIONS[name].experts_span_stages]
        if mesh.convention.experts_span_stages and s.pp > 1:
            line += f", for {' and '.join(others)} keep a layer's experts on its own stage"
        why["expert_is_its_gpu"] = why["stages_are_consecutive"] = line
    if metrics["experts_off_stage"]:
        why["experts_off_stage"] = why["experts_on_stage"] = (
            f"a stage has {mesh.stage_ranks(0).size} GPUs and so {metrics['experts_on_stage']} of {model.experts} "
            "experts; its tokens meet the others on GPUs of other stages"
        )
    if metrics["tp_nodes"] > 1:
        why["heads_per_rank"] = why["hidden_per_rank"] = why["tp_nodes"] = (
            f"TP{s.tp} leaves a node of {gpus_per_node} GPUs and spans {metrics['tp_nodes']} nodes"
        )
    if s.ep > 1 and metrics["ep_times_pp"] != mesh.world:
        why["tp_times_pp"] = f"it leaves EP out: EP x PP = {s.ep} x {s.pp} = {metrics['ep_times_pp']}"
    return why


def _num_nodes(ranks: np.ndarray, gpus_per_node: int) -> int:
    return int(np.unique(ranks // gpus_per_node).size)


def _why(mesh: Mesh, convention: Convention, num_gpus: int, gpus_per_node: int) -> str | None:
    """Return why the strategy would be illegal under another convention, with SP and DP as that convention has them."""
    named = convention.as_named(mesh.strategy)
    return convention.why_illegal(named, num_gpus=num_gpus, gpus_per_node=gpus_per_node)
