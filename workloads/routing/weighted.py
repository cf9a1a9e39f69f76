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

__all__ = ["choose_weighted"]

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
        Chances of heads in blocks of experts, from single ones to all: `chance_tree`.
    rng
        Random numbers.

    Examples
    --------
    >>> from workloads.routing.chances import chance_tree
    >>> choose_weighted(2, 5, 3, chance_tree(np.array([0.0, 1.0, 0.0]), 1), np.random.default_rng(1))
    array([[0, 5, 0],
           [0, 5, 0]])
    """
    top_k = tree[0].shape[1] - 1
    chosen = np.zeros((top_k + 1, num_sources, 1), dtype=np.int64)
    chosen[top_k] = tokens
    for level in reversed(tree[:-1]):
        chosen = _halve(chosen, level[0::2], level[1::2], rng)
    counts = np.tensordot(np.arange(top_k + 1), chosen, axes=1)
    return np.asarray(counts[:, :num_experts], dtype=np.int64)


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
    """Return chances in proportion to weights [B, r + 1]; where a block has none, nothing is asked of it."""
    sums = weights.sum(axis=1, keepdims=True)
    return np.asarray(np.divide(weights, sums, out=np.full_like(weights, 1 / weights.shape[1]), where=sums > 0))
