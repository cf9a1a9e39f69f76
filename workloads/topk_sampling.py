"""Top-k sampling: sets of distinct experts for many tokens, all sets with the same probability, drawn as counts.

Model
-----
Each token takes a set of top_k experts, every set with the same probability. The counts are drawn by recursive
splitting, with a conditional distribution at each split. The experts lie in blocks whose sizes are powers of two, 61 =
32 + 16 + 8 + 4 + 1, and the blocks are split in halves until they hold one expert each. How a token with r choices in a
block of 2**m = 2h experts divides them depends on r alone:

    r = 1     Bernoulli: the choice falls on either half with probability 1/2
    r = 2     both choices fall on one half, by a Bernoulli trial for each level, until they separate into different
              halves of 2**i experts: P(i) = 2**i / (2**m - 1)
    r >= 3    hypergeometric: j choices fall on the first half with P(j) = C(h, j) C(h, r - j) / C(2h, r)

The blocks are separated from each other in the same way: of r choices in p + q experts, j choices fall on the first p
with P(j) = C(p, j) C(q, r - j) / C(p + q, r). Only counts are kept: how many tokens of a source have r choices in a
block.

The number of successes in n Bernoulli trials with probability 1/2 is the number of ones among n random bits, at the
cost of n / 64 words. Where n is large, and for all other probabilities, numpy draws a binomial or multinomial number.

A token's choices in a block divide among the experts of the block whoever its source is. Where a block stands for a
host, and only the copies of each source for each host and those of all sources for each expert matter, the tokens of
all sources are therefore split together from there on: the same distribution, from fewer random numbers.

Assumptions
-----------
None: these are the distributions of draws without replacement, up to the rounding of doubles. P(i) counts pairs: the
2**(m - 1 - i) blocks of 2**(i + 1) experts separate 4**i pairs each, of all 2**m (2**m - 1) / 2 pairs.
"""

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["Streams", "choose_experts", "choose_for_hosts", "choose_in_groups"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_MAX_MEAN_TRIALS = 2048
"""Mean number of Bernoulli trials of a cell above which a binomial number costs less than the random bits."""
_MAX_WORDS = 2**16
"""Words of random bits that are in memory at once."""
_LOW_BITS = (np.uint64(1) << np.arange(64, dtype=np.uint64)) - np.uint64(1)
"""Mask of the n low bits of a word, by n."""

Streams = Sequence[np.random.Generator]
"""Random numbers of draws that are made together, one stream for each draw."""


def choose_experts(num_sources: int, tokens: int, num_experts: int, top_k: int, streams: Streams) -> IntArray:
    """Draw how many of its tokens each source sends to each expert, once from each of `streams`. Shape [L, S, E].

    Examples
    --------
    >>> choose_experts(2, 5, 3, 3, [np.random.default_rng(1)])  # three choices among three experts
    array([[[5, 5, 5],
            [5, 5, 5]]])
    """
    by_choices = np.zeros((top_k + 1, len(streams), num_sources, 1), dtype=np.int64)
    by_choices[top_k] = tokens
    return choose_in_groups(by_choices, num_experts, streams)


def choose_in_groups(by_choices: IntArray, group_size: int, streams: Streams) -> IntArray:
    """Draw the experts of tokens whose number of choices in each group of experts is known. Shape [L, S, G * size].

    `choose_for_hosts` says the same of hosts.

    Parameters
    ----------
    by_choices
        Tokens of each source with r choices in a group; the array is overwritten. Shape [k + 1, L, S, G].
    group_size
        Experts of a group.
    streams
        Random numbers, one stream for each of L draws.

    Examples
    --------
    >>> by_choices = np.zeros((3, 1, 1, 2), dtype=np.int64)
    >>> by_choices[2, 0, 0] = [4, 0]  # all tokens have two choices among the first two experts
    >>> choose_in_groups(by_choices, 2, [np.random.default_rng(1)])
    array([[[4, 4, 0, 0]]])
    """
    return _choose(by_choices, group_size, streams, host_size=None)[1]


def choose_for_hosts(
    by_choices: IntArray, group_size: int, streams: Streams, *, host_size: int
) -> tuple[IntArray, IntArray]:
    """Draw how many copies each source has for each host of `host_size` experts, and all sources for each expert.

    Parameters
    ----------
    by_choices, group_size, streams
        As of `choose_in_groups`; a group has a power of two of experts.
    host_size
        Experts of a host, a power of two up to the group's.

    Returns
    -------
    tuple
        Copies for hosts [L, S, hosts], the same numbers as the sums of `choose_in_groups`, and for experts [L, E].
    """
    to_hosts, of_experts = _choose(by_choices, group_size, streams, host_size=host_size)
    if to_hosts is None:
        raise ValueError(f"a group of {group_size} experts has no blocks of {host_size}")
    return to_hosts, of_experts[:, 0]


# ---- private -----------------------------------------------------------------------------------------------------


def _choose(
    by_choices: IntArray, group_size: int, streams: Streams, *, host_size: int | None
) -> tuple[IntArray | None, IntArray]:
    """Return copies for hosts [L, S, hosts], if any, and for experts [L, S, E]; S is 1 below hosts."""
    # `remaining` has the tokens of experts that are in no block yet. Of the blocks, `many` has the tokens with three
    # choices or more, and `few` those with one choice or two.
    log_size, remaining = group_size.bit_length() - 1, by_choices
    num_trials = int(np.tensordot(np.arange(len(by_choices)), by_choices, axes=1).sum()) // len(streams)
    many, few = remaining[..., :0], _take_few(remaining[..., :0], log_size, streams)
    to_hosts: IntArray | None = None
    while True:
        size = 1 << log_size
        if group_size & size:
            rest = group_size & (size - 1)
            if rest:
                block, remaining = np.moveaxis(_split(remaining, size, rest, streams), -1, 0)
            else:
                block = remaining
            few = np.concatenate((few, _take_few(block, log_size, streams)), axis=3)
            many = np.concatenate((many, block), axis=3)
        if size == host_size:
            to_hosts = few[:, 0] + 2 * few[:, 1:].sum(axis=1) + np.tensordot(np.arange(len(many)), many, axes=1)
            few, many = few.sum(axis=2, keepdims=True), many.sum(axis=2, keepdims=True)
        if log_size == 0:
            return to_hosts, _in_order_of_groups(few[:, 0], by_choices.shape[-1], group_size)
        log_size -= 1
        few = _split_few(few, streams, num_trials)
        if len(by_choices) > 3:
            many = _split(many, 1 << log_size, 1 << log_size, streams).reshape(*many.shape[:-1], -1)
            few += _take_few(many, log_size, streams)


def _in_order_of_groups(counts: IntArray, num_groups: int, group_size: int) -> IntArray:
    """Return counts of blocks, the largest block of all groups first, in the order of groups. Both [..., G * size]."""
    if num_groups == 1 or group_size & (group_size - 1) == 0:
        return counts
    sizes = [1 << bit for bit in reversed(range(group_size.bit_length())) if group_size >> bit & 1]
    of_size = np.split(counts, np.cumsum(sizes[:-1]) * num_groups, axis=-1)
    blocks = [blocks_of_size.reshape(*counts.shape[:-1], num_groups, -1) for blocks_of_size in of_size]
    return np.concatenate(blocks, axis=-1).reshape(counts.shape)


def _split(by_choices: IntArray, first_size: int, second_size: int, streams: Streams) -> IntArray:
    """Draw how many choices of each token fall on either side of its block.

    The shapes are [top_k + 1, L, S, B] and [top_k + 1, L, S, B, 2].
    """
    sides = np.zeros((*by_choices.shape, 2), dtype=np.int64)
    for r in range(1, by_choices.shape[0]):
        if by_choices[r].any():
            least, most = max(0, r - second_size), min(r, first_size)
            drawn = _multinomial(by_choices[r], _hypergeometric(first_size, second_size, r), streams, axis=0)
            sides[least : most + 1, ..., 0] += drawn
            sides[r - most : r - least + 1, ..., 1] += drawn[::-1]
    return sides


@cache
def _hypergeometric(first_size: int, second_size: int, r: int) -> FloatArray:
    """Return the probabilities that the least, ..., the most possible of r choices fall on the first side."""
    ways = [
        math.comb(first_size, j) * math.comb(second_size, r - j)
        for j in range(max(0, r - second_size), min(r, first_size) + 1)
    ]
    return np.array([way / math.comb(first_size + second_size, r) for way in ways])


def _take_few(by_choices: IntArray, log_size: int, streams: Streams) -> IntArray:
    """Take the tokens with one choice or two out of `by_choices` [top_k + 1, L, S, B].

    Returns the tokens with one choice in row 0, and in row 1 + i those whose two choices separate into halves of 2**i
    experts. Shape [L, log_size + 1, S, B].
    """
    num_rows, num_streams, num_sources, num_blocks = by_choices.shape
    num_few = 1 if num_rows == 2 else log_size + 1
    few = np.zeros((num_streams, num_few, num_sources, num_blocks), dtype=np.int64)
    few[:, 0] = by_choices[1]
    if num_few > 1 and num_blocks > 0:
        few[:, 1:] = _multinomial(by_choices[2], _separation(log_size), streams, axis=1)
    by_choices[:3] = 0
    return few


@cache
def _separation(log_size: int) -> FloatArray:
    """Return P(i) that two choices in a block of 2**log_size separate into halves of 2**i. Shape [log_size]."""
    probabilities: FloatArray = 2.0 ** np.arange(log_size) / (2**log_size - 1)
    return probabilities


def _multinomial(tokens: IntArray, probabilities: FloatArray, streams: Streams, *, axis: int) -> IntArray:
    """Draw how many of `tokens` [L, ...] have each outcome. The outcomes are a new axis of the result."""
    if probabilities.size == 1:
        return np.expand_dims(tokens, axis)
    drawn = np.zeros((*tokens.shape, probabilities.size), dtype=np.int64)
    for drawn_once, tokens_once, rng in zip(drawn, tokens, streams, strict=True):
        if 2 * np.count_nonzero(tokens_once) > tokens_once.size:
            drawn_once[...] = rng.multinomial(tokens_once, probabilities)
        else:
            drawn_once[tokens_once > 0] = rng.multinomial(tokens_once[tokens_once > 0], probabilities)
    return np.moveaxis(drawn, -1, axis)


def _split_few(few: IntArray, streams: Streams, num_trials: int) -> IntArray:
    """Split blocks of tokens with one choice, or with two choices that separate later or, in the last row, now.

    The shapes are [L, m + 1, S, B] and [L, m, S, 2B].
    """
    trials, separating = (few[:, :-1], few[:, -1]) if few.shape[1] > 1 else (few, 0)
    if num_trials <= _MAX_MEAN_TRIALS * trials[0].size:
        first = _successes(trials.reshape(len(streams), -1), streams).reshape(trials.shape)
    else:
        first = np.array([rng.binomial(once, 0.5) for rng, once in zip(streams, trials, strict=True)])
    second = trials - first
    first[:, 0] += separating
    second[:, 0] += separating
    return _interleave(first, second)


def _interleave(first: IntArray, second: IntArray) -> IntArray:
    """Return blocks [..., 2B] in which the halves [..., B] of a block are neighbours."""
    halves = np.empty((*first.shape, 2), dtype=np.int64)
    halves[..., 0], halves[..., 1] = first, second
    return halves.reshape(*first.shape[:-1], -1)


def _successes(trials: IntArray, streams: Streams) -> IntArray:
    """Return the successes among `trials` Bernoulli trials with probability 1/2. Both [L, N]."""
    num_words = (trials >> 6) + 1  # each cell has words of its own, and uses the low bits of its last word
    needed = num_words.sum(axis=1).tolist()
    if sum(needed) > _MAX_WORDS and trials.size > 1:
        return _successes_in_parts(trials, streams)
    words = np.concatenate([rng.bit_generator.random_raw(n) for rng, n in zip(streams, needed, strict=True)])
    last = np.cumsum(num_words) - 1
    words[last] &= _LOW_BITS[trials.ravel() & 63]
    first = last - (trials.ravel() >> 6)
    return np.add.reduceat(np.bitwise_count(words), first, dtype=np.int64).reshape(trials.shape)


def _successes_in_parts(trials: IntArray, streams: Streams) -> IntArray:
    """Run the trials of the first half of the streams, or of the cells of a single stream, before the others."""
    axis = 0 if len(streams) > 1 else 1
    former, latter = np.array_split(trials, 2, axis=axis)
    halves = (streams[: len(former)], streams[len(former) :]) if axis == 0 else (streams, streams)
    return np.concatenate([_successes(former, halves[0]), _successes(latter, halves[1])], axis=axis)
