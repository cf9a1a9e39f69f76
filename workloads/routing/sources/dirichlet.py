"""Popularity drawn from a symmetric Dirichlet distribution.

Model
-----
    alpha = ((experts - 1) / skew**2 - 1) / experts

A share has variance (1/E)(1 - 1/E) / (E alpha + 1), so `skew` is its coefficient of variation, std over mean. It is
less than sqrt(E - 1), where one expert has all.

Shares are gamma variables over their sum. Near that limit these are too small for doubles, and their logarithms are
drawn instead: a gamma variable of alpha is one of alpha + 1 times u**(1 / alpha), u uniform on (0, 1).

References
----------
Marsaglia and Tsang, A simple method for generating gamma variables (2000), section 6.
"""

import numpy as np
from numpy.typing import NDArray

from sim.errors import InvalidValueError
from workloads.routing.request import SHARES, RoutingRequest, stream

__all__ = ["dirichlet"]

_SMALL = 0.05
"""Alpha below which logarithms are drawn; from it on a variable is 0 in doubles with chance 1e-16 or less."""


def dirichlet(request: RoutingRequest, layer: int, microbatch: int) -> NDArray[np.float64]:
    """Return shares whose coefficient of variation is `skew`, the largest first."""
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
            hint="It is a coefficient of variation.",
        )
    rng = stream(request.seed, SHARES, layer)
    if alpha < _SMALL:
        log_weights = np.log(rng.standard_gamma(alpha + 1, num_experts)) + np.log1p(-rng.random(num_experts)) / alpha
        weights = np.sort(np.exp(log_weights - log_weights.max()))[::-1]
    else:
        weights = np.sort(rng.standard_gamma(alpha, num_experts))[::-1]
    weights = np.maximum(weights, weights[0] * 1e-12)  # an expert may be rare, but some token can choose it
    return np.asarray(weights / weights.sum(), dtype=float)
