"""Quantiles of Student's t, for intervals over a few seeds.

Model
-----
    P(|T| <= t) = 2 / pi (a + sin a cos a [1 + 2/3 cos**2 a + ... + 2 4 ... (n - 3) / (3 5 ... (n - 2)) cos**(n - 3) a])
                  for odd n, 2 a / pi for n = 1
    P(|T| <= t) = sin a [1 + 1/2 cos**2 a + ... + 1 3 ... (n - 3) / (2 4 ... (n - 2)) cos**(n - 2) a]    for even n

with n degrees of freedom and a = arctan(t / sqrt(n)), which is found by halving.

References
----------
Abramowitz and Stegun, Handbook of Mathematical Functions (1964), 26.7.3 and 26.7.4.
"""

import math
from functools import lru_cache

__all__ = ["student_quantile"]

_HALVINGS = 60


@lru_cache(maxsize=128)
def student_quantile(degrees: int) -> float:
    """Return t with P(|T| <= t) = 0.95, the 0.975 quantile, of 1, 2, ... degrees of freedom, to 1e-9 of it.

    >>> [round(student_quantile(degrees), 3) for degrees in (1, 2, 10, 99)]
    [12.706, 4.303, 2.228, 1.984]
    """
    low, high = 0.0, math.pi / 2
    for _ in range(_HALVINGS):
        angle = (low + high) / 2
        if _within(angle, degrees) < 0.95:
            low = angle
        else:
            high = angle
    return math.sqrt(degrees) * math.tan(high)


def _within(angle: float, degrees: int) -> float:
    """Return P(|T| <= sqrt(degrees) tan(angle))."""
    sine, cosine = math.sin(angle), math.cos(angle)
    if degrees == 1:
        return 2 * angle / math.pi
    odd = degrees % 2
    term = total = cosine if odd else 1.0
    for k in range(2 + odd, degrees, 2):
        term *= (k - 1) / k * cosine**2
        total += term
    return 2 / math.pi * (angle + sine * total) if odd else sine * total
