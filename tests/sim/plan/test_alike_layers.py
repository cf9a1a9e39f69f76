"""Layers that are alike are lowered once: the trace is that of a plan that lowers each of them."""

import numpy as np
import pytest
from works import make_model, make_work

from sim.engine.simulation import run_plan
from sim.plan.layers import LayerLowering
from sim.plan.ops import Collective, Compute, LanePosition, in_layer
from sim.plan.pipeline import PipelinePlan

WORKS = {
    "dense": ("TP4_PP2_DP2", "megatron", {"model": make_model(experts=0)}),
    "balanced, a remainder that differs by layer": ("EP4_TP4_PP2_DP2", "megatron", {"sequence_length": 1020}),
    "dense and expert layers": ("EP4_TP2_PP2_DP4", "megatron", {"model": make_model(layers=8, dense_layers=3)}),
    "drawn": ("EP4_TP2_PP2_DP4", "megatron", {"routing": "multinomial"}),
    "training": ("EP4_TP2_PP2_DP4", "megatron", {"kind": "training"}),
    "all stages serve": ("EP16_TP4_PP4", "spanning", {}),
}


@pytest.mark.parametrize("name", WORKS)
def test_layers_lowered_once_are_layers_lowered_one_by_one(name, monkeypatch):
    strategy, convention, changes = WORKS[name]
    found = run_plan(PipelinePlan(make_work(strategy, convention, **changes)))
    monkeypatch.setattr(LayerLowering, "_of_alike", lambda self, kind, layer, make: make())
    expected = run_plan(PipelinePlan(make_work(strategy, convention, **changes)))
    for column, values in expected.trace.columns.items():
        assert np.array_equal(values, found.trace.columns[column]), column
    assert np.array_equal(expected.trace.link_use.num_bytes, found.trace.link_use.num_bytes)
    assert (expected.tokens_sent, expected.exchange_skew) == (found.tokens_sent, found.exchange_skew)


def test_alike_layers_share_all_but_their_number():
    plan = PipelinePlan(make_work("EP4_TP4_PP2_DP2", "megatron"))
    first, second = plan.work.layers_of(0)[:2]
    ops = [plan.lowering.layers.forward(LanePosition(0, 0), layer, 0) for layer in (first, second)]
    for one, other in zip(*ops, strict=True):
        again = in_layer(one, second)
        if isinstance(one, Compute):
            assert [kernel.layer for kernel in other.kernels] == [second] * len(one.kernels)
            assert other.total_ns is one.total_ns
            assert again.slowest_ns == other.slowest_ns
        elif isinstance(one, Collective):
            assert (one.layer, other.layer, again.layer) == (first, second, second)
            assert other.transfers is one.transfers
