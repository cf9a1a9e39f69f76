"""Context parallelism by hand: who has which scores, what goes over the wires, what each kind can split."""

from collections import Counter
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from sim.errors import InvalidValueError
from workloads.blocks.attention import GroupedQueryAttention
from workloads.context_parallel import CP_KINDS, ContextParallel, CoreOfRank
from workloads.kernels import Attention
from workloads.presets import MODELS

TOKENS, LENGTH = 64, 64
GQA = GroupedQueryAttention(
    hidden=256, heads=16, kv_heads=4, head_dim=16, dtype_bytes=2, is_fused=True, has_dropout=False
)
QUERIES, KEYS = 16 * 16, 4 * 16
"""Elements of a token in queries (and output), and in keys (and values)."""
EVERY_KIND = pytest.mark.parametrize("kind", CP_KINDS)


def context_of(kind, size, inner=2):
    return ContextParallel(size=size, kind=kind, inner=inner if CP_KINDS[kind].has_two_levels else 1)


def core_of(mixer, size, *, tp=1):
    """Return the core of one sequence of 64 tokens on one of `size` ranks."""
    tokens = TOKENS // size
    kernels = mixer.kernels(tokens, LENGTH, tp=tp).core
    return CoreOfRank(
        kernels=tuple(kernels), tensors=mixer.core_tensors(tp, size), tokens=tokens, dtype_bytes=mixer.dtype_bytes
    )


def attention_kernels(steps):
    return [kernel for step in steps for kernel in step.kernels if isinstance(kernel, Attention)]


def sent(steps):
    """Return the bytes that a rank has in exchanges, by operation."""
    found = Counter()
    for step in steps:
        if step.exchange is not None:
            found[step.exchange.operation] += step.exchange.num_bytes
    return found


# ---- zigzag ----------------------------------------------------------------------------------------------------------


def scores_by_step(size):
    """Return the scores that each rank computes of the keys of each other, token by token; half of the diagonal."""
    chunk = LENGTH // (2 * size)
    owner = np.array([min(token // chunk, 2 * size - 1 - token // chunk) for token in range(LENGTH)])
    scores = np.zeros((size, size))
    for query, key in product(range(LENGTH), repeat=2):
        scores[owner[query], owner[key]] += 1.0 if key < query else 0.5 if key == query else 0.0
    return scores


@pytest.mark.parametrize("size", [2, 4, 8])
def test_zigzag_gives_every_rank_and_every_step_of_a_ring_equally_many_scores(size):
    scores = scores_by_step(size)
    assert (scores == LENGTH**2 / 2 / size**2).all()
    kernels = attention_kernels(context_of("ring", size).forward(core_of(GQA, size)))
    assert [kernel.flops for kernel in kernels] == pytest.approx([4 * 16 * 16 * scores[0, 0]] * size, rel=1e-12)


@EVERY_KIND
@pytest.mark.parametrize("size", [2, 4])
def test_a_rank_computes_its_share_of_the_scores_forward_and_backward(kind, size):
    """As many FLOPs as without context parallelism on 1 / CP of the tokens, and five products for two backward."""
    core, context = core_of(GQA, size), context_of(kind, size)
    whole = GQA.kernels(TOKENS, LENGTH).core[0].flops
    assert sum(kernel.flops for kernel in attention_kernels(context.forward(core))) == pytest.approx(whole / size)
    assert sum(kernel.flops for kernel in attention_kernels(context.backward(core))) == pytest.approx(
        2.5 * whole / size
    )


@EVERY_KIND
def test_the_shape_of_a_kernel_gives_its_flops(kind):
    """4 x sequences x heads x head dim x queries x keys, half of them under a causal mask."""
    for kernel in attention_kernels(context_of(kind, 4).forward(core_of(GQA, 4))):
        scores = kernel.query_length * kernel.kv_length * (0.5 if kernel.is_causal else 1.0)
        assert kernel.flops == pytest.approx(4 * kernel.batch * kernel.heads * kernel.head_dim * scores)


# ---- traffic ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [2, 4, 8])
def test_a_ring_sends_keys_and_values_once_less_than_it_has_ranks_and_their_gradients_as_often(size):
    """K and V of 64 / CP tokens, 2 x 64 elements of 2 bytes each."""
    own = TOKENS // size * 2 * KEYS * 2
    context, core = context_of("ring", size), core_of(GQA, size)
    forward = [step.exchange for step in context.forward(core) if step.exchange is not None]
    assert [exchange.num_bytes for exchange in forward] == [own] * (size - 1)
    backward = [step.exchange for step in context.backward(core) if step.exchange is not None]
    assert [exchange.num_bytes for exchange in backward] == [own, *[2 * own] * (size - 2), own]
    assert {exchange.is_backward for exchange in backward} == {True}


def test_every_transfer_of_a_ring_runs_next_to_attention_and_no_other_transfer_does():
    for kind in CP_KINDS:
        context, core = context_of(kind, 4), core_of(GQA, 4)
        for step in (*context.forward(core), *context.backward(core)):
            if step.exchange is not None:
                assert bool(step.kernels) == (step.exchange.operation == "ring")


def test_latent_attention_sends_the_projected_keys_and_values_of_every_head():
    """DeepSeek-V3 on TP4: 32 heads with keys of 128 + 64 and values of 128 of each token, in 2 bytes."""
    core = core_of(MODELS["deepseek-v3"].attention, 2, tp=4)
    assert sent(context_of("ring", 2).forward(core)) == {"ring": 32 * 32 * (192 + 128) * 2}


def test_a_copied_kv_head_is_sent_by_every_tp_rank():
    """4 KV heads on TP8: each rank has one whole, as Megatron copies them."""
    assert sent(context_of("ring", 2).forward(core_of(GQA, 2, tp=8))) == {"ring": 32 * 2 * 16 * 2}


@pytest.mark.parametrize("size", [2, 4])
def test_all_gather_moves_keys_and_values_three_times(size):
    """Gathered forward, gathered again backward, and their gradients summed and scattered."""
    own = TOKENS // size * 2 * KEYS * 2
    context, core = context_of("all_gather", size), core_of(GQA, size)
    assert sent(context.forward(core)) == {"all_gather": own}
    assert sent(context.backward(core)) == {"all_gather": own, "reduce_scatter": own}


@pytest.mark.parametrize("size", [2, 4])
def test_all_to_all_moves_four_tensors_each_way(size):
    own = TOKENS // size * 2 * (2 * QUERIES + 2 * KEYS)
    context, core = context_of("all_to_all", size), core_of(GQA, size)
    for steps in (context.forward(core), context.backward(core)):
        assert sent(steps) == {"all_to_all": own}
        exchanges = [step.exchange for step in steps if step.exchange is not None]
        assert [exchange.size for exchange in exchanges] == [size] * 4


def test_hierarchical_is_all_to_all_inside_and_a_ring_outside():
    """CP8 as 2 x 4: four all-to-alls over pairs, and the keys of 8 tokens three times round a ring of 4."""
    context, core = context_of("hierarchical", 8, inner=2), core_of(GQA, 8)
    exchanges = [step.exchange for step in context.forward(core) if step.exchange is not None]
    found = [(exchange.operation, exchange.size, exchange.stride) for exchange in exchanges]
    assert found == [*[("all_to_all", 2, 1)] * 3, *[("ring", 4, 2)] * 3, ("all_to_all", 2, 1)]
    assert sent(context.forward(core))["ring"] == 3 * 8 * 2 * KEYS * 2


@pytest.mark.parametrize(("inner", "alike"), [(1, "ring"), (4, "all_to_all")])
def test_hierarchical_with_a_level_of_one_rank_is_the_other_kind(inner, alike):
    context, core = context_of("hierarchical", 4, inner=inner), core_of(GQA, 4)
    assert context.forward(core) == context_of(alike, 4).forward(core)
    assert context.backward(core) == context_of(alike, 4).backward(core)


@EVERY_KIND
def test_a_recurrent_state_exchanges_heads_whatever_the_kind(kind):
    """Nemotron-H 8B: z and x of 8192, B and C of 8 groups of 128, dt of 128 heads in; y out."""
    mixer = next(
        layer.attention
        for layer, _ in MODELS["nemotron-h-8b"].layer_kinds(range(MODELS["nemotron-h-8b"].layers))
        if layer.attention is not None and not layer.attention.core_tensors(1).is_attention
    )
    elements = 2 * 8192 + 2 * 8 * 128 + 128 + 8192
    core = core_of(mixer, 4)
    assert sent(context_of(kind, 4).forward(core)) == {"all_to_all": 16 * elements * 2}
    assert sum(kernel.flops for step in context_of(kind, 4).forward(core) for kernel in step.kernels) == pytest.approx(
        sum(kernel.flops for kernel in core.kernels)
    )


def test_groups_of_a_state_are_copied_where_they_are_fewer_than_ranks():
    mixer = MODELS["nemotron-h-8b"].layer(0).attention
    assert mixer.core_tensors(1, 8).inputs[2] == 8 * 128
    assert mixer.core_tensors(1, 16).inputs[2] == 16 * 128


# ---- what each kind can split ----------------------------------------------------------------------------------------


def refused(mixer, kind, size=4, *, tp=1, inner=2):
    with pytest.raises(InvalidValueError) as error:
        context_of(kind, size, inner).check(mixer, tp)
    return f"{error.value.field} must {error.value.rule}", error.value.hint


@pytest.mark.parametrize("kind", ["ring", "hierarchical"])
def test_windows_need_all_tokens_of_a_head_or_gathered_keys(kind):
    window = replace(GQA, window=8)
    says = ("parallel.cp_kind must be all_gather or all_to_all where attention has a window",)
    assert refused(window, kind)[0] in says
    assert refused(window, kind)[1] == "Use cp_kind: all_gather or all_to_all."
    context_of("all_gather", 4).check(window, 1)
    context_of("all_to_all", 4).check(window, 1)


@pytest.mark.parametrize("kind", ["ring", "hierarchical", "all_gather"])
@pytest.mark.parametrize("changes", [{"has_sinks": True}, {"chunk": 8}])
def test_sinks_and_chunks_need_all_tokens_of_a_head(kind, changes):
    assert refused(replace(GQA, **changes), kind)[0].startswith("parallel.cp_kind must be all_to_all where attention")
    context_of("all_to_all", 4).check(replace(GQA, **changes), 1)


def test_exchanged_heads_must_be_shared_evenly():
    """4 KV heads: not over 8 ranks, nor over 4 of TP2; a ring needs nothing of them."""
    says, hint = refused(GQA, "all_to_all", 8)
    assert says == "parallel.cp must divide the 4 KV heads of each TP rank, which cp_kind all_to_all exchanges"
    assert hint == "Use cp_kind: ring or all_gather."
    assert "2 KV heads" in refused(GQA, "all_to_all", 4, tp=2)[0]
    assert refused(GQA, "hierarchical", 8, tp=2, inner=4)[0].startswith("parallel.cp_sizes must begin with a divisor")
    context_of("ring", 8).check(GQA, 1)


def test_unfused_attention_is_refused():
    """Megatron-LM's own attention has no context parallelism."""
    says, hint = refused(replace(GQA, is_fused=False), "ring")
    assert (says, hint) == (
        "runtime.attention must be fused with CP above 1 (Transformer Engine's)",
        "Use runtime.attention: fused.",
    )


def test_one_rank_refuses_nothing():
    context_of("ring", 1, inner=1).check(replace(GQA, window=8, has_sinks=True), 1)
