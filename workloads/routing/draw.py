"""Counts of token copies per expert, drawn per source rank, layer and microbatch.

Model
-----
A routing (`workloads.routing.kinds`) gives the counts by a formula, or it gives the share of each expert
(`workloads.routing.popularity`). In the second case each token takes top_k distinct experts: with equal shares every
set of experts has the same probability (`workloads.topk_sampling`), with other shares sets are drawn by conditional
Bernoulli sampling (`workloads.routing.weighted`). Only the counts are drawn, and their distribution is exact.

With `max_nodes` below both the number of nodes and top_k each token takes nodes first
(`workloads.routing.node_limited_sampler`). A limit of top_k nodes or more has no effect, because the nodes of the best
top_k experts rank highest. Counts by a formula do not change with the limit.

Random numbers come from one child stream per purpose, layer, microbatch and lane of the seed, so that changing one
setting keeps the other draws. Layers and microbatches that are requested together are drawn together, each from its own
stream: this saves calls and changes no number.
"""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from sim.errors import InvalidValueError
from workloads.routing.chances import bernoulli_odds, choice_chances, conditional_tables
from workloads.routing.kinds import ROUTINGS
from workloads.routing.node_limited_sampler import (
    NodeLimitedSampler,
    chances_of_nodes,
    even_node_law,
    weighted_node_law,
)
from workloads.routing.nodes import choose_on_nodes
from workloads.routing.popularity import expert_shares
from workloads.routing.request import CHOICES, Draws, RoutingRequest, stream
from workloads.routing.skew import Skew
from workloads.routing.weighted import choose_weighted, choose_weighted_in_groups
from workloads.topk_sampling import choose_experts, choose_in_groups

__all__ = ["draw_counts", "node_chances"]

_MOST_AT_ONCE = 2**15  # counts that are drawn together: what they are made of then fits the caches
_MOST_LAWS = 256  # laws of choice that are kept: of layers whose popularity stays

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


def draw_counts(
    kind: str,
    *,
    num_sources: int,
    tokens: int,
    num_experts: int,
    top_k: int,
    seed: int,
    layers: Sequence[int],
    microbatches: Sequence[int],
    lane: int = 0,
    skew: Skew | None = None,
    num_lanes: int = 1,
    num_nodes: int = 1,
    max_nodes: int | None = None,
) -> IntArray:
    """Return how many of its tokens each source rank sends to each expert, in each layer of each microbatch.

    Parameters
    ----------
    kind
        A key of `ROUTINGS`.
    num_sources, tokens
        Source ranks, and tokens of each of them.
    num_experts, top_k
        Experts of the layer, and experts of a token.
    seed, layers, microbatches, lane
        What a draw depends on: its own layer and microbatch, and not the other layers and microbatches. Microbatches
        before the first are negative.
    skew
        How uneven popularity is; None: experts are alike.
    num_lanes
        Lanes of as many sources: a recording has the tokens of all.
    num_nodes, max_nodes
        Nodes that hold equally many experts each, in order, and how many of them a token goes to at most; None: all.

    Returns
    -------
    numpy.ndarray
        Counts that sum to tokens * top_k along each row. Shape [M, L, S, E].

    Examples
    --------
    >>> draw_counts("balanced", num_sources=2, tokens=3, num_experts=4, top_k=2, seed=1, layers=[0], microbatches=[5])
    array([[[[2, 2, 1, 1],
             [1, 1, 2, 2]]]])
    """
    if kind not in ROUTINGS:
        raise InvalidValueError(
            field="routing.kind", rule=f"be one of {', '.join(ROUTINGS)}", value=kind, hint="Use balanced."
        )
    if max_nodes is not None and num_experts % num_nodes:
        raise InvalidValueError(
            field="routing.max_nodes_per_token",
            rule=f"be left out where {num_experts} experts do not divide by their {num_nodes} nodes",
            value=max_nodes,
            hint="Give all nodes equally many experts.",
        )
    request = RoutingRequest(
        num_sources=num_sources,
        tokens=tokens,
        num_experts=num_experts,
        top_k=top_k,
        seed=seed,
        lane=lane,
        kind=kind,
        skew=skew or Skew(),
        num_lanes=num_lanes,
        num_nodes=num_nodes,
        max_nodes=max_nodes,
    )
    counts = _draw(request, list(product(microbatches, layers)))
    return counts.reshape(len(microbatches), len(layers), num_sources, num_experts)


def node_chances(
    kind: str,
    *,
    num_experts: int,
    top_k: int,
    seed: int,
    draws: Draws,
    skew: Skew,
    num_nodes: int,
    max_nodes: int,
) -> FloatArray:
    """Return the chance of a token to choose among the experts of each node, by microbatch and layer. Shape [N, nodes].

    Examples
    --------
    >>> keys = {"num_experts": 4, "top_k": 2, "seed": 1, "draws": [(0, 0)], "num_nodes": 2, "max_nodes": 1}
    >>> node_chances("multinomial", **keys, skew=Skew())
    array([[0.5, 0.5]])
    """
    request = RoutingRequest(num_experts=num_experts, top_k=top_k, seed=seed, kind=kind, skew=skew)
    if ROUTINGS[kind].shares is None or (ROUTINGS[kind].has_equal_shares and not skew.dead_experts):
        return np.full((len(draws), num_nodes), min(1.0, max_nodes / num_nodes))
    found = [choice_chances(expert_shares(request, layer, microbatch), top_k) for microbatch, layer in draws]
    return np.stack([chances_of_nodes(chances, num_nodes, max_nodes) for chances in found])


def _draw(request: RoutingRequest, draws: Draws) -> IntArray:
    """Return the counts of each draw. Shape [N, S, E]."""
    kind = ROUTINGS[request.kind]
    counts = None if kind.counts is None else kind.counts(request, draws)
    if counts is not None:
        return counts
    if kind.has_equal_shares and not request.skew.dead_experts:
        return _draw_uniformly(request, draws)
    return np.stack(
        [_by_shares(request, expert_shares(request, layer, mb), _choices(request, mb, layer)) for mb, layer in draws]
    )


def _draw_uniformly(request: RoutingRequest, draws: Draws) -> IntArray:
    """Draw where all experts have equal shares. Shape [N, S, E]."""
    streams = [_choices(request, *draw) for draw in draws]
    at_once = max(1, _MOST_AT_ONCE // (request.num_sources * request.num_experts))
    groups = [streams[at : at + at_once] for at in range(0, len(streams), at_once)]
    return np.concatenate([_uniform_counts(request, group) for group in groups])


def _uniform_counts(request: RoutingRequest, streams: list[np.random.Generator]) -> IntArray:
    """Draw once from each stream where all experts have equal shares. Shape [L, S, E]."""
    num_sources, tokens, top_k, num_nodes = request.num_sources, request.tokens, request.top_k, request.num_nodes
    if not request.is_limited:
        return choose_experts(num_sources, tokens, request.num_experts, top_k, streams)
    per_node = request.num_experts // num_nodes
    if request.max_nodes == 1:  # a token chooses its node as it would choose an expert at top-1
        on_nodes = np.zeros((top_k + 1, len(streams), num_sources, num_nodes), dtype=np.int64)
        on_nodes[-1] = choose_experts(num_sources, tokens, num_nodes, 1, streams)
    else:
        law = even_node_law(num_nodes, request.max_nodes or 0, per_node, top_k)
        drawn = [choose_on_nodes(num_sources, tokens, num_nodes, law, rng) for rng in streams]
        on_nodes = np.stack(drawn, axis=1)
    return choose_in_groups(on_nodes, per_node, streams)


def _by_shares(request: RoutingRequest, shares: FloatArray, rng: np.random.Generator) -> IntArray:
    """Draw once by shares of experts. Shape [S, E]."""
    law = _law(shares, request.top_k, request.num_nodes, request.max_nodes if request.is_limited else None)
    if isinstance(law, list):
        return choose_weighted(request.num_sources, request.tokens, request.num_experts, law, rng)
    on_nodes = choose_on_nodes(request.num_sources, request.tokens, request.num_nodes, law, rng)
    return choose_weighted_in_groups(on_nodes, request.num_experts // request.num_nodes, law.experts, rng)


def _choices(request: RoutingRequest, microbatch: int, layer: int) -> np.random.Generator:
    return stream(request.seed, CHOICES, layer, microbatch, request.lane)


_laws: OrderedDict[tuple[bytes, int, int, int | None], list[FloatArray] | NodeLimitedSampler] = (
    OrderedDict()
)  # changes no figure


def _law(
    shares: FloatArray, top_k: int, num_nodes: int, max_nodes: int | None
) -> list[FloatArray] | NodeLimitedSampler:
    """Return the law of choice for shares of experts, by nodes where they are limited; the latest are kept."""
    key = (shares.tobytes(), top_k, num_nodes, max_nodes)
    if key not in _laws:
        chances = choice_chances(shares, top_k)
        coins = bernoulli_odds(chances, top_k)
        num_alive = int((shares.reshape(num_nodes, -1) > 0).any(axis=1).sum()) if max_nodes else 0
        if max_nodes is None or num_alive <= max_nodes:
            _laws[key] = conditional_tables(coins, top_k)
        else:
            _laws[key] = weighted_node_law(chances, coins, num_nodes, max_nodes, top_k)
        if len(_laws) > _MOST_LAWS:
            _laws.popitem(last=False)
    _laws.move_to_end(key)
    return _laws[key]
