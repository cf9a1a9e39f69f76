"""Lanes whose transfers take SMs: two lanes by hand, what breaks when nobody hears of it, and random plans."""

from dataclasses import replace

import numpy as np
import pytest
from handmade import HandPlan, exchange, kernel, make_transfer, serve
from hypothesis import given, settings
from hypothesis import strategies as st
from properties import PATIENT

import sim.engine.simulation
from sim.engine.simulation import run_plan
from sim.engine.slowed_compute import SlowedCompute
from sim.errors import SimulationError
from sim.plan.ops import Compute, RendezvousKey
from sim.results.path import path_ns
from sim.results.stages import stages_ns

NUM_SMS = 100
SPLIT = ("base_ns", "imbalance_ns", "contention_ns", "latency_ns")


def parts(account):
    """Return the parts of an account that are not 0."""
    return {part: ns for part, ns in account.items() if ns}


def spans(trace, stream, **where):
    """Return (start, end, contention) of the rows of a stream."""
    rows = trace.rows(stream, **where)
    names = ("start_ns", "end_ns", "contention_ns")
    return list(zip(*(trace[name][rows].tolist() for name in names), strict=True))


def chain(*kernels_ns):
    """Return an op of kernels that follow each other on one rank."""
    kernels = [kernel(duration_ns).kernels[0] for duration_ns in kernels_ns]
    return Compute(kernels=tuple(kernels))


def lanes_plan(*ops, num_sms=NUM_SMS, **how):
    """Return a plan of lanes that each run one pass, all from 0; link i is of 1 byte/ns."""
    return HandPlan(
        ["F0"] * len(ops), lambda stage, *_: ops[stage], inputs=lambda *_: (), capacity=[1, 1], num_sms=num_sms, **how
    )


def taking(num_sms, num_bytes, *ranks, link=0, latency_ns=0):
    """Return a transfer that takes SMs of `ranks` for its latency and a nanosecond for each byte."""
    return make_transfer({link: num_bytes}, [1, 1], latency_ns=latency_ns, ranks=ranks, num_sms=num_sms)


# --- a kernel of one lane and the transfer of another ----------------------------------------------------------------
# Lane 0 runs a kernel of 100 ns on rank 0. Lane 1 (rank 1) moves bytes over ranks 0 and 1, and waits for that.

BY_HAND = {
    # name: (ops of lane 1, end of the kernel)
    "all along: 100 / 0.8": ([exchange(taking(20, 400, 0, 1))], 125),
    "from 40 on: 40, then 60 / 0.8": ([kernel(40), exchange(taking(20, 400, 0, 1))], 115),
    "to 60, latency of 10 included: 48, then 52": ([exchange(taking(20, 50, 0, 1, latency_ns=10))], 112),
    "two of one batch, to 60 and to 100: 30, 28, then 42": (
        [exchange(taking(20, 60, 0, 1), taking(30, 100, 0, 1, link=1))],
        142,
    ),
    "two in turn, to 50 and to 90: 40, 28, then 32": (
        [exchange(taking(20, 50, 0, 1)), exchange(taking(30, 40, 0, 1))],
        122,
    ),
    "on the other lane's rank only": ([exchange(taking(20, 400, 1))], 100),
    "none": ([exchange(taking(0, 400, 0, 1))], 100),
}
CASES = pytest.mark.parametrize(("ops", "end_ns"), BY_HAND.values(), ids=BY_HAND.keys())


@CASES
@pytest.mark.parametrize("fidelity", ["bulk", "flow"])
def test_a_kernel_ends_when_worked_out_by_hand_and_what_it_lost_is_contention(ops, end_ns, fidelity):
    """The figures stand in the names of the cases; flow and bulk are the same for these transfers."""
    plan = lanes_plan([kernel(100)], ops)
    plan.fidelity = fidelity
    trace = run_plan(plan).trace
    assert spans(trace, "compute", stage=0) == [(0, end_ns, end_ns - 100)]
    assert parts(stages_ns(trace)[0]) == parts(
        {"other_compute": 100, "contention": end_ns - 100, "idle": trace.step_ns - end_ns}
    )


def test_a_kernel_of_the_lane_that_waits_for_its_transfer_is_not_slowed():
    """Lane 1 computes 40, moves bytes to 440, computes 10: its kernels never meet its transfer."""
    trace = run_plan(lanes_plan([kernel(100)], [kernel(40), exchange(taking(20, 400, 0, 1)), kernel(10)])).trace
    assert spans(trace, "compute", stage=1) == [(0, 40, 0), (440, 450, 0)]


def test_the_path_counts_contention_of_kernels():
    """Lane 1's transfer runs to 60: 48 of the kernel's 100 are done, the rest ends at 112, last of all."""
    trace = run_plan(lanes_plan([kernel(100)], [exchange(taking(20, 60, 0, 1))])).trace
    assert parts(path_ns(trace)) == {"other_compute": 100, "contention": 12}


def test_each_kernel_of_an_op_has_its_own_contention():
    """Half speed from 30 to 60: 20 by 20; of the second 10 by 30 and 15 of 40 more by 60, it ends at 75; then 10."""
    trace = run_plan(lanes_plan([chain(20, 40, 10)], [kernel(30), exchange(taking(50, 30, 0, 1))])).trace
    assert spans(trace, "compute", stage=0) == [(0, 20, 0), (20, 75, 15), (75, 85, 0)]
    rows = trace.rows("compute", stage=0)
    assert trace["released_by"][rows].tolist() == [-1, *rows[:-1].tolist()]


def test_the_row_of_an_op_shows_the_rank_that_ended_last():
    """Rank 1 has 90 to do, at 0.8: 112.5, after rank 0's 100. It is below the mean of 95, so nothing is imbalance."""
    plan = lanes_plan([kernel(100, 90)], [exchange(taking(20, 400, 1, 2))], lane_ranks=[[[0, 1]], [[2, 3]]])
    trace = run_plan(plan).trace
    (row,) = trace.rows("compute", stage=0)
    assert (trace["rank"][row], trace["end_ns"][row]) == (1, 113)
    assert [trace[name][row] for name in SPLIT] == [90, 0, 23, 0]


def test_a_send_takes_sms_at_both_ends_while_the_passes_go_on():
    """The hop of 100 ns that stage 0 sends at 10 takes 20 SMs of both ranks.

    stage 0   F0 0-10; F1 10-23 (10 / 0.8 = 12.5), whose hop shares the link from 23 on
    link      from 23 on half each; the first has 87 left and ends at 23 + 174 = 197; the second has 13, ends at 210
    stage 1   F0 197-210 at 0.8, 10 / 0.8 = 12.5; F1 210-220 with nobody left
    """
    hop = taking(20, 100, 0, 1)
    plan = HandPlan(["F0 F1"] * 2, lambda *_: [kernel(10)], capacity=[1, 1], hop=hop, num_sms=NUM_SMS)
    trace = run_plan(plan).trace
    assert spans(trace, "compute", stage=0) == [(0, 10, 0), (10, 23, 3)]
    assert [end_ns for _, end_ns, _ in spans(trace, "p2p")] == [197, 210]
    assert spans(trace, "compute", stage=1) == [(197, 210, 3), (210, 220, 0)]


@pytest.mark.parametrize("work", [kernel(100), serve([0], [100])], ids=["own", "service"])
def test_a_meeting_is_released_by_the_kernel_that_was_slowed_to_be_last(work):
    """Rank 0 works at 0.5 from 20 on: 20, then 80 / 0.5 = 160, to 180. Rank 1 works to 110; then both meet."""
    rendezvous = RendezvousKey(key=("rendezvous",), members=((0, 0), (1, 0)))
    together = make_transfer({1: 9}, [1, 1], ranks=(0, 1))
    trace = run_plan(
        lanes_plan(
            [work, exchange(together, kind="dp", rendezvous=rendezvous)],
            [kernel(110), exchange(kind="dp", rendezvous=rendezvous)],
            [kernel(20), exchange(taking(50, 400, 0, 2))],
        )
    ).trace
    (slowed,) = trace.rows("compute", stage=0)
    assert trace["end_ns"][slowed] == 180
    assert trace["released_by"][trace.rows("comm", stage=0)].tolist() == [slowed]
    assert trace["released_by"][trace.rows("comm", stage=1)].tolist() == [slowed]


def test_lanes_that_nobody_tells_of_transfers_are_noticed(monkeypatch):
    """Without the network's word the first case above ends at 100, not at 125."""

    class Deaf(SlowedCompute):
        def begin(self, transfer):
            del transfer

        end = begin

    monkeypatch.setattr(sim.engine.simulation, "SlowedCompute", Deaf)
    trace = run_plan(lanes_plan([kernel(100)], [exchange(taking(20, 400, 0, 1))])).trace
    assert spans(trace, "compute", stage=0) == [(0, 100, 0)]


# --- refused ---------------------------------------------------------------------------------------------------------


def test_transfers_that_take_all_sms_of_a_rank_are_refused():
    """60 and 40 of 100 on rank 1 from 7 on; rank 0 has 40 left."""
    plan = lanes_plan([kernel(100)], [kernel(7), exchange(taking(60, 9, 0, 1), taking(40, 9, 1, link=1))])
    with pytest.raises(SimulationError) as raised:
        run_plan(plan)
    assert str(raised.value) == (
        "transfers: those on a rank at one time must leave its kernels an SM, and take 100 of 100 on rank 1 at 7 ns "
        "(40 by one that begins then). Let each take fewer, or fewer run at once."
    )


@pytest.mark.parametrize(("num_bytes", "fits"), [(19, True), (20, False)])
def test_a_transfer_may_begin_at_the_nanosecond_in_which_another_ends(num_bytes, fits):
    """Lane 1's takes 60 of 100 SMs of rank 1 from 1 to 20 (or 21), lane 0's as many from 20 to 25.

    Lane 0's begins first, for its kernel's end was set first.
    """
    first, second = taking(60, num_bytes, 1), taking(60, 5, 0, 1, link=1)
    plan = lanes_plan([kernel(20), exchange(second)], [kernel(1), exchange(first)])
    if fits:
        assert run_plan(plan).trace.step_ns == 25
    else:
        with pytest.raises(SimulationError, match="take 120 of 100 on rank 1 at 20 ns"):
            run_plan(plan)


def test_transfers_that_take_sms_of_a_plan_without_any_are_refused():
    """Such a run would leave kernels at full speed."""
    plan = lanes_plan([exchange(taking(20, 9, 0))], num_sms=None)
    with pytest.raises(SimulationError, match=r"num_sms must be the SMs of a rank .* takes 20 on rank 0"):
        run_plan(plan)
    plan.fidelity = "flow"
    with pytest.raises(SimulationError, match="num_sms must be the SMs of a rank"):
        run_plan(plan)


# --- foreign expert work ---------------------------------------------------------------------------------------------


def serving_plan():
    """Two lanes that serve each other, and a third that moves bytes over its rank 2 and rank 1.

    rank 1   at 0.5 from 0 to 30, at 0.8 from 50 to 70
    rank 0   stage 0: 0-10 kernel, 10-20 its own experts; stage 1's experts 40-44; stage 0: 63-68 kernel
    rank 1   stage 1: 0-40 kernel of 25: 15 by 30, 10 more
             stage 0's experts of 20, requested at 10: 40-63: 10 by 50, 10 / 0.8 = 12.5 more
             stage 1's own experts of 6, requested at 40: 63-71: 5.6 by 70, 0.4 more
    """
    return lanes_plan(
        [kernel(10), serve([0, 1], [10, 20]), kernel(5)],
        [kernel(25), serve([0, 1], [4, 6])],
        [exchange(taking(50, 30, 1, 2)), kernel(20), exchange(taking(20, 20, 1, 2))],
    )


def test_foreign_expert_work_is_slowed_and_waits_for_what_is():
    """Rows of both lanes as derived at the plan."""
    trace = run_plan(serving_plan()).trace
    assert spans(trace, "compute", stage=0) == [(0, 10, 0), (10, 20, 0), (63, 68, 0)]
    assert spans(trace, "compute", stage=1) == [(0, 40, 15), (63, 71, 2)]
    assert spans(trace, "foreign", stage=0) == [(40, 44, 0)]
    assert spans(trace, "foreign", stage=1) == [(40, 63, 3)]
    (foreign,) = trace.rows("foreign", stage=1)
    own_kernel, own_experts = trace.rows("compute", stage=1)
    assert trace["released_by"][foreign] == own_kernel
    assert trace["released_by"][own_experts] == foreign


def test_slowed_foreign_work_is_foreign_to_its_host_and_contention_on_the_path():
    """The accounts of both lanes, and the path back from 71."""
    trace = run_plan(serving_plan()).trace
    first, second, _ = stages_ns(trace)
    # Stage 0 waits from 20 to 63, of which it serves stage 1 for 4; it ends at 68 of 71.
    assert parts(first) == {"other_compute": 15, "expert": 10, "foreign": 4, "stalled": 39, "idle": 3}
    # Stage 1: 25 + 15; 23 for stage 0; 6 of experts, 1 above the mean of 5, + 2.
    expected = {"other_compute": 25, "contention": 17, "foreign": 23, "expert": 5, "imbalance": 1}
    assert parts(second) == expected
    # Back from 71: 5 + 1 + 2 of stage 1's experts; 15 + 5 (above the mean of 15) + 3 of stage 0's; 25 + 15.
    assert parts(path_ns(trace)) == {"expert": 20, "imbalance": 6, "contention": 20, "other_compute": 25}


# --- random plans ----------------------------------------------------------------------------------------------------

NUM_LANES = 3
LANE = st.integers(0, NUM_LANES - 1)
KERNELS = st.builds(lambda took: chain(*took), st.lists(st.integers(0, 30), min_size=1, max_size=3))
SERVICES = st.builds(
    lambda requested: serve(list(requested), list(requested.values())),
    st.dictionaries(LANE, st.integers(0, 20), min_size=1),
)
TRANSFERS = st.builds(
    lambda num_sms, num_bytes, ranks, link, latency_ns: taking(
        num_sms, num_bytes, *sorted(ranks), link=link, latency_ns=latency_ns
    ),
    st.integers(0, 16),
    st.integers(1, 40),
    st.sets(LANE, min_size=1),
    st.integers(0, 1),
    st.integers(0, 10),
)
EXCHANGES = st.builds(lambda transfers: exchange(*transfers), st.lists(TRANSFERS, min_size=1, max_size=2))
PLANS = st.lists(
    st.lists(KERNELS | SERVICES | EXCHANGES, min_size=1, max_size=5), min_size=NUM_LANES, max_size=NUM_LANES
)
"""Ops of each lane; at most 2 transfers of 16 SMs each run at once for each of 3 lanes, 96 of 100 SMs."""


def transfers_of(ops):
    """Return the transfers of the lanes' ops in the order of the trace's rows of each lane."""
    return [[t for op in lane if hasattr(op, "transfers") for t in op.transfers] for lane in ops]


def speed_of(trace, ops, rank):
    """Return the SMs that `rank` has left for kernels in each nanosecond, from the trace's rows. Shape [T]."""
    left = np.full(trace.end_ns + 1, NUM_SMS)
    for stage, transfers in enumerate(transfers_of(ops)):
        for row, transfer in zip(trace.rows("comm", stage=stage), transfers, strict=True):
            if rank in transfer.ranks:
                left[trace["start_ns"][row] : trace["end_ns"][row]] -= transfer.num_sms
    return left


@settings(PATIENT, max_examples=300)
@given(PLANS)
def test_kernels_of_a_random_plan_do_their_work_one_at_a_time(ops):
    """The speed summed over each kernel's time is its work, within the rounding of its two ends."""
    trace = run_plan(lanes_plan(*ops)).trace
    start, end, rank, contention = (trace[name] for name in ("start_ns", "end_ns", "rank", "contention_ns"))
    assert (contention >= 0).all()
    assert (np.stack([trace[name] for name in SPLIT]).sum(axis=0) == end - start).all()
    assert trace["base_ns"].min() >= 0
    is_kernel = np.isin(trace["stream"], ("compute", "foreign"))
    for one in range(NUM_LANES):
        rows = np.flatnonzero(is_kernel & (rank == one))
        rows = rows[np.lexsort((end[rows], start[rows]))]
        assert (start[rows][1:] >= end[rows][:-1]).all()
        speed = speed_of(trace, ops, one)
        for row in rows:
            done = speed[start[row] : end[row]].sum() / NUM_SMS
            full_ns = end[row] - start[row] - contention[row]
            assert abs(done - full_ns) < 1  # both ends are rounded up by less than 1 ns
    for account in (path_ns(trace), *stages_ns(trace)):
        assert sum(account.values()) == trace.step_ns
        assert min(account.values()) >= 0


@PATIENT
@given(PLANS)
def test_transfers_that_take_no_sms_leave_every_row_as_it_is(ops):
    """All columns, and the number of events, are those of ranks whose ends are known."""
    without = [
        [
            replace(op, transfers=tuple(replace(t, num_sms=0) for t in op.transfers))
            if hasattr(op, "transfers")
            else op
            for op in lane
        ]
        for lane in ops
    ]
    plain, slowed = (run_plan(lanes_plan(*without, num_sms=num_sms)) for num_sms in (None, NUM_SMS))
    assert slowed.stats.num_events == plain.stats.num_events
    for name, column in plain.trace.columns.items():
        assert slowed.trace.columns[name].tolist() == column.tolist()
