"""Experts in slices (ETP): who gathers what, by hand, and what does not change when experts are cut."""

from dataclasses import replace

import numpy as np
import pytest
from works import make_model, make_work, route

from sim.engine.simulation import run_plan
from sim.plan.costs import Costs
from sim.plan.gather_costs import GatherCosts
from sim.plan.lowering import Lowering
from sim.plan.ops import Collective, Compute, LanePosition
from sim.plan.pipeline import PipelinePlan
from sim.run.stage_memory import stage_memory
from workloads.memory import params_per_rank
from workloads.schedules import Pass

MODEL = make_model()  # 4 layers of 16 experts of 2 x 256 x 512, top 2, hidden 256 in bf16


def ops_of(work, pass_, layer=0):
    """Return the ops of a layer of a pass on the first lane."""
    ops = Lowering(work, Costs(work.cluster, dtype="bf16")).chunk_ops(LanePosition(0, 0), pass_, is_split=False)
    return [op for op in ops if (op.kernels[0].layer if isinstance(op, Compute) else op.layer) == layer]


def exchanges(ops):
    """Return kind, transfers and bytes of all ranks, of what is exchanged around experts."""
    ep = [op for op in ops if isinstance(op, Collective) and op.kind.startswith("ep_")]
    return [(op.kind, len(op.transfers), sum(transfer.total_bytes for transfer in op.transfers)) for op in ep]


def test_the_bytes_of_the_all_gather_and_the_reduce_scatter_by_hand():
    """TP2 and DP4 on 8 GPUs of a stage; experts EP2 x ETP4, balanced.

    A replica's microbatch has 2 sequences of 512, 1,024 tokens, of which each of two ranks owns 512, with 1,024 copies
    of 512 bytes. All-to-all in pairs: half of each rank's copies leave it, 8 x 512 x 512 B = 2 MiB. Then each rank has
    1,024 copies, and each of the 2 groups of 4 gathers 4 x 1,024 x 512 B = 2 MiB, of which every rank receives 3/4:
    2 groups x 4 ranks x 1.5 MiB = 12 MiB. The reduce-scatter moves as much, and the pass back the same.
    """
    work = make_work("EP2_TP2_DP4_ETP4", "megatron", num_gpus=8, kind="training", routing="balanced")
    assert (work.tokens, work.owned_tokens, work.copies_per_host) == (1024, 512, 4096)
    ways = [("ep_dispatch", 4, 2 * 2**20), ("ep_dispatch", 1, 12 * 2**20)]
    back = [("ep_combine", 1, 12 * 2**20), ("ep_combine", 4, 2 * 2**20)]
    assert exchanges(ops_of(work, Pass("F", 0))) == ways + back
    gradients = [(kind.replace("dispatch", "combine"), *rest) for kind, *rest in ways]
    gradients += [(kind.replace("combine", "dispatch"), *rest) for kind, *rest in back]
    assert exchanges(ops_of(work, Pass("B", 0))) == gradients


def test_each_rank_of_a_group_has_what_all_of_its_ranks_received():
    """Drawn tokens: the ranks 0 and 1 hold slices of experts 0 to 7, the ranks 2 and 3 of experts 8 to 15."""
    work = make_work("EP2_TP2_DP4_ETP2", "megatron", num_gpus=8, routing="multinomial")
    costs = Costs(work.cluster, dtype="bf16", is_random=True)
    routed = route(work, costs=costs)
    assert routed.lane_ranks.tolist() == routed.expert_ranks.tolist() == [0, 1, 2, 3]
    first, second = routed.slot_tokens[:2], routed.slot_tokens[2:]
    assert (first[0] == first[1]).all()
    assert (second[0] == second[1]).all()
    assert routed.slot_tokens[[0, 2]].sum() == routed.num_routed == 4 * work.owned_tokens * 2
    assert routed.expert_tokens.computed.tolist() == [first[0].sum(), second[0].sum()]
    (gather,), (scatter,) = routed.gather, routed.scatter
    assert gather.total_bytes == scatter.total_bytes == routed.num_routed * 256 * 2  # (2 - 1) x what both have
    assert [transfer.ranks.tolist() for transfer in routed.dispatch] == [[0, 2], [1, 3]]


def test_equal_gathers_cost_what_the_collective_costs():
    """The gathers of a lane are one transfer with the load of all; twice the bytes of one take twice as long."""
    costs = Costs(make_work("EP2_TP2_DP4_ETP2", "megatron", num_gpus=8).cluster, dtype="bf16")
    groups = np.arange(8).reshape(-1, 4)
    alone = [costs.transfers.collective("all_gather", group, 3e6, group=0) for group in groups]
    gathers = GatherCosts(costs.transfers, costs.pairs)
    (((gather,), _), ((twice,), _)) = gathers.trips(groups, np.array([[3e6, 3e6], [6e6, 0.0]]), mean_bytes=3e6, group=0)
    assert (gather.latency_ns, gather.alone_ns, gather.imbalance_ns) == (alone[0].latency_ns, alone[0].alone_ns, 0)
    assert gather.total_bytes == sum(transfer.total_bytes for transfer in alone) == 2 * 3 * 3e6
    assert gather.load.num_bytes.sum() == pytest.approx(sum(transfer.load.num_bytes.sum() for transfer in alone))
    assert gather.flow_bytes == pytest.approx(alone[0].flow_bytes)
    assert twice.alone_ns == pytest.approx(2 * alone[0].alone_ns, abs=2)
    assert twice.imbalance_ns == pytest.approx(alone[0].alone_ns, abs=2)


@pytest.mark.parametrize("routing", ["balanced", "multinomial"])
@pytest.mark.parametrize(
    ("whole", "sliced", "convention"),
    [
        ("EP8_TP2_PP2_DP4", "EP4_TP2_PP2_DP4_ETP2", "megatron"),
        ("EP8_TP2_PP2_DP4", "EP1_TP2_PP2_DP4_ETP8", "megatron"),
        ("EP2_TP1_PP2_DP8", "EP2_TP1_PP2_DP8_ETP4", "megatron"),
        ("EP8_TP8_PP2", "EP2_TP8_PP2_ETP4", "vllm"),
        ("EP8_TP2_PP2_DP4", "EP2_TP2_PP2_DP4_ETP4", "vllm"),
        ("EP8_TP1_PP2_DP8", "EP1_TP1_PP2_DP8_ETP8", "vllm"),
    ],
)
def test_slices_do_the_work_of_whole_experts(whole, sliced, convention, routing):
    """Experts' FLOPs of all ranks are those of whole experts: 2 x 2 x 256 x 512 of each copy and layer."""
    for name in (whole, sliced):
        work = make_work(name, convention, routing=routing)
        run = run_plan(PipelinePlan(work, folds=False))
        copies = work.batch_tokens * 2 * MODEL.layers
        assert run.tokens_routed == run.tokens_computed == copies
        assert run.trace["flops"][run.trace["kind"] == "expert"].sum() == copies * 2 * 2 * 256 * 512


def test_serving_with_slices_and_replicas_of_attention_gathers_each_token_once():
    """SGLang's `--tp 8 --dp 4 --ep-size 2` on 8 GPUs: 4 x 2,048 tokens of 512 B, of which each of 8 ranks receives 7/8.

    Then attention's two ranks gather the tokens of their replica: 4 groups, half of 1 MiB to each of 2 ranks.
    """
    work = make_work("EP2_TP2_DP4_ETP4", "vllm", num_gpus=8, routing="balanced")
    num_bytes = 4 * work.tokens * 512 * 7
    assert exchanges(ops_of(work, Pass("F", 0))) == [("ep_dispatch", 1, num_bytes), ("ep_combine", 1, num_bytes)]
    gather = [op for op in ops_of(work, Pass("F", 0)) if isinstance(op, Collective) and op.kind == "tp"][-1]
    assert sum(transfer.total_bytes for transfer in gather.transfers) == 4 * 2 * work.tokens * 512 / 2
    routed = route(work)
    assert routed.dispatch == routed.combine == ()
    assert routed.slot_tokens.sum() == 4 * 4 * work.tokens * 2  # ETP4 has each copy four times


def test_serving_with_slices_on_one_replica_sums_over_all_of_its_ranks():
    """SGLang's `--tp 8 --ep-size 2`: every rank has all tokens; the experts end with one all-reduce of eight."""
    work = make_work("EP2_TP8_PP1_ETP4", "vllm", num_gpus=8, routing="balanced")
    whole = make_work("EP8_TP8_PP1", "vllm", num_gpus=8, routing="balanced")
    assert exchanges(ops_of(work, Pass("F", 0))) == exchanges(ops_of(whole, Pass("F", 0)))
    assert route(work).slot_tokens.sum(axis=1).tolist() == [work.tokens] * 8
    assert route(whole).slot_tokens.sum(axis=1).tolist() == [work.tokens * 2 / 8] * 8


def test_a_rank_holds_a_slice_of_its_experts_and_shares_its_gradients_with_edp_ranks():
    """16 GPUs, EP2 x ETP4: 16 x 262,144 / 8 parameters a layer, on 2 ranks each; EP2 alone has 4 times as many."""
    sliced = make_work("EP2_TP2_DP8_ETP4", "megatron", kind="training")
    whole = make_work("EP2_TP2_DP8", "megatron", kind="training")
    of_sliced, of_whole = (params_per_rank(MODEL, work.mesh, work.stage_parameters(0)) for work in (sliced, whole))
    assert of_sliced == (of_whole[0], 4 * 16 * 2 * 256 * 512 // 8)
    assert of_whole[1] == 4 * of_sliced[1]
    assert sliced.mesh.expert_dp_groups(0).tolist() == [[rank, rank + 8] for rank in range(8)]
    assert whole.mesh.expert_dp_groups(0).shape == (2, 8)


def test_activations_of_slices_are_the_gathered_copies_and_a_part_of_their_width():
    """Of a copy whole experts keep 256 + 2 x 512 elements, and a quarter 256 + 2 x 128 of four times as many copies."""
    kept = []
    for name in ("EP8_TP2_DP8", "EP2_TP2_DP8_ETP4"):
        work = make_work(name, "megatron", kind="training", routing="balanced")
        kept.append(stage_memory(work, 0).chunks[0].expert_activations)
    copies = make_work("EP8_TP2_DP8", "megatron").tokens * 2 / 2 * MODEL.layers
    assert kept == [copies * (256 + 1024) * 2, 4 * copies * (256 + 256) * 2]


def test_latent_experts_gather_copies_of_the_width_of_the_latent():
    """Of 64 elements instead of 256."""
    latent = replace(MODEL, moe_latent_size=64)
    works = [make_work("EP2_TP2_DP4_ETP2", "megatron", num_gpus=8, model=model) for model in (MODEL, latent)]
    whole, narrow = (sum(transfer.total_bytes for transfer in route(work).gather) for work in works)
    assert narrow == whole / 4 > 0


def test_gradients_of_slices_are_summed_over_edp_and_dense_ones_over_dp():
    """EP2 x ETP4 on 16 GPUs: 8 all-reduces over ranks that are 8 apart, of 4 x 524,288 parameters in 4 bytes.

    All-reduce of B bytes over n ranks sends 2 (n - 1) B in all. Dense weights: TP2, and so 2 groups of 8 ranks.
    """
    work = make_work("EP2_TP2_DP8_ETP4", "megatron", kind="training")
    transfers = Lowering(work, Costs(work.cluster, dtype="bf16")).gradients.transfers(0)
    experts = [transfer for transfer in transfers if transfer.ranks.size == 2]
    assert [transfer.ranks.tolist() for transfer in experts] == [[rank, rank + 8] for rank in range(8)]
    assert {transfer.total_bytes for transfer in experts} == {2 * 1 * 4 * (16 * 2 * 256 * 512 // 8) * 4}
    dense = [transfer.ranks.tolist() for transfer in transfers if transfer.ranks.size == 8]
    assert dense == [list(range(0, 16, 2)), list(range(1, 16, 2))]
