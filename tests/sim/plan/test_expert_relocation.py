"""Plans that change during a run: who holds what when, what moves, and what that costs, all by hand."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from works import make_model, make_plain_cluster, make_work, route

from sim.engine.simulation import run_plan
from sim.errors import InvalidValueError
from sim.plan.costs import Costs
from sim.plan.expert_replicas import ExpertReplicas
from sim.plan.expert_router import ExpertRouter
from sim.plan.expert_routing import copies_drawn, loads_before_plan, placed_experts
from sim.plan.ops import NO_LAYER, Collective, LanePosition
from sim.plan.pipeline import PipelinePlan
from sim.results.path import path_ns
from sim.results.stages import stages_ns
from sim.time import to_ns
from workloads.placement import PlacementRequest, PlacementRule, place_experts
from workloads.routing import Skew
from workloads.schedules import Pass

EVERY_MESH = pytest.mark.parametrize(
    ("strategy", "convention"),
    [("EP8_TP2_PP2_DP4", "megatron"), ("EP4_TP2_PP2_DP4", "megatron"), ("EP16_TP4_PP4", "spanning"),
     ("EP8_TP8_PP2", "vllm")],
)  # fmt: skip
GREEDY = PlacementRule(kind="greedy", window=2, every=2, moves=True)
EPLB = PlacementRule(kind="eplb", replicas=16, window=2, every=2, moves=True)


def make(strategy="EP8_TP2_PP2_DP4", convention="megatron", *, placement=EPLB, experts=16, **changes):
    """Return four microbatches, each of a popularity of its own, on links of which no protocol is known."""
    settings = {"routing": "drift", "skew": Skew(skew=1.0, persistence=0.0), "sequences": 32, "microbatches": 4}
    work = make_work(
        strategy, convention, model=make_model(experts=experts), placement=placement, **(settings | changes)
    )
    return replace(work, cluster=make_plain_cluster(16))


def num_groups(work):
    """Return the expert groups of a stage."""
    return 1 if work.mesh.convention.experts_span_stages else work.mesh.stage_ranks(0).size // work.mesh.strategy.ep


def newly_held(before, after):
    """Return how many experts ranks hold that they did not, each counted once for a rank."""
    return sum(len(set(new) - set(old)) for old, new in zip(before.tolist(), after.tolist(), strict=True))


@EVERY_MESH
@pytest.mark.parametrize("placement", [GREEDY, EPLB], ids=["greedy", "eplb"])
def test_each_change_copies_what_ranks_did_not_hold_and_nothing_else(strategy, convention, placement):
    """Plans -1, 0 and 1 of four microbatches: bytes on top of the same run whose changes cost nothing."""
    work = make(strategy, convention, placement=placement, experts=32)
    paid, free = (run_plan(PipelinePlan(replace(work, placement=replace(placement, moves=m)))) for m in (True, False))
    copied = sum(
        newly_held(placed_experts(work, 0, layer, plan=plan - 1), placed_experts(work, 0, layer, plan=plan))
        for layer in range(work.model.layers)
        for plan in (0, 1)
    )
    wanted = copied * num_groups(work) * work.model.num_expert_params * work.model.dtype_bytes
    assert copied > 0
    assert paid.bytes_sent - free.bytes_sent == pytest.approx(wanted)
    assert paid.bytes_received == pytest.approx(paid.bytes_sent)
    assert paid.tokens_routed == paid.tokens_computed == free.tokens_routed
    assert paid.trace.step_ns > free.trace.step_ns


def test_a_plan_sees_the_window_that_ends_where_it_begins():
    """Plan 1 of every 2 with one microbatch of staleness and a window of 2: microbatches -1 and 0."""
    work = make(placement=replace(GREEDY, stale=1))
    before = loads_before_plan(make(placement=replace(GREEDY, window=1)), 3, 0)
    loads = before + sum(copies_drawn(work, lane, [3], [0]).sum(axis=(0, 1)) for lane in range(work.mesh.num_lanes))
    wanted = place_experts(
        PlacementRequest(rule=PlacementRule(kind="greedy"), num_experts=16, num_ranks=8, loads=loads)
    )
    np.testing.assert_array_equal(placed_experts(work, 0, 3, plan=1), wanted)


@pytest.mark.parametrize("microbatch", range(4))
def test_a_microbatch_runs_under_the_plan_of_its_turn(microbatch):
    """Tokens that arrive in each slot are those of the plan's expert there; both plans are routed in one go."""
    work = make(placement=GREEDY)
    routed = route(work, layer=1, microbatch=microbatch)
    counts = copies_drawn(work, 0, [1], [microbatch])[0].sum(axis=0)
    slots = placed_experts(work, 0, 1, plan=microbatch // 2)
    np.testing.assert_array_equal(routed.slot_tokens, counts[slots])


def test_a_swap_between_two_ranks_takes_the_link_between_them_as_long_as_its_bytes():
    """Plan 0 is plan -1 with two experts of two ranks of a node swapped, in one layer: one weight each way."""
    work = make("EP8_TP1_PP2_DP8", placement=GREEDY)
    before = np.arange(16).reshape(8, 2)
    after = before.copy()
    after[0, 1], after[5, 0] = before[5, 0], before[0, 1]
    router = SimpleNamespace(
        slots=lambda stage, layer, plan: after if layer == 1 else before, slots_before=lambda *_: before
    )
    replicas = ExpertReplicas(work, Costs(work.cluster, dtype="bf16"), router)
    (op,) = replicas.relocate(LanePosition(0, 0), work.layers_of(0), 0)
    (transfer,) = op.transfers
    weight_bytes = work.model.num_expert_params * work.model.dtype_bytes
    nvlink = work.cluster.capacity_bytes_per_s[work.cluster.own_links(transfer.ranks)[0, 0]]
    assert (op.kind, op.layer, transfer.total_bytes) == ("ep_moves", NO_LAYER, 2 * weight_bytes)
    assert transfer.alone_ns == to_ns(weight_bytes / nvlink)
    assert replicas.relocate(LanePosition(1, 0), work.layers_of(1), 0) == []  # the other stage's layers stay


@EVERY_MESH
def test_plans_that_do_not_differ_move_nothing(strategy, convention):
    """Balanced routing has the same loads in each window."""
    work = make(strategy, convention, routing="balanced", skew=Skew())
    paid, free = (run_plan(PipelinePlan(replace(work, placement=replace(EPLB, moves=m)))) for m in (True, False))
    assert paid.trace.step_ns == free.trace.step_ns
    assert paid.bytes_sent == free.bytes_sent


def test_a_plan_that_outlasts_the_run_is_one_plan():
    """Row by row; without moves nothing tells them apart."""
    one, long = (
        run_plan(PipelinePlan(make(placement=replace(EPLB, every=every, moves=False)))).trace for every in (None, 4)
    )
    assert all((one[name] == long[name]).all() for name in one.columns)


def test_both_accounts_show_moves_by_their_name_and_sum_to_the_step():
    """One group, one stage: what the stage waits for copies is on the path too, for nothing overlaps."""
    work = make("EP16_TP1_PP1_DP16", sequences=64)
    trace = run_plan(PipelinePlan(work)).trace
    (stage,) = stages_ns(trace)
    path = path_ns(trace)
    assert (trace["kind"] == "ep_moves").sum() == 2  # plans 0 and 1
    assert stage["ep_moves"] == path["ep_moves"] > 0
    assert sum(stage.values()) == sum(path.values()) == trace.step_ns


@pytest.mark.parametrize(
    ("zero", "strategy", "bytes_per_param"),
    [(0, "EP8_TP1_PP2_DP8", 2 + 12), (1, "EP4_TP1_PP2_DP8", 2 + 12 / 2), (2, "EP4_TP1_PP2_DP8", 2 + 12 / 2),
     (3, "EP4_TP1_PP2_DP8", (2 + 12) / 2)],
)  # fmt: skip
def test_in_training_weights_and_optimizer_move_and_gradients_do_not(zero, strategy, bytes_per_param):
    """What each rank of a group has of an expert: ZeRO leaves it one of two parts."""
    work = make(strategy, kind="training", placement=replace(EPLB, every=4), zero=zero)
    costs = Costs(work.cluster, dtype="bf16")
    moved = ExpertReplicas(work, costs, ExpertRouter(work, costs)).relocated_bytes(0, range(2), 0)
    copied = sum(
        newly_held(placed_experts(work, 0, layer, plan=-1), placed_experts(work, 0, layer, plan=0))
        for layer in range(2)
    )
    assert moved.sum() == pytest.approx(copied * work.model.num_expert_params * bytes_per_param)
    assert copied > 0


def test_a_training_step_pays_for_its_plan_once():
    """Before the first pass; no plan begins in the midst of a step, for backward passes go where forward ones went."""
    work = make(kind="training", placement=replace(EPLB, every=8))
    plan = PipelinePlan(work)
    begins = [
        (kind, microbatch)
        for kind in "FB"
        for microbatch in range(4)
        for op in plan.ops(0, 0, Pass(kind, microbatch))
        if isinstance(op, Collective) and op.kind == "ep_moves"
    ]
    assert begins == [("F", 0)]
    with pytest.raises(InvalidValueError, match=r"every must be a multiple of workload\.microbatches = 4 in"):
        make(kind="training", placement=replace(EPLB, every=2))


@pytest.mark.parametrize("schedule", ["1f1b", "zb_v", "chimera", "dualpipe"])
def test_every_part_of_the_model_moves_once_for_each_plan(schedule):
    """Also of two copies, whose pipelines run other microbatches."""
    rule = replace(EPLB, every=8)
    model = make_model(layers=8, experts=16)
    settings = {"microbatches": 8, "batches": 2, "sequences": 64, "schedule": schedule}
    work = make_work("EP4_TP1_PP4_DP4", "megatron", model=model, placement=rule, routing="zipf", **settings)
    trace = run_plan(PipelinePlan(work)).trace
    rows = np.flatnonzero(trace["kind"] == "ep_moves")
    parts = [
        (work.chunk_layout.model_chunk_of(stage, chunk), stage, work.placement.plan_at(microbatch))
        for stage, chunk, microbatch in zip(
            *(trace[n][rows].tolist() for n in ("stage", "chunk", "microbatch")), strict=True
        )
    ]
    assert len(parts) == len(set(parts)) > 0
    assert set(parts) <= {
        (part, stage, plan) for stage in range(4) for part in work.model_chunks_of(stage) for plan in (0, 1)
    }
    assert {part for part, _, plan in parts if plan == 0} == set(range(work.chunk_layout.num_model_chunks))
