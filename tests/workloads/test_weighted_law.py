"""Draws by the shares of experts have the law of tokens that choose one by one, listed whole or drawn the slow way."""

import math
from collections import Counter
from itertools import combinations, product

import numpy as np
import pytest

import workloads.routing.conditional_bernoulli as module
import workloads.routing.draw as draw_module
from workloads.routing import Skew, draw_counts, draw_for_hosts
from workloads.routing.conditional_bernoulli import (
    bernoulli_odds,
    choose_weighted,
    conditional_tables,
    inclusion_probabilities,
)
from workloads.routing.kept_draws import KeptDraws

SHARES = np.array([0.35, 0.2, 0.15, 0.12, 0.1, 0.08])


def odds(num_experts, top_k):
    """Return the probability of success of each expert's trial."""
    return bernoulli_odds(inclusion_probabilities(SHARES[:num_experts] / SHARES[:num_experts].sum(), top_k), top_k)


def drawn(success, *, num_sources, tokens, top_k, seed=1):
    """Return counts [S, E]."""
    tables = conditional_tables(success, top_k)
    return choose_weighted(num_sources, tokens, success.size, tables, [np.random.default_rng(seed)])[0]


def one_by_one(success, *, num_tokens, top_k, rng):
    """Return who takes whom [T, E]: each token passes the experts in order, and takes one by the odds of what is left.

    With r choices left before expert e it takes e by P(e succeeds, r - 1 of those behind do) / P(r of e and those do).
    """
    left = np.zeros((success.size + 1, top_k + 1))
    left[-1, 0] = 1.0
    for e in reversed(range(success.size)):
        left[e] = (1 - success[e]) * left[e + 1]
        left[e, 1:] += success[e] * left[e + 1, :-1]
    remaining, taken = np.full(num_tokens, top_k), np.zeros((num_tokens, success.size), dtype=bool)
    for e in range(success.size):
        chance = success[e] * left[e + 1][remaining - 1] / left[e][remaining]
        taken[:, e] = (remaining > 0) & (rng.random(num_tokens) < chance)
        remaining -= taken[:, e]
    return taken


def chi_square_limit(means):
    """Return six deviations above the mean of Pearson's statistic; rare outcomes add 1 / mean to its variance."""
    degrees = len(means) - 1
    return degrees + 6 * math.sqrt(2 * degrees + sum(1 / mean for mean in means))


@pytest.mark.parametrize(("num_experts", "top_k", "tokens"), [(3, 2, 3), (4, 2, 2), (5, 3, 2), (6, 4, 2), (6, 1, 3)])
def test_counts_are_as_likely_as_sums_of_sets_chosen_one_by_one(num_experts, top_k, tokens):
    """Every combination of sets is listed, each set with the product of its odds as weight."""
    num_sources, success = 60_000, odds(num_experts, top_k)
    sets = [np.isin(np.arange(num_experts), members) for members in combinations(range(num_experts), top_k)]
    weights = [np.prod(np.where(members, success, 1 - success)) for members in sets]
    sets, weights = zip(*[(each, weight) for each, weight in zip(sets, weights, strict=True) if weight], strict=True)
    law = Counter()
    for several in product(range(len(sets)), repeat=tokens):
        law[tuple(sum(sets[i].astype(int) for i in several))] += math.prod(weights[i] for i in several)
    total = sum(law.values())
    seen = Counter(map(tuple, drawn(success, num_sources=num_sources, tokens=tokens, top_k=top_k).tolist()))
    assert set(seen) <= set(law)
    means = {counts: num_sources * weight / total for counts, weight in law.items()}
    statistic = sum((seen[counts] - mean) ** 2 / mean for counts, mean in means.items())
    assert statistic <= chi_square_limit(list(means.values()))


@pytest.mark.parametrize(("num_experts", "top_k"), [(6, 3), (40, 8)])
def test_pairs_of_experts_are_taken_together_as_by_a_sequential_draw(num_experts, top_k):
    """Frequencies of pairs over n tokens of each; a difference has deviation sqrt(2 p (1 - p) / n), six of them."""
    num_tokens = 40_000
    shares = np.arange(1, num_experts + 1) ** -0.7
    success = bernoulli_odds(inclusion_probabilities(shares / shares.sum(), top_k), top_k)
    fast = drawn(success, num_sources=num_tokens, tokens=1, top_k=top_k).astype(float)
    slow = one_by_one(success, num_tokens=num_tokens, top_k=top_k, rng=np.random.default_rng(2)).astype(float)
    assert (slow.sum(axis=1) == top_k).all()
    of_fast, of_slow = fast.T @ fast / num_tokens, slow.T @ slow / num_tokens
    p = (of_fast + of_slow) / 2
    assert (np.abs(of_fast - of_slow) <= 6 * np.sqrt(2 * p * (1 - p) / num_tokens) + 1 / num_tokens).all()


@pytest.mark.parametrize("few", [1, 10**9])
def test_levels_drawn_whole_and_cell_by_cell_are_the_same(few, monkeypatch):
    """A cell without tokens takes no random number: where tokens are few those cells may be left out."""
    wanted = drawn(odds(6, 4), num_sources=50, tokens=3, top_k=4)
    monkeypatch.setattr(module, "_FEW_CELLS", few)
    np.testing.assert_array_equal(drawn(odds(6, 4), num_sources=50, tokens=3, top_k=4), wanted)


# --- kept draws ------------------------------------------------------------------------------------------------------

SHAPE = {"num_sources": 4, "tokens": 50, "num_experts": 8, "top_k": 2, "layers": [0, 1], "microbatches": [0, 1]}


@pytest.mark.parametrize("kind", ["multinomial", "zipf"])
def test_what_was_drawn_before_is_not_drawn_again_and_is_the_same(kind, monkeypatch):
    """Whatever is done to the counts that were returned, and however little is kept."""
    monkeypatch.setattr(draw_module, "_kept", KeptDraws())
    keys = {**SHAPE, "skew": Skew(skew=0.5 if kind == "zipf" else 0.0)}
    first = draw_counts(kind, **keys, seed=1)
    wanted = first.copy()
    first[:] = 0
    monkeypatch.setattr(draw_module, "_choices", lambda *_: pytest.fail("what is kept is not drawn again"))
    np.testing.assert_array_equal(draw_counts(kind, **keys, seed=1), wanted)
    monkeypatch.undo()
    monkeypatch.setattr(draw_module, "_kept", KeptDraws(most_bytes=600))  # two of the four draws
    for _ in range(2):
        np.testing.assert_array_equal(draw_counts(kind, **keys, seed=1), wanted)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 2},
        {"lane": 1},
        {"tokens": 51},
        {"top_k": 3},
        {"skew": Skew(skew=0.6)},
        {"skew": Skew(skew=0.5, shuffled=False)},
        {"num_nodes": 4, "max_nodes": 1},
        {"kind": "multinomial"},
    ],
)
def test_a_draw_that_differs_in_anything_is_drawn(change, monkeypatch):
    """The same counts as where nothing is kept, for each setting that a draw depends on."""
    keys = {"kind": "zipf", **SHAPE, "skew": Skew(skew=0.5), "seed": 1}
    monkeypatch.setattr(draw_module, "_kept", KeptDraws(most_bytes=0))
    alone = draw_counts(**{**keys, **change})
    monkeypatch.setattr(draw_module, "_kept", KeptDraws())
    assert draw_counts(**keys).tobytes() != alone.tobytes()
    np.testing.assert_array_equal(draw_counts(**{**keys, **change}), alone)


def test_the_draws_used_last_are_kept_within_their_memory():
    """Of draws of 80 bytes two fit into 160: the one that was not used for longest goes."""
    kept, asked = KeptDraws(most_bytes=160), []

    def draw(missing):
        asked.append(len(missing))
        return [np.zeros((1, 10), dtype=np.int64) for _ in missing]

    for keys in ("ab", "a", "c", "a", "b"):
        kept.counts(keys, draw)
    assert asked == [2, 1, 1]


@pytest.mark.parametrize("num_hosts", [None, 4])
@pytest.mark.parametrize("kind", ["multinomial", "zipf"])
def test_a_draw_is_the_same_alone_and_together_with_others(kind, num_hosts):
    """Also where sources have few tokens, so that most cells of a batch are empty, and where layers' shares differ."""
    shape = {"num_sources": 8, "tokens": 40, "num_experts": 16, "top_k": 5, "seed": 3, "skew": Skew(skew=0.8)}

    def counts(layers, microbatches):
        if num_hosts is None:
            return [draw_counts(kind, layers=layers, microbatches=microbatches, **shape)]
        return draw_for_hosts(kind, num_hosts=num_hosts, layers=layers, microbatches=microbatches, **shape)

    together = counts(range(2), range(3))
    for microbatch, layer in np.ndindex(3, 2):
        for of_all, alone in zip(together, counts([layer], [microbatch]), strict=True):
            of_draw = of_all.reshape(6, *alone.shape)[2 * microbatch + layer]
            np.testing.assert_array_equal(of_draw.reshape(alone.shape), alone)
