"""Skewed routing: shares mean what they say, and counts have the distribution of tokens that choose one by one."""

import math
from itertools import combinations, pairwise

import numpy as np
import pytest

from sim.errors import InvalidValueError
from workloads.routing import ROUTINGS, Skew, draw_counts, expert_shares
from workloads.routing.conditional_bernoulli import (
    bernoulli_odds,
    choose_weighted,
    conditional_tables,
    inclusion_probabilities,
)
from workloads.routing.request import RoutingRequest

FOUR_NODES = np.repeat(np.arange(4), 4)
"""Node of each of sixteen experts."""
SKEWED = [name for name, kind in ROUTINGS.items() if kind.skew_measure is not None]


def draw(kind, *, skew, num_sources=16, tokens=100, num_experts=16, top_k=2, layers=(0,), microbatches=(0,), seed=1):
    """Return counts [M, L, S, E]."""
    shape = {"num_sources": num_sources, "tokens": tokens, "num_experts": num_experts, "top_k": top_k, "seed": seed}
    return draw_counts(kind, layers=layers, microbatches=microbatches, skew=skew, **shape)


def shares(kind, skew, *, num_experts=16, top_k=2, seed=1, layer=0, microbatch=0):
    """Return shares [E]."""
    request = RoutingRequest(num_experts=num_experts, top_k=top_k, seed=seed, kind=kind, skew=skew)
    return expert_shares(request, layer, microbatch)


# --- sets of experts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("top_k", [1, 2, 3, 4])
def test_the_odds_give_every_expert_its_inclusion_probability(top_k):
    """Summed over all sets of experts, each with the product of its odds as weight."""
    inclusion = inclusion_probabilities(np.array([0.3, 0.25, 0.2, 0.1, 0.08, 0.07]), top_k)
    success = bernoulli_odds(inclusion, top_k)
    total, seen = 0.0, np.zeros(6)
    for members in combinations(range(6), top_k):
        inside = np.isin(np.arange(6), members)
        weight = np.prod(np.where(inside, success, 1 - success))
        total += weight
        seen += weight * inside
    assert seen / total == pytest.approx(inclusion, abs=1e-9)
    assert inclusion.sum() == pytest.approx(top_k)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("kind", "skew"), [("zipf", 50.0), ("zipf", 10.0), ("power_law", 10.0), ("power_law", 50.0)])
def test_strong_skew_is_no_uniform_choice(kind, skew):
    """Each of N tokens takes expert e with probability pi: the count has deviation sqrt(N pi (1 - pi)); six of them."""
    num_tokens, top_k = 10_000, 2
    skewed = Skew(skew=skew)
    counts = draw(kind, skew=skewed, num_sources=1, tokens=num_tokens, top_k=top_k)[0, 0, 0]
    inclusion = inclusion_probabilities(shares(kind, skewed, top_k=top_k), top_k)
    allowed = 6 * np.sqrt(num_tokens * inclusion * (1 - inclusion)) + 1e-4 * num_tokens
    assert (np.abs(counts - num_tokens * inclusion) <= allowed).all()


@pytest.mark.filterwarnings("error")
def test_odds_that_swing_are_found_by_smaller_steps_or_refused():
    """Two experts share two choices all but whole: with 1e-4 left to others it works, with 1e-9 nothing converges."""
    found = inclusion_probabilities(np.array([1.0, 1.0, 1e-4, 1e-5]) / (2 + 1.1e-4), 2)
    tables, streams = conditional_tables(bernoulli_odds(found, 2), 2), [np.random.default_rng(1)]
    chosen = choose_weighted(1, 10**8, 4, tables, streams)[0, 0]
    assert (np.abs(chosen - 1e8 * found) <= 6 * np.sqrt(1e8 * found * (1 - found))).all()
    with pytest.raises(
        InvalidValueError, match=r"routing\.skew must be so weak that tokens can take top_k = 2 distinct"
    ):
        bernoulli_odds(inclusion_probabilities(np.array([1.0, 1.0, 2e-9, 8e-10, 3e-10]) / 2, 2), 2)


def test_sets_are_as_likely_as_the_product_of_their_odds():
    """Pearson's statistic of N tokens over n sets has mean n - 1 and variance near 2 (n - 1): six deviations."""
    num_tokens, top_k = 60_000, 2
    inclusion = inclusion_probabilities(np.array([0.4, 0.2, 0.2, 0.1, 0.1]), top_k)
    success = bernoulli_odds(inclusion, top_k)
    chosen = choose_weighted(num_tokens, 1, 5, conditional_tables(success, top_k), [np.random.default_rng(1)])[0]
    assert chosen.max() == 1
    weights = {
        m: np.prod(np.where(np.isin(np.arange(5), m), success, 1 - success)) for m in combinations(range(5), top_k)
    }
    total = sum(weights.values())
    digits = chosen @ 2 ** np.arange(5)
    statistic = 0.0
    for members, weight in weights.items():
        mean = num_tokens * weight / total
        statistic += ((digits == sum(2**m for m in members)).sum() - mean) ** 2 / mean
    assert statistic <= len(weights) - 1 + 6 * math.sqrt(2 * (len(weights) - 1))


@pytest.mark.parametrize("top_k", [1, 2, 8])
@pytest.mark.parametrize("kind", SKEWED)
def test_mean_counts_are_the_inclusion_probabilities(kind, top_k):
    """A count is binomial: over S sources its mean has variance T p (1 - p) / S; six deviations."""
    num_sources, tokens, skew = 3000, 20, Skew(skew=0.6, burst_share=1.0, expert_nodes=FOUR_NODES)
    counts = draw(kind, skew=skew, num_sources=num_sources, tokens=tokens, top_k=top_k)[0, 0]
    inclusion = inclusion_probabilities(shares(kind, skew, top_k=top_k), top_k)
    error = np.sqrt(tokens * inclusion * (1 - inclusion) / num_sources)
    assert (counts.sum(axis=1) == tokens * top_k).all()
    assert counts.max() <= tokens
    assert (np.abs(counts.mean(axis=0) - tokens * inclusion) <= 6 * error + 1e-9).all()


def test_an_expert_has_at_most_the_tokens():
    """However popular: the rest goes to the others."""
    counts = draw("zipf", skew=Skew(skew=4.0), top_k=4)[0, 0]
    assert counts.max() == 100
    assert (counts.sum(axis=1) == 400).all()


# --- sources -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SKEWED)
def test_without_skew_all_experts_are_alike(kind):
    assert shares(kind, Skew(skew=0.0, expert_nodes=FOUR_NODES)) == pytest.approx(1 / 16)


def test_the_hot_expert_takes_its_share_of_the_tokens():
    """Share s of tokens and top-k: probability s for the hot expert, (k - s) / (E - 1) for the others."""
    inclusion = inclusion_probabilities(shares("hot_expert", Skew(skew=0.6, shuffled=False)), 2)
    assert inclusion == pytest.approx([0.6] + [1.4 / 15] * 15)


def test_the_hot_node_takes_its_share_of_the_copies():
    """Half of them over its four experts of sixteen; unshuffled it is the first node, and experts are hot in order."""
    in_order = {"skew": 0.5, "expert_nodes": FOUR_NODES, "shuffled": False}
    assert shares("hot_node", Skew(**in_order)) == pytest.approx([0.125] * 4 + [0.5 / 12] * 12)
    assert shares("hot_node", Skew(**in_order, hot_experts=2)) == pytest.approx([0.25] * 2 + [0.5 / 14] * 14)


def test_each_layer_draws_one_node_that_is_hot():
    """All of its experts and no others; every node is the hot one of some of 40 layers, of each as likely."""
    skew = Skew(skew=0.5, expert_nodes=FOUR_NODES)
    hot = np.array([shares("hot_node", skew, layer=layer) > 1 / 16 for layer in range(40)]).reshape(40, 4, 4)
    assert (hot.all(axis=2) | ~hot.any(axis=2)).all()
    assert (hot.any(axis=2).sum(axis=1) == 1).all()
    assert (np.abs(hot.any(axis=2).sum(axis=0) - 10) <= 3 * math.sqrt(40 * 3 / 16)).all()


@pytest.mark.parametrize(("hot_experts", "of_nodes"), [(3, [3, 0, 0, 0]), (4, [4, 0, 0, 0]), (6, [4, 2, 0, 0])])
def test_hot_experts_are_those_of_a_node_first(hot_experts, of_nodes):
    skew = Skew(skew=0.9, expert_nodes=FOUR_NODES, hot_experts=hot_experts)
    chosen = set()
    for layer in range(20):
        hot = shares("hot_node", skew, layer=layer) > 1 / 16
        assert sorted(hot.reshape(4, 4).sum(axis=1), reverse=True) == of_nodes
        chosen.add(hot.tobytes())
    assert len(chosen) > 3  # fewer than a node has are drawn anew in each layer too


def test_a_hot_node_among_nodes_that_are_not_alike_is_whole():
    """Five experts on one, eleven on the other: the share is that of however many the drawn one has."""
    nodes = np.repeat([0, 1], [5, 11])
    for layer in range(10):
        found = shares("hot_node", Skew(skew=0.9, expert_nodes=nodes), layer=layer)
        assert sorted(np.bincount(nodes, weights=found)) == pytest.approx([0.1, 0.9])


def test_one_node_alone_is_not_hot():
    with pytest.raises(InvalidValueError, match="hot_experts must be given with kind hot_node where one node has all"):
        shares("hot_node", Skew(skew=0.5))


def test_the_skew_of_dirichlet_is_the_coefficient_of_variation_of_a_share():
    """Over 400 layers of 64 experts: the variance of a share, whose estimate is good to a few percent."""
    found = np.concatenate([shares("dirichlet", Skew(skew=0.5), num_experts=64, layer=layer) for layer in range(400)])
    assert found.std() * 64 == pytest.approx(0.5, rel=0.05)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("below", [1e-3, 1e-5, 1e-9, 1e-15])
def test_near_the_limit_of_dirichlet_one_expert_has_nearly_all(below, seed):
    """Of 32: the sum of squared shares is (1 + skew**2) / 32 in the mean, 1 at the limit. None is 0 or no number."""
    found = shares("dirichlet", Skew(skew=math.sqrt(31) * (1 - below)), num_experts=32, seed=seed)
    assert found.sum() == pytest.approx(1)
    assert found.min() > 0
    assert 1 - found.max() <= 1e3 * below + 32e-12  # the others have at least 1e-12 of it
    counts = draw("dirichlet", skew=Skew(skew=math.sqrt(31) * (1 - below)), num_experts=32, top_k=1, seed=seed)
    assert counts.sum() == 1600


def test_logarithms_give_the_distribution_of_dirichlet_as_well():
    """The mean of the squared shares over 4,000 layers is (1 + skew**2) / E, on either side of where they are drawn."""
    for skew in (3.2, 3.6, 5.0):
        squares = [
            (shares("dirichlet", Skew(skew=skew), num_experts=32, layer=layer) ** 2).sum() for layer in range(4000)
        ]
        error = np.std(squares) / math.sqrt(len(squares))
        assert np.mean(squares) == pytest.approx((1 + skew**2) / 32, abs=5 * error)


def test_a_share_that_dirichlet_cannot_have_is_refused():
    with pytest.raises(InvalidValueError, match="coefficient of variation"):
        shares("dirichlet", Skew(skew=4.0))


def test_drift_keeps_its_spread_and_forgets_by_its_persistence():
    """Log shares less their mean: deviation `skew`, correlation persistence**d at distance d; 4,096 of each."""
    skew = Skew(skew=0.7, persistence=0.8)
    logs = {
        m: np.concatenate(
            [np.log(shares("drift", skew, num_experts=64, layer=layer, microbatch=m)) for layer in range(64)]
        )
        for m in (-3, 0, 40)
    }
    logs = {m: (v.reshape(64, 64) - v.reshape(64, 64).mean(axis=1, keepdims=True)).ravel() for m, v in logs.items()}
    assert [v.std() for v in logs.values()] == pytest.approx([0.7] * 3, rel=0.06)
    assert np.corrcoef(logs[-3], logs[0])[0, 1] == pytest.approx(0.8**3, abs=0.06)
    assert np.corrcoef(logs[0], logs[40])[0, 1] == pytest.approx(0.0, abs=0.06)


def test_bursts_come_as_often_as_they_should():
    """1,000 microbatches with probability 0.2: standard deviation 12.6; five of them."""
    skew = Skew(skew=0.5, burst_share=0.2)
    bursts = sum(shares("bursty", skew, microbatch=m).max() > 0.2 for m in range(1000))
    assert abs(bursts - 200) <= 63


@pytest.mark.parametrize(("correlation", "same"), [(0.0, 0), (1.0, 99)])
def test_layers_that_are_fully_correlated_have_the_same_hot_expert(correlation, same):
    found = [
        int(np.argmax(shares("zipf", Skew(skew=1.0, layer_correlation=correlation), num_experts=64, layer=layer)))
        for layer in range(100)
    ]
    agreeing = sum(a == b for a, b in pairwise(found))
    assert abs(agreeing - same) <= 10  # by chance 99 / 64


def test_dead_experts_get_nothing():
    counts = draw("multinomial", skew=Skew(dead_experts=5))[0, 0]
    assert (counts.sum(axis=0) == 0).sum() == 5
    assert counts.sum() == 16 * 200


def test_a_stride_balances_over_some_ranks_and_leaves_others_idle():
    totals = draw("stride", skew=Skew(stride=4))[0, 0].sum(axis=0)
    assert np.flatnonzero(totals).tolist() == [0, 4, 8, 12]
    assert np.ptp(totals[::4]) == 0


def test_a_recording_is_replayed_and_repeated():
    loads = np.array([[[1.0, 1.0, 2.0, 0.0]], [[0.0, 4.0, 0.0, 4.0]]])
    skew = Skew(loads=loads)
    for microbatch in (0, 2, -2):
        assert shares("trace", skew, num_experts=4, layer=7, microbatch=microbatch) == pytest.approx(
            [0.25, 0.25, 0.5, 0]
        )


def test_a_draw_depends_on_its_own_layer_and_microbatch_alone():
    skew = Skew(skew=0.8)
    together = draw("drift", skew=skew, layers=(0, 1), microbatches=(0, 1, 2))
    np.testing.assert_array_equal(together[2, 1], draw("drift", skew=skew, layers=(1,), microbatches=(2,))[0, 0])


def test_too_few_living_experts_are_refused():
    with pytest.raises(InvalidValueError, match="dead_experts must leave top_k = 2"):
        draw("zipf", skew=Skew(skew=1.0, dead_experts=15))


# --- how uneven random routing is -----------------------------------------------------------------------------------


NUM_DRAWS = 100_000
SIZES = pytest.mark.parametrize("tokens", [5120, 1024, 64])
"""Tokens of each of 16 sources: of the document's microbatches at 10,240 and 2,048 tokens a sequence, and few."""


def max_over_mean(tokens, top_k):
    """Return the busiest expert over the mean in 2,000 draws of 16 sources over 64 experts."""
    shape = {"num_sources": 16, "tokens": tokens, "num_experts": 64, "top_k": top_k, "seed": 1}
    counts = draw_counts("multinomial", layers=range(40), microbatches=range(50), **shape).sum(axis=2).reshape(-1, 64)
    return counts.max(axis=1) / counts.mean(axis=1)


def agree(seen, estimate):
    """Both means, to five standard errors of their difference."""
    error = math.hypot(seen.std() / math.sqrt(seen.size), estimate.std() / math.sqrt(estimate.size))
    assert seen.mean() == pytest.approx(estimate.mean(), abs=5 * error)
    assert error < 0.02 * (estimate.mean() - 1)  # so that it would be seen if the excess over 1 were 10 % off


@SIZES
def test_the_busiest_of_64_experts_is_as_busy_as_in_100_000_multinomial_draws(tokens):
    """Top-1: against numpy's own multinomial."""
    copies, rng = 16 * tokens, np.random.default_rng(7)
    parts = [rng.multinomial(copies, np.full(64, 1 / 64), size=NUM_DRAWS // 10).max(axis=1) for _ in range(10)]
    agree(max_over_mean(tokens, 1), np.concatenate(parts) * 64 / copies)


@SIZES
def test_the_busiest_of_64_experts_at_top_2_is_as_busy_as_in_100_000_draws_of_the_same_moments(tokens):
    """Counts have variance n p (1 - p), p = 2 / 64, and correlation -1 / 63: so have binomials less their own mean.

    They are spread by sqrt(64 / 63), for the mean of 64 takes a 64th of the variance with it.
    """
    num_tokens, rng = 16 * tokens, np.random.default_rng(7)
    mean, parts = num_tokens * 2 / 64, []
    for _ in range(10):
        free = rng.binomial(num_tokens, 2 / 64, size=(NUM_DRAWS // 10, 64))
        parts.append(mean + math.sqrt(64 / 63) * (free.max(axis=1) - free.mean(axis=1)))
    agree(max_over_mean(tokens, 2), np.concatenate(parts) / mean)


@pytest.mark.slow
def test_the_busiest_of_64_experts_at_top_2_is_as_busy_as_in_100_000_draws_token_by_token():
    """A microbatch of 1,024 tokens: each takes one of 64, and another of the other 63."""
    rng, parts = np.random.default_rng(7), []
    for _ in range(NUM_DRAWS // 500):
        first = rng.integers(64, size=(500, 1024))
        second = (first + rng.integers(1, 64, size=first.shape)) % 64
        place = np.arange(500)[:, None] * 64
        counts = np.bincount((place + np.concatenate([first, second], axis=1)).ravel(), minlength=500 * 64)
        parts.append(counts.reshape(500, 64).max(axis=1))
    agree(max_over_mean(64, 2), np.concatenate(parts) / 32)
