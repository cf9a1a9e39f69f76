"""Quantities with units: one number and one unit of a closed table, in SI.

Model
-----
    value_si = number * factor[unit]

worked out as an exact fraction and rounded once, so that `0.601 ms` is the same float as `601 us`.

- The table is the contract's; nothing is evaluated, guessed or abbreviated. `Gb` is 10^9 bits, `GB` 10^9 bytes,
  `GiB` 2^30 bytes.
- A quantity in bits is a quantity in bytes: `400 Gb/s` is 50e9 bytes/s.
- `%` is a ratio: `6.1 %` is 0.061.
- Texts are bounded in length and exponent before a number is made of them. General unit libraries read "400 Gb/s" as
  gilberts and hang on "9**9**9 GB".
- The hint of a refusal offers a quantity in another common spelling (`400 Gbps`, `1M tokens/s`) in the spelling of
  the table. A value is never read from such a spelling.
"""

import re
from collections.abc import Collection, Mapping
from fractions import Fraction
from typing import Final, Literal, NamedTuple, get_args

from sim.errors import InvalidValueError, shown

__all__ = [
    "DIMENSIONS",
    "UNITS",
    "Dimension",
    "Unit",
    "parse_any_quantity",
    "parse_quantity",
    "quantity_pattern",
    "respelt",
    "split_quantity",
]

Dimension = Literal["bytes", "bytes/s", "s", "FLOP/s", "tokens", "tokens/s", "ratio"]
"""What a quantity measures, named by the SI unit it is returned in."""

DIMENSIONS: Final[tuple[Dimension, ...]] = get_args(Dimension)

_NOUNS: Final[Mapping[Dimension, tuple[str, str]]] = {
    "bytes": ("a size", "64 GB"),
    "bytes/s": ("a bandwidth", "400 Gb/s"),
    "s": ("a time", "3 us"),
    "FLOP/s": ("a rate of arithmetic", "989 TFLOP/s"),
    "tokens": ("a number of tokens", "4096 tokens"),
    "tokens/s": ("a rate of tokens", "26e6 tokens/s"),
    "ratio": ("a ratio", "6.1 %"),
}
"""How a message names a dimension, and a quantity that shows it."""


class Unit(NamedTuple):
    """One row of the table."""

    dimension: Dimension
    """What the unit measures."""
    factor: Fraction
    """How many SI units one of it is."""


def _sizes() -> dict[str, Fraction]:
    """Return bytes per unit of size."""
    decimal = {prefix: Fraction(10) ** (3 * power) for power, prefix in enumerate(["", "k", "M", "G", "T"])}
    binary = {prefix: Fraction(2) ** (10 * power) for power, prefix in enumerate(["Ki", "Mi", "Gi"], start=1)}
    bits = {f"{prefix}b": factor / 8 for prefix, factor in decimal.items() if prefix != "T"}
    return {f"{prefix}B": factor for prefix, factor in (decimal | binary).items()} | bits


def _table() -> dict[str, Unit]:
    """Return the contract's table of units."""
    times = {"ns": -9, "us": -6, "ms": -3, "s": 0}
    rates = {"": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15}
    return {
        **{name: Unit("bytes", factor) for name, factor in _sizes().items()},
        **{f"{name}/s": Unit("bytes/s", factor) for name, factor in _sizes().items()},
        **{name: Unit("s", Fraction(10) ** power) for name, power in times.items()},
        **{f"{prefix}FLOP/s": Unit("FLOP/s", Fraction(10) ** power) for prefix, power in rates.items()},
        "tokens": Unit("tokens", Fraction(1)),
        "tokens/s": Unit("tokens/s", Fraction(1)),
        "%": Unit("ratio", Fraction(1, 100)),
    }


UNITS: Final[Mapping[str, Unit]] = _table()
"""Every unit there is, by the only spelling it has."""

NUMBER: Final = r"[+-]?(?:[0-9]{1,30}(?:\.[0-9]{0,30})?|\.[0-9]{1,30})(?:[eE][+-]?[0-9]{1,3})?"
"""A decimal number, bounded, as a regular expression."""

_SEPARATED: Final = re.compile(r"[+-]?[0-9]{1,3}([,_'][0-9]{3})+(?![0-9])", re.ASCII)
_WRITTEN: Final = re.compile(r"([+-]?(?:[0-9]{1,30}(?:\.[0-9]{0,30})?|\.[0-9]{1,30}))(e[+-]?[0-9]{1,3})?(.*)", re.I)
_POWERS: Final[Mapping[str, int]] = {"k": 3, "K": 3, "M": 6, "G": 9, "B": 9, "T": 12}
"""Letters that stand for a power of ten behind a number; they are no unit of a count."""
_WORDS: Final[tuple[tuple[str, str], ...]] = (
    ("[µμ]", "u"),
    (r"\s*(per|/)\s*(seconds?|secs?|s)$", "/s"),
    ("(bit|b)ps$", "b/s"),
    ("Bps$", "B/s"),
    (r"\bpercent$", "%"),
    ("[Bb]ytes?(?=/|$)", "B"),
    ("bits?(?=/|$)", "b"),
    (r"^(seconds?|secs?)$", "s"),
    ("^([mun])secs?$", r"\1s"),
    ("[Tt]ok(en)?s?(?=/|$)", "tokens"),
    ("tokensps$", "tokens/s"),
    ("[Tt]ps$", "tokens/s"),
    ("FLOPS$|FLOPs$|flops$|FLOPs?/s$|flops?/s$", "FLOP/s"),
)
"""Parts of units of the trade, and what the table has for them, in this order."""

_MAX_LENGTH: Final = 80
_QUANTITY: Final = re.compile(rf"({NUMBER}) ?([A-Za-z%][A-Za-z/]{{0,9}})", re.ASCII)
_NON_FINITE: Final = re.compile(r"[+-]?\.?(nan|inf|infinity)\b", re.IGNORECASE | re.ASCII)
_BARE: Final = re.compile(NUMBER, re.ASCII)


def parse_quantity(text: object, dimension: Dimension, *, allow_negative: bool = False) -> float:
    """Return a quantity of the given dimension in SI units.

    Parameters
    ----------
    text
        A number and one unit, with or without one space between them.
    dimension
        What it must measure.
    allow_negative
        Whether a value below zero makes sense.

    Raises
    ------
    InvalidValueError
        Not one finite number and one unit of the table, or of another dimension.

    Examples
    --------
    >>> parse_quantity("400 Gb/s", "bytes/s")
    50000000000.0
    >>> parse_quantity("64GiB", "bytes")
    68719476736.0
    >>> parse_quantity("3 us", "bytes")
    Traceback (most recent call last):
    sim.errors.InvalidValueError: the value must be a size, got 3 us. us is ...
    """
    value, found = parse_any_quantity(text, example=_NOUNS[dimension][1], wanted=dimension)
    if found != dimension:
        unit = str(text).strip().lstrip("+-.0123456789eE").strip()
        raise InvalidValueError(
            rule=f"be {_NOUNS[dimension][0]}",
            value=text,
            hint=f'{unit} is a unit of {_NOUNS[found][0]}: write for example "{_NOUNS[dimension][1]}".',
        )
    if value < 0 and not allow_negative:
        raise InvalidValueError(
            rule=f"be {_NOUNS[dimension][0]} of at least 0", value=text, hint="Remove the minus sign."
        )
    return value


def parse_any_quantity(
    text: object, *, example: str = "400 Gb/s", wanted: Dimension | None = None
) -> tuple[float, Dimension]:
    """Return a quantity in SI units, with its dimension; `wanted` is the one whose units a refusal offers.

    Examples
    --------
    >>> parse_any_quantity("0.601 ms")
    (0.000601, 's')
    >>> parse_any_quantity("400")
    Traceback (most recent call last):
    sim.errors.InvalidValueError: the value must have a unit, got 400. Write a number ...
    """
    try:
        number, unit = split_quantity(text, example=example)
    except InvalidValueError as refusal:
        ours = _ours(text, wanted)
        hint = refusal.hint if ours is None else f"Write {ours}."
        raise InvalidValueError(rule=refusal.rule, value=text, hint=hint) from None
    row = UNITS.get(unit)
    if row is None:
        ours = _ours(text, wanted)
        hint = _unit_hint(unit, wanted) if ours is None else f"Units have one spelling: write {ours}."
        raise InvalidValueError(rule="have a unit of the table", value=text, hint=hint)
    return exact_float(Fraction(number) * row.factor, text), row.dimension


def exact_float(value: Fraction, text: object) -> float:
    """Return the nearest float to an exact value; an `InvalidValueError` if it is too large for one.

    Examples
    --------
    >>> exact_float(Fraction(601, 1000), "0.601")
    0.601
    """
    try:
        return float(value)
    except OverflowError:
        raise InvalidValueError(rule="be finite", value=text, hint="Write a number below 1e308.") from None


def quantity_pattern(dimension: Dimension) -> str:
    """Return a regular expression of the quantities of a dimension, for editors.

    Examples
    --------
    >>> quantity_pattern("ratio").endswith(" ?(%)$")
    True
    """
    units = "|".join(name for name, unit in UNITS.items() if unit.dimension == dimension)
    return f"^{NUMBER} ?({units})$"


def respelt(text: str, units: Collection[str], *, bare: bool = False) -> str | None:
    """Return a quantity with a unit of `units`, or with `bare` one without; None where the unit is unknown.

    Examples
    --------
    >>> respelt("400 Gbit/s", ["Gb/s", "GB/s"]), respelt("1M tokens/s", ["tokens/s"])
    ('400 Gb/s', '1e6 tokens/s')
    >>> respelt("1,000,000", [], bare=True), respelt("400 gbps", ["Gb/s", "GB/s"])
    ('1000000', None)
    """
    if len(text) > 60:
        return None
    plain = _SEPARATED.sub(lambda match: re.sub("[,_']", "", match[0]), text.strip(), count=1)
    match = _WRITTEN.fullmatch(plain)
    if match is None:
        return None
    number, exponent, unit = match[1], match[2] or "", _unit(match[3].strip())
    power = _POWERS.get(unit[:1])
    counted = _unit(unit[1:].strip())
    if unit not in units and power is not None and not exponent and counted in ("", "tokens", "tokens/s"):
        exponent, unit = f"e{power}", counted
    if unit in units:
        return f"{number}{exponent} {unit}"
    return number + exponent if bare and not unit and number + exponent != text.strip() else None


def split_quantity(text: object, *, example: str = "400 Gb/s") -> tuple[str, str]:
    """Return number and unit as written; an `InvalidValueError` if the text is anything else.

    Examples
    --------
    >>> split_quantity("26e6 tokens/s")
    ('26e6', 'tokens/s')
    """
    such_as = f'Write a number and a unit, such as "{example}".'
    if isinstance(text, (int, float)) and not isinstance(text, bool):
        raise InvalidValueError(rule="have a unit", value=text, hint=such_as)
    if not isinstance(text, str):
        raise InvalidValueError(rule="be one number and one unit", value=text, hint=such_as)
    if len(text) > _MAX_LENGTH:
        raise InvalidValueError(rule=f"be at most {_MAX_LENGTH} characters long", value=text, hint=such_as)
    stripped = text.strip()
    match = _QUANTITY.fullmatch(stripped)
    if match is not None:
        return match[1], match[2]
    if _BARE.fullmatch(stripped):
        raise InvalidValueError(rule="have a unit", value=text, hint=such_as)
    if _NON_FINITE.match(stripped):
        raise InvalidValueError(rule="be a finite number and a unit", value=text, hint=such_as)
    raise InvalidValueError(
        rule="be one number and one unit", value=text, hint=f"Nothing is calculated here. {such_as}"
    )


def _offered(wanted: Dimension | None) -> list[str]:
    """Return the units of the wanted dimension, or of all."""
    return [name for name in UNITS if wanted in (None, UNITS[name].dimension)]


def _ours(text: object, wanted: Dimension | None) -> str | None:
    """Return a text in the spelling of the table of units; None where its unit is unknown."""
    return respelt(text, _offered(wanted), bare=wanted is None) if isinstance(text, str) else None


def _unit_hint(unit: str, wanted: Dimension | None) -> str:
    """Return how to write a unit that is not in the table: units of the wanted dimension, or of all."""
    offered = _offered(wanted)
    letters = unit.lower().replace("bps", "b/s")
    same_letters = [n for n in offered if n.lower() == letters] or [n for n in UNITS if n.lower() == letters]
    if same_letters:
        bits = " (b is bits, B bytes)" if "b" in unit.lower() else ""
        reason = "Units are case sensitive" if letters == unit.lower() else "Units have one spelling"
        return f"{reason}: write {' or '.join(sorted(same_letters, key=str.swapcase))}{bits}."
    return f"{shown(unit)} is not one of {', '.join(offered)}."


def _unit(unit: str) -> str:
    """Return a unit with the words of the table."""
    for word, ours in _WORDS:
        unit = re.sub(word, ours, unit)
    return unit
