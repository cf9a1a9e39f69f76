"""Popularity by rank: Zipf's law, and experts whose popularity follows a power law.

Model
-----
    zipf         share of the r-th expert = r**-skew / sum over all
    power_law    weight = u**-skew, u uniform on (0, 1): P(weight > x) = x**(-1 / skew); share = weight / sum

Both are even at skew 0. Zipf's shares are fixed, those of the power law differ from layer to layer.
"""

import numpy as np
from numpy.typing import NDArray

from workloads.routing.request import SHARES, RoutingRequest, stream

__all__ = ["power_law", "zipf"]

FloatArray = NDArray[np.float64]


def zipf(request: RoutingRequest, layer: int, microbatch: int) -> FloatArray:
    """Return shares by Zipf's law.

    >>> from workloads.routing.skew import Skew
    >>> zipf(RoutingRequest(1, 1, 2, 1, 1, 0, "zipf", Skew(skew=1.0)), 0, 0) * 3
    array([2., 1.])
    """
    del layer, microbatch
    weights = np.arange(1, request.num_experts + 1) ** -float(request.skew.skew)
    return np.asarray(weights / weights.sum(), dtype=float)


def power_law(request: RoutingRequest, layer: int, microbatch: int) -> FloatArray:
    """Return shares drawn from a power law, the largest first."""
    del microbatch
    uniform = 1.0 - stream(request.seed, SHARES, layer).random(request.num_experts)
    log_weights = -request.skew.skew * np.sort(np.log(uniform))
    weights = np.exp(log_weights - log_weights[0])  # no overflow at any skew
    return np.asarray(weights / weights.sum(), dtype=float)
