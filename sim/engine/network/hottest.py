"""The hottest links of a run: which they are, and the course of their load.

Model
-----
The hottest links carried the most for what they can carry: bytes / capacity. Their course is the mean load in bins of
equal length, from time 0 to the end of the last transfer:

    mean load in a bin = sum over intervals of (load * time in the bin) / length of the bin

A link is *full* where its load is its capacity, but for rounding. Where links are shared max-min fairly a full link is
the bottleneck of those of its transfers that have the highest rate per flow (Bertsekas and Gallager, Data Networks, 2nd
edition 1992, section 6.5.2), so the time in which a link is full is that in which it is the bottleneck of one.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["FULL", "hottest", "mean_timeline"]

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

FULL: Final = 1 - 1e-6
"""Load from which on a link is full: rates are solved to about 1e-12."""
_MOST_LINKS: Final = 10
_MOST_BINS: Final = 240
_DIGITS: Final = 9
"""Loads that agree to so many are equal: of those the first links are taken."""


def hottest(num_bytes: FloatArray, capacity_bytes_per_s: FloatArray) -> NDArray[np.intp]:
    """Return the links that carried the most for their capacity, hottest first; idle ones are none. Shapes [L] -> [H].

    Examples
    --------
    >>> hottest(np.array([1.0, 0.0, 6.0]), np.array([1.0, 1.0, 3.0]))
    array([2, 0])
    """
    busy_s = num_bytes / np.where(capacity_bytes_per_s > 0, capacity_bytes_per_s, np.inf)
    most = busy_s.max(initial=0.0)
    order = np.argsort(-np.round(busy_s / most, _DIGITS), kind="stable") if most else np.zeros(0, dtype=np.intp)
    chosen = order[:_MOST_LINKS]
    return chosen[busy_s[chosen] > 0]


def mean_timeline(start_ns: IntArray, end_ns: IntArray, load: FloatArray) -> tuple[IntArray, FloatArray]:
    """Return the edges of bins and the mean load in each. Shapes [I], [I], [I, H] -> [B + 1], [B, H].

    Parameters
    ----------
    start_ns, end_ns
        When intervals began and ended.
    load
        Load of each link in each interval, 0 to 1.

    Examples
    --------
    >>> edges, means = mean_timeline(np.array([0, 2]), np.array([2, 4]), np.array([[1.0], [0.5]]))
    >>> edges, means.ravel()
    (array([0, 1, 2, 3, 4]), array([1. , 1. , 0.5, 0.5]))
    """
    last_ns = int(end_ns.max(initial=0))
    edges = np.unique(np.linspace(0, last_ns, min(_MOST_BINS, last_ns) + 1).astype(np.int64))
    times = np.concatenate([start_ns, end_ns])
    order = np.argsort(times, kind="stable")
    times = np.concatenate([[0], times[order]])
    load_from = np.cumsum(np.concatenate([load, -load])[order], axis=0)[:-1] if load.size else load
    carried = np.zeros((times.size, load.shape[1]))  # since time 0, in ns of full load
    if load.size:
        carried[2:] = np.cumsum(load_from * np.diff(times[1:])[:, None], axis=0)
    at_edges = np.stack([np.interp(edges, times, column) for column in carried.T], axis=1) if load.size else carried
    if not load.size or edges.size < 2:
        return edges, np.zeros((max(edges.size - 1, 0), load.shape[1]))
    return edges, np.clip(np.diff(at_edges, axis=0) / np.diff(edges)[:, None], 0.0, 1.0)
