"""Kernels of a layer: their FLOPs add up to the model's, their weights to its parameters, backward does each twice."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest

from workloads.blocks.attention import GroupedQueryAttention
from workloads.blocks.layer import Mixer
from workloads.kernels import (
    ATTENTION_OPERATIONS,
    MEMORY_OPERATIONS,
    Attention,
    Gemm,
    GroupedGemm,
    Kernel,
    Memory,
    Scan,
    backward_of,
)
from workloads.layers import (
    attention_block,
    dense_ffn_block,
    embedding_backward,
    embedding_block,
    expert_block,
    head_block,
    optimizer_step,
    permute,
    router_block,
    shared_expert_block,
)
from workloads.memory import Precision
from workloads.model import ModelSpec
from workloads.presets import MODELS
from workloads.routing import ROUTINGS, Skew, draw_counts

# Two dense layers, then mixture of experts with a shared one: what no preset has.
MIXED = dataclasses.replace(MODELS["qwen3-30b-a3b"], layers=6, dense_layers=2, shared_experts=1)
SHAPES = {**MODELS, "dense-then-shared": MIXED}
EVERY_SHAPE = pytest.mark.parametrize("model", SHAPES.values(), ids=SHAPES.keys())
EVERY_TP = pytest.mark.parametrize("tp", [1, 2, 4])
TOKENS, SEQUENCE = 512, 256
ROUNDING = 1e-12
"""Sums of fewer than 1,000 positive floats: 1,000 * 2^-53 = 1.1e-13."""


def total_flops(kernels: Sequence[Kernel]) -> float:
    return sum(float(np.sum(kernel.flops)) for kernel in kernels)


def num_weights(kernels: Sequence[Kernel]) -> int:
    """Count the entries of the weight matrices; of all local experts of all ranks in a grouped product."""
    dense = sum(kernel.n * kernel.k for kernel in kernels if isinstance(kernel, Gemm))
    grouped = sum(kernel.n * kernel.k * kernel.tokens.size for kernel in kernels if isinstance(kernel, GroupedGemm))
    return dense + grouped


def routed(model: ModelSpec, kind: str = "multinomial") -> np.ndarray:
    """Return the tokens that arrive for each expert, one to a rank. Shape [E, 1]."""
    counts = draw_counts(
        kind,
        num_sources=1,
        tokens=TOKENS,
        num_experts=model.experts,
        top_k=model.top_k,
        seed=1,
        layers=[0],
        microbatches=[0],
        # a recording of which `trace` replays the shares, and the experts of a node, of which here is one
        skew=Skew(loads=np.ones((1, 1, model.experts)), hot_experts=2),
    )
    return counts[0, 0].T


def attentions_of(model: ModelSpec) -> list[Mixer]:
    """Return each kind of attention of a model."""
    return [layer.attention for layer, _ in model.layer_kinds(range(model.layers)) if layer.attention is not None]


def splits_evenly(model: ModelSpec, tp: int) -> bool:
    """Tell whether TP copies nothing and pads nothing: no latents, no KV heads, no vocabulary."""
    attentions = attentions_of(model)
    copies = any(mixer.num_params_per_rank(tp) * tp > mixer.num_params for mixer in attentions)
    return not (copies or model.vocab % tp or any(mixer.why_not_split(tp) for mixer in attentions))


def flops_of_layer(model: ModelSpec, number: int, tp: int) -> float:
    """Return the FLOPs of all ranks for one layer of `TOKENS` tokens."""
    layer, attention = model.layer(number), 0.0
    if layer.attention is not None:
        attention = tp * total_flops(attention_block(layer.attention, TOKENS, SEQUENCE, tp=tp))
    if layer.ffn is None:
        return attention
    if not layer.is_moe:
        return attention + tp * total_flops(dense_ffn_block(model.plain_ffn, TOKENS, tp=tp))
    owned = TOKENS // tp
    each = [*router_block(model.moe_ffn, owned), *shared_expert_block(model.moe_ffn, owned)]
    return attention + tp * total_flops(each) + total_flops(expert_block(model.moe_ffn, routed(model)))


EVERY_SPLIT = pytest.mark.parametrize(
    ("model", "tp"),
    [
        pytest.param(model, tp, id=f"{name}-{tp}")
        for name, model in SHAPES.items()
        for tp in (1, 2, 4)
        if splits_evenly(model, tp)
    ],
)


# --- sums ----------------------------------------------------------------------------------------------------------


@EVERY_SPLIT
def test_kernels_of_all_ranks_add_up_to_the_flops_of_the_model(model, tp):
    layers = sum(flops_of_layer(model, layer, tp) for layer in range(model.layers))
    head = tp * total_flops(head_block(model, TOKENS, tp=tp))
    for found, with_head in ((layers, False), (layers + head, True)):
        expected = TOKENS * model.flops_per_token(SEQUENCE, causal=True, with_head=with_head)
        assert found == pytest.approx(expected, rel=ROUNDING)


@EVERY_SPLIT
def test_weights_of_all_ranks_add_up_to_the_parameters_of_the_block(model, tp):
    for mixer in attentions_of(model):
        assert tp * num_weights(attention_block(mixer, TOKENS, SEQUENCE, tp=tp)) == mixer.num_matrix_params
    assert tp * num_weights(dense_ffn_block(model.plain_ffn, TOKENS, tp=tp)) == model.num_dense_ffn_params
    assert tp * num_weights(head_block(model, TOKENS, tp=tp)) == model.num_embedding_params
    if model.experts:
        assert num_weights(expert_block(model.moe_ffn, routed(model))) == model.experts * model.num_expert_params
        assert num_weights(shared_expert_block(model.moe_ffn, TOKENS)) == model.moe_ffn.num_shared_params
        columns = model.experts + model.shared_expert_gate
        latent = 2 * (model.moe_latent_size or 0)
        assert num_weights(router_block(model.moe_ffn, TOKENS)) == model.hidden * (columns + latent)


@pytest.mark.parametrize("model", [model for model in SHAPES.values() if model.kv_heads < model.heads])
def test_fewer_kv_heads_than_ranks_are_copied(model):
    mixer = next(mixer for mixer in attentions_of(model) if isinstance(mixer, GroupedQueryAttention))
    tp = 2 * model.kv_heads
    qkv = mixer.kernels(TOKENS, SEQUENCE, tp=tp).before[0]
    assert isinstance(qkv, Gemm)
    assert qkv.n == (model.heads // tp * (2 if mixer.has_gate else 1) + 2) * model.head_dim


@EVERY_SHAPE
@EVERY_TP
def test_sequence_parallelism_splits_residual_addition_and_norm_alone(model, tp):
    whole, split = (
        attention_block(model.attention, TOKENS, SEQUENCE, tp=tp, norm_tokens=norm_tokens)
        for norm_tokens in (None, TOKENS // tp)
    )
    assert whole[2:] == split[2:]
    for of_all, of_part, operation in zip(whole, split, ("residual_add", "norm"), strict=False):
        assert of_all.operation == of_part.operation == operation
        assert of_all.num_bytes == tp * of_part.num_bytes


@pytest.mark.parametrize("kind", ROUTINGS)
def test_skew_moves_expert_flops_between_ranks_and_keeps_their_sum(kind):
    model = MODELS["mixtral-8x7b"]
    expected = TOKENS * model.top_k * 2 * model.num_expert_params
    assert total_flops(expert_block(model.moe_ffn, routed(model, kind))) == pytest.approx(expected, rel=ROUNDING)


# --- shapes --------------------------------------------------------------------------------------------------------


@EVERY_SHAPE
@EVERY_TP
def test_the_shape_of_attention_gives_its_flops_forward_and_backward(model, tp):
    """Of each query head and token: a(s) scores of the width of a key head, and as many products of a value head."""
    for mixer in attentions_of(model):
        if mixer.why_not_split(tp) is not None:
            continue
        kernels = mixer.kernels(TOKENS, SEQUENCE, tp=tp).core
        for kernel in [kernel for kernel in kernels if isinstance(kernel, Attention)]:
            whole = dataclasses.replace(kernel, window=None) == kernel
            attended = kernel.flops / (2 * TOKENS * kernel.heads * (kernel.head_dim + kernel.value_dim))
            assert kernel.batch * kernel.query_length == TOKENS
            assert kernel.heads % kernel.kv_heads == 0
            assert attended == pytest.approx(SEQUENCE / 2) if whole else 0 < attended <= SEQUENCE / 2
            (backward,) = kernel.backward()
            assert backward == dataclasses.replace(
                kernel, flops=2.5 * kernel.flops, num_bytes=2 * kernel.num_bytes, is_backward=True
            )


@EVERY_SHAPE
def test_kernels_have_names_of_the_vocabulary_and_as_many_rows_as_tokens(model):
    kernels = [*embedding_block(model, TOKENS), *dense_ffn_block(model.plain_ffn, TOKENS), *head_block(model, TOKENS)]
    for mixer in attentions_of(model):
        kernels += attention_block(mixer, TOKENS, SEQUENCE)
    for kernel in [*kernels, *backward_of(kernels)]:
        if isinstance(kernel, Memory):
            assert kernel.operation in MEMORY_OPERATIONS
            assert kernel.rows == TOKENS
            assert kernel.num_bytes >= kernel.rows * kernel.width * model.dtype_bytes
        elif isinstance(kernel, Attention):
            assert kernel.operation in ATTENTION_OPERATIONS


# --- backward ------------------------------------------------------------------------------------------------------


@EVERY_SHAPE
def test_backward_executes_every_product_twice_and_attention_two_and_a_half_times(model):
    """By input and by weight; Dao 2023, section 3.1: five products for two in fused attention."""
    forward = [*attention_block(model.attention, TOKENS, SEQUENCE), *dense_ffn_block(model.plain_ffn, TOKENS)]
    if model.experts:
        forward += [*router_block(model.moe_ffn, TOKENS), *expert_block(model.moe_ffn, routed(model))]
    backward = backward_of(forward)
    for kinds, factor in (((Gemm, GroupedGemm), 2), ((Attention, Scan), 2.5)):
        there, back = (total_flops([k for k in kernels if isinstance(k, kinds)]) for kernels in (forward, backward))
        assert back == pytest.approx(factor * there, rel=ROUNDING)


def test_the_gradients_of_a_product_swap_its_dims():
    by_input, by_weight = Gemm(kind="expert", m=2, n=3, k=5).backward()
    assert (by_input.m, by_input.n, by_input.k) == (2, 5, 3)  # [m, n] x [n, k]
    assert (by_weight.m, by_weight.n, by_weight.k) == (5, 3, 2)  # [k, m] x [m, n]


def test_the_gradients_of_grouped_products_keep_the_tokens():
    forward = GroupedGemm(kind="expert", tokens=np.array([[3, 4], [0, 5]]), n=7, k=11)
    by_input, by_weight = forward.backward()
    for gradient in (by_input, by_weight):
        np.testing.assert_array_equal(gradient.flops, forward.flops)
    assert (by_input.n, by_input.k, by_input.weight_gradient, by_input.input_gradient) == (11, 7, False, True)
    assert (by_weight.n, by_weight.k, by_weight.weight_gradient) == (7, 11, True)


def test_backward_runs_last_first():
    kernels = [Gemm(kind=kind, m=1, n=1, k=1) for kind in ("attention", "dense_ffn", "expert")]
    assert [kernel.kind for kernel in backward_of(kernels)][::2] == ["expert", "dense_ffn", "attention"]


# --- bytes by hand -------------------------------------------------------------------------------------------------


def test_bytes_of_elementwise_kernels_by_hand():
    """bf16, 10 tokens: a row of h read and written; the activation reads its gates and writes its width."""
    model = MODELS["mixtral-8x7b"]
    h, w = model.hidden, model.ffn
    rows = {"kind": "other_compute", "rows": 10, "width": h, "num_bytes": 2 * 10 * h * 2}
    assert embedding_block(model, 10)[0] == Memory(operation="embedding", **rows)
    assert permute(model, 10) == Memory(operation="permute", **rows)
    assert permute(model, 10, is_inverse=True) == Memory(operation="unpermute", **rows)
    sort, _, activation, _, sort_back = expert_block(model.moe_ffn, np.array([[4, 6], [1, 0]]))
    assert [kernel.operation for kernel in (sort, activation, sort_back)] == ["sort_chunks", "swiglu", "sort_chunks"]
    np.testing.assert_array_equal(sort.num_bytes, [10 * h * 2 * 2, 1 * h * 2 * 2])
    np.testing.assert_array_equal(activation.num_bytes, [10 * 3 * w * 2, 1 * 3 * w * 2])
    assert len(expert_block(model.moe_ffn, np.array([[4], [1]]))) == 3  # an expert of its own needs no order


def test_the_bytes_of_a_step_of_the_optimizer_by_hand():
    """Norm of 4 bytes; gradient, weight and two moments read, three written; weight read and written; zero."""
    steps = optimizer_step(100, Precision(), num_gradients=200)
    assert {step.operation: step.num_bytes for step in steps} == {
        "gradient_norm": 400,
        "optimizer": 2800,
        "copy": 600,
        "zero_fill": 800,
    }
    unscaled = optimizer_step(100, Precision(gradient="bf16", moment="bf16"), dtype="fp16")
    assert {step.operation: step.num_bytes for step in unscaled} == {
        "gradient_norm": 200,
        "unscale": 400,
        "optimizer": 100 * (2 + 2 * 8),
        "copy": 600,
        "zero_fill": 200,
    }


def test_the_loss_moves_fifty_two_bytes_of_a_logit_and_less_where_logits_have_four():
    model = MODELS["llama3-8b"]
    for head, forward, backward in ((model, 38, 14), (dataclasses.replace(model, fp32_lm_head=True), 32, 8)):
        loss = head_block(head, 10, tp=2, has_loss=True)[-1]
        assert loss.operation == "cross_entropy"
        assert loss.num_bytes == forward * 10 * model.vocab / 2
        assert loss.backward()[0].num_bytes == backward * 10 * model.vocab / 2


def test_the_gradient_of_an_embedding_is_as_large_as_the_embedding():
    """Zeros of 2 bytes; rows read and added; a gradient of 2 bytes read, a sum of 4 read and written."""
    model = MODELS["llama3-8b"]
    zero, rows, add = embedding_backward(model, 10, tp=2)
    assert [kernel.operation for kernel in (zero, rows, add)] == ["zero_fill", "embedding", "gradient_add"]
    elements = model.vocab * model.hidden / 2
    assert (zero.num_bytes, rows.num_bytes, add.num_bytes) == (2 * elements, 3 * 10 * model.hidden * 2, 10 * elements)


def test_unfused_attention_moves_thirteen_bytes_of_a_score_forward_and_nineteen_backward():
    """The products write and read scores once each; softmax and dropout read and write; dropout has a mask of a byte.

    The heads' own tensors, [s, d] each, are left out of the count.
    """
    mixer = dataclasses.replace(MODELS["gpt-22b"].attention, is_fused=False, has_dropout=True)
    core = mixer.kernels(4 * SEQUENCE, SEQUENCE, tp=8).core
    scores = 4 * SEQUENCE * SEQUENCE * mixer.heads / 8

    def score_bytes(kernels: Sequence[Kernel]) -> float:
        total = 0.0
        for kernel in kernels:
            if isinstance(kernel, Memory):
                if kernel.operation == "head_layout":
                    continue
                total += float(kernel.num_bytes)
            else:  # the one dim of three that is no width of a head is twice the sequence: m x n, m x k or k x n
                sides = [(kernel.m, kernel.n), (kernel.m, kernel.k), (kernel.k, kernel.n)]
                total += 2 * kernel.batch * sum(a * b for a, b in sides if a == b == SEQUENCE)
        return total

    assert score_bytes(core) == 13 * scores
    assert score_bytes(backward_of(core)) == 19 * scores
    assert not any(kernel.weight_gradient for kernel in backward_of(core) if isinstance(kernel, Gemm))
    assert total_flops(core) == 4 * SEQUENCE**2 * 4 * mixer.heads / 8 * mixer.head_dim  # no mask saves a product


def test_attention_reads_q_k_v_and_writes_its_output():
    model = MODELS["llama3-70b"]
    (attention,) = model.attention.kernels(10, 10, tp=8).core
    assert attention.num_bytes == 10 * (2 * 8 + 2 * 1) * 128 * 2


def test_no_token_at_the_head_and_no_shared_expert_run_nothing():
    assert head_block(MODELS["llama3-70b"], 0) == []
    assert shared_expert_block(MODELS["mixtral-8x7b"].moe_ffn, 10) == []
