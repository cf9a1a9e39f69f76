"""Distinct experts for many tokens by the shares of the experts: conditional Bernoulli sampling, as counts.

Model
-----
A token takes an expert once, so the probability that a token takes expert e, its inclusion probability, is at most 1.
With shares p of the token copies

    pi[e] = min(1, c p[e]),  sum of pi = top_k        experts at 1 leave the rest to the other experts, which fixes c

Given these inclusion probabilities, a token takes the set S with probability in proportion to the product of the odds
w[e] over S. This is conditional Bernoulli sampling: each expert has an independent Bernoulli trial with odds w[e],
given that exactly top_k trials succeed. It is the distribution of maximum entropy among those with inclusion
probabilities pi. With equal shares every set has the same probability.

The odds are found by iteration: they start at pi / (1 - pi), and are multiplied by the wanted over the present odds of
inclusion. Where the shares are so uneven that this oscillates, the factor is its square root: half a step in the
logarithm of the odds. Where all experts but those at 1 share a single choice, the odds are pi themselves.

The counts of many tokens are drawn by recursive splitting. The experts lie in a binary tree of blocks, and a token with
r choices in a block has j choices in the first half of the block with probability

    P(j) = first[j] second[r - j] / block[r]

where `first[j]` is the probability that the trials of the first half have j successes. Only counts are kept: how many
tokens of a source have r choices in a block. The probabilities depend on the shares alone, and are computed once for
all draws of a popularity.

Assumptions
-----------
None: the counts have the distribution of tokens that choose independently one by one, up to the rounding of doubles.

References
----------
Chen, Dempster, Liu, "Weighted finite population sampling to maximize entropy", Biometrika 81, 1994.
"""

import numpy as np
from numpy.typing import NDArray

from sim.errors import InvalidValueError
from workloads.topk_sampling import Streams

__all__ = [
    "bernoulli_odds",
    "choose_weighted",
    "choose_weighted_for_hosts",
    "choose_weighted_in_groups",
    "conditional_tables",
    "inclusion_probabilities",
    "split_probabilities",
]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

_MAX_ITERATIONS = 500
_TOLERANCE = 1e-11
"""Largest error of an inclusion probability."""
_STEPS = (1.0, 0.5)
"""Steps in the logarithm of the odds, tried one after the other until one converges."""
_FEW_CELLS = 4
"""Where one cell in so many has tokens, or fewer, those are drawn alone: finding them costs less than empty cells."""

Splits = list[list[FloatArray]]
"""How choices divide over the halves of blocks, from pairs of experts to the largest blocks.

For each size of block and each number of choices r, from 0 to k: the probability that j of the r choices fall on the
first half. Shape [B, r + 1].
"""


def inclusion_probabilities(shares: FloatArray, top_k: int) -> FloatArray:
    """Return the probability that a token takes each expert, as near to `top_k * shares` as 1 allows. Shape [E].

    Examples
    --------
    >>> inclusion_probabilities(np.array([0.8, 0.1, 0.1]), 2)
    array([1. , 0.5, 0.5])
    """
    alive = shares > 0
    if int(alive.sum()) < top_k:
        raise InvalidValueError(
            field="routing.kind",
            rule=f"give tokens to at least top_k = {top_k} experts of a layer",
            value=int(alive.sum()),
            hint="Lower model.top_k, for a token takes an expert once.",
        )
    probabilities, full = np.zeros(shares.size), np.zeros(shares.size, dtype=bool)
    while True:
        free = alive & ~full
        num_left = top_k - int(full.sum())
        probabilities[free] = num_left * shares[free] / shares[free].sum() if num_left else 0.0
        above = free & (probabilities >= 1.0)
        if not above.any():
            return probabilities
        probabilities[above] = 1.0
        full |= above


def bernoulli_odds(inclusion: FloatArray, top_k: int) -> FloatArray:
    """Return the odds w of the trial of each expert, as the probability of success w / (1 + w). Shape [E].

    Given that exactly `top_k` of the independent trials succeed, each expert succeeds with its inclusion probability.
    """
    free = (inclusion > 0) & (inclusion < 1)
    if top_k - int((inclusion >= 1).sum()) == 1:
        return np.where(free, inclusion / (1.0 + inclusion), inclusion)
    if not free.any() or np.ptp(inclusion[free]) == 0:
        return inclusion.copy()
    for step in _STEPS:
        success = _iterate_odds(inclusion, free, top_k, step)
        if success is not None:
            return success
    raise InvalidValueError(
        field="routing.skew",
        rule=f"be so weak that tokens can take top_k = {top_k} distinct experts by these shares",
        value=f"inclusion probabilities from {inclusion[free].min():.3g} to {inclusion[free].max():.3g} of an expert",
        hint="Lower routing.skew or model.top_k.",
    )


def conditional_tables(success: FloatArray, top_k: int) -> list[FloatArray]:
    """Return P(r trials succeed), r up to `top_k`, in blocks of 1, 2, 4, ... experts.

    The shapes are [E', k + 1], [E' / 2, k + 1], ..., where E' is the next power of two: the experts that are added
    never succeed.
    """
    size = 1 << (success.size - 1).bit_length()
    leaves = np.zeros((size, top_k + 1))
    leaves[:, 0] = 1.0
    leaves[: success.size, 0], leaves[: success.size, 1] = 1.0 - success, success
    levels = [leaves]
    while len(levels[-1]) > 1:
        levels.append(_convolve(levels[-1][0::2], levels[-1][1::2]))
    return levels


def split_probabilities(tables: list[FloatArray]) -> Splits:
    """Return how choices divide over halves, from probabilities of successes in blocks of 1, 2, 4, ... experts.

    The halves are the blocks of each of `tables`: without the last table of `conditional_tables`, which has the block
    of all experts, all splits down to single experts are returned.

    Examples
    --------
    One choice among two experts, of which the first has odds of 3 and the second odds of 1:

    >>> split_probabilities(conditional_tables(np.array([0.75, 0.5]), 1)[:-1])[0][1]
    array([[0.25, 0.75]])
    """
    num_rows = tables[0].shape[1] if tables else 0
    return [[_normalise(table[0::2, : r + 1] * table[1::2, r::-1]) for r in range(num_rows)] for table in tables]


def choose_weighted(
    num_sources: int, tokens: int, num_experts: int, tables: list[FloatArray], streams: Streams
) -> IntArray:
    """Draw how many of its tokens each source sends to each expert, once from each of `streams`. Shape [L, S, E].

    Parameters
    ----------
    num_sources, tokens, num_experts
        Source ranks, tokens of each source, experts.
    tables
        Probabilities of successes in blocks of experts, from single experts to all: `conditional_tables`.
    streams
        Random numbers, one stream for each of L draws.

    Examples
    --------
    >>> choose_weighted(2, 5, 3, conditional_tables(np.array([0.0, 1.0, 0.0]), 1), [np.random.default_rng(1)])
    array([[[0, 5, 0],
            [0, 5, 0]]])
    """
    by_choices = np.zeros((tables[0].shape[1], len(streams), num_sources, 1), dtype=np.int64)
    by_choices[-1] = tokens
    return choose_weighted_in_groups(by_choices, num_experts, split_probabilities(tables[:-1]), streams)


def choose_weighted_in_groups(by_choices: IntArray, group_size: int, splits: Splits, streams: Streams) -> IntArray:
    """Draw the experts of tokens whose number of choices in each group of experts is known. Shape [L, S, G * size].

    Parameters
    ----------
    by_choices
        Tokens of each source with r choices in a group. Shape [k + 1, L, S, G].
    group_size
        Experts of a group.
    splits
        How choices divide over halves, from pairs of experts to groups: `split_probabilities`.
    streams
        Random numbers, one stream for each of L draws.

    Examples
    --------
    >>> by_choices = np.array([[[[5, 0]]], [[[0, 5]]]])  # one choice, in the second of two groups of one expert
    >>> choose_weighted_in_groups(by_choices, 1, [], [np.random.default_rng(1)])
    array([[[0, 5]]])
    """
    num_groups = by_choices.shape[3]
    for probabilities in reversed(splits):
        by_choices = _split(by_choices, probabilities, streams)
    return _copies(by_choices, num_groups, group_size)


def choose_weighted_for_hosts(
    by_choices: IntArray, group_size: int, splits: Splits, streams: Streams, *, host_size: int
) -> tuple[IntArray, IntArray]:
    """Draw how many copies each source has for each host of `host_size` experts, and all sources for each expert.

    The choices of a token in a block divide among its experts whoever the token's source is: below hosts the tokens of
    all sources are split together.

    Parameters
    ----------
    by_choices, group_size, splits, streams
        As of `choose_weighted_in_groups`.
    host_size
        Experts of a host: a power of two that divides the group.

    Returns
    -------
    tuple
        Copies for hosts [L, S, hosts], the same numbers as the sums of `choose_weighted_in_groups`, and for experts
        [L, E].
    """
    num_groups, log_size = by_choices.shape[3], host_size.bit_length() - 1
    for probabilities in reversed(splits[log_size:]):
        by_choices = _split(by_choices, probabilities, streams)
    to_hosts = _copies(by_choices, num_groups, group_size // host_size)
    by_choices = by_choices.sum(axis=2, keepdims=True)
    for probabilities in reversed(splits[:log_size]):
        by_choices = _split(by_choices, probabilities, streams)
    return to_hosts, _copies(by_choices, num_groups, group_size)[:, 0]


# ---- private -----------------------------------------------------------------------------------------------------


def _copies(by_choices: IntArray, num_groups: int, group_size: int) -> IntArray:
    """Return the copies in blocks, of tokens with r choices there [k + 1, L, S, B]. Shape [L, S, groups * size]."""
    num_rows, *shape, _ = by_choices.shape
    counts = np.tensordot(np.arange(num_rows), by_choices, axes=1).reshape(*shape, num_groups, -1)
    return np.asarray(counts[..., :group_size].reshape(*shape, -1), dtype=np.int64)


def _iterate_odds(inclusion: FloatArray, free: BoolArray, top_k: int, step: float) -> FloatArray | None:
    """Return the probabilities of success that give the inclusion probabilities; None: the iteration diverges."""
    success, wanted_odds = inclusion.copy(), inclusion[free] / (1.0 - inclusion[free])
    for _ in range(_MAX_ITERATIONS):
        with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
            present = _inclusion_given_total(success, top_k)[free]
            factors = wanted_odds * (1.0 - present) / present
            odds = success[free] / (1.0 - success[free]) * (factors if step == 1 else factors**step)
        if np.isnan(present).any():
            return None
        if np.abs(present - inclusion[free]).max() < _TOLERANCE:
            return success
        if np.isnan(odds).any() or np.isinf(odds).any():
            return None
        success[free] = odds / (1.0 + odds)
    return None


def _inclusion_given_total(success: FloatArray, top_k: int) -> FloatArray:
    """Return the probability that each trial succeeds, given that `top_k` trials succeed. Shape [E]."""
    tables = conditional_tables(success, top_k)
    others = np.zeros((1, top_k + 1))
    others[0, 0] = 1.0
    for table in reversed(tables[:-1]):
        siblings = table.reshape(-1, 2, top_k + 1)[:, ::-1].reshape(table.shape)
        others = _convolve(np.repeat(others, 2, axis=0), siblings)
    included = success * others[: success.size, top_k - 1]
    return np.asarray(included / (included + (1.0 - success) * others[: success.size, top_k]), dtype=float)


def _convolve(first: FloatArray, second: FloatArray) -> FloatArray:
    """Return the distribution of the sum of two numbers of successes, up to top_k successes. All [B, k + 1]."""
    total = np.zeros_like(first)
    for successes in range(first.shape[1]):
        total[:, successes:] += first[:, successes, None] * second[:, : first.shape[1] - successes]
    return total


def _split(by_choices: IntArray, probabilities: list[FloatArray], streams: Streams) -> IntArray:
    """Draw how many choices of each token fall on either half of its block: [k + 1, L, S, B] to [k + 1, L, S, 2B]."""
    halves = np.zeros((*by_choices.shape, 2), dtype=np.int64)
    for r, tokens in enumerate(by_choices[1:], start=1):
        num_cells = np.count_nonzero(tokens)
        if num_cells == 0:
            continue
        rows = zip(streams, tokens, strict=True)
        if r == 1:
            first = np.stack([rng.binomial(of_row, probabilities[1][:, 1]) for rng, of_row in rows])
            halves[1, ..., 0] += first
            halves[1, ..., 1] += tokens - first
        elif num_cells * _FEW_CELLS <= tokens.size:
            row, source, block = np.nonzero(tokens)
            drawn = _draw_cells(tokens[row, source, block], probabilities[r][block], streams, row)
            for j in range(r + 1):
                halves[j, row, source, block, 0] += drawn[:, j]
                halves[r - j, row, source, block, 1] += drawn[:, j]
        else:  # a cell without tokens takes no random number, so that both ways draw the same
            drawn = np.stack([rng.multinomial(of_row, probabilities[r]) for rng, of_row in rows])
            halves[: r + 1, ..., 0] += np.moveaxis(drawn, -1, 0)
            halves[: r + 1, ..., 1] += np.moveaxis(drawn, -1, 0)[::-1]
    return halves.reshape(*by_choices.shape[:-1], -1)


def _draw_cells(tokens: IntArray, probabilities: FloatArray, streams: Streams, row: NDArray[np.intp]) -> IntArray:
    """Return the outcomes of the tokens of N cells, each with the stream of its row, in rising order. Shape [N, O]."""
    ends = np.searchsorted(row, np.arange(len(streams)), side="right").tolist()
    parts = zip(streams, [0, *ends[:-1]], ends, strict=True)
    return np.concatenate([rng.multinomial(tokens[at:end], probabilities[at:end]) for rng, at, end in parts])


def _normalise(weights: FloatArray) -> FloatArray:
    """Return probabilities in proportion to weights [B, r + 1]; a block without weight has no tokens to split."""
    sums = weights.sum(axis=1, keepdims=True)
    return np.asarray(np.divide(weights, sums, out=np.full_like(weights, 1 / weights.shape[1]), where=sums > 0))
