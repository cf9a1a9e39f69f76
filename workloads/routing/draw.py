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
from collections.abc import Hashable, Iterator, Sequence
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
from workloads.topk_sampling import Streams, choose_experts, choose_for_hosts, choose_in_groups

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
    draws = list(product(microbatches, layers))
    counts = _counts_not_drawn_for_hosts(request, draws)
    if counts is not None:
        return counts.reshape(len(draws), num_sources, num_hosts, -1).sum(axis=3), counts.sum(axis=1)
    return _draw_for_hosts(request, draws, num_hosts)


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
    shares = _shares(request, draws)
    keys = [
        _key(request, b"" if of_draw is None else of_draw.tobytes(), draw)
        for of_draw, draw in zip(shares, draws, strict=True)
    ]

    def draw_missing(missing: list[int]) -> list[IntArray]:
        return _draw_exactly(request, [draws[i] for i in missing], [shares[i] for i in missing])

    return _kept.counts(keys, draw_missing)


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


def _has_equal_shares(request: RoutingRequest) -> bool:
    return ROUTINGS[request.kind].has_equal_shares and not request.skew.dead_experts


def _shares(request: RoutingRequest, draws: Draws) -> list[FloatArray] | list[None]:
    """Return the shares of the experts in each draw [E]; None: they are equal."""
    if _has_equal_shares(request):
        return [None] * len(draws)
    return [expert_shares(request, layer, microbatch) for microbatch, layer in draws]


def _batches(shares: Sequence[FloatArray | None], num_counts: int) -> Iterator[tuple[FloatArray | None, list[int]]]:
    """Return the draws that are drawn together: those with equal `shares`, of `num_counts` each, by their numbers."""
    at_once = max(1, _MAX_COUNTS // num_counts)
    members: dict[bytes, list[int]] = {}
    for i, of_draw in enumerate(shares):
        members.setdefault(b"" if of_draw is None else of_draw.tobytes(), []).append(i)
    for alike in members.values():
        for at in range(0, len(alike), at_once):
            yield shares[alike[at]], alike[at : at + at_once]


def _draw_exactly(request: RoutingRequest, draws: Draws, shares: Sequence[FloatArray | None]) -> list[IntArray]:
    """Draw where the experts have these shares [E] in each draw; None: equal shares. Shape [S, E] of each draw."""
    counts: dict[int, IntArray] = {}
    for of_batch, members in _batches(shares, request.num_sources * request.num_experts):
        streams = [_choices(request, *draws[i]) for i in members]
        if of_batch is None:
            drawn = choose_in_groups(*_uniform_choices(request, streams), streams)
        else:
            drawn = choose_weighted_in_groups(*_weighted_choices(request, of_batch, streams), streams)
        counts |= zip(members, drawn, strict=True)
    return [counts[i] for i in range(len(draws))]


def _counts_not_drawn_for_hosts(request: RoutingRequest, draws: Draws) -> IntArray | None:
    """Return counts by a formula, or drawn for experts where hosts have other blocks of experts than draws [N, S, E].

    Such are the draws of equal shares where the number of experts is no power of two: the blocks of experts have
    several sizes. None: counts for hosts can be drawn at once.
    """
    rule = ROUTINGS[request.kind]
    counts = None if rule.counts is None else rule.counts(request, draws)
    is_power_of_two = request.num_experts & (request.num_experts - 1) == 0
    if counts is None and _has_equal_shares(request) and not is_power_of_two:
        return np.stack(_draw_exactly(request, draws, [None] * len(draws)))
    return counts


def _draw_for_hosts(request: RoutingRequest, draws: Draws, num_hosts: int) -> tuple[IntArray, IntArray]:
    """Draw copies for hosts [N, S, H] and for experts [N, E]."""
    host_size = request.num_experts // num_hosts
    to_hosts = np.empty((len(draws), request.num_sources, num_hosts), dtype=np.int64)
    of_experts = np.empty((len(draws), request.num_experts), dtype=np.int64)
    for shares, members in _batches(_shares(request, draws), request.num_sources * num_hosts):
        streams = [_choices(request, *draws[i]) for i in members]
        if shares is None:
            drawn = choose_for_hosts(*_uniform_choices(request, streams), streams, host_size=host_size)
        else:
            choices = _weighted_choices(request, shares, streams)
            drawn = choose_weighted_for_hosts(*choices, streams, host_size=host_size)
        to_hosts[members], of_experts[members] = drawn
    return to_hosts, of_experts


def _uniform_choices(request: RoutingRequest, streams: Streams) -> tuple[IntArray, int]:
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


def _weighted_choices(request: RoutingRequest, shares: FloatArray, streams: Streams) -> tuple[IntArray, int, Splits]:
    """Draw tokens by their choices in groups of experts [k + 1, L, S, G], the size of a group, and its splits."""
    num_sources, tokens, top_k = request.num_sources, request.tokens, request.top_k
    sampler = _sampler(shares, top_k, request.num_nodes, request.max_nodes if request.is_limited else None)
    if isinstance(sampler, NodeLimitedSampler):
        by_choices = np.stack([sampler.draw(num_sources, tokens, rng) for rng in streams], axis=1)
        return by_choices, request.num_experts // request.num_nodes, sampler.expert_splits
    by_choices = np.zeros((top_k + 1, len(streams), num_sources, 1), dtype=np.int64)
    by_choices[-1] = tokens
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
