"""Ranks as resources: one kernel at a time, first come first served, not preempted.

Model
-----
    start[r] = max(now, free[r])          free[r] = start[r] + duration[r]

Kernel times are known when they are claimed and claims come in the order of time, so a queue per rank is one number:
the time at which the rank is free. Own passes and foreign expert work claim alike.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["RankCompute"]

IntArray = NDArray[np.int64]
Ranks = NDArray[np.intp] | slice


class RankCompute:
    """When each rank is free, and which span holds it until then.

    >>> ranks = RankCompute(2)
    >>> ranks.claim(np.array([0, 1]), np.array([5, 3]), now_ns=10)[1]
    array([15, 13])
    >>> ranks.claim(np.array([0]), np.array([2]), now_ns=11)[0]  # waits for the first kernel
    array([15])
    """

    def __init__(self, num_ranks: int) -> None:
        self._free_ns = np.zeros(num_ranks, dtype=np.int64)
        self._holder = np.full(num_ranks, -1, dtype=np.int64)

    def claim(self, ranks: Ranks, duration_ns: IntArray, *, now_ns: int) -> tuple[IntArray, IntArray, IntArray]:
        """Queue a kernel on each of `ranks`.

        Returns
        -------
        tuple
            Start, end, and the span that held the rank before (-1 for none). Each of shape [R].
        """
        start = np.maximum(self._free_ns[ranks], now_ns)
        end = start + duration_ns
        holder = self._holder[ranks]  # of a slice a view: read it before `hold`
        self._free_ns[ranks] = end
        return start, end, holder

    def hold(self, ranks: Ranks, rows: IntArray | int) -> None:
        """Note the span that holds each of `ranks` from now on."""
        self._holder[ranks] = rows
