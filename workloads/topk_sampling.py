"""Distinct experts for many tokens at once: counts, drawn by halving the experts with fair coins.

Model
-----
Each token takes a set of top_k experts, every set with equal probability. The experts lie in blocks whose sizes are
powers of two, 61 = 32 + 16 + 8 + 4 + 1, and blocks are halved until they hold one expert each. What a token with r
choices in a block of 2**m = 2h experts does depends on r alone:

    r = 1     a fair coin decides on the half
    r = 2     its choices go together, by fair coins, and part into halves of 2**i experts: P(i) = 2**i / (2**m - 1)
    r >= 3    j of them fall on the first half: P(j) = C(h, j) C(h, r - j) / C(2h, r)

A block of p is taken from p + q experts alike, with C(p, j) C(q, r - j) / C(p + q, r). Only counts are kept: how many
of a source's tokens have r choices in a block. The heads of n fair coins are the ones of n random bits, at the cost of
n / 64 words; where n is large, and for all that is no fair coin, numpy draws a binomial.

Assumptions
-----------
None. These are the laws of draws without replacement, to the rounding of doubles. P(i) counts pairs: 2**(m - 1 - i)
blocks of 2**(i + 1) experts, each with 4**i pairs that it parts, among 2**m (2**m - 1) / 2.
"""

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["choose_experts", "choose_in_groups"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_MOST_COINS = 2048  # a throw, on average: above it a binomial costs less than the bits
_MOST_WORDS = 2**16  # of bits held at once
_LOW_BITS = (np.uint64(1) << np.arange(64, dtype=np.uint64)) - np.uint64(1)  # by how many are wanted

Streams = Sequence[np.random.Generator]


def choose_experts(num_sources: int, tokens: int, num_experts: int, top_k: int, streams: Streams) -> IntArray:
    """Draw how many of its tokens each source sends to each expert, once from each of `streams`. Shape [L, S, E].

    Examples
    --------
    >>> choose_experts(2, 5, 3, 3, [np.random.default_rng(1)])  # of three experts, all three
    array([[[5, 5, 5],
            [5, 5, 5]]])
    """
    whole = np.zeros((top_k + 1, len(streams), num_sources, 1), dtype=np.int64)
    whole[top_k] = tokens
    return choose_in_groups(whole, num_experts, streams)


def choose_in_groups(chosen: IntArray, group_size: int, streams: Streams) -> IntArray:
    """Draw the experts of tokens whose number of choices in each group of experts is known. Shape [L, S, G * size].

    Parameters
    ----------
    chosen
        Tokens of each source with r choices in a group; it is used up. Shape [k + 1, L, S, G].
    group_size
        Experts of a group.
    streams
        Random numbers, one stream for each of L draws.

    Examples
    --------
    >>> chosen = np.zeros((3, 1, 1, 2), dtype=np.int64)
    >>> chosen[2, 0, 0] = [4, 0]  # all tokens have two choices among the first two experts
    >>> choose_in_groups(chosen, 2, [np.random.default_rng(1)])
    array([[[4, 4, 0, 0]]])
    """
    log_size, whole = group_size.bit_length() - 1, chosen  # tokens by choices, not in blocks yet
    num_coins = int(np.tensordot(np.arange(len(chosen)), chosen, axes=1).sum()) // len(streams)
    many, few = whole[..., :0], _settle(whole[..., :0], log_size, streams)
    while True:
        size = 1 << log_size
        if group_size & size:
            rest = group_size & (size - 1)
            block, whole = np.moveaxis(_split(whole, size, rest, streams), -1, 0) if rest else (whole, whole)
            few = np.concatenate((few, _settle(block, log_size, streams)), axis=3)
            many = np.concatenate((many, block), axis=3)
        if log_size == 0:
            return _by_group(few[:, 0], chosen.shape[-1], group_size)
        log_size -= 1
        few = _halve_few(few, streams, num_coins)
        if len(chosen) > 3:
            many = _split(many, 1 << log_size, 1 << log_size, streams).reshape(*many.shape[:-1], -1)
            few += _settle(many, log_size, streams)


def _by_group(counts: IntArray, num_groups: int, group_size: int) -> IntArray:
    """Return counts of blocks, the largest of all groups first, in the order of the groups. Both [..., G * size]."""
    if num_groups == 1 or group_size & (group_size - 1) == 0:
        return counts
    sizes = [1 << bit for bit in reversed(range(group_size.bit_length())) if group_size >> bit & 1]
    parts = np.split(counts, np.cumsum(sizes[:-1]) * num_groups, axis=-1)
    blocks = [part.reshape(*counts.shape[:-1], num_groups, -1) for part in parts]
    return np.concatenate(blocks, axis=-1).reshape(counts.shape)


def _split(chosen: IntArray, first_size: int, second_size: int, streams: Streams) -> IntArray:
    """Draw how many choices of each token fall on either part of its block.

    From [top_k + 1, L, S, B] to [top_k + 1, L, S, B, 2].
    """
    parts = np.zeros((*chosen.shape, 2), dtype=np.int64)
    for r in range(1, chosen.shape[0]):
        if chosen[r].any():
            least, most = max(0, r - second_size), min(r, first_size)
            drawn = _ways(chosen[r], _hypergeometric(first_size, second_size, r), streams, axis=0)
            parts[least : most + 1, ..., 0] += drawn
            parts[r - most : r - least + 1, ..., 1] += drawn[::-1]
    return parts


@cache
def _hypergeometric(first_size: int, second_size: int, r: int) -> FloatArray:
    """Return the chances that the least, ..., the most possible of r choices fall on the first of two parts."""
    ways = [
        math.comb(first_size, j) * math.comb(second_size, r - j)
        for j in range(max(0, r - second_size), min(r, first_size) + 1)
    ]
    return np.array([way / math.comb(first_size + second_size, r) for way in ways])


def _settle(chosen: IntArray, log_size: int, streams: Streams) -> IntArray:
    """Take the tokens with one or two choices out of `chosen` [top_k + 1, L, S, B].

    Returns those with one, and by i those whose two part into halves of 2**i. Shape [L, log_size + 1, S, B].
    """
    num_choices, num_streams, num_sources, num_blocks = chosen.shape
    num_rows = 1 if num_choices == 2 else log_size + 1
    few = np.zeros((num_streams, num_rows, num_sources, num_blocks), dtype=np.int64)
    few[:, 0] = chosen[1]
    if num_rows > 1 and num_blocks > 0:
        few[:, 1:] = _ways(chosen[2], _parting(log_size), streams, axis=1)
    chosen[:3] = 0
    return few


@cache
def _parting(log_size: int) -> FloatArray:
    """Return the chances that two choices in a block of 2**log_size part into halves of 2**i. Shape [log_size]."""
    chances: FloatArray = 2.0 ** np.arange(log_size) / (2**log_size - 1)
    return chances


def _ways(tokens: IntArray, chances: FloatArray, streams: Streams, *, axis: int) -> IntArray:
    """Draw how many of `tokens` [L, ...] go each way. The ways are a new axis of the result."""
    if chances.size == 1:
        return np.expand_dims(tokens, axis)
    drawn = np.zeros((*tokens.shape, chances.size), dtype=np.int64)
    for into, some, rng in zip(drawn, tokens, streams, strict=True):
        if 2 * np.count_nonzero(some) > some.size:
            into[...] = rng.multinomial(some, chances)
        else:
            into[some > 0] = rng.multinomial(some[some > 0], chances)
    return np.moveaxis(drawn, -1, axis)


def _halve_few(few: IntArray, streams: Streams, num_coins: int) -> IntArray:
    """Halve blocks of tokens with one choice, or with two that part later or, the last, now.

    From [L, m + 1, S, B] to [L, m, S, 2B].
    """
    coins, parted = (few[:, :-1], few[:, -1]) if few.shape[1] > 1 else (few, 0)
    if num_coins <= _MOST_COINS * coins[0].size:
        heads = _heads(coins.reshape(len(streams), -1), streams).reshape(coins.shape)
    else:
        heads = np.array([rng.binomial(some, 0.5) for rng, some in zip(streams, coins, strict=True)])
    tails = coins - heads
    heads[:, 0] += parted
    tails[:, 0] += parted
    return _interleave(heads, tails)


def _interleave(first: IntArray, second: IntArray) -> IntArray:
    """Return blocks [..., 2B] of which each two are the halves [..., B] of one."""
    halves = np.empty((*first.shape, 2), dtype=np.int64)
    halves[..., 0], halves[..., 1] = first, second
    return halves.reshape(*first.shape[:-1], -1)


def _heads(coins: IntArray, streams: Streams) -> IntArray:
    """Throw `coins` [L, N] fair coins, and return the heads among them [L, N]."""
    num_words = (coins >> 6) + 1  # each throw has words of its own, and of the last the bits that are wanted
    needed = num_words.sum(axis=1).tolist()
    if sum(needed) > _MOST_WORDS and coins.size > 1:
        return _heads_in_parts(coins, streams)
    words = np.concatenate([rng.bit_generator.random_raw(n) for rng, n in zip(streams, needed, strict=True)])
    last = np.cumsum(num_words) - 1
    words[last] &= _LOW_BITS[coins.ravel() & 63]
    first = last - (coins.ravel() >> 6)
    return np.add.reduceat(np.bitwise_count(words), first, dtype=np.int64).reshape(coins.shape)


def _heads_in_parts(coins: IntArray, streams: Streams) -> IntArray:
    """Throw half of the coins first: of half the streams, or of the one."""
    axis = 0 if len(streams) > 1 else 1
    some, others = np.array_split(coins, 2, axis=axis)
    both = (streams[: len(some)], streams[len(some) :]) if axis == 0 else (streams, streams)
    return np.concatenate([_heads(some, both[0]), _heads(others, both[1])], axis=axis)
