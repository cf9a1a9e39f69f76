"""How uneven the experts' popularity is, as one value that names no routing.

`skew` means to each routing what `workloads.routing.kinds` says. The other fields belong to some
routings only.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.errors import InvalidValueError

__all__ = ["Skew"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Skew:
    """How uneven the experts' popularity is."""

    skew: float = 0.0
    """How uneven; 0: all experts alike."""
    hot_experts: int | None = None
    """Experts of the hot group (hot_node), those of its node first; None: all of its node, and no others."""
    expert_nodes: NDArray[np.intp] | None = None
    """Node of each expert where they are placed in order (hot_node); None: all are on one. Shape [E]."""
    persistence: float = 0.9
    """Correlation of log popularity from one microbatch to the next (drift)."""
    burst_share: float = 0.1
    """Share of the microbatches that are bursts (bursty)."""
    layer_correlation: float = 0.0
    """Chance of a layer to have the popularity of the layer before it."""
    dead_experts: int = 0
    """Experts of each layer that no token chooses."""
    stride: int = 2
    """Step from a choice to the next (stride)."""
    shuffled: bool = True
    """Whether each layer has popularity in an order of its own; otherwise expert 0 is the most popular."""
    loads: NDArray[np.float64] | None = None
    """Recorded tokens (trace). Shape [microbatches, layers, experts]."""
    first_layer: int = 0
    """Layer of the model that the first layer of the recording is (trace): the first with experts."""

    def __post_init__(self) -> None:
        for name, most in (("persistence", 1.0), ("burst_share", 1.0), ("layer_correlation", 1.0)):
            value = getattr(self, name)
            if not 0 <= value <= most:
                raise InvalidValueError(
                    field=f"routing.{name}",
                    rule="be from 0 to 1",
                    value=value,
                    hint="Write a share, such as 0.5.",
                )

    def has_tokens(self, tokens: int, top_k: int) -> bool:
        """Return whether each microbatch and layer of the recording is of so many tokens, each with top_k experts.

        >>> Skew(loads=np.array([[[3.0, 1.0, 2.0]]])).has_tokens(3, top_k=2)
        True
        """
        loads = self.loads
        if loads is None:
            return False
        return bool((loads.sum(axis=2) == tokens * top_k).all() and (loads <= tokens).all() and (loads % 1 == 0).all())
