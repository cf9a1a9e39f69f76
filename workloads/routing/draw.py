"""Tokens per expert, drawn per source rank, layer and microbatch.

Model
-----
    balanced      every source sends tokens * top_k / experts to each expert; remainders go round by source and layer
    multinomial   each token takes top_k distinct experts, every set of them with equal probability
    stride        the n-th choice of all tokens takes expert n * stride mod experts: even, but only over some experts
    trace         tokens as they were recorded, dealt out to the sources; where these have others, by its shares
    all others    each token takes top_k distinct experts, by the shares of `workloads.routing.popularity`

For top-1 multinomial is the multinomial distribution itself; for more, the counts are drawn exactly as well, by halving
the experts (`workloads.topk_sampling`; where experts are not alike, `workloads.routing.weighted`). With `max_nodes` below
both nodes and top_k each token takes nodes first (`workloads.routing.node_limited_sampler`); nodes as many as its choices bind
nothing, for the nodes of its best top_k experts are the ones that rank highest. What is not drawn (balanced, counts of
a recording) is the same with that limit; a stride, whose tokens are known one by one, is refused.

Random numbers come from one child stream per purpose, layer, microbatch and lane of the seed, so that changing one
thing keeps the other draws. Layers and microbatches that are request for together are drawn together, each from its own
stream: that saves calls and changes no number.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import product
from math import gcd

import numpy as np
from numpy.typing import NDArray

from sim.errors import InvalidValueError
from workloads.routing.chances import bernoulli_odds, choice_chances, conditional_tables
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
from workloads.routing.sources import SOURCES
from workloads.routing.sources.recorded import dealt_out, is_of_these_tokens
from workloads.routing.weighted import choose_weighted, choose_weighted_in_groups
from workloads.topk_sampling import choose_experts, choose_in_groups

__all__ = ["ROUTINGS", "draw_counts", "node_chances"]

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
        What a draw depends on: on its own layer and microbatch, not on what else is request for. Microbatches before the
        first are negative.
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
    shape = (num_sources, tokens, num_experts, top_k, seed, lane)
    request = RoutingRequest(*shape, kind, skew or Skew(), num_lanes, num_nodes, max_nodes)
    counts = ROUTINGS[kind](request, list(product(microbatches, layers)))
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
    request = RoutingRequest(1, 1, num_experts, top_k, seed, 0, kind, skew)
    if kind not in SOURCES or (kind == "multinomial" and not skew.dead_experts):
        return np.full((len(draws), num_nodes), min(1.0, max_nodes / num_nodes))
    found = [choice_chances(expert_shares(request, layer, microbatch), top_k) for microbatch, layer in draws]
    return np.stack([chances_of_nodes(chances, num_nodes, max_nodes) for chances in found])


def _balanced(request: RoutingRequest, draws: Draws) -> IntArray:
    num_experts = request.num_experts
    every, rest = divmod(request.tokens * request.top_k, num_experts)
    counts = np.full((len(draws), request.num_sources, num_experts), every, dtype=np.int64)
    if rest:
        first = (np.arange(request.num_sources)[:, None] + np.reshape([layer for _, layer in draws], (-1, 1, 1))) * rest
        np.put_along_axis(counts, (first + np.arange(rest)) % num_experts, every + 1, axis=2)
    return counts


def _multinomial(request: RoutingRequest, draws: Draws) -> IntArray:
    if request.skew.dead_experts:
        return _weighted(request, draws)
    streams = [_choices(request, *draw) for draw in draws]
    at_once = max(1, _MOST_AT_ONCE // (request.num_sources * request.num_experts))
    groups = [streams[at : at + at_once] for at in range(0, len(streams), at_once)]
    return np.concatenate([_alike(request, group) for group in groups])


def _alike(request: RoutingRequest, streams: list[np.random.Generator]) -> IntArray:
    """Draw once from each stream where experts are alike. Shape [L, S, E]."""
    if not request.is_limited:
        return choose_experts(*request[:4], streams)
    per_node = request.num_experts // request.num_nodes
    if request.max_nodes == 1:  # nodes are as experts of a top-1 choice
        on_nodes = np.zeros((request.top_k + 1, len(streams), request.num_sources, request.num_nodes), dtype=np.int64)
        on_nodes[-1] = choose_experts(request.num_sources, request.tokens, request.num_nodes, 1, streams)
    else:
        law = even_node_law(request.num_nodes, request.max_nodes or 0, per_node, request.top_k)
        drawn = [choose_on_nodes(request.num_sources, request.tokens, request.num_nodes, law, rng) for rng in streams]
        on_nodes = np.stack(drawn, axis=1)
    return choose_in_groups(on_nodes, per_node, streams)


def _weighted(request: RoutingRequest, draws: Draws) -> IntArray:
    """Draw by the shares of each layer and microbatch."""
    return np.stack(
        [_by_shares(request, expert_shares(request, layer, mb), _choices(request, mb, layer)) for mb, layer in draws]
    )


def _by_shares(request: RoutingRequest, shares: FloatArray, rng: np.random.Generator) -> IntArray:
    """Draw once by shares of experts. Shape [S, E]."""
    law = _law(shares, request.top_k, request.num_nodes, request.max_nodes if request.is_limited else None)
    if isinstance(law, list):
        return choose_weighted(*request[:3], law, rng)
    on_nodes = choose_on_nodes(request.num_sources, request.tokens, request.num_nodes, law, rng)
    return choose_weighted_in_groups(on_nodes, request.num_experts // request.num_nodes, law.experts, rng)


def _trace(request: RoutingRequest, draws: Draws) -> IntArray:
    if request.skew.loads is None or not is_of_these_tokens(request):
        return _weighted(request, draws)
    return np.stack([dealt_out(request, layer, microbatch) for microbatch, layer in draws])


def _stride(request: RoutingRequest, draws: Draws) -> IntArray:
    num_experts, step = request.num_experts, request.skew.stride
    if request.is_limited:
        raise InvalidValueError(
            field="routing.max_nodes_per_token",
            rule="be left out with kind stride, whose tokens take experts by number",
            value=request.max_nodes,
            hint="Drop it, or use another kind.",
        )
    reached = num_experts // gcd(step, num_experts)
    if reached < request.top_k:
        raise InvalidValueError(
            field="routing.stride",
            rule=f"reach at least top_k = {request.top_k} of {num_experts} experts",
            value=step,
            hint="Choose one that shares no large factor with the experts.",
        )
    every, rest = divmod(request.tokens * request.top_k, reached)
    counts = np.zeros((len(draws), request.num_sources, num_experts), dtype=np.int64)
    counts[..., np.arange(reached) * step % num_experts] = every
    counts[..., np.arange(rest) * step % num_experts] += 1
    return counts


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


ROUTINGS: dict[str, Callable[[RoutingRequest, Draws], IntArray]] = {
    "balanced": _balanced,
    "multinomial": _multinomial,
    "stride": _stride,
    **{name: _weighted for name in SOURCES if name not in ("multinomial", "trace")},
    "trace": _trace,
}
"""Routing by name: (what is request, microbatch and layer of each of N draws) -> counts [N, S, E]."""
