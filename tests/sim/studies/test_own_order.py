"""`schedule: {kind: custom, file: ...}`: the file beside the scenario is run; errors carry its name and line."""

import pytest

from sim.engine.simulation import run_plan
from sim.errors import InputError
from sim.scenario.load import load_scenario
from sim.studies.build import build_passes
from sim.studies.schedules import compare_schedules

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
    assert run_plan(build_passes(scenario)).trace.step_ns == 90


def test_all_other_schedules_stand_beside_an_own_one(tmp_path):
    """They read no file."""
    found = compare_schedules(written(tmp_path, "F0 F1 B0 B1\nF0 F1 B0 B1\n"))
    rows = {row.schedule: row.trace.step_ns for row in found.rows}
    assert rows["custom"] == rows["gpipe"] == 90
    assert {"1f1b", "zb_h1", "zb_v"} <= rows.keys()


def test_an_error_names_the_line_of_the_order(tmp_path):
    scenario = written(tmp_path, "F0 F1 B0 B1\nF0 F1 B0 Q1\n")
    with pytest.raises(InputError) as refusal:
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
    with pytest.raises(InputError, match=says):
        build_passes(written(tmp_path, "F0 F1 B0 B1\nF0 F1 B0 B1\n", text))


@pytest.mark.parametrize(
    ("file", "rule"),
    [
        ("../outside.txt", "be in the scenario's folder"),
        ("link.txt", "be in the scenario's folder"),
        ("folder", "exist"),
    ],
)
def test_a_file_outside_the_scenarios_folder_is_not_read(tmp_path, file, rule):
    (tmp_path / "outside.txt").write_text("F0 F1 B0 B1\nF0 F1 B0 B1\n", encoding="utf-8")
    inside = tmp_path / "inside"
    (inside / "folder").mkdir(parents=True)
    (inside / "link.txt").symlink_to(tmp_path / "outside.txt")
    text = SCENARIO.replace("order.txt", file)
    with pytest.raises(InputError, match=rf"own.yaml:4: schedule.file must {rule}, got"):
        build_passes(written(inside, "", text))


def test_a_file_that_is_no_text_is_refused(tmp_path):
    scenario = written(tmp_path, "")
    (tmp_path / "order.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"schedule.file must be readable text"):
        build_passes(scenario)
