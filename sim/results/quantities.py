"""Numbers for people: engineering units, few digits."""

import math
from collections.abc import Iterable

__all__ = ["format_quantity", "format_ranges", "format_ratio", "format_span", "time_unit_ns"]

_PREFIXES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
_TIMES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))


def format_quantity(value: float | bool | None, unit: str | None = None) -> str:
    """Return a value in the unit a person would choose, to four digits.

    >>> format_quantity(5.5632e6, "tokens/s"), format_quantity(0.2356, "s"), format_quantity(4.7e8, "bytes")
    ('5.563 M tokens/s', '235.6 ms', '470 MB')
    >>> format_quantity(True), format_quantity(64), format_quantity(0.104, "ratio"), format_quantity(None)
    ('true', '64', '10.4 %', 'no value')
    """
    if value is None:
        return "no value"
    if isinstance(value, bool):
        return str(value).lower()
    if not math.isfinite(value):
        return str(value)
    if unit == "ratio":
        return f"{value * 100:.4g} %"
    if unit == "s":
        scale, name = next(((s, n) for s, n in _TIMES if abs(value) >= s), _TIMES[-1]) if value else _TIMES[0]
        return f"{_digits(value / scale)} {name}"
    if unit is None and (isinstance(value, int) or float(value).is_integer()) and abs(value) < 1e15:
        return f"{int(value):,}"
    if unit is None and abs(value) < 1e4:
        return _digits(value)
    scale, prefix = next(((s, p) for s, p in _PREFIXES if abs(value) >= s), (1.0, ""))
    short = {"bytes": "B", "bytes/s": "B/s"}.get(unit or "", unit or "")
    joint = "" if short in ("B", "B/s", "FLOP/s") else " "
    return f"{_digits(value / scale)} {prefix}{joint if prefix else ''}{short}".rstrip()


def format_ratio(ratio: float) -> str:
    """Return how many times one value is another.

    >>> format_ratio(0.214), format_ratio(4.712), format_ratio(1.004)
    ('0.214 times', '4.71 times', '1.004 times')
    """
    return f"{ratio:.4g} times" if 0.9 < ratio < 1.1 else f"{ratio:.3g} times"


def format_span(low: float, high: float, unit: str | None = None) -> str:
    """Return two values with a unit that they share said once.

    >>> format_span(1.2e6, 8.15e6, "tokens/s"), format_span(0.05, 2, "s"), format_span(3, 3, "s")
    ('1.2 to 8.15 M tokens/s', '50 ms to 2 s', '3 s')
    """
    first, last = format_quantity(low, unit), format_quantity(high, unit)
    number, _, name = first.partition(" ")
    shared = bool(name) and last.partition(" ")[2] == name
    return last if first == last else f"{number if shared else first} to {last}"


def format_ranges(numbers: Iterable[int]) -> str:
    """Return integers in ascending order, with runs of consecutive integers as ranges.

    >>> format_ranges([0, 1, 2, 3, 8, 10, 11])
    '0-3, 8, 10-11'
    """
    ordered = sorted(numbers)
    firsts = [n for i, n in enumerate(ordered) if i == 0 or ordered[i - 1] != n - 1]
    lasts = [n for i, n in enumerate(ordered) if i == len(ordered) - 1 or ordered[i + 1] != n + 1]
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(firsts, lasts, strict=True))


def time_unit_ns(longest_ns: float) -> tuple[float, str]:
    """Return the largest unit, in ns, of which a time has at least 10, and the unit's name.

    >>> time_unit_ns(944e6), time_unit_ns(5e6)
    ((1000000.0, 'ms'), (1000.0, 'us'))
    """
    return next(((1e9 * s, name) for s, name in _TIMES if longest_ns >= 1e10 * s), (1.0, "ns"))


def _digits(value: float) -> str:
    """Return a number to four significant digits, without an exponent below 10,000."""
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"
