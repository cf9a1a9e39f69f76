"""Exchanges over TP in pieces next to products: by hand on one block, and in a whole step."""

import numpy as np
import pytest
from handmade import HandPlan, make_transfer
from works import make_model, make_work

from sim.build.build import build
from sim.engine.simulation import run_plan
from sim.errors import InvalidValueError
from sim.plan.ops import Collective, Compute, TimedKernel
from sim.plan.pipeline import PipelinePlan
from sim.plan.tp_overlap import with_gather, with_scatter
from sim.results.stages import stages_ns
from sim.scenario import load_scenario
from workloads.runtime import Runtime

DENSE = make_model(experts=0, layers=2)


def block(*durations_and_flops):
    return Compute(
        kernels=tuple(
            TimedKernel(kind="dense_ffn", layer=0, duration_ns=np.array([ns]), flops=flops)
            for ns, flops in durations_and_flops
        )
    )


def pieces_of(piece_ns):
    """Return what makes pieces that take `piece_ns` each."""

    def piece(number, num_pieces):
        del num_pieces
        transfer = make_transfer({0: piece_ns}, [1])
        return Collective(kind="tp", layer=0, transfers=(transfer,), stream="tp", label=number)

    return piece


def run(ops):
    return run_plan(HandPlan(["F0"], lambda *_: ops, capacity=[1])).trace


@pytest.mark.parametrize(("piece_ns", "step_ns"), [(5, 5 + 40 + 7), (10, 5 + 40 + 7), (20, 5 + 3 * 20 + 10 + 7)])
def test_a_gather_hides_behind_the_quarters_of_a_product(piece_ns, step_ns):
    # norm 5, product 40 (quarters of 10), then 7: pieces of up to 10 are hidden, longer ones set the pace
    ops = with_gather([block((5, 0), (40, 1.0), (7, 0))], pieces_of(piece_ns))
    assert run(ops).step_ns == step_ns


@pytest.mark.parametrize(("piece_ns", "step_ns"), [(6, 5 + 40 + 6 + 7), (10, 5 + 40 + 10 + 7), (20, 5 + 10 + 80 + 7)])
def test_of_a_scatter_the_last_piece_is_exposed(piece_ns, step_ns):
    ops = with_scatter([block((5, 0), (40, 1.0), (7, 0))], pieces_of(piece_ns))
    trace = run(ops)
    assert trace.step_ns == step_ns
    assert stages_ns(trace)[0]["tp"] == step_ns - 52


def test_quarters_of_a_product_keep_its_time_and_flops():
    (op,) = [block((43, 8.0))]
    parts = [part for part in with_scatter([op], pieces_of(1)) if isinstance(part, Compute)]
    assert sum(part.kernels[0].duration_ns[0] for part in parts) == 43
    assert sum(part.kernels[0].flops for part in parts) == 8.0


def test_a_step_sends_the_same_bytes_and_takes_sms_of_kernels():
    traces = []
    for runtime in (Runtime(), Runtime(overlap_tp=True)):
        work = make_work("TP4_PP2", "megatron", num_gpus=8, model=DENSE, sp=True, kind="training", runtime=runtime)
        traces.append(run_plan(PipelinePlan(work)).trace)
    sent = [trace.columns["bytes"][trace["kind"] == "tp"].sum() for trace in traces]
    assert sent[1] == pytest.approx(sent[0], rel=1e-9)
    slowed = [trace.ints("contention_ns")[trace.rows("compute")].sum() for trace in traces]
    assert slowed[0] == 0 < slowed[1]
    assert all(sum(account.values()) == traces[1].step_ns for account in stages_ns(traces[1]))


def test_overlap_without_sequence_parallelism_is_refused():
    with pytest.raises(InvalidValueError, match=r"runtime\.overlap_tp must be false without sequence parallelism"):
        build(load_scenario("ep64_tp16_pp4", overrides=["runtime.overlap_tp=true"]))
