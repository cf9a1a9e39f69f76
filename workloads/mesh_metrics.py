"""What a mesh and a model imply, without running anything: numbers that claims can be held against.

Each fact that surprises comes with one line of explanation made from the figures.
"""

from collections.abc import Sequence

import numpy as np

from workloads.conventions import CONVENTIONS, MEGATRON, Convention
from workloads.memory import StageParameters, params_per_rank
from workloads.mesh import Mesh
from workloads.model import ModelSpec

__all__ = ["explain_mesh_metrics", "mesh_metrics"]

Fact = int | float | bool


def mesh_metrics(
    mesh: Mesh, model: ModelSpec, *, held: Sequence[StageParameters], num_gpus: int, gpus_per_node: int
) -> dict[str, Fact]:
    """Return the facts by name; `held` is what each stage holds of the model.

    Examples
    --------
    >>> from workloads.memory import held_in_order
    >>> from workloads.mesh import build_mesh
    >>> from workloads.presets import MODELS
    >>> from workloads.strategy import Strategy
    >>> held = held_in_order([16, 16])
    >>> mesh = build_mesh(Strategy.parse("EP8_TP2_PP2_DP4"), "megatron", num_gpus=16)
    >>> facts = mesh_metrics(mesh, MODELS["mixtral-8x7b"], held=held, num_gpus=16, gpus_per_node=8)
    >>> facts["tp_times_pp"], facts["experts_per_gpu"], facts["legal_megatron"], facts["legal_spanning"]
    (4, 1, True, False)
    """
    s = mesh.strategy
    moe_layers = [sum(map(model.is_moe_layer, one.layers)) for one in held]
    size = mesh.stage_ranks(0).size
    experts_on_stage = min(model.experts, model.experts // s.ep * mesh.stage_ranks(0).size)
    facts: dict[str, Fact] = {
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
        "layers_per_stage_max": max(len(one.layers) for one in held),
        "layers_per_stage_min": min(len(one.layers) for one in held),
        "heads_per_rank": model.heads // s.tp,
        "hidden_per_rank": model.hidden // s.tp if model.hidden % s.tp == 0 else model.hidden / s.tp,
        "experts_per_gpu": model.experts // s.ep,
        "experts_on_stage": experts_on_stage,
        "experts_off_stage": model.experts - experts_on_stage,
        "expert_params_per_gpu": max(params_per_rank(model, mesh, one)[1] for one in held),
        "expert_params_per_gpu_of_own_layers": model.experts // s.ep * max(moe_layers) * model.num_expert_params,
        "tp_nodes": _num_nodes(mesh.tp_groups(0)[0], gpus_per_node),
        "ep_nodes": _num_nodes(mesh.ep_groups(0)[0], gpus_per_node),
    }
    for name, rules in CONVENTIONS.items():
        facts[f"legal_{name}"] = _why(mesh, rules, num_gpus, gpus_per_node) is None
    return facts


def explain_mesh_metrics(
    mesh: Mesh, model: ModelSpec, facts: dict[str, Fact], *, num_gpus: int, gpus_per_node: int
) -> dict[str, str]:
    """Return a line of explanation for facts that need one, by name."""
    s = mesh.strategy
    why = {}
    for name, rules in CONVENTIONS.items():
        why_illegal = _why(mesh, rules, num_gpus, gpus_per_node)
        why[f"legal_{name}"] = rules.legal_product(s) if why_illegal is None else why_illegal
    if model.experts:
        held, own = facts["expert_params_per_gpu"], facts["expert_params_per_gpu_of_own_layers"]
        share = f"{model.experts // s.ep} of {model.experts} experts for all {model.num_moe_layers} layers"
        line = f"{share} are {held / 1e6:,.1f} M parameters"
        if held != own:
            line += (
                f"; for the stage's own layers alone they would be {own / 1e6:,.1f} M, with "
                f"{facts['experts_off_stage']} of {model.experts} experts out of the stage's reach"
            )
            why["experts_per_gpu"] = why["expert_params_per_gpu"] = why["num_params_per_gpu"] = line
    if facts["expert_is_its_gpu"]:
        why["expert_is_its_gpu"] = mesh.convention.legal_product(s)
    if facts["experts_off_stage"]:
        why["experts_off_stage"] = why["experts_on_stage"] = (
            f"a stage has {mesh.stage_ranks(0).size} GPUs and so {facts['experts_on_stage']} of {model.experts} "
            "experts; its tokens meet the others on GPUs of other stages"
        )
    if facts["tp_nodes"] > 1:
        why["heads_per_rank"] = why["hidden_per_rank"] = why["tp_nodes"] = (
            f"TP{s.tp} leaves a node of {gpus_per_node} GPUs and spans {facts['tp_nodes']} nodes"
        )
    if s.ep > 1 and facts["ep_times_pp"] != mesh.world:
        why["tp_times_pp"] = f"it leaves EP out: EP x PP = {s.ep} x {s.pp} = {facts['ep_times_pp']}"
    return why


def _num_nodes(ranks: np.ndarray, gpus_per_node: int) -> int:
    return int(np.unique(ranks // gpus_per_node).size)


def _why(mesh: Mesh, convention: Convention, num_gpus: int, gpus_per_node: int) -> str | None:
    """Return why the strategy would be illegal under another convention, with SP and DP as that convention has them."""
    named = convention.as_named(mesh.strategy)
    return convention.why_illegal(named, num_gpus=num_gpus, gpus_per_node=gpus_per_node)
