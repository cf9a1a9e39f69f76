"""`moesim schedules`: every schedule of the table on the same work."""

import io
import json
import subprocess
import sys

import pytest
from rich.console import Console

from sim.cli import main
from sim.report.charts.schedules import Band
from sim.report.console.schedules import print_schedules
from sim.run.simulate import simulate_scenario
from sim.scenario.load import load_scenario_text
from sim.studies.schedules import compare_schedules
from workloads.schedules import SCHEDULES

PASSES = "parallel: {pp: 4}\nworkload: {kind: passes, microbatches: 8, pass_times: {F: 1 ms, B: 2 ms}}\n"
TRAINING = """
cluster: {preset: dgx-h100, num_nodes: 1, device: {memory: 4 GB}}
model: {layers: 8, hidden: 1024, heads: 16, ffn: 4096, vocab: 32000}
parallel: {strategy: TP2_PP2_DP2}
workload: {kind: training, sequences: 64, sequence_length: 1024, microbatches: 16}
"""


def run(monkeypatch, capsys, *words):
    """Run the command; return exit code, output and errors."""
    monkeypatch.setattr(sys, "argv", ["moesim", "schedules", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    stderr = capsys.readouterr()
    return ended.value.code or 0, stderr.out, stderr.err


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


@pytest.fixture(scope="module")
def training():
    """Return the comparison of the training step."""
    return compare_schedules(load_scenario_text(TRAINING))


def test_the_cheapest_is_the_fastest_that_fits(training):
    """GPipe's activations do not fit into so little memory."""
    rows = training.to_dict()["rows"]
    assert [row["step_time_s"] for row in rows] == sorted(row["step_time_s"] for row in rows)
    assert [row["fits"] for row in rows if row["schedule"] == "gpipe"] == [False]
    marked = [row for row in rows if row["is_cheapest_that_fits"]]
    assert marked == [next(row for row in rows if row["fits"])]


def test_the_conclusion_has_the_figures_of_its_rows(training):
    """The fastest that fits, the scenario's own, the fastest at no more memory, and what does not fit."""
    data = training.to_dict()
    rows, said = {row["schedule"]: row for row in data["rows"]}, data["conclusion"]
    best = next(row for row in data["rows"] if row["fits"])
    unfit = [name for name, row in rows.items() if row["fits"] is False]
    assert said[0].startswith(f"{best['schedule']} is the fastest of {len(rows) - len(unfit)} schedules that fit")
    assert f"{1e3 * best['step_time_s']:.4g} ms, bubble {100 * best['bubble_fraction']:.1f} %" in said[0]
    assert f"takes {rows['1f1b']['step_time_s'] / best['step_time_s']:.2f} times as long" in said[1]
    small = [row for row in data["rows"] if row["peak_bytes_per_gpu"] <= 1.01 * rows["1f1b"]["peak_bytes_per_gpu"]]
    is_least = rows["1f1b"]["step_time_s"] <= 1.01 * small[0]["step_time_s"]
    assert said[2].startswith("At no more memory than 1f1b")
    assert ("none is faster" in said[2]) if is_least else (f"is {small[0]['schedule']}: " in said[2])
    assert said[3] == f"{' and '.join(unfit)} {'do' if len(unfit) > 1 else 'does'} not fit into 4 GB."


def test_without_a_model_nothing_is_said_of_memory():
    said = compare_schedules(load_scenario_text(PASSES)).conclusion()
    assert len(said) <= 2
    assert not any("GB" in sentence or "memory" in sentence for sentence in said)


def test_stages_hand_on_what_the_microbatches_hold(training):
    """Activations once in each direction over the border: 2 x microbatches x tokens x hidden x 2 bytes, 2 replicas."""
    rows = training.to_dict()["rows"]
    tokens = 64 // (2 * 16) * 1024
    assert {row["p2p_bytes"] for row in rows if row["schedule"] in {"gpipe", "1f1b"}} == {
        2 * 16 * tokens * 1024 * 2 * 2
    }


HELD = PASSES.replace("B: 2 ms}", "B: 2 ms}, held: {B: 1 GB, W: 0.4 GB}")
SPLIT = """
cluster: {preset: dgx-h100, num_nodes: 1}
model: {layers: 10, hidden: 512, heads: 8, ffn: 1024, vocab: 32000}
parallel: {strategy: TP2_PP4, stage_layers: [2, 3, 3, 2]}
workload: {kind: training, sequences: 8, sequence_length: 512, microbatches: 8}
"""


def test_passes_with_held_bytes_say_what_a_stage_holds_at_most():
    """GPipe all eight microbatches, 1F1B one for each of the four stages."""
    rows = {row["schedule"]: row for row in compare_schedules(load_scenario_text(HELD)).to_dict()["rows"]}
    assert (rows["gpipe"]["activation_bytes"], rows["1f1b"]["activation_bytes"]) == (8e9, 4e9)
    assert rows["chimera"]["activation_bytes"] == 1e9 * rows["chimera"]["in_flight_microbatches"]
    bare = compare_schedules(load_scenario_text(PASSES)).to_dict()["rows"]
    assert not any("activation_bytes" in row for row in bare)


def test_layers_given_by_hand_are_divided_over_the_chunks_of_schedules_that_have_more():
    """Each stage keeps its own; the chunks next to embedding and head are the lighter ones."""
    rows = {row["schedule"]: row["set"] for row in compare_schedules(load_scenario_text(SPLIT)).to_dict()["rows"]}
    assert rows["1f1b"] == {}
    assert rows["interleaved"] == {"parallel.vpp": 2, "parallel.stage_layers": [1, 2, 2, 1, 1, 1, 1, 1]}


def test_layers_of_chunks_are_added_up_for_schedules_that_have_none():
    """Also where the strategy's name gives the chunks."""
    text = SPLIT.replace("TP2_PP4, ", "TP2_PP4_VPP2, ").replace("[2, 3, 3, 2]", "[0, 2, 2, 1, 1, 2, 1, 1]")
    rows = {row["schedule"]: row for row in compare_schedules(load_scenario_text(text)).to_dict()["rows"]}
    assert rows["interleaved"]["set"] == {}
    assert rows["1f1b"]["set"]["parallel.stage_layers"] == [1, 4, 3, 2]
    alone = simulate_scenario(
        load_scenario_text(text.replace("_VPP2", "").replace("[0, 2, 2, 1, 1, 2, 1, 1]", "[1, 4, 3, 2]"))
    )
    assert rows["1f1b"]["step_time_s"] == alone.metrics["step_time_s"]


def test_the_table_has_the_published_form_and_says_what_is_split(monkeypatch, capsys, tmp_path):
    """In words under the table."""
    scenario = tmp_path / "mine.yaml"
    scenario.write_text(SPLIT)
    code, out, _ = run(monkeypatch, capsys, str(scenario))
    assert code == 0
    assert "own span" in out
    assert "(vpp 2, split)" in out
    assert "v_min, in the model's order: 1 2 2 1 1 1 1 1" in " ".join(out.split())


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


def test_the_table_fits_100_columns_and_follows_the_sentences(training):
    """Each schedule on one line."""
    target = io.StringIO()
    print_schedules(training.to_dict(), Console(file=target, width=100), name="mine")
    lines = target.getvalue().splitlines()
    header = next(i for i, line in enumerate(lines) if "own span" in line)
    assert "is the fastest of" in lines[2]
    assert lines[header].split()[-1] == "peak"
    names = [line.split()[line.split()[0] in "*✗"] for line in lines[header + 1 :] if " ms " in line]
    assert sorted(names) == sorted(row.schedule for row in training.rows)


def test_a_picture_has_room_for_both_numbers_of_passes_that_overlap():
    """Lines of 24 pixels in place of 15, and the figures at the left."""
    rows = {row.schedule: row for row in compare_schedules(load_scenario_text(PASSES)).rows}
    bands = {
        name: Band(
            name=name, trace=rows[name].trace, step_time_s=1.0, bubble_fraction=0.25, peak_bytes=2 * 10**9, fits=False
        )
        for name in ("1f1b", "dualpipe")
    }
    assert [band.height_px for band in bands.values()] == [60, 96]
    assert [text for text, _ in bands["1f1b"].lines()] == ["1 s", "bubble 25.0 %", "memory 2 GB: does not fit"]


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
    code, _, stderr = run(monkeypatch, capsys, "ep64_tp16_pp4")
    assert code == 2
    assert "workload.kind must be training or passes, got forward" in stderr


def test_help_names_an_example():
    """In a process of its own, as a user calls it."""
    program = "from sim.cli import main; main()"
    stderr = subprocess.run(
        [sys.executable, "-c", program, "schedules", "--help"], capture_output=True, text=True, check=True
    )
    assert "moesim schedules ep64_tp16_pp4_training" in " ".join(stderr.stdout.split())
