"""The certificates of every run, where exchanges overlap with passes, the host takes time, and sends block."""

from dataclasses import replace

import numpy as np
import pytest
from certificates import CERTIFICATES, observe_case
from works import make_model, make_work

from sim.engine.simulation import run_plan
from sim.plan.pipeline import PipelinePlan
from workloads.runtime import RUNTIMES, Runtime

OVERLAPS = Runtime(overlap_grad_reduce=True, overlap_param_gather=True)
FAST_HOST = replace(
    OVERLAPS, overlap_tp=True, kernel_launch_s=2e-6, collective_launch_s=3e-6, pass_host_s=5e-6, checks_loss=True
)
"""A host as fast as these small kernels, so that now the host waits and now the lane."""
GRAPHS = replace(FAST_HOST, launch="cuda_graphs", graph_scope=("attn", "moe_router"))

CASES = [
    (strategy, "megatron", 16, dense, (*how, ("kind", "training"), ("zero", 1), ("runtime", runtime)))
    for strategy, dense, how in [
        ("EP4_TP2_PP2_DP4", False, (("sp", True), ("routing", "multinomial"))),
        ("EP4_TP2_PP2_DP4", False, (("sp", True), ("recompute", "full"))),
        ("TP2_PP4_DP2", True, (("sp", True),)),
        ("TP2_PP2_DP4_VPP2", True, (("sp", False), ("schedule", "interleaved"))),
        ("TP1_PP4_DP4", True, (("schedule", "zb_h1"),)),
    ]
    for runtime in (OVERLAPS, FAST_HOST, GRAPHS)
]


@pytest.mark.parametrize("case", CASES, ids=[f"{case[0]}-{at % 3}" for at, case in enumerate(CASES)])
@pytest.mark.parametrize("certificate", CERTIFICATES.values(), ids=CERTIFICATES.keys())
def test_every_run_keeps(certificate, case):
    certificate(observe_case(*case))


@pytest.mark.parametrize("preset", [name for name in RUNTIMES if name != "ideal"])
def test_the_same_work_gives_the_same_trace_and_folding_changes_no_time(preset):
    model = make_model(experts=0, layers=4)
    work = make_work("TP2_PP2_DP4", "megatron", model=model, kind="training", zero=1, runtime=RUNTIMES[preset])
    first, again, unfolded = (run_plan(PipelinePlan(work, folds=folds)).trace for folds in (True, True, False))
    for name, column in first.columns.items():
        np.testing.assert_array_equal(column, again.columns[name])
    assert first.lane_of is not None
    assert first.step_ns == unfolded.step_ns
