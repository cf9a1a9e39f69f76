"""What would fit: predicted by the account of memory alone, and compared with simulations."""

import pytest

from sim.build.build import build
from sim.run.simulate import simulate_scenario
from sim.scenario.load import load_scenario_text
from sim.studies.claims import judge_scenario
from sim.studies.fitting import say_what_fits, what_would_fit
from sim.studies.order_memory import predict_memory
from workloads.schedules import SCHEDULES

TEXT = """
cluster: {preset: dgx-h100, num_nodes: 2}
model: {layers: 8, hidden: 1024, heads: 16, ffn: 4096, experts: 8, top_k: 2, vocab: 32000}
parallel: {strategy: EP4_TP1_PP4_DP4}
workload: {kind: training, sequences: 64, sequence_length: 2048, microbatches: 8}
routing: {kind: balanced}
"""


def load(*changes):
    return load_scenario_text(TEXT, overrides=changes)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("change", ["parallel.zero=2", "schedule.recompute=full", "workload.microbatches=16"])
def test_predicted_memory_is_that_of_the_simulation(schedule, change):
    """Where routing is balanced the schedule alone decides."""
    chunks = ["parallel.vpp=2"] if SCHEDULES[schedule].num_chunks is None else []
    change = (
        "parallel.zero=1"
        if SCHEDULES[schedule].layout_on(2).num_copies == 2 and change == "parallel.zero=2"
        else change
    )
    scenario = load(f"schedule.kind={schedule}", *chunks, change)
    simulated, predicted = simulate_scenario(scenario).memory, predict_memory(build(scenario).work)
    assert predicted["peak_bytes_per_gpu"] == simulated["peak_bytes_per_gpu"]
    assert predicted["peak_stage"] == simulated["peak_stage"]


@pytest.mark.parametrize("schedule", ["gpipe", "1f1b", "interleaved", "breadth_first", "zb_h2"])
def test_of_many_microbatches_the_peak_follows_from_fewer(schedule):
    """37 on four stages: from 17 and 33."""
    chunks = ["parallel.vpp=2"] if schedule in {"interleaved", "breadth_first"} else []
    many = ["workload.sequences=148", "workload.microbatches=37", "workload.sequence_length=64"]
    scenario = load(f"schedule.kind={schedule}", *chunks, *many)
    simulated, predicted = simulate_scenario(scenario).memory, predict_memory(build(scenario).work)
    assert predicted["peak_bytes_per_gpu"] == simulated["peak_bytes_per_gpu"]


def test_what_a_run_needs_more_of_is_asked_of_that_part_alone():
    """Random routing has a hottest rank; what is proposed is within a fiftieth of what its own simulation needs."""
    tight = load("schedule.kind=gpipe", "cluster.device.memory=5.5 GB", "routing.kind=zipf", "routing.skew=0.5")
    found = what_would_fit(tight, build(tight).work, simulate_scenario(tight).memory)
    assert found
    for one in found:
        memory = simulate_scenario(tight.variant(one["set"])).memory
        assert memory["peak_bytes_per_gpu"]["total"] == pytest.approx(one["total_bytes"], rel=0.02)


def test_schedules_with_chunks_and_more_chunks_are_tried():
    """Of interleaved stages more chunks hold less; GPipe's fit as interleaved ones, with the chunks that these need."""
    gpipe = load("schedule.kind=gpipe", "cluster.device.memory=5.5 GB")
    tried = [one["set"] for one in what_would_fit(gpipe, build(gpipe).work, simulate_scenario(gpipe).memory)]
    assert {"schedule.kind": "interleaved", "parallel.vpp": 2} in tried
    text = [
        "schedule.kind=interleaved",
        "parallel.vpp=2",
        "model.layers=32",
        "model.experts=0",
        "model.top_k=null",
        "parallel.strategy=PP4_DP4",
    ]
    two = load(*text)
    peaks = [predict_memory(build(two.variant({"parallel.vpp": v})).work)["peak_bytes_per_gpu"] for v in (2, 4)]
    between = (peaks[0]["total"] + peaks[1]["total"]) / 2
    assert peaks[1]["total"] < between < peaks[0]["total"]
    memory = {"peak_bytes_per_gpu": peaks[0], "capacity_bytes": between}
    assert {"parallel.vpp": 4} in [one["set"] for one in what_would_fit(two, build(two).work, memory)]


def test_what_is_said_to_fit_fits_when_it_is_simulated():
    """Each change is run in full."""
    tight = load("schedule.kind=gpipe", "cluster.device.memory=5.5 GB")
    simulated = simulate_scenario(tight)
    assert not simulated.memory["fits"]
    found = what_would_fit(tight, build(tight).work, simulated.memory)
    assert found
    for one in found:
        memory = simulate_scenario(tight.variant(one["set"])).memory
        assert memory["fits"]
        assert memory["peak_bytes_per_gpu"]["total"] == pytest.approx(one["total_bytes"], rel=0.01)


def test_nothing_is_said_to_fit_where_weights_alone_do_not():
    """Then nothing is proposed."""
    tight = load("cluster.device.memory=20 MB")
    assert what_would_fit(tight, build(tight).work, simulate_scenario(tight).memory) == []


def test_a_run_that_does_not_fit_says_so_first_and_is_no_optimum():
    """It is a finding with what would fit, the exit code stays that of the claims."""
    claim = "claims=[{id: best, says: optimal, source: here, metric: step_time_s, superlative: least}]"
    result = judge_scenario(load("cluster.device.memory=4.5 GB", claim, "rivals=[{parallel.zero: 1}]"))
    assert result.findings[0].startswith("It does not fit into memory, and is no valid strategy: rank 0 of stage 0")
    assert result.memory["would_fit"]
    assert result.claims[0].verdict == "refuted"
    assert "does not fit into memory" in result.claims[0].reason


def test_schedules_are_tried_as_they_enter_the_table():
    """1F1B keeps fewer microbatches than GPipe."""
    tight = load("schedule.kind=gpipe", "cluster.device.memory=5.5 GB")
    tried = [one["set"] for one in what_would_fit(tight, build(tight).work, simulate_scenario(tight).memory)]
    assert {"schedule.kind": "1f1b"} in tried
    assert {one["schedule.kind"] for one in tried if "schedule.kind" in one} <= set(SCHEDULES)


def test_more_passes_than_are_soon_counted_are_not_tried_and_it_says_so():
    """It does not claim that nothing is enough."""
    text = [
        "cluster.num_nodes=16",
        "model.layers=128",
        "model.experts=0",
        "model.top_k=null",
        "parallel.strategy=PP128",
    ]
    many = load(*text, "workload.sequences=2048", "workload.microbatches=2048")
    found = what_would_fit(many, build(many).work, {"capacity_bytes": 1.0, "peak_bytes_per_gpu": {"total": 2}})
    assert found is None
    assert say_what_fits(found).startswith("What would fit was not tried")
