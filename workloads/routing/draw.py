"""Tokens per expert, drawn per source rank, layer and microbatch.

Model
-----
    balanced      every source sends tokens * top_k / experts to each expert; remainders go round by source and layer
    multinomial   each token takes top_k distinct experts, every set of them with equal probability
    stride        the n-th choice of all tokens takes expert n * stride mod experts: even, but only over some experts
    all others    each token takes top_k distinct experts, by the shares of `workloads.routing.popularity`

For top-1 multinomial is the multinomial distribution itself; for more, the counts are drawn exactly as well, by halving
the experts (`workloads.halving`; where experts are not alike, `workloads.routing.weighted`).

Random numbers come from one child stream per purpose, layer, microbatch and lane of the seed, so that changing one
thing keeps the other draws. Layers and microbatches that are asked for together are drawn together, each from its own
stream: that saves calls and changes no number.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import product
from math import gcd

import numpy as np
from numpy.typing import NDArray

from workloads.errors import WorkloadError
from workloads.halving import choose_experts
from workloads.routing.asked import CHOICES, Asked, Draws, stream
from workloads.routing.chances import chance_tree, choice_chances, coins_of
from workloads.routing.popularity import expert_shares
from workloads.routing.skew import Skew
from workloads.routing.sources import SOURCES
from workloads.routing.weighted import choose_weighted

__all__ = ["ROUTINGS", "draw_counts"]

_MOST_AT_ONCE = 2**15  # counts that are drawn together: what they are made of then fits the caches
_MOST_TREES = 256  # laws of choice that are kept: of layers whose popularity stays

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
        What a draw depends on: on its own layer and microbatch, not on what else is asked for. Microbatches before the
        first are negative.
    skew
        How uneven popularity is; None: experts are alike.

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
        raise WorkloadError(
            subject="routing", field="kind", rule=f"be one of {', '.join(ROUTINGS)}", value=kind, cure="Use balanced."
        )
    asked = Asked(num_sources, tokens, num_experts, top_k, seed, lane, kind, skew or Skew())
    counts = ROUTINGS[kind](asked, list(product(microbatches, layers)))
    return counts.reshape(len(microbatches), len(layers), num_sources, num_experts)


def _balanced(asked: Asked, draws: Draws) -> IntArray:
    num_experts = asked.num_experts
    every, rest = divmod(asked.tokens * asked.top_k, num_experts)
    counts = np.full((len(draws), asked.num_sources, num_experts), every, dtype=np.int64)
    if rest:
        first = (np.arange(asked.num_sources)[:, None] + np.reshape([layer for _, layer in draws], (-1, 1, 1))) * rest
        np.put_along_axis(counts, (first + np.arange(rest)) % num_experts, every + 1, axis=2)
    return counts


def _multinomial(asked: Asked, draws: Draws) -> IntArray:
    if asked.skew.dead_experts:
        return _weighted(asked, draws)
    streams = [_choices(asked, *draw) for draw in draws]
    at_once = max(1, _MOST_AT_ONCE // (asked.num_sources * asked.num_experts))
    groups = [streams[at : at + at_once] for at in range(0, len(streams), at_once)]
    return np.concatenate([choose_experts(*asked[:4], group) for group in groups])


def _weighted(asked: Asked, draws: Draws) -> IntArray:
    """Draw by the shares of each layer and microbatch."""
    return np.stack(
        [
            choose_weighted(*asked[:3], _tree(expert_shares(asked, layer, mb), asked.top_k), _choices(asked, mb, layer))
            for mb, layer in draws
        ]
    )


def _stride(asked: Asked, draws: Draws) -> IntArray:
    num_experts, step = asked.num_experts, asked.skew.stride
    reached = num_experts // gcd(step, num_experts)
    if reached < asked.top_k:
        raise WorkloadError(
            subject="routing",
            field="stride",
            rule=f"reach at least top_k = {asked.top_k} of {num_experts} experts",
            value=step,
            cure="Choose one that shares no large factor with the experts.",
        )
    every, rest = divmod(asked.tokens * asked.top_k, reached)
    counts = np.zeros((len(draws), asked.num_sources, num_experts), dtype=np.int64)
    counts[..., np.arange(reached) * step % num_experts] = every
    counts[..., np.arange(rest) * step % num_experts] += 1
    return counts


def _choices(asked: Asked, microbatch: int, layer: int) -> np.random.Generator:
    return stream(asked.seed, CHOICES, layer, microbatch, asked.lane)


_trees: OrderedDict[tuple[bytes, int], list[FloatArray]] = OrderedDict()  # a cache: what it holds changes no figure


def _tree(shares: FloatArray, top_k: int) -> list[FloatArray]:
    """Return the law of choice for shares of experts; the latest are kept."""
    key = (shares.tobytes(), top_k)
    if key not in _trees:
        _trees[key] = chance_tree(coins_of(choice_chances(shares, top_k), top_k), top_k)
        if len(_trees) > _MOST_TREES:
            _trees.popitem(last=False)
    _trees.move_to_end(key)
    return _trees[key]


ROUTINGS: dict[str, Callable[[Asked, Draws], IntArray]] = {
    "balanced": _balanced,
    "multinomial": _multinomial,
    "stride": _stride,
    **{name: _weighted for name in SOURCES if name != "multinomial"},
}
"""Routing by name: (what is asked, microbatch and layer of each of N draws) -> counts [N, S, E]."""
