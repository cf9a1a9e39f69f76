"""Tokens on at most M nodes: how probable sets are next to a full list, limits, DeepSeek's rule token by token."""

import math
from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.errors import InvalidValueError
from workloads.routing import ROUTINGS, Skew, draw_counts
from workloads.routing.conditional_bernoulli import (
    bernoulli_odds,
    choose_weighted_in_groups,
    inclusion_probabilities,
)
from workloads.routing.node_limited_sampler import weighted_node_sampler
from workloads.topk_sampling import choose_in_groups

DRAWN = [name for name, kind in ROUTINGS.items() if kind.counts is None]
EVERY_DRAWN = pytest.mark.parametrize("kind", DRAWN)


def draw(kind="multinomial", *, num_sources=16, tokens=100, num_experts=16, top_k=4, nodes=4, most=None, **skewed):
    """Return counts [S, E]."""
    shape = {"num_sources": num_sources, "tokens": tokens, "num_experts": num_experts, "top_k": top_k, "seed": 1}
    limit = {"num_nodes": nodes, "max_nodes": most}
    # a node has no more than its share where it has all experts
    hot = {"expert_nodes": np.repeat(np.arange(nodes), num_experts // nodes)} if nodes > 1 else {"hot_experts": 1}
    return draw_counts(kind, layers=[0], microbatches=[0], skew=Skew(**hot, **skewed), **shape, **limit)[0, 0]


def tokens_of(sampler, *, tokens, num_experts, nodes, seed=1):
    """Return the experts of each of so many tokens, as 0 or 1: [T, E]."""
    rng = np.random.default_rng(seed)
    by_choices = sampler.draw(tokens, 1, rng)
    return choose_weighted_in_groups(by_choices[:, None], num_experts // nodes, sampler.expert_splits, [rng])[0]


def nodes_of(counts, nodes):
    """Return how many nodes each row has experts on."""
    return (counts.reshape(len(counts), nodes, -1).sum(axis=2) > 0).sum(axis=1)


def pearson_fits(chosen, probabilities):
    """Pearson's statistic over n sets has mean n - 1 and variance near 2 (n - 1): six deviations."""
    num_tokens = len(chosen)
    seen = Counter(tuple(np.flatnonzero(row).tolist()) for row in chosen)
    assert set(seen) <= set(probabilities)
    statistic = sum((seen[s] - num_tokens * p) ** 2 / (num_tokens * p) for s, p in probabilities.items())
    degrees = len(probabilities) - 1
    assert statistic <= degrees + 6 * math.sqrt(2 * degrees)


# --- sets of experts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("num_experts", "nodes", "most", "top_k"),
    [(6, 3, 2, 3), (8, 4, 1, 2), (8, 4, 2, 3), (6, 2, 1, 3), (10, 5, 3, 4), (9, 3, 2, 4), (8, 4, 3, 4)],
)
def test_alike_every_set_of_nodes_is_as_likely_and_on_it_every_set_of_experts(num_experts, nodes, most, top_k):
    """Listed: P(S) is the mean over sets of M nodes of 1 / C(M E / N, k) where these hold S."""
    size = num_experts // nodes
    probabilities: Counter[tuple[int, ...]] = Counter()
    for chosen in combinations(range(nodes), most):
        experts = [n * size + i for n in chosen for i in range(size)]
        for members in combinations(experts, top_k):
            probabilities[members] += 1 / math.comb(nodes, most) / math.comb(len(experts), top_k)
    drawn = draw(num_sources=60_000, tokens=1, num_experts=num_experts, top_k=top_k, nodes=nodes, most=most)
    assert drawn.max() == 1
    pearson_fits(drawn, probabilities)


def listed(inclusion, success, nodes, most, top_k):
    """Return P(S) and P(n in G), by every pair listed, with a[n] found in a way of its own: bisection in turns."""
    odds, size = success / (1 - success), success.size // nodes
    wanted = inclusion_probabilities(inclusion.reshape(nodes, -1).sum(axis=1) / top_k, most)
    sets = list(combinations(range(nodes), most))
    inside = np.array([[n in group for n in range(nodes)] for group in sets])
    members = [list(combinations([n * size + i for n in group for i in range(size)], top_k)) for group in sets]
    weight = np.array([sum(math.prod(odds[list(s)]) for s in of_group) for of_group in members])
    log_a = np.zeros(nodes)
    for n in list(range(nodes)) * 60:
        low, high = -40.0, 40.0
        for _ in range(60):
            log_a[n] = (low + high) / 2
            p = weight * np.exp(inside @ log_a)
            present = p[inside[:, n]].sum() / p.sum()
            low, high = (log_a[n], high) if present < wanted[n] else (low, log_a[n])
    p = weight * np.exp(inside @ log_a)
    p /= p.sum()
    of_sets: Counter[tuple[int, ...]] = Counter()
    for probability, total, of_group in zip(p, weight, members, strict=True):
        for s in of_group:
            of_sets[s] += probability * math.prod(odds[list(s)]) / total
    return of_sets, (p @ inside, wanted)


@pytest.mark.parametrize(("most", "top_k"), [(1, 2), (2, 3), (2, 4)])
def test_sets_are_as_likely_as_the_product_of_the_odds_of_nodes_and_experts(most, top_k):
    """Against every pair of nodes and experts listed, with factors of nodes found by bisection."""
    shares = np.array([0.2, 0.05, 0.1, 0.1, 0.05, 0.06, 0.04, 0.15, 0.12, 0.03, 0.04, 0.06])
    inclusion = inclusion_probabilities(shares, top_k)
    success = bernoulli_odds(inclusion, top_k)
    of_sets, (present, wanted) = listed(inclusion, success, 4, most, top_k)
    assert present == pytest.approx(wanted, abs=1e-9)
    sampler = weighted_node_sampler(inclusion, success, 4, most, top_k)
    pearson_fits(tokens_of(sampler, tokens=40_000, num_experts=12, nodes=4), of_sets)


@pytest.mark.parametrize("top_k", [2, 3])
def test_on_all_nodes_sets_are_as_probable_as_without_a_limit(top_k):
    """With M = N the sampler is used all the same, and the product of the odds of experts alone decides."""
    inclusion = inclusion_probabilities(np.array([0.3, 0.1, 0.1, 0.05, 0.2, 0.05, 0.15, 0.05]), top_k)
    success = bernoulli_odds(inclusion, top_k)
    odds = success / (1 - success)
    weights = {s: math.prod(odds[list(s)]) for s in combinations(range(8), top_k)}
    total = sum(weights.values())
    drawn = tokens_of(weighted_node_sampler(inclusion, success, 4, 4, top_k), tokens=40_000, num_experts=8, nodes=4)
    pearson_fits(drawn, {s: w / total for s, w in weights.items()})


@EVERY_DRAWN
@pytest.mark.parametrize("most", [4, 5])
def test_a_limit_that_binds_nothing_changes_no_count(kind, most):
    """M = all nodes, or as many as a token has choices: the nodes of the best top_k experts rank highest."""
    skew = 0.0 if kind == "multinomial" else 0.6
    np.testing.assert_array_equal(draw(kind, most=most, skew=skew), draw(kind, skew=skew))
    np.testing.assert_array_equal(draw(kind, most=3, top_k=3, skew=skew), draw(kind, top_k=3, skew=skew))


@EVERY_DRAWN
@pytest.mark.parametrize("most", [1, 2, 3])
def test_no_token_is_on_more_nodes_than_the_limit(kind, most):
    """Tokens seen one by one: with one node, all copies of a token are on it."""
    drawn = draw(kind, num_sources=3000, tokens=1, most=most, skew=0.0 if kind == "multinomial" else 0.6)
    assert nodes_of(drawn, 4).max() == most
    assert (drawn.sum(axis=1) == 4).all()
    assert drawn.max() == 1


@given(
    sizes=st.tuples(st.integers(2, 9), st.integers(1, 9)),
    most=st.integers(1, 9),
    top_k=st.integers(1, 8),
    kind=st.sampled_from(DRAWN),
    tokens=st.integers(0, 200),
)
def test_every_choice_of_every_token_is_routed(sizes, most, top_k, kind, tokens):
    """Whatever the sizes of nodes: counts sum to the choices, no expert has a token twice."""
    nodes, size = sizes
    most = min(most, nodes)
    top_k = min(top_k, most * size)
    keys = {"num_experts": nodes * size, "top_k": top_k, "nodes": nodes, "most": most, "tokens": tokens}
    counts = draw(kind, num_sources=5, skew=0.0 if kind == "multinomial" else 0.4, **keys)
    assert (counts.sum(axis=1) == tokens * top_k).all()
    assert counts.min() >= 0
    assert counts.max() <= tokens
    if most == 1:
        assert (counts.reshape(5, nodes, size).sum(axis=2) % top_k == 0).all()


@pytest.mark.parametrize(("num_experts", "nodes", "most", "top_k"), [(64, 8, 4, 8), (64, 8, 1, 2), (60, 5, 2, 4)])
def test_alike_experts_have_their_share_and_its_spread(num_experts, nodes, most, top_k):
    """A count is binomial with p = k / E: mean and variance over S sources, six standard errors."""
    num_sources, tokens, p = 4000, 30, top_k / num_experts
    counts = draw(num_sources=num_sources, tokens=tokens, num_experts=num_experts, top_k=top_k, nodes=nodes, most=most)
    variance = tokens * p * (1 - p)
    assert np.abs(counts.mean(axis=0) - tokens * p).max() <= 6 * math.sqrt(variance / num_sources)
    squares = ((counts - tokens * p) ** 2).mean(axis=1)
    assert squares.mean() == pytest.approx(variance, abs=6 * squares.std() / math.sqrt(num_sources))


def test_layers_and_microbatches_drawn_together_are_as_those_drawn_alone():
    shape = {"num_sources": 4, "tokens": 50, "num_experts": 24, "top_k": 6, "seed": 1, "num_nodes": 4, "max_nodes": 2}
    for kind in ("multinomial", "drift"):
        skew = Skew(skew=0.5 if kind == "drift" else 0.0)
        together = draw_counts(kind, layers=[0, 3], microbatches=[1, 2], skew=skew, **shape)
        alone = draw_counts(kind, layers=[3], microbatches=[2], skew=skew, **shape)
        np.testing.assert_array_equal(together[1, 1], alone[0, 0])


def test_dead_experts_leave_nodes_that_can_be_chosen():
    """Where one node of two alive is all that there is, or where a node has too few experts for a token alone."""
    inclusion = inclusion_probabilities(np.array([0.25, 0.25, 0.2, 0.3, 0.0, 0.0, 0.0, 0.0]), 2)
    sampler = weighted_node_sampler(inclusion, bernoulli_odds(inclusion, 2), 4, 1, 2)
    assert tokens_of(sampler, tokens=1000, num_experts=8, nodes=4)[:, 4:].sum() == 0
    counts = draw(num_experts=8, nodes=4, top_k=2, most=1, dead_experts=3)
    for pair in counts.reshape(16, 4, 2).sum(axis=0):
        assert pair[0] == pair[1]  # both or none: a node with one expert alive is of no use
    with pytest.raises(InvalidValueError, match="max_nodes_per_token must leave tokens nodes that have enough experts"):
        draw(num_experts=8, nodes=4, top_k=2, most=1, dead_experts=6, num_sources=1)


def test_choices_within_groups_of_any_size_stay_in_their_group():
    """Sizes of no power of two are halved in parts, and put in order again."""
    rng = np.random.default_rng(5)
    for size in (1, 2, 3, 5, 6, 7, 12):
        chosen = np.zeros((size + 1, 2, 3, 4), dtype=np.int64)
        chosen[:, :] = rng.integers(0, 20, size=(size + 1, 2, 3, 4))
        wanted = np.tensordot(np.arange(size + 1), chosen, axes=1)
        counts = choose_in_groups(chosen, size, [np.random.default_rng(i) for i in range(2)])
        np.testing.assert_array_equal(counts.reshape(2, 3, 4, size).sum(axis=3), wanted)


def test_what_is_not_drawn_is_the_same_or_refused():
    """Balanced counts are even on all nodes; a stride gives each token its experts by number."""
    np.testing.assert_array_equal(draw("balanced", most=1), draw("balanced"))
    with pytest.raises(InvalidValueError, match="max_nodes_per_token must be left out with kind stride"):
        draw("stride", most=1, stride=1)
    with pytest.raises(InvalidValueError, match="16 experts do not divide by their 3 nodes"):
        draw(nodes=3, most=1)


# --- next to the rule -------------------------------------------------------------------------------------------------


def top(scores, k):
    """Return the k highest of each row as 0 or 1."""
    chosen = np.zeros(scores.shape, dtype=bool)
    np.put_along_axis(chosen, np.argpartition(-scores, k, axis=1)[:, :k], True, axis=1)
    return chosen


@pytest.mark.parametrize("skew", [0.0, 0.5])
def test_nodes_are_taken_about_as_often_as_by_the_rule_of_deepseek(skew):
    """Affinities are share * Gumbel noise, biased until experts have their inclusion probabilities without a limit.

    The rule takes nodes by the sum of their best top_k / M affinities, and experts on the M best nodes. Probabilities
    of nodes agree within 0.03. Of the copies 2 % go to other experts than by the rule for each 0.1 of skew, next to 2.5
    % that are noise of 32 experts, whose probabilities are off by 0.0026 each.
    """
    num_experts, nodes, most, top_k, tokens = 32, 4, 2, 4, 20_000
    rng = np.random.default_rng(1)
    shares = rng.permutation(np.arange(1.0, num_experts + 1) ** -skew)
    inclusion = inclusion_probabilities(shares / shares.sum(), top_k)
    bias = np.log(inclusion)
    for _ in range(20):
        seen = top(bias + rng.gumbel(size=(tokens, num_experts)), top_k).mean(axis=0)
        bias += np.log(inclusion / np.maximum(seen, 1e-4))
    affinity = np.exp(bias + rng.gumbel(size=(tokens, num_experts)))
    best = np.sort(affinity.reshape(tokens, nodes, -1), axis=2)[:, :, -(top_k // most) :].sum(axis=2)
    open_ = top(best, most)
    by_rule = top(np.where(np.repeat(open_, num_experts // nodes, axis=1), affinity, -1.0), top_k)
    sampler = weighted_node_sampler(inclusion, bernoulli_odds(inclusion, top_k), nodes, most, top_k)
    drawn = tokens_of(sampler, tokens=4 * tokens, num_experts=num_experts, nodes=nodes)
    wanted = inclusion_probabilities(inclusion.reshape(nodes, -1).sum(axis=1) / top_k, most)
    assert np.abs(open_.mean(axis=0) - wanted).max() < 0.03
    assert np.abs(by_rule.mean(axis=0) - drawn.mean(axis=0)).sum() / top_k < 0.025 + 0.2 * skew
