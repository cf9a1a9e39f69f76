"""The engine runs every schedule as the list executor does, to the nanosecond, and its trace shows chunks and pairs."""

import random
from pathlib import Path

import pytest
from schedule_runs import durations, max_in_flight, run_order, visits_of_stage

from sim.build.build import build_passes
from sim.build.passes_work import PassesWork
from sim.engine.simulation import run_plan
from sim.plan.passes import PassesPlan
from sim.results.stages import stages_ns
from sim.scenario.load import load_scenario
from workloads.schedules import SCHEDULES, Pipeline, build_pipeline_order


def plan_of(kind, p, m, times, *, v=1, hop=0, pair=None):
    """Return a plan of uniform stages, whose times are in ns."""
    return PassesPlan(
        PassesWork(
            pass_times_s=[tuple(time / 1e9 for time in times)] * p,
            num_microbatches=m,
            p2p_s=hop / 1e9,
            schedule=kind,
            num_chunks=v,
            pair_s=None if pair is None else [pair / 1e9] * p,
        )
    )


def spans_in(trace):
    """Return start and end of each step by stage, as the trace has them: both passes of a pair at one time."""
    rows = [trace.rows("pass", stage=stage) for stage in range(trace.num_stages)]
    return [sorted({*zip(trace["start_ns"][of].tolist(), trace["end_ns"][of].tolist(), strict=True)}) for of in rows]


@pytest.mark.parametrize("kind", SCHEDULES)
def test_the_engine_and_the_list_executor_agree(kind):
    draw = random.Random(kind)
    for _ in range(8):
        p = 2 * draw.randint(1, 3)
        m = 2 * draw.randint(p, p + 3)
        v = draw.choice([1, 2, 3]) if SCHEDULES[kind].num_chunks is None else 1
        chunks = visits_of_stage(build_pipeline_order(kind, Pipeline(num_stages=p, num_microbatches=m, num_chunks=v)))
        times, hop = tuple(draw.randint(1, 40) for _ in range(3)), draw.choice([0, 3])
        pair = draw.randint(max(times), sum(times))
        plan = plan_of(kind, p, m, [chunks * time for time in times], v=v, hop=hop, pair=chunks * pair)
        order = plan.pipeline_order.order
        assert spans_in(run_plan(plan).trace) == run_order(kind, order, durations(order, times, pair), v=v, hop=hop)


@pytest.mark.parametrize("kind", SCHEDULES)
def test_all_of_a_stages_time_is_compute_or_idle(kind):
    trace = run_plan(plan_of(kind, 4, 8, (30, 30, 20), hop=2, v=2 if SCHEDULES[kind].num_chunks is None else 1)).trace
    for account in stages_ns(trace):
        assert account["other_compute"] == 8 * 80
        assert account["other_compute"] + account["idle"] == trace.step_ns


def test_a_pair_is_two_rows_that_run_at_one_time():
    trace = run_plan(plan_of("dualpipe_v", 1, 2, (40, 40, 20), pair=80)).trace
    rows = trace.rows("pass", stage=0)
    assert trace["kind"][rows].tolist() == ["F", "F", "F", "B", "F", "B", "B", "B", "W"]
    f, b = rows[4:6]
    assert [(int(trace["microbatch"][row]), int(trace["chunk"][row])) for row in (f, b)] == [(1, 1), (0, 0)]
    assert all(int(trace[name][f]) == int(trace[name][b]) for name in ("start_ns", "end_ns"))
    assert int(trace["end_ns"][f] - trace["start_ns"][f]) == 40


def test_what_goes_to_another_chunk_of_a_stage_is_not_sent():
    """In the V shape the last stage sends to itself, and the first stage has the last chunk: 4 (p - 1) hops each."""
    trace = run_plan(plan_of("zb_v", 4, 8, (30, 30, 20), hop=5)).trace
    assert len(trace.rows("p2p")) == 8 * 4 * 3


def test_interleaving_sends_v_times_as_often_as_1f1b():
    hops = [len(run_plan(plan_of(kind, 4, 8, (30, 30, 0), hop=5, v=3)).trace.rows("p2p")) for kind in ("interleaved",)]
    assert hops == [8 * 2 * (4 * 3 - 1)]


@pytest.mark.parametrize("case", ["zero_bubble_1p5b_zb_2p", "zero_bubble_14p6b_zb_2p"])
def test_the_published_zb_2p_cases_stay_within_2p_activations(case):
    """The certificate of the validation cases: at every step at most 2 p M_B, what W keeps included."""
    scenario = load_scenario(Path(__file__).parents[2] / "scenarios" / "validation" / "schedules" / f"{case}.yaml")
    held = scenario.spec.workload.held
    plan = PassesPlan(build_passes(scenario))
    assert max_in_flight(plan.pipeline_order.order, weight_share=held.W / held.B) <= 2 * plan.num_stages + 1e-6
