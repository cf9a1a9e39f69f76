"""One request for token counts, and the streams of random numbers that its draws use.

Each purpose, layer, microbatch and lane of a seed has a stream of its own, so that changing one setting keeps the other
draws. The popularity of experts belongs to the model and not to a lane, so its streams have no lane. Microbatches
before the first have negative numbers: a placement that is planned from earlier loads looks back on them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from workloads.routing.skew import Skew

__all__ = ["BURSTS", "CHOICES", "DEAD", "LAYERS", "ORDER", "PLACES", "SHARES", "Draws", "RoutingRequest", "stream"]

CHOICES, SHARES, ORDER, LAYERS, DEAD, BURSTS, PLACES = 1, 2, 3, 4, 5, 6, 7
"""Purpose of a stream: its number in the spawn key of the seed."""
_BEFORE_FIRST = 2**31
"""Number of microbatch -1 in a spawn key, whose numbers cannot be negative."""

Draws = Sequence[tuple[int, int]]
"""Microbatch and layer of each draw."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RoutingRequest:
    """What is requested of a routing: how many tokens choose among how many experts, and by which popularity."""

    num_experts: int
    """Experts of a layer."""
    num_sources: int = 1
    """Source ranks of a lane."""
    tokens: int = 1
    """Tokens of each source rank."""
    top_k: int = 1
    """Experts of a token."""
    seed: int = 1
    """Seed of all draws."""
    lane: int = 0
    """Lane that the source ranks belong to."""
    kind: str = "multinomial"
    """Name of the routing."""
    skew: Skew = field(default_factory=Skew)
    """How uneven the popularity of the experts is."""
    num_lanes: int = 1
    """Lanes of equally many sources, which have the tokens of a microbatch together."""
    num_nodes: int = 1
    """Nodes, each with equally many experts in order."""
    is_approximate: bool = False
    """Whether counts may be drawn by a normal law."""
    max_nodes: int | None = None
    """Nodes whose experts a token may take; None: all nodes."""

    @property
    def is_limited(self) -> bool:
        """Whether a token may take experts of fewer nodes than it could without a limit."""
        return self.max_nodes is not None and self.max_nodes < min(self.num_nodes, self.top_k)


def stream(seed: int, purpose: int, layer: int, microbatch: int = 0, lane: int = 0) -> np.random.Generator:
    """Return the random numbers of one purpose, layer, microbatch and lane."""
    number = microbatch if microbatch >= 0 else _BEFORE_FIRST - microbatch - 1
    key = (purpose, layer, number, lane)
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))
