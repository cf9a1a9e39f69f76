"""Rows for spans that overlap: each takes the first row that is free.

Model
-----
In the order of starts (longest first, then as given) a span takes the lowest row whose last span has ended. Spans that
touch share a row. The number of rows is the largest number of spans open at one time, the least possible.

References
----------
Interval partitioning: Kleinberg and Tardos, Algorithm Design, 2005, section 4.1.
"""

import heapq

import numpy as np
from numpy.typing import NDArray

__all__ = ["first_free_slots", "share_strip"]

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


def first_free_slots(start: IntArray, end: IntArray) -> IntArray:
    """Return the row of each span, from 0. Shapes [N], [N] -> [N].

    >>> first_free_slots(np.array([0, 1, 5, 9]), np.array([5, 3, 9, 9])).tolist()
    [0, 1, 0, 0]
    """
    slots = np.zeros(start.size, dtype=np.int64)
    order, reached = _in_order(start, end)
    if bool((start[order] >= reached).all()):
        return slots
    starts, ends = start.tolist(), end.tolist()
    busy: list[tuple[int, int]] = []
    free: list[int] = []
    for span in order.tolist():
        while busy and busy[0][0] <= starts[span]:
            heapq.heappush(free, heapq.heappop(busy)[1])
        slot = heapq.heappop(free) if free else len(busy)
        heapq.heappush(busy, (ends[span], slot))
        slots[span] = slot
    return slots


def share_strip(start: IntArray, end: IntArray) -> tuple[FloatArray, FloatArray]:
    """Return top and height of each span in a strip from 0 (top) to 1. Shapes [N], [N] -> [N], [N].

    Spans that overlap, directly or through others, share the strip's height evenly; a span alone has all of it.

    >>> top, height = share_strip(np.array([0, 1, 5]), np.array([5, 3, 9]))
    >>> top.tolist(), height.tolist()
    ([0.0, 0.5, 0.0], [0.5, 0.5, 1.0])
    """
    if start.size == 0:
        return np.zeros(0), np.zeros(0)
    slots = first_free_slots(start, end)
    order, reached = _in_order(start, end)
    cluster = np.empty(start.size, dtype=np.int64)
    cluster[order] = np.cumsum(start[order] >= reached)
    num_slots = np.zeros(int(cluster.max()) + 1, dtype=np.int64)
    np.maximum.at(num_slots, cluster, slots + 1)
    height = 1.0 / num_slots[cluster]
    return slots * height, height


def _in_order(start: IntArray, end: IntArray) -> tuple[NDArray[np.intp], IntArray]:
    """Return the order of starts, and for each span in it the latest end of those before."""
    order = np.lexsort((-end, start))
    if order.size == 0:
        return order, start
    return order, np.concatenate([start[order[:1]], np.maximum.accumulate(end[order])[:-1]])
