"""Tokens per expert, drawn per source rank, layer and microbatch.

Model
-----
    balanced      every source sends tokens * top_k / experts to each expert; remainders go round by source and layer
    multinomial   each token takes top_k distinct experts, every set of them with equal probability

For top-1 that is the multinomial distribution itself; for more, the counts are drawn exactly as well: blocks of experts
are split until they are small, and a token's r choices in a block fall on its parts as draws without replacement do;
within a small block every set of r experts is equally likely.

Random numbers come from one child stream per purpose, layer and microbatch of the seed, so that changing one thing
keeps the other draws.
"""

import math
from collections.abc import Callable
from functools import cache
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from workloads.errors import WorkloadError

__all__ = ["ROUTINGS", "draw_counts"]

_ROUTING_STREAM = 1  # the purpose's number in the seed's spawn key
_SMALL_BLOCK = 8  # experts that are split no further: at most 70 sets of r
_TOKENS_PER_BINOMIAL = 10  # that many tokens are placed one by one in the time of a binomial draw

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
    """Split the experts down to small blocks, and choose the experts within those."""
    num_sources, tokens, num_experts, top_k, _ = asked
    counts = np.empty((num_sources, num_experts), dtype=np.int64)
    whole = np.zeros((top_k + 1, num_sources, 1), dtype=np.int64)  # tokens by choices in a block, source and block
    whole[top_k] = tokens
    waiting = [(num_experts, np.zeros(1, dtype=np.intp), whole)]  # size, first experts and tokens of blocks
    while waiting:
        size, first, chosen = waiting.pop()
        if size <= _SMALL_BLOCK:
            counts[:, first[:, None] + np.arange(size)] = _choose(chosen, size, rng)
            continue
        sizes = _part_sizes(size, top_k)
        parts, start = _split(chosen, sizes, rng), np.cumsum((0, *sizes[:-1]))
        for part_size in dict.fromkeys(sizes):
            alike = np.flatnonzero(np.equal(sizes, part_size))
            some = parts[..., alike].reshape(top_k + 1, num_sources, -1)
            waiting.append((part_size, (first[:, None] + start[alike]).ravel(), some))
    return counts


def _part_sizes(size: int, top_k: int) -> tuple[int, ...]:
    """Return the sizes of the parts of a block: more of them where few choices have few ways to fall on them."""
    num_parts = min(8, -(-size // _SMALL_BLOCK)) if top_k <= 2 else 2
    every, rest = divmod(size, num_parts)
    return (every + 1,) * rest + (every,) * (num_parts - rest)


def _split(chosen: IntArray, sizes: tuple[int, ...], rng: np.random.Generator) -> IntArray:
    """Draw how many choices of each token fall on each part of its block.

    From shape [top_k + 1, S, blocks] to [top_k + 1, S, blocks, parts].
    """
    parts = np.zeros((*chosen.shape, len(sizes)))
    parts[0] = chosen[0][..., None]
    for r in range(1, min(chosen.shape[0] - 1, sum(sizes)) + 1):
        if not chosen[r].any():
            continue
        chances, on_parts = _ways_to_fall(sizes, r)
        drawn = rng.multinomial(chosen[r], chances).astype(np.float64)
        parts[: r + 1] += drawn @ on_parts[:, None]  # whole numbers, which doubles hold
    return parts.astype(np.int64)


@cache
def _ways_to_fall(sizes: tuple[int, ...], r: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the ways in which r choices without replacement fall on parts of a block: chances, and who has how many.

    j_1, j_2, ... fall on parts of s_1, s_2, ... experts with the hypergeometric probability
    C(s_1, j_1) C(s_2, j_2) ... / C(s_1 + s_2 + ..., r). Shapes [W] and, one where a part has j, [r + 1, W, parts].
    """
    falls: list[tuple[int, ...]] = [()]
    for size in sizes[:-1]:
        falls = [(*fall, j) for fall in falls for j in range(min(size, r - sum(fall)) + 1)]
    ways = [(*fall, r - sum(fall)) for fall in falls if r - sum(fall) <= sizes[-1]]
    total = math.comb(sum(sizes), r)
    chances = [math.prod(map(math.comb, sizes, way)) / total for way in ways]
    on_parts = np.array(ways) == np.arange(r + 1)[:, None, None]
    return np.array(chances), on_parts.astype(np.float64)


def _choose(chosen: IntArray, size: int, rng: np.random.Generator) -> IntArray:
    """Draw the experts of each token's choices in blocks of `size`. Shape [S, blocks, size]."""
    counts = np.zeros((*chosen.shape[1:], size), dtype=np.int64)
    for r in range(1, min(chosen.shape[0] - 1, size) + 1):
        sets = _sets_of(size, r)
        if not chosen[r].any():
            continue
        if len(sets) == 1:
            counts += chosen[r][..., None]
        elif r == 1:
            counts += _spread(chosen[r], size, rng)
        else:
            counts += (_spread(chosen[r], len(sets), rng).astype(np.float64) @ sets).astype(np.int64)
    return counts


@cache
def _sets_of(size: int, r: int) -> NDArray[np.float64]:
    """Return which experts each set of r out of `size` has, as ones and zeros. Shape [C(size, r), size]."""
    return np.array([[float(i in members) for i in range(size)] for members in combinations(range(size), r)])


def _spread(tokens: IntArray, num_ways: int, rng: np.random.Generator) -> IntArray:
    """Draw how many of `tokens` [...] take each of equally likely ways. Shape [..., num_ways].

    Tokens are placed one by one where they are few: the same distribution, at less cost.
    """
    if tokens.sum() > _TOKENS_PER_BINOMIAL * tokens.size * num_ways:
        return rng.multinomial(tokens, np.full(num_ways, 1 / num_ways))
    flat = tokens.ravel()
    ways = rng.integers(0, num_ways, size=int(flat.sum()), dtype=np.uint16)
    place = np.repeat(np.arange(0, flat.size * num_ways, num_ways), flat)
    return np.bincount(place + ways, minlength=flat.size * num_ways).reshape(*tokens.shape, num_ways)


ROUTINGS: dict[str, Callable[[_Asked, np.random.Generator], IntArray]] = {
    "balanced": _balanced,
    "multinomial": _multinomial,
}
"""Routing by name: (what is asked, generator) -> counts [S, E]."""
