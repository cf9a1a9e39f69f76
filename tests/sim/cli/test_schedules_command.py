"""`moesim schedules`: every schedule of the table on the same work."""

import json
import subprocess
import sys

import pytest

from sim.cli import main
from sim.scenario.load import load_scenario_text
from sim.studies.schedules import compare_schedules
from sim.studies.simulate import simulate_scenario
from workloads.schedules import SCHEDULES

PASSES = "parallel: {pp: 4}\nworkload: {kind: passes, microbatches: 8, pass_times: {F: 1 ms, B: 2 ms}}\n"
TRAINING = """
cluster: {preset: dgx-h100, num_nodes: 1, device: {memory: 1.2 GB}}
model: {layers: 8, hidden: 1024, heads: 16, ffn: 4096, vocab: 32000}
parallel: {strategy: TP2_PP2_DP2}
workload: {kind: training, sequences: 64, sequence_length: 1024, microbatches: 16}
"""


def run(monkeypatch, capsys, *words):
    """Run the command; return exit code, output and errors."""
    monkeypatch.setattr(sys, "argv", ["moesim", "schedules", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    told = capsys.readouterr()
    return ended.value.code or 0, told.out, told.err


def test_every_schedule_of_the_table_has_a_row_or_a_reason():
    """One that enters the table appears by itself."""
    compared = compare_schedules(load_scenario_text(PASSES))
    assert {row.schedule for row in compared.rows} | set(compared.refused) == set(SCHEDULES)
    assert all(compared.refused.values())


@pytest.mark.parametrize("text", [PASSES, TRAINING], ids=["passes", "training"])
def test_a_row_has_the_figures_of_the_schedule_run_alone(text):
    """The same simulation, and GPipe keeps all microbatches in flight, 1F1B as many as stages."""
    scenario = load_scenario_text(text)
    rows = {row["schedule"]: row for row in compare_schedules(scenario).to_dict()["rows"]}
    alone = simulate_scenario(scenario.variant({"schedule.kind": "gpipe"}))
    assert rows["gpipe"]["step_time_s"] == alone.metrics["step_time_s"]
    assert rows["gpipe"]["bubble_fraction"] == alone.metrics["bubble_fraction"]
    assert rows["gpipe"]["in_flight_microbatches"] == scenario.spec.workload.microbatches
    assert rows["1f1b"]["in_flight_microbatches"] == (scenario.spec.parallel.pp or 2)


def test_the_cheapest_is_the_fastest_that_fits():
    """GPipe's activations do not fit into so little memory."""
    compared = compare_schedules(load_scenario_text(TRAINING))
    rows = compared.to_dict()["rows"]
    assert [row["step_time_s"] for row in rows] == sorted(row["step_time_s"] for row in rows)
    assert [row["fits"] for row in rows if row["schedule"] == "gpipe"] == [False]
    marked = [row for row in rows if row["is_cheapest_that_fits"]]
    assert marked == [next(row for row in rows if row["fits"])]


def test_stages_hand_on_what_the_microbatches_hold():
    """Activations once in each direction over the border: 2 x microbatches x tokens x hidden x 2 bytes, 2 replicas."""
    rows = compare_schedules(load_scenario_text(TRAINING)).to_dict()["rows"]
    tokens = 64 // (2 * 16) * 1024
    assert {row["p2p_bytes"] for row in rows if row["schedule"] in {"gpipe", "1f1b"}} == {
        2 * 16 * tokens * 1024 * 2 * 2
    }


def test_the_command_prints_a_table_and_draws_a_picture(monkeypatch, capsys, tmp_path):
    """The cheapest is marked with a star."""
    scenario = tmp_path / "mine.yaml"
    scenario.write_text(PASSES)
    picture = tmp_path / "schedules.svg"
    code, out, _ = run(monkeypatch, capsys, str(scenario), "-o", str(picture))
    assert code == 0
    assert "in flight" in out
    assert any(line.split()[:1] == ["*"] for line in out.splitlines())
    assert f"Wrote {picture}" in out.replace("\n", "")
    drawn = picture.read_text()
    assert all(f"moesim-schedule:{name}" in drawn for name in ("gpipe", "1f1b"))


def test_json_is_one_object_with_rows_and_refusals(monkeypatch, capsys, tmp_path):
    """The same figures, in SI units."""
    scenario = tmp_path / "mine.yaml"
    scenario.write_text(PASSES)
    code, out, _ = run(monkeypatch, capsys, str(scenario), "--json", "--set", "workload.microbatches=2")
    data = json.loads(out)
    assert code == 0
    assert data["schema_version"] == 1
    assert {row["schedule"] for row in data["rows"]} >= {"gpipe", "1f1b"}
    assert data["scenario"]["workload"]["microbatches"] == 2


def test_forward_passes_have_no_schedule(monkeypatch, capsys):
    """Refused with the place in the file."""
    code, _, told = run(monkeypatch, capsys, "ep64_tp16_pp4")
    assert code == 2
    assert "workload.kind must be training or passes, got forward" in told


def test_help_names_an_example():
    """In a process of its own, as a user calls it."""
    program = "from sim.cli import main; main()"
    told = subprocess.run(
        [sys.executable, "-c", program, "schedules", "--help"], capture_output=True, text=True, check=True
    )
    assert "moesim schedules ep64_tp16_pp4_training" in " ".join(told.stdout.split())
