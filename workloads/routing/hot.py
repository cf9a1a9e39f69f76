"""Shares of the experts where a few experts are hot: one expert, the experts of one node, or one expert in bursts.

Model
-----
    hot_expert    share of the tokens that choose expert 0 = skew, at least the mean top_k / experts
    hot_node      share of the token copies for the experts of one node = skew, at least their share if all were equal
    bursty        hot_expert in a share `burst_share` of the microbatches, drawn independently; equal shares elsewhere

A token takes an expert once, so an expert has at most 1 / top_k of the token copies. The hot experts are the same in
all microbatches, except for bursts: every burst draws a hot expert of its own.

The hot node is drawn for each layer. Its experts are those that the node holds where experts are placed in order. With
`hot_experts` below that number only some experts of the node are hot; with a larger number, experts of the node that is
drawn next are hot too. Without shuffling the first node is hot, and its experts are hot in order.
"""

import numpy as np
from numpy.typing import NDArray

from sim.errors import InvalidValueError
from workloads.routing.request import BURSTS, ORDER, RoutingRequest, stream

__all__ = ["bursty", "hot_expert", "hot_node"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]


def hot_expert(request: RoutingRequest, layer: int, microbatch: int) -> FloatArray:
    """Return shares of which the first is `skew` / top_k. Shape [E]."""
    del layer, microbatch
    _check_skew_is_a_share(request)
    return _two_groups(request.num_experts, 1, request.skew.skew / request.top_k)


def hot_node(request: RoutingRequest, layer: int, microbatch: int) -> FloatArray:
    """Return shares of which the experts of one node have `skew` together. Shape [E].

    >>> from workloads.routing.skew import Skew
    >>> skew = Skew(skew=0.8, expert_nodes=np.array([0, 0, 1, 1]), shuffled=False)
    >>> hot_node(RoutingRequest(num_experts=4, kind="hot_node", skew=skew), layer=0, microbatch=0)
    array([0.4, 0.4, 0.1, 0.1])
    """
    del microbatch
    _check_skew_is_a_share(request)
    node_of_expert = request.skew.expert_nodes
    if node_of_expert is None:
        node_of_expert = np.zeros(request.num_experts, dtype=np.intp)
    experts = _hottest_node_first(request, node_of_expert, layer)
    num_hot = request.skew.hot_experts
    if num_hot is None:
        num_hot = _num_experts_of_node(node_of_expert, int(node_of_expert[experts[0]]))
    if num_hot > request.num_experts:
        raise InvalidValueError(
            field="routing.hot_experts",
            rule=f"be at most experts = {request.num_experts}",
            value=num_hot,
            hint="Write fewer hot experts.",
        )
    shares = np.empty(request.num_experts)
    shares[experts] = _two_groups(request.num_experts, num_hot, request.skew.skew)
    return shares


def bursty(request: RoutingRequest, layer: int, microbatch: int) -> FloatArray:
    """Return equal shares, or in a burst those of `hot_expert` with a hot expert of its own. Shape [E]."""
    _check_skew_is_a_share(request)
    rng = stream(request.seed, BURSTS, 0, microbatch)  # a burst meets all layers
    if rng.random() >= request.skew.burst_share:
        return np.full(request.num_experts, 1.0 / request.num_experts)
    hot = int(stream(request.seed, BURSTS, layer + 1, microbatch).integers(request.num_experts))
    return np.roll(_two_groups(request.num_experts, 1, request.skew.skew / request.top_k), hot)


def _hottest_node_first(request: RoutingRequest, node_of_expert: IntArray, layer: int) -> IntArray:
    """Return the experts of the hot node, then the experts of the other nodes, node by node. Shape [E]."""
    if not request.skew.shuffled:
        return np.argsort(node_of_expert, kind="stable")
    rng = stream(request.seed, ORDER, layer)
    position_of_node = rng.permutation(int(node_of_expert.max()) + 1)
    return np.lexsort((rng.random(node_of_expert.size), position_of_node[node_of_expert]))


def _num_experts_of_node(node_of_expert: IntArray, node: int) -> int:
    """Return how many experts a node has; a node with all experts is refused, for it cannot be hotter than others."""
    num_experts = int((node_of_expert == node).sum())
    if num_experts == node_of_expert.size:
        raise InvalidValueError(
            field="routing.hot_experts",
            rule="be given with kind hot_node where one node has all experts",
            value="nothing",
            hint="Write how many experts are hot, or spread the experts over more nodes.",
        )
    return num_experts


def _two_groups(num_experts: int, num_hot: int, hot_share: float) -> FloatArray:
    """Return shares of which the first `num_hot` sum to `hot_share`, or to their sum if all shares were equal.

    >>> _two_groups(4, 1, 0.4)
    array([0.4, 0.2, 0.2, 0.2])
    """
    hot_share = max(hot_share, num_hot / num_experts)
    shares = np.full(num_experts, (1.0 - hot_share) / max(1, num_experts - num_hot))
    shares[:num_hot] = hot_share / num_hot
    return shares


def _check_skew_is_a_share(request: RoutingRequest) -> None:
    if request.skew.skew > 1:
        raise InvalidValueError(
            field="routing.skew",
            rule=f"be at most 1 with kind {request.kind}",
            value=request.skew.skew,
            hint=f"The skew of {request.kind} is a share: write for example 0.3.",
        )
