"""Tokens on at most M nodes: a token takes nodes first, then experts on them, drawn as counts.

Model
-----
DeepSeek-V3 gives each node the sum of the highest top_k / M affinities of a token to its experts, keeps the M best
nodes, and of their experts the top_k best. The sampler draws a set G of M nodes and a set S of top_k experts there with

    P(G, S) in proportion to    product of a[n] over G * product of w[e] over S

with the odds w of the draw without a limit (`workloads.routing.conditional_bernoulli`), and factors a[n] such that

    P(n in G) = min(1, c P[n]),  sum = M        P[n]: sum over the experts of the node of their inclusion probabilities

With equal shares every set of M nodes has the same probability, and so has every set of experts on these nodes. With
all nodes it is the draw without a limit. Otherwise experts of popular nodes gain tokens, and an expert whose inclusion
probability exceeds that of its node loses tokens.

The sum has this reason: with affinities share * noise, where the logarithm of the noise is standard Gumbel, the best
affinity of a node has the distribution of a single expert with the sum of the shares (Kool et al. 2019), so that nodes
rank by that sum. Token by token (64 experts, 8 nodes, top-8 of 4 nodes, Zipf 0.5) the rule of DeepSeek takes nodes with
probabilities within 0.05 of these.

Only S is drawn. With equal shares, the nodes of a token are those m nodes whose experts it takes; C(N - m, M - m) of
the sets of M nodes contain them.

The counts are drawn by recursive splitting. The nodes lie in a binary tree of blocks, and a token that takes m nodes
and r experts of a block takes i nodes and j experts in the first half of the block with probability

    P(i, j) = first[i, j] second[m - i, r - j] / block[m, r]

Only counts are kept: how many tokens of a source are in the state (m, r) in a block.

Assumptions
-----------
A token may take no expert of a node in its set G: top-8 on 4 of 8 nodes of 8 experts meets 3.72
nodes on average, and by DeepSeek's rule with independent affinities 3.99. All nodes have equally many experts, in
order. Otherwise the counts have the distribution of tokens that choose independently one by one, up to the rounding
of doubles.

References
----------
DeepSeek-AI, "DeepSeek-V3 technical report", 2024, section 2.1.2 (node-limited routing). Kool, van Hoof, Welling,
"Stochastic beams and where to find them", 2019, section 2 (Gumbel-max, top-k). Chen, Dempster, Liu, "Weighted finite
population sampling to maximize entropy", 1994: this form has the maximum entropy among all distributions with the same
inclusion probabilities of nodes and experts.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sim.errors import InvalidValueError
from workloads.routing.conditional_bernoulli import (
    Splits,
    conditional_tables,
    inclusion_probabilities,
    split_probabilities,
)

__all__ = ["NodeLimitedSampler", "node_inclusion_probabilities", "uniform_node_sampler", "weighted_node_sampler"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_MAX_ITERATIONS = 1000
_TOLERANCE = 1e-9
"""Largest error of the probability of a node."""
_STEPS = (1.0, 0.5)
"""Steps in the logarithm of the factors a, tried one after the other until one converges."""
_MAX_SUCCESS = 1 - 1e-9
"""Largest probability of success of an expert, for an expert that all tokens take may stand on a node outside G."""


@dataclass(frozen=True, slots=True, eq=False)
class _Split:
    """How the tokens in each state of each block divide over the halves of the block.

    The state of m nodes and r choices has the number m (k + 1) + r. The outcomes of a state are the states that its
    tokens may have in the first half; a state has as many as the state with the most, with probability 0 at the end.
    """

    probabilities: FloatArray
    """Probability of each outcome, for each state and block. Shape [states, B, outcomes]."""
    first: NDArray[np.intp]
    """State in the first half by outcome. Shape [states, outcomes]."""
    second: NDArray[np.intp]
    """State in the second half by outcome. Shape [states, outcomes]."""

    def draw(self, tokens: IntArray, rng: np.random.Generator) -> IntArray:
        """Return the tokens in each state of each half, of tokens in each state of each block.

        The shapes are [states, S, B] and [states, S, 2B].
        """
        num_states, num_sources, num_blocks = tokens.shape
        state, source, block = np.nonzero(tokens)
        drawn = rng.multinomial(tokens[state, source, block], self.probabilities[state, block])
        first_half = ((source * num_blocks + block) * 2)[:, None]  # the second half follows the first
        stride = num_sources * num_blocks * 2
        cells = [self.first[state] * stride + first_half, self.second[state] * stride + first_half + 1]
        halves = np.bincount(
            np.concatenate(cells).ravel(),
            weights=np.concatenate([drawn, drawn]).ravel(),
            minlength=num_states * stride,
        )
        return halves.astype(np.int64).reshape(num_states, num_sources, num_blocks * 2)


@dataclass(frozen=True, slots=True, eq=False)
class NodeLimitedSampler:
    """How tokens divide over nodes, and how their choices on a node divide over its experts."""

    num_nodes: int
    """Nodes that hold experts."""
    num_rows: int
    """Numbers of choices that a token may have on a node, from 0 to top_k."""
    start: FloatArray
    """Probability of each number of nodes. Shape [M + 1]."""
    splits: list[_Split]
    """Splits of the block of all nodes, of its halves, ..., of pairs of nodes."""
    expert_splits: Splits
    """How choices divide over the experts of all nodes, from pairs of experts to a node; empty: shares are equal."""

    def draw(self, num_sources: int, tokens: int, rng: np.random.Generator) -> IntArray:
        """Draw how many tokens of each source have r choices on each node, r >= 1. Shape [k + 1, S, N].

        Parameters
        ----------
        num_sources, tokens
            Source ranks, and tokens of each source.
        rng
            Random numbers.

        Examples
        --------
        Two choices on one of two nodes:

        >>> by_choices = uniform_node_sampler(2, 1, 2, 2).draw(1, 10, np.random.default_rng(1))
        >>> by_choices[1].tolist(), int(by_choices[2].sum())
        ([[0, 0]], 10)
        """
        by_state = np.zeros((self.start.size * self.num_rows, num_sources, 1), dtype=np.int64)
        by_state[self.num_rows - 1 :: self.num_rows, :, 0] = rng.multinomial(tokens, self.start, size=num_sources).T
        for split in self.splits:
            by_state = split.draw(by_state, rng)
            by_state[:: self.num_rows] = 0  # tokens without a choice left have nothing to draw
        by_choices = by_state.reshape(self.start.size, self.num_rows, num_sources, -1).sum(axis=0)
        return np.asarray(by_choices[..., : self.num_nodes], dtype=np.int64)


@lru_cache(maxsize=16)
def uniform_node_sampler(num_nodes: int, max_nodes: int, experts_per_node: int, top_k: int) -> NodeLimitedSampler:
    """Return the sampler for equal shares, by the nodes whose experts a token takes.

    Examples
    --------
    Two choices on two nodes of two experts: with a limit of one node always on one node, otherwise in 2 of 6 ways.

    >>> [uniform_node_sampler(2, max_nodes, 2, 2).start.tolist() for max_nodes in (1, 2)]
    [[0.0, 1.0], [0.0, 0.3333333333333333, 0.6666666666666666]]
    """
    weights = np.array([0.0, *(float(math.comb(experts_per_node, r)) for r in range(1, top_k + 1))])
    levels = _block_tables(np.ones(num_nodes), np.tile(weights, (num_nodes, 1)), max_nodes)
    num_supersets = [math.comb(num_nodes - m, max_nodes - m) for m in range(max_nodes + 1)]
    start = levels[-1][0, :, -1] * num_supersets
    return NodeLimitedSampler(num_nodes, top_k + 1, start / start.sum(), _splits(levels), [])


def weighted_node_sampler(
    inclusion: FloatArray, success: FloatArray, num_nodes: int, max_nodes: int, top_k: int
) -> NodeLimitedSampler:
    """Return the sampler for experts of different shares.

    Parameters
    ----------
    inclusion
        Inclusion probability of each expert without a limit of nodes. Shape [E].
    success
        Odds of the experts, as `bernoulli_odds` gives them for these inclusion probabilities. Shape [E].
    num_nodes, max_nodes, top_k
        Nodes, nodes that a token may take, experts of a token.

    Raises
    ------
    InvalidValueError
        Too few experts are alive on some nodes.
    """
    per_node = np.minimum(success, _MAX_SUCCESS).reshape(num_nodes, -1)
    tables_of_nodes = [conditional_tables(of_node, top_k) for of_node in per_node]
    tables = [np.concatenate(level) for level in zip(*tables_of_nodes, strict=True)]
    wanted = node_inclusion_probabilities(inclusion, num_nodes, max_nodes)
    missed = np.where(wanted >= 1, 0.0, np.prod(1.0 - per_node, axis=1))
    factors = _node_factors(wanted, missed, tables[-1], max_nodes)
    levels = _block_tables(missed, factors[:, None] * tables[-1], max_nodes)
    return NodeLimitedSampler(
        num_nodes, top_k + 1, np.eye(max_nodes + 1)[-1], _splits(levels), split_probabilities(tables[:-1])
    )


def node_inclusion_probabilities(inclusion: FloatArray, num_nodes: int, max_nodes: int) -> FloatArray:
    """Return the probability that a token takes each node, from inclusion probabilities without a limit. Shape [N].

    Examples
    --------
    >>> node_inclusion_probabilities(np.array([0.9, 0.3, 0.4, 0.4]), 2, 1)
    array([0.6, 0.4])
    """
    per_node, top_k = inclusion.reshape(num_nodes, -1), round(float(inclusion.sum()))
    num_alive = (per_node > 0).sum(axis=1)
    shares = np.where(_usable(num_alive, max_nodes, top_k), per_node.sum(axis=1), 0.0)
    if not shares.any():
        raise _impossible(max_nodes, f"fewer than top_k = {top_k} experts with tokens on any {max_nodes} nodes")
    return inclusion_probabilities(shares / shares.sum(), min(max_nodes, int((num_alive > 0).sum())))


# ---- private -----------------------------------------------------------------------------------------------------


def _usable(num_alive: IntArray, max_nodes: int, top_k: int) -> NDArray[np.bool_]:
    """Return the nodes that belong to some set of `max_nodes` nodes with top_k experts alive. Shape [N]."""
    fullest = np.sort(num_alive)[::-1][:max_nodes]
    return np.asarray((num_alive > 0) & (fullest[:-1].sum() + np.minimum(num_alive, fullest[-1]) >= top_k))


def _node_factors(wanted: FloatArray, missed: FloatArray, weights: FloatArray, max_nodes: int) -> FloatArray:
    """Return a[n] by iteration: multiply by the wanted over the present odds that a node is taken. Shape [N].

    Parameters
    ----------
    wanted
        Probability that each node is taken. Shape [N].
    missed
        Weight of a node that a token does not take. Shape [N].
    weights
        Weight of r choices on a node that a token takes. Shape [N, k + 1].
    max_nodes
        Nodes that a token may take.
    """
    free = (wanted > 0) & (wanted < 1)
    odds = wanted[free] / (1.0 - wanted[free])
    for step in _STEPS:
        factors = np.where(wanted >= 1, 1.0, 0.0)
        factors[free] = odds * missed[free]
        for _ in range(_MAX_ITERATIONS):
            with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
                taken, left = _weights_with_and_without(factors, missed, weights, max_nodes)
                present = taken[free] / left[free]
                if np.abs(present / (1.0 + present) - wanted[free]).max(initial=0.0) < _TOLERANCE:
                    return factors
                factors[free] *= (odds / present) ** step
            if not np.isfinite(factors).all():
                break
    raise _impossible(max_nodes, f"probabilities of nodes from {wanted[free].min():.3g} to {wanted[free].max():.3g}")


def _weights_with_and_without(
    factors: FloatArray, missed: FloatArray, weights: FloatArray, max_nodes: int
) -> tuple[FloatArray, FloatArray]:
    """Return the weight of all sets with each node, and of all sets without it. Both [N]."""
    num_nodes, num_rows = weights.shape
    shifts = np.zeros((num_nodes, num_rows, num_rows))  # [n, i, j]: from i choices before node n to j choices after it
    for r in range(num_rows):
        np.einsum("nii->ni", shifts[:, : num_rows - r, r:])[...] = (factors * weights[:, r])[:, None]
    before = _prefix_weights(shifts, missed, max_nodes)
    after = _prefix_weights(shifts[::-1], missed[::-1], max_nodes)[::-1]
    rest = after[:, ::-1, ::-1]  # nodes and choices that the nodes after this node have of all M and top_k
    taken = np.einsum("nmr,nrs,nms->n", before[:, :-1], shifts, rest[:, 1:])
    return taken, missed * np.einsum("nmr,nmr->n", before, rest)


def _prefix_weights(shifts: FloatArray, missed: FloatArray, max_nodes: int) -> FloatArray:
    """Return the weight of the nodes before each node, by nodes taken and choices. Shape [N, M + 1, k + 1]."""
    weights = np.zeros((missed.size, max_nodes + 1, shifts.shape[1]))
    weights[0, 0, 0] = 1.0
    for n in range(missed.size - 1):
        weights[n + 1] = weights[n] * missed[n]
        weights[n + 1, 1:] += weights[n, :-1] @ shifts[n]
    return weights


def _block_tables(missed: FloatArray, taken: FloatArray, max_nodes: int) -> list[FloatArray]:
    """Return the weight of m nodes and r choices in blocks of 1, 2, 4, ... nodes: [N', M + 1, k + 1], then N' / 2, ...

    N' is the next power of two: the nodes that are added are never taken.
    """
    leaves = np.zeros((1 << (missed.size - 1).bit_length(), max_nodes + 1, taken.shape[1]))
    leaves[:, 0, 0] = 1.0
    leaves[: missed.size, 0, 0], leaves[: missed.size, 1] = missed, taken
    levels = [leaves]
    while len(levels[-1]) > 1:
        levels.append(_convolve(levels[-1][0::2], levels[-1][1::2]))
    return levels


def _convolve(first: FloatArray, second: FloatArray) -> FloatArray:
    """Return the weight of two blocks together, up to M nodes and top_k choices. All [B, M + 1, k + 1]."""
    total = np.zeros_like(first)
    _, num_taken, num_rows = first.shape
    for m, r in np.argwhere(first.any(axis=0)).tolist():
        total[:, m:, r:] += first[:, m, r, None, None] * second[:, : num_taken - m, : num_rows - r]
    return total


def _splits(levels: list[FloatArray]) -> list[_Split]:
    """Return the splits of all blocks, from the block of all nodes to pairs of nodes."""
    return [_split(level[0::2], level[1::2]) for level in reversed(levels[:-1])]


def _split(first: FloatArray, second: FloatArray) -> _Split:
    """Return how blocks with these halves split, with the most probable outcomes of each state first."""
    num_blocks, num_taken, num_rows = first.shape
    num_states = num_taken * num_rows
    probabilities = np.zeros((num_states, num_blocks, num_states))
    state_in_half = np.zeros((2, num_states, num_states), dtype=np.intp)
    max_outcomes = 1
    for m, r in np.ndindex(num_taken, num_rows):
        weights = (first[:, : m + 1, : r + 1] * second[:, m::-1, r::-1]).reshape(num_blocks, -1)
        sums, state = weights.sum(axis=1, keepdims=True), m * num_rows + r
        total = np.divide(weights, sums, where=sums > 0, out=np.zeros_like(weights)).sum(axis=0)
        outcomes = np.argsort(-total, kind="stable")[: np.count_nonzero(total)]  # few tokens then try few outcomes
        if outcomes.size:
            no_tokens = np.full((num_blocks, outcomes.size), 1 / outcomes.size)  # of blocks that no token reaches
            probabilities[state, :, : outcomes.size] = np.divide(
                weights[:, outcomes], sums, where=sums > 0, out=no_tokens
            )
            nodes, choices = np.divmod(outcomes, r + 1)
            state_in_half[0, state, : outcomes.size] = nodes * num_rows + choices
            state_in_half[1, state, : outcomes.size] = state - state_in_half[0, state, : outcomes.size]
            max_outcomes = max(max_outcomes, outcomes.size)
    return _Split(probabilities[..., :max_outcomes], *state_in_half[..., :max_outcomes])


def _impossible(max_nodes: int, problem: str) -> InvalidValueError:
    return InvalidValueError(
        field="routing.max_nodes_per_token",
        rule="leave tokens nodes that have enough experts for them",
        value=f"{max_nodes}, where there are {problem}",
        hint="Raise it, or lower routing.skew, routing.dead_experts or model.top_k.",
    )
