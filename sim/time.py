"""Time in whole nanoseconds: seconds become nanoseconds here and nowhere else.

Model
-----
    delay_ns = ceil(delay_s * 1e9)        a completion is rounded up, never down

NaN, infinite and negative delays are refused, and so are delays that whole nanoseconds of 64 bits would not hold.
"""

import math

import numpy as np
from numpy.typing import NDArray

from sim.errors import SimulationError

__all__ = ["TimeRangeError", "to_ns", "to_ns_array"]

_ROUNDING_NS = 1e-6  # float noise below this is not rounded up to a whole nanosecond
_LONGEST_S = 1e9  # 31 years: sums of delays stay within 64 bits of nanoseconds
_HINT = "Lower the sizes or raise the rates that make one step so long."


class TimeRangeError(SimulationError):
    """A time that the clock cannot hold."""

    def __init__(self, problem: str, hint: str, cause: str = "") -> None:
        self.problem, self.hint, self.cause = problem, hint, cause
        super().__init__(f"{problem}{cause and ' for '}{cause}. {hint}")
        self.args = (problem, hint, cause)  # pickle makes errors anew from them

    def __str__(self) -> str:
        return f"{self.problem}{self.cause and ' for '}{self.cause}. {self.hint}"

    def caused_by(self, cause: str) -> "TimeRangeError":
        """Return the error with what takes so long, such as `a kernel of 3e+30 FLOPs`."""
        return TimeRangeError(self.problem, self.hint, cause)


def to_ns(delay_s: float) -> int:
    """Return a delay in whole nanoseconds, rounded up.

    >>> to_ns(1.2e-9), to_ns(3e-6)
    (2, 3000)
    """
    if not 0 <= delay_s <= _LONGEST_S:  # false for NaN
        raise _no_delay(delay_s)
    return math.ceil(delay_s * 1e9 - _ROUNDING_NS)


def to_ns_array(delay_s: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return delays in whole nanoseconds, rounded up. Shape of the argument."""
    fits = (delay_s >= 0) & (delay_s <= _LONGEST_S)
    if not fits.all():
        raise _no_delay(float(delay_s[~fits].flat[0]))
    return np.ceil(delay_s * 1e9 - _ROUNDING_NS).astype(np.int64)


def _no_delay(delay_s: float) -> TimeRangeError:
    """Return the refusal of a delay that the clock cannot hold."""
    rule = f"a delay must be finite, not negative and at most {_LONGEST_S:g} s"
    return TimeRangeError(f"clock: {rule}, got {delay_s} s", _HINT)
