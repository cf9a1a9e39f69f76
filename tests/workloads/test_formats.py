"""Recipes of fp8: bytes of casts by hand, what is cast and what is not, and that bf16 has no casts at all."""

from dataclasses import replace

import numpy as np
import pytest

from workloads.collectives.settings import ALL_TO_ALLS, ARRIVALS
from workloads.formats import BF16, DISPATCH_DTYPES, FP8_RECIPES, Formats
from workloads.kernels import Attention, Gemm, GroupedGemm, Memory, backward_of
from workloads.layers import attention_block, dense_ffn_block, expert_block, head_block, router_block
from workloads.memory import ZERO_LEVELS, activation_bytes_per_microbatch, state_bytes
from workloads.memory.params import StageParameters
from workloads.mesh import build_mesh
from workloads.presets import MODELS
from workloads.strategy import Strategy

RECIPES = [name for name, recipe in FP8_RECIPES.items() if recipe is not None]
EVERY_RECIPE = pytest.mark.parametrize("name", RECIPES)
LLAMA, MIXTRAL = MODELS["llama3-8b"], MODELS["mixtral-8x7b"]


def formats(name: str, **changes: object) -> Formats:
    return replace(Formats(recipe=FP8_RECIPES[name], trains=True), **changes)


def in_fp8(model, name, **changes):
    return replace(model, formats=formats(name, **changes))


def moved(kernels) -> dict[str, float]:
    """Sum the bytes of memory-bound kernels by operation."""
    total: dict[str, float] = {}
    for kernel in kernels:
        if isinstance(kernel, Memory):
            total[kernel.operation] = total.get(kernel.operation, 0.0) + float(np.sum(kernel.num_bytes))
    return total


@pytest.mark.parametrize(
    ("name", "changes", "cast_bytes", "amax_bytes"),
    [
        ("tensorwise", {}, 4, 2),
        ("tensorwise", {"has_any_layout": True}, 3, 2),
        ("tensorwise", {"trains": False}, 3, 2),
        ("blockwise", {}, 4 + 8 / 128, 0),
        ("blockwise", {"trains": False}, 3 + 4 / 128, 0),
        ("mxfp8", {"has_any_layout": True}, 4 + 2 / 32, 0),
    ],
)
def test_a_cast_reads_two_bytes_and_writes_each_copy_with_its_scales(name, changes, cast_bytes, amax_bytes):
    """[m, k] before the product, and [m, n], the gradient of its result, after it."""
    *before, product = formats(name, **changes).linear(kind="attention", m=16, n=256, k=128)
    expected = {"quantise": cast_bytes * 16 * 128} | ({"amax": amax_bytes * 16 * 128} if amax_bytes else {})
    assert moved(before) == pytest.approx(expected)
    assert isinstance(product, Gemm)
    *casts, by_input, by_weight = product.backward()
    assert moved(casts) == pytest.approx({operation: 2 * size for operation, size in expected.items()})
    assert by_input.dtype == by_weight.dtype == product.dtype == FP8_RECIPES[name].product
    assert by_weight.weight_gradient


@EVERY_RECIPE
def test_linear_layers_alone_run_in_fp8(name):
    model = in_fp8(MIXTRAL, name)
    tokens = np.array([[40, 60]])
    linear = [*attention_block(model.attention, 64, 64), *expert_block(model.moe_ffn, tokens)]
    products = [k for k in [*linear, *backward_of(linear)] if isinstance(k, (Gemm, GroupedGemm))]
    assert {product.dtype for product in products} == {FP8_RECIPES[name].product}
    others = [*router_block(model.moe_ffn, 64), *head_block(model, 64, has_loss=True)]
    kernels = [*linear, *others, *backward_of(others)]
    assert {k.dtype for k in kernels if isinstance(k, Attention)} == {None}
    assert {k.dtype for k in others if isinstance(k, Gemm)} == {None}
    assert not moved(others).keys() & {"quantise", "amax"}


@EVERY_RECIPE
def test_a_recipe_adds_casts_and_leaves_all_other_kernels_as_they_are(name):
    def without_casts(model):
        kernels = [*attention_block(model.attention, 64, 64), *dense_ffn_block(model.plain_ffn, 64)]
        rest = [k for k in [*kernels, *backward_of(kernels)] if getattr(k, "operation", "") not in {"quantise", "amax"}]
        return [replace(k, dtype=None, cast=None) if isinstance(k, Gemm) else k for k in rest]

    assert without_casts(in_fp8(LLAMA, name)) == without_casts(LLAMA)


def test_mxfp8_casts_in_the_norm():
    """Of four inputs of linear layers two come from norms."""
    kernels = {
        name: attention_block(in_fp8(LLAMA, name).attention, 64, 64)
        + dense_ffn_block(in_fp8(LLAMA, name).plain_ffn, 64)
        for name in ("blockwise", "mxfp8")
    }
    casts = {name: sum(getattr(k, "operation", "") == "quantise" for k in of) for name, of in kernels.items()}
    assert casts == {"blockwise": 4, "mxfp8": 2}


def test_tokens_that_arrive_in_fp8_are_cast_again_by_columns_in_training_alone():
    tokens = np.array([[40, 60]])
    for trains, from_fp8 in ((True, 2 + 2 * 4 / 128), (False, 0.0)):
        sent, kept = (
            moved(in_fp8(MIXTRAL, "blockwise", trains=trains, dispatch_dtype=dtype).moe_ffn.expert_kernels(tokens))
            for dtype in ("fp8", "bf16")
        )
        of_input = in_fp8(MIXTRAL, "blockwise", trains=trains).formats.cast_bytes - from_fp8
        assert kept["quantise"] - sent["quantise"] == pytest.approx(100 * MIXTRAL.hidden * of_input)


@pytest.mark.parametrize("dtype", DISPATCH_DTYPES)
def test_tokens_that_arrive_as_sent_are_permuted_in_the_type_in_which_they_are_sent(dtype):
    """DeepEP: two kernels forward, two backward, and the gradients of results arrive like tokens."""
    model = replace(MIXTRAL, formats=replace(BF16, dispatch_dtype=dtype))
    kernels = model.moe_ffn.expert_kernels(np.array([[40, 60]]), arrival="tokens")
    sent, plain = (2 * 100 * model.hidden * size for size in (model.formats.dispatch_bytes(2), 2))
    assert moved(kernels) == pytest.approx({"permute": sent, "unpermute": plain, "swiglu": 100 * 3 * model.ffn * 2})
    back = moved(backward_of(kernels))
    assert (back["permute"], back["unpermute"]) == pytest.approx((plain, sent))


@pytest.mark.parametrize(("arrival", "experts"), [("experts", 2), ("experts", 1), ("chunks", 1)])
def test_tokens_that_arrive_in_order_are_not_permuted(arrival, experts):
    tokens = np.full((1, experts), 50)
    assert set(moved(MIXTRAL.moe_ffn.expert_kernels(tokens, arrival=arrival))) == {"swiglu"}


def test_every_all_to_all_says_how_tokens_arrive():
    assert {algorithm.arrival for algorithm in ALL_TO_ALLS.values()} <= set(ARRIVALS)


def test_tokens_are_sent_in_fp8_with_a_scale_for_128_elements():
    """DeepSeek-V3's 7,392 bytes of a token."""
    assert 7168 * replace(BF16, dispatch_dtype="fp8").dispatch_bytes(2) == 7392
    assert 7168 * BF16.dispatch_bytes(2) == 14336


def test_kept_activations_of_a_dense_layer_by_hand():
    """Of 2 bytes become 1: outputs of two norms and of the activation; 1 more: the output of attention, kept twice."""
    mesh = build_mesh(Strategy.parse("TP1"), "megatron", num_gpus=1)
    kept = [
        activation_bytes_per_microbatch(model, mesh, [0], 100, "none") for model in (LLAMA, in_fp8(LLAMA, "tensorwise"))
    ]
    saved = 2 * LLAMA.hidden + LLAMA.ffn - LLAMA.heads * LLAMA.head_dim
    assert kept[0] - kept[1] == 100 * saved


@pytest.mark.parametrize(("changes", "copies"), [({}, 2), ({"has_any_layout": True}, 1)])
def test_weights_that_are_trained_have_copies_in_fp8_next_to_them(changes, copies):
    mesh, stage = build_mesh(Strategy.parse("TP1"), "megatron", num_gpus=1), StageParameters(layers=range(2))
    weights = [state_bytes(model, mesh, stage, 0).weights for model in (LLAMA, in_fp8(LLAMA, "tensorwise", **changes))]
    assert weights[1] - weights[0] == copies * 2 * LLAMA.layer(0).num_params


@pytest.mark.parametrize(("name", "copies", "gathered"), [("tensorwise", 2, 1), ("mxfp8", 2 * 33 / 32, 2)])
def test_weights_in_fp8_alone_have_no_copy_in_two_bytes_and_are_gathered_so(name, copies, gathered):
    """Embedding, output head and last norm stay in 2 bytes; ZeRO 3 keeps a share by rows, and copies of two layers."""
    mesh = build_mesh(Strategy.parse("DP4"), "megatron", num_gpus=4)
    stage = StageParameters(layers=range(32), has_embedding=True, has_head=True)
    model = in_fp8(LLAMA, name, has_fp8_weights=True)
    ends = 2 * 128256 * 4096 + 4096
    layers = LLAMA.num_params - ends
    assert state_bytes(model, mesh, stage, 0).weights == pytest.approx(copies * layers + 2 * ends)
    assert model.formats.gathered_weight_bytes(2) == gathered
    split = state_bytes(model, mesh, stage, 0, sharding=ZERO_LEVELS[3])
    operand = model.formats.operand_bytes
    assert split.weights == pytest.approx((operand * layers + 2 * ends) / 4)
    assert split.working == pytest.approx((2 * copies + 4) * layers / 32)  # and a gradient of 4 bytes of one layer
    kept = state_bytes(in_fp8(LLAMA, name), mesh, stage, 0, sharding=ZERO_LEVELS[3])
    assert kept.weights == pytest.approx(2 * LLAMA.num_params / 4)
    assert kept.working == pytest.approx((2 * (2 + copies) + 4) * layers / 32)
