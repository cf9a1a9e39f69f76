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

from workloads.errors import WorkloadError
from workloads.routing.asked import DEAD, LAYERS, ORDER, Asked, stream
from workloads.routing.sources import SOURCES

__all__ = ["expert_shares"]

FloatArray = NDArray[np.float64]
_IN_ORDER = {"drift", "bursty", "trace", "multinomial", "hot_node"}
"""Routings whose experts stand in no order of popularity, or in one of their own: there is nothing to shuffle."""


def expert_shares(asked: Asked, layer: int, microbatch: int) -> FloatArray:
    """Return the share of each expert in the copies of tokens. They sum to 1. Shape [E].

    Examples
    --------
    >>> from workloads.routing.skew import Skew
    >>> asked = Asked(1, 1, 2, 1, 1, 0, "zipf", Skew(skew=1.0, shuffled=False))
    >>> expert_shares(asked, layer=0, microbatch=0) * 3
    array([2., 1.])
    """
    skew = asked.skew
    root = layer if skew.layer_correlation == 0 else _root(asked.seed, skew.layer_correlation, layer)
    shares = SOURCES[asked.kind](asked, root, microbatch)
    if skew.shuffled and asked.kind not in _IN_ORDER:
        shares = shares[stream(asked.seed, ORDER, root).permutation(asked.num_experts)]
    return _without_dead(asked, shares, root) if skew.dead_experts else shares


@lru_cache(maxsize=4096)
def _root(seed: int, correlation: float, layer: int) -> int:
    """Return the layer whose popularity a layer has: itself, or one before it."""
    while layer > 0 and stream(seed, LAYERS, layer).random() < correlation:
        layer -= 1
    return layer


def _without_dead(asked: Asked, shares: FloatArray, layer: int) -> FloatArray:
    """Return shares of which some experts have none."""
    alive = asked.num_experts - asked.skew.dead_experts
    if alive < asked.top_k:
        raise WorkloadError(
            subject="routing",
            field="dead_experts",
            rule=f"leave top_k = {asked.top_k} of {asked.num_experts} experts",
            value=asked.skew.dead_experts,
            cure="Write fewer.",
        )
    shares = shares.copy()
    shares[stream(asked.seed, DEAD, layer).permutation(asked.num_experts)[alive:]] = 0.0
    return np.asarray(shares / shares.sum(), dtype=float)
