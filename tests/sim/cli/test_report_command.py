"""A run that was saved: its page is the page of the run, and a file that is no result is refused by name."""

import json

import numpy as np
import pytest

from sim.report.files import npz_bytes
from sim.report.html.details import arrays_of, details_of, details_of_saved
from sim.run.saved import SavedRun
from sim.run.simulate import simulate_scenario
from sim.scenario.load import load_scenario

SMALL = [
    word
    for key in ("alternatives=[]", "rivals=[]", "workload.batches=1", "workload.microbatches=2")
    for word in ("--set", key)
]


def test_the_page_of_a_saved_result_is_the_page_of_its_run(moesim, tmp_path):
    assert moesim("run", "ep16_tp16_pp4", *SMALL, "--out", str(tmp_path / "out")).code == 0
    said = moesim("report", str(tmp_path / "out/result.json"), "-o", str(tmp_path / "again.html"), "--json")
    assert json.loads(said.out) == {"written": str(tmp_path / "again.html")}
    assert (tmp_path / "again.html").read_bytes() == (tmp_path / "out/report.html").read_bytes()
    assert "moesim run ep16_tp16_pp4" in (tmp_path / "again.html").read_text("utf-8")
    (tmp_path / "out/details.npz").unlink()
    assert moesim("report", str(tmp_path / "out/result.json"), "-o", str(tmp_path / "less.html")).code == 0
    assert (
        "timeline-canvas"
        not in (tmp_path / "less.html").read_text("utf-8").partition("<main")[2].partition("<script>")[0]
    )


def test_folded_lanes_stay_folded_in_what_is_saved(tmp_path):
    changes = ["parallel.strategy=EP4_TP1_PP2_DP4", "parallel.convention=megatron", "cluster.num_nodes=1"]
    changes += ["alternatives=[]", "rivals=[]", "claims=[]", "workload.batches=1", "workload.microbatches=2"]
    details = details_of(simulate_scenario(load_scenario("ep64_tp16_pp4", overrides=changes)))
    (tmp_path / "trace.npz").write_bytes(npz_bytes(details.trace.arrays()))
    (tmp_path / "details.npz").write_bytes(npz_bytes(arrays_of(details)))
    again = details_of_saved(SavedRun(path=tmp_path / "result.json", data={}))
    assert again.trace.num_of == details.trace.num_of
    assert all(np.array_equal(again.trace.columns[name], details.trace.columns[name]) for name in again.trace.columns)
    assert np.array_equal(again.rank_tokens, details.rank_tokens)
    whole, again_whole = details.trace.arrays(), again.trace.arrays()
    assert all(np.array_equal(again_whole[name], whole[name]) for name in whole)


def test_a_result_that_says_little_has_a_page_of_what_it_says(moesim, tmp_path):
    """Warnings without assumptions, no claims, no memory, no links."""
    data = {"schema_version": 1, "scenario": {"name": "little"}, "metrics": {"step_time_s": 1.5}, "warnings": ["a & b"]}
    (tmp_path / "a.json").write_text(json.dumps(data), encoding="utf-8")
    assert moesim("report", str(tmp_path / "a.json"), "-o", str(tmp_path / "a.html")).code == 0
    page = (tmp_path / "a.html").read_text("utf-8")
    assert "a &amp; b" in page
    assert [name for name in ("claims", "memory", "links", "assumptions") if f'<section id="{name}"' in page] == [
        "assumptions"
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[]", "JSON without `scenario` and `metrics`"),
        ("{", "RESULT must be the JSON of a run"),
        ('{"scenario": {}, "metrics": {}, "schema_version": 99}', "RESULT must have schema_version 1, got 99"),
        (
            '{"scenario": {}, "metrics": {}, "schema_version": 1, "memory": {"a": 1}}',
            "RESULT must be the JSON of a run",
        ),
    ],
)
def test_a_file_that_is_no_result_is_refused(moesim, tmp_path, content, words):
    (tmp_path / "a.json").write_text(content, encoding="utf-8")
    said = moesim("report", str(tmp_path / "a.json"), "-o", str(tmp_path / "a.html"))
    assert said.code == 2
    assert words in said.err
    assert not (tmp_path / "a.html").exists()


@pytest.mark.parametrize("more", [["--set", "seed=1"], ["--seed", "1"], ["--trace", "a.csv"]])
def test_a_saved_result_takes_no_changes(moesim, tmp_path, more):
    said = moesim("report", "a.json", "-o", str(tmp_path / "a.html"), *more)
    assert said.code == 2
    assert f"{more[0]} must be left out for a saved result" in said.err
