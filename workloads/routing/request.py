"""What is request of a routing, and the streams of random numbers it draws from.

Each purpose, layer, microbatch and lane of a seed has a stream of its own, so that changing one thing keeps the other
draws. Popularity has streams without a lane: it belongs to the model. Microbatches before the first have negative
numbers; a plan made from earlier loads looks back on them.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from workloads.routing.skew import Skew

__all__ = ["BURSTS", "CHOICES", "DEAD", "LAYERS", "ORDER", "PLACES", "SHARES", "Draws", "RoutingRequest", "stream"]

CHOICES, SHARES, ORDER, LAYERS, DEAD, BURSTS, PLACES = 1, 2, 3, 4, 5, 6, 7
"""Purposes: the number of each in the seed's spawn key."""
_BEFORE_FIRST = 2**31  # keys are not negative: microbatch -1 has this one

Draws = Sequence[tuple[int, int]]
"""Microbatch and layer of each draw."""


class RoutingRequest(NamedTuple):
    """What is request of a routing."""

    num_sources: int
    """Source ranks."""
    tokens: int
    """Tokens of each."""
    num_experts: int
    """Experts of a layer."""
    top_k: int
    """Experts of a token."""
    seed: int
    """Seed of all draws."""
    lane: int
    """Lane whose tokens they are."""
    kind: str = "multinomial"
    """Name of the routing."""
    skew: Skew = Skew()
    """How uneven popularity is."""
    num_lanes: int = 1
    """Lanes, each of as many sources, whose tokens are those of a microbatch together."""
    num_nodes: int = 1
    """Groups of experts, equally many in order: those of a node where experts are placed in order."""
    max_nodes: int | None = None
    """Groups whose experts a token may take; None: all."""

    @property
    def is_limited(self) -> bool:
        """Whether tokens may not take the experts of all nodes that they could."""
        return self.max_nodes is not None and self.max_nodes < min(self.num_nodes, self.top_k)


def stream(seed: int, purpose: int, layer: int, microbatch: int = 0, lane: int = 0) -> np.random.Generator:
    """Return the random numbers of one purpose, layer, microbatch and lane."""
    number = microbatch if microbatch >= 0 else _BEFORE_FIRST - microbatch - 1
    key = (purpose, layer, number, lane)
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))
