"""Tokens per expert, drawn per source rank, layer and microbatch.

Model
-----
    balanced      every source sends tokens * top_k / experts to each expert; remainders go round by source and layer
    multinomial   each token takes top_k distinct experts, every set of them with equal probability

For top-1 that is the multinomial distribution itself; for more, the counts are drawn exactly as well: the experts are
halved again and again, and a token's r choices in a block fall on its halves as draws without replacement do.

Random numbers come from one child stream per purpose, layer and microbatch of the seed, so that changing one thing
keeps the other draws.
"""

import math
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
    """Halve the experts again and again; a token's choices fall on the halves as a draw without replacement."""
    num_sources, tokens, num_experts, top_k, _ = asked
    counts = np.empty((num_sources, num_experts), dtype=np.int64)
    whole = np.zeros((num_sources, 1, top_k + 1), dtype=np.int64)  # tokens by source, block and choices in the block
    whole[:, 0, top_k] = tokens
    blocks = {num_experts: [(np.zeros(1, dtype=np.intp), whole)]}  # size -> first experts and tokens of blocks
    while blocks:
        halves: dict[int, list[tuple[NDArray[np.intp], IntArray]]] = {}
        for size, parts in blocks.items():
            first = np.concatenate([part[0] for part in parts])
            chosen = np.concatenate([part[1] for part in parts], axis=1)
            if size == 1:
                counts[:, first] = chosen[:, :, 1]
                continue
            left, right = _halve(chosen, size, rng)
            halves.setdefault(size // 2, []).append((first, left))
            halves.setdefault(size - size // 2, []).append((first + size // 2, right))
        blocks = halves
    return counts


def _halve(chosen: IntArray, size: int, rng: np.random.Generator) -> tuple[IntArray, IntArray]:
    """Draw how many choices of each token fall on the left and the right half of blocks of `size` experts.

    Of r choices without replacement among `size`, j fall on the left with the hypergeometric probability
    C(a, j) C(b, r - j) / C(size, r). Shapes [S, blocks, top_k + 1].
    """
    a, b = size // 2, size - size // 2
    left, right = np.zeros_like(chosen), np.zeros_like(chosen)
    left[:, :, 0] = right[:, :, 0] = chosen[:, :, 0]
    for r in range(1, min(chosen.shape[2] - 1, size) + 1):
        low, high = max(0, r - b), min(a, r)  # a half takes no more choices than it has experts
        chance = [math.comb(a, j) * math.comb(b, r - j) / math.comb(size, r) for j in range(low, high + 1)]
        drawn = rng.multinomial(chosen[:, :, r], chance)
        left[:, :, low : high + 1] += drawn
        right[:, :, r - high : r - low + 1] += drawn[:, :, ::-1]
    return left, right


ROUTINGS: dict[str, Callable[[_Asked, np.random.Generator], IntArray]] = {
    "balanced": _balanced,
    "multinomial": _multinomial,
}
"""Routing by name: (what is asked, generator) -> counts [S, E]."""
