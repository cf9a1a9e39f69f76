"""Protocols: what a collective's algorithm costs on the links of a technology, beyond their datasheet.

Model
-----
    hop        = tier.hop_latency_s                                      one message of the chain, by where it goes
    rate       = min(tier.efficiency * datasheet bandwidth, tier.most_bytes_per_s)                   on each link

There are two tiers: links inside a node (or rack) and links between nodes. A tier without a latency of its own takes
the path's; one without an efficiency takes the link's.

Assumptions
-----------
A transfer holds a link for as long as its protocol needs there: two that share a link wait for one another as if each
filled it. For a protocol far below the link's rate (LL) that is pessimistic.
"""

import math
from dataclasses import dataclass

from sim.errors import InvalidValueError

__all__ = ["BETWEEN", "INSIDE", "NO_TIER", "Protocol", "Tier"]

NO_TIER, INSIDE, BETWEEN = 0, 1, 2
"""Tier of a link: none (a GPU's way to its NIC), inside a node, between nodes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """What a protocol reaches on the links of one tier."""

    hop_latency_s: float | None = None
    """Time of one message of the chain; None: the path's latency."""
    efficiency: float | None = None
    """Fraction of the datasheet's bandwidth, 0 to 1; None: the link's own."""
    most_bytes_per_s: float = math.inf
    """What one link carries at most, whatever its bandwidth."""

    def __post_init__(self) -> None:
        self._require(self.hop_latency_s is None or 0 <= self.hop_latency_s < math.inf, "hop_latency_s", "be 0 or more")
        self._require(self.efficiency is None or 0 < self.efficiency <= 1, "efficiency", "lie in (0, 1]")
        self._require(self.most_bytes_per_s > 0, "most_bytes_per_s", "be above 0")

    def _require(self, ok: bool, field: str, rule: str) -> None:
        if not ok:
            value = getattr(self, field)
            raise InvalidValueError(
                subject="tier", field=field, rule=rule, value=value, hint="Give a physical figure, or leave it out."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """A way to run an algorithm."""

    algorithm: str
    """ring, tree, nvls, hierarchical, direct, low_latency, send."""
    name: str
    """LL, LL128, Simple, or the library's name."""
    base_latency_s: float = 0.0
    """Time that every call takes."""
    inside: Tier = Tier()
    """On links inside a node."""
    between: Tier = Tier()
    """On links between nodes."""
    source: str
    """Where the figures come from."""
