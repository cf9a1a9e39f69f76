"""Streams by hand: collectives that a lane has started and that run next to its kernels."""

import numpy as np
import pytest
from handmade import HandPlan, exchange, kernel, make_transfer, order

from sim.engine.deadlock import Wait, describe_deadlock
from sim.engine.simulation import run_plan
from sim.errors import SimulationError
from sim.plan.ops import AwaitStream, Collective, ConcurrentPasses, RendezvousKey
from sim.results.accounts import categories_by_kind
from sim.results.path import path_ns
from sim.results.stages import stages_ns

EVERY_COMPUTE = pytest.mark.parametrize("num_sms", [None, 100], ids=["known ends", "slowed"])


def parts(account):
    """Return the parts of an account that are not 0."""
    return {part: ns for part, ns in account.items() if ns}


def spans(trace, stream, **where):
    """Return (start, end) of the rows of a stream."""
    rows = trace.rows(stream, **where)
    return list(zip(trace["start_ns"][rows].tolist(), trace["end_ns"][rows].tolist(), strict=True))


def start(*transfers, kind="dp", stream="dp", label=None, rendezvous=None):
    """Transfers that the lane starts on a stream."""
    return Collective(kind=kind, layer=0, transfers=transfers, stream=stream, label=label, rendezvous=rendezvous)


def wait(stream="dp", label=None):
    """Let the lane wait for a stream."""
    return AwaitStream(stream=stream, layer=0, label=label)


def send(num_bytes, link=0, **more):
    """Return a transfer of as many nanoseconds, alone on a link of capacity 1."""
    return make_transfer({link: num_bytes}, [1, 1], **more)


def run_ops(*ops, passes="F0", **more):
    """Run the same ops in every pass of one stage."""
    return run_plan(HandPlan([passes], lambda *_: ops, capacity=[1, 1], **more)).trace


@EVERY_COMPUTE
def test_a_transfer_shorter_than_the_kernel_next_to_it_costs_nothing(num_sms):
    trace = run_ops(start(send(30)), kernel(50), wait(), kernel(5), num_sms=num_sms)
    assert spans(trace, "async") == [(0, 30)]
    assert spans(trace, "compute") == [(0, 50), (50, 55)]
    assert spans(trace, "await") == []
    assert parts(stages_ns(trace)[0]) == {"other_compute": 55}
    assert parts(path_ns(trace)) == {"other_compute": 55}


@EVERY_COMPUTE
def test_of_a_longer_transfer_only_what_the_lane_waits_for_is_charged(num_sms):
    trace = run_ops(kernel(10), start(send(70)), kernel(50), wait(), kernel(5), num_sms=num_sms)
    assert spans(trace, "async") == [(10, 80)]
    assert spans(trace, "await") == [(60, 80)]
    assert parts(stages_ns(trace)[0]) == {"other_compute": 65, "dp": 20}
    # The path goes through the transfer that released the last kernel, and not through the kernel next to it.
    assert parts(path_ns(trace)) == {"other_compute": 15, "dp": 70}


def test_collectives_of_a_stream_run_in_order_and_those_of_two_streams_together():
    ops = [
        start(send(30)),
        start(send(20)),
        start(send(40, link=1), stream="cp", kind="cp"),
        kernel(10),
        wait(),
        wait("cp"),
    ]
    trace = run_ops(*ops)
    assert spans(trace, "async") == [(0, 30), (0, 40), (30, 50)]
    # From 10 to 40 both streams are waited for in one wait for dp, which ends at 50; cp has ended by then.
    assert spans(trace, "await") == [(10, 50)]
    assert parts(stages_ns(trace)[0]) == {"other_compute": 10, "cp": 30, "dp": 10}


def test_transfers_on_streams_share_links_with_those_that_the_lane_waits_for():
    # Both flow at half the link from 0; the lane's 20 bytes end at 40, when 30 of 50 are left for the full link.
    trace = run_ops(start(send(50)), exchange(send(20)), wait())
    assert spans(trace, "comm") == [(0, 40)]
    assert spans(trace, "async") == [(0, 70)]
    account = stages_ns(trace)[0]
    # Of the wait of 30 (40 to 70), 20 / 70 are contention: 8.57, and 21.43 base.
    assert parts(account) == {"tp": 20, "dp": 21, "contention": 29}
    by_kind = categories_by_kind(trace, [account])
    # 20 of contention stand for tp and 20 * 30 / 70 for dp.
    assert by_kind["contention_dp"] == pytest.approx(29e-9 * (600 / 70) / (20 + 600 / 70))
    assert sum(by_kind.values()) == pytest.approx(70e-9)


def test_sms_of_a_transfer_on_a_stream_slow_the_kernel_next_to_it():
    # 25 of 100 SMs are taken for 40 ns: 30 ns of the kernel's 50 are done by then, and 20 are left.
    trace = run_ops(start(send(40, num_sms=25)), kernel(50), wait(), num_sms=100)
    assert spans(trace, "compute") == [(0, 60)]
    assert parts(stages_ns(trace)[0]) == {"other_compute": 50, "contention": 10}


def test_a_label_waits_for_one_collective_of_the_stream_in_a_later_pass():
    ops = {
        "F0": [start(send(30), label=1), start(send(30), label=2), start(send(30), label=3), wait(label=1), kernel(10)],
        "F1": [wait(label=2), kernel(5)],
        "B0": [kernel(1)],
    }
    trace = run_plan(
        HandPlan(["F0 F1 B0"], lambda _, __, step: ops[f"{step.kind}{step.microbatch}"], capacity=[1])
    ).trace
    assert spans(trace, "async") == [(0, 30), (30, 60), (60, 90)]
    assert spans(trace, "compute") == [(30, 40), (60, 65), (65, 66)]
    # The third transfer is awaited by nobody: the stage is idle while it ends.
    assert parts(stages_ns(trace)[0]) == {"dp": 50, "other_compute": 16, "idle": 24}


def test_a_wait_for_nothing_takes_no_time():
    assert run_ops(wait(), kernel(7)).step_ns == 7


def test_a_label_that_was_never_started_is_refused():
    with pytest.raises(SimulationError, match="'bucket 3' on stream 'dp' of stage 0 was not"):
        run_ops(kernel(7), wait(label="bucket 3"))


def test_a_collective_of_streams_of_two_lanes_begins_when_both_have_come_to_it():
    key = RendezvousKey(key=("dp",), members=((0, 0), (0, 1)))
    ops = {
        0: [kernel(10), start(send(20, ranks=(0, 1)), rendezvous=key), kernel(100), wait(), kernel(1)],
        1: [kernel(40), start(rendezvous=key), kernel(5), wait(), kernel(1)],
    }
    plan = HandPlan(["F0"], lambda _, lane, __: ops[lane], lane_ranks=[[[0], [1]]], capacity=[1])
    trace = run_plan(plan).trace
    assert spans(trace, "async", lane=0) == spans(trace, "async", lane=1) == [(40, 60)]
    assert spans(trace, "compute", lane=0) == [(0, 10), (10, 110), (110, 111)]
    assert spans(trace, "compute", lane=1) == [(0, 40), (40, 45), (60, 61)]
    assert [trace["bytes"][trace.rows("async", lane=lane)].tolist() for lane in (0, 1)] == [
        [20],
        [0],
    ]  # counted by the lane of its first rank


def test_a_wait_before_the_other_lane_has_come_is_stalled_and_then_the_transfer():
    key = RendezvousKey(key=("dp",), members=((0, 0), (0, 1)))
    ops = {0: [start(send(20, ranks=(0, 1)), rendezvous=key), wait()], 1: [kernel(40), start(rendezvous=key), wait()]}
    plan = HandPlan(["F0"], lambda _, lane, __: ops[lane], lane_ranks=[[[0], [1]]], capacity=[1])
    # Lane 0 stalls for 40, lane 1 computes for 40, both wait for the transfer for 20.
    assert parts(stages_ns(run_plan(plan).trace)[0]) == {"other_compute": 20, "dp": 20, "stalled": 20}


def test_a_stream_that_waits_for_a_lane_which_never_comes_is_named():
    key = RendezvousKey(key=("dp",), members=((0, 0), (1, 0)))
    ops = {0: [start(send(5), rendezvous=key), kernel(3), wait()], 1: [kernel(1)]}
    with pytest.raises(SimulationError, match="stage 0 in F0 waits for dp of layer 0, which stages 1 have not entered"):
        run_plan(HandPlan(["F0", "F0"], lambda stage, *_: ops[stage], capacity=[1]))


def test_a_cycle_through_a_stream_shows_the_wait_that_is_part_of_it():
    waits = [
        Wait(lane=(0, 0), during="F1", what="F1 of stage 2", needs=((2, 0),)),
        Wait(lane=(0, 0), during="F0", what="dp, which stages 1 have not entered", needs=((1, 0),)),
        Wait(lane=(1, 0), during="F0", what="F0 of stage 0", needs=((0, 0),)),
    ]
    message = describe_deadlock(waits, 0)
    assert "stage 0 in F0 waits for dp" in message
    assert "stage 2" not in message


def test_the_passes_of_a_pair_wait_for_what_each_has_started():
    sides = (
        [start(send(60)), kernel(10), wait(), kernel(1)],
        [kernel(30), start(send(15)), wait(), kernel(1)],
    )

    def ops(_, __, step):
        first, second = order("F1 B0")
        return (
            ConcurrentPasses(sides=((first, tuple(sides[0])), (second, tuple(sides[1])))) if step.kind == "FB" else []
        )

    trace = run_plan(HandPlan(["F0 F1+B0"], ops, capacity=[1], inputs=lambda *_: ())).trace
    # F runs to 10, B to 40; F's transfer ends at 60 and lets F go on; B's, behind it, ends at 75.
    assert spans(trace, "async") == [(0, 60), (60, 75)]
    assert sorted(spans(trace, "compute")) == [(0, 10), (10, 40), (60, 61), (75, 76)]
    account = stages_ns(trace)[0]
    assert parts(account) == {"other_compute": 42, "dp": 34}


@EVERY_COMPUTE
def test_streams_of_the_same_plan_give_the_same_trace(num_sms):
    ops = [
        start(send(30), label=0),
        start(send(9, link=1), stream="cp", kind="cp"),
        kernel(12),
        wait("cp"),
        wait(label=0),
    ]
    first, second = (run_ops(*ops, passes="F0 F1 B0 B1", num_sms=num_sms) for _ in range(2))
    for name, column in first.columns.items():
        np.testing.assert_array_equal(column, second.columns[name])
    assert sum(stages_ns(first)[0].values()) == sum(path_ns(first).values()) == first.step_ns
