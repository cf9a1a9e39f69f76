"""Any graph under the engine: the same run as on the regular cluster, and slow GPUs that are slow."""

from dataclasses import replace

import numpy as np
import pytest
from works import make_model, make_work

from sim.engine.simulation import run_plan
from sim.plan.lowering import slow_down
from sim.plan.ops import Service
from sim.plan.pipeline import PipelinePlan
from topology.cluster import build_cluster, build_graph_cluster
from topology.degraded import Change
from topology.presets.clusters import FABRICS
from topology.presets.devices import DEVICES


def on_graph(work):
    """Return the same work on the cluster's own graph."""
    return replace(work, cluster=build_graph_cluster(work.cluster.graph, work.cluster.device, name="graph"))


def with_slow_gpus(work, speeds, num_nodes=2):
    """Return the same work where some GPUs are slower."""
    changes = [Change(part="gpu", name=str(rank), factor=speed) for rank, speed in speeds.items()]
    return replace(work, cluster=build_cluster(FABRICS["dgx-h100"], num_nodes, DEVICES["h100-sxm"], changes))


def ends_of(work):
    """Return the end of every row of a run."""
    return run_plan(PipelinePlan(work, folds=False)).trace["end_ns"]


@pytest.mark.parametrize(
    ("strategy", "convention", "changes"),
    [
        ("EP16_TP8_PP2", "spanning", {"routing": "multinomial"}),
        ("EP8_TP8_PP2", "vllm", {}),
        ("EP4_TP2_PP2_DP4", "megatron", {"kind": "training"}),
        ("EP4_TP2_PP2_DP4", "megatron", {"kind": "training", "fidelity": "flow", "routing": "multinomial"}),
    ],
)
def test_on_its_own_graph_a_run_is_the_same_to_the_nanosecond(strategy, convention, changes):
    """Every row of the trace, under every reading of EP."""
    work = make_work(strategy, convention, **changes)
    assert np.abs(ends_of(on_graph(work)) - ends_of(work)).max() <= 1


def test_gpus_at_half_speed_take_twice_as_long():
    """Without any communication: one GPU, dense; every kernel's time is even, so that half of it is whole."""
    work = make_work("TP1_PP1_DP16", "megatron", model=make_model(experts=0), sequences=64)
    slow = with_slow_gpus(work, dict.fromkeys(range(16), 0.5))
    assert run_plan(PipelinePlan(slow)).trace["end_ns"].max() == 2 * run_plan(PipelinePlan(work)).trace["end_ns"].max()


def test_one_slow_gpu_holds_up_its_lane_and_no_other():
    """16 replicas of a dense model that never meet in a forward pass: rank 5 takes 1 / 0.8 as long."""
    work = make_work("TP1_PP1_DP16", "megatron", model=make_model(experts=0), sequences=64)
    trace = run_plan(PipelinePlan(with_slow_gpus(work, {5: 0.8}), folds=False)).trace
    ends = np.array([trace["end_ns"][trace["lane"] == lane].max() for lane in range(16)])
    others = np.delete(ends, 5)
    assert (others == others[0]).all()
    assert ends[5] == pytest.approx(others[0] / 0.8, rel=1e-4)  # each of some hundred kernels is rounded up by 1 ns


def test_a_replica_with_a_slow_gpu_is_not_folded_with_the_others():
    """15 are alike, and the run is the unfolded one."""
    work = with_slow_gpus(make_work("TP1_PP1_DP16", "megatron", model=make_model(experts=0), sequences=64), {5: 0.8})
    folded = PipelinePlan(work)
    assert folded.folding is not None
    assert np.unique(folded.folding.lane_of).tolist() == [0, 5]
    assert run_plan(folded).trace["end_ns"].max() == ends_of(work).max()


def test_a_slow_gpu_serves_slowly_under_the_spanning_convention():
    """Of an exchange's service only its own part is longer, and rounded up: 10 / 0.3 = 33.3 ns."""
    ranks, tokens = np.arange(4), np.ones(4, dtype=np.int64)
    op = Service(kind="expert", layer=0, ranks=ranks, duration_ns=10 * tokens, flops=np.ones(4), expert_tokens=tokens)
    (slowed,) = slow_down((op,), ranks[:2], np.array([1.0, 1.0, 0.3, 1.0]))
    assert slowed.duration_ns.tolist() == [10, 10, 34, 10]
    work = make_work("EP16_TP8_PP2", "spanning")
    assert ends_of(with_slow_gpus(work, {11: 0.25})).max() > ends_of(work).max()
