"""Tokens per expert, drawn per source rank, layer and microbatch.

Model
-----
    balanced      every source sends tokens * top_k / experts to each expert; remainders go round by source and layer
    multinomial   each token takes top_k distinct experts, every set of them with equal probability

For top-1 that is the multinomial distribution itself; for more, the counts are drawn exactly as well, by halving the
experts (`workloads.halving`).

Random numbers come from one child stream per purpose, layer, microbatch and lane of the seed, so that changing one
thing keeps the other draws. Layers and microbatches that are asked for together are drawn together, each from its own
stream: that saves calls and changes no number.
"""

from collections.abc import Callable, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from workloads.errors import WorkloadError
from workloads.halving import choose_experts

__all__ = ["ROUTINGS", "draw_counts"]

_ROUTING_STREAM = 1  # the purpose's number in the seed's spawn key
_MOST_AT_ONCE = 2**15  # counts that are drawn together: what they are made of then fits the caches

IntArray = NDArray[np.int64]
Draws = Sequence[tuple[int, int]]


class _Asked(NamedTuple):
    num_sources: int
    tokens: int
    num_experts: int
    top_k: int
    seed: int
    lane: int


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
        What a draw depends on: on its own layer and microbatch, not on what else is asked for.

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
    asked = _Asked(num_sources, tokens, num_experts, top_k, seed, lane)
    counts = ROUTINGS[kind](asked, list(product(microbatches, layers)))
    return counts.reshape(len(microbatches), len(layers), num_sources, num_experts)


def _balanced(asked: _Asked, draws: Draws) -> IntArray:
    num_experts = asked.num_experts
    every, rest = divmod(asked.tokens * asked.top_k, num_experts)
    counts = np.full((len(draws), asked.num_sources, num_experts), every, dtype=np.int64)
    if rest:
        first = (np.arange(asked.num_sources)[:, None] + np.reshape([layer for _, layer in draws], (-1, 1, 1))) * rest
        np.put_along_axis(counts, (first + np.arange(rest)) % num_experts, every + 1, axis=2)
    return counts


def _multinomial(asked: _Asked, draws: Draws) -> IntArray:
    streams = [_stream(asked, *draw) for draw in draws]
    at_once = max(1, _MOST_AT_ONCE // (asked.num_sources * asked.num_experts))
    groups = [streams[at : at + at_once] for at in range(0, len(streams), at_once)]
    return np.concatenate([choose_experts(*asked[:4], group) for group in groups])


def _stream(asked: _Asked, microbatch: int, layer: int) -> np.random.Generator:
    key = (_ROUTING_STREAM, layer, microbatch, asked.lane)
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(asked.seed, spawn_key=key)))


ROUTINGS: dict[str, Callable[[_Asked, Draws], IntArray]] = {
    "balanced": _balanced,
    "multinomial": _multinomial,
}
"""Routing by name: (what is asked, microbatch and layer of each of N draws) -> counts [N, S, E]."""
