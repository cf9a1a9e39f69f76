"""Experts with copies on several ranks in training: gradients summed by hand, conservation, memory."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import PATIENT
from works import change, make_model, make_plain_cluster, make_work

from sim.engine.simulation import run_plan
from sim.plan.costs import Costs
from sim.plan.expert_replicas import ExpertReplicas, experts_by_ranks
from sim.plan.expert_routing import placed_experts
from sim.plan.lowering import Lowering
from sim.plan.ops import NO_LAYER, LanePosition
from sim.plan.pipeline import PipelinePlan
from sim.run.stage_memory import stage_memory
from sim.time import to_ns
from workloads.memory import params_per_rank
from workloads.placement import PlacementRule
from workloads.routing import Skew

EPLB = PlacementRule(kind="eplb", replicas=16, window=2)
MESHES = pytest.mark.parametrize(
    ("strategy", "convention"), [("EP8_TP2_PP2_DP4", "megatron"), ("EP4_TP2_PP2_DP4", "megatron"),
                                 ("EP16_TP4_PP4", "spanning")],
)  # fmt: skip


def make(strategy="EP8_TP2_PP2_DP4", convention="megatron", *, placement=EPLB, **changes):
    """Return a small training step of skewed routing."""
    settings = {"kind": "training", "routing": "zipf", "skew": Skew(skew=1.0), "microbatches": 2, "sequences": 16}
    work = make_work(strategy, convention, model=make_model(), placement=placement, **(settings | changes))
    return change(work, cluster=make_plain_cluster(16), all_reduce="ring")


def summed_bytes(work):
    """Return what rings send for a stage's or, under spanning, all layers: 2 (k - 1) gradients of k ranks each."""
    parts = work.mesh.expert_dp_groups(0).shape[1] if work.zero else 1
    gradient_bytes = work.model.num_expert_params * 4 / parts
    num_groups = (
        work.mesh.stage_ranks(0).size // work.mesh.strategy.ep if not work.mesh.convention.experts_span_stages else 1
    )
    total = 0.0
    for layer in range(work.model.layers):
        slots = placed_experts(work, 0, layer)
        holders = [np.unique(np.nonzero(slots == expert)[0]).size for expert in range(work.model.experts)]
        total += num_groups * gradient_bytes * sum(2 * (k - 1) for k in holders)
    return total


@pytest.mark.parametrize(("zero", "parts"), [(0, 1), (1, 2)])
def test_one_copied_expert_is_one_all_reduce_over_its_two_ranks(zero, parts):
    """By hand: expert 0 on ranks 0 and 2 of a group of 4; each sends 2 (2 - 1) / 2 of its gradients over NVLink."""
    work = make("EP4_TP1_PP2_DP8", placement=replace(EPLB, replicas=4), zero=zero)
    slots = np.arange(16).reshape(4, 4)
    slots = np.hstack([slots, [[1], [5], [0], [13]]])  # the other copies lie next to their experts
    costs = Costs(work.cluster, dtype="bf16", network=work.network)
    replicas = ExpertReplicas(work, costs, SimpleNamespace(slots=lambda *_: slots))
    for lane, ranks in enumerate(work.mesh.lanes(0)):
        ops = replicas.sum_gradients(LanePosition(0, lane))
        assert [op.layer for op in ops] == list(work.layers_of(0))
        for op in ops:
            (transfer,) = op.transfers
            gradient_bytes = work.model.num_expert_params * 4 / parts
            assert transfer.ranks.tolist() == ranks[[0, 2]].tolist()
            assert transfer.total_bytes == 2 * gradient_bytes
            nvlink = work.cluster.capacity_bytes_per_s[work.cluster.own_links(ranks)[0, 0]]
            assert transfer.alone_ns == to_ns(gradient_bytes / nvlink)
            assert op.kind == "dp"
            assert op.rendezvous is None


@MESHES
def test_placements_without_copies_reduce_as_before(strategy, convention):
    """Greedy has one copy of each expert: only replicas of whole ranks are reduced."""
    work = make(strategy, convention, placement=PlacementRule(kind="greedy", window=2))
    lowering, position = Lowering(work, Costs(work.cluster, dtype="bf16")), LanePosition(0, 0)
    assert lowering.expert_replicas.sum_gradients(position) == []
    assert all(getattr(op, "layer", NO_LAYER) == NO_LAYER for op in lowering.after_passes(position))


@MESHES
@pytest.mark.parametrize("zero", [0, 1, 2, 3])
def test_a_step_sends_the_bytes_of_these_sums_and_loses_no_token(strategy, convention, zero, monkeypatch):
    """Against the same step without them: rings of k ranks send 2 (k - 1) times what one holds, of every expert."""
    work = make(strategy, convention, zero=zero)
    summed = run_plan(PipelinePlan(work))
    monkeypatch.setattr(ExpertReplicas, "sum_gradients", lambda *_: [])
    unsummed = run_plan(PipelinePlan(work))
    assert summed_bytes(work) > 0
    assert summed.bytes_sent - unsummed.bytes_sent == pytest.approx(summed_bytes(work))
    assert summed.bytes_received == pytest.approx(summed.bytes_sent)
    assert summed.trace.step_ns > unsummed.trace.step_ns
    assert summed.tokens_routed == summed.tokens_computed > 0


def test_lanes_that_are_alike_sum_their_copies_alike():
    """Two lanes of balanced routing: run once or one by one, the same step and the same bytes."""
    work = make("EP4_TP2_PP2_DP4", routing="balanced")
    folded, alone = (run_plan(PipelinePlan(work, folds=folds)) for folds in (True, False))
    assert folded.trace.lane_of is not None
    assert folded.trace.step_ns == alone.trace.step_ns
    assert folded.bytes_sent == pytest.approx(alone.bytes_sent)


@MESHES
@pytest.mark.parametrize("zero", [0, 1, 3])
def test_each_copy_holds_weights_gradients_and_optimizer(strategy, convention, zero):
    """As many copies as experts: the experts' part of each is twice what it was."""
    copied, plain = (
        stage_memory(make(strategy, convention, zero=zero, placement=rule), 1) for rule in (EPLB, PlacementRule())
    )
    work = make(strategy, convention, zero=zero, placement=PlacementRule())
    _, expert = params_per_rank(work.model, work.mesh, work.stage_parameters(1))
    split = expert / work.mesh.expert_dp_groups(1).shape[1]
    assert copied.weights - plain.weights == 2 * (split if zero == 3 else expert)
    assert copied.gradients - plain.gradients == 4 * (split if zero >= 2 else expert)
    assert copied.optimizer - plain.optimizer == 12 * (split if zero else expert)


@PATIENT
@given(st.lists(st.lists(st.integers(0, 7), min_size=2, max_size=2), min_size=2, max_size=6))
def test_shared_experts_are_those_on_several_ranks_each_once(slots):
    """Counted apart, expert by expert; what one rank holds twice is shared with nobody."""
    held = [{rank for rank, own in enumerate(slots) if expert in own} for expert in range(8)]
    wanted = [tuple(sorted(ranks)) for ranks in held if len(ranks) > 1]
    found = experts_by_ranks(np.array(slots))
    assert found == {ranks: wanted.count(ranks) for ranks in wanted}
