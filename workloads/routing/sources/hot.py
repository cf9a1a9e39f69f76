"""A few experts take more than their share: one, those of a node, or one now and then.

Model
-----
    hot_expert    share of tokens that choose expert 0 = skew, at least the mean top_k / experts
    hot_node      share of copies for the experts of one node = skew, at least what they have when all are alike
    bursty        hot_expert in a share `burst_share` of the microbatches, each for itself; all alike in others

A token takes an expert once, so one expert has at most 1 / top_k of the copies. Hot experts are the same in all
microbatches but for bursts, where each has an expert of its own.

The node is drawn for each layer, and is the one that holds these experts where all are placed in order. With
`hot_experts` fewer of them are hot, or those of the node drawn next as well. Unless popularity is shuffled it is the
first node, and experts are hot in order.
"""

import numpy as np
from numpy.typing import NDArray

from sim.errors import InvalidValueError
from workloads.routing.request import BURSTS, ORDER, RoutingRequest, stream

__all__ = ["bursty", "hot_expert", "hot_node"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]


def hot_expert(request: RoutingRequest, layer: int, microbatch: int) -> FloatArray:
    """Return shares of which the first is `skew` / top_k."""
    del layer, microbatch
    _check_share(request)
    return _grouped(request.num_experts, 1, request.skew.skew / request.top_k)


def hot_node(request: RoutingRequest, layer: int, microbatch: int) -> FloatArray:
    """Return shares of which the experts of a node have `skew` together.

    >>> from workloads.routing.skew import Skew
    >>> skew = Skew(skew=0.8, expert_nodes=np.array([0, 0, 1, 1]), shuffled=False)
    >>> hot_node(RoutingRequest(1, 1, 4, 1, 1, 0, "hot_node", skew), 0, 0)
    array([0.4, 0.4, 0.1, 0.1])
    """
    del microbatch
    _check_share(request)
    nodes = request.skew.expert_nodes
    if nodes is None:
        nodes = np.zeros(request.num_experts, dtype=np.intp)
    experts = _by_node(request, nodes, layer)
    hot = request.skew.hot_experts
    if hot is None:
        hot = _of_a_node(nodes, int(nodes[experts[0]]))
    if hot > request.num_experts:
        raise InvalidValueError(
            field="routing.hot_experts",
            rule=f"be at most experts = {request.num_experts}",
            value=hot,
            hint="Write fewer.",
        )
    shares = np.empty(request.num_experts)
    shares[experts] = _grouped(request.num_experts, hot, request.skew.skew)
    return shares


def bursty(request: RoutingRequest, layer: int, microbatch: int) -> FloatArray:
    """Return even shares, or in a burst those of a hot expert."""
    _check_share(request)
    rng = stream(request.seed, BURSTS, 0, microbatch)  # a burst meets all layers
    if rng.random() >= request.skew.burst_share:
        return np.full(request.num_experts, 1.0 / request.num_experts)
    place = int(stream(request.seed, BURSTS, layer + 1, microbatch).integers(request.num_experts))
    return np.roll(_grouped(request.num_experts, 1, request.skew.skew / request.top_k), place)


def _by_node(request: RoutingRequest, nodes: IntArray, layer: int) -> IntArray:
    """Return the experts of the hot node, then of the others, node by node. Shape [E]."""
    if not request.skew.shuffled:
        return np.argsort(nodes, kind="stable")
    rng = stream(request.seed, ORDER, layer)
    drawn = rng.permutation(int(nodes.max()) + 1)
    return np.lexsort((rng.random(nodes.size), drawn[nodes]))


def _of_a_node(nodes: IntArray, node: int) -> int:
    """Return how many experts a node has; not all, for then none would be hotter than another."""
    found = int((nodes == node).sum())
    if found == nodes.size:
        raise InvalidValueError(
            field="routing.hot_experts",
            rule="be given with kind hot_node where one node has all experts",
            value="nothing",
            hint="Say how many are hot, or spread the experts over more nodes.",
        )
    return found


def _grouped(num_experts: int, hot: int, share: float) -> FloatArray:
    """Return shares of which the first `hot` sum to `share`, or to what they have when all are alike.

    >>> _grouped(4, 1, 0.4)
    array([0.4, 0.2, 0.2, 0.2])
    """
    share = max(share, hot / num_experts)
    shares = np.full(num_experts, (1.0 - share) / max(1, num_experts - hot))
    shares[:hot] = share / hot
    return shares


def _check_share(request: RoutingRequest) -> None:
    if request.skew.skew > 1:
        raise InvalidValueError(
            field="routing.skew",
            rule=f"be at most 1 with kind {request.kind}",
            value=request.skew.skew,
            hint="It is a share, such as 0.3.",
        )
