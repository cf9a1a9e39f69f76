"""`schedule: {kind: custom, file: ...}`: the file next to the scenario is run; errors carry its name and line."""

import pytest

from sim.build.build import build, build_passes
from sim.engine.simulation import run_plan
from sim.errors import InvalidValueError
from sim.plan.passes import PassesPlan
from sim.plan.pipeline import PipelinePlan
from sim.run.simulate import simulate_scenario
from sim.scenario.load import load_scenario
from sim.studies.schedules import compare_schedules
from workloads.schedules.custom import format_step

SCENARIO = """name: own
parallel: {pp: 2}
workload: {kind: passes, microbatches: 2, pass_times: {F: 10 ns, B: 20 ns}}
schedule: {kind: custom, file: order.txt}
"""


def written(folder, order, scenario=SCENARIO):
    """Write both files and return the scenario."""
    (folder / "order.txt").write_text(order, encoding="utf-8")
    (folder / "own.yaml").write_text(scenario, encoding="utf-8")
    return load_scenario(folder / "own.yaml")


def test_an_own_order_takes_the_time_worked_out_by_hand(tmp_path):
    """GPipe on two stages: (m + p - 1)(F + B) = 3 * 30 ns."""
    scenario = written(tmp_path, "F0 F1 B0 B1\nF0 F1 B0 B1\n")
    assert run_plan(PassesPlan(build_passes(scenario))).trace.step_ns == 90


def test_all_other_schedules_stand_beside_an_own_one(tmp_path):
    """They read no file."""
    found = compare_schedules(written(tmp_path, "F0 F1 B0 B1\nF0 F1 B0 B1\n"))
    rows = {row.schedule: row.trace.step_ns for row in found.rows}
    assert rows["custom"] == rows["gpipe"] == 90
    assert {"1f1b", "zb_h1", "zb_v"} <= rows.keys()


def test_an_error_names_the_line_of_the_order(tmp_path):
    scenario = written(tmp_path, "F0 F1 B0 B1\nF0 F1 B0 Q1\n")
    with pytest.raises(InvalidValueError) as refusal:
        build_passes(scenario)
    assert (refusal.value.line, str(refusal.value.file).endswith("order.txt")) == (2, True)


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("{kind: custom}", "schedule.file must be given with schedule.kind custom"),
        ("{kind: 1f1b, file: order.txt}", "schedule.file must be left out with schedule.kind 1f1b"),
        ("{kind: custom, file: other.txt}", "schedule.file must exist, got other.txt"),
        ("{kind: interleaved}", "parallel.vpp must be given with schedule.kind interleaved"),
    ],
)
def test_what_does_not_go_with_the_schedule_is_refused(tmp_path, kind, says):
    text = SCENARIO.replace("{kind: custom, file: order.txt}", kind)
    with pytest.raises(InvalidValueError, match=says):
        build_passes(written(tmp_path, "F0 F1 B0 B1\nF0 F1 B0 B1\n", text))


@pytest.mark.parametrize(
    ("file", "rule"),
    [
        ("../outside.txt", "be in the scenario's folder"),
        ("link.txt", "be in the scenario's folder"),
        ("folder", "be a regular file"),
    ],
)
def test_a_file_outside_the_scenarios_folder_is_not_read(tmp_path, file, rule):
    (tmp_path / "outside.txt").write_text("F0 F1 B0 B1\nF0 F1 B0 B1\n", encoding="utf-8")
    inside = tmp_path / "inside"
    (inside / "folder").mkdir(parents=True)
    (inside / "link.txt").symlink_to(tmp_path / "outside.txt")
    text = SCENARIO.replace("order.txt", file)
    with pytest.raises(InvalidValueError, match=rf"own.yaml:4: schedule.file must {rule}, got"):
        build_passes(written(inside, "", text))


def test_a_file_that_is_no_text_is_refused(tmp_path):
    scenario = written(tmp_path, "")
    (tmp_path / "order.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidValueError, match=r"order.txt:1: the file must be UTF-8 text"):
        build_passes(scenario)


MODEL = """name: own
cluster: {preset: dgx-h100, num_nodes: 1}
model: {layers: 4, hidden: 256, heads: 8, ffn: 512, vocab: 1024, experts: 4, top_k: 2}
parallel: {strategy: EP4_TP1_PP2_DP4}
workload: {kind: training, sequences: 8, sequence_length: 64, microbatches: 2}
schedule: {kind: custom, file: order.txt}
"""
GPIPE = "F0 F1 B0 B1\nF0 F1 B0 B1\n"


def step_ns(scenario):
    """Return the step time of a model."""
    return run_plan(PipelinePlan(build(scenario).work)).trace.step_ns


def test_a_model_under_an_own_order_takes_as_long_as_under_the_schedule_of_that_order(tmp_path):
    own = step_ns(written(tmp_path, GPIPE, MODEL))
    known = step_ns(written(tmp_path, "", MODEL.replace("{kind: custom, file: order.txt}", "{kind: gpipe}")))
    assert own == known


@pytest.mark.parametrize(("kind", "chunk_order"), [("zb_v", "vee"), ("dualpipe", "both_ways")])
def test_a_model_under_an_own_order_has_its_chunks_where_it_says(tmp_path, kind, chunk_order):
    text = MODEL.replace("sequences: 8", "sequences: 16").replace("microbatches: 2", "microbatches: 4")
    known = build(written(tmp_path, "", text.replace("{kind: custom, file: order.txt}", f"{{kind: {kind}}}"))).work
    order = PipelinePlan(known).pipeline_order.order
    lines = "\n".join(" ".join(format_step(step) for step in steps) for steps in order)
    own = build(written(tmp_path, lines, text.replace("order.txt}", f"order.txt, chunk_order: {chunk_order}}}"))).work
    assert [list(own.layers_of(stage)) for stage in (0, 1)] == [list(known.layers_of(stage)) for stage in (0, 1)]
    assert run_plan(PipelinePlan(own)).trace.step_ns == run_plan(PipelinePlan(known)).trace.step_ns


@pytest.mark.parametrize("order", [GPIPE, "F0 F1\nF0 F1\n"], ids=["with B", "without"])
def test_a_forward_run_needs_forward_passes_alone(tmp_path, order):
    text = MODEL.replace("kind: training", "kind: forward")
    assert step_ns(written(tmp_path, order, text)) > 0


def test_training_needs_every_backward_pass(tmp_path):
    with pytest.raises(InvalidValueError, match=r"passes must hold F and B of every microbatch and chunk, got no B0"):
        build(written(tmp_path, "F0 F1\nF0 F1\n", MODEL))


def test_a_time_of_pairs_under_a_schedule_without_any_is_a_warning(tmp_path):
    text = SCENARIO.replace("B: 20 ns}", "B: 20 ns, FB: 25 ns}")
    without = written(tmp_path, "F0 F1 B0 B1\nF0 F1 B0 B1\n", text)
    assert simulate_scenario(without).warnings == [
        "workload.pass_times.FB means nothing with schedule.kind custom: it runs no pairs."
    ]
    paired = written(tmp_path, "F0 F1+B0 B1\nF0 B0 F1 B1\n", text.replace("pp: 2", "pp: 1"))
    (tmp_path / "order.txt").write_text("F0 F1+B0 B1\n", encoding="utf-8")
    assert simulate_scenario(paired).warnings == []


def test_passes_that_take_no_time_at_all_are_refused(tmp_path):
    with pytest.raises(
        InvalidValueError, match=r"workload.pass_times must take time on one stage at least, got 0 everywhere"
    ):
        written(tmp_path, "F0 B0", SCENARIO.replace("10 ns", "0 ns").replace("20 ns", "0 ns"))
