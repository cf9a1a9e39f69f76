"""Runs next to each other: differences sum to the whole, saved results say what simulations said, refusals."""

import json
import re

import pytest

from sim.cli.run import run_command
from sim.cli.why import compare_command
from sim.errors import InvalidValueError
from sim.studies.compare import compare_runs

PASSES = """
name: {name}
parallel: {{pp: 2}}
workload: {{kind: passes, microbatches: {microbatches}, pass_times: {{F: 1 ms, B: 2 ms, W: 0 ms}}}}
schedule: {{kind: {schedule}}}
"""


@pytest.fixture
def scenarios(tmp_path):
    """Two files: GPipe with 3 microbatches, and 1F1B with 6."""
    files = []
    for name, microbatches, schedule in (("short", 3, "gpipe"), ("long", 6, "1f1b")):
        file = tmp_path / f"{name}.yaml"
        file.write_text(PASSES.format(name=name, microbatches=microbatches, schedule=schedule), "utf-8")
        files.append(str(file))
    return files


def test_differences_by_hand(scenarios):
    data = compare_runs(scenarios).to_dict()
    (difference,) = data["differences"]
    assert [sum(run["parts_s"].values()) for run in data["runs"]] == pytest.approx([12e-3, 21e-3])  # (m + p - 1)(F + B)
    assert difference["step_time_s"] == pytest.approx(9e-3)
    assert difference["parts_s"]["other_compute"] == pytest.approx(9e-3)  # three microbatches more
    assert difference["parts_s"]["idle"] == pytest.approx(0.0)
    assert difference["relative"] == pytest.approx(9 / 12)
    assert difference["metrics"]["bubble_fraction"]["difference"] == pytest.approx(3 / 21 - 3 / 12)


def test_parts_sum_to_the_whole_difference():
    data = compare_runs(["ep64_tp16_pp4", "ep16_tp16_pp4"]).to_dict()
    (difference,) = data["differences"]
    assert sum(difference["parts_s"].values()) == pytest.approx(difference["step_time_s"], abs=1e-12)
    first, second = (run["metrics"]["step_time_s"] for run in data["runs"])
    assert difference["step_time_s"] == pytest.approx(second - first, abs=1e-12)
    assert data["warnings"] == []


def test_saved_results_say_what_simulations_say(scenarios, tmp_path, capsys):
    run_command(scenarios[1], as_json=True, out=str(tmp_path / "out"), check=False, jobs=1)
    capsys.readouterr()
    saved = str(tmp_path / "out" / "result.json")
    data = compare_runs([scenarios[1], saved]).to_dict()
    assert data["runs"][0]["parts_s"] == data["runs"][1]["parts_s"]
    assert data["differences"][0]["step_time_s"] == 0.0
    assert [run["name"] for run in data["runs"]] == [scenarios[1], saved]  # both files name one scenario


def test_other_work_is_warned_of():
    data = compare_runs(["ep64_tp16_pp4", "ep64_tp16_pp4_multinomial"]).to_dict()
    assert re.fullmatch(r"A has [\d,]+ tokens and B has [\d,]+: compare tokens per second.*", data["warnings"][0])


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "{}", '{"stages_ns": [], "metrics": {}, "scenario": {}}', '{"stages_ns": [{"x": 1}]}', "null"],
)
def test_other_files_are_refused(content, tmp_path, scenarios):
    file = tmp_path / "other.json"
    file.write_text(content, "utf-8")
    with pytest.raises(InvalidValueError) as raised:
        compare_runs([scenarios[0], str(file)])
    assert "result.json" in str(raised.value)


def test_refusals(scenarios, tmp_path):
    with pytest.raises(InvalidValueError, match="twice or more"):
        compare_runs(scenarios[:1])
    with pytest.raises(InvalidValueError, match="left out for a saved result"):
        compare_command([scenarios[0], str(tmp_path / "result.json")], changes=["seed=2"], as_json=True)
    with pytest.raises(InvalidValueError, match="no such file"):
        compare_runs([scenarios[0], str(tmp_path / "none.json")])


def test_command_prints_and_draws(scenarios, tmp_path, capsys):
    file = tmp_path / "compare.svg"
    compare_command(scenarios, output=str(file), as_json=True)
    data = json.loads(capsys.readouterr().out)
    assert data["written"] == str(file)
    assert "<!-- other compute -->" in file.read_text("utf-8")
    assert all(f'id="moesim-parts:{name}-other_compute"' in file.read_text("utf-8") for name in ("short", "long"))
    compare_command(scenarios, as_json=False)
    printed = " ".join(capsys.readouterr().out.split())
    assert "B takes 9 ms longer than A (+75.0 %): other compute +9 ms" in printed


def test_a_saved_run_has_its_timeline(scenarios, tmp_path, capsys):
    """The timeline of a saved result is that of its scenario; without its arrays it has none."""
    run_command(scenarios[1], as_json=True, out=str(tmp_path / "out"), check=False, jobs=1)
    capsys.readouterr()
    saved = str(tmp_path / "out" / "result.json")
    compare_command([scenarios[1], saved], as_json=False)
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if " stage " in line]
    assert [letters for name, letters in lines if name == "A"] == [letters for name, letters in lines if name == "B"]
    (tmp_path / "out" / "trace.npz").unlink()
    compare_command([scenarios[1], saved], as_json=False)
    assert "  B stage" not in capsys.readouterr().out


def test_the_page_says_what_the_command_prints(scenarios, tmp_path, capsys):
    compare_command(scenarios, output=str(tmp_path / "a.html"), as_json=True)
    page = (tmp_path / "a.html").read_text("utf-8")
    assert "B takes 9 ms longer than A (+75.0 %)" in page
    assert "data:image/png;base64," in page
