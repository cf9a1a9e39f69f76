"""Quantities: the closed table, exactly, and everything that is no quantity."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.errors import InvalidValueError
from sim.scenario.units import DIMENSIONS, UNITS, parse_any_quantity, parse_quantity, split_quantity

TABLE = {
    "bytes": {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
    | {"b": 0.125, "kb": 125, "Mb": 125e3, "Gb": 125e6},
    "s": {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1},
    "FLOP/s": {"FLOP/s": 1, "kFLOP/s": 1e3, "MFLOP/s": 1e6, "GFLOP/s": 1e9, "TFLOP/s": 1e12, "PFLOP/s": 1e15},
    "tokens": {"tokens": 1},
    "tokens/s": {"tokens/s": 1},
    "ratio": {"%": 0.01},
}
"""The contract's table, typed again by hand."""
TABLE["bytes/s"] = {f"{unit}/s": factor for unit, factor in TABLE["bytes"].items()}
ROWS = [(unit, dimension, factor) for dimension, units in TABLE.items() for unit, factor in units.items()]


@pytest.mark.parametrize(("unit", "dimension", "factor"), ROWS)
def test_one_of_each_unit_is_its_factor_in_si(unit, dimension, factor):
    assert parse_quantity(f"1 {unit}", dimension) == factor
    assert parse_quantity(f"1{unit}", dimension) == factor


def test_the_table_has_no_other_unit():
    assert sorted(UNITS) == sorted(unit for unit, _, _ in ROWS)
    assert set(DIMENSIONS) == set(TABLE)


@pytest.mark.parametrize(
    ("text", "dimension", "value"),
    [
        ("400 Gb/s", "bytes/s", 50e9),
        ("64 GB", "bytes", 64e9),
        ("64 GiB", "bytes", 68719476736.0),
        ("0.601 ms", "s", 0.000601),
        ("601 us", "s", 0.000601),
        ("26e6 tokens/s", "tokens/s", 26e6),
        ("989.4 TFLOP/s", "FLOP/s", 989.4e12),
        (".5 GB", "bytes", 0.5e9),
        ("+3. us", "s", 3e-6),
        ("6.1 %", "ratio", 0.061),
        ("1E-3 s", "s", 0.001),
        (" 3 us ", "s", 3e-6),
    ],
)
def test_quantities_are_rounded_once(text, dimension, value):
    assert parse_quantity(text, dimension) == value


A_SIZE = 'Write a number and a unit, such as "64 GB".'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("9**9**9 GB", f"must be one number and one unit, got 9**9**9 GB. Nothing is calculated here. {A_SIZE}"),
        ("2*3 GB", f"must be one number and one unit, got 2*3 GB. Nothing is calculated here. {A_SIZE}"),
        ("nan GB", f"must be a finite number and a unit, got nan GB. {A_SIZE}"),
        ("-inf GB", f"must be a finite number and a unit, got -inf GB. {A_SIZE}"),
        ("400", f"must have a unit, got 400. {A_SIZE}"),
        (400, f"must have a unit, got 400. {A_SIZE}"),
        (4e2, f"must have a unit, got 400.0. {A_SIZE}"),
        ("1e400 GB", "must be finite, got 1e400 GB. Write a number below 1e308."),
        ("1e9999 GB", f"must be one number and one unit, got 1e9999 GB. Nothing is calculated here. {A_SIZE}"),
        ("3 us", 'must be a size, got 3 us. us is a unit of a time: write for example "64 GB".'),
        ("3 GB/s", 'must be a size, got 3 GB/s. GB/s is a unit of a bandwidth: write for example "64 GB".'),
        (
            "400 gb/s",
            "must have a unit of the table, got 400 gb/s. "
            "Units are case sensitive: write Gb/s or GB/s (b is bits, B bytes).",
        ),
        ("4 MS", "must have a unit of the table, got 4 MS. Units are case sensitive: write ms."),
        ("", f"must be one number and one unit, got an empty text. Nothing is calculated here. {A_SIZE}"),
        ("-3 GB", "must be a size of at least 0, got -3 GB. Remove the minus sign."),
        ("5 GB GB", f"must be one number and one unit, got 5 GB GB. Nothing is calculated here. {A_SIZE}"),
        ("٣ GB", f"must be one number and one unit, got ٣ GB. Nothing is calculated here. {A_SIZE}"),
        ("1_000 GB", "must be one number and one unit, got 1_000 GB. Write 1000 GB."),
        (None, f"must be one number and one unit, got null. {A_SIZE}"),
        (True, f"must be one number and one unit, got true. {A_SIZE}"),
        (["1 GB"], f"must be one number and one unit, got [1 GB]. {A_SIZE}"),
        ("1" * 10**6, f"must be at most 80 characters long, got {'1' * 60}.... {A_SIZE}"),
    ],
)
def test_what_is_no_size_is_refused_with_a_cure(text, message):
    with pytest.raises(InvalidValueError) as refused:
        parse_quantity(text, "bytes")
    assert str(refused.value) == f"the value {message}"


def test_an_unknown_unit_lists_the_units_of_what_is_measured():
    with pytest.raises(InvalidValueError, match=r"furlongs is not one of ns, us, ms, s\.$"):
        parse_quantity("3 furlongs", "s")
    with pytest.raises(InvalidValueError, match=r"furlongs is not one of B, kB, MB, .*tokens/s, %\.$"):
        parse_any_quantity("3 furlongs")


def test_a_unit_of_the_trade_is_answered_with_those_of_the_table():
    with pytest.raises(
        InvalidValueError, match=r"Units have one spelling: write Gb/s or GB/s \(b is bits, B bytes\)\.$"
    ):
        parse_quantity("400 gbps", "bytes/s")


@pytest.mark.parametrize(
    ("text", "dimension", "ours"),
    [
        ("400 Gbit/s", "bytes/s", "400 Gb/s"),
        ("400 Gbits/sec", "bytes/s", "400 Gb/s"),
        ("400Gbps", "bytes/s", "400 Gb/s"),
        ("50 GBps", "bytes/s", "50 GB/s"),
        ("50 GB per second", "bytes/s", "50 GB/s"),
        ("64 GBytes", "bytes", "64 GB"),
        ("1_000 GB", "bytes", "1000 GB"),
        ("3 µs", "s", "3 us"),
        ("3μs", "s", "3 us"),
        ("1.5 sec", "s", "1.5 s"),
        ("20 msec", "s", "20 ms"),
        ("989 TFLOPS", "FLOP/s", "989 TFLOP/s"),
        ("989 TFLOPs/s", "FLOP/s", "989 TFLOP/s"),
        ("1M tokens/s", "tokens/s", "1e6 tokens/s"),
        ("26 Mtokens/s", "tokens/s", "26e6 tokens/s"),
        ("2.5k tok/s", "tokens/s", "2.5e3 tokens/s"),
        ("1 token/s", "tokens/s", "1 tokens/s"),
        ("1,000,000 tokens/s", "tokens/s", "1000000 tokens/s"),
        ("6.1 percent", "ratio", "6.1 %"),
    ],
)
def test_a_spelling_of_others_is_answered_with_ours(text, dimension, ours):
    """Never read as such: it is refused, and what the hint says is a quantity."""
    with pytest.raises(InvalidValueError) as refused:
        parse_quantity(text, dimension)
    assert refused.value.hint.endswith(f"rite {ours}.")
    parse_quantity(ours, dimension)


@pytest.mark.parametrize("text", ["1,00 GB", "1M GB", "400 gbps", "3 m", "1,000,00 GB", "GB", "1 GB GB"])
def test_a_spelling_that_is_not_sure_is_not_guessed(text):
    with pytest.raises(InvalidValueError) as refused:
        parse_any_quantity(text)
    assert not refused.value.hint.startswith("Write 1")


def test_a_negative_quantity_is_read_where_it_makes_sense():
    assert parse_quantity("-3 ms", "s", allow_negative=True) == -0.003


@given(
    st.just(0.0) | st.floats(min_value=1e-200, max_value=1e200),  # below, one ulp is more than a digit
    st.sampled_from(sorted(UNITS)),
    st.sampled_from(["", " "]),
)
def test_a_quantity_written_and_read_is_itself(number, unit, space):
    value, dimension = parse_any_quantity(f"{number!r}{space}{unit}")
    assert dimension == UNITS[unit].dimension
    assert math.isclose(value, number * float(UNITS[unit].factor), rel_tol=1e-15)


@given(st.integers(0, 10**15))
def test_bits_are_eighths_of_bytes(number):
    assert parse_quantity(f"{8 * number} Gb/s", "bytes/s") == parse_quantity(f"{number} GB/s", "bytes/s")


@given(st.text(max_size=100) | st.integers() | st.floats() | st.booleans() | st.none(), st.sampled_from(DIMENSIONS))
def test_any_value_is_read_or_refused(value, dimension):
    try:
        assert math.isfinite(parse_quantity(value, dimension))
    except InvalidValueError as refused:
        assert "\n" not in str(refused)


@given(st.text(alphabet="0123456789.eE+- GBkMi/s%", max_size=30))
def test_near_misses_are_read_or_refused(text):
    try:
        value, _ = parse_any_quantity(text)
        number, unit = split_quantity(text)
        assert unit in UNITS
        assert math.isfinite(value) and math.isfinite(float(number))
    except InvalidValueError:
        pass
