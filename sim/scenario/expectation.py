"""What a claim expects of its metric: `OP NUMBER[ UNIT][ +- TOL]`.

Grammar
-------
::

    expect    = OP number-or-quantity [ ("+-" | "±") tolerance ]
              | [ ("==" | "=" | "!=") ] ( "true" | "false" )
    OP        = ">=" | "<=" | "==" | "=" | "!=" | ">" | "<"
    quantity  = NUMBER UNIT                 of the table of `sim.scenario.units`
    tolerance = NUMBER "%"                  of the expected value: at most 100, with >= and > less
              | NUMBER UNIT                 of the same dimension
              | NUMBER                      only where the value is a bare number or a percentage

Bare numbers are for counts and ratios, `true` and `false` for flags.

Model
-----
Without a tolerance a claim is met to its quoted precision: half a unit of the last digit as it is written. `3.92 GB`
is +-0.005 GB, `26e6` is +-0.5e6, `50 ms` is +-0.5 ms, `468750000` is +-0.5: trailing zeros count as significant, so who
means "about 50" writes `5e1`, and who means a ratio of nothing writes `0.000`, for `0` is met by 0.4.

    == v   |x - v| <= tolerance        >= v   x >= v - tolerance        > v   x > v - tolerance
    != v   |x - v| >  tolerance        <= v   x <= v + tolerance        < v   x < v + tolerance
"""

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Literal, cast

from sim.errors import InvalidValueError
from sim.scenario.units import NUMBER, UNITS, Dimension, exact_float, parse_any_quantity, split_quantity

__all__ = ["Expectation", "Op", "parse_expectation"]

Op = Literal[">=", "<=", "==", "!=", ">", "<"]
"""How the metric is compared; `=` is read as `==`."""

_ORDERS: Final[Mapping[str, tuple[Callable[[float, float], bool], int]]] = {
    ">=": (operator.ge, -1),
    ">": (operator.gt, -1),
    "<=": (operator.le, +1),
    "<": (operator.lt, +1),
}
"""The comparison of an inequality, and on which side the tolerance is granted."""

_MAX_LENGTH: Final = 120
_EXAMPLE: Final = 'Write a comparison, such as ">= 26e6 tokens/s", "<= 50 ms +- 2 %" or "== true".'
_FLAG: Final = re.compile(r"(?:(==|=|!=) ?)?(true|false)", re.ASCII)
_NUMERIC: Final = re.compile(r"(>=|<=|==|!=|=|>|<) ?([^\s<>=!+±][^<>=!±]*?)(?: ?(?:\+-|±) ?([^<>=!±]+))?")
_BARE: Final = re.compile(NUMBER, re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What a claim expects of its metric, in SI units."""

    op: Op
    """How the metric is compared with `value`."""
    value: float | bool
    """The expected value, SI."""
    unit: Dimension | None
    """The SI unit of `value`; None for counts, bare ratios and flags."""
    tolerance: float
    """How far from `value` the metric may be, SI, at least 0; 0 for flags."""
    text: str
    """The expectation as it was written."""

    def is_met(self, x: float | bool) -> bool:
        """Return whether a simulated value agrees with the claim; a NaN agrees with nothing.

        Examples
        --------
        >>> parse_expectation("<= 50 ms").is_met(0.0504), parse_expectation("<= 50 ms").is_met(0.0506)
        (True, False)
        """
        if isinstance(self.value, bool):
            return (x == self.value) == (self.op == "==")
        if math.isnan(x):
            return False
        if self.op in {"==", "!="}:
            return (abs(x - self.value) <= self.tolerance) == (self.op == "==")
        compare, side = _ORDERS[self.op]
        return compare(x, self.value + side * self.tolerance)


def parse_expectation(text: object) -> Expectation:
    """Return the expectation a claim's `expect` states.

    Raises
    ------
    InvalidValueError
        The text is not of the grammar above.

    Examples
    --------
    >>> parse_expectation(">= 26e6 tokens/s")
    Expectation(op='>=', value=26000000.0, unit='tokens/s', tolerance=500000.0, text='>= 26e6 tokens/s')
    >>> parse_expectation("== 3.92 GB +- 2 %").tolerance
    78400000.0
    >>> parse_expectation("== true").is_met(True)
    True
    """
    if isinstance(text, bool):
        return Expectation(op="==", value=text, unit=None, tolerance=0.0, text=str(text).lower())
    if not isinstance(text, str) or len(text) > _MAX_LENGTH:
        raise InvalidValueError(rule="be a comparison with a value", value=text, hint=_EXAMPLE)
    stripped = text.strip()
    flag = _FLAG.fullmatch(stripped)
    if flag is not None:
        return Expectation(op=_op(flag[1] or "=="), value=flag[2] == "true", unit=None, tolerance=0.0, text=text)
    match = _NUMERIC.fullmatch(stripped)
    if match is None:
        raise InvalidValueError(rule="be a comparison with a value", value=text, hint=_EXAMPLE)
    return _numeric(_op(match[1]), match[2].strip(), match[3], text)


def _op(written: str) -> Op:
    """Return the comparison; `=` means `==`."""
    return cast(Op, "==" if written == "=" else written)


def _numeric(op: Op, quantity: str, tolerance: str | None, text: str) -> Expectation:
    """Return the expectation of a number, with the tolerance given or quoted."""
    value, unit = _value(quantity)
    if tolerance is not None:
        _check_share(op, tolerance.strip(), text)
    width = _quoted_precision(quantity, text) if tolerance is None else _tolerance(tolerance.strip(), value, unit, text)
    return Expectation(op=op, value=value, unit=unit, tolerance=width, text=text)


def _value(quantity: str) -> tuple[float, Dimension | None]:
    """Return a bare number, or a quantity with its dimension."""
    if _BARE.fullmatch(quantity):
        return exact_float(Fraction(quantity), quantity), None
    return parse_any_quantity(quantity, example=">= 26e6 tokens/s")


def _quoted_precision(quantity: str, text: str) -> float:
    """Return half a unit of the last digit of a number as it is written, in SI."""
    number, unit = (quantity, "") if _BARE.fullmatch(quantity) else split_quantity(quantity)
    mantissa, _, exponent = number.lower().partition("e")
    last_digit = Fraction(10) ** (int(exponent or 0) - len(mantissa.partition(".")[2]))
    return exact_float(last_digit / 2 * (UNITS[unit].factor if unit else 1), text)


def _check_share(op: Op, tolerance: str, text: str) -> None:
    """Refuse a share of the value that leaves a lower bound of 0 or less, which every metric meets, or says nothing."""
    width, dimension = _value(tolerance)
    if dimension != "ratio" or width < 1 or (width == 1 and op not in {">=", ">"}):
        return
    if op in {">=", ">"}:
        hint = 'All values would meet it: write for example "+- 2 %".'
        raise InvalidValueError(rule="have a tolerance below 100 %", value=text, hint=hint)
    raise InvalidValueError(rule="have a tolerance of at most 100 %", value=text, hint='Write for example "+- 2 %".')


def _tolerance(tolerance: str, value: float, unit: Dimension | None, text: str) -> float:
    """Return a tolerance that is given, in SI."""
    width, dimension = _value(tolerance)
    if width < 0:
        raise InvalidValueError(
            rule="have a tolerance of at least 0", value=text, hint="Remove the minus sign after +-."
        )
    if dimension == "ratio":
        return abs(value) * width
    if dimension == unit or (dimension is None and unit == "ratio"):
        return width
    wanted = 'a bare number or a percentage, such as "+- 2 %"' if unit is None else f'a quantity in {unit} or "2 %"'
    raise InvalidValueError(rule="have a tolerance of the same kind as its value", value=text, hint=f"Write {wanted}.")
