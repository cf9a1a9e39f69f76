"""Shares of the experts in the token copies that follow a distribution: equal, Zipf, power law, Dirichlet, random walk.

Model
-----
    equal        share = 1 / experts
    zipf         share of the r-th expert = r**-skew / sum over all experts
    power_law    weight = u**-skew, u uniform on (0, 1), so that P(weight > x) = x**(-1 / skew); share = weight / sum
    dirichlet    shares of a symmetric Dirichlet distribution, alpha = ((experts - 1) / skew**2 - 1) / experts
    drift        share = exp(skew * walk[m]) / sum, at microbatch m of a random walk over the microbatches

The shares of `zipf` are the same in all layers; those of `power_law`, `dirichlet` and `drift` are drawn for each layer.
At skew 0 the shares are equal.

A share of the Dirichlet distribution has the variance (1/E)(1 - 1/E) / (E alpha + 1), so `skew` is its coefficient of
variation, which is the standard deviation over the mean. `skew` is less than sqrt(E - 1), where one expert has all
tokens. The shares are gamma variables over their sum. Near that limit gamma variables are too small for doubles, and
their logarithms are drawn instead: a gamma variable of alpha is a gamma variable of alpha + 1 times u**(1 / alpha).

The random walk of an expert is

    walk[0] = n[0]
    walk[m] = persistence * walk[m - 1] + sqrt(1 - persistence**2) * n[m]

where n are independent standard normal numbers. The walk returns to its mean, so that its standard deviation is 1 at
all times, and two microbatches at distance d have the correlation persistence**d. The microbatches before the first
follow the same walk backwards, which has the same distribution.

References
----------
Marsaglia and Tsang, "A simple method for generating gamma variables", 2000, section 6.
"""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sim.errors import InvalidValueError
from workloads.routing.request import SHARES, RoutingRequest, stream

__all__ = ["dirichlet", "drift", "equal", "power_law", "zipf"]

FloatArray = NDArray[np.float64]

_SMALL_ALPHA = 0.05
"""Alpha below which logarithms are drawn; above it a gamma variable is 0 in doubles with probability 1e-16 or less."""
_CHECKPOINT = 32
"""Microbatches between two points of the walk from which later points are computed: this keeps the recursion flat."""


def equal(request: RoutingRequest, layer: int, microbatch: int) -> FloatArray:
    """Return equal shares. Shape [E]."""
    del layer, microbatch
    return np.full(request.num_experts, 1.0 / request.num_experts)


def zipf(request: RoutingRequest, layer: int, microbatch: int) -> FloatArray:
    """Return shares by Zipf's law, the largest first. Shape [E].

    >>> from workloads.routing.skew import Skew
    >>> zipf(RoutingRequest(num_experts=2, kind="zipf", skew=Skew(skew=1.0)), layer=0, microbatch=0) * 3
    array([2., 1.])
    """
    del layer, microbatch
    weights = np.arange(1, request.num_experts + 1) ** -float(request.skew.skew)
    return np.asarray(weights / weights.sum(), dtype=float)


def power_law(request: RoutingRequest, layer: int, microbatch: int) -> FloatArray:
    """Return shares drawn from a power law, the largest first. Shape [E]."""
    del microbatch
    uniform = 1.0 - stream(request.seed, SHARES, layer).random(request.num_experts)
    log_weights = -request.skew.skew * np.sort(np.log(uniform))
    weights = np.exp(log_weights - log_weights[0])  # no overflow at any skew
    return np.asarray(weights / weights.sum(), dtype=float)


def dirichlet(request: RoutingRequest, layer: int, microbatch: int) -> FloatArray:
    """Return shares whose coefficient of variation is `skew`, the largest first. Shape [E]."""
    del microbatch
    num_experts, skew = request.num_experts, request.skew.skew
    if skew == 0:
        return np.full(num_experts, 1.0 / num_experts)
    alpha = ((num_experts - 1) / skew**2 - 1) / num_experts
    if alpha <= 0:
        raise InvalidValueError(
            field="routing.skew",
            rule=f"be below sqrt(experts - 1) = {np.sqrt(num_experts - 1):.2f} with kind dirichlet",
            value=skew,
            hint="The skew of dirichlet is the coefficient of variation of a share.",
        )
    rng = stream(request.seed, SHARES, layer)
    if alpha < _SMALL_ALPHA:
        log_weights = np.log(rng.standard_gamma(alpha + 1, num_experts)) + np.log1p(-rng.random(num_experts)) / alpha
        weights = np.sort(np.exp(log_weights - log_weights.max()))[::-1]
    else:
        weights = np.sort(rng.standard_gamma(alpha, num_experts))[::-1]
    weights = np.maximum(weights, weights[0] * 1e-12)  # every expert stays possible, however rare
    return np.asarray(weights / weights.sum(), dtype=float)


def drift(request: RoutingRequest, layer: int, microbatch: int) -> FloatArray:
    """Return the shares at a microbatch of a random walk, in no order. Shape [E]."""
    skew = request.skew
    log_weights = skew.skew * _walk(request.seed, request.num_experts, skew.persistence, layer, microbatch)
    weights = np.exp(log_weights - log_weights.max())
    return np.asarray(weights / weights.sum(), dtype=float)


@lru_cache(maxsize=4096)
def _walk(seed: int, num_experts: int, persistence: float, layer: int, microbatch: int) -> FloatArray:
    """Return the walk of standard deviation 1 at a microbatch, computed from the checkpoint before it. Shape [E]."""
    distance, sign = abs(microbatch), 1 if microbatch >= 0 else -1
    checkpoint = max(0, distance - 1) // _CHECKPOINT * _CHECKPOINT
    walk = _normal(seed, num_experts, layer, 0)
    if checkpoint > 0:
        walk = _walk(seed, num_experts, persistence, layer, sign * checkpoint)
    for step in range(checkpoint + 1, distance + 1):
        innovation = _normal(seed, num_experts, layer, sign * step)
        walk = persistence * walk + math.sqrt(1 - persistence**2) * innovation
    return walk


def _normal(seed: int, num_experts: int, layer: int, microbatch: int) -> FloatArray:
    return stream(seed, SHARES, layer, microbatch).standard_normal(num_experts)
