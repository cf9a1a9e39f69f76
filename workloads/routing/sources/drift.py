"""Popularity that drifts over microbatches.

Model
-----
    log weight [0] = skew * n[0]
    log weight [m] = persistence * log weight [m - 1] + sqrt(1 - persistence**2) * skew * n[m]

n are independent standard normal numbers, one for each expert. The walk turns back to the mean, so that its spread is
`skew` at all times, and two microbatches that are d apart have correlation persistence**d. Microbatches before the
first follow the same walk backwards, which has the same law.
"""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from workloads.routing.request import SHARES, RoutingRequest, stream

__all__ = ["drift"]

FloatArray = NDArray[np.float64]


def drift(request: RoutingRequest, layer: int, microbatch: int) -> FloatArray:
    """Return shares at a microbatch of a random walk; experts have no order."""
    skew = request.skew
    log_weights = skew.skew * _walk(request.seed, request.num_experts, skew.persistence, layer, microbatch)
    weights = np.exp(log_weights - log_weights.max())
    return np.asarray(weights / weights.sum(), dtype=float)


@lru_cache(maxsize=4096)
def _walk(seed: int, num_experts: int, persistence: float, layer: int, microbatch: int) -> FloatArray:
    """Return the walk of unit spread at a microbatch, from the nearest one that is known."""
    place, sign = abs(microbatch), 1 if microbatch >= 0 else -1
    start = max(0, place - 1) // _STRETCH * _STRETCH
    walked = _normal(seed, num_experts, layer, 0)
    if start > 0:
        walked = _walk(seed, num_experts, persistence, layer, sign * start)
    for step in range(start + 1, place + 1):
        fresh = _normal(seed, num_experts, layer, sign * step)
        walked = persistence * walked + math.sqrt(1 - persistence**2) * fresh
    return walked


_STRETCH = 32  # microbatches between those from which a walk begins anew: keeps recursion shallow


def _normal(seed: int, num_experts: int, layer: int, microbatch: int) -> FloatArray:
    return stream(seed, SHARES, layer, microbatch).standard_normal(num_experts)
