"""Models: parameters next to published counts, FLOPs next to published formulas, and shapes that cannot be."""

from dataclasses import replace
from decimal import Decimal

import pytest

from sim.errors import InvalidValueError
from workloads.memory import RECOMPUTE_MODULES, Recompute
from workloads.model import ModelSpec
from workloads.presets import MODELS, PUBLISHED, get_model

UNIFORM = (
    "gpt-22b",
    "gpt-175b",
    "llama3-8b",
    "llama3-70b",
    "llama3-405b",
    "mixtral-8x7b",
    "mixtral-8x22b",
    "qwen3-30b-a3b",
)
"""Models of one kind of layer, with grouped-query attention over the whole sequence and no shared experts."""
UNIFORM_MODELS = pytest.mark.parametrize("model", [MODELS[name] for name in UNIFORM], ids=UNIFORM)
EVERY_MODEL = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())
# The document's 30B model: 30e9 parameters in 16 layers of 64 experts at hidden 1024, two matrices.
DOCUMENT = ModelSpec(
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
# Parameters of the published checkpoints (safetensors), and those of them that the model leaves out.
CHECKPOINTS = {
    "llama3-70b": (70_553_706_496, 0),
    "mixtral-8x7b": (46_702_792_704, 0),
    "qwen3-30b-a3b": (30_532_122_624, 48 * 2 * 128),  # norms of Q and K
    "gpt-oss-120b": (
        116_829_156_672,
        36 * (128 * 3 * 2880 + 128)  # biases of the experts and of the router
        + 36 * (64 + 2 * 8) * 64  # biases of QKV
        + 36 * 2880,  # bias of the output projection
    ),
}
GPT_OSS_20B = replace(MODELS["gpt-oss-120b"], layers=24, experts=32)
# Billions as quoted: technical reports and model cards. gpt-oss counts the output head and a row of the embedding, as
# `num_active_params` does; Mixtral and Qwen3 count the whole embedding.
ACTIVE = {
    "mixtral-8x7b": (MODELS["mixtral-8x7b"], 12.9, 31999 * 4096),
    "qwen3-30b-a3b": (MODELS["qwen3-30b-a3b"], 3.3, 151935 * 2048),
    "gpt-oss-120b": (MODELS["gpt-oss-120b"], 5.13, 0),  # gpt-oss model card, OpenAI 2025, table 1
    "gpt-oss-20b": (GPT_OSS_20B, 3.61, 0),  # the same table
}
GPTS = {name: MODELS[name] for name in ("gpt-22b", "gpt-175b")}


@pytest.mark.parametrize("name", MODELS)
def test_a_preset_has_the_published_parameters(name):
    """Within 0.5 %, or the last digit that the source gives, rounded or cut off, counted as the source counts."""
    published = PUBLISHED[name]
    for text, ours in zip((published.total, published.active), published.counted_alike(MODELS[name]), strict=True):
        if text is not None:
            last_digit = 10.0 ** Decimal(text).as_tuple().exponent
            is_cut_off = int(ours / last_digit) == round(float(text) / last_digit)
            assert is_cut_off or ours == pytest.approx(float(text), abs=max(0.005 * float(text), last_digit / 2))


# --- parameters ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_parameters_are_those_of_the_checkpoint_less_what_is_left_out(name):
    published, left_out = CHECKPOINTS[name]
    assert MODELS[name].num_params == published - left_out


@pytest.mark.parametrize("name", ACTIVE)
def test_active_parameters_are_the_published_ones(name):
    """Within one of the last digit quoted: some are rounded, some cut off."""
    model, billions, whole_embedding = ACTIVE[name]
    digits = len(str(billions).split(".")[1])
    assert (model.num_active_params + whole_embedding) / 1e9 == pytest.approx(billions, abs=10**-digits)


@pytest.mark.parametrize(("name", "billions"), [("gpt-22b", 22), ("gpt-175b", 175)])
def test_a_gpt_has_the_parameters_of_its_name(name, billions):
    """Within half of the last digit and the output head, which GPT ties to the embedding."""
    model = MODELS[name]
    assert model.num_params == pytest.approx(billions * 1e9, abs=0.5e9 + model.num_embedding_params)


@pytest.mark.parametrize("name", GPTS)
def test_parameters_of_a_gpt_follow_narayanan(name):
    """2021, equation 2: 12 l h^2 (1 + 13 / 12h + (V + s) / 12lh); here without biases and positions, with a head."""
    model = MODELS[name]
    layers, h, vocab = model.layers, model.hidden, model.vocab
    norms = (2 * layers + 1) * h
    assert model.num_params == 12 * layers * h**2 + 2 * vocab * h + norms


def test_the_documents_model_has_30_2_billion_parameters():
    experts = 16 * 64 * 2 * 1024 * 14336
    assert DOCUMENT.num_params == experts + 16 * (4 * 1024**2 + 2 * 1024 + 1024 * 64) + 1024 + 2 * 50304 * 1024
    assert DOCUMENT.num_params / 1e9 == pytest.approx(30.2, abs=0.05)


@EVERY_MODEL
def test_meeting_every_expert_makes_every_parameter_active_but_other_rows_of_the_embedding(model):
    positions = max(0, model.n_positions - 1) * model.hidden
    rows = 0 if model.tie_word_embeddings else (model.vocab - 1) * model.hidden
    row = model.hidden if model.tie_word_embeddings else 0
    assert replace(model, top_k=model.experts).num_active_params == model.num_params - rows + row - positions
    assert model.num_active_params <= model.num_params + row  # a token meets a tied embedding twice


@UNIFORM_MODELS
def test_one_layer_more_adds_the_parameters_of_a_layer(model):
    one_more = replace(model, layers=model.layers + 1).num_params - model.num_params
    ffn = model.experts * (model.num_expert_params + model.hidden) if model.experts else model.num_dense_ffn_params
    assert one_more == model.num_attention_params + 2 * model.hidden + ffn


def test_dense_layers_and_shared_experts_by_hand():
    """3 layers, the first dense: attention 4 * 16, norms 2 * 4; FFN 3 * 4 * 10; 8 experts and 1 shared of 3 * 4 * 6."""
    model = replace(
        DOCUMENT,
        layers=3,
        hidden=4,
        heads=2,
        kv_heads=2,
        head_dim=2,
        ffn=6,
        dense_ffn=10,
        gated=True,
        experts=8,
        shared_experts=1,
        dense_layers=1,
        vocab=5,
    )
    assert [model.is_moe_layer(layer) for layer in range(3)] == [False, True, True]
    common = 3 * (64 + 8) + 120 + 4 + 2 * 20 + 2 * 8 * 4
    assert model.num_params == common + 2 * 9 * 72
    assert model.num_active_params == common + 2 * 3 * 72 - 4 * 4  # one row of the embedding's five


# --- FLOPs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GPTS)
@pytest.mark.parametrize("s", [512, 2048, 8192])
def test_forward_flops_of_a_gpt_follow_narayanan(name, s):
    """2021, equation 3 without recomputation, forward a third of 72 B s l h^2 (1 + s / 6h + V / 12lh)."""
    model = MODELS[name]
    layers, h, vocab = model.layers, model.hidden, model.vocab
    expected = 72 * layers * h**2 * (1 + s / (6 * h) + vocab / (12 * layers * h)) / 3
    assert model.flops_per_token(s, causal=False, with_head=True) == pytest.approx(expected, rel=1e-12)


@UNIFORM_MODELS
def test_flops_without_scores_are_two_per_active_matrix_parameter(model):
    """Norms multiply no matrices, the embedding is looked up, and all experts' router columns are met."""
    norms = (2 * model.layers + 1) * model.hidden
    matrices = model.num_active_params - norms - model.hidden
    scores = model.layers * model.attention_score_flops_per_token(1000, causal=False)
    assert model.flops_per_token(1000, causal=False, with_head=True) == pytest.approx(2 * matrices + scores, rel=1e-12)


@UNIFORM_MODELS
def test_a_causal_mask_halves_the_scores_and_nothing_else(model):
    full, causal = (model.flops_per_token(4096, causal=causal, with_head=False) for causal in (False, True))
    assert full - causal == pytest.approx(model.layers * 2 * 4096 * model.heads * model.head_dim, rel=1e-12)


@pytest.mark.parametrize(
    ("top_k", "sequence_length", "quoted_ms"), [(2, 10240, 48), (1, 10240, 29), (2, 2048, 43), (1, 2048, 23)]
)
def test_a_forward_pass_of_the_document_on_64_h100s_at_full_peak(top_k, sequence_length, quoted_ms):
    """1.3 M tokens on 64 x 989 TFLOP/s; within half of the last digit quoted."""
    model = replace(DOCUMENT, top_k=top_k)
    flops = 1.3e6 * model.flops_per_token(sequence_length, causal=True, with_head=False)
    assert 1e3 * flops / (64 * 989e12) == pytest.approx(quoted_ms, abs=0.5)


def test_kv_cache_of_a_token_is_keys_and_values():
    assert MODELS["llama3-70b"].kv_cache_bytes_per_token_layer == 2 * 8 * 128 * 2
    assert replace(MODELS["llama3-70b"], dtype="fp8").kv_cache_bytes_per_token_layer == 2 * 8 * 128 * 2  # stays bf16


# --- layers, refusals ----------------------------------------------------------------------------------------------


@EVERY_MODEL
@pytest.mark.parametrize("num_stages", [1, 2, 3, 4, 7, 8])
def test_layers_are_spread_equally_or_not_at_all(model, num_stages):
    split = model.spread_layers(num_stages)
    if model.layers % num_stages:
        assert split is None
    else:
        assert split is not None
        assert (sum(split), len(split), len(set(split))) == (model.layers, num_stages, 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": 0}, "model.layers must be at least 1, got 0. Give a positive whole number."),
        ({"hidden": -1}, "model.hidden must be at least 1, got -1. Give a positive whole number."),
        ({"dense_layers": -1}, "model.dense_layers must not be negative, got -1. Give 0 where there is none."),
        ({"kv_heads": 32}, "model.kv_heads must be at most model.heads = 16, got 32. Lower kv_heads."),
        (
            {"hidden": 1000, "head_dim": None},
            "model.hidden must be a multiple of model.heads = 16, got 1000. "
            "Give model.head_dim, or change hidden or heads.",
        ),
        ({"dtype": "int4"}, "model.dtype must be one of bf16, fp16, fp8, got int4. Use bf16."),
        (
            {"kv_heads": 5},
            "model.kv_heads must divide model.heads = 16, got 5. Each key and value head serves equally many heads.",
        ),
        ({"dense_layers": 17}, "model.dense_layers must be at most model.layers = 16, got 17. Lower dense_layers."),
        ({"top_k": 65}, "model.top_k must be at most model.experts = 64, got 65. Lower top_k."),
        ({"top_k": 0}, "model.top_k must be at least 1 with experts, got 0. Give the experts that a token meets."),
        (
            {"experts": 0},
            "model.top_k must be left out of a dense model, got 2. Give model.experts, or remove this key.",
        ),
        (
            {"experts": 0, "top_k": 0, "shared_experts": 1},
            "model.shared_experts must be left out of a dense model, got 1. Give model.experts, or remove this key.",
        ),
    ],
)
def test_a_model_that_cannot_be_is_refused(changes, message):
    with pytest.raises(InvalidValueError) as refusal:
        replace(DOCUMENT, **changes)
    assert str(refusal.value) == message


@pytest.mark.parametrize("name", MODELS)
def test_full_recomputation_recomputes_a_forward_pass_without_the_head(name):
    model = MODELS[name]
    recomputed = model.recomputed_flops_per_token(Recompute("full"), 1000)
    assert recomputed == model.flops_per_token(1000, causal=False, with_head=False)


@pytest.mark.parametrize("name", MODELS)
def test_recomputed_experts_include_shared_experts_and_modules_are_no_more_than_the_layer(name):
    model = replace(MODELS[name], shared_experts=2) if MODELS[name].experts else MODELS[name]
    flops = {m: model.recomputed_flops_per_token(Recompute("selective", (m,)), 1000) for m in RECOMPUTE_MODULES}
    both = model.recomputed_flops_per_token(Recompute("selective", ("moe", "shared_experts")), 1000)
    assert both == flops["moe"] >= flops["shared_experts"]
    assert sum(flops.values()) - flops["shared_experts"] <= model.flops_per_token(1000, causal=False, with_head=False)


@pytest.mark.parametrize(("name", "near"), [("mixtral", "mixtral-8x7b"), ("llama-70b", "llama3-70b")])
def test_an_unknown_model_names_the_nearest(name, near):
    with pytest.raises(InvalidValueError, match=f"must name a known model, got {name}. Did you mean `{near}`"):
        get_model(name)
