"""Which experts tokens are sent to, as one value: the section `routing:` of a scenario."""

from dataclasses import dataclass, field

from workloads.routing.skew import Skew

__all__ = ["RoutingSettings"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RoutingSettings:
    """The distribution of tokens over experts, and the limits that it keeps."""

    kind: str = "balanced"
    """Routing by name."""
    skew: Skew = field(default_factory=Skew)
    """How uneven the experts' popularity is."""
    capacity_factor: float | None = None
    """Tokens that an expert takes of each source rank, over their mean; None, or experts / top_k: all."""
    overflow: str = "drop"
    """What becomes of tokens beyond the capacity: dropped; dropped, with experts padded up; or sent to the next."""
    draw: str = "exact"
    """How tokens are drawn at random: exactly, or by a normal law, which is faster (`docs/routing.md`)."""
    max_nodes_per_token: int | None = None
    """Nodes among whose experts, placed in order, a token chooses; None: all nodes."""
