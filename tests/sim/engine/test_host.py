"""The host of a lane by hand: what it issues late starts late, and what it waits for costs its lead."""

from dataclasses import replace

import numpy as np
import pytest
from handmade import HandPlan, exchange, kernel, make_transfer

from sim.engine.simulation import run_plan
from sim.plan.ops import NO_LAYER, AwaitStream, Collective, Compute, HostWork, TimedKernel
from sim.results.path import path_ns
from sim.results.stages import stages_ns

EVERY_COMPUTE = pytest.mark.parametrize("num_sms", [None, 100], ids=["known ends", "slowed"])


def parts(account):
    """Return the parts of an account that are not 0."""
    return {part: ns for part, ns in account.items() if ns}


def spans(trace, stream):
    """Return (start, end) of the rows of a stream."""
    rows = trace.rows(stream)
    return list(zip(trace["start_ns"][rows].tolist(), trace["end_ns"][rows].tolist(), strict=True))


def kernels(*duration_ns, issue_ns=0):
    """Return kernels of given times, each with the same time to issue it."""
    timed = (
        TimedKernel(kind="other_compute", layer=NO_LAYER, duration_ns=np.array([ns]), flops=0.0) for ns in duration_ns
    )
    return Compute(kernels=tuple(timed), issue_ns=(issue_ns,) * len(duration_ns) if issue_ns else ())


def run_ops(*ops, passes="F0", num_sms=None):
    plan = HandPlan([passes], lambda *_: ops, capacity=[1], num_sms=num_sms)
    return run_plan(plan).trace


@EVERY_COMPUTE
def test_a_step_bound_by_the_host_is_its_launches(num_sms):
    trace = run_ops(kernels(*[2] * 10, issue_ns=7), num_sms=num_sms)
    assert trace.step_ns == 10 * 7 + 2
    assert spans(trace, "compute") == [(7 * n, 7 * n + 2) for n in range(1, 11)]
    assert parts(stages_ns(trace)[0]) == {"other_compute": 20, "stalled": 52}
    assert parts(path_ns(trace)) == {"other_compute": 20, "stalled": 52}


@EVERY_COMPUTE
def test_a_step_bound_by_the_gpu_waits_for_the_first_launch_alone(num_sms):
    trace = run_ops(kernel(100), kernels(*[20] * 10, issue_ns=7), num_sms=num_sms)
    assert trace.step_ns == 100 + 10 * 20
    assert parts(stages_ns(trace)[0]) == {"other_compute": 300}


def test_the_host_runs_ahead_during_a_long_kernel_and_uses_up_its_lead():
    # issued at 10, 20, 30, 40, 50; the first kernel runs from 10 to 35, two more to 37, then the host is late
    trace = run_ops(kernels(25, 1, 1, 1, 1, issue_ns=10))
    assert spans(trace, "compute") == [(10, 35), (35, 36), (36, 37), (40, 41), (50, 51)]


def test_a_host_that_waits_loses_its_lead():
    ops = [kernel(100), HostWork(layer=NO_LAYER, waits=True), kernels(5, 5, issue_ns=10)]
    assert spans(run_ops(*ops), "compute") == [(0, 100), (110, 115), (120, 125)]
    without = [kernel(100), HostWork(layer=NO_LAYER), kernels(5, 5, issue_ns=10)]
    assert spans(run_ops(*without), "compute") == [(0, 100), (100, 105), (105, 110)]


def test_the_lead_is_kept_over_passes():
    # a pass takes the host 30 and the lane 60: the second pass waits for nothing
    ops = [HostWork(layer=NO_LAYER, work_ns=20), kernels(60, issue_ns=10)]
    assert spans(run_ops(*ops, passes="F0 F1"), "compute") == [(30, 90), (90, 150)]
    late = [HostWork(layer=NO_LAYER, work_ns=90), kernels(60, issue_ns=10)]
    assert spans(run_ops(*late, passes="F0 F1"), "compute") == [(100, 160), (200, 260)]


def test_collectives_start_when_they_are_issued_also_on_streams():
    waited = replace(exchange(make_transfer({0: 5}, [1])), issue_ns=10)
    started = Collective(kind="dp", layer=0, transfers=(make_transfer({0: 30}, [1]),), stream="dp", issue_ns=10)
    trace = run_ops(waited, started, kernels(4, issue_ns=3), AwaitStream(stream="dp", layer=0))
    assert spans(trace, "comm") == [(10, 15)]
    assert spans(trace, "async") == [(20, 50)]
    assert spans(trace, "compute") == [(23, 27)]


def test_kernels_that_take_longer_on_some_ranks_end_as_one_piece_where_the_host_is_ahead():
    timed = [TimedKernel(kind="expert", layer=0, duration_ns=np.array(ns), flops=0.0) for ns in ([4, 20], [9, 2])]
    op = Compute(kernels=tuple(timed), issue_ns=(1, 1))
    trace = run_plan(HandPlan(["F0"], lambda *_: [op], lane_ranks=[[[0, 1]]])).trace
    assert spans(trace, "compute") == [(1, 21), (21, 23)]  # rank 1, as without a host
