"""From chances of experts to the law by which a token takes nodes first, then experts on them.

Model
-----
DeepSeek-V3 gives each node the sum of the highest top_k / M affinities of a token to its experts, keeps the M best
nodes, and of their experts the top_k best. What is drawn here is a set G of M nodes and a set S of top_k experts there

    P(G, S) in proportion to    product of a[n] over G * product of w[e] over S

with the odds w of the draw without a limit (`workloads.routing.chances`), and a[n] such that

    P(n in G) = min(1, c P[n]),  sum = M           P[n]: sum of the chances of the node's experts without a limit

Where experts are alike, every set of M nodes is equally likely, and on it every set of experts. With all nodes it is
the draw without a limit. Otherwise experts of popular nodes gain, and one whose chance exceeds its node's loses.

Why the sum: with affinities share * noise, log noise standard Gumbel, the best of a node has the law of one expert with
the sum of their shares (Kool et al. 2019), so that by their best expert nodes rank by it. Token by token (64 experts, 8
nodes, top-8 of 4 nodes, Zipf 0.5) the rule takes nodes with chances that are within 0.05 of these.

Only S is drawn. Where experts are alike, the nodes of a token are those m whose experts it takes; of the sets of M
nodes, C(N - m, M - m) have them.

Assumptions
-----------
Of a node that is taken, a token may take no expert: top-8 on 4 of 8 nodes of 8 experts meets 3.72 nodes on average, by
DeepSeek's rule with independent affinities 3.99. All nodes have equally many experts, in order.

References
----------
DeepSeek-AI, "DeepSeek-V3 technical report", 2024, section 2.1.2 (node-limited routing). Kool, van Hoof, Welling,
"Stochastic beams and where to find them", 2019, section 2 (Gumbel-max, top-k). Chen, Dempster, Liu, "Weighted finite
population sampling to maximize entropy", 1994: of all laws with the same chances of nodes and experts the one of most
entropy has this form.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.errors import InvalidValueError
from workloads.routing.chances import choice_chances, conditional_tables

__all__ = ["Halving", "NodeLimitedSampler", "chances_of_nodes", "even_node_law", "weighted_node_law"]

FloatArray = NDArray[np.float64]
_MOST_ROUNDS = 1000
_CLOSE = 1e-9  # of chances
_STEPS = (1.0, 0.5)  # of the log of a, one after the other until one converges
_MOST_COIN = 1 - 1e-9  # an expert that every token takes may stand on a node that a token does not take


class Halving(NamedTuple):
    """How tokens in a state, by nodes m and choices r in a block, part over its halves: state m (k + 1) + r."""

    chances: FloatArray
    """Of each way, for each state and block. Shape [states, B, ways]."""
    first: NDArray[np.intp]
    """State in the first half by each way. Shape [states, ways]."""
    second: NDArray[np.intp]
    """State in the second half. Shape [states, ways]."""


class NodeLimitedSampler(NamedTuple):
    """How tokens part over nodes, and how their choices on a node part over its experts."""

    num_choices: int
    """Choices of a token, and one."""
    start: FloatArray
    """Chance of each number of nodes. Shape [M + 1]."""
    halvings: list[Halving]
    """Of all nodes, of their halves, ..., of pairs."""
    experts: list[FloatArray]
    """Chances of heads in blocks of 1, 2, ... experts, below that of a node, of all nodes; none: all are alike."""


@lru_cache(maxsize=16)
def even_node_law(num_nodes: int, max_nodes: int, experts_per_node: int, top_k: int) -> NodeLimitedSampler:
    """Return the law where all experts are alike, by the nodes whose experts a token takes.

    Examples
    --------
    Two choices on two nodes of two experts, one node at most or any: on one node always, or in 2 of 6 ways.

    >>> [even_node_law(2, most, 2, 2).start.tolist() for most in (1, 2)]
    [[0.0, 1.0], [0.0, 0.3333333333333333, 0.6666666666666666]]
    """
    ways = np.array([0.0, *(float(math.comb(experts_per_node, r)) for r in range(1, top_k + 1))])
    tables = _joined_up(_tables(np.ones(num_nodes), np.tile(ways, (num_nodes, 1)), max_nodes))
    among = [math.comb(num_nodes - m, max_nodes - m) for m in range(max_nodes + 1)]  # sets of M nodes with those m
    start = tables[-1][0, :, -1] * among
    return NodeLimitedSampler(top_k + 1, start / start.sum(), _halvings(tables), [])


def weighted_node_law(
    chances: FloatArray, coins: FloatArray, num_nodes: int, max_nodes: int, top_k: int
) -> NodeLimitedSampler:
    """Return the law for experts of these chances, and of the coins that give them without a limit. Both [E].

    Raises
    ------
    InvalidValueError
        Too few experts are alive on some nodes.
    """
    per_node = np.minimum(coins, _MOST_COIN).reshape(num_nodes, -1)
    trees = [conditional_tables(of_node, top_k) for of_node in per_node]
    experts = [np.concatenate(level) for level in zip(*trees, strict=True)]
    wanted = chances_of_nodes(chances, num_nodes, max_nodes)
    missed = np.where(wanted >= 1, 0.0, np.prod(1.0 - per_node, axis=1))
    factors = _factors(wanted, missed, experts[-1], max_nodes)
    tables = _joined_up(_tables(missed, factors[:, None] * experts[-1], max_nodes))
    return NodeLimitedSampler(top_k + 1, np.eye(max_nodes + 1)[-1], _halvings(tables), experts[:-1])


def chances_of_nodes(chances: FloatArray, num_nodes: int, max_nodes: int) -> FloatArray:
    """Return the chance of each node to be taken, by the chances of experts without a limit. Shape [N].

    Examples
    --------
    >>> chances_of_nodes(np.array([0.9, 0.3, 0.4, 0.4]), 2, 1)
    array([0.6, 0.4])
    """
    per_node, top_k = chances.reshape(num_nodes, -1), round(float(chances.sum()))
    alive = (per_node > 0).sum(axis=1)
    shares = np.where(_usable(alive, max_nodes, top_k), per_node.sum(axis=1), 0.0)
    if not shares.any():
        raise _impossible(max_nodes, f"fewer than top_k = {top_k} experts with tokens on any {max_nodes} nodes")
    return choice_chances(shares / shares.sum(), min(max_nodes, int((alive > 0).sum())))


# ---- private -----------------------------------------------------------------------------------------------------


def _usable(alive: NDArray[np.int64], max_nodes: int, top_k: int) -> NDArray[np.bool_]:
    """Return the nodes that are among some `max_nodes` with top_k experts alive. Shape [N]."""
    fullest = np.sort(alive)[::-1][:max_nodes]
    return np.asarray((alive > 0) & (fullest[:-1].sum() + np.minimum(alive, fullest[-1]) >= top_k))


def _factors(wanted: FloatArray, missed: FloatArray, ways: FloatArray, max_nodes: int) -> FloatArray:
    """Return a[n] by iteration: multiply by wanted over present odds of a node to be taken. Shape [N]."""
    free = (wanted > 0) & (wanted < 1)
    odds = wanted[free] / (1.0 - wanted[free])
    for step in _STEPS:
        factors = np.where(wanted >= 1, 1.0, 0.0)
        factors[free] = odds * missed[free]
        for _ in range(_MOST_ROUNDS):
            with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
                taken, left = _taken_or_left(factors, missed, ways, max_nodes)
                present = taken[free] / left[free]
                if np.abs(present / (1.0 + present) - wanted[free]).max(initial=0.0) < _CLOSE:
                    return factors
                factors[free] *= (odds / present) ** step
            if not np.isfinite(factors).all():
                break
    raise _impossible(max_nodes, f"chances of nodes from {wanted[free].min():.3g} to {wanted[free].max():.3g}")


def _taken_or_left(
    factors: FloatArray, missed: FloatArray, ways: FloatArray, max_nodes: int
) -> tuple[FloatArray, FloatArray]:
    """Return the weight of all sets with each node, and without it. Both [N]."""
    num_nodes, num_choices = ways.shape
    shifted = np.zeros((num_nodes, num_choices, num_choices))  # [n, i, j]: from i choices to j by this node
    for r in range(num_choices):
        np.einsum("nii->ni", shifted[:, : num_choices - r, r:])[...] = (factors * ways[:, r])[:, None]
    before, after = _running(shifted, missed, max_nodes), _running(shifted[::-1], missed[::-1], max_nodes)[::-1]
    rest = after[:, ::-1, ::-1]  # of all M and top_k, what the nodes after this one have
    taken = np.einsum("nmr,nrs,nms->n", before[:, :-1], shifted, rest[:, 1:])
    return taken, missed * np.einsum("nmr,nmr->n", before, rest)


def _running(shifted: FloatArray, missed: FloatArray, max_nodes: int) -> FloatArray:
    """Return the weight of what stands before each node, by nodes taken and choices. Shape [N, M + 1, k + 1]."""
    running = np.zeros((missed.size, max_nodes + 1, shifted.shape[1]))
    running[0, 0, 0] = 1.0
    for n in range(missed.size - 1):
        running[n + 1] = running[n] * missed[n]
        running[n + 1, 1:] += running[n, :-1] @ shifted[n]
    return running


def _tables(missed: FloatArray, taken: FloatArray, max_nodes: int) -> FloatArray:
    """Return the weight of single nodes, of the next power of two: those that are added are never taken."""
    tables = np.zeros((1 << (missed.size - 1).bit_length(), max_nodes + 1, taken.shape[1]))
    tables[:, 0, 0] = 1.0
    tables[: missed.size, 0, 0], tables[: missed.size, 1] = missed, taken
    return tables


def _joined_up(tables: FloatArray) -> list[FloatArray]:
    levels = [tables]
    while len(levels[-1]) > 1:
        levels.append(_joined(levels[-1][0::2], levels[-1][1::2]))
    return levels


def _joined(first: FloatArray, second: FloatArray) -> FloatArray:
    """Return the weight of two blocks together, as far as the arrays go. All [B, M + 1, k + 1]."""
    joined = np.zeros_like(first)
    _, num_taken, num_choices = first.shape
    for m, r in np.argwhere(first.any(axis=0)).tolist():
        joined[:, m:, r:] += first[:, m, r, None, None] * second[:, : num_taken - m, : num_choices - r]
    return joined


def _halvings(tables: list[FloatArray]) -> list[Halving]:
    return [_halving(level[0::2], level[1::2]) for level in reversed(tables[:-1])]


def _halving(first: FloatArray, second: FloatArray) -> Halving:
    """Return how blocks with these halves part, all ways of a state in a row, with ways of chance 0 at the end."""
    num_blocks, num_taken, num_choices = first.shape
    num_states = num_taken * num_choices
    chances = np.zeros((num_states, num_blocks, num_states))
    into = np.zeros((2, num_states, num_states), dtype=np.intp)
    most = 1
    for m, r in np.ndindex(num_taken, num_choices):
        weights = (first[:, : m + 1, : r + 1] * second[:, m::-1, r::-1]).reshape(num_blocks, -1)
        sums, state = weights.sum(axis=1, keepdims=True), m * num_choices + r
        likely = np.divide(weights, sums, where=sums > 0, out=np.zeros_like(weights)).sum(axis=0)
        ways = np.argsort(-likely, kind="stable")[: np.count_nonzero(likely)]  # few tokens then try few ways
        if ways.size:
            chances[state, :, : ways.size] = np.divide(
                weights[:, ways], sums, where=sums > 0, out=_alike(weights, ways)
            )
            nodes, choices = np.divmod(ways, r + 1)
            into[0, state, : ways.size] = nodes * num_choices + choices
            into[1, state, : ways.size] = state - into[0, state, : ways.size]
            most = max(most, ways.size)
    return Halving(chances[..., :most], *into[..., :most])


def _alike(weights: FloatArray, ways: NDArray[np.intp]) -> FloatArray:
    """Return equal chances, for blocks of which nothing is request. Shape [B, ways]."""
    return np.full((len(weights), ways.size), 1 / ways.size)


def _impossible(max_nodes: int, value: str) -> InvalidValueError:
    return InvalidValueError(
        field="routing.max_nodes_per_token",
        rule="leave tokens nodes that have enough experts for them",
        value=f"{max_nodes}, where there are {value}",
        hint="Raise it, or lower routing.skew, routing.dead_experts or model.top_k.",
    )
