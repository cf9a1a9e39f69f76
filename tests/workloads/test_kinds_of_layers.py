"""Kinds of attention and FFN, each by hand: parameters, FLOPs, cache, state, activations, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest

from sim.errors import InvalidValueError
from workloads.blocks.attention import mean_attended
from workloads.blocks.recompute import Recompute
from workloads.kernels import Attention, Gemm, backward_of
from workloads.layers import attention_block, head_block, permute
from workloads.memory import StageParameters, activation_bytes_per_microbatch, kv_cache_bytes, params_per_rank
from workloads.mesh import build_mesh
from workloads.model import ModelSpec
from workloads.presets import MODELS
from workloads.strategy import Strategy

V3 = MODELS["deepseek-v3"]
PLAIN = ModelSpec(layers=12, hidden=64, heads=8, ffn=128, vocab=1000)
MAMBA = replace(
    PLAIN,
    hybrid_override_pattern="M-*-",
    mamba_num_heads=16,
    mamba_head_dim=8,
    ssm_state_size=32,
    n_groups=2,
    conv_kernel=4,
    chunk_size=64,
)
DELTA = replace(
    PLAIN,
    layer_types=("linear_attention", "linear_attention", "full_attention"),
    linear_num_key_heads=4,
    linear_num_value_heads=8,
    linear_key_head_dim=16,
    linear_value_head_dim=16,
    linear_conv_kernel_dim=4,
)


def mesh_of(strategy, num_gpus=None):
    """Return a mesh of as many GPUs as the strategy needs."""
    parsed = Strategy.parse(strategy)
    return build_mesh(parsed, "megatron", num_gpus=num_gpus or parsed.tp * parsed.pp * (parsed.dp or 1))


# --- latent attention ----------------------------------------------------------------------------------------------


def test_the_parameters_of_latent_attention_by_hand():
    """Down 7168 x (1536 + 576), norms 1536 + 512, up 1536 x 128 x 192 and 512 x 128 x 256, out 16384 x 7168."""
    down, norms = 7168 * (1536 + 512 + 64), 1536 + 512
    up, out = 1536 * 128 * (128 + 64) + 512 * 128 * (128 + 128), 128 * 128 * 7168
    assert V3.attention.num_params == down + norms + up + out
    assert V3.attention.num_params_per_rank(8) == down + norms + (up + out) // 8
    without = replace(V3, q_lora_rank=None).attention
    assert without.num_params == 7168 * (128 * 192 + 576) + 512 + 512 * 128 * 256 + out


@pytest.mark.parametrize("tp", [1, 8])
def test_every_tp_rank_has_the_whole_latent_of_576_values_a_token_and_layer(tp):
    assert kv_cache_bytes(V3, range(61), 2, 4096, tp) == 61 * 576 * 2 * 8192


def test_the_flops_of_latent_attention_by_hand():
    """Prefill projects keys and values of all heads up: scores 2 s 128 x 192, values 2 s 128 x 128."""
    s, matrices = 4096, 187_107_328 - 2048
    assert V3.attention.score_flops_per_token(s, causal=False) == 2 * s * 128 * (192 + 128)
    kernels = V3.attention.kernels(s, s).all
    assert sum(kernel.flops for kernel in kernels if isinstance(kernel, Gemm)) == 2 * s * matrices
    assert sum(kernel.flops for kernel in kernels if isinstance(kernel, Attention)) == s * s * 128 * (192 + 128)


def test_decode_absorbs_the_up_projections_and_reads_the_latents_once():
    """Of 4 sequences with 1,000 cached tokens: scores 2 x 576 and values 2 x 512 FLOPs of a head and cached token."""
    kernels = V3.attention.decode_kernels(4, 1000)
    (scores,) = [kernel for kernel in kernels if isinstance(kernel, Attention)]
    assert scores.flops == 4 * 1000 * 128 * 2 * (576 + 512)
    assert scores.num_bytes == 2 * (4 * 1000 * 576 + 4 * 128 * (576 + 512))
    weights = sum(kernel.n * kernel.k for kernel in kernels if isinstance(kernel, Gemm))
    assert weights == 187_107_328 - 2048  # the absorbed projections are those of the keys and values


def test_recomputing_the_up_projections_frees_queries_keys_values_and_normed_latents():
    """Of DeepSeek-V3 128 x (192 + 192 + 128) + 1536 + 512 elements a token and layer."""
    mesh, layers = mesh_of("TP1"), range(3, 13)
    kept = [
        activation_bytes_per_microbatch(V3, mesh, layers, 100, Recompute(*again))
        for again in (("none",), ("selective", ("mla_up_proj",)))
    ]
    assert kept[0] - kept[1] == 10 * 100 * 2 * (128 * 512 + 2048)
    again = V3.attention.recomputed_kernels(Recompute("selective", ("mla_up_proj",)), V3.attention.kernels(100, 100))
    assert sum(kernel.flops for kernel in again) == 2 * 100 * (1536 * 128 * 192 + 512 * 128 * 256)


# --- windows, chunks, sinks, gates ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "limit"), [("window", 100), ("chunk", 100)])
def test_what_a_token_attends_to_is_counted_mask_by_mask(kind, limit):
    """The mean over tokens of a mask of 1,000, with half of a token's own score as in s / 2."""
    rows, columns = np.indices((1000, 1000))
    mask = (columns <= rows) & ((rows - columns < limit) if kind == "window" else (rows // limit == columns // limit))
    counted = mask.sum() / 1000
    assert mean_attended(1000, causal=True, **{kind: limit}) == pytest.approx(counted, abs=0.5)
    assert mean_attended(1000, causal=False, **{kind: limit}) == limit


def test_a_window_on_every_second_layer_bounds_scores_and_cache_there():
    """gpt-oss: layers 0, 2, ... attend to 128 tokens; of 4,096 their scores are 128 - 128^2 / 8192 tokens."""
    model = MODELS["gpt-oss-20b"]
    assert [model.attention_kind(layer) for layer in range(3)] == [
        "sliding_attention",
        "full_attention",
        "sliding_attention",
    ]
    scores = [model.layer(layer).attention.score_flops_per_token(4096, causal=True) for layer in range(2)]
    assert scores == [4 * (128 - 128**2 / 8192) * 64 * 64, 4 * 2048 * 64 * 64]
    assert kv_cache_bytes(model, range(24), 1, 4096, 1) == 12 * (128 + 4096) * 2 * 8 * 64 * 2


def test_sinks_are_a_parameter_a_head_and_a_gate_is_projected_like_queries():
    sinks, gate = replace(PLAIN, attention_sinks=True), replace(PLAIN, attn_output_gate=True)
    assert sinks.num_params - PLAIN.num_params == 12 * 8
    assert gate.num_params - PLAIN.num_params == 12 * 64 * 64
    assert sinks.flops_per_token(100, causal=False, with_head=False) == PLAIN.flops_per_token(
        100, causal=False, with_head=False
    )


# --- recurrent states ----------------------------------------------------------------------------------------------


def test_a_mamba_2_layer_by_hand():
    """Inner width 16 x 8 = 128, G N = 64: in_proj 64 x 400, convolution 5 x 256, A, D, dt 48, norm 128, out."""
    mixer = MAMBA.layer(0).attention
    assert mixer.num_params == 64 * 400 + 5 * 256 + 48 + 128 + 128 * 64
    assert mixer.state_bytes == 2 * (16 * 8 * 32 + 3 * 256)
    assert mixer.cache_bytes(10) == mixer.cache_bytes(10**6) == mixer.state_bytes
    inside, state = 2 * 64 * (64 + 128), 4 * 128 * 32
    assert mixer.score_flops_per_token(1000, causal=False) == inside + state
    assert mixer.score_flops_per_token(1000, causal=True) == inside / 2 + state
    assert kv_cache_bytes(MAMBA, range(12), 3, 1000, 2) == 3 * 3 * (mixer.state_bytes + 1000 * 2 * 8 * 8 * 2) / 2


def test_a_gated_delta_net_by_hand():
    """Keys of 64, values of 128: in_proj 64 x 400, convolution 4 x 256, A, dt 16, norm 16, out 128 x 64."""
    mixer = DELTA.layer(0).attention
    assert mixer.num_params == 64 * 400 + 4 * 256 + 16 + 16 + 128 * 64
    assert mixer.state_bytes == 2 * (8 * 16 * 16 + 3 * 256)
    inside, state = 2 * 64 * 8 * (3 * 16 + 2 * 16), 6 * 8 * 16 * 16
    assert mixer.score_flops_per_token(1000, causal=False) == inside + state
    assert DELTA.layer(2).attention.kv_cache_bytes_per_token == 2 * 8 * 8 * 2


def test_layers_of_a_pattern_have_an_attention_or_an_ffn_and_one_norm():
    assert [(layer.attention is None, layer.ffn is None) for layer in map(MAMBA.layer, range(4))] == [
        (False, True),
        (True, False),
        (False, True),
        (True, False),
    ]
    assert MAMBA.layer(1).num_params == 64 + 2 * 64 * 128
    assert MAMBA.layer(1).flops_per_token(100, causal=True) == 2 * 2 * 64 * 128


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("tp", [1, 2])
def test_the_weights_of_a_mixers_products_are_its_parameters(name, tp):
    """Of each kind of layer, and the backward pass runs each product twice."""
    for layer, _ in MODELS[name].layer_kinds(range(MODELS[name].layers)):
        if layer.attention is None:
            continue
        products = [k for k in attention_block(layer.attention, 10, 10, tp=tp) if isinstance(k, Gemm)]
        assert sum(k.n * k.k for k in products) == pytest.approx(layer.attention.num_params_per_rank(tp), rel=0.005)
        backward = backward_of(products)
        assert sum(k.flops for k in backward) == 2 * sum(k.flops for k in products)


# --- FFN -----------------------------------------------------------------------------------------------------------


def test_experts_in_every_second_layer_are_in_the_second_of_them():
    model = MODELS["llama4-maverick"]
    assert [model.is_moe_layer(layer) for layer in range(4)] == [False, True, False, True]
    assert model.num_moe_layers == 24
    assert [replace(V3, moe_every=2).is_moe_layer(layer) for layer in range(6)] == [False] * 3 + [True, False, True]


def test_a_shared_expert_has_a_width_and_a_gate_of_its_own():
    """Three matrices of 3584 x 20480, a gate of 3584; routed experts are 2560 wide."""
    ffn = MODELS["qwen2-57b-a14b"].moe_ffn
    assert ffn.num_shared_params == 3 * 3584 * 20480
    assert ffn.num_params == 64 * 3 * 3584 * 2560 + 3 * 3584 * 20480 + 3584 * (64 + 1)
    assert ffn.num_active_params == 8 * 3 * 3584 * 2560 + 3 * 3584 * 20480 + 3584 * 65


def test_shared_experts_side_by_side_keep_their_input_once():
    """Of 2 of DeepSeek-V2's 1,536 as of one of 3,072: gate, up, activation; the input is the router's."""
    ffn = MODELS["deepseek-v2"].moe_ffn
    without = replace(ffn, shared=None).kept_bytes(Recompute(), tp=1, sequence_shards=1)
    assert ffn.kept_bytes(Recompute(), tp=1, sequence_shards=1) - without == 2 * 3 * 3072


def test_latent_experts_by_hand():
    """Hidden 8, latent 4, two experts of 2 x 4 x 6, router 8 x 2, projections 2 x 8 x 4, a shared FFN of 2 x 8 x 6."""
    model = replace(PLAIN, hidden=8, ffn=6, experts=2, top_k=2, shared_experts=1, moe_latent_size=4)
    ffn = model.moe_ffn
    assert (model.num_expert_params, ffn.num_params) == (48, 2 * 48 + 16 + 2 * 32 + 96)
    products = [(kernel.n, kernel.k) for kernel in ffn.router_kernels(5) if isinstance(kernel, Gemm)]
    assert products == [(2, 8), (4, 8), (8, 4)]
    # Norm and its input 2 x 8, shared 2 x 6, two copies of 4 + 2 x 6, and the sum of the experts, 4.
    assert ffn.kept_bytes(Recompute(), tp=1, sequence_shards=1) == 2 * (16 + 12 + 2 * 16 + 4)
    assert permute(model, 10.0).num_bytes == 2 * 10 * 4 * 2


# --- embedding, head, MTP ------------------------------------------------------------------------------------------


def test_a_layer_of_mtp_by_hand():
    """Projection 2 x 7168^2, three norms, and a layer like the last; embedding and head are the model's."""
    layer = V3.layer(61)
    assert layer.num_params == V3.layer(60).num_params + 2 * 7168**2 + 3 * 7168
    assert V3.num_mtp_params == layer.num_params
    assert V3.num_params == replace(V3, num_nextn_predict_layers=0).num_params
    with_mtp, without = (V3.flops_per_token(4096, causal=True, with_head=True, with_mtp=mtp) for mtp in (True, False))
    head = 2 * 129280 * 7168
    assert with_mtp - without == pytest.approx(layer.flops_per_token(4096, causal=True) + head)
    assert layer.flops_per_token(4096, causal=True) == pytest.approx(
        V3.layer(60).flops_per_token(4096, causal=True) + 4 * 7168**2
    )


def test_an_mtp_layer_of_a_hybrid_model_has_the_parts_that_its_pattern_says():
    hybrid = replace(MAMBA, num_nextn_predict_layers=1)
    attention, ffn, projection = hybrid.layer(2), hybrid.layer(3), 2 * 64**2 + 3 * 64
    assert hybrid.layer(12).num_params == ffn.num_params + projection  # as the last layer
    both = replace(hybrid, mtp_hybrid_override_pattern="*-")
    assert both.layer(12).num_params == attention.num_params + ffn.num_params + projection


def test_the_stage_of_mtp_has_a_copy_of_the_embedding():
    mesh, matrix = mesh_of("TP1_PP2"), 129280 * 7168
    stage = StageParameters(layers=[60], has_head=True)
    with_mtp = StageParameters(layers=[60, 61], has_head=True)
    more = params_per_rank(V3, mesh, with_mtp)[0] - params_per_rank(V3, mesh, stage)[0]
    dense = V3.layer(61).num_params - 256 * 3 * 7168 * 2048
    assert more == matrix + dense


def test_a_tied_head_is_the_embedding_where_both_are_on_a_stage():
    tied = replace(PLAIN, tie_word_embeddings=True)
    assert PLAIN.num_params - tied.num_params == 64_000
    assert PLAIN.num_active_params == tied.num_active_params
    mesh = mesh_of("TP1")
    both, last = (StageParameters(layers=[0], has_embedding=first, has_head=True) for first in (True, False))
    assert [params_per_rank(model, mesh, both)[0] for model in (PLAIN, tied)] == [
        params_per_rank(PLAIN, mesh, last)[0] + 64_000,
        params_per_rank(PLAIN, mesh, last)[0],
    ]


def test_a_padded_vocabulary_is_a_multiple_of_the_divisor_and_tp():
    padded = replace(PLAIN, make_vocab_size_divisible_by=128)
    assert [padded.padded_vocab(tp) for tp in (1, 2, 8)] == [1024, 1024, 1024]
    assert padded.padded_vocab(3) == 1152
    stage = StageParameters(layers=[], has_embedding=True)
    assert params_per_rank(padded, mesh_of("TP2"), stage)[0] == 1024 * 64 // 2
    assert padded.num_params == PLAIN.num_params


def test_a_head_in_4_bytes_has_such_logits_and_products_of_tf32():
    model = replace(PLAIN, fp32_lm_head=True)
    product, softmax = head_block(model, 10)[1:]
    assert (product.dtype, product.flops) == ("tf32", 2.0 * 10 * 1000 * 64)
    assert [gradient.dtype for gradient in product.backward()] == ["tf32", "tf32"]
    assert softmax.num_bytes == 2 * 10 * 1000 * 4


def test_rotary_embedding_keeps_rotated_queries_and_keys_beside_the_projection():
    """Of Llama 3 70B 64 + 8 heads of 128 a token and layer."""
    llama, mesh = MODELS["llama3-70b"], mesh_of("TP8")
    kept = [
        activation_bytes_per_microbatch(replace(llama, unfused_rotary_embedding=on), mesh, range(80), 10, "none")
        for on in (False, True)
    ]
    assert kept[1] - kept[0] == 80 * 10 * 2 * 72 * 128 / 8


def test_learned_positions_are_parameters_of_which_a_token_reads_a_row():
    model = replace(PLAIN, n_positions=50)
    assert model.num_params - PLAIN.num_params == 50 * 64
    assert model.num_active_params - PLAIN.num_active_params == 64


# --- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "changes", "field", "rule"),
    [
        (PLAIN, {"kv_lora_rank": 16}, "qk_nope_head_dim", "be given with model.kv_lora_rank"),
        (PLAIN, {"q_lora_rank": 16}, "q_lora_rank", "be left out without model.kv_lora_rank"),
        (V3, {"attention_sinks": True}, "attention_sinks", "be left out with model.kv_lora_rank (MLA)"),
        (PLAIN, {"sliding_window_every": 2}, "sliding_window_every", "be left out without model.sliding_window"),
        (PLAIN, {"layer_types": ("sliding_attention",)}, "sliding_window", "be given with layers of sliding_attention"),
        (
            PLAIN,
            {"layer_types": ("full_attention",) * 5},
            "layer_types",
            "have a length that divides model.layers = 12",
        ),
        (PLAIN, {"chunk_size": 64}, "chunk_size", "be left out without layers of mamba"),
        (MAMBA, {"n_groups": 3}, "n_groups", "divide model.mamba_num_heads = 16"),
        (MAMBA, {"layer_types": ("mamba",)}, "layer_types", "be left out with model.hybrid_override_pattern"),
        (MAMBA, {"hybrid_override_pattern": "ME"}, "hybrid_override_pattern", "have layers of experts (E)"),
        (MAMBA, {"hybrid_override_pattern": "--"}, "hybrid_override_pattern", "have a layer with attention or Mamba"),
        (MAMBA, {"hybrid_override_pattern": "Mx"}, "hybrid_override_pattern", "consist of *, M, -, E"),
        (
            MAMBA,
            {"mtp_hybrid_override_pattern": "*E"},
            "mtp_hybrid_override_pattern",
            "consist of letters of the layers",
        ),
        (MAMBA, {"mtp_hybrid_override_pattern": "*M"}, "mtp_hybrid_override_pattern", "have at most one of * and M"),
        (PLAIN, {"mtp_hybrid_override_pattern": "*"}, "mtp_hybrid_override_pattern", "be left out without"),
        (PLAIN, {"moe_latent_size": 4}, "moe_latent_size", "be left out of a dense model"),
        (DELTA, {"linear_num_value_heads": 6}, "linear_num_value_heads", "be a multiple of"),
        (PLAIN, {"moe_every": 2}, "moe_every", "be left out of a dense model"),
        (PLAIN, {"scoring_func": "sigmoid"}, "scoring_func", "be left out of a dense model"),
        (MODELS["mixtral-8x7b"], {"shared_expert_gate": True}, "shared_expert_gate", "be left out without"),
        (V3, {"scoring_func": "linear"}, "scoring_func", "be one of softmax, sigmoid"),
    ],
)
def test_fields_that_do_not_go_together_are_refused(base, changes, field, rule):
    with pytest.raises(InvalidValueError) as refused:
        replace(base, **changes)
    assert refused.value.field == f"model.{field}"
    assert refused.value.rule.startswith(rule)
    assert refused.value.hint
