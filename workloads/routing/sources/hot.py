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

from workloads.errors import WorkloadError
from workloads.routing.asked import BURSTS, ORDER, Asked, stream

__all__ = ["bursty", "hot_expert", "hot_node"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]


def hot_expert(asked: Asked, layer: int, microbatch: int) -> FloatArray:
    """Return shares of which the first is `skew` / top_k."""
    del layer, microbatch
    _check_share(asked)
    return _grouped(asked.num_experts, 1, asked.skew.skew / asked.top_k)


def hot_node(asked: Asked, layer: int, microbatch: int) -> FloatArray:
    """Return shares of which the experts of a node have `skew` together.

    >>> from workloads.routing.skew import Skew
    >>> skew = Skew(skew=0.8, expert_nodes=np.array([0, 0, 1, 1]), shuffled=False)
    >>> hot_node(Asked(1, 1, 4, 1, 1, 0, "hot_node", skew), 0, 0)
    array([0.4, 0.4, 0.1, 0.1])
    """
    del microbatch
    _check_share(asked)
    nodes = asked.skew.expert_nodes
    if nodes is None:
        nodes = np.zeros(asked.num_experts, dtype=np.intp)
    experts = _by_node(asked, nodes, layer)
    hot = asked.skew.hot_experts
    if hot is None:
        hot = _of_a_node(nodes, int(nodes[experts[0]]))
    if hot > asked.num_experts:
        raise WorkloadError(
            subject="routing",
            field="hot_experts",
            rule=f"be at most experts = {asked.num_experts}",
            value=hot,
            cure="Write fewer.",
        )
    shares = np.empty(asked.num_experts)
    shares[experts] = _grouped(asked.num_experts, hot, asked.skew.skew)
    return shares


def bursty(asked: Asked, layer: int, microbatch: int) -> FloatArray:
    """Return even shares, or in a burst those of a hot expert."""
    _check_share(asked)
    rng = stream(asked.seed, BURSTS, 0, microbatch)  # a burst meets all layers
    if rng.random() >= asked.skew.burst_share:
        return np.full(asked.num_experts, 1.0 / asked.num_experts)
    place = int(stream(asked.seed, BURSTS, layer + 1, microbatch).integers(asked.num_experts))
    return np.roll(_grouped(asked.num_experts, 1, asked.skew.skew / asked.top_k), place)


def _by_node(asked: Asked, nodes: IntArray, layer: int) -> IntArray:
    """Return the experts of the hot node, then of the others, node by node. Shape [E]."""
    if not asked.skew.shuffled:
        return np.argsort(nodes, kind="stable")
    rng = stream(asked.seed, ORDER, layer)
    drawn = rng.permutation(int(nodes.max()) + 1)
    return np.lexsort((rng.random(nodes.size), drawn[nodes]))


def _of_a_node(nodes: IntArray, node: int) -> int:
    """Return how many experts a node has; not all, for then none would be hotter than another."""
    found = int((nodes == node).sum())
    if found == nodes.size:
        raise WorkloadError(
            subject="routing",
            field="hot_experts",
            rule="be given with kind hot_node where one node has all experts",
            value="nothing",
            cure="Say how many are hot, or spread the experts over more nodes.",
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


def _check_share(asked: Asked) -> None:
    if asked.skew.skew > 1:
        raise WorkloadError(
            subject="routing",
            field="skew",
            rule=f"be at most 1 with kind {asked.kind}",
            value=asked.skew.skew,
            cure="It is a share, such as 0.3.",
        )
