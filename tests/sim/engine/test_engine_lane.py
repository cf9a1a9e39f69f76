"""Lanes by hand: foreign expert work, slow ranks, meetings, shared links, and what breaks when a law is broken."""

from dataclasses import replace

import numpy as np
import pytest
from handmade import HandPlan, exchange, kernel, make_transfer, serve
from plain_network import max_min_rates, rates_by

import sim.engine.run_state
import sim.engine.simulation
from sim.engine.network.fluid import FluidNetwork
from sim.engine.run_state import RankCompute
from sim.engine.simulation import run_plan
from sim.plan.ops import RendezvousKey
from sim.results.path import path_ns
from sim.results.stages import stages_ns


def parts(account):
    """Return the parts of an account that are not 0."""
    return {part: ns for part, ns in account.items() if ns}


def spans(trace, stream, **where):
    """Return (start, end) of the rows of a stream."""
    rows = trace.rows(stream, **where)
    return list(zip(trace["start_ns"][rows].tolist(), trace["end_ns"][rows].tolist(), strict=True))


# --- foreign expert work ---------------------------------------------------------------------------------------------

EVERY_COMPUTE = pytest.mark.parametrize("num_sms", [None, 100], ids=["known ends", "slowed"])
"""Ranks whose ends are known, and ranks that transfers might slow: here none does, and all is the same."""


def serving_plan(num_sms=None):
    """Two stages of one rank that start together; each asks both ranks for expert work.

    rank 0   stage 0: 0-10 kernel, 10-20 its own experts; stage 1's experts 25-29; 45-50 kernel
    rank 1   stage 1: 0-25 kernel; stage 0's experts 25-45 (requested at 10); stage 1's own 45-51 (requested at 25)
    """
    ops = {
        0: [kernel(10), serve([0, 1], [10, 20]), kernel(5)],
        1: [kernel(25), serve([0, 1], [4, 6])],
    }
    return HandPlan(["F0", "F0"], lambda stage, *_: ops[stage], inputs=lambda *_: (), num_sms=num_sms)


def assert_foreign_work_queues(trace):
    assert spans(trace, "foreign", stage=1) == [(25, 45)]
    assert spans(trace, "foreign", stage=0) == [(25, 29)]
    assert spans(trace, "pass") == [(0, 50), (0, 51)]


@EVERY_COMPUTE
def test_foreign_expert_work_is_served_first_come_first_served(num_sms):
    trace = run_plan(serving_plan(num_sms)).trace
    assert_foreign_work_queues(trace)
    assert spans(trace, "compute", stage=0) == [(0, 10), (10, 20), (45, 50)]
    assert spans(trace, "compute", stage=1) == [(0, 25), (45, 51)]


@EVERY_COMPUTE
def test_work_that_waits_for_a_rank_was_released_by_the_span_that_held_it(num_sms):
    trace = run_plan(serving_plan(num_sms)).trace
    (foreign,) = trace.rows("foreign", stage=1)
    own_kernel, own_experts = trace.rows("compute", stage=1)
    assert trace["released_by"][foreign] == own_kernel
    assert trace["released_by"][own_experts] == foreign


@EVERY_COMPUTE
def test_time_lent_to_another_stage_is_foreign_and_time_lost_to_one_is_stalled(num_sms):
    first, second = stages_ns(run_plan(serving_plan(num_sms)).trace)
    # Stage 0 waits from 20 to 45 for rank 1, of which it serves stage 1 for 4. Its experts are not above the mean.
    assert parts(first) == {"other_compute": 15, "expert": 10, "foreign": 4, "stalled": 21, "idle": 1}
    # Stage 1 waits from 25 to 45 while its rank serves stage 0; then 6 of experts, 1 above the mean of 5.
    assert parts(second) == {"other_compute": 25, "foreign": 20, "expert": 5, "imbalance": 1}


@EVERY_COMPUTE
def test_the_path_goes_through_the_rank_that_was_waited_for(num_sms):
    # 25 kernel of stage 1, 20 of experts for stage 0 (5 above the mean of 15), 6 of its own (1 above the mean of 5).
    assert parts(path_ns(run_plan(serving_plan(num_sms)).trace)) == {"other_compute": 25, "expert": 20, "imbalance": 6}


def test_claims_that_do_not_queue_are_noticed(monkeypatch):
    class Overlapping(RankCompute):
        def claim(self, ranks, duration_ns, *, now_ns):
            start = np.full(duration_ns.size, now_ns, dtype=np.int64)
            return start, start + duration_ns, np.full(duration_ns.size, -1, dtype=np.int64)

    monkeypatch.setattr(sim.engine.run_state, "RankCompute", Overlapping)
    with pytest.raises(AssertionError):
        assert_foreign_work_queues(run_plan(serving_plan()).trace)


@EVERY_COMPUTE
def test_a_rank_that_has_no_tokens_to_serve_is_not_asked_nor_waited_for(num_sms):
    ops = {0: [kernel(10), serve([0, 1], [10, 0])], 1: [kernel(100)]}
    plan = HandPlan(["F0", "F0"], lambda stage, *_: ops[stage], inputs=lambda *_: (), num_sms=num_sms)
    trace = run_plan(plan).trace
    assert spans(trace, "pass", stage=0) == [(0, 20)]
    assert spans(trace, "foreign") == []
    first, second = stages_ns(trace)
    # Of the experts' 10, 5 are above the mean of both ranks.
    assert parts(first) == {"other_compute": 10, "expert": 5, "imbalance": 5, "idle": 80}
    assert parts(second) == {"other_compute": 100}


@EVERY_COMPUTE
def test_two_lanes_of_a_stage_that_ask_at_one_time_are_served_in_their_order(num_sms):
    """Both ask both ranks at 5: each serves lane 0 for 4, to 9, then lane 1 for 2, to 11."""
    ops = {0: [kernel(5), serve([0, 1], [4, 4])], 1: [kernel(5), serve([0, 1], [2, 2])]}
    plan = HandPlan(["F0"], lambda _, lane, *__: ops[lane], lane_ranks=[[[0], [1]]], num_sms=num_sms)
    trace = run_plan(plan).trace
    assert spans(trace, "compute", lane=0) == [(0, 5), (5, 9)]
    assert spans(trace, "foreign", lane=0) == [(9, 11)]
    assert spans(trace, "compute", lane=1) == [(0, 5), (9, 11)]
    assert spans(trace, "foreign", lane=1) == [(5, 9)]
    assert spans(trace, "pass") == [(0, 9), (0, 11)]
    # Lane 0: 5 + 4, then 2 for lane 1. Lane 1: 5, 4 for lane 0, 2 of its own. The mean of both:
    assert parts(stages_ns(trace)[0]) == {"other_compute": 5, "expert": 3, "foreign": 3}


@EVERY_COMPUTE
def test_experts_without_any_tokens_take_no_time(num_sms):
    plan = HandPlan(["F0"], lambda *_: [kernel(10), serve([0], [0]), kernel(5)], num_sms=num_sms)
    assert run_plan(plan).trace.step_ns == 15


# --- ranks of a lane -------------------------------------------------------------------------------------------------


def test_a_lane_goes_as_fast_as_its_slowest_rank_and_the_rest_is_imbalance():
    plan = HandPlan(["F0"], lambda *_: [kernel(10, 20, 60)], lane_ranks=[[[0, 1, 2]]])
    trace = run_plan(plan).trace
    (row,) = trace.rows("compute")
    assert (trace["rank"][row], trace["imbalance_ns"][row], trace["base_ns"][row]) == (2, 30, 30)
    assert parts(stages_ns(trace)[0]) == {"other_compute": 30, "imbalance": 30}


@EVERY_COMPUTE
def test_a_rank_that_serves_others_delays_its_lane(num_sms):
    # Rank 1 of stage 0's lane serves stage 1 from 0 to 30, though rank 0 is free: the lane's kernel ends at 40.
    ops = {0: [exchange(make_transfer({0: 5}, [1])), kernel(10, 10)], 1: [serve([1, 2], [30, 1])]}
    plan = HandPlan(
        ["F0", "F0"],
        lambda stage, *_: ops[stage],
        lane_ranks=[[[0, 1]], [[2, 3]]],
        inputs=lambda *_: (),
        capacity=[1],
        num_sms=num_sms,
    )
    trace = run_plan(plan).trace
    assert spans(trace, "pass", stage=0) == [(0, 40)]
    assert trace["released_by"][trace.rows("compute", stage=0)].tolist() == trace.rows("foreign", stage=0).tolist()
    # Foreign is the mean over both ranks: 30 / 2 of the 30 ns before the kernel (2 while the transfer runs, rounded
    # down from 2.5, and 12 of the 25 after it), the rest of those are waits.
    assert parts(stages_ns(trace)[0]) == {"tp": 3, "foreign": 14, "stalled": 13, "other_compute": 10}


# --- transfers -------------------------------------------------------------------------------------------------------


def sharing_plan():
    """Two stages whose transfers of 100 bytes use one link of 1 byte/ns at the same time; latencies 5 and 10."""
    transfers = [make_transfer({0: 100}, [1], latency_ns=latency_ns) for latency_ns in (5, 10)]
    return HandPlan(["F0", "F0"], lambda stage, *_: [exchange(transfers[stage])], inputs=lambda *_: (), capacity=[1])


def assert_link_is_shared(trace):
    # 5..10 the first alone, then half each: it ends at 10 + 190 = 200; the second has 5 left and ends at 205.
    rows = trace.rows("comm")
    assert trace["end_ns"][rows].tolist() == [200, 205]
    assert trace["latency_ns"][rows].tolist() == [5, 10]
    assert trace["base_ns"][rows].tolist() == [100, 100]
    assert trace["contention_ns"][rows].tolist() == [95, 95]


def test_contention_is_the_time_beyond_the_time_alone():
    trace = run_plan(sharing_plan()).trace
    assert_link_is_shared(trace)
    assert trace.link_use.utilisation.max() == pytest.approx(1.0, rel=1e-12)


def alone_rates(weights, capacity):
    """Let every transfer run as if it were alone."""
    return np.array([max_min_rates([weight], capacity)[0] for weight in weights])


def test_a_network_that_ignores_sharing_is_noticed(monkeypatch):
    monkeypatch.setattr(FluidNetwork, "solved_rates", rates_by(alone_rates))
    trace = run_plan(sharing_plan()).trace
    with pytest.raises(AssertionError):
        assert_link_is_shared(trace)
    assert trace["contention_ns"].sum() == 0
    assert trace.link_use.utilisation.max() == pytest.approx(2.0)


def test_groups_of_a_lane_end_when_the_last_group_ends():
    groups = [make_transfer({link: size}, [1, 1], group=link) for link, size in ((0, 10), (1, 30))]
    plan = HandPlan(["F0"], lambda *_: [exchange(*groups), kernel(5)], capacity=[1, 1])
    trace = run_plan(plan).trace
    assert spans(trace, "comm") == [(0, 10), (0, 30)]
    assert spans(trace, "compute") == [(30, 35)]
    assert parts(stages_ns(trace)[0]) == {"tp": 30, "other_compute": 5}


def test_a_transfer_that_ends_a_fraction_early_has_no_negative_part():
    # 100.4 ns alone, rounded up to 101; ends at 100 with the other, which it meets on a link with room for both.
    groups = [
        make_transfer({link: size, 2: 1}, [1, 1, 9], group=link, flow_bytes=size)
        for link, size in ((0, 100), (1, 100.4))
    ]
    trace = run_plan(HandPlan(["F0"], lambda *_: [exchange(*groups)], capacity=[1, 1, 9])).trace
    rows = trace.rows("comm")
    assert trace["end_ns"][rows].tolist() == [100, 100]
    assert trace["base_ns"][rows].tolist() == [100, 100]


def test_imbalance_of_a_transfer_never_exceeds_its_duration():
    early = make_transfer({1: 100.4, 2: 1}, [1, 1, 9], group=1, flow_bytes=100.4)
    groups = [
        make_transfer({0: 100, 2: 1}, [1, 1, 9], flow_bytes=100),
        replace(early, imbalance_ns=early.alone_ns),
    ]
    trace = run_plan(HandPlan(["F0"], lambda *_: [exchange(*groups)], capacity=[1, 1, 9])).trace
    assert trace["base_ns"][trace.rows("comm")].tolist() == [100, 0]


# --- meetings --------------------------------------------------------------------------------------------------------


def meeting_plan(before_ns, *, num_lanes=2):
    """Lanes of one stage that compute for a while, then reduce together for 50 ns after a latency of 4."""
    rendezvous = RendezvousKey(key=("reduce",), members=tuple((0, lane) for lane in range(num_lanes)))
    together = make_transfer({0: 50}, [1], latency_ns=4, ranks=range(num_lanes))

    def ops(stage, lane, chosen):
        del stage, chosen
        return [kernel(before_ns[lane]), exchange(*([together] if lane == 0 else []), kind="dp", rendezvous=rendezvous)]

    return HandPlan(["F0"], ops, lane_ranks=[[[lane] for lane in range(num_lanes)]], capacity=[1])


@pytest.mark.parametrize("before_ns", [(10, 40), (40, 10), (30, 30), (1, 2, 3)])
def test_a_collective_over_lanes_starts_with_the_last_to_come(before_ns):
    trace = run_plan(meeting_plan(before_ns, num_lanes=len(before_ns))).trace
    last = max(before_ns)
    assert spans(trace, "comm") == [(last, last + 54)] * len(before_ns)
    released = trace["released_by"][trace.rows("comm")]
    assert set(trace["end_ns"][released].tolist()) == {last}


def test_early_lanes_of_a_meeting_are_stalled_and_its_bytes_count_once():
    run = run_plan(meeting_plan((10, 40)))
    # Lane 0 waits 30 ns, lane 1 none: 15 in the mean of the stage.
    assert parts(stages_ns(run.trace)[0]) == {"other_compute": 25, "stalled": 15, "dp": 50, "latency": 4}
    assert run.trace["bytes"].sum() == run.bytes_sent == run.bytes_received == 50


def test_the_path_of_a_meeting_goes_through_the_last_to_come():
    assert parts(path_ns(run_plan(meeting_plan((10, 40))).trace)) == {"other_compute": 40, "dp": 50, "latency": 4}
