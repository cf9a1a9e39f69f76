"""Published figures next to modelled ones: errors and summaries that can be had by hand."""

import json
import math

import numpy as np
import pytest
from validation_cases import FOUR, RIGHT, write_case

from sim.errors import InvalidValueError
from sim.scenario.load import load_scenario
from sim.studies import validate as validate_module
from sim.studies.figures import Figure, summarise
from sim.studies.validate import validate


def figure(modelled, *, published=100.0, tolerance_pct=10.0, at_most=False):
    """Return a figure of which only the error matters."""
    given = {"published": published, "modelled": modelled, "tolerance_pct": tolerance_pct, "changes": {}}
    texts = dict.fromkeys(("suite", "case", "system", "metric", "unit", "source"), "x")
    return Figure(**given, **texts, at_most=at_most, apart=None, note=None, problem=None)


@pytest.mark.parametrize(
    ("modelled", "error_pct", "is_within"),
    [(110.0, 10.0, True), (110.1, 10.1, False), (90.0, -10.0, True), (89.0, -11.0, False), (None, None, False)],
)
def test_the_error_is_a_share_of_the_published_figure(modelled, error_pct, is_within):
    """100 (modelled - published) / published, within on both sides; nothing modelled is never within."""
    one = figure(modelled)
    assert one.error_pct == (None if error_pct is None else pytest.approx(error_pct))
    assert one.is_within == is_within


def test_a_summary_has_median_ninetieth_percentile_and_worst_of_the_absolute_errors():
    """Of 1, 2, 3, 4 and 20 percent, linear between figures: median 3, 90th at 0.6 of the way from 4 to 20, worst 20."""
    rows = [figure(value) for value in (101.0, 98.0, 103.0, 96.0, 120.0)]
    summary = summarise([*rows, figure(None)])
    assert (summary.num_rows, summary.num_within) == (6, 4)
    expected = [3.0, 4 + 0.6 * 16, 20.0]
    assert [summary.median_pct, summary.p90_pct, summary.worst_pct] == pytest.approx(expected)
    assert summary.p90_pct == pytest.approx(np.percentile([1, 2, 3, 4, 20], 90))


@pytest.mark.parametrize(
    ("modelled", "is_within"), [(1.0, True), (100.0, True), (110.0, True), (110.1, False), (None, False)]
)
def test_below_a_limit_everything_is_within_and_no_error(modelled, is_within):
    """It is a row of the summary and stands in no percentile."""
    limit = figure(modelled, at_most=True)
    assert limit.is_within == is_within
    summary = summarise([limit, figure(103.0)])
    assert (summary.num_rows, summary.num_within) == (2, 1 + is_within)
    assert summary.worst_pct == pytest.approx(3.0)


@pytest.fixture
def suite(tmp_path):
    """Return a folder of two cases: 4 ms next to 4 ms, 10 ms next to 8 ms, and one figure that is set apart."""
    write_case(tmp_path / "mine" / "one.yaml", RIGHT, FOUR)
    wrong = RIGHT.replace("4 ms", "2 ms").replace("}", ", apart: measured on something else, note: by me}")
    write_case(tmp_path / "mine" / "two.yaml", RIGHT.replace("}", ", system: other}"), wrong)
    text = "title: By hand\nnum_fitted_constants: 2\nleft_out: {one: {median_pct: 30, p90_pct: 40}}\n"
    (tmp_path / "mine" / "suite.yaml").write_text(text, encoding="utf-8")
    return tmp_path / "mine"


def test_figures_stand_beside_what_the_model_says(suite):
    """A figure's `set` changes its simulation alone."""
    validation = validate([str(suite)])
    assert [f.modelled for f in validation.figures] == pytest.approx([0.004, 0.010, 0.004, 0.004])
    assert [f.error_pct for f in validation.figures] == pytest.approx([0, 25, 0, 100], abs=1e-9)
    assert not validation.has_failed


def test_the_json_has_the_contracts_keys_and_sets_figures_apart(suite):
    """`rows` are those that count; what is set apart has its reason."""
    data = validate([str(suite)]).to_dict()
    row = {"suite", "case", "metric", "published", "modelled", "error_pct", "source", "tolerance_pct", "within"}
    assert all(row <= set(one) for one in data["rows"])
    assert [one["case"] for one in data["rows"]] == ["one", "one", "two"]
    assert [one["reason"] for one in data["apart"]] == ["measured on something else"]
    mine = data["suites"]["mine"]
    assert (mine["num_rows"], mine["num_fitted_constants"], mine["worst_pct"]) == (3, 2, pytest.approx(25))
    assert mine["median_pct"] == pytest.approx(0, abs=1e-9)
    assert mine["p90_pct"] == pytest.approx(0.8 * 25)
    assert {name: one["num_rows"] for name, one in mine["systems"].items()} == {"two stages": 2, "other": 1}
    assert mine["left_out"]["one"]["median_pct"] == 30
    assert mine["left_out"]["one"]["fitted"]["median_pct"] == pytest.approx(12.5)
    assert data["over_all"]["num_rows"] == 3
    assert json.loads(validate([str(suite)]).to_json())["schema_version"] == 1


def test_a_figure_out_of_tolerance_fails(tmp_path):
    """10 ms next to 8 ms, with less than 25 % allowed."""
    case = write_case(tmp_path / "a.yaml", FOUR.replace("30", "24.9"))
    assert validate([str(case)]).has_failed


def test_figures_with_one_set_share_a_simulation(suite, monkeypatch):
    """Three for four figures: two of the second case have none of their own."""
    ran = []
    run_many = validate_module.run_many
    monkeypatch.setattr(
        validate_module,
        "run_many",
        lambda scenarios, **more: ran.append(len(scenarios)) or run_many(scenarios, **more),
    )
    validate([str(suite)])
    assert ran == [3]


def test_processes_give_the_same_figures(tmp_path):
    """Enough of them that a second process is used."""
    figures = [FOUR.replace("microbatches: 4", f"microbatches: {n}") for n in range(1, 10)]
    case = write_case(tmp_path / "a.yaml", *figures)
    alone, together = (validate([str(case)], jobs=jobs).to_dict() for jobs in (1, 2))
    assert alone == together
    assert alone["rows"][8]["modelled"] == pytest.approx(0.020)


def test_a_metric_that_a_kind_of_work_does_not_have_fails_with_the_reason(tmp_path):
    """It stands in the table, without a modelled value, and in no percentile."""
    case = write_case(tmp_path / "a.yaml", RIGHT, "{metric: mfu, value: 40 %, source: x, tolerance_pct: 10}")
    validation = validate([str(case)])
    assert validation.has_failed
    assert validation.figures[1].problem == "a simulation of kind passes does not give mfu"
    assert validation.to_dict()["over_all"]["num_rows"] == 2
    assert math.isclose(validation.to_dict()["over_all"]["worst_pct"], 0, abs_tol=1e-9)


@pytest.mark.parametrize(
    ("figure", "message"),
    [
        ("{metric: step_times, value: 1 ms, source: x, tolerance_pct: 1}",
         ":5: published.0.metric must name a known metric, got step_times. Did you mean `step_time_s`? "),
        ("{metric: step_time_s, value: 1 GB, source: x, tolerance_pct: 1}",
         ":5: published.0.value must be in s, as step_time_s is, got 1 GB. "),
        ("{metric: bubble_fraction, value: 1 ms, source: x, tolerance_pct: 1}",
         ":5: published.0.value must be a bare number or a percentage, for bubble_fraction is a ratio, got 1 ms. "),
        ("{metric: fits, value: 1, source: x, tolerance_pct: 1}",
         ":5: published.0.value must be of another metric, for fits is a yes or no, got 1. Make a claim of it."),
        ("{metric: num_gpus, value: 1 ms, source: x, tolerance_pct: 1}",
         ":5: published.0.value must be a bare number, for num_gpus is a count, got 1 ms. "),
    ],
)  # fmt: skip
def test_a_figure_that_cannot_be_compared_is_refused_with_its_place(tmp_path, figure, message):
    """Before anything is simulated."""
    case = write_case(tmp_path / "a.yaml", figure)
    with pytest.raises(InvalidValueError) as refused:
        validate([str(case)])
    assert str(refused.value).startswith(f"{case}{message}")


def test_a_preset_that_does_not_exist_is_refused_at_the_line_of_the_figures_set(tmp_path):
    """As in an alternative."""
    head = """\
cluster: {preset: dgx-h100, num_nodes: 1}
model: {preset: mixtral-8x7b}
parallel: {strategy: EP8_TP1_PP1, convention: megatron}
workload: {kind: forward, sequences: 8, sequence_length: 128}
"""
    case = write_case(tmp_path / "a.yaml", RIGHT.replace("}", ", set: {cluster.preset: dgx-x100}}"), head=head)
    with pytest.raises(InvalidValueError, match=r":6: published\.0\.set \(cluster\.preset\) must"):
        validate([str(case)])


def test_a_bare_number_is_taken_in_si(tmp_path):
    """4 ms and 0.004 are one figure."""
    case = write_case(tmp_path / "a.yaml", RIGHT.replace("4 ms", "0.004"))
    assert load_scenario(case).spec.published[0].value == 0.004
    assert not validate([str(case)]).has_failed


@pytest.mark.slow  # the command's test has the short suites in the fast part
def test_bundled_cases_are_within_their_tolerances():
    """Every figure that the program ships with."""
    validation = validate()
    failed = [(f.suite, f.case, f.metric, f.error_pct) for f in validation.counted if not f.is_within]
    assert failed == []


def test_a_figure_may_be_the_difference_of_two_simulations(tmp_path):
    """Under 1F1B four microbatches take 10 ms and one 4 ms: 2 ms for each of the three more."""
    slope = FOUR.replace("8 ms", "2.5 ms").replace("}}", "}, minus: {workload.microbatches: 1}, divide_by: 3}")
    (figure_,) = validate([str(write_case(tmp_path / "a.yaml", slope))]).figures
    assert figure_.modelled == pytest.approx(0.002)
    assert figure_.error_pct == pytest.approx(-20)


def test_figures_that_constants_are_fitted_to_are_summarised_apart(tmp_path):
    """Of 4 next to 4 ms and 10 next to 8 ms the second is scored, and of no error there is no median."""
    write_case(tmp_path / "mine" / "one.yaml", RIGHT, FOUR)
    (tmp_path / "mine" / "suite.yaml").write_text("fitted: {one: [{workload.microbatches: 1}]}\n", encoding="utf-8")
    data = validate([str(tmp_path / "mine")]).to_dict(num_worst=1)
    summary = data["suites"]["mine"]["systems"]["two stages"]
    assert (summary["fitted"]["num_rows"], summary["scored"]["num_rows"]) == (1, 1)
    assert summary["scored"]["signed_median_pct"] == pytest.approx(25)
    assert [row["fitted"] for row in data["rows"]] == [True, False]
    (worst,) = data["worst"]
    assert worst["error_pct"] == pytest.approx(25)
    assert sum(worst["parts_s"].values()) == pytest.approx(0.010)


def test_a_suite_that_ranks_gives_the_groups_of_the_contract(tmp_path):
    """Two numbers of microbatches of one work, in the order in which they were measured."""
    write_case(tmp_path / "mine" / "one.yaml", RIGHT, FOUR)
    (tmp_path / "mine" / "suite.yaml").write_text("ranking: true\n", encoding="utf-8")
    data = validate([str(tmp_path / "mine")]).to_dict()
    group = data["groups"]["one"]
    assert {"num", "kendall_tau", "regret_pct", "median_pct"} <= set(group)
    assert (group["num"], group["kendall_tau"], group["regret_pct"]) == (2, 1, 0)
    assert data["suites"]["mine"]["ranking"]["num_groups"] == 1
