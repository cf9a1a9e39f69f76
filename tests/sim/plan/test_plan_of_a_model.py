"""Plans of small models: bytes, FLOPs and times of a run against closed forms of the model and the mesh."""

import math
from dataclasses import replace

import numpy as np
import pytest
from works import change, make_cluster, make_model, make_plain_cluster, make_work, route

from sim.build.work import Work
from sim.engine.simulation import run_plan
from sim.errors import InvalidValueError
from sim.plan.bounds import all_reduce_wire_times_s
from sim.plan.costs import Costs
from sim.plan.lowering import Lowering
from sim.plan.ops import LanePosition
from sim.plan.pipeline import PipelinePlan
from sim.results.path import path_ns
from sim.time import to_ns
from topology.cluster import build_cluster
from workloads.collectives.settings import NetworkSettings
from workloads.kernels import Attention, Gemm
from workloads.layers import attention_block, dense_ffn_block, embedding_block, head_block
from workloads.memory import Precision, params_per_rank

DENSE = make_model(experts=0)


def run(work):
    return run_plan(PipelinePlan(work, folds=False))


def bytes_of(trace, kind):
    """Bytes of all transfers of a kind."""
    return float(trace["bytes"][trace["kind"] == kind].sum())


def kernel_ns(device, kernel):
    """Time of a kernel that does not differ between ranks."""
    if isinstance(kernel, Gemm):
        return to_ns(float(device.gemm_time_s(kernel.m, kernel.n, kernel.k)))
    if isinstance(kernel, Attention):
        return to_ns(float(device.attention_time_s(kernel.flops, kernel.num_bytes)))
    return to_ns(float(device.memory_time_s(float(kernel.num_bytes), operation=kernel.operation)))


# --- times -----------------------------------------------------------------------------------------------------------


def test_a_model_on_single_gpus_takes_the_sum_of_its_kernels():
    work = make_work("EP1_TP1_PP1_DP8", "megatron", num_gpus=8, model=DENSE)
    tokens, device = work.tokens, work.cluster.device
    layer = [*attention_block(DENSE.attention, tokens, work.sequence_length), *dense_ffn_block(DENSE.plain_ffn, tokens)]
    kernels = [*embedding_block(DENSE, tokens), *(layer * DENSE.layers), *head_block(DENSE, work.head_tokens)]
    one_pass_ns = sum(kernel_ns(device, kernel) for kernel in kernels)
    trace = run(work).trace
    assert trace.step_ns == work.microbatches * one_pass_ns
    assert len(trace.rows("comm")) == len(trace.rows("p2p")) == 0


@pytest.mark.parametrize("operation", ["all_reduce", "all_gather", "reduce_scatter"])
@pytest.mark.parametrize("num_ranks", [2, 8, 16])
@pytest.mark.parametrize("num_bytes", [1e3, 1e6, 1e9])
def test_auto_takes_the_fastest_algorithm(operation, num_ranks, num_bytes):
    """Of those that NCCL has, over two nodes; what has no entry of its own is run as a ring.

    In one node it takes one of them: the one of which NCCL expects most.
    """
    times = {}
    for algorithm in ("ring", "tree", "nvls", "auto"):
        costs = Costs(make_cluster(16), dtype="bf16", network=NetworkSettings(all_reduce=algorithm))
        transfer = costs.transfers.collective(operation, np.arange(num_ranks), num_bytes, group=0)
        times[algorithm] = transfer.latency_ns + transfer.alone_ns
    assert times["auto"] in (times["ring"], times["tree"], times["nvls"])
    if num_ranks > 8:
        assert times["auto"] == min(times["ring"], times["tree"], times["nvls"])


@pytest.mark.parametrize(("operation", "rounds"), [("all_reduce", 2), ("all_gather", 1), ("reduce_scatter", 1)])
@pytest.mark.parametrize("num_ranks", [2, 4, 8])
def test_a_ring_pays_the_latency_of_every_step(operation, rounds, num_ranks):
    """That of the path, where nothing is known of the links but their own figures."""
    cluster = make_plain_cluster(16)
    ring = Costs(cluster, dtype="bf16", network=NetworkSettings(all_reduce="ring"))
    transfer = ring.transfers.collective(operation, np.arange(num_ranks), 1e6, group=0)
    assert transfer.latency_ns == to_ns(rounds * (num_ranks - 1) * float(cluster.latency_s(0, 1)))


def test_the_imbalance_of_an_exchange_is_what_even_senders_would_save():
    """Three ranks of a node: rank 0 gets 3 MB from each of the others, which get nothing; its port takes in 6 MB.

    Evenly the senders would give each rank 1 MB (also themselves, which is free): 2 MB into rank 0.
    """
    cluster, ranks = make_plain_cluster(8), np.arange(3)
    to_first = np.array([[0, 0, 0], [3e6, 0, 0], [3e6, 0, 0]])
    there, back = Costs(cluster, dtype="bf16").exchanges.round_trip(ranks, ranks, to_first, group=0)
    for transfer, link in ((there, "nvswitch0->gpu0"), (back, "gpu0->nvswitch0")):
        port = float(cluster.capacity_bytes_per_s[cluster.link_names.index(link)])
        assert transfer.alone_ns == to_ns(6e6 / port)
        assert transfer.imbalance_ns == to_ns(6e6 / port) - to_ns(2e6 / port)


def test_an_exchange_that_is_even_has_no_imbalance():
    """Four ranks send 1 MB to each of the other three, there and back."""
    for transfer in Costs(make_cluster(8), dtype="bf16").exchanges.round_trip(
        np.arange(4), np.arange(4), np.full((4, 4), 1e6), group=0
    ):
        assert (transfer.imbalance_ns, transfer.total_bytes, transfer.flow_bytes) == (0, 12e6, 1e6)


@pytest.mark.parametrize(("strategy", "convention"), [("EP8_TP2_PP2_DP4", "megatron"), ("EP16_TP4_PP4", "spanning")])
def test_the_imbalance_of_random_routing_is_that_of_its_own_tokens(strategy, convention):
    work = make_work(strategy, convention, routing="multinomial")
    routed = route(work)
    balanced = route(change(work, routing="balanced"))
    for transfer, even in zip(routed.dispatch + routed.combine, balanced.dispatch + balanced.combine, strict=True):
        # Balanced counts divide here, so that what is left to save is the difference to the balanced run.
        assert transfer.imbalance_ns == transfer.alone_ns - even.alone_ns > 0


def test_combine_brings_back_what_dispatch_brought():
    work = make_work("EP8_TP2_PP2_DP4", "megatron", num_gpus=16, routing="multinomial")
    routed = route(work)
    names = work.cluster.link_names
    dispatch, combine = (
        dict(zip(t[0].load.links, t[0].load.num_bytes, strict=True)) for t in (routed.dispatch, routed.combine)
    )
    for rank in range(8):  # one node: a rank's way up in one is its way down in the other
        up, down = names.index(f"gpu{rank}->nvswitch0"), names.index(f"nvswitch0->gpu{rank}")
        assert (dispatch[up], dispatch[down]) == (combine[down], combine[up])
        assert dispatch[up] != dispatch[down]


def test_the_wires_of_the_main_case_need_27_and_50_milliseconds():
    # 1.31 M tokens of hidden 1024 in bf16 over 4 layers, TP16 on 2 nodes of 8 with 50 GB/s per GPU: hierarchical sends
    # 2 * 1/2 of an eighth over each NIC; the flat rings 2 * 15/16 of an eighth.
    model = make_model(layers=16, experts=64, hidden=1024)
    work = make_work(
        "EP64_TP16_PP4", "spanning", num_gpus=64, model=model, sequences=128, sequence_length=10240, microbatches=16
    )
    num_bytes = 4 * 128 * 10240 * 1024 * 2
    times = all_reduce_wire_times_s(work)
    assert times["hierarchical"] == pytest.approx(num_bytes / 8 / 50e9, rel=1e-9)
    assert times["ring"] == pytest.approx(2 * 15 / 16 * num_bytes / 8 / 50e9, rel=1e-9)
    assert (round(times["hierarchical"] * 1e3), round(times["ring"] * 1e3)) == (27, 50)


def test_no_stage_updates_its_experts_before_the_last_stage_has_used_them():
    trace = run(make_work("EP16_TP4_PP4", "spanning", kind="training")).trace
    is_optimizer = trace["kind"] == "optimizer"
    last_use = trace["end_ns"][(trace["kind"] == "expert")].max()
    assert is_optimizer.sum() == 4 * 4  # norm of the gradients, Adam, weights, zeros on each of four stages
    assert (trace["start_ns"][is_optimizer] >= last_use).all()
    # Who has drained waits with no pass open, and the path goes on through the stage that was waited for.
    opens = trace["start_ns"][(trace["stream"] == "pass") & (trace["kind"] == "O")]
    assert (opens == trace["start_ns"][is_optimizer].min()).all()
    assert path_ns(trace)["stalled"] == 0


def test_replicated_tokens_split_their_shared_experts_over_tp():
    plain = make_model()
    shared = replace(plain, shared_experts=1)
    for strategy, convention, split in (("EP8_TP8_PP2", "vllm", 8), ("EP8_TP2_PP2_DP4", "megatron", 1)):
        works = [make_work(strategy, convention, model=model, num_gpus=16) for model in (plain, shared)]
        flops = [run(one).trace["flops"].sum() for one in works]
        work = works[1]
        wanted = 2 * shared.num_expert_params * shared.num_moe_layers * work.batch_tokens * work.batches
        assert flops[1] - flops[0] == pytest.approx(wanted, rel=1e-9)
        held = [sum(params_per_rank(model, work.mesh, work.stage_parameters(0))) for model in (plain, shared)]
        assert held[1] - held[0] == shared.num_expert_params * len(work.layers_of(0)) // split


# --- bytes -----------------------------------------------------------------------------------------------------------


def activations(work):
    """Bytes of the activations of all microbatches and replicas."""
    return work.num_microbatches * work.mesh.dp * work.tokens * work.model.hidden * work.model.dtype_bytes


def edges_over_tp(work):
    """Bytes over TP outside the layers: look-ups are summed, hops gathered, tokens gathered for the head.

    An all-reduce moves 2 (n - 1) times the activations, an all-gather or reduce-scatter half of it. Without SP: sum of
    look-ups, a gather per hop, and backward a gather per hop and the sum of the head's gradient. With SP: the look-ups'
    reduce-scatter, and in training its all-gather and the head's all-gather and reduce-scatter.
    """
    hops, trains = work.mesh.num_stages - 1, work.kind.trains
    times = (1 + (4 if trains else 0)) if work.mesh.sp else (2 + hops) * (2 if trains else 1)
    return times * (work.mesh.strategy.tp - 1) * activations(work)


@pytest.mark.parametrize("kind", ["forward", "training"])
@pytest.mark.parametrize("sp", [False, True])
def test_tensor_parallelism_sums_the_activations_twice_a_layer_and_direction(kind, sp):
    work = make_work("EP1_TP4_PP2_DP2", "megatron", model=DENSE, sp=sp, kind=kind)
    # 2 (n - 1) times the tensor over the group of n: as one all-reduce, or as all-gather and reduce-scatter.
    # With SP a backward pass gathers the input of each block once more: (n - 1) times the tensor.
    rounds = 2 if kind == "forward" else 5 if sp else 4
    expected = 2 * DENSE.layers * rounds * (4 - 1) * activations(work)
    assert bytes_of(run(work).trace, "tp") == pytest.approx(expected + edges_over_tp(work), rel=1e-9)


@pytest.mark.parametrize("kind", ["forward", "training"])
@pytest.mark.parametrize(
    ("strategy", "convention", "tp", "times"),
    [
        ("EP8_TP2_PP2_DP4", "megatron", 2, 2),  # attention alone: each rank routes the tokens that it owns
        ("EP16_TP4_PP4", "spanning", 4, 3),  # and an all-gather of the tokens that were owned
    ],
)
def test_expert_layers_sum_the_activations_over_tp_once(strategy, convention, tp, times, kind):
    work = make_work(strategy, convention, kind=kind, all_reduce="ring")
    gathered_again = 1 if work.mesh.sp and kind == "training" else 0  # the input of attention, in its backward pass
    rounds = times * (2 if kind == "training" else 1) + gathered_again
    expected = work.model.layers * rounds * (tp - 1) * activations(work)
    assert bytes_of(run(work).trace, "tp") == pytest.approx(expected + edges_over_tp(work), rel=1e-9)


@pytest.mark.parametrize("kind", ["forward", "training"])
@pytest.mark.parametrize("sp", [False, True])
def test_stages_hand_on_the_activations_once_in_each_direction(kind, sp):
    work = make_work("EP1_TP4_PP2_DP2", "megatron", model=DENSE, sp=sp, kind=kind)
    hops = activations(work) * (2 if kind == "training" else 1)
    assert bytes_of(run(work).trace, "pp") == pytest.approx(hops, rel=1e-9)


@pytest.mark.parametrize("kind", ["forward", "training"])
@pytest.mark.parametrize(
    ("strategy", "convention", "ep"),
    [("EP8_TP2_PP2_DP4", "megatron", 8), ("EP4_TP1_PP4_DP4", "megatron", 4), ("EP16_TP4_PP4", "spanning", 16)],
)
def test_balanced_experts_exchange_all_copies_but_those_that_stay(strategy, convention, ep, kind):
    work = make_work(strategy, convention, kind=kind)
    directions = 2 if kind == "training" else 1
    copies = work.model.num_moe_layers * work.model.top_k * activations(work) * directions
    trace = run(work).trace
    for exchange in ("ep_dispatch", "ep_combine"):
        assert bytes_of(trace, exchange) == pytest.approx(copies * (ep - 1) / ep, rel=1e-9)


def test_replicated_tokens_are_summed_and_not_sent_to_experts():
    work = make_work("EP8_TP8_PP2", "vllm", all_reduce="ring")
    trace = run(work).trace
    expected = work.model.num_moe_layers * 2 * (8 - 1) * activations(work)
    assert bytes_of(trace, "ep_dispatch") == 0
    assert bytes_of(trace, "ep_combine") == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("zero", [0, 1])
def test_gradients_are_reduced_in_four_bytes_over_the_replicas(zero):
    work = make_work("EP1_TP2_PP2_DP4", "megatron", model=DENSE, kind="training", zero=zero, all_reduce="ring")
    params = [params_per_rank(DENSE, work.mesh, work.stage_parameters(stage))[0] for stage in range(2)]
    # A ring over n replicas sends (n - 1) times the tensor per round: two rounds of gradients, or one of gradients and
    # one of weights in bf16. Each of the TP ranks has its own ring.
    per_param = 4 + 2 if zero else 2 * 4
    assert bytes_of(run(work).trace, "dp") == pytest.approx(2 * sum(params) * (4 - 1) * per_param, rel=1e-9)


@pytest.mark.parametrize("schedule", ["1f1b", "zb_h1"])
@pytest.mark.parametrize("zero", [2, 3])
def test_sharded_replicas_exchange_what_they_share_in_every_pass(zero, schedule):
    """Each of DP - 1 peers gets every parameter: 4 bytes per B, and 2 bytes per step (zero 2) or F and B (zero 3)."""
    work = make_work("EP1_TP2_PP2_DP4", "megatron", model=DENSE, kind="training", zero=zero, all_reduce="ring")
    work = replace(work, schedule=schedule)  # where W is split off, it is W that makes the gradients
    params = [params_per_rank(DENSE, work.mesh, work.stage_parameters(stage))[0] for stage in range(2)]
    per_param = 4 * work.microbatches + 2 * (2 * work.microbatches if zero == 3 else 1)
    assert bytes_of(run(work).trace, "dp") == pytest.approx(2 * 3 * sum(params) * per_param, rel=1e-9)


def test_gradients_in_two_bytes_are_reduced_as_such_and_read_by_the_optimizer():
    """Half the bytes of the all-reduce; Adam reads 2 bytes less of 30."""
    work = make_work("EP1_TP2_PP2_DP4", "megatron", model=DENSE, kind="training", all_reduce="ring")
    both = [run(one).trace for one in (work, replace(work, precision=Precision("bf16")))]
    assert bytes_of(both[1], "dp") == bytes_of(both[0], "dp") / 2
    update_ns = [int((one["end_ns"] - one["start_ns"])[one["kind"] == "optimizer"].max()) for one in both]
    assert update_ns[1] < update_ns[0]


@pytest.mark.parametrize("zero", [0, 1])
@pytest.mark.parametrize(
    ("strategy", "convention"), [("EP4_TP2_PP2_DP4", "megatron"), ("EP16_TP2_PP4_DP2", "spanning")]
)
def test_lanes_that_share_weights_reduce_gradients_together(strategy, convention, zero):
    work = make_work(strategy, convention, kind="training", zero=zero, routing="multinomial")
    trace = run(work).trace
    is_pass = (trace["stream"] == "pass") & (trace["kind"] != "O")
    for stage in range(work.mesh.num_stages):
        starts = []
        for lane in range(work.mesh.num_lanes):
            rows = trace.rows("comm", stage=stage, lane=lane)
            rows = rows[trace["kind"][rows] == "dp"]
            starts.append(sorted(set(trace["start_ns"][rows].tolist())))
        assert len({tuple(times) for times in starts}) == 1
        # Experts of a spanning rank have their gradients when all stages have ended their passes.
        awaited = is_pass if convention == "spanning" else is_pass & (trace["stage"] == stage)
        assert starts[0][0] == trace["end_ns"][awaited].max()


def test_the_backward_pass_visits_layers_last_first():
    trace = run(make_work("EP1_TP2_PP2_DP4", "megatron", model=DENSE, kind="training", microbatches=1)).trace
    for stage, layers in ((0, [0, 1]), (1, [2, 3])):
        rows = trace.rows("compute", stage=stage, lane=0)
        both = [layer for layer in trace["layer"][rows].tolist() if layer >= 0]
        changes = [layer for i, layer in enumerate(both) if i == 0 or both[i - 1] != layer]
        assert changes == layers + layers[-2::-1]  # forward up, backward down, the last layer without a break


@pytest.mark.parametrize(
    ("strategy", "convention", "dense_replicas", "expert_replicas"),
    [
        ("EP8_TP2_PP2_DP4", "megatron", 4, 1),
        ("EP4_TP2_PP2_DP4", "megatron", 4, 2),
        ("EP2_TP1_PP2_DP8", "megatron", 8, 4),
        ("EP16_TP2_PP4_DP2", "spanning", 2, 1),
    ],
)
@pytest.mark.parametrize("zero", [0, 1])
def test_zero_1_splits_each_family_of_parameters_over_its_own_replicas(
    strategy, convention, dense_replicas, expert_replicas, zero
):
    work = make_work(strategy, convention, kind="training", zero=zero)
    dense, expert = params_per_rank(work.model, work.mesh, work.stage_parameters(1))
    updated = dense / dense_replicas + expert / expert_replicas if zero else dense + expert
    ops = Lowering(work, Costs(work.cluster, dtype="bf16")).after_passes(LanePosition(1, 0))
    (update,) = [op for op in ops if hasattr(op, "kernels")]
    # Norm of all gradients; Adam; master weight to weight; zeros for all gradients that the rank holds.
    moved = (4.0 * updated, 28.0 * updated, 6.0 * updated, 4.0 * (dense + expert))
    expected_ns = sum(to_ns(float(work.cluster.device.memory_time_s(num_bytes))) for num_bytes in moved)
    assert set(update.total_ns.tolist()) == {expected_ns}


# --- FLOPs and tokens ------------------------------------------------------------------------------------------------


def flops(work):
    return float(run(work).trace["flops"].sum())


@pytest.mark.parametrize(
    ("strategy", "convention", "num_gpus"),
    [("EP8_TP2_PP2_DP4", "megatron", 16), ("EP8_TP8_PP2", "vllm", 16), ("EP16_TP4_PP4", "spanning", 16)],
)
@pytest.mark.parametrize("routing", ["balanced", "multinomial"])
def test_a_forward_run_executes_the_flops_of_the_model(strategy, convention, num_gpus, routing):
    work = make_work(strategy, convention, num_gpus=num_gpus, routing=routing)
    model = work.model
    body = model.flops_per_token(work.sequence_length, causal=True, with_head=False) * work.batch_tokens
    head = 2.0 * model.num_embedding_params * work.head_tokens * work.num_microbatches * work.mesh.dp
    # Under vllm the router runs on every rank of the TP group, for each has all tokens.
    routers = work.mesh.strategy.tp if convention == "vllm" else 1
    again = (routers - 1) * 2.0 * model.hidden * model.experts * model.num_moe_layers * work.batch_tokens
    assert flops(work) == pytest.approx(body + head + again, rel=1e-9)


@pytest.mark.parametrize("model", [DENSE, make_model()], ids=["dense", "experts"])
def test_full_recompute_runs_the_layers_once_more(model):
    strategy = "EP1_TP2_PP2_DP4" if model is DENSE else "EP8_TP2_PP2_DP4"
    work = make_work(strategy, "megatron", model=model, kind="training")
    layers = model.flops_per_token(work.sequence_length, causal=True, with_head=False) * work.batch_tokens
    assert flops(change(work, recompute="full")) - flops(work) == pytest.approx(layers, rel=1e-9)


def test_selective_recompute_runs_the_scores_once_more():
    work = make_work("EP1_TP2_PP2_DP4", "megatron", model=DENSE, kind="training")
    scores = DENSE.layers * DENSE.attention_score_flops_per_token(work.sequence_length, causal=True) * work.batch_tokens
    assert flops(change(work, recompute="selective")) - flops(work) == pytest.approx(scores, rel=1e-6)


@pytest.mark.parametrize("module", ["mlp", "moe", "shared_experts", "moe_act", "layernorm"])
def test_a_module_that_is_made_again_runs_its_products_once_more(module):
    """Norms and activations have no FLOPs, and take time; experts that are made again exchange their tokens again."""
    model = replace(make_model(dense_layers=2), shared_experts=1)
    work = make_work("EP8_TP2_PP2_DP4", "megatron", model=model, kind="training")
    again = change(work, recompute="selective", recompute_modules=(module,))
    router, expert = model.hidden * model.experts, model.num_expert_params
    products = {
        "mlp": model.num_dense_ffn_params,
        "moe": router + (model.top_k + 1) * expert,
        "shared_experts": expert,
        "moe_act": 0,
        "layernorm": 0,
    }
    more = 2.0 * 2 * products[module] * work.batch_tokens
    before, after = run(work), run(again)
    base = float(before.trace["flops"].sum())
    assert float(after.trace["flops"].sum()) == pytest.approx(base + more, rel=1e-9)
    assert after.trace.step_ns > before.trace.step_ns
    assert after.tokens_computed == before.tokens_computed
    exchanged = [bytes_of(one.trace, "ep_dispatch") for one in (before, after)]
    assert exchanged[1] == pytest.approx(exchanged[0] * (1.5 if module == "moe" else 1), rel=1e-9)


def test_every_stage_serves_every_other_under_the_spanning_convention():
    trace = run(make_work("EP16_TP4_PP4", "spanning")).trace
    served = [trace.rows("foreign", stage=stage).size for stage in range(4)]
    # 4 microbatches of the one layer of each of the 3 other stages, on each of 4 ranks.
    assert served == [4 * 3 * 4] * 4


def test_balanced_routing_has_no_imbalance_where_experts_divide_the_copies():
    for strategy, convention in (("EP8_TP2_PP2_DP4", "megatron"), ("EP16_TP4_PP4", "spanning")):
        seen = run(make_work(strategy, convention))
        assert seen.imbalance_max_over_mean == 1.0
        assert seen.trace["imbalance_ns"].sum() == 0


def test_random_routing_is_uneven_and_costs_imbalance():
    seen = run(make_work("EP8_TP2_PP2_DP4", "megatron", routing="multinomial"))
    assert seen.imbalance_max_over_mean > 1.0
    assert seen.trace["imbalance_ns"].sum() > 0


def test_the_seed_changes_the_draw_and_nothing_else():
    first, second = (run(make_work("EP16_TP4_PP4", "spanning", routing="multinomial", seed=seed)) for seed in (1, 2))
    assert first.tokens_routed == second.tokens_routed
    assert first.trace.step_ns != second.trace.step_ns


def test_doubling_the_microbatches_of_half_the_size_keeps_bytes_and_tokens():
    few = run(make_work("EP8_TP2_PP2_DP4", "megatron", microbatches=2))
    many = run(make_work("EP8_TP2_PP2_DP4", "megatron", microbatches=4))
    assert few.tokens_routed == many.tokens_routed
    assert few.bytes_sent == pytest.approx(many.bytes_sent, rel=1e-9)


def test_faster_links_make_one_lane_no_slower():
    # A theorem where transfers do not meet: a single stage of one lane runs its ops one after another.
    work = make_work("EP16_TP16_PP1", "megatron", routing="multinomial")
    fast = replace(work.cluster.links.spec, nic=replace(work.cluster.links.spec.nic, bandwidth_bytes_per_s=200e9))
    faster = replace(work, cluster=build_cluster(fast, work.cluster.num_nodes, work.cluster.device))
    assert run(faster).trace.step_ns < run(work).trace.step_ns


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"sequences": 30}, "multiple of DP x microbatches = 4 x 4 = 16"),
        ({"chunk_layers": (1, 2)}, "sum to layers = 4"),
        ({"chunk_layers": (4,)}, "give 2 counts"),
        ({"sequence_length": 1, "sequences": 16}, "divide by TP = 2"),
    ],
)
def test_work_that_does_not_fit_its_mesh_is_refused_when_built(changes, rule):
    with pytest.raises(InvalidValueError, match=rule):
        make_work("EP8_TP2_PP2_DP4", "megatron", **changes)


def test_training_under_the_serving_convention_is_refused():
    with pytest.raises(InvalidValueError, match="serves and does not train"):
        make_work("EP8_TP8_PP2", "vllm", kind="training")


def test_tokens_of_a_microbatch_are_those_of_one_replica():
    work: Work = make_work("EP8_TP2_PP2_DP4", "megatron", sequences=32, sequence_length=512, microbatches=4)
    assert (work.tokens, work.batch_tokens) == (32 // (4 * 4) * 512, 32 * 512)
    assert math.prod((work.tokens, work.mesh.dp, work.microbatches)) == work.batch_tokens
