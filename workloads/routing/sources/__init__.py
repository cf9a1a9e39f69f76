"""Shares of the experts by the name of a routing, most popular first unless the routing says otherwise.

- `workloads.routing.sources.zipf`: zipf and power law.
- `workloads.routing.sources.dirichlet`: Dirichlet.
- `workloads.routing.sources.hot`: one hot expert, a hot node, bursts.
- `workloads.routing.sources.drift`: a random walk over microbatches.
- `workloads.routing.sources.recorded`: a recorded trace.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from workloads.routing.request import RoutingRequest
from workloads.routing.sources.dirichlet import dirichlet
from workloads.routing.sources.drift import drift
from workloads.routing.sources.hot import bursty, hot_expert, hot_node
from workloads.routing.sources.recorded import recorded
from workloads.routing.sources.zipf import power_law, zipf

__all__ = ["SOURCES"]


def _even(request: RoutingRequest, layer: int, microbatch: int) -> NDArray[np.float64]:
    del layer, microbatch
    return np.full(request.num_experts, 1.0 / request.num_experts)


SOURCES: dict[str, Callable[[RoutingRequest, int, int], NDArray[np.float64]]] = {
    "multinomial": _even,
    "zipf": zipf,
    "power_law": power_law,
    "dirichlet": dirichlet,
    "hot_expert": hot_expert,
    "hot_node": hot_node,
    "drift": drift,
    "bursty": bursty,
    "trace": recorded,
}
"""Shares by name: (what is request, layer, microbatch) -> shares that sum to 1. Shape [E]."""
