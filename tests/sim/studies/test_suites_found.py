"""Names, files and folders that validation cases are found by."""

import pytest
from validation_cases import FOUR, HEAD, RIGHT, write_case

from sim.errors import InvalidValueError
from sim.scenario.scenario_files import list_cases, list_suites
from sim.studies.suites import find_suites, is_fitted, system_of


def names_of(suites):
    return {suite.name: [case.name for case in suite.cases] for suite in suites}


def test_without_a_target_all_bundled_suites_are_meant():
    """Each with all of its cases, but for long tables, which are named as such."""
    suites = find_suites()
    assert [suite.name for suite in suites] == list_suites()
    own = [f"{suite.name}/{name}" for suite in suites for name in (*names_of([suite])[suite.name], *suite.by_name)]
    assert set(list_cases()) <= set(own)
    assert all(
        name in own for name in ("training/vtrain_single", "ranking/vtrain_single", "schedules/zero_bubble_1p5b")
    )
    run = names_of(suites)
    assert run["training"] == []
    assert run["schedules"]


def test_a_suite_that_is_named_has_its_long_tables_and_those_that_it_includes(tmp_path):
    """A case of another folder belongs to both suites; and a case by name must be one of the suite."""
    write_case(tmp_path / "one" / "a.yaml", RIGHT)
    write_case(tmp_path / "two" / "b.yaml", RIGHT)
    text = "include: [../one/a.yaml]\nby_name: [a]\n"
    (tmp_path / "two" / "suite.yaml").write_text(text, encoding="utf-8")
    assert names_of(find_suites([str(tmp_path / "two")])) == {"two": ["b", "a"]}
    (tmp_path / "two" / "suite.yaml").write_text(text.replace("[a]", "[c]"), encoding="utf-8")
    with pytest.raises(InvalidValueError, match=r"suite\.yaml:2: by_name\.0 must be a case of the suite, got c\."):
        find_suites([str(tmp_path / "two")])


def test_a_choice_of_fitted_figures_that_chooses_none_is_refused(tmp_path):
    """A slip in a value would leave all figures scored."""
    write_case(tmp_path / "mine" / "a.yaml", RIGHT, FOUR)
    fitted = "fitted: {a: [{workload.microbatches: 4}, {workload.microbatches: 5}]}\n"
    (tmp_path / "mine" / "suite.yaml").write_text(fitted, encoding="utf-8")
    with pytest.raises(InvalidValueError, match=r"^fitted\.a\.1 of suite\.yaml must choose a figure, got "):
        find_suites([str(tmp_path / "mine")])
    (tmp_path / "mine" / "suite.yaml").write_text("fitted: {a: [{workload.microbatches: [4, 1]}]}\n", encoding="utf-8")
    (suite,) = find_suites([str(tmp_path / "mine")])
    assert [is_fitted(suite, suite.cases[0], i) for i in range(2)] == [True, True]


@pytest.mark.parametrize("name", ["zero_bubble_1p5b", "schedules/zero_bubble_1p5b", "zero_bubble_1p5b.yaml"])
def test_a_bundled_case_is_found_by_its_name_and_keeps_its_suite(name):
    """Alone: the other cases of the suite are not run."""
    assert names_of(find_suites([name])) == {"schedules": ["zero_bubble_1p5b"]}


def test_a_folder_and_its_subfolders_are_suites_and_files_without_figures_are_named(tmp_path):
    """A cluster's file next to the cases is no case."""
    write_case(tmp_path / "mine" / "b.yaml", RIGHT)
    write_case(tmp_path / "mine" / "a.yml", RIGHT)
    write_case(tmp_path / "mine" / "deeper" / "c.yaml", RIGHT)
    (tmp_path / "mine" / "cluster.yaml").write_text("nodes: []\n", encoding="utf-8")
    suites = find_suites([str(tmp_path / "mine")])
    assert names_of(suites) == {"mine": ["a", "b"], "mine/deeper": ["c"]}
    assert suites[0].skipped == ("cluster.yaml",)


def test_files_of_one_folder_are_one_suite_and_no_case_is_run_twice(tmp_path):
    """Whether they are named one by one or with their folder."""
    one, two = (str(write_case(tmp_path / "mine" / f"{name}.yaml", RIGHT)) for name in "ab")
    assert names_of(find_suites([two, one, two])) == {"mine": ["b", "a"]}
    assert names_of(find_suites([one, str(tmp_path / "mine")])) == {"mine": ["a", "b"]}


def test_two_folders_of_one_name_are_two_suites(tmp_path):
    """The second has its path for a name."""
    for parent in "xy":
        write_case(tmp_path / parent / "mine" / "a.yaml", RIGHT)
    folders = [str(tmp_path / parent / "mine") for parent in "xy"]
    assert list(names_of(find_suites(folders))) == ["mine", folders[1]]


def test_a_path_goes_before_a_bundled_name_unless_it_holds_no_case(tmp_path, monkeypatch):
    """An unrelated folder that happens to have a suite's name does not hide it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "schedules").mkdir()
    assert len(find_suites(["schedules"])[0].cases) > 1
    write_case(tmp_path / "schedules" / "mine.yaml", RIGHT)
    assert names_of(find_suites(["schedules"])) == {"schedules": ["mine"]}


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("schedule", "schedule: the validation case must be a file, a folder, or a bundled suite or case, got "
         "schedule. Did you mean `schedules`?"),
        ("", "the validation case must be a file, a folder, or a bundled suite or case, got an empty text. Known are "),
        ("empty", "empty: the folder must hold validation cases, got none. Put scenarios with `published:` in it, as "),
        ("plain.yaml", "plain.yaml: published must be given, got nothing. Add figures, such as - {metric: mfu, "),
        ("bad.yaml", "bad.yaml:5: published.0.metric must"),
        ("x\0y", "x\\x00y: the validation case must be a file"),
    ],
)  # fmt: skip
def test_what_holds_no_case_is_refused(tmp_path, monkeypatch, target, message):
    """With its path, and a hint."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    write_case(tmp_path / "plain.yaml")
    write_case(tmp_path / "bad.yaml", "{metric: [], value: 1, source: x, tolerance_pct: 1}")
    with pytest.raises(InvalidValueError) as refused:
        find_suites([target])
    assert str(refused.value).startswith(message)


def test_a_system_is_what_the_figure_says_else_the_cluster_else_the_scenario_else_the_case(tmp_path):
    """Figures are summarised by it."""
    named = FOUR.replace("}}", "}, system: a group}")
    (suite,) = find_suites([str(write_case(tmp_path / "mine" / "a.yaml", RIGHT, named))])
    assert [system_of(suite.cases[0], i) for i in range(2)] == ["two stages", "a group"]
    nameless = HEAD.replace("name: two stages\n", "")
    (suite,) = find_suites([str(write_case(tmp_path / "mine" / "b.yaml", RIGHT, head=nameless))])
    assert system_of(suite.cases[0], 0) == "b"
    on_cluster = """\
cluster: {preset: dgx-h100, num_nodes: 1}
model: {preset: mixtral-8x7b}
parallel: {strategy: EP8_TP1_PP1, convention: megatron}
workload: {kind: forward, sequences: 8, sequence_length: 128}
"""
    (suite,) = find_suites([str(write_case(tmp_path / "mine" / "c.yaml", RIGHT, head=on_cluster))])
    assert system_of(suite.cases[0], 0) == "dgx-h100"
