"""How many of a source's tokens have how many choices on each node: counts, drawn by halving blocks of nodes.

Model
-----
A token that takes m nodes and r experts of a block takes i and j of these in its first half with probability

    P(i, j) = first[i, j] second[m - i, r - j] / block[m, r]        tables of `workloads.routing.node_limited_sampler`

Only counts are kept: how many of a source's tokens have m nodes and r choices in a block.

Assumptions
-----------
None: counts have the law of tokens that choose one by one, to the rounding of doubles.
"""

import numpy as np
from numpy.typing import NDArray

from workloads.routing.node_limited_sampler import Halving, NodeLimitedSampler

__all__ = ["choose_on_nodes"]

IntArray = NDArray[np.int64]


def choose_on_nodes(
    num_sources: int, tokens: int, num_nodes: int, law: NodeLimitedSampler, rng: np.random.Generator
) -> IntArray:
    """Draw how many tokens of each source have r choices on each node, r >= 1. Shape [k + 1, S, N].

    Parameters
    ----------
    num_sources, tokens, num_nodes
        Source ranks, tokens of each, nodes.
    law
        How tokens part over nodes.
    rng
        Random numbers.

    Examples
    --------
    Two choices on one of two nodes:

    >>> from workloads.routing.node_limited_sampler import even_node_law
    >>> chosen = choose_on_nodes(1, 10, 2, even_node_law(2, 1, 2, 2), np.random.default_rng(1))
    >>> chosen[1].tolist(), int(chosen[2].sum())
    ([[0, 0]], 10)
    """
    num_choices = law.num_choices
    chosen = np.zeros((law.start.size * num_choices, num_sources, 1), dtype=np.int64)
    chosen[num_choices - 1 :: num_choices, :, 0] = rng.multinomial(tokens, law.start, size=num_sources).T
    for halving in law.halvings:
        chosen = _halve(chosen, halving, rng)
        chosen[::num_choices] = 0  # without a choice left there is nothing to draw
    by_choices = chosen.reshape(law.start.size, num_choices, num_sources, -1).sum(axis=0)
    return np.asarray(by_choices[..., :num_nodes], dtype=np.int64)


def _halve(chosen: IntArray, halving: Halving, rng: np.random.Generator) -> IntArray:
    """Draw what falls on either half of each block: from [states, S, B] to [states, S, 2B]."""
    num_states, num_sources, num_blocks = chosen.shape
    state, source, block = np.nonzero(chosen)
    split = rng.multinomial(chosen[state, source, block], halving.chances[state, block])
    place = ((source * num_blocks + block) * 2)[:, None]  # of the first half; the second follows
    stride = num_sources * num_blocks * 2
    into = np.concatenate([halving.first[state] * stride + place, halving.second[state] * stride + place + 1])
    halves = np.bincount(into.ravel(), weights=np.concatenate([split, split]).ravel(), minlength=num_states * stride)
    return halves.astype(np.int64).reshape(num_states, num_sources, num_blocks * 2)
