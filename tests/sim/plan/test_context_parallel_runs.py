"""Runs with context parallelism: FLOPs, tokens and bytes of a trace, a ring next to its attention, memory."""

import numpy as np
import pytest
from test_kinds_of_layers_run import EVERY_MODEL, LATENT, expected_flops
from works import change, make_model, make_work

from sim.engine.simulation import run_plan
from sim.errors import InvalidValueError
from sim.plan.context import ContextLowering
from sim.plan.costs import Costs
from sim.plan.ops import AwaitStream, Collective, Compute, LanePosition
from sim.plan.pipeline import PipelinePlan
from sim.results.accounts import empty_account
from sim.results.stages import stages_ns
from sim.run.explain import explain_run
from sim.run.stage_memory import stage_memory
from workloads.context_parallel import CP_KINDS, ContextParallel
from workloads.memory import kv_cache_bytes

DENSE = make_model(layers=2, experts=0)
HIERARCHICAL = ContextParallel(size=4, kind="hierarchical", inner=2)
CONTEXTS = [ContextParallel(size=4, kind=kind) for kind, rules in CP_KINDS.items() if not rules.has_two_levels]
EVERY_CONTEXT = pytest.mark.parametrize("context", [*CONTEXTS, HIERARCHICAL], ids=lambda context: context.kind)


def work_of(context, strategy="TP1_CP4_DP2", *, num_gpus=8, model=DENSE, **changes):
    return make_work(strategy, "megatron", num_gpus=num_gpus, model=model, context=context, **changes)


def run(work):
    return run_plan(PipelinePlan(work, folds=False), link_timeline=False)


def bytes_of(trace, kind="cp"):
    return float(trace["bytes"][trace["kind"] == kind].sum())


# ---- what is conserved -----------------------------------------------------------------------------------------------


@EVERY_CONTEXT
@pytest.mark.parametrize(
    ("kind", "schedule"), [("forward", "1f1b"), ("training", "1f1b"), ("training", "zb_h1"), ("training", "dualpipe")]
)
def test_a_run_executes_the_flops_of_the_model_and_computes_every_token(context, kind, schedule):
    """TP2 CP4 PP2 DP1 with EP4 over the ranks of a stage: CP ranks route their own tokens."""
    work = work_of(
        context,
        "EP4_TP2_PP2_CP4",
        num_gpus=16,
        model=make_model(),
        kind=kind,
        schedule=schedule,
        routing="multinomial",
    )
    ran, expected = run(work), expected_flops(work)
    if kind == "forward":  # every CP rank is taken to compute the head of the last tokens, which one of them has
        expected += 3 * 2.0 * work.model.num_embedding_params * work.head_tokens * work.num_microbatches
    assert float(ran.trace["flops"].sum()) == pytest.approx(expected, rel=1e-9)
    assert ran.tokens_routed == ran.tokens_computed == work.batch_tokens * 2 * 4


@EVERY_MODEL
def test_every_kind_of_layer_runs_by_heads(model):
    """All-to-all takes windows, chunks, sinks and recurrent states."""
    work = work_of(
        ContextParallel(size=2, kind="all_to_all"), "EP2_TP1_PP4_CP2", model=model, kind="training", sequences=8
    )
    assert float(run(work).trace["flops"].sum()) == pytest.approx(expected_flops(work), rel=1e-9)


@EVERY_CONTEXT
def test_recomputing_attention_runs_its_exchanges_again(context):
    work = work_of(context, kind="training")
    again = change(work, recompute="selective", recompute_modules=("core_attn",))
    forward = bytes_of(run(work_of(context)).trace)
    assert bytes_of(run(again).trace) == pytest.approx(bytes_of(run(work).trace) + forward)


# ---- bytes -----------------------------------------------------------------------------------------------------------

OWN = 2 * 512 // 4 * 256 * 2
"""Bytes of one tensor of a layer on a rank: 2 sequences of 512 tokens over CP4, 256 wide, of 2 bytes."""


@pytest.mark.parametrize(
    ("context", "forward", "training"),
    [
        (CONTEXTS[0], 3 * 2, 3 * 2 + 2 * 3 * 2),  # K and V to three others; back with their gradients
        (CONTEXTS[1], 3 * 2, 3 * 3 * 2),  # K and V gathered from three others, twice, and their gradients scattered
        (CONTEXTS[2], 4 * 3 / 4, 8 * 3 / 4),  # three quarters of Q, K, V and O leave a rank, and of their gradients
        (HIERARCHICAL, 4 / 2 + 2, 2 * (4 / 2) + 3 * 2),  # half of them, and K and V to one other
    ],
    ids=lambda value: getattr(value, "kind", None),
)
def test_bytes_on_the_wires_are_those_of_the_formula(context, forward, training):
    """16 passes of a microbatch through a layer of 4 ranks: 2 layers, 4 microbatches, 2 replicas."""
    work = work_of(context, sequences=16)
    assert bytes_of(run(work).trace) == pytest.approx(16 * 4 * forward * OWN)
    assert bytes_of(run(change(work, kind="training")).trace) == pytest.approx(16 * 4 * training * OWN)


@pytest.mark.parametrize("context", [CONTEXTS[0], HIERARCHICAL], ids=["ring", "hierarchical"])
def test_groups_are_cut_as_megatron_cuts_them(context):
    """TP2 CP4 of 8 ranks: a group is 0, 2, 4, 6; its pairs 0 and 2, 4 and 6 exchange heads, and 0 and 4 are a ring."""
    work = work_of(context, "TP2_CP4")
    ops = lowered(work)
    transfers = {
        tuple(dict.fromkeys(transfer.ranks.tolist()))
        for op in ops
        if isinstance(op, Collective)
        for transfer in op.transfers
    }
    expected = {(0, 2, 4, 6), (1, 3, 5, 7)}
    if context is HIERARCHICAL:
        expected = {(0, 2), (4, 6), (1, 3), (5, 7), (0, 4), (2, 6), (1, 5), (3, 7)}
    assert transfers == expected


# ---- time ------------------------------------------------------------------------------------------------------------


def lowered(work):
    """Return the ops of a layer's attention."""
    lowering = ContextLowering(work, Costs(work.cluster, dtype=work.model.dtype))
    mixer = work.model.attention
    kernels = mixer.kernels(work.rank_tokens, work.sequence_length, tp=work.mesh.strategy.tp)
    return lowering.forward(LanePosition(0, 0), 0, mixer, kernels, first=[])


@pytest.mark.parametrize(("length", "is_hidden"), [(512, False), (65536, True)])
def test_a_step_of_a_ring_takes_as_long_as_the_longer_of_kernel_and_transfer(length, is_hidden):
    """Attention grows with the square of a sequence, and the transfer with the sequence: a long one hides all of it."""
    model = make_model(layers=1, experts=0)
    work = work_of(CONTEXTS[0], "TP1_CP4_DP2", model=model, sequences=2, sequence_length=length, microbatches=1)
    ops = lowered(work)
    kinds = [type(op) for op in ops]
    assert kinds == [Compute, *[Collective, Compute, AwaitStream] * 3, Compute]  # the last step, and the sums after it
    kernels = [int(op.total_ns.max()) for op in ops if isinstance(op, Compute)]
    transfers = [t.latency_ns + t.alone_ns for op in ops if isinstance(op, Collective) for t in op.transfers]
    steps = [max(kernel, transfer) for kernel, transfer in zip(kernels[1:4], transfers, strict=True)]
    trace = run(work).trace
    attention = trace["kind"] == "attention"
    first, last = trace.ints("start_ns")[attention].min(), trace.ints("end_ns")[attention].max()
    assert last - first == kernels[0] + sum(steps) + kernels[4]
    exposed, account = sum(steps) - sum(kernels[1:4]), stages_ns(trace)[0]
    assert account["cp"] + account["latency"] == exposed
    assert (exposed == 0) == is_hidden


@EVERY_CONTEXT
def test_the_account_has_the_exposed_time_and_sums_to_the_step(context):
    trace = run(work_of(context, kind="training")).trace
    (account,) = stages_ns(trace)
    assert sum(account.values()) == trace.step_ns
    assert account["cp"] > 0


def test_a_claim_on_the_exposed_time_says_where_the_group_is_and_what_it_sends():
    work = work_of(CONTEXTS[0])
    assert explain_run(work, [empty_account() | {"cp": 1}], {"peak_bytes_per_gpu": {}})["exposed_cp_s"] == (
        "CP4 stays in a node: keys and values go round a ring, next to the attention of the part that has come"
    )


# ---- memory ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [DENSE, LATENT], ids=["dense", "latent"])
def test_activations_are_divided_by_context_parallelism(model):
    """A rank keeps what it would keep of sequences of a quarter of the length; a ring's buffers come on top."""
    split = stage_memory(work_of(CONTEXTS[0], "EP1_CP4", num_gpus=4, model=model, kind="training", zero=1), 0)
    whole = stage_memory(
        make_work(
            "EP1_DP4", "megatron", num_gpus=4, model=model, kind="training", zero=1, sequences=128, sequence_length=128
        ),
        0,
    )
    assert split.chunks == whole.chunks
    assert (split.weights, split.gradients, split.optimizer) == (whole.weights, whole.gradients, whole.optimizer)
    assert split.buffers >= whole.buffers


def test_a_ring_holds_all_keys_and_partial_outputs_while_attention_runs():
    """Forward: 3 more K and V and 4 outputs, 10 x 256; backward 4 K and V and Q in addition to gradients of 4 x 256."""
    model = make_model(layers=1, experts=0)
    tokens, width = 8 * 512 // 4, 256
    buffers = CONTEXTS[0].buffers_of(model.layer(0), 1)
    assert (buffers.forward, buffers.backward) == (10 * width, 9 * width)
    work = work_of(CONTEXTS[0], "TP1_CP4", num_gpus=4, model=model, kind="training")
    assert stage_memory(work, 0).buffers == 2 * (2 * tokens * width) + 2 * (13 * tokens * width)


def test_the_cache_of_a_prefill_is_divided():
    assert kv_cache_bytes(DENSE, [0, 1], 2, 512, 1, cp=4) == kv_cache_bytes(DENSE, [0, 1], 2, 512, 1) / 4


# ---- refusals --------------------------------------------------------------------------------------------------------


def test_sequences_have_two_chunks_for_each_rank():
    with pytest.raises(InvalidValueError, match=r"workload.sequence_length must be a multiple of 2 CP = 8") as error:
        work_of(CONTEXTS[0], sequence_length=516)
    assert [remedy.words for remedy in error.value.remedies] == [
        "workload.sequence_length: 512",
        "workload.sequence_length: 520",
    ]


def test_heads_are_refused_when_the_work_is_made():
    with pytest.raises(InvalidValueError, match=r"parallel.cp must divide the 2 heads of each TP rank"):
        work_of(CONTEXTS[2], "TP8_CP4", num_gpus=32)


def test_tokens_of_a_rank_are_split_over_tp():
    """24 tokens over CP4 are 6, which TP4 cannot share."""
    with pytest.raises(InvalidValueError, match=r"divide by TP = 4"):
        work_of(CONTEXTS[0], "TP4_CP4", num_gpus=16, sequences=4, sequence_length=24, microbatches=4)


def test_a_work_takes_the_size_of_the_mesh():
    assert work_of(ContextParallel(), "TP1_CP2_DP4").context.size == 2
    assert np.array_equal(work_of(ContextParallel(), "TP1_DP8").mesh.cp_groups(0), np.arange(8)[:, None])
