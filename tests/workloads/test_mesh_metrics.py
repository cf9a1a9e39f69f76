"""Facts of a mesh: the document's numbers come out of the document's mesh, and surprises are explained."""

import pytest

from workloads.conventions import CONVENTIONS
from workloads.memory import stage_parameters_in_order
from workloads.mesh import Mesh, build_mesh
from workloads.mesh_metrics import explain_mesh_metrics, mesh_metrics
from workloads.model import ModelSpec
from workloads.presets import MODELS
from workloads.strategy import Strategy

DOCUMENT_MODEL = ModelSpec(
    layers=16,
    hidden=1024,
    heads=16,
    kv_heads=16,
    head_dim=64,
    ffn=14336,
    dense_ffn=14336,
    experts=64,
    top_k=2,
    vocab=50304,
)
DOCUMENT = build_mesh(Strategy.parse("EP64_TP16_PP4"), "spanning", num_gpus=64)
SIZES = {"num_gpus": 64, "gpus_per_node": 8}


def facts_of(mesh: Mesh, model: ModelSpec, stage_layers: list[int], **sizes: int) -> dict[str, int | float | bool]:
    return mesh_metrics(mesh, model, stages=stage_parameters_in_order(stage_layers), **(sizes or SIZES))


def document_facts() -> dict[str, int | float | bool]:
    return facts_of(DOCUMENT, DOCUMENT_MODEL, [4] * 4)


# By hand from 16 layers in 4 stages of TP16, 64 experts of 2 x 1024 x 14336 on 64 GPUs, nodes of 8.
EXPECTED = {
    "num_gpus": 64,
    "tp_times_pp": 64,
    "ep_times_pp": 256,
    "gpus_required_megatron": 256,
    "layers_per_stage_max": 4,
    "layers_per_stage_min": 4,
    "heads_per_rank": 1,
    "hidden_per_rank": 64,
    "experts_per_gpu": 1,
    "experts_on_stage": 16,
    "experts_off_stage": 48,
    "expert_params_per_gpu": 16 * 2 * 1024 * 14336,
    "expert_params_per_gpu_of_own_layers": 4 * 2 * 1024 * 14336,
    "tp_nodes": 2,
    "ep_nodes": 8,
    "legal_megatron": False,
    "legal_vllm": False,
    "legal_spanning": True,
}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_fact_of_the_document(name):
    assert document_facts()[name] == EXPECTED[name]


def test_the_documents_parameters_of_an_expert_in_digits():
    facts = document_facts()
    assert facts["expert_params_per_gpu"] == 469_762_048
    assert facts["expert_params_per_gpu_of_own_layers"] == 117_440_512


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_legality_is_what_the_mesh_says(convention):
    """At the document's sizes no convention but its own accepts the mesh."""
    is_legal = CONVENTIONS[convention].why_illegal(Strategy.parse("EP64_TP16_PP4"), num_gpus=64) is None
    assert document_facts()[f"legal_{convention}"] is is_legal


def test_a_megatron_mesh_reaches_all_experts_from_every_stage():
    mesh = build_mesh(Strategy.parse("EP8_TP2_PP2"), "megatron", num_gpus=16)
    facts = facts_of(mesh, MODELS["mixtral-8x7b"], [16, 16], num_gpus=16, gpus_per_node=8)
    assert (facts["experts_on_stage"], facts["experts_off_stage"]) == (8, 0)
    assert facts["expert_params_per_gpu"] == facts["expert_params_per_gpu_of_own_layers"] == 16 * 3 * 4096 * 14336


def test_expert_parameters_are_those_of_the_fullest_stage():
    """On EP8, 10 of 32 layers on stage 0 and 22 on stage 1: a GPU of stage 1 holds the most."""
    mesh = build_mesh(Strategy.parse("EP8_TP2_PP2"), "megatron", num_gpus=16)
    facts = facts_of(mesh, MODELS["mixtral-8x7b"], [10, 22], num_gpus=16, gpus_per_node=8)
    assert facts["expert_params_per_gpu"] == facts["expert_params_per_gpu_of_own_layers"] == 22 * 3 * 4096 * 14336


def test_a_dense_model_has_no_experts_anywhere():
    mesh = build_mesh(Strategy.parse("TP8_PP8"), "megatron", num_gpus=64)
    facts = facts_of(mesh, MODELS["gpt-175b"], [12] * 8)
    assert {facts[name] for name in facts if name.startswith("expert")} == {0}
    assert (facts["tp_nodes"], facts["ep_nodes"]) == (1, 1)


# --- explanations --------------------------------------------------------------------------------------------------


def explain(mesh: Mesh, model: ModelSpec, stage_layers: list[int]) -> dict[str, str]:
    stages = stage_parameters_in_order(stage_layers)
    return explain_mesh_metrics(mesh, model, facts_of(mesh, model, stage_layers), stages=stages, **SIZES)


def test_the_document_is_explained_in_its_own_figures():
    why = explain(DOCUMENT, DOCUMENT_MODEL, [4] * 4)
    assert "= 256 does not divide TP x CP x DP x PP = 64: at least 256 GPUs are needed" in why["legal_megatron"]
    assert why["tp_times_pp"] == "it leaves EP out: EP x PP = 64 x 4 = 256"
    assert why["expert_params_per_gpu"] == (
        "that is 1 of 64 experts for all 16 layers, 469.8 M. For the 4 layers of its stage alone it would be 117.4 M, "
        "with 48 of 64 experts on other stages"
    )
    assert why["experts_off_stage"] == (
        "a stage has 16 GPUs and so 16 of 64 experts; its tokens meet the others on GPUs of other stages"
    )
    assert why["tp_nodes"] == "TP16 leaves a node of 8 GPUs and spans 2 nodes"


@pytest.mark.parametrize("stage_layers", [[8, 8], [4, 12]])
def test_a_mesh_that_holds_the_experts_of_its_own_layers_needs_no_explanation_of_them(stage_layers):
    mesh = build_mesh(Strategy.parse("EP32_TP8_PP2"), "megatron", num_gpus=64)
    why = explain(mesh, DOCUMENT_MODEL, stage_layers)
    assert {"expert_params_per_gpu", "experts_off_stage", "tp_nodes"}.isdisjoint(why)


def test_every_explanation_names_a_fact():
    why = explain(DOCUMENT, DOCUMENT_MODEL, [4] * 4)
    assert set(why) - {"num_params_per_gpu"} <= set(document_facts())
