"""Counts of token copies by a normal law: much faster than drawing them, and not exact.

Model
-----
A source's n tokens take expert e with probability pi[e], so that its count has the mean n pi and the variance
d = n pi (1 - pi); counts of a source sum to n top_k. The normal law here has these means and variances, and covariances

    cov[e, f] = - v[e] v[f] / sum(v)            with v - v**2 / sum(v) = d

as rejective sampling has them where many experts share the choices (Hajek 1964). A draw is independent normal numbers
of variance v less v / sum(v) of their sum, and is rounded so that every sum over the first experts is within 1/2.

Assumptions
-----------
Third moments are those of a normal law. Only layers whose experts all have a variance of at least `LEAST_VARIANCE` in a
source are drawn so, where the skewness of an exact count is at most 0.2; the others are drawn exactly. An exact draw of
the same seed has other numbers.

References
----------
Hajek, "Asymptotic theory of rejective sampling with varying probabilities from a finite population", Annals of
Mathematical Statistics 35, 1964.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["DRAWS", "LEAST_VARIANCE", "normal_counts"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

DRAWS: Final = ("exact", "approximate")
"""How tokens are drawn: `routing.draw`."""
LEAST_VARIANCE: Final = 25.0
"""Least variance of a count from which on it is taken to be normal."""
_MAX_ITERATIONS: Final = 200
_TOLERANCE: Final = 1e-9


def normal_counts(inclusion: FloatArray, num_sources: int, tokens: int, rng: np.random.Generator) -> IntArray | None:
    """Return how many of its tokens each source sends to each expert; None where a normal law does not fit. [S, E].

    Parameters
    ----------
    inclusion
        Probability that a token takes each expert, of sum top_k. Shape [E].
    num_sources, tokens, rng
        Sources, tokens of each, and random numbers.

    Examples
    --------
    >>> normal_counts(np.full(4, 0.5), 2, 1000, np.random.default_rng(1)).sum(axis=1)
    array([2000, 2000])
    >>> normal_counts(np.full(4, 0.5), 2, 10, np.random.default_rng(1)) is None
    True
    """
    wanted = tokens * inclusion * (1.0 - inclusion)
    is_drawn = (inclusion > 0) & (inclusion < 1)
    if is_drawn.any() and wanted[is_drawn].min() < LEAST_VARIANCE:
        return None
    variance = _independent_variances(wanted)
    if variance is None:
        return None
    total = variance.sum()
    noise = rng.standard_normal((num_sources, inclusion.size)) * np.sqrt(variance)
    if total:
        noise -= noise.sum(axis=1, keepdims=True) * (variance / total)
    most = round(tokens * float(inclusion.sum()))
    reached = np.cumsum(np.clip(tokens * inclusion + noise, 0.0, tokens), axis=1)
    reached = np.minimum(np.rint(reached), most).astype(np.int64)
    reached[:, -1] = most
    return np.asarray(np.diff(reached, axis=1, prepend=0), dtype=np.int64)


# ---- private -----------------------------------------------------------------------------------------------------


def _independent_variances(wanted: FloatArray) -> FloatArray | None:
    """Return v with v - v**2 / sum(v) = `wanted` [E]; None: an expert has more than half of all."""
    variance: FloatArray = wanted.copy()
    for _ in range(_MAX_ITERATIONS):
        total = variance.sum()
        if not total:
            return variance
        share = variance / total
        if share.max() >= 0.5:  # its own count would be the negative of all others
            return None
        after: FloatArray = wanted / (1.0 - share)
        if np.abs(after - variance).max() <= _TOLERANCE * total:
            return after
        variance = after
    return None
