"""Counts of token copies per expert, drawn per source rank, layer and microbatch.

Model
-----
A routing (`workloads.routing.kinds`) gives the counts by a formula, or it gives the share of each expert
(`workloads.routing.popularity`). In the second case each token takes top_k distinct experts: with equal shares every
set of experts has the same probability (`workloads.topk_sampling`), with other shares sets are drawn by conditional
Bernoulli sampling (`workloads.routing.conditional_bernoulli`). Only the counts are drawn, and their distribution is
exact.

With `max_nodes` below both the number of nodes and top_k each token takes nodes first
(`workloads.routing.node_limited_sampler`). A limit of top_k nodes or more has no effect, because the nodes of the best
top_k experts rank highest. Counts by a formula do not change with the limit.

Random numbers come from one child stream per purpose, layer, microbatch and lane of the seed, so that changing one
setting keeps the other draws. Layers and microbatches that are requested together are drawn together, each from its own
stream: this saves calls and changes no number. Exact draws are kept for further runs of the process that draw the same
tokens (`workloads.routing.kept_draws`).
"""

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from sim.errors import InvalidValueError
from workloads.routing.conditional_bernoulli import (
    Splits,
    bernoulli_odds,
    choose_weighted_for_hosts,
    choose_weighted_in_groups,
    conditional_tables,
    inclusion_probabilities,
    split_probabilities,
)
from workloads.routing.kept_draws import KeptDraws
from workloads.routing.kinds import ROUTINGS
from workloads.routing.node_limited_sampler import (
    NodeLimitedSampler,
    node_inclusion_probabilities,
    uniform_node_sampler,
    weighted_node_sampler,
)
from workloads.routing.normal_counts import normal_counts
from workloads.routing.popularity import expert_shares
from workloads.routing.request import CHOICES, Draws, RoutingRequest, stream
from workloads.routing.skew import Skew
from workloads.topk_sampling import choose_experts, choose_for_hosts, choose_in_groups

__all__ = ["draw_counts", "draw_for_hosts", "node_probabilities"]

_MAX_COUNTS = 2**15
"""Counts that are drawn together, so that the arrays of a draw fit the caches."""
_MAX_SAMPLERS = 256
"""Samplers that are kept, for layers whose popularity stays the same over microbatches."""
_MAX_SAMPLER_BYTES = 2**26
"""Memory that they may take together: a probability for each expert and each of its states."""

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
    is_approximate: bool = False,
) -> IntArray:
    """Return how many of its tokens each source rank sends to each expert, in each layer of each microbatch.

    Parameters
    ----------
    kind, ..., is_approximate
        Fields of `workloads.routing.request.RoutingRequest`; `skew` None: no skew.
    layers, microbatches
        What is drawn: no draw depends on the others. Microbatches before the first are negative.

    Returns
    -------
    numpy.ndarray
        Counts of token copies that sum to tokens * top_k along each row. Shape [M, L, S, E].

    Examples
    --------
    >>> draw_counts("balanced", num_sources=2, tokens=3, num_experts=4, top_k=2, seed=1, layers=[0], microbatches=[5])
    array([[[[2, 2, 1, 1],
             [1, 1, 2, 2]]]])
    """
    request = RoutingRequest(
        kind=kind,
        skew=skew or Skew(),
        num_sources=num_sources,
        tokens=tokens,
        num_experts=num_experts,
        top_k=top_k,
        seed=seed,
        lane=lane,
        num_lanes=num_lanes,
        num_nodes=num_nodes,
        max_nodes=max_nodes,
        is_approximate=is_approximate,
    )
    _check(request)
    counts = _draw(request, list(product(microbatches, layers)))
    return counts.reshape(len(microbatches), len(layers), num_sources, num_experts)


def draw_for_hosts(
    kind: str,
    *,
    num_hosts: int,
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
) -> tuple[IntArray, IntArray]:
    """Return what each source rank sends to each host, and what all sources send to each expert.

    Experts lie on `num_hosts` hosts in order, equally many on each, a power of two that divides those of a node; the
    other parameters are those of `draw_counts`. The numbers for hosts are the sums of its numbers; those for experts
    have the same distribution, given these.

    Returns
    -------
    tuple
        Copies for hosts [N, S, H] and for experts [N, E], by microbatch and then by layer.
    """
    request = RoutingRequest(
        kind=kind,
        skew=skew or Skew(),
        num_sources=num_sources,
        tokens=tokens,
        num_experts=num_experts,
        top_k=top_k,
        seed=seed,
        lane=lane,
        num_lanes=num_lanes,
        num_nodes=num_nodes,
        max_nodes=max_nodes,
    )
    _check(request)
    draws, rule, host_size = list(product(microbatches, layers)), ROUTINGS[kind], num_experts // num_hosts
    counts = None if rule.counts is None else rule.counts(request, draws)
    if counts is None and rule.has_equal_shares and not request.skew.dead_experts and num_experts & (num_experts - 1):
        counts = _draw_uniformly(request, draws)  # blocks of such a number of experts are not those of hosts
    if counts is not None:
        return counts.reshape(len(draws), num_sources, num_hosts, -1).sum(axis=3), counts.sum(axis=1)
    if rule.has_equal_shares and not request.skew.dead_experts:
        drawn = [_uniform_for_hosts(request, _choices(request, *draw), host_size) for draw in draws]
    else:
        drawn = [
            _weighted_for_hosts(request, expert_shares(request, layer, mb), _choices(request, mb, layer), host_size)
            for mb, layer in draws
        ]
    to_hosts, of_experts = zip(*drawn, strict=True)
    return np.stack(to_hosts), np.stack(of_experts)


def node_probabilities(
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
    """Return the probability that a token chooses among the experts of each node, for each draw. Shape [N, nodes].

    `draws` are the microbatch and layer of each of N draws; the other parameters are those of `draw_counts`.

    Examples
    --------
    >>> keys = {"num_experts": 4, "top_k": 2, "seed": 1, "draws": [(0, 0)], "num_nodes": 2, "max_nodes": 1}
    >>> node_probabilities("multinomial", **keys, skew=Skew())
    array([[0.5, 0.5]])
    """
    request = RoutingRequest(
        num_experts=num_experts,
        top_k=top_k,
        seed=seed,
        kind=kind,
        skew=skew,
        num_nodes=num_nodes,
        max_nodes=max_nodes,
    )
    if ROUTINGS[kind].shares is None or (ROUTINGS[kind].has_equal_shares and not skew.dead_experts):
        return np.full((len(draws), num_nodes), min(1.0, max_nodes / num_nodes))
    inclusion = [inclusion_probabilities(expert_shares(request, layer, mb), top_k) for mb, layer in draws]
    return np.stack([node_inclusion_probabilities(of_draw, num_nodes, max_nodes) for of_draw in inclusion])


def _check(request: RoutingRequest) -> None:
    """Refuse a routing that does not exist, and a limit of nodes where nodes have different numbers of experts."""
    if request.kind not in ROUTINGS:
        raise InvalidValueError(
            field="routing.kind", rule=f"be one of {', '.join(ROUTINGS)}", value=request.kind, hint="Use balanced."
        )
    if request.max_nodes is not None and request.num_experts % request.num_nodes:
        raise InvalidValueError(
            field="routing.max_nodes_per_token",
            rule=f"be left out where {request.num_experts} experts do not divide by their {request.num_nodes} nodes",
            value=request.max_nodes,
            hint="Give all nodes equally many experts.",
        )


def _draw(request: RoutingRequest, draws: Draws) -> IntArray:
    """Return the counts of each draw. Shape [N, S, E]."""
    kind = ROUTINGS[request.kind]
    counts = None if kind.counts is None else kind.counts(request, draws)
    if counts is not None:
        return counts
    if request.is_approximate and not request.is_limited:
        return np.stack([_approximate_counts(request, draw) for draw in draws])
    if kind.has_equal_shares and not request.skew.dead_experts:
        keys = [_key(request, b"", draw) for draw in draws]
        return _kept.counts(keys, lambda missing: list(_draw_uniformly(request, [draws[i] for i in missing])))
    shares = [expert_shares(request, layer, microbatch) for microbatch, layer in draws]
    keys = [_key(request, of_draw.tobytes(), draw) for of_draw, draw in zip(shares, draws, strict=True)]
    return _kept.counts(
        keys, lambda missing: [_weighted_counts(request, shares[i], _choices(request, *draws[i])) for i in missing]
    )


_kept = KeptDraws()
"""What was drawn exactly, for further runs that draw the same tokens."""


def _key(request: RoutingRequest, shares: bytes, draw: tuple[int, int]) -> Hashable:
    """Return all that an exact draw depends on; no shares: equal shares."""
    shape = (request.num_sources, request.tokens, request.num_experts, request.top_k)
    limit = (request.num_nodes, request.max_nodes) if request.is_limited else None
    return (shares, shape, limit, request.seed, request.lane, draw)


def _approximate_counts(request: RoutingRequest, draw: tuple[int, int]) -> IntArray:
    """Draw once by a normal law, or exactly where this does not fit. Shape [S, E]."""
    microbatch, layer = draw
    shares = expert_shares(request, layer, microbatch)
    inclusion = inclusion_probabilities(shares, request.top_k)
    counts = normal_counts(inclusion, request.num_sources, request.tokens, _choices(request, microbatch, layer))
    return _draw(replace(request, is_approximate=False), [draw])[0] if counts is None else counts


def _draw_uniformly(request: RoutingRequest, draws: Draws) -> IntArray:
    """Draw where all experts have equal shares. Shape [N, S, E]."""
    streams = [_choices(request, *draw) for draw in draws]
    at_once = max(1, _MAX_COUNTS // (request.num_sources * request.num_experts))
    groups = [streams[at : at + at_once] for at in range(0, len(streams), at_once)]
    return np.concatenate([_uniform_counts(request, group) for group in groups])


def _uniform_counts(request: RoutingRequest, streams: list[np.random.Generator]) -> IntArray:
    """Draw once from each stream where all experts have equal shares. Shape [L, S, E]."""
    by_choices, group_size = _uniform_choices(request, streams)
    return choose_in_groups(by_choices, group_size, streams)


def _uniform_for_hosts(request: RoutingRequest, rng: np.random.Generator, host_size: int) -> tuple[IntArray, IntArray]:
    """Draw once for hosts where all experts have equal shares. Shapes [S, H], [E]."""
    by_choices, group_size = _uniform_choices(request, [rng])
    to_hosts, of_experts = choose_for_hosts(by_choices, group_size, [rng], host_size=host_size)
    return to_hosts[0], of_experts[0]


def _uniform_choices(request: RoutingRequest, streams: list[np.random.Generator]) -> tuple[IntArray, int]:
    """Draw tokens of each source by their choices in groups of experts [k + 1, L, S, G], and the size of a group."""
    num_sources, tokens, top_k, num_nodes = request.num_sources, request.tokens, request.top_k, request.num_nodes
    if not request.is_limited:
        by_choices = np.zeros((top_k + 1, len(streams), num_sources, 1), dtype=np.int64)
        by_choices[top_k] = tokens
        return by_choices, request.num_experts
    per_node = request.num_experts // num_nodes
    if request.max_nodes == 1:  # a token chooses its node as it would choose an expert at top-1
        by_choices = np.zeros((top_k + 1, len(streams), num_sources, num_nodes), dtype=np.int64)
        by_choices[-1] = choose_experts(num_sources, tokens, num_nodes, 1, streams)
        return by_choices, per_node
    sampler = uniform_node_sampler(num_nodes, request.max_nodes or 0, per_node, top_k)
    return np.stack([sampler.draw(num_sources, tokens, rng) for rng in streams], axis=1), per_node


def _weighted_counts(request: RoutingRequest, shares: FloatArray, rng: np.random.Generator) -> IntArray:
    """Draw once by the shares of the experts. Shape [S, E]."""
    return choose_weighted_in_groups(*_weighted_choices(request, shares, rng), rng)


def _weighted_for_hosts(
    request: RoutingRequest, shares: FloatArray, rng: np.random.Generator, host_size: int
) -> tuple[IntArray, IntArray]:
    """Draw once for hosts by the shares of the experts. Shapes [S, H], [E]."""
    return choose_weighted_for_hosts(*_weighted_choices(request, shares, rng), rng, host_size=host_size)


def _weighted_choices(
    request: RoutingRequest, shares: FloatArray, rng: np.random.Generator
) -> tuple[IntArray, int, Splits]:
    """Draw tokens by their choices in groups of experts [k + 1, S, G], the size of a group, and its splits."""
    max_nodes = request.max_nodes if request.is_limited else None
    sampler = _sampler(shares, request.top_k, request.num_nodes, max_nodes)
    if isinstance(sampler, NodeLimitedSampler):
        by_choices = sampler.draw(request.num_sources, request.tokens, rng)
        return by_choices, request.num_experts // request.num_nodes, sampler.expert_splits
    by_choices = np.zeros((request.top_k + 1, request.num_sources, 1), dtype=np.int64)
    by_choices[-1] = request.tokens
    return by_choices, request.num_experts, sampler


def _choices(request: RoutingRequest, microbatch: int, layer: int) -> np.random.Generator:
    """Return the stream of the choices of experts."""
    return stream(request.seed, CHOICES, layer, microbatch, request.lane)


_samplers: OrderedDict[tuple[bytes, int, int, int | None], Splits | NodeLimitedSampler] = OrderedDict()
"""Samplers by shares, top_k, nodes and limit of nodes, the latest last; the cache changes no figure."""


def _sampler(shares: FloatArray, top_k: int, num_nodes: int, max_nodes: int | None) -> Splits | NodeLimitedSampler:
    """Return how choices divide over the experts, or a sampler of nodes where a limit of nodes has an effect."""
    key = (shares.tobytes(), top_k, num_nodes, max_nodes)
    if key not in _samplers:
        inclusion = inclusion_probabilities(shares, top_k)
        success = bernoulli_odds(inclusion, top_k)
        num_alive = int((shares.reshape(num_nodes, -1) > 0).any(axis=1).sum()) if max_nodes else 0
        if max_nodes is None or num_alive <= max_nodes:
            _samplers[key] = split_probabilities(conditional_tables(success, top_k)[:-1])
        else:
            _samplers[key] = weighted_node_sampler(inclusion, success, num_nodes, max_nodes, top_k)
        num_bytes = 4 * shares.size * (top_k + 1) * (top_k + 2)
        if len(_samplers) > min(_MAX_SAMPLERS, max(1, _MAX_SAMPLER_BYTES // num_bytes)):
            _samplers.popitem(last=False)
    _samplers.move_to_end(key)
    return _samplers[key]
