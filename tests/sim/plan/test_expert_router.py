"""Routing in one go: nothing depends on which layers and microbatches are drawn and priced together."""

from unittest.mock import patch

import numpy as np
import pytest
from works import make_model, make_work

from sim.engine.simulation import run_plan
from sim.plan import expert_router, expert_routing
from sim.plan.costs import Costs
from sim.plan.expert_routing import copies_drawn
from sim.plan.ops import LanePosition
from sim.plan.pipeline import PipelinePlan
from workloads.kernels import backward_of
from workloads.layers import expert_block

MODEL = make_model(experts=16)


@pytest.mark.parametrize(
    ("strategy", "convention", "changes"),
    [
        ("EP16_TP4_PP4", "spanning", {}),
        ("EP16_TP4_PP4", "spanning", {"kind": "training", "recompute": "full"}),
        ("EP8_TP2_PP2_DP4", "megatron", {"kind": "training"}),
        ("EP8_TP8_PP2", "vllm", {}),
    ],
)
def test_a_run_does_not_depend_on_what_is_routed_in_one_go(strategy, convention, changes):
    """Eight microbatches: all layers of eight at once, one layer of one, and two of a lane's four."""
    work = make_work(strategy, convention, routing="multinomial", microbatches=8, sequences=32, **changes)
    traces = []
    counts = work.mesh.lanes(0)[0].size * work.model.experts
    for most_counts, most_ahead in ((2**16, 8), (1, 1), (2 * counts, 2)):
        with (
            patch.object(expert_router, "MOST_COUNTS", most_counts),
            patch.object(expert_router, "MOST_MICROBATCHES", most_ahead),
        ):
            traces.append(run_plan(PipelinePlan(work)).trace)
    for trace in traces[1:]:
        assert len(trace) == len(traces[0])
        for name, column in traces[0].columns.items():
            np.testing.assert_array_equal(trace.columns[name], column)


@pytest.mark.parametrize("most", [0, 5, 200, 3000])
def test_a_service_from_the_table_is_that_of_its_kernels(most):
    """The table grows with the tokens seen; hosts without any serve for no time."""
    costs = Costs(make_work("EP16_TP4_PP4", "spanning").cluster, dtype="bf16", is_random=True)
    tokens = np.random.default_rng(most).integers(0, most + 1, (16, 1))

    def backward(tokens):
        return backward_of(expert_block(MODEL.moe_ffn, tokens))

    costs.kernels.service(backward, np.full((16, 1), 7), key="backward")
    duration_ns, flops = costs.kernels.service(backward, tokens, key="backward")
    kernels = backward(tokens)
    np.testing.assert_array_equal(duration_ns, sum(costs.kernels.kernel_ns(kernel, 16) for kernel in kernels))
    np.testing.assert_array_equal(flops, sum(kernel.flops for kernel in kernels))
    assert (duration_ns[tokens[:, 0] == 0] == 0).all()


@pytest.mark.parametrize("is_backward", [False, True])
def test_kernels_priced_together_are_as_those_priced_alone(is_backward):
    """Three exchanges of eight ranks with four experts each, some without tokens."""
    costs = Costs(make_work("EP8_TP2_PP2_DP4", "megatron").cluster, dtype="bf16", is_random=True)
    tokens = np.random.default_rng(1).integers(0, 500, (3, 8, 4)) * np.random.default_rng(2).integers(0, 2, (3, 8, 4))

    def block(tokens):
        forward = expert_block(MODEL.moe_ffn, tokens)
        return backward_of(forward) if is_backward else forward

    priced = costs.kernels.each(block, tokens)
    for i in range(3):
        alone = costs.kernels.compute(block(tokens[i]), 8).kernels
        for (kind, duration_ns, flops, makes_weights), kernel in zip(priced, alone, strict=True):
            np.testing.assert_array_equal(duration_ns[i], kernel.duration_ns)
            assert (kind, flops[i], makes_weights) == (kernel.kind, kernel.flops, kernel.is_weight_gradient)


def test_a_lane_keeps_the_last_batches_that_it_routed(monkeypatch):
    """In training two batches of each lane are kept at the least, of one microbatch here: the third drops the first."""
    monkeypatch.setattr(expert_router, "MOST_MICROBATCHES", 1)
    monkeypatch.setattr(expert_router, "MOST_KEPT_LAYERS_OF_RANKS", 1)
    work = make_work("EP8_TP8_PP1_DP2", "megatron", kind="training", routing="multinomial")
    router, drawn = expert_router.ExpertRouter(work, Costs(work.cluster, dtype="bf16")), []

    def note(work, lane, layers, microbatches):
        drawn.append((lane, *microbatches))
        return copies_drawn(work, lane, layers, microbatches)

    monkeypatch.setattr(expert_router, "copies_drawn", note)
    for lane, microbatch in ((0, 0), (0, 1), (0, 0), (1, 0), (0, 1), (0, 2), (0, 0)):
        router.route(LanePosition(0, lane), 0, microbatch)
    assert drawn == [(0, 0), (0, 1), (1, 0), (0, 2), (0, 0)]


def test_backward_passes_find_what_forward_passes_routed(monkeypatch):
    """Each layer of each microbatch is drawn once, though its backward pass comes four microbatches later."""
    drawn = []

    def note(work, lane, layers, microbatches):
        drawn.extend((lane, layer, microbatch) for layer in layers for microbatch in microbatches)
        return copies_drawn(work, lane, layers, microbatches)

    monkeypatch.setattr(expert_router, "copies_drawn", note)
    monkeypatch.setattr(expert_router, "MOST_MICROBATCHES", 1)
    work = make_work("EP4_TP2_PP4_DP2", "megatron", kind="training", routing="multinomial", microbatches=8)
    run_plan(PipelinePlan(work))
    assert len(drawn) == len(set(drawn)) == work.mesh.num_lanes * work.model.layers * 8


@pytest.mark.parametrize("changes", [{}, {"kind": "training"}])
def test_a_run_that_draws_for_hosts_alone_has_the_same_exchanges(monkeypatch, changes):
    """What each source sends to each host is the same to the last copy; what an expert of a host gets is not."""
    work = make_work("EP8_TP8_PP1", "megatron", routing="multinomial", microbatches=2, model=MODEL, **changes)
    whole = run_plan(PipelinePlan(work))
    monkeypatch.setattr(expert_routing, "_MANY_COUNTS", 0)
    hosts = run_plan(PipelinePlan(work))
    assert hosts.tokens_routed == whole.tokens_routed
    assert hosts.imbalance_max_over_mean == whole.imbalance_max_over_mean
    np.testing.assert_array_equal(hosts.trace.link_use.num_bytes, whole.trace.link_use.num_bytes)
    assert hosts.tokens_received.keys() == whole.tokens_received.keys()
    for position, received in hosts.tokens_received.items():
        for key, rows in received.items():
            np.testing.assert_array_equal(rows, whole.tokens_received[position][key])
