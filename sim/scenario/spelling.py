"""Quantities as others write them, in the one spelling of the table: for the hint of a refusal, never for a value.

`1,000,000` and `1_000` lose their separators, `1M` becomes `1e6`, `Gbit/s`, `Gbps`, `µs` and `token/s` become `Gb/s`,
`us` and `tokens/s`. What could be read in two ways is left alone: `gbps` may be bits or bytes.
"""

import re
from collections.abc import Collection, Mapping
from typing import Final

__all__ = ["respelt"]

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


def respelt(text: str, units: Collection[str], *, bare: bool = False) -> str | None:
    """Return a quantity with a unit of `units`, or with `bare` one without; None where it cannot be told.

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


def _unit(unit: str) -> str:
    """Return a unit with the words of the table."""
    for word, ours in _WORDS:
        unit = re.sub(word, ours, unit)
    return unit
