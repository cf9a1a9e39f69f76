"""`suite.yaml`: what a suite is, and every refusal with its place."""

import pytest

from sim.errors import InvalidValueError
from sim.scenario.suite_file import load_suite


def test_a_folder_without_the_file_is_a_suite_of_no_fitted_constants(tmp_path):
    """Title and tables that were left out of a fit are as optional."""
    spec = load_suite(tmp_path, frozenset())
    assert (spec.title, spec.num_fitted_constants, spec.left_out) == (None, 0, {})


def test_the_file_says_what_was_fitted_and_what_left_out(tmp_path):
    """Errors of a table that was left out stand under its name."""
    text = "title: Wires\nnum_fitted_constants: 7\nleft_out:\n  deepep: {median_pct: 5, p90_pct: 12.5}\n"
    (tmp_path / "suite.yaml").write_text(text, encoding="utf-8")
    spec = load_suite(tmp_path, frozenset({"deepep"}))
    assert (spec.title, spec.num_fitted_constants) == ("Wires", 7)
    assert spec.left_out["deepep"].p90_pct == 12.5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("titel: x", ":1: titel must be a known key, got titel. Did you mean `title`?"),
        ("num_fitted_constants: -1", ":1: num_fitted_constants must be an integer of at least 0, got -1."),
        ("left_out: [a]", ":1: left_out must be a map of tables to their errors, got [a]."),
        (
            "title: a\nleft_out: {deepeq: {median_pct: 1, p90_pct: 2}}",
            ":2: left_out.deepeq must be a system or a case of the suite, got deepeq. Did you mean `deepep`?",
        ),
        (
            "left_out: {deepep: {median_pct: 1}}",
            ":1: left_out.deepep.p90_pct must be given, got nothing. Add `p90_pct:` under left_out.deepep.",
        ),
        (
            "left_out: {deepep: {median_pct: 1, p90_pct: 2, worst: 3}}",
            ":1: left_out.deepep.worst must be a known key, got worst. Known are median_pct, p90_pct, cases.",
        ),
        ("left_out: {deepep: 3}", ":1: left_out.deepep must be a mapping of keys, got 3."),
    ],
)
def test_one_wrong_value_is_refused_with_its_place(tmp_path, text, message):
    """File, line, key, rule and hint, as in a scenario."""
    file = tmp_path / "suite.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidValueError) as refused:
        load_suite(tmp_path, frozenset({"deepep"}))
    assert str(refused.value).startswith(f"{file}{message}")
