"""Max-min fair rates of a few transfers, one bottleneck after another.

Model
-----
Transfer t stands for flows that all run at one rate r_t (bytes/s per flow) and puts w[t, l] flows on link l. All rates
grow together from zero; when a link is full, the rates of the transfers on it stop; the others grow on::

    sum_t w[t, l] * r_t <= capacity[l]              for every link
    each t has a full link on which no other transfer's rate is higher

A bound on r_t is a link of that capacity on which t has one flow, and no other transfer has any.

The tests keep a slow solver that follows these sentences literally, as the oracle of this one.

References
----------
Bertsekas & Gallager, "Data networks", 1992, section 6.5.2 (max-min flow control, progressive filling).
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["bounded_rows", "few_max_min_rates"]

FloatArray = NDArray[np.float64]
_WHOLE = np.array(1.0)  # an array, for numpy takes longer to subtract from a number
_TINY = 1e-300  # of what is left of a full link


def few_max_min_rates(rows: Sequence[FloatArray]) -> list[float]:
    """Return the rate per flow of each of a few transfers, in bytes/s.

    Parameters
    ----------
    rows
        For each transfer, its flows on each link over the link's capacity. T arrays of shape [L].

    Examples
    --------
    Three flows and one flow on a link of 100 share the link 75 : 25; the single flow's second link leaves it enough.

    >>> few_max_min_rates([np.array([3 / 100, 0.0]), np.array([1 / 100, 1 / 60])])
    [25.0, 25.0]
    """
    rates, free, level = [0.0] * len(rows), list(enumerate(rows)), 0.0
    wanted, used = _sum(free), None
    while True:
        bottleneck = wanted.argmax()
        share = 1.0 / wanted.item(bottleneck)
        level = share if share > level else level
        going, stopped = [], []
        for place_and_row in free:
            place, row = place_and_row
            if row.item(bottleneck) > 0.0:
                rates[place] = level
                stopped.append(place_and_row)
            else:
                going.append(place_and_row)
        if not going:
            return rates
        taken = _sum(stopped) * level
        used = taken if used is None else np.add(used, taken, used)
        left: FloatArray = np.subtract(_WHOLE, used)
        left[bottleneck] = 1.0  # where none of those that go on flows
        if left.item(left.argmin()) < _TINY:
            np.maximum(left, _TINY, out=left)
        free, wanted = going, np.divide(_sum(going), left, left)
        if len(free) == 1:
            share = 1.0 / wanted.item(wanted.argmax())
            rates[free[0][0]] = share if share > level else level
            return rates


def bounded_rows(rows: Sequence[FloatArray], most_bytes_per_s: Sequence[float]) -> Sequence[FloatArray]:
    """Return rows, as `few_max_min_rates` takes them, with the bounds' links after the others.

    >>> few_max_min_rates(bounded_rows([np.array([1 / 100]), np.array([1 / 100])], [20.0, np.inf]))
    [20.0, 80.0]
    """
    bounded = [i for i, most in enumerate(most_bytes_per_s) if most < math.inf]
    if not bounded:
        return rows
    own = np.zeros((len(rows), len(bounded)))
    own[bounded, np.arange(len(bounded))] = 1.0 / np.array(most_bytes_per_s)[bounded]
    return [np.append(row, own_link) for row, own_link in zip(rows, own, strict=True)]


def _sum(places_and_rows: Sequence[tuple[int, FloatArray]]) -> FloatArray:
    """Return the sum of rows, in their order; of one the row itself."""
    total = places_and_rows[0][1]
    if len(places_and_rows) == 1:
        return total
    total = total + places_and_rows[1][1]
    for _, row in places_and_rows[2:]:
        total += row
    return total
