"""The backward pass of a block under TP: what runs next to what, read off the ops and the trace."""

import numpy as np
import pytest
from works import make_model, make_work

from sim.engine.simulation import run_plan
from sim.plan.ops import AwaitStream, Collective, Compute, LanePosition
from sim.plan.pipeline import PipelinePlan
from workloads.runtime import Runtime
from workloads.schedules import Pass

DENSE = make_model(experts=0, layers=2)


def backward_ops(*, sp, **runtime):
    """Return the backward ops of layer 1 of a dense model on one stage of TP2."""
    software = Runtime(**runtime)
    work = make_work("TP2", "megatron", num_gpus=2, model=DENSE, sp=sp, kind="training", runtime=software)
    plan = PipelinePlan(work)
    ops = plan.lowering.chunk_ops(LanePosition(0, 0), Pass("B", 0), is_split=False)
    return plan, [op for op in ops if (op.kernels[0].layer if isinstance(op, Compute) else op.layer) == 1]


def shorthand(op):
    """Return what an op is: c for kernels, w for those of weights, T for a transfer that is waited for, t if not."""
    if isinstance(op, Compute):
        return "w" if op.kernels[0].is_weight_gradient and len(op.kernels) == 1 else "c"
    return "." if isinstance(op, AwaitStream) else "T" if op.stream is None else "t"


@pytest.mark.parametrize(
    ("sp", "block"),
    [
        (True, "TctctwX"),  # X: await, then the norm
        (False, "cctwX"),
    ],
)
def test_the_first_products_of_a_block_run_next_to_its_collectives(sp, block):
    _, ops = backward_ops(sp=sp)
    text = "".join(map(shorthand, ops))
    expected = block.replace("X", ".c").replace("tct", "tc.t") if sp else block.replace("X", ".c")
    assert text == 2 * expected


@pytest.mark.parametrize(("sp", "block"), [(True, "TcTcTwc"), (False, "ccTwc")])
def test_older_software_waits_for_every_collective_of_a_backward_pass(sp, block):
    _, ops = backward_ops(sp=sp, overlap_tp_backward=False)
    assert "".join(map(shorthand, ops)) == 2 * block


def test_with_sp_a_layer_has_four_collectives_forward_and_six_backward():
    plan, ops = backward_ops(sp=True)
    forward = plan.lowering.chunk_ops(LanePosition(0, 0), Pass("F", 0), is_split=False)
    assert sum(isinstance(op, Collective) and op.layer == 1 for op in forward) == 4
    assert sum(isinstance(op, Collective) for op in ops) == 6


def test_the_reduce_scatter_is_hidden_as_long_as_the_product_by_weight_takes():
    """The step is as long as its kernels and transfers one after another, less what runs next to kernels."""
    work = make_work("TP2", "megatron", num_gpus=2, model=DENSE, sp=True, kind="training", microbatches=1, sequences=1)
    trace = run_plan(PipelinePlan(work)).trace
    lasted = trace.ints("end_ns") - trace.ints("start_ns")
    busy, apart = (lasted[np.isin(trace["stream"], names)].sum() for names in (("compute", "comm"), ("async",)))
    waited = lasted[trace.rows("await")].sum()
    assert trace.step_ns == busy + waited
    assert 0 < waited < apart  # some is hidden, some is not
