"""Bytes per GPU: by hand on a tiny model, conserved over ranks, and next to the formulas of Korthikanti et al."""

from dataclasses import replace

import pytest

from workloads.kernels import Gemm
from workloads.layers import attention_block, dense_ffn_block, head_block, router_block, shared_expert_block
from workloads.memory import (
    GRADIENT_BYTES,
    OPTIMIZER_BYTES,
    ZERO_LEVELS,
    Precision,
    Recompute,
    activation_bytes_per_microbatch,
    forward_working_bytes,
    gradient_bytes_in_block,
    kv_cache_bytes,
    layer_params_per_rank,
    params_per_rank,
    stage_parameters_in_order,
    state_bytes,
    weight_pass_bytes_per_microbatch,
)
from workloads.mesh import Mesh, build_mesh
from workloads.model import ModelSpec
from workloads.presets import MODELS
from workloads.strategy import Strategy

GIB = 2**30
# Attention 64, norms 8, router 16, one expert 64 (two matrices of 4 x 8), embedding and head 40 each, last norm 4.
TINY = ModelSpec(
    layers=2,
    hidden=4,
    heads=2,
    kv_heads=2,
    head_dim=2,
    ffn=8,
    dense_ffn=8,
    experts=4,
    top_k=1,
    vocab=10,
)
# Two dense layers, a shared expert, two KV heads, gates: every term of the sums below.
MIXED = replace(TINY, layers=6, heads=4, dense_layers=2, shared_experts=1, experts=24, vocab=12, gated=True)
MESHES = [
    ("EP1_TP1_PP1", "megatron"),
    ("EP1_TP2_PP3_DP2", "megatron"),
    ("EP6_TP2_PP2_DP6", "megatron"),
    ("EP4_TP2_PP3_DP2_CP2", "megatron"),
    ("EP8_TP2_PP2_DP4", "vllm"),
    ("EP12_TP2_PP3_DP2", "spanning"),
    ("EP24_TP1_PP6_DP4", "spanning"),
]
EVERY_MESH = pytest.mark.parametrize(("name", "convention"), MESHES)


def mesh_of(name: str, convention: str = "megatron", *, sp: bool | None = None) -> Mesh:
    strategy = replace(Strategy.parse(name), sp=sp)
    s = strategy
    return build_mesh(strategy, convention, num_gpus=s.tp * s.pp * s.cp * (s.dp or 1))


def even_layers(model: ModelSpec, mesh: Mesh) -> list[int]:
    layers = model.spread_layers(mesh.num_stages)
    assert layers is not None
    return layers


# --- parameters ----------------------------------------------------------------------------------------------------


def test_parameters_of_a_rank_by_hand():
    """TP2 halves attention, embedding and head; norms and router stay whole; EP2 leaves 2 of 4 experts."""
    mesh = mesh_of("EP2_TP2_PP2")
    assert params_per_rank(TINY, mesh, stage_parameters_in_order([1, 1])[0]) == (32 + 8 + 16 + 20, 2 * 64)
    assert params_per_rank(TINY, mesh, stage_parameters_in_order([1, 1])[1]) == (32 + 8 + 16 + 20 + 4, 2 * 64)


def test_spanning_holds_its_experts_for_all_layers():
    mesh = mesh_of("EP4_TP2_PP2", "spanning")
    assert [params_per_rank(TINY, mesh, stage_parameters_in_order([1, 1])[stage])[1] for stage in (0, 1)] == [
        2 * 64,
        2 * 64,
    ]


def test_an_uneven_split_holds_what_its_layers_need():
    mesh = mesh_of("EP2_TP1_PP2_DP2")
    assert [params_per_rank(TINY, mesh, stage_parameters_in_order(layers)[0])[1] for layers in ([2, 0], [0, 2])] == [
        4 * 64,
        0,
    ]


@EVERY_MESH
def test_parameters_over_all_ranks_are_those_of_the_model_times_their_copies(name, convention):
    """Dense ones once per replica, and norms, routers and shared experts once more per further TP rank."""
    mesh = mesh_of(name, convention)
    s, layers, per_stage = mesh.strategy, even_layers(MIXED, mesh), mesh.stage_ranks(0).size
    held = [params_per_rank(MIXED, mesh, stage_parameters_in_order(layers)[stage]) for stage in range(s.pp)]
    experts = MIXED.num_moe_layers * MIXED.experts * MIXED.num_expert_params
    whole_on_each = (2 * MIXED.layers + 1) * MIXED.hidden
    whole_on_each += MIXED.num_moe_layers * (MIXED.hidden * MIXED.experts + MIXED.num_expert_params)
    expert_copies = 1 if convention == "spanning" else per_stage // s.ep
    replicas = mesh.dp * s.cp
    assert per_stage * sum(expert for _, expert in held) == expert_copies * experts
    assert per_stage * sum(dense for dense, _ in held) == replicas * (
        MIXED.num_params - experts + (s.tp - 1) * whole_on_each
    )


@EVERY_MESH
@pytest.mark.parametrize("model", [MIXED, replace(MIXED, kv_heads=1)], ids=["mixed", "one-kv-head"])
def test_a_rank_holds_the_matrices_that_its_kernels_multiply(name, convention, model):
    """And norms and embedding. One KV head is copied to each TP rank."""
    mesh = mesh_of(name, convention)
    tp, layers = mesh.strategy.tp, even_layers(model, mesh)
    for stage in range(mesh.num_stages):
        kernels = []
        for layer in range(sum(layers[:stage]), sum(layers[: stage + 1])):
            kernels += attention_block(model.attention, 8, 8, tp=tp)
            moe = [*router_block(model.moe_ffn, 8), *shared_expert_block(model.moe_ffn, 8)]
            kernels += moe if model.is_moe_layer(layer) else dense_ffn_block(model.plain_ffn, 8, tp=tp)
        is_last = stage == mesh.num_stages - 1
        kernels += head_block(model, 8, tp=tp) if is_last else []
        weights = sum(kernel.n * kernel.k for kernel in kernels if isinstance(kernel, Gemm))
        norms = (2 * layers[stage] + is_last) * model.hidden
        embedding = model.num_embedding_params // tp if stage == 0 else 0
        assert params_per_rank(model, mesh, stage_parameters_in_order(layers)[stage])[0] == weights + norms + embedding


@pytest.mark.parametrize(("model", "pp"), [("gpt-22b", 1), ("gpt-175b", 8)])
def test_parameters_and_optimizer_fill_what_korthikanti_shows(model, pp):
    """2022, figure 1: 45.5625 GiB on TP8, 18 bytes of 12 l h^2 / (t p). The figure leaves out embedding and norms."""
    spec, mesh = MODELS[model], mesh_of(f"TP8_PP{pp}")
    layers = even_layers(spec, mesh)
    dense, _ = params_per_rank(spec, mesh, stage_parameters_in_order(layers)[0])
    bytes_each = spec.dtype_bytes + GRADIENT_BYTES + OPTIMIZER_BYTES
    assert bytes_each == 18
    embedding = (1 if pp > 1 else 2) * spec.num_embedding_params // 8
    norms = 2 * layers[0] * spec.hidden + (spec.hidden if pp == 1 else 0)
    assert (dense - embedding - norms) * bytes_each / GIB == 45.5625
    assert (dense - embedding) * bytes_each / GIB == pytest.approx(45.5625, rel=0.01)


# --- activations ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gpt-22b", "gpt-175b"])
@pytest.mark.parametrize("tp", [1, 2, 8])
@pytest.mark.parametrize("sp", [True, False])
def test_activations_of_a_gpt_follow_korthikanti(name, tp, sp):
    """2022, equations 2 and 4 without scores and dropout: 32 s b h / t, of which 8 s b h are not split without SP."""
    model, tokens = MODELS[name], 2048
    mesh = mesh_of(f"TP{tp}", sp=sp)
    found = activation_bytes_per_microbatch(model, mesh, range(3), tokens, "none")
    per_hidden = 32 / tp if sp else 8 + 24 / tp
    assert found == pytest.approx(3 * tokens * model.hidden * per_hidden, rel=1e-12)


def test_activations_of_gpt_22b_fill_what_korthikanti_shows():
    """2022, figure 1 with SP and selective recomputation: 9.5625 GiB are 34 bytes, 2 of them dropout masks."""
    model, mesh = MODELS["gpt-22b"], mesh_of("TP8", sp=True)
    found = activation_bytes_per_microbatch(model, mesh, range(model.layers), 4 * 2048, "selective")
    assert found / GIB == 9.5625 * 32 / 34


@pytest.mark.parametrize(("sp", "shards"), [(True, 8), (False, 1)])
def test_full_recomputation_keeps_the_input_of_each_layer(sp, shards):
    """2022, table 2: 2 s b h; under SP a part on each rank."""
    model, mesh = MODELS["gpt-22b"], mesh_of("TP8", sp=sp)
    found = activation_bytes_per_microbatch(model, mesh, range(48), 2048, "full")
    assert found == 48 * 2 * 2048 * model.hidden / shards


def test_activations_of_an_expert_layer_by_hand():
    """Per token: attention 2 * 4 + (2 * 2 + 2 * 2) * 2; norm, router 8; a copy of input 4, up 8, activation 8."""
    found = activation_bytes_per_microbatch(TINY, mesh_of("EP1_TP1_PP1"), [0], 10, "none")
    assert found == 10 * 2 * (8 + 16 + 8 + 20)


@pytest.mark.parametrize("recompute", ["none", "selective", "full"])
def test_activations_are_proportional_to_tokens_and_layers(recompute):
    mesh = mesh_of("EP2_TP2_PP1")
    one, six = (
        activation_bytes_per_microbatch(TINY, mesh, layers, tokens, recompute)
        for layers, tokens in (([0], 10), ([0, 1], 30))
    )
    assert six == pytest.approx(6 * one, rel=1e-12)


def test_the_forward_pass_works_on_a_residual_stream_and_its_largest_block():
    """In and out 2 * 4; the largest block is the FFN: norm 4, input 4, up 8, activation 8."""
    assert forward_working_bytes(TINY, mesh_of("EP1_TP1_PP1"), 10) == 10 * 2 * (8 + 24)


@pytest.mark.parametrize("name", ["gpt-22b", "gpt-175b"])
@pytest.mark.parametrize(
    ("sp", "recompute", "formula"),
    [
        (False, "none", lambda t, scores: 10 + 24 / t + scores / t),
        (True, "none", lambda t, scores: (34 + scores) / t),
        (False, "selective", lambda t, _: 10 + 24 / t),
        (True, "selective", lambda t, _: 34 / t),
        (False, "full", lambda *_: 2),
    ],
)
@pytest.mark.parametrize("tp", [1, 8])
def test_unfused_activations_with_dropout_are_table_2_of_korthikanti(name, sp, recompute, formula, tp):
    """2022, table 2, in s b h: attention scores are 5 a s / h of it."""
    model, length = replace(MODELS[name], fused_attention=False, dropout=True), 2048
    mesh = mesh_of(f"TP{tp}", sp=sp)
    found = activation_bytes_per_microbatch(model, mesh, range(2), 4 * length, recompute, sequence_length=length)
    per_layer = formula(tp, 5 * model.heads * length / model.hidden)
    assert found == pytest.approx(2 * 4 * length * model.hidden * per_layer, rel=1e-12)


@pytest.mark.parametrize(
    ("modules", "kept"),
    [
        (("layernorm",), 48 - 4 - 4),
        (("mlp",), 48 - 12 * 2),
        (("layernorm", "mlp"), 48 - 4 - 12 * 2),
    ],
)
def test_modules_of_recomputation_leave_out_what_they_make_again(modules, kept):
    """Per token a dense layer keeps norms 8, inputs 8, Q K V and output 16, up and activation 16 elements: 48."""
    dense = replace(TINY, experts=0, top_k=0, ffn=8)
    whole, less = (
        activation_bytes_per_microbatch(dense, mesh_of("TP1"), [0], 1, again)
        for again in (Recompute(), Recompute("selective", modules))
    )
    assert whole == 2 * 48
    assert less == 2 * (kept if "mlp" not in modules else kept + 8)


@pytest.mark.parametrize(
    ("fused", "elements"),
    [(True, 2 * 8), (False, 2 * 2 * 100)],
    ids=["FFN, up and activation", "scores and probabilities"],
)
def test_backward_holds_the_gradients_inside_of_its_largest_block(fused, elements):
    """Per token: 2 * 8 of the FFN and of Q K V and output, 2 heads * 100 scores and as many probabilities."""
    dense = replace(TINY, experts=0, top_k=0, ffn=8, fused_attention=fused)
    found = gradient_bytes_in_block(dense, mesh_of("TP1"), [0], 10, sequence_length=100)
    assert found == 10 * elements * 2


def test_a_weight_pass_of_a_gpt_needs_32_bytes_per_token_and_width():
    """Qi et al. 2024, table 1: 32 s b h of the 34 s b h + scores that the backward pass by input needs."""
    model = MODELS["gpt-22b"]
    found = weight_pass_bytes_per_microbatch(model, mesh_of("TP1"), range(3), 2048)
    assert found == (3 * 32 * 2048 * model.hidden, 0)


def test_routed_experts_wait_for_w_apart_and_not_at_all_under_spanning():
    """Per copy: input, gradient of the output (4 + 4), and inside 8 up, 8 activation, in 2 bytes."""
    moe = replace(TINY, experts=2, top_k=2, ffn=8)
    dense, experts = weight_pass_bytes_per_microbatch(moe, mesh_of("TP1"), [0], 10)
    gates = 2 if moe.gated else 1
    assert experts == 10 * 2 * (2 * moe.hidden + (gates + 1) * 8) * 2
    spanning = mesh_of("EP2_TP1_PP2", "spanning")
    assert weight_pass_bytes_per_microbatch(moe, spanning, [0], 10) == (dense, 0)


# --- weights, gradients and optimizer ------------------------------------------------------------------------------


@pytest.mark.parametrize("zero", [1, 2, 3])
def test_zero_changes_nothing_with_one_replica(zero):
    model, mesh = MODELS["gpt-22b"], mesh_of("TP8_PP2")
    layers = even_layers(model, mesh)
    assert state_bytes(model, mesh, stage_parameters_in_order(layers)[0], 0, sharding=ZERO_LEVELS[zero]) == state_bytes(
        model, mesh, stage_parameters_in_order(layers)[0], 0
    )


@pytest.mark.parametrize(("zero", "per_param"), [(0, 18), (1, 6 + 12 / 4), (2, 2 + 16 / 4), (3, 18 / 4)])
def test_zero_splits_states_over_the_replicas(zero, per_param):
    """Rajbhandari et al. 2020, figure 1, with gradients in 4 bytes."""
    model, mesh = MODELS["gpt-22b"], mesh_of("TP8_PP2_DP4")
    layers = even_layers(model, mesh)
    states = state_bytes(model, mesh, stage_parameters_in_order(layers)[0], 0, sharding=ZERO_LEVELS[zero])
    held = states.weights + states.gradients + states.optimizer
    assert held == pytest.approx(
        sum(params_per_rank(model, mesh, stage_parameters_in_order(layers)[0])) * per_param, rel=1e-12
    )


@pytest.mark.parametrize(
    ("precision", "per_param"), [(Precision("bf16"), 2 + 2 + 12), (Precision("fp32", "bf16"), 2 + 4 + 8)]
)
def test_precision_decides_the_bytes_of_gradients_and_moments(precision, per_param):
    """Megatron with gradients in bf16; DeepSeek-V3 with moments in bf16."""
    model, mesh = MODELS["gpt-22b"], mesh_of("TP8_PP2_DP4")
    layers = even_layers(model, mesh)
    states = state_bytes(model, mesh, stage_parameters_in_order(layers)[0], 0, precision=precision)
    held = states.weights + states.gradients + states.optimizer
    assert held == per_param * sum(params_per_rank(model, mesh, stage_parameters_in_order(layers)[0]))


def test_sharded_replicas_hold_whole_layers_while_they_compute_them():
    """ZeRO 2 one layer's gradients in 4 bytes; ZeRO 3 two layers' weights as well."""
    model, mesh = MODELS["gpt-22b"], mesh_of("TP8_PP2_DP4")
    layers = even_layers(model, mesh)
    layer = sum(layer_params_per_rank(model.layer(0), mesh))
    working = [
        state_bytes(model, mesh, stage_parameters_in_order(layers)[0], 0, sharding=ZERO_LEVELS[zero]).working
        for zero in range(4)
    ]
    assert working == [0, 0, 4 * layer, (4 + 2 * 2) * layer]


def test_the_working_tensors_of_prefill_grow_with_the_tokens_of_the_hottest_rank():
    """Half more tokens are half more of input 4, up 8 and activation 8."""
    mesh = mesh_of("EP1_TP1_PP1")
    assert forward_working_bytes(TINY, mesh, 10, skew=1.5) == 10 * 2 * (8 + 4 + 1.5 * 20)


# --- KV cache ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("tp", "shards"), [(1, 1), (2, 2), (8, 8), (16, 8)])
def test_a_kv_cache_is_split_over_its_heads_and_then_copied(tp, shards):
    """Llama 3 70B has 8 KV heads of 128, keys and values of 2 bytes."""
    assert kv_cache_bytes(MODELS["llama3-70b"], range(80), 2, 2048, tp) == 80 * 4096 * 2 * 8 * 128 * 2 / shards
