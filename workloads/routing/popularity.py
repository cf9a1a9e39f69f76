"""The share of each expert in the token copies, by layer and microbatch.

Model
-----
A routing gives the shares of the experts (`workloads.routing.kinds`). Where these begin with the most popular expert,
each layer shuffles them in its own way, so that the hot experts of two layers are independent. With probability
`layer_correlation` a layer has the popularity of the layer before it. Dead experts then have no share, and the shares
of the other experts grow in proportion.

Where fewer experts than top_k have a share (few experts are busy in a recording, the hot expert is dead, a strong skew
leaves the others less than doubles can hold), every token takes all of these experts and the rest from the idle experts
that are alive. The idle experts then have a share of 1e-12 each, too small to take tokens from the busy experts. With a
limit of nodes the same holds for the experts of the nodes that a token may take.

Assumptions
-----------
The popularity is the same in all lanes: it belongs to the model and its data.
"""

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sim.errors import InvalidValueError
from workloads.routing.kinds import ROUTINGS
from workloads.routing.request import DEAD, LAYERS, ORDER, RoutingRequest, stream

__all__ = ["expert_shares"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]

_IDLE_SHARE: Final = 1e-12
"""Share of an idle expert where tokens must take idle experts."""


def expert_shares(request: RoutingRequest, layer: int, microbatch: int) -> FloatArray:
    """Return the share of each expert in the token copies; the shares sum to 1. Shape [E].

    Examples
    --------
    >>> from workloads.routing.skew import Skew
    >>> request = RoutingRequest(num_experts=2, kind="zipf", skew=Skew(skew=1.0, shuffled=False))
    >>> expert_shares(request, layer=0, microbatch=0) * 3
    array([2., 1.])

    A recording in which one expert is busy, and tokens that take two experts:

    >>> request = RoutingRequest(num_experts=3, top_k=2, kind="trace", skew=Skew(loads=np.array([[[5.0, 0.0, 0.0]]])))
    >>> (expert_shares(request, layer=0, microbatch=0) > 0).tolist()
    [True, True, True]
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
    dead = _dead_experts(request, root)
    if dead.size:
        shares = shares.copy()
        shares[dead] = 0.0
    if not _has_enough_experts(request, shares):
        shares = np.where(shares == 0, _IDLE_SHARE * (float(shares.sum()) or 1.0), shares)
        shares[dead] = 0.0
    elif not dead.size:
        return shares
    return np.asarray(shares / shares.sum(), dtype=float)


@lru_cache(maxsize=4096)
def _root(seed: int, correlation: float, layer: int) -> int:
    """Return the layer whose popularity a layer has: the layer itself, or a layer before it."""
    while layer > 0 and stream(seed, LAYERS, layer).random() < correlation:
        layer -= 1
    return layer


def _dead_experts(request: RoutingRequest, layer: int) -> IntArray:
    """Return the experts of a layer that no token chooses."""
    num_alive = request.num_experts - request.skew.dead_experts
    if num_alive < request.top_k:
        raise InvalidValueError(
            field="routing.dead_experts",
            rule=f"leave top_k = {request.top_k} of {request.num_experts} experts",
            value=request.skew.dead_experts,
            hint="Write fewer dead experts.",
        )
    if not request.skew.dead_experts:
        return np.zeros(0, dtype=np.intp)
    return stream(request.seed, DEAD, layer).permutation(request.num_experts)[num_alive:]


def _has_enough_experts(request: RoutingRequest, shares: FloatArray) -> bool:
    """Return whether top_k experts have a share, on the nodes that a token may take."""
    if not request.is_limited:
        return int(np.count_nonzero(shares)) >= request.top_k
    per_node = np.count_nonzero(shares.reshape(request.num_nodes, -1), axis=1)
    return int(np.sort(per_node)[::-1][: request.max_nodes].sum()) >= request.top_k
