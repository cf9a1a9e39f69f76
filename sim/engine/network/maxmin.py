"""Max-min fair rates: the plain solver. Slow and obvious, it stays as the oracle of any faster one.

Model
-----
Transfer t stands for flows that all run at one rate r_t (bytes/s per flow) and puts w[t, l] flows on link l. All rates
grow together from zero; when a link is full, the rates of the transfers on it stop; the others grow on::

    sum_t w[t, l] * r_t <= capacity[l]              for every link
    each t has a full link on which no other transfer's rate is higher

A bound on r_t is a link of that capacity on which t has one flow, and nobody else any.

References
----------
Bertsekas & Gallager, "Data networks", 1992, section 6.5.2 (max-min flow control, progressive filling).
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["bounded_rows", "bounded_weights", "few_max_min_rates", "max_min_rates"]

FloatArray = NDArray[np.float64]
Weight = tuple[NDArray[np.intp], FloatArray]
"""Links of a transfer [K], and the flows that it puts on each [K]."""
_TIE = 1e-12  # links this close to the lowest level fill together
_TINY = 1e-300  # of what is left of a full link


def max_min_rates(weights: Sequence[Weight], capacity: FloatArray) -> FloatArray:
    """Return the rate per flow of each transfer.

    Parameters
    ----------
    weights
        For each transfer, its links [K] and the flows it puts on each of them [K], above 0.
    capacity
        Bytes/s of each link. Shape [L].

    Returns
    -------
    numpy.ndarray
        Bytes/s per flow; 0 where a link of the transfer has no capacity. Shape [T].

    Examples
    --------
    Three flows and one flow on a link of 100 share it 75 : 25; the single flow's second link leaves it enough.

    >>> link = np.array([0])
    >>> max_min_rates([(link, np.array([3.0])), (np.array([0, 1]), np.ones(2))], np.array([100.0, 60.0]))
    array([25., 25.])
    """
    dense = np.zeros((len(weights), capacity.size))
    for row, (links, flows) in enumerate(weights):
        dense[row, links] = flows
    rates = np.zeros(len(weights))
    is_free = dense.any(axis=1)
    while is_free.any():
        wanted = dense[is_free].sum(axis=0)
        left = capacity - (rates[~is_free, None] * dense[~is_free]).sum(axis=0)  # not BLAS: sums keep their order
        used = wanted > 0
        level = np.full(capacity.shape, np.inf)
        level[used] = np.maximum(left[used], 0.0) / wanted[used]
        lowest = level.min()
        stops = is_free & dense[:, level <= lowest * (1 + _TIE)].any(axis=1)
        rates[stops] = lowest
        is_free &= ~stops
    return rates


def few_max_min_rates(rows: Sequence[FloatArray]) -> list[float]:
    """Return the rate per flow of a few transfers: what `max_min_rates` gives, one bottleneck after another.

    Parameters
    ----------
    rows
        For each transfer, its flows on each link over the link's capacity. T arrays of shape [L].

    Examples
    --------
    >>> few_max_min_rates([np.array([3 / 100, 0.0]), np.array([1 / 100, 1 / 60])])
    [25.0, 25.0]
    """
    rates, free, level = [0.0] * len(rows), list(range(len(rows))), 0.0
    wanted = _sum(rows)
    used: FloatArray | None = None
    while True:
        if used is not None:
            wanted = _sum([rows[i] for i in free]) / np.maximum(1.0 - used, _TINY)
        bottleneck = int(wanted.argmax())
        level = max(level, 1.0 / wanted.item(bottleneck))
        going, stopped = [], []
        for i in free:
            if rows[i].item(bottleneck) > 0.0:
                rates[i] = level
                stopped.append(rows[i])
            else:
                going.append(i)
        if not going:
            return rates
        free, taken = going, _sum(stopped) * level
        used = taken if used is None else used + taken


def bounded_weights(
    weights: Sequence[Weight], capacity: FloatArray, most_bytes_per_s: Sequence[float]
) -> tuple[Sequence[Weight], FloatArray]:
    """Return weights and capacities, as `max_min_rates` takes them, with the bounds' links after the others.

    >>> link = np.array([0])
    >>> pair = [(link, np.array([1.0])), (link, np.array([1.0]))]
    >>> max_min_rates(*bounded_weights(pair, np.array([100.0]), [20.0, np.inf]))
    array([20., 80.])
    """
    bounded = [i for i, most in enumerate(most_bytes_per_s) if most < math.inf]
    if not bounded:
        return weights, capacity
    own = {i: np.array([capacity.size + place]) for place, i in enumerate(bounded)}
    with_own = [
        (np.append(links, own[i]), np.append(flows, 1.0)) if i in own else (links, flows)
        for i, (links, flows) in enumerate(weights)
    ]
    return with_own, np.append(capacity, [most_bytes_per_s[i] for i in bounded])


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
    return [np.append(row, one) for row, one in zip(rows, own, strict=True)]


def _sum(rows: Sequence[FloatArray]) -> FloatArray:
    if len(rows) == 1:
        return rows[0]
    total = rows[0] + rows[1]
    for row in rows[2:]:
        total += row
    return total
