"""Tokens per expert, drawn per source rank, layer and microbatch.

Model
-----
    balanced      every source sends tokens * top_k / experts to each expert; remainders go round by source and layer
    multinomial   each token takes top_k distinct experts, every set of them with equal probability

For top-1 that is the multinomial distribution itself; for more, the counts are drawn exactly as well, by halving the
experts (`workloads.halving`).

Random numbers come from one child stream per purpose, layer, microbatch and lane of the seed, so that changing one
thing keeps the other draws. Layers that are asked for together are drawn together, each from its own stream: that saves
calls and changes no number.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from workloads.errors import WorkloadError
from workloads.halving import choose_experts

__all__ = ["ROUTINGS", "draw_counts"]

_ROUTING_STREAM = 1  # the purpose's number in the seed's spawn key
_MOST_AT_ONCE = 2**12  # counts of layers that are drawn together: what they are made of then fits the caches

IntArray = NDArray[np.int64]


class _Asked(NamedTuple):
    num_sources: int
    tokens: int
    num_experts: int
    top_k: int
    seed: int
    microbatch: int
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
    microbatch: int,
    lane: int = 0,
) -> IntArray:
    """Return how many of its tokens each source rank sends to each expert, of each of `layers`.

    Parameters
    ----------
    kind
        A key of `ROUTINGS`.
    num_sources, tokens
        Source ranks, and tokens of each of them.
    num_experts, top_k
        Experts of the layer, and experts of a token.
    seed, layers, microbatch, lane
        What the draw depends on; a layer's does not depend on the other layers.

    Returns
    -------
    numpy.ndarray
        Counts that sum to tokens * top_k along each row. Shape [L, S, E].

    Examples
    --------
    >>> draw_counts("balanced", num_sources=2, tokens=3, num_experts=4, top_k=2, seed=1, layers=[0], microbatch=0)
    array([[[2, 2, 1, 1],
            [1, 1, 2, 2]]])
    """
    if kind not in ROUTINGS:
        raise WorkloadError(
            subject="routing", field="kind", rule=f"be one of {', '.join(ROUTINGS)}", value=kind, cure="Use balanced."
        )
    return ROUTINGS[kind](_Asked(num_sources, tokens, num_experts, top_k, seed, microbatch, lane), layers)


def _balanced(asked: _Asked, layers: Sequence[int]) -> IntArray:
    num_experts = asked.num_experts
    every, rest = divmod(asked.tokens * asked.top_k, num_experts)
    counts = np.full((len(layers), asked.num_sources, num_experts), every, dtype=np.int64)
    if rest:
        first = (np.arange(asked.num_sources)[:, None] + np.reshape(layers, (-1, 1, 1))) * rest
        np.put_along_axis(counts, (first + np.arange(rest)) % num_experts, every + 1, axis=2)
    return counts


def _multinomial(asked: _Asked, layers: Sequence[int]) -> IntArray:
    streams = [_stream(asked, layer) for layer in layers]
    at_once = max(1, _MOST_AT_ONCE // (asked.num_sources * asked.num_experts))
    groups = [streams[at : at + at_once] for at in range(0, len(streams), at_once)]
    return np.concatenate([choose_experts(*asked[:4], group) for group in groups])


def _stream(asked: _Asked, layer: int) -> np.random.Generator:
    key = (_ROUTING_STREAM, layer, asked.microbatch, asked.lane)
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(asked.seed, spawn_key=key)))


ROUTINGS: dict[str, Callable[[_Asked, Sequence[int]], IntArray]] = {
    "balanced": _balanced,
    "multinomial": _multinomial,
}
"""Routing by name: (what is asked, layers) -> counts [L, S, E]."""
