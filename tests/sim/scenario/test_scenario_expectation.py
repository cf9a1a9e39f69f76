"""What a claim expects: the grammar, the quoted precision, and when it is met."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.errors import InvalidValueError
from sim.scenario.expectation import parse_expectation


@pytest.mark.parametrize(
    ("text", "op", "value", "unit", "tolerance"),
    [
        (">= 26e6 tokens/s", ">=", 26e6, "tokens/s", 0.5e6),
        ("== 3.92 GB", "==", 3.92e9, "bytes", 0.005e9),
        ("<= 50 ms", "<=", 0.05, "s", 0.0005),
        ("<= 5e1 ms", "<=", 0.05, "s", 0.005),
        ("== 468750000", "==", 468750000, None, 0.5),
        ("= 6.1 %", "==", 0.061, "ratio", 0.0005),
        ("!= 1.50", "!=", 1.5, None, 0.005),
        ("> -3e-2", ">", -0.03, None, 0.005),
        ("< 4096 tokens", "<", 4096, "tokens", 0.5),
        ("== 3.92 GB +- 2 %", "==", 3.92e9, "bytes", 0.0784e9),
        ("== 50 ms ± 300 us", "==", 0.05, "s", 0.0003),
        ("== 64 +- 3", "==", 64, None, 3),
        ("== 16 +- 5 %", "==", 16, None, 0.8),
        ("== 6.1 % +- 0.001", "==", 0.061, "ratio", 0.001),
        (">=26e6tokens/s+-1%", ">=", 26e6, "tokens/s", 0.26e6),
        ("== 0", "==", 0, None, 0.5),
        ("== 0.000", "==", 0, None, 0.0005),
    ],
)
def test_a_tolerance_is_the_one_given_or_half_the_last_digit(text, op, value, unit, tolerance):
    expectation = parse_expectation(text)
    assert (expectation.op, expectation.value, expectation.unit) == (op, value, unit)
    assert math.isclose(expectation.tolerance, tolerance, rel_tol=1e-15)
    assert expectation.text == text


@pytest.mark.parametrize(
    ("text", "met", "not_met"),
    [
        (">= 10", [9.5, 10, 1e9], [9.4]),
        ("> 10", [9.6, 11], [9.5]),
        ("<= 10", [10.5, -1], [10.6]),
        ("< 10", [10.4, 0], [10.5]),
        ("== 10", [9.5, 10, 10.5], [9.4, 10.6]),
        ("!= 10", [9.4, 10.6], [9.5, 10.5]),
        ("true", [True, 1, 1.0], [False, 0]),
        ("== false", [False, 0], [True]),
        ("!= false", [True], [False]),
        ("== 10 +- 0", [10], [10.0001]),
    ],
)
def test_a_value_meets_it_up_to_the_tolerance(text, met, not_met):
    expectation = parse_expectation(text)
    assert all(expectation.is_met(x) for x in met)
    assert not any(expectation.is_met(x) for x in not_met)


@pytest.mark.parametrize("op", [">=", ">", "<=", "<", "==", "!="])
def test_no_number_claim_is_met_by_nan(op):
    assert not parse_expectation(f"{op} 1").is_met(math.nan)


def test_a_yaml_flag_is_an_expectation_of_that_flag():
    assert parse_expectation(True).is_met(True)
    assert parse_expectation(True).text == "true"


EXAMPLE = 'Write a comparison, such as ">= 26e6 tokens/s", "<= 50 ms +- 2 %" or "== true".'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("50 ms", f"must be a comparison with a value, got 50 ms. {EXAMPLE}"),
        ("64", f"must be a comparison with a value, got 64. {EXAMPLE}"),
        (64, f"must be a comparison with a value, got 64. {EXAMPLE}"),
        (None, f"must be a comparison with a value, got null. {EXAMPLE}"),
        (">=", f"must be a comparison with a value, got >=. {EXAMPLE}"),
        ("=> 3", f"must be a comparison with a value, got => 3. {EXAMPLE}"),
        (">= true", "must be one number and one unit, got true. Nothing is calculated here. Write a number and a unit, "
         'such as ">= 26e6 tokens/s".'),
        ("== 1e400", "must be finite, got 1e400. Write a number below 1e308."),
        ("== 2 +- -1", "must have a tolerance of at least 0, got == 2 +- -1. Remove the minus sign after +-."),
        ("== 3 GB +- 3 us", "must have a tolerance of the same kind as its value, got == 3 GB +- 3 us. "
         'Write a quantity in bytes or "2 %".'),
        ("== 3 GB +- 3", "must have a tolerance of the same kind as its value, got == 3 GB +- 3. "
         'Write a quantity in bytes or "2 %".'),
        ("== 3 +- 3 us", "must have a tolerance of the same kind as its value, got == 3 +- 3 us. "
         'Write a bare number or a percentage, such as "+- 2 %".'),
    ],
)  # fmt: skip
def test_what_is_no_expectation_is_refused_with_a_cure(text, message):
    with pytest.raises(InvalidValueError) as refused:
        parse_expectation(text)
    assert str(refused.value) == f"the value {message}"


@given(st.text(max_size=130) | st.text(alphabet="<>=! +-±0123456789.e%GBms/tokens", max_size=40))
def test_any_text_is_read_or_refused(text):
    try:
        expectation = parse_expectation(text)
    except InvalidValueError:
        return
    assert expectation.tolerance >= 0
    assert math.isfinite(expectation.value)


@given(st.floats(-1e12, 1e12), st.sampled_from([">=", "<=", "=="]))
def test_a_quoted_value_meets_itself(value, op):
    assert parse_expectation(f"{op} {value!r}").is_met(value)
