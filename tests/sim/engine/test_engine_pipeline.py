"""Pipelines of uniform stages: the published bubble to the nanosecond, and hops by hand."""

from fractions import Fraction

import pytest
from handmade import HandPlan, exchange, kernel, make_transfer

from sim.build.passes_work import PassesWork
from sim.engine.simulation import run_plan
from sim.plan.passes import PassesPlan
from sim.results.metrics import RunQuantities, metrics_of
from sim.results.path import path_ns
from sim.results.stages import stages_ns
from workloads.schedules import SCHEDULES

F_NS, B_NS = 3000, 5000


def quantities(num_gpus, *, batches=1, microbatches=1, batch_tokens=0):
    """Facts of a run that has no model."""
    return RunQuantities(
        num_gpus=num_gpus,
        batch_tokens=batch_tokens,
        batches=batches,
        microbatches=microbatches,
        model_flops=0.0,
        model_flops_causal=0.0,
        peak_flops_per_s=1.0,
        num_params=0,
        num_active_params=0,
        num_params_per_gpu=0,
        imbalance_max_over_mean=1.0,
    )


def run_uniform(schedule, num_stages, num_microbatches, *, hop_ns=0):
    plan = PassesPlan(
        PassesWork(
            pass_times_s=[(F_NS / 1e9, B_NS / 1e9, 0.0)] * num_stages,
            num_microbatches=num_microbatches,
            p2p_s=hop_ns / 1e9,
            schedule=schedule,
        )
    )
    return run_plan(plan).trace


@pytest.mark.parametrize("schedule", ["gpipe", "1f1b"])
@pytest.mark.parametrize("p", range(2, 9))
def test_the_bubble_of_uniform_stages_is_the_published_one(schedule, p):
    # Huang et al. 2019, section 2; Narayanan et al. 2021, section 2.2.
    for m in range(p, 33):
        trace = run_uniform(schedule, p, m)
        accounts = stages_ns(trace)
        metrics = metrics_of(trace, accounts, quantities(p, microbatches=m))
        bubble = Fraction(p - 1, m + p - 1)
        assert trace.step_ns == (m + p - 1) * (F_NS + B_NS)
        assert [account["idle"] for account in accounts] == [(p - 1) * (F_NS + B_NS)] * p
        assert [account["other_compute"] for account in accounts] == [m * (F_NS + B_NS)] * p
        assert metrics["bubble_fraction"] == pytest.approx(float(bubble), abs=1e-12)
        assert metrics["bubble_fraction_published_form"] == pytest.approx(float(bubble), abs=1e-12)
        assert metrics["stall_fraction"] == metrics["foreign_fraction"] == 0.0


@pytest.mark.parametrize("schedule", ["gpipe", "1f1b"])
@pytest.mark.parametrize("m", [1, 2, 3])
def test_fewer_microbatches_than_stages_leave_the_bubble_of_the_formula(schedule, m):
    trace = run_uniform(schedule, 4, m)
    assert trace.step_ns == (m + 3) * (F_NS + B_NS)


@pytest.mark.parametrize(
    "schedule", [kind for kind, family in SCHEDULES.items() if family.layout_on(2).num_copies == 1]
)
def test_a_single_stage_has_no_bubble(schedule):
    trace = run_uniform(schedule, 1, 7)
    assert trace.step_ns == 7 * (F_NS + B_NS)
    assert stages_ns(trace)[0]["idle"] == 0


@pytest.mark.parametrize("hop_ns", [0, 7, 1000])
def test_two_stages_pay_two_hops_of_latency_in_1f1b_with_one_microbatch(hop_ns):
    trace = run_uniform("1f1b", 2, 1, hop_ns=hop_ns)
    assert trace.step_ns == 2 * (F_NS + B_NS) + 2 * hop_ns
    account = path_ns(trace)
    assert (account["latency"], account["other_compute"]) == (2 * hop_ns, 2 * (F_NS + B_NS))


def test_hops_between_two_stages_are_those_worked_out_by_hand():
    # F 10, B 20, hop 3, 1F1B with two microbatches:
    #   stage 0   F0 0-10  F1 10-20             B0 46-66  B1 76-96
    #   stage 1   F0 13-23 B0 23-43 F1 43-53 B1 53-73
    # stage 0 waits for B0 until 43 + 3 and for B1 until 73 + 3.
    plan = PassesPlan(
        PassesWork(pass_times_s=[(10e-9, 20e-9, 0.0)] * 2, num_microbatches=2, p2p_s=3e-9, schedule="1f1b")
    )
    trace = run_plan(plan).trace
    spans = [
        [(int(trace["start_ns"][row]), int(trace["end_ns"][row])) for row in trace.rows("pass", stage=stage)]
        for stage in (0, 1)
    ]
    assert spans == [[(0, 10), (10, 20), (46, 66), (76, 96)], [(13, 23), (23, 43), (43, 53), (53, 73)]]
    assert path_ns(trace) == {**dict.fromkeys(path_ns(trace), 0), "other_compute": 90, "latency": 6}
    assert [account["idle"] for account in stages_ns(trace)] == [96 - 60, 96 - 60]


def test_a_slow_stage_sets_the_pace_and_the_others_idle():
    # F + B = 8 us on stages 0 and 2, 16 us on stage 1. GPipe: stage 1 is busy from 3 us (F of stage 0) without a gap
    # until its last B, after which stage 0 has its last B: 3 + 4 * 6 + ... is longest through stage 1.
    times = [(3e-6, 5e-6, 0.0), (6e-6, 10e-6, 0.0), (3e-6, 5e-6, 0.0)]
    m = 4
    trace = run_plan(PassesPlan(PassesWork(pass_times_s=times, num_microbatches=m, p2p_s=0.0, schedule="gpipe"))).trace
    # Forward: 3 + m * 6, then F of the last microbatch 3 and B of the first 5 on stage 2, then m * 10 and 5.
    assert trace.step_ns == 3000 + m * 6000 + 3000 + 5000 + m * 10_000 + 5000
    assert [account["other_compute"] for account in stages_ns(trace)] == [m * 8000, m * 16_000, m * 8000]


@pytest.mark.parametrize("schedule", [kind for kind, family in SCHEDULES.items() if not family.splits_backward])
def test_a_schedule_that_does_not_split_the_backward_pass_does_w_with_b(schedule):
    split = [(3e-6, 2e-6, 3e-6)] * 4
    whole = [(3e-6, 5e-6, 0.0)] * 4
    steps = [
        run_plan(
            PassesPlan(PassesWork(pass_times_s=times, num_microbatches=4, p2p_s=1e-7, schedule=schedule))
        ).trace.step_ns
        for times in (split, whole)
    ]
    assert steps[0] == steps[1]


@pytest.mark.parametrize("k", [2, 5])
def test_scaling_all_times_scales_the_step(k):
    base = run_uniform("1f1b", 4, 6, hop_ns=100).step_ns
    plan = PassesPlan(
        PassesWork(
            pass_times_s=[(k * F_NS / 1e9, k * B_NS / 1e9, 0.0)] * 4,
            num_microbatches=6,
            p2p_s=k * 100e-9,
            schedule="1f1b",
        )
    )
    assert run_plan(plan).trace.step_ns == k * base


def test_a_send_holds_nobody_up_on_its_own_side():
    # The hop takes 100 ns; stage 0 runs its passes back to back all the same, and stage 1 starts 100 ns later.
    hop = make_transfer({0: 100}, [1])
    plan = HandPlan(["F0 F1", "F0 F1"], lambda *_: [kernel(10)], capacity=[1], hop=hop)
    trace = run_plan(plan).trace
    starts = [trace["start_ns"][trace.rows("pass", stage=stage)].tolist() for stage in (0, 1)]
    # Both hops share the link: the first has 90 of 100 bytes left when the second starts at 20, then each gets half:
    # the first ends at 20 + 180, the second then has 10 bytes left and ends at 210.
    assert starts == [[0, 10], [200, 210]]


def test_what_follows_the_passes_runs_after_the_last_of_them():
    update = kernel(7, kind="optimizer")
    plan = HandPlan(["F0 F1"], lambda *_: [kernel(10)], after=lambda *_: [update])
    trace = run_plan(plan).trace
    row = trace.rows("pass")[-1]
    assert (trace["kind"][row], trace["start_ns"][row], trace["end_ns"][row]) == ("O", 20, 27)
    assert stages_ns(trace)[0]["optimizer"] == 7


def test_the_gap_before_a_pass_is_idle_and_the_gap_inside_is_not():
    # Stage 1 waits 10 ns for stage 0 (idle), then its pass holds a transfer of 20 ns (tp).
    plan = HandPlan(
        ["F0", "F0"],
        lambda stage, *_: [kernel(10), *([exchange(make_transfer({0: 20}, [1]))] if stage else [])],
        capacity=[1],
    )
    account = stages_ns(run_plan(plan).trace)[1]
    assert {part: ns for part, ns in account.items() if ns} == {"idle": 10, "other_compute": 10, "tp": 20}
