"""The share of each expert in the copies of tokens, by layer and microbatch.

Model
-----
A routing gives shares in order of popularity (`workloads.routing.sources`). Each layer shuffles them in its own way, so
that the hot experts of two layers are independent; with chance `layer_correlation` a layer takes over all that the one
before it drew. Dead experts then get nothing, and the others share theirs in proportion.

Assumptions
-----------
Popularity is the same for all lanes: it belongs to the model and its data.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sim.errors import InvalidValueError
from workloads.routing.request import DEAD, LAYERS, ORDER, RoutingRequest, stream
from workloads.routing.sources import SOURCES

__all__ = ["expert_shares"]

FloatArray = NDArray[np.float64]
_IN_ORDER = {"drift", "bursty", "trace", "multinomial", "hot_node"}
"""Routings whose experts stand in no order of popularity, or in one of their own: there is nothing to shuffle."""


def expert_shares(request: RoutingRequest, layer: int, microbatch: int) -> FloatArray:
    """Return the share of each expert in the copies of tokens. They sum to 1. Shape [E].

    Examples
    --------
    >>> from workloads.routing.skew import Skew
    >>> request = RoutingRequest(1, 1, 2, 1, 1, 0, "zipf", Skew(skew=1.0, shuffled=False))
    >>> expert_shares(request, layer=0, microbatch=0) * 3
    array([2., 1.])
    """
    skew = request.skew
    root = layer if skew.layer_correlation == 0 else _root(request.seed, skew.layer_correlation, layer)
    shares = SOURCES[request.kind](request, root, microbatch)
    if skew.shuffled and request.kind not in _IN_ORDER:
        shares = shares[stream(request.seed, ORDER, root).permutation(request.num_experts)]
    return _without_dead(request, shares, root) if skew.dead_experts else shares


@lru_cache(maxsize=4096)
def _root(seed: int, correlation: float, layer: int) -> int:
    """Return the layer whose popularity a layer has: itself, or one before it."""
    while layer > 0 and stream(seed, LAYERS, layer).random() < correlation:
        layer -= 1
    return layer


def _without_dead(request: RoutingRequest, shares: FloatArray, layer: int) -> FloatArray:
    """Return shares of which some experts have none."""
    alive = request.num_experts - request.skew.dead_experts
    if alive < request.top_k:
        raise InvalidValueError(
            field="routing.dead_experts",
            rule=f"leave top_k = {request.top_k} of {request.num_experts} experts",
            value=request.skew.dead_experts,
            hint="Write fewer.",
        )
    shares = shares.copy()
    shares[stream(request.seed, DEAD, layer).permutation(request.num_experts)[alive:]] = 0.0
    return np.asarray(shares / shares.sum(), dtype=float)
