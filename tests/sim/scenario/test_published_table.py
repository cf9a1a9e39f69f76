"""Tables of published figures: what a row is, and every refusal with its place."""

import pytest

from sim.errors import InvalidValueError
from sim.scenario.load import load_scenario

HEAD = """\
parallel: {pp: 2}
workload: {kind: passes, microbatches: 1, pass_times: {F: 1 ms, B: 1 ms}}
"""
TABLE = "published_table: {file: rows.csv, metric: step_time_s, source: by hand, tolerance_pct: 1}\n"


def write(folder, rows, *, head=HEAD + TABLE):
    """Write a case with a table and return its path."""
    (folder / "rows.csv").write_text(rows, encoding="utf-8")
    path = folder / "case.yaml"
    path.write_text(head, encoding="utf-8")
    return path


def test_a_row_is_the_figure_that_the_same_keys_make_in_the_scenario(tmp_path):
    """Comments, empty lines and empty cells say nothing; a list and a quantity are written as in YAML."""
    rows = """\
# from a paper

name,value,workload.microbatches,parallel.pp,workload.pass_times,apart,tolerance_pct
"one, alone",4 ms,,,,,
many,0.01,4,,"{F: 1 ms, B: 1 ms}",a slip,30
"""
    listed = """\
published:
  - {name: "one, alone", metric: step_time_s, value: 4 ms, source: by hand, tolerance_pct: 1}
  - {name: many, metric: step_time_s, value: 0.01, source: by hand, tolerance_pct: 30, apart: a slip,
     set: {workload.microbatches: 4, workload.pass_times: {F: 1 ms, B: 1 ms}}}
"""
    table = load_scenario(write(tmp_path, rows)).spec.published
    (tmp_path / "listed.yaml").write_text(HEAD + listed, encoding="utf-8")
    assert table == load_scenario(tmp_path / "listed.yaml").spec.published


def test_rows_of_a_table_come_after_figures_of_the_scenario(tmp_path):
    """Both are simulated under their own keys."""
    listed = "published: [{metric: step_time_s, value: 3 ms, source: x, tolerance_pct: 9}]\n"
    scenario = load_scenario(write(tmp_path, "value,workload.microbatches\n8 ms,4\n", head=HEAD + listed + TABLE))
    assert [figure.value for figure in scenario.spec.published] == [0.003, 0.008]
    assert scenario.case(1).spec.workload.microbatches == 4
    assert scenario.case(1).spec.published == ()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("value,microbatches\n1 s,4\n", "rows.csv:1: the column must be a field of a published figure or a dotted"),
        ("value,value\n1 s,2 s\n", "rows.csv:1: the column must stand once, got value again."),
        ("name,source\na,b\n", "rows.csv:1: the columns must have one named value, got name, source."),
        ("value\n", "rows.csv: the table must have a row, got none."),
        ("", "rows.csv: the table must have a row, got none."),
        ("value,workload.microbatches\n1 s\n", "rows.csv:2: the row must have 2 cells, as the columns are, got 1"),
        ('value\n"1 s\n', "rows.csv:2: the table must be CSV, got "),
        ("value,workload.pass_times\n1 s,{F: 1\n", "rows.csv:2: workload.pass_times must be valid YAML, got {F: 1."),
        ("# x\nvalue,workload.microbatch\n1 s,4\n",
         "rows.csv:3: published.0.set (workload.microbatch) must be a known key, got microbatch."),
        ("value,workload.microbatches\n1 s,4\n1 s,0\n",
         "rows.csv:3: published.1.set (workload.microbatches) must be an integer of at least 1, got 0."),
        ("value,tolerance_pct\n1 s,-1\n", "rows.csv:2: published.0.tolerance_pct must be "),
        ("value\n0\n", "rows.csv:2: published.0.value must not be 0, got 0."),
    ],
)  # fmt: skip
def test_what_a_table_may_not_say_is_refused_at_its_line(tmp_path, rows, message):
    """File, line, column or key, rule and hint."""
    with pytest.raises(InvalidValueError) as refused:
        load_scenario(write(tmp_path, rows))
    assert str(refused.value).startswith(f"{tmp_path}/{message}")


def test_what_no_row_and_no_table_gives_is_refused(tmp_path):
    """A figure needs its source, in its row or for all."""
    head = HEAD + TABLE.replace(", source: by hand", "")
    with pytest.raises(InvalidValueError, match=r"published\.0\.source must be given, got nothing"):
        load_scenario(write(tmp_path, "value\n1 s\n", head=head))


@pytest.mark.parametrize(("file", "rule"), [("other.csv", "exist"), ("../rows.csv", "be in the scenario's folder")])
def test_the_table_stands_in_the_folder_of_the_scenario(tmp_path, file, rule):
    """As every file that a scenario names."""
    (tmp_path / "below").mkdir()
    path = write(tmp_path / "below", "value\n1 s\n", head=HEAD + TABLE.replace("rows.csv", file))
    with pytest.raises(InvalidValueError, match=rf"published_table\.file must {rule}"):
        load_scenario(path)


def test_rows_that_an_argument_makes_impossible_are_left_out(tmp_path):
    """As figures of the scenario are: passes of two stages cannot be those of three."""
    path = write(tmp_path, "value,parallel.pp\n1 s,\n2 s,3\n")
    two_stages = "workload.pass_times=[{F: 1 ms, B: 1 ms}, {F: 2 ms, B: 1 ms}]"
    assert [figure.value for figure in load_scenario(path, overrides=[two_stages]).spec.published] == [1.0]
