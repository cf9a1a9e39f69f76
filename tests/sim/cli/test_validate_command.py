"""`moesim validate` as a user types it: what it prints, writes and exits with."""

import json
from pathlib import Path

import pytest

from sim.scenario.scenario_files import list_suites
from sim.studies import suites

CASE = """\
name: two stages
parallel: {pp: 2}
workload: {kind: passes, microbatches: 1, pass_times: {F: 1 ms, B: 1 ms}}
published: [{metric: step_time_s, value: 4 ms, source: by hand, tolerance_pct: 1}]
"""


@pytest.fixture(autouse=True)
def empty_folder(monkeypatch, tmp_path):
    """Work in an empty folder."""
    monkeypatch.chdir(tmp_path)


def test_all_bundled_suites_are_held_against_their_figures(moesim, monkeypatch):
    """Without an argument; nothing is written. The long suites are those of the slow test of all figures."""
    short = [name for name in list_suites() if name not in {"ranking", "memory"}]
    monkeypatch.setattr(suites, "list_suites", lambda: short)
    code, out, err = moesim("validate")
    assert (code, err) == (0, "")
    assert "SCHEDULES" in out
    assert "48 of 48 within their tolerance" in out
    assert list(Path().iterdir()) == []


def test_json_is_one_object(moesim):
    """With the contract's rows and suites."""
    code, out, _ = moesim("validate", "schedules", "--json")
    data = json.loads(out)
    assert code == 0
    assert data["suites"]["schedules"]["num_rows"] == len(data["rows"]) == 48
    bubbles = [row for row in data["rows"] if row["metric"] == "bubble_fraction_published_form"]
    limits = [row for row in data["rows"] if row["at_most"]]
    assert (len(bubbles), len(limits)) == (36, 12)
    assert {row["metric"] for row in limits} == {"held_microbatches"}


def test_an_order_that_holds_more_than_its_limit_fails(moesim):
    """GPipe keeps all of four microbatches."""
    held = "workload: {held: {B: 1 GB, W: 0.4 GB}, kind: passes, microbatches: 4, "
    limit = "[{metric: held_microbatches, value: 2, at_most: true, source: by hand, tolerance_pct: 0}]"
    text = CASE.partition("published")[0].replace("workload: {kind: passes, microbatches: 1, ", held)
    for kind, code in (("1f1b", 0), ("gpipe", 1)):
        Path("mine.yaml").write_text(f"{text}schedule: {{kind: {kind}}}\npublished: {limit}\n", encoding="utf-8")
        assert moesim("validate", "mine.yaml")[0] == code
        assert "at most 2" in moesim("validate", "mine.yaml")[1]


def test_out_writes_the_json_and_a_picture(moesim):
    """And says so."""
    Path("mine.yaml").write_text(CASE, encoding="utf-8")
    code, out, _ = moesim("validate", "mine.yaml", "--out", "new/out")
    assert code == 0
    assert sorted(path.name for path in Path("new/out").iterdir()) == ["validate.json", "validate.png"]
    assert json.loads(Path("new/out/validate.json").read_text(encoding="utf-8"))["rows"][0]["case"] == "mine"
    assert Path("new/out/validate.png").read_bytes().startswith(b"\x89PNG")
    assert "new/out/validate.png" in out


def test_a_figure_out_of_tolerance_ends_with_1_and_one_set_apart_does_not(moesim):
    """The table is printed all the same."""
    wrong = CASE.replace("4 ms, ", "3 ms, ")
    Path("mine.yaml").write_text(wrong, encoding="utf-8")
    code, out, err = moesim("validate", "mine.yaml")
    assert (code, err) == (1, "")
    assert "+33.3 %" in out
    Path("mine.yaml").write_text(wrong.replace("}]", ", apart: a slip of the pen}]"), encoding="utf-8")
    code, out, _ = moesim("validate", "mine.yaml")
    assert code == 0
    assert "a slip of the pen" in out


def test_bad_input_ends_with_2_and_one_line(moesim):
    """As an object too, with --json."""
    assert moesim("validate", "nothing.yaml", "--json")[0] == 2
    code, out, err = moesim("validate", "schedles")
    assert (code, out) == (2, "")
    assert err == (
        "moesim: schedles: the validation case must be a file, a folder, or a bundled suite or case, got schedles. "
        "Did you mean `schedules`?\n"
    )


def test_running_a_case_points_to_validate(moesim):
    """A case is a scenario, and `run` judges no published figure."""
    code, out, _ = moesim("run", "zero_bubble_1p5b", "--jobs", "1", "--verbose")
    assert code == 0
    assert "Published figures: 3; `moesim validate` holds them against the model" in out


def test_list_shows_scenarios_suites_and_cases_apart(moesim):
    """A case is not among the scenarios."""
    tables = json.loads(moesim("list", "scenarios", "--json")[1])
    suites = {row["name"]: row["cases"] for row in tables["validation suites"]}
    assert suites["schedules"] >= 2
    assert sum(suites.values()) == len(tables["validation cases"])
    assert {"name": "schedules/zero_bubble_1p5b"} in tables["validation cases"]
    assert not any("validation" in row["name"] or "suite" in row["name"] for row in tables["bundled scenarios"])
