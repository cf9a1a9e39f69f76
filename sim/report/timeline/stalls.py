"""Stalls: the time in which a pass is open and its lane neither computes nor communicates.

Model
-----
    stalled = union of open passes - union of own kernels and own transfers

as `sim.results.stages` counts it, but with the share of foreign work left in: a picture shows that in its own strip.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sim.engine.trace import Trace

__all__ = ["stalls_in", "stalls_ns"]

IntArray = NDArray[np.int64]


def stalls_ns(trace: Trace, stage: int, lane: int) -> tuple[IntArray, IntArray]:
    """Return starts and ends of the stalls of a lane, in time order. Shapes [K], [K], ns."""
    start, end = trace.ints("start_ns"), trace.ints("end_ns")
    passes = trace.rows("pass", stage=stage, lane=lane)
    work = np.concatenate([trace.rows(stream, stage=stage, lane=lane) for stream in ("compute", "comm")])
    edges = np.unique(np.concatenate([start[passes], end[passes], start[work], end[work]]))
    if edges.size == 0:
        return edges, edges
    at = edges[:-1]
    stalled = (_num_open(start[passes], end[passes], at) > 0) & (_num_open(start[work], end[work], at) == 0)
    change = np.diff(np.concatenate([[0], stalled.astype(np.int64), [0]]))
    return edges[np.flatnonzero(change == 1)], edges[np.flatnonzero(change == -1)]


def stalls_in(
    trace: Trace, window_ns: tuple[int, int], stages: Sequence[int], *, lane: int
) -> tuple[IntArray, IntArray, IntArray]:
    """Return stage, start and end of the stalls of some stages, cut at the window. Each of shape [K]."""
    found = [stalls_ns(trace, stage, lane) for stage in stages]
    stage = np.repeat(np.array(stages, dtype=np.int64), [start.size for start, _ in found])
    start = np.maximum(np.concatenate([start for start, _ in found]), window_ns[0])
    end = np.minimum(np.concatenate([end for _, end in found]), window_ns[1])
    inside = start < end
    return stage[inside], start[inside], end[inside]


def _num_open(start: IntArray, end: IntArray, at: IntArray) -> IntArray:
    """Return how many spans are open from each point on."""
    opened = np.searchsorted(np.sort(start), at, "right")
    return (opened - np.searchsorted(np.sort(end), at, "right")).astype(np.int64)
