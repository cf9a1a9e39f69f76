"""Tokens per expert, drawn per source rank, layer and microbatch.

Model
-----
    balanced      every source sends tokens * top_k / experts to each expert; remainders go round by source and layer
    multinomial   each of tokens * top_k choices falls on an expert with equal probability

Assumptions
-----------
`multinomial` draws a token's k choices independently (a token may count twice at one expert), which overstates the
variance of a count by the factor (E - 1) / (E - k): under 2 % for top-2 of 64.

Random numbers come from one child stream per purpose, layer and microbatch of the seed, so that changing one thing
keeps the other draws.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from workloads.errors import WorkloadError

__all__ = ["ROUTINGS", "draw_counts"]

_ROUTING_STREAM = 1  # the purpose's number in the seed's spawn key

IntArray = NDArray[np.int64]


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
    return ROUTINGS[kind](num_sources, tokens * top_k, num_experts, layer, rng)


def _balanced(num_sources: int, choices: int, num_experts: int, layer: int, rng: np.random.Generator) -> IntArray:
    del rng
    every, rest = divmod(choices, num_experts)
    counts = np.full((num_sources, num_experts), every, dtype=np.int64)
    if rest:
        first = (np.arange(num_sources)[:, None] + layer) * rest
        np.put_along_axis(counts, (first + np.arange(rest)) % num_experts, every + 1, axis=1)
    return counts


def _multinomial(num_sources: int, choices: int, num_experts: int, layer: int, rng: np.random.Generator) -> IntArray:
    del layer
    return rng.multinomial(choices, np.full(num_experts, 1 / num_experts), size=num_sources).astype(np.int64)


ROUTINGS: dict[str, Callable[[int, int, int, int, np.random.Generator], IntArray]] = {
    "balanced": _balanced,
    "multinomial": _multinomial,
}
"""Routing by name: (sources, choices, experts, layer, generator) -> counts [S, E]."""
