"""The share of each expert in the token copies, by layer and microbatch.

Model
-----
A routing gives the shares of the experts (`workloads.routing.kinds`). Where these begin with the most popular expert,
each layer shuffles them in its own way, so that the hot experts of two layers are independent. With probability
`layer_correlation` a layer has the popularity of the layer before it. Dead experts then have no share, and the shares
of the other experts grow in proportion.

Assumptions
-----------
The popularity is the same in all lanes: it belongs to the model and its data.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sim.errors import InvalidValueError
from workloads.routing.kinds import ROUTINGS
from workloads.routing.request import DEAD, LAYERS, ORDER, RoutingRequest, stream

__all__ = ["expert_shares"]

FloatArray = NDArray[np.float64]


def expert_shares(request: RoutingRequest, layer: int, microbatch: int) -> FloatArray:
    """Return the share of each expert in the token copies; the shares sum to 1. Shape [E].

    Examples
    --------
    >>> from workloads.routing.skew import Skew
    >>> request = RoutingRequest(num_experts=2, kind="zipf", skew=Skew(skew=1.0, shuffled=False))
    >>> expert_shares(request, layer=0, microbatch=0) * 3
    array([2., 1.])
    """
    skew, kind = request.skew, ROUTINGS[request.kind]
    if kind.shares is None:
        raise InvalidValueError(
            field="routing.kind",
            rule="be a routing by shares of the experts",
            value=request.kind,
            hint="Use multinomial.",
        )
    root = layer if skew.layer_correlation == 0 else _root(request.seed, skew.layer_correlation, layer)
    shares = kind.shares(request, root, microbatch)
    if skew.shuffled and kind.lists_hottest_first:
        shares = shares[stream(request.seed, ORDER, root).permutation(request.num_experts)]
    return _without_dead(request, shares, root) if skew.dead_experts else shares


@lru_cache(maxsize=4096)
def _root(seed: int, correlation: float, layer: int) -> int:
    """Return the layer whose popularity a layer has: the layer itself, or a layer before it."""
    while layer > 0 and stream(seed, LAYERS, layer).random() < correlation:
        layer -= 1
    return layer


def _without_dead(request: RoutingRequest, shares: FloatArray, layer: int) -> FloatArray:
    """Return the shares where the dead experts of a layer have none. Shape [E]."""
    num_alive = request.num_experts - request.skew.dead_experts
    if num_alive < request.top_k:
        raise InvalidValueError(
            field="routing.dead_experts",
            rule=f"leave top_k = {request.top_k} of {request.num_experts} experts",
            value=request.skew.dead_experts,
            hint="Write fewer dead experts.",
        )
    shares = shares.copy()
    shares[stream(request.seed, DEAD, layer).permutation(request.num_experts)[num_alive:]] = 0.0
    return np.asarray(shares / shares.sum(), dtype=float)
