"""Tokens per expert over layers, of the first microbatch: the unevenness that a skew means."""

import numpy as np
from numpy.typing import NDArray

from sim.build.build import build
from sim.build.expert_routing import copies_drawn
from sim.scenario.scenario import Scenario

__all__ = ["expert_tokens"]


def expert_tokens(scenario: Scenario) -> NDArray[np.int64]:
    """Return copies of tokens for each expert of each layer with experts, over all lanes. Shape [L, E]."""
    work = build(scenario).work
    layers = [layer for layer in range(work.model.layers) if work.model.is_moe_layer(layer)]
    drawn = [copies_drawn(work, lane, layers, [0]).sum(axis=1) for lane in range(work.mesh.num_lanes)]
    return np.asarray(np.sum(drawn, axis=0), dtype=np.int64)
