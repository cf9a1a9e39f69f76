"""Tokens per expert, drawn per source rank, layer and microbatch.

Model
-----
    balanced      every source sends tokens * top_k / experts to each expert; remainders go round by source and layer
    multinomial   each token takes top_k distinct experts, every set of them with equal probability

For top-1 that is the multinomial distribution itself; for more, the counts are drawn expert by expert from the exact
conditional distribution: of the tokens with r choices left, each takes expert j of E with probability r / (E - j).

Random numbers come from one child stream per purpose, layer and microbatch of the seed, so that changing one thing
keeps the other draws.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from workloads.errors import WorkloadError

__all__ = ["ROUTINGS", "draw_counts"]

_ROUTING_STREAM = 1  # the purpose's number in the seed's spawn key

IntArray = NDArray[np.int64]


class _Asked(NamedTuple):
    num_sources: int
    tokens: int
    num_experts: int
    top_k: int
    layer: int


def draw_counts(
    kind: str,
    *,
    num_sources: int,
    tokens: int,
    num_experts: int,
    top_k: int,
    seed: int,
    layer: int,
    microbatch: int,
    lane: int = 0,
) -> IntArray:
    """Return how many of its tokens each source rank sends to each expert.

    Parameters
    ----------
    kind
        A key of `ROUTINGS`.
    num_sources, tokens
        Source ranks, and tokens of each of them.
    num_experts, top_k
        Experts of the layer, and experts of a token.
    seed, layer, microbatch, lane
        What the draw depends on.

    Returns
    -------
    numpy.ndarray
        Counts that sum to tokens * top_k along each row. Shape [S, E].

    Examples
    --------
    >>> draw_counts("balanced", num_sources=2, tokens=3, num_experts=4, top_k=2, seed=1, layer=0, microbatch=0)
    array([[2, 2, 1, 1],
           [1, 1, 2, 2]])
    """
    if kind not in ROUTINGS:
        raise WorkloadError(
            subject="routing", field="kind", rule=f"be one of {', '.join(ROUTINGS)}", value=kind, cure="Use balanced."
        )
    key = (_ROUTING_STREAM, layer, microbatch, lane)
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))
    return ROUTINGS[kind](_Asked(num_sources, tokens, num_experts, top_k, layer), rng)


def _balanced(asked: _Asked, rng: np.random.Generator) -> IntArray:
    del rng
    num_sources, tokens, num_experts, top_k, layer = asked
    every, rest = divmod(tokens * top_k, num_experts)
    counts = np.full((num_sources, num_experts), every, dtype=np.int64)
    if rest:
        first = (np.arange(num_sources)[:, None] + layer) * rest
        np.put_along_axis(counts, (first + np.arange(rest)) % num_experts, every + 1, axis=1)
    return counts


def _multinomial(asked: _Asked, rng: np.random.Generator) -> IntArray:
    """Go through the experts; of the tokens with r choices left, each takes expert j of E with chance r / (E - j)."""
    num_sources, tokens, num_experts, top_k, _ = asked
    if top_k == 1:
        return rng.multinomial(tokens, np.full(num_experts, 1 / num_experts), size=num_sources).astype(np.int64)
    left = np.zeros((num_sources, top_k + 1), dtype=np.int64)  # tokens by the choices that they have left
    left[:, top_k] = tokens
    counts = np.empty((num_sources, num_experts), dtype=np.int64)
    choices = np.arange(1, top_k + 1)
    for expert in range(num_experts):
        chance = np.minimum(choices / (num_experts - expert), 1.0)
        taken = rng.binomial(left[:, 1:], chance)
        left[:, 1:] -= taken
        left[:, :-1] += taken
        counts[:, expert] = taken.sum(axis=1)
    return counts


ROUTINGS: dict[str, Callable[[_Asked, np.random.Generator], IntArray]] = {
    "balanced": _balanced,
    "multinomial": _multinomial,
}
"""Routing by name: (what is asked, generator) -> counts [S, E]."""
