"""Alternatives and rivals that `--set` makes impossible are left out and named; what a file has wrong is refused."""

import pytest

from sim.errors import InvalidValueError
from sim.scenario.load import load_scenario_text
from sim.studies.claims import judge_scenario

TEXT = """
cluster: {preset: dgx-h100, num_nodes: 1}
model: {layers: 8, hidden: 512, heads: 8, ffn: 1024, vocab: 32000}
parallel: {pp: 4}
workload: {kind: training, sequences: 8, sequence_length: 128, microbatches: 4}
schedule: {kind: 1f1b}
claims: [{id: fast, says: fast, source: here, metric: step_time_s, expect: "<= 1 s"}]
alternatives:
  - {schedule.kind: gpipe}
  - {workload.microbatches: 8}
  - {schedule.kind: breadth_first, parallel.vpp: 2}
rivals: [{schedule.kind: zb_h1}, {workload.microbatches: 2}]
published:
  - {metric: step_time_s, value: 1 s, source: here, tolerance_pct: 5, set: {schedule.kind: gpipe}}
"""
TWO_CHUNKS = ("schedule.kind=interleaved", "parallel.vpp=2")


def test_what_an_argument_makes_impossible_is_left_out_and_named():
    """GPipe and ZB-H1 have one chunk; the others stay, with their lines."""
    scenario = load_scenario_text(TEXT, overrides=TWO_CHUNKS)
    assert [dict(one) for one in scenario.spec.alternatives] == [
        {"workload.microbatches": 8},
        {"schedule.kind": "breadth_first", "parallel.vpp": 2},
    ]
    assert scenario.spec.rivals == ({"workload.microbatches": 2},)
    assert scenario.spec.published == ()
    assert scenario.places.lines["alternatives", 0] == 10
    assert scenario.left_out[0].startswith("alternatives.0 {schedule.kind: gpipe}")
    assert "parallel.vpp must be 1 with schedule.kind gpipe, got 2" in scenario.left_out[0]
    assert len(scenario.left_out) == 2


def test_the_warning_stands_in_the_result():
    """And the others are simulated."""
    result = judge_scenario(load_scenario_text(TEXT, overrides=TWO_CHUNKS))
    assert any("alternatives.0" in warning for warning in result.to_dict()["warnings"])
    assert len(result.to_dict()["claims"][0]["alternatives"]) == 2


def test_without_arguments_nothing_is_left_out():
    """All are possible as the file stands."""
    scenario = load_scenario_text(TEXT, overrides=("seed=3",))
    assert (len(scenario.spec.alternatives), len(scenario.spec.rivals), scenario.left_out) == (3, 2, ())


@pytest.mark.parametrize(
    ("text", "overrides"),
    [
        (TEXT.replace("microbatches: 8}", "microbatch: 8}"), ("seed=3",)),
        (TEXT, (*TWO_CHUNKS, "alternatives.0.schedule.kind=zb_h2")),
        (TEXT, ("alternatives=[{schedule.kind: interleaved, parallel.vpp: 1, schedule.file: x}]",)),
    ],
    ids=["wrong in the file", "set by an argument", "given by an argument"],
)
def test_what_is_wrong_in_the_file_or_set_by_an_argument_is_refused(text, overrides):
    """As ever."""
    with pytest.raises(InvalidValueError, match="alternatives"):
        load_scenario_text(text, overrides=overrides)


def test_a_number_of_chunks_that_nobody_gave_is_called_nothing():
    """The strategy has one chunk by default."""
    scenario = load_scenario_text(TEXT, overrides=("schedule.kind=interleaved", "alternatives=[]", "rivals=[]"))
    with pytest.raises(InvalidValueError, match=r"parallel\.vpp must be at least 2 .* got nothing, which is 1"):
        judge_scenario(scenario)
    given = load_scenario_text(TEXT, overrides=("schedule.kind=interleaved", "parallel.vpp=1", "alternatives=[]"))
    with pytest.raises(InvalidValueError, match=r"parallel\.vpp must be at least 2 .* got 1"):
        judge_scenario(given)
