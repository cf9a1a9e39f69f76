"""How uneven the popularity of the experts is, as one value that names no routing; how uneven loads are, as measures.

Model
-----
    max_over_mean    largest load / mean
    gini             mean absolute difference of two experts / (2 mean): 0 for equal loads, 1 - 1/E where one has all
    entropy          - sum p log p / log E of shares p: 1 for equal loads, 0 where one expert has all
    cv               standard deviation over all experts / mean
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.errors import InvalidValueError

__all__ = ["Skew", "load_imbalance"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Skew:
    """How uneven the popularity of the experts is.

    `workloads.routing.kinds` says which routing uses which of these settings.
    """

    skew: float = 0.0
    """How uneven the shares of the experts are, in the measure of the routing (`docs/routing.md`); 0: equal shares."""
    hot_experts: int | None = None
    """Experts of the hot group, with kind hot_node, those of the hot node first; None: all experts of that node."""
    expert_nodes: NDArray[np.intp] | None = None
    """Node of each expert where experts are placed in order; None: all experts are on one node. Shape [E]."""
    persistence: float = 0.9
    """Correlation of the logarithm of a share from one microbatch to the next, with kind drift."""
    burst_share: float = 0.1
    """Share of the microbatches that are bursts, with kind bursty."""
    stride: int = 2
    """Step from the expert of a choice to the expert of the next choice, with kind stride."""
    layer_correlation: float = 0.0
    """Probability that a layer has the popularity of the layer before it."""
    dead_experts: int = 0
    """Experts of each layer that no token chooses."""
    shuffled: bool = True
    """Whether each layer has popularity in an order of its own; otherwise expert 0 is the most popular."""
    loads: NDArray[np.float64] | None = None
    """Recorded tokens. Shape [microbatches, layers, experts]."""
    recorded: str = ""
    """What the file of the recording was taken for, as a phrase."""
    recorded_layers: tuple[int, ...] = ()
    """Number that the file gives to each recorded layer. Shape [layers]."""
    expert_layers: tuple[int, ...] = ()
    """Layers of the model with experts, which replay the layers of the recording in order; empty: all layers."""

    def __post_init__(self) -> None:
        for name in ("persistence", "burst_share", "layer_correlation"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise InvalidValueError(
                    field=f"routing.{name}",
                    rule="be from 0 to 1",
                    value=value,
                    hint="Write a share, such as 0.5.",
                )

    def has_tokens(self, tokens: int, top_k: int) -> bool:
        """Return whether every microbatch and layer of the recording has `tokens` whole tokens with top_k experts each.

        >>> Skew(loads=np.array([[[3.0, 1.0, 2.0]]])).has_tokens(3, top_k=2)
        True
        """
        loads = self.loads
        if loads is None:
            return False
        return bool((loads.sum(axis=2) == tokens * top_k).all() and (loads <= tokens).all() and (loads % 1 == 0).all())


def load_imbalance(loads: NDArray[np.float64]) -> dict[str, float | int]:
    """Return the measures of loads [E], which are not all 0.

    Examples
    --------
    >>> measures = load_imbalance(np.array([2.0, 0.0]))
    >>> measures["max_over_mean"], measures["gini"], measures["entropy"], measures["cv"], measures["idle_experts"]
    (2.0, 0.5, 0.0, 1.0, 1)
    """
    num_experts, total = loads.size, float(loads.sum())
    shares = np.sort(loads) / total
    ranks = np.arange(1, num_experts + 1)
    positive = shares[shares > 0]
    entropy = float(-(positive * np.log(positive)).sum() / np.log(num_experts)) if num_experts > 1 else 1.0
    return {
        "tokens": total,
        "max_over_mean": float(shares[-1] * num_experts),
        "gini": float((2 * ranks - num_experts - 1) @ shares / num_experts),
        "entropy": abs(entropy),  # no minus sign before 0
        "cv": float(shares.std() * num_experts),
        "idle_experts": int((shares == 0).sum()),
    }
