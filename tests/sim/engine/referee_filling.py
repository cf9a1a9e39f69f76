"""Ends of flows by water-filling at every completion: plain numpy, without the engine, floats for time.

At each completion the rates of all flows that are left are found anew. A link's level is what it has left over the
flows on it that still grow; a link whose flows all find it the lowest of their own is full at that level, and many such
links fill in one round (each is a bottleneck whatever the others do, which is why one by one gives the same rates).
"""

import numpy as np
from referee_cases import Case

_TIE = 1e-12  # levels this close are one
_ENDED = 1e-12  # of a flow's bytes: float noise of what is left


def fill(paths: np.ndarray, capacity: np.ndarray) -> np.ndarray:
    """Return the rate of each flow.

    Parameters
    ----------
    paths
        Links of each flow, padded with a link that is never full. Shape [F, P].
    capacity
        Of each link. Shape [L].
    """
    rates = np.zeros(len(paths))
    left = capacity.copy()
    free = np.arange(len(paths))
    while free.size:
        on = paths[free]
        counts = np.bincount(on.ravel(), minlength=capacity.size)
        levels = np.divide(left, counts, out=np.full(left.shape, np.inf), where=counts > 0)
        own = levels[on]
        lowest = own.min(axis=1)
        lowest_on_link = np.full(capacity.size, np.inf)
        np.minimum.at(lowest_on_link, on.ravel(), np.repeat(lowest, on.shape[1]))
        is_full = levels <= lowest_on_link * (1 + _TIE)
        stops = (is_full[on] & (own <= lowest[:, None] * (1 + _TIE))).any(axis=1)
        rates[free[stops]] = lowest[stops]
        left -= np.bincount(on[stops].ravel(), np.repeat(lowest[stops], on.shape[1]), minlength=left.size)
        left = np.maximum(left, 0.0)
        free = free[~stops]
    return rates


def filled_ends_s(case: Case) -> np.ndarray:
    """Return the end of each flow in seconds. Shape [F]."""
    never = case.capacity_bytes_per_s.size
    longest = max(map(len, case.paths))
    paths = np.array([[*path, *[never] * (longest - len(path))] for path in case.paths])
    capacity = np.append(case.capacity_bytes_per_s, np.inf)
    left = np.array(case.num_bytes, dtype=float)
    ended = left * _ENDED
    end_s = np.zeros(left.size)
    alive, now_s = np.arange(left.size), 0.0
    while alive.size:
        rates = fill(paths[alive], capacity)
        step_s = (left[alive] / rates).min()
        now_s += step_s
        left[alive] -= rates * step_s
        is_done = left[alive] <= ended[alive]
        end_s[alive[is_done]] = now_s
        alive = alive[~is_done]
    return end_s
