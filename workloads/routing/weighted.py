"""Distinct experts for many tokens at once where experts are not alike: counts, drawn by halving blocks of experts.

Model
-----
A token with r choices in a block has j of them in its first half with probability

    P(j) = first[j] second[r - j] / block[r]

where `first[j]` is the chance that the coins of the first half show j heads (`workloads.routing.chances`). Only counts
are kept: how many of a source's tokens have r choices in a block.

Assumptions
-----------
None: counts have the law of tokens that choose one by one, each on its own, to the rounding of doubles.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["choose_weighted", "choose_weighted_in_groups"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def choose_weighted(
    num_sources: int, tokens: int, num_experts: int, tree: list[FloatArray], rng: np.random.Generator
) -> IntArray:
    """Draw how many of its tokens each source sends to each expert. Shape [S, E].

    Parameters
    ----------
    num_sources, tokens, num_experts
        Source ranks, tokens of each, experts.
    tree
        Chances of heads in blocks of experts, from single ones to all: `conditional_tables`.
    rng
        Random numbers.

    Examples
    --------
    >>> from workloads.routing.chances import conditional_tables
    >>> choose_weighted(2, 5, 3, conditional_tables(np.array([0.0, 1.0, 0.0]), 1), np.random.default_rng(1))
    array([[0, 5, 0],
           [0, 5, 0]])
    """
    chosen = np.zeros((tree[0].shape[1], num_sources, 1), dtype=np.int64)
    chosen[-1] = tokens
    return choose_weighted_in_groups(chosen, num_experts, tree[:-1], rng)


def choose_weighted_in_groups(
    chosen: IntArray, group_size: int, levels: list[FloatArray], rng: np.random.Generator
) -> IntArray:
    """Draw the experts of tokens whose number of choices in each group of experts is known. Shape [S, G * size].

    Parameters
    ----------
    chosen
        Tokens of each source with r choices in a group. Shape [k + 1, S, G].
    group_size
        Experts of a group.
    levels
        Chances of heads in blocks of experts, from single ones to halves of groups.
    rng
        Random numbers.

    Examples
    --------
    >>> chosen = np.array([[[5, 0]], [[0, 5]]])  # one choice, in the second of two groups of one expert
    >>> choose_weighted_in_groups(chosen, 1, [], np.random.default_rng(1))
    array([[0, 5]])
    """
    num_choices, num_sources, num_groups = chosen.shape
    for level in reversed(levels):
        chosen = _halve(chosen, level[0::2], level[1::2], rng)
    counts = np.tensordot(np.arange(num_choices), chosen, axes=1).reshape(num_sources, num_groups, -1)
    return np.asarray(counts[..., :group_size].reshape(num_sources, -1), dtype=np.int64)


def _halve(chosen: IntArray, first: FloatArray, second: FloatArray, rng: np.random.Generator) -> IntArray:
    """Draw how many choices of each token fall on either half: from [k + 1, S, B] to [k + 1, S, 2B]."""
    num_choices, num_sources, num_blocks = chosen.shape
    halves = np.zeros((num_choices, num_sources, num_blocks, 2), dtype=np.int64)
    for r in range(1, num_choices):
        if not chosen[r].any():
            continue
        ways = _ways(first[:, : r + 1] * second[:, r::-1])
        if r == 1:
            drawn = rng.binomial(chosen[1], ways[:, 1])
            halves[1, ..., 0] += drawn
            halves[1, ..., 1] += chosen[1] - drawn
            continue
        source, block = np.nonzero(chosen[r])
        split = rng.multinomial(chosen[r, source, block], ways[block])
        for j in range(r + 1):
            halves[j, source, block, 0] += split[:, j]
            halves[r - j, source, block, 1] += split[:, j]
    return halves.reshape(num_choices, num_sources, 2 * num_blocks)


def _ways(weights: FloatArray) -> FloatArray:
    """Return chances in proportion to weights [B, r + 1]; where a block has none, nothing is request of it."""
    sums = weights.sum(axis=1, keepdims=True)
    return np.asarray(np.divide(weights, sums, out=np.full_like(weights, 1 / weights.shape[1]), where=sums > 0))
