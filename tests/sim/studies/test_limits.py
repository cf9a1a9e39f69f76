"""What a run needs, told before it starts, and limits on it."""

import pytest

from sim.engine.plan.pipeline import PipelinePlan
from sim.engine.simulation import run_plan
from sim.errors import SimulationError
from sim.scenario.load import load_scenario
from sim.studies.build import build
from sim.studies.judge import simulate
from sim.studies.limits import Limits, estimate_run

SMALL = ["alternatives=[]", "rivals=[]", "claims=[]"]


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("ep16_tp16_pp4", []),
        ("ep16_tp16_pp4", ["routing.kind=multinomial", "workload.batches=2"]),
        ("ep64_tp16_pp4", ["workload.batches=2"]),
        ("ep64_tp16_pp4_training", []),
        (
            "ep16_tp16_pp4",  # two replicas, of which one runs
            ["parallel.strategy=EP16_TP16_PP4_DP2", "cluster.num_nodes=16", "workload.sequences=256"],
        ),
    ],
)
def test_operations_are_counted_and_events_are_not_too_few(name, changes):
    """Exactly as many operations as run, and at most twice as many events."""
    work = build(load_scenario(name, overrides=changes)).work
    kinds = ("F", "B") if work.kind == "training" else ("F",)
    count, drawn = work.num_microbatches, work.routing != "balanced"
    found = estimate_run(PipelinePlan(work), kinds=kinds, num_microbatches=count, is_drawn=drawn)
    stats = run_plan(PipelinePlan(work), link_course=False).stats
    assert found.num_ops == stats.num_stage_ops
    assert stats.num_events <= found.num_events <= 2 * stats.num_events
    assert found.memory_bytes > 65e6


def test_a_run_that_would_need_more_events_is_refused_before_it_starts():
    """The limit, the estimate and the cure."""
    expected = (
        "the run must need at most 10,000 events, got about 17,728 (8,384 operations). "
        "Use fewer microbatches, batches or layers, or raise --max-events."
    )
    with pytest.raises(SimulationError) as refused:
        simulate("ep16_tp16_pp4", overrides=SMALL, limits=Limits(max_events=10_000))
    assert str(refused.value) == expected
    assert refused.value.exit_code == 3


def test_a_run_that_would_need_more_memory_is_refused_before_it_starts():
    """In the user's units."""
    with pytest.raises(SimulationError, match=r"the run must need at most 75 MB of memory, got about 78\.\d+ MB"):
        simulate("ep16_tp16_pp4", overrides=SMALL, limits=Limits(max_memory_bytes=75e6))


def test_a_run_within_its_limits_runs():
    """And gives what it gives without them."""
    limits = Limits(max_events=100_000, max_memory_bytes=1e9)
    limited, free = (simulate("ep16_tp16_pp4", overrides=SMALL, limits=one) for one in (limits, Limits()))
    assert limited.metrics == free.metrics


def test_an_alternative_over_the_limit_is_named_as_not_run():
    """The scenario itself runs, and its claim says which alternative could not be."""
    changes = ["rivals=[]", "alternatives=[{workload.microbatches: 32}]", "workload.batches=1"]
    result = simulate("ep64_tp16_pp4", overrides=changes, limits=Limits(max_events=6000))
    assert any(
        "workload.microbatches: 32" in finding and "at most 6,000 events" in finding for finding in result.findings
    )


def test_measured_passes_have_limits_too(tmp_path):
    """One operation for each pass: 2 x 4 stages x 8 microbatches."""
    times = "{F: 10 ms, B: 10 ms, W: 5 ms}"
    workload = f"{{kind: passes, microbatches: 8, pass_times: {times}, p2p: 0.6 ms}}"
    file = tmp_path / "passes.yaml"
    file.write_text(f"name: p\nparallel: {{pp: 4}}\nworkload: {workload}\nschedule: {{kind: 1f1b}}\n", encoding="utf-8")
    with pytest.raises(SimulationError, match=r"at most 100 events, got about 320 \(64 operations\)"):
        simulate(file, limits=Limits(max_events=100))
    with pytest.raises(SimulationError, match=r"at most 10 events, got at least 64 \(64 operations\)"):
        simulate(file, limits=Limits(max_events=10))
