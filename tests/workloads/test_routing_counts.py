"""Routing: counts are conserved, balanced is as even as can be, random draws have the moments of theory."""

import math
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.errors import InvalidValueError
from workloads.routing import ROUTINGS, RoutingKind, Skew, draw_counts
from workloads.topk_sampling import choose_experts

EVERY_ROUTING = pytest.mark.parametrize("kind", ROUTINGS)
NEEDED = {"stride": 1, "hot_experts": 1}
"""What a stride and a hot node cannot do without."""
KEYS = {"seed": 1, "layer": 2, "microbatch": 3, "lane": 0}


def draw(kind: str, *, num_sources=16, tokens=64, num_experts=64, top_k=2, **keys) -> np.ndarray:
    keys = {**KEYS, **keys}
    layer, microbatch = keys.pop("layer"), keys.pop("microbatch")
    shape = {"num_sources": num_sources, "tokens": tokens, "num_experts": num_experts, "top_k": top_k}
    skew = Skew(**NEEDED, loads=np.ones((1, 1, num_experts)))
    return draw_counts(kind, layers=[layer], microbatches=[microbatch], skew=skew, **shape, **keys)[0, 0]


@st.composite
def shapes(draw: st.DrawFn) -> dict[str, int]:
    num_experts = draw(st.integers(1, 64))
    return {
        "num_sources": draw(st.integers(1, 32)),
        "tokens": draw(st.integers(0, 500)),
        "num_experts": num_experts,
        "top_k": draw(st.integers(1, num_experts)),
        "layer": draw(st.integers(0, 60)),
        "microbatch": draw(st.integers(0, 60)),
    }


# --- certificates --------------------------------------------------------------------------------------------------


@EVERY_ROUTING
@given(shape=shapes())
def test_every_choice_of_every_token_is_routed(kind, shape):
    counts = draw(kind, **shape)
    assert counts.shape == (shape["num_sources"], shape["num_experts"])
    assert counts.dtype == np.int64
    assert (counts >= 0).all()
    assert (counts.sum(axis=1) == shape["tokens"] * shape["top_k"]).all()


@given(shape=shapes())
def test_balanced_is_as_even_as_whole_tokens_allow(shape):
    """By one at most: in each row, and in the totals of the experts over all sources."""
    counts = draw("balanced", **shape)
    assert np.ptp(counts, axis=1).max() <= 1
    assert np.ptp(counts.sum(axis=0)) <= 1


@given(shape=shapes())
def test_balanced_relabels_the_sources_from_layer_to_layer(shape):
    """So that a remainder does not meet the same expert in every layer: source s + 1 plays source s."""
    now, later = draw("balanced", **shape), draw("balanced", **{**shape, "layer": shape["layer"] + 1})
    np.testing.assert_array_equal(later[:-1], now[1:])


def test_balanced_ignores_seed_and_microbatch():
    np.testing.assert_array_equal(draw("balanced"), draw("balanced", seed=9, microbatch=8))


# --- moments -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tokens", "num_experts", "top_k"),
    [
        (64, 64, 2),
        (1000, 8, 1),
        (16, 128, 8),
        (50, 8, 2),
        (2000, 21, 2),
        (500, 37, 4),
        (9, 300, 1),
        (40, 160, 8),
        (40, 256, 8),
        (100, 6, 4),
        (20_000, 8, 2),
    ],
)
def test_the_spread_of_multinomial_counts_is_that_of_distinct_choices(tokens, num_experts, top_k):
    """A count has variance n p (1 - p), p = k / E; so sum of (count - mean)^2 / mean has mean E (1 - p) = E - k.

    Its mean over S independent sources lies within 5 of its standard errors, but for 6e-7.
    """
    num_sources = 4000
    counts = draw("multinomial", num_sources=num_sources, tokens=tokens, num_experts=num_experts, top_k=top_k)
    mean = tokens * top_k / num_experts
    statistic = ((counts - mean) ** 2 / mean).sum(axis=1)
    error = statistic.std() / np.sqrt(num_sources)
    assert statistic.mean() == pytest.approx(num_experts - top_k, abs=5 * error)


SMALL = [(e, k) for e in (1, 2, 3, 6, 8) for k in (1, 2, 4, 8) if k <= e]


@pytest.mark.parametrize(("num_experts", "top_k"), SMALL)
def test_every_set_of_experts_is_chosen_equally_often(num_experts, top_k):
    """Pearson's statistic of S tokens over n sets has mean n - 1 and variance near 2 (n - 1): six deviations."""
    num_tokens, num_sets = 70_000, math.comb(num_experts, top_k)
    chosen = draw("multinomial", num_sources=num_tokens, tokens=1, num_experts=num_experts, top_k=top_k)
    assert chosen.max() == 1
    _, seen = np.unique(chosen @ 2 ** np.arange(num_experts), return_counts=True)
    assert seen.size == num_sets
    mean = num_tokens / num_sets
    assert ((seen - mean) ** 2 / mean).sum() <= num_sets - 1 + 6 * math.sqrt(2 * (num_sets - 1))


@pytest.mark.parametrize("tokens", [2, 3])
@pytest.mark.parametrize(("num_experts", "top_k"), [(3, 2), (4, 2), (5, 3), (6, 4)])
def test_tokens_of_a_source_choose_alone(num_experts, top_k, tokens):
    """Counts of n tokens are as likely as sums of n sets chosen one by one, every combination of sets listed."""
    num_sources = 100_000
    sets = [np.isin(np.arange(num_experts), members) for members in combinations(range(num_experts), top_k)]
    digits = (tokens + 1) ** np.arange(num_experts)
    sums = [int(np.sum(several, axis=0) @ digits) for several in product(sets, repeat=tokens)]
    outcomes, ways = np.unique(sums, return_counts=True)
    drawn = draw("multinomial", num_sources=num_sources, tokens=tokens, num_experts=num_experts, top_k=top_k) @ digits
    found, seen = np.unique(drawn, return_counts=True)
    assert np.isin(found, outcomes).all()
    mean = num_sources * ways / ways.sum()
    counted = np.zeros(outcomes.size)
    counted[np.searchsorted(outcomes, found)] = seen
    degrees = outcomes.size - 1
    # rare outcomes add the sum of 1 / mean to the variance
    assert ((counted - mean) ** 2 / mean).sum() <= degrees + 6 * math.sqrt(2 * degrees + (1 / mean).sum())


@pytest.mark.parametrize("top_k", [2, 3, 4, 8])
@pytest.mark.parametrize("num_experts", [9, 16, 21, 60, 64])
def test_every_pair_of_experts_is_chosen_equally_often(num_experts, top_k):
    """A token has both of a pair with p = k (k - 1) / (E (E - 1)), in one block of the split or in two.

    The frequency over S tokens has standard deviation sqrt(p (1 - p) / S); six of them, and the step of one token, hold
    for 2,016 pairs but for 4e-6.
    """
    num_tokens = 40_000
    chosen = draw("multinomial", num_sources=num_tokens, tokens=1, num_experts=num_experts, top_k=top_k)
    assert chosen.max() == 1
    chosen = chosen.astype(float)  # a product of doubles takes a hundredth of the time
    together = (chosen.T @ chosen)[np.triu_indices(num_experts, 1)] / num_tokens
    p = top_k * (top_k - 1) / (num_experts * (num_experts - 1))
    assert np.abs(together - p).max() < 6 * np.sqrt(p * (1 - p) / num_tokens) + 1 / num_tokens


@pytest.mark.parametrize("tokens", [1, 63, 5000])
@pytest.mark.parametrize("top_k", [1, 2, 4, 8])
@pytest.mark.parametrize("num_experts", [60, 64, 160, 256])
def test_every_expert_gets_its_share(num_experts, top_k, tokens):
    """Totals over S sources of n tokens each have variance S n p (1 - p), p = k / E; six deviations, by expert."""
    num_sources, p = 200, top_k / num_experts
    totals = draw("multinomial", num_sources=num_sources, tokens=tokens, num_experts=num_experts, top_k=top_k).sum(0)
    num_tokens = num_sources * tokens
    assert np.abs(totals - num_tokens * p).max() < 6 * math.sqrt(num_tokens * p * (1 - p)) + 1


@pytest.mark.parametrize(("tokens", "num_experts", "top_k"), [(30, 12, 2), (3000, 12, 2), (3000, 64, 2), (3000, 20, 4)])
def test_counts_of_two_experts_vary_together_as_distinct_choices_do(tokens, num_experts, top_k):
    """Their covariance is n (p2 - p^2) with p = k / E, p2 = k (k - 1) / (E (E - 1)), whoever the two are.

    So sums of r experts have variance n r (p - p^2 + (r - 1) (p2 - p^2)). An estimate of a variance from S normal
    sums has the relative standard error sqrt(2 / S); six of them, for halves and for neighbours.
    """
    num_sources = 4000
    counts = draw("multinomial", num_sources=num_sources, tokens=tokens, num_experts=num_experts, top_k=top_k)
    p, p2 = top_k / num_experts, top_k * (top_k - 1) / (num_experts * (num_experts - 1))
    for some in (counts[:, :2], counts[:, 1::5], counts[:, : num_experts // 2]):
        r = some.shape[1]
        wanted = tokens * r * (p - p**2 + (r - 1) * (p2 - p**2))
        assert some.sum(axis=1).var() == pytest.approx(wanted, rel=6 * np.sqrt(2 / num_sources))


class SameBits(np.random.Generator):
    """A stream whose random bits are all ones, or all zeros."""

    def __init__(self, word: int) -> None:
        super().__init__(np.random.PCG64(1))
        self._word = word

    @property
    def bit_generator(self) -> "SameBits":
        """The stream itself."""
        return self

    def random_raw(self, num_words: int) -> np.ndarray:
        """Return the same word again and again."""
        return np.full(num_words, self._word, dtype=np.uint64)


def test_successes_are_as_many_as_the_trials_where_every_bit_is_one():
    """However few or many bits of its last word a cell needs: all tokens go to one expert, none to the other."""
    for tokens in (0, 1, 31, 63, 64, 65, 127, 128, 129, 1000):
        for word, wanted in ((2**64 - 1, [tokens, 0]), (0, [0, tokens])):
            np.testing.assert_array_equal(choose_experts(3, tokens, 2, 1, [SameBits(word)] * 2), [[wanted] * 3] * 2)


def test_a_token_meets_distinct_experts():
    """No expert gets a token twice; with as many choices as experts, each gets every token."""
    assert draw("multinomial", tokens=3, num_experts=4, top_k=3).max() <= 3
    assert (draw("multinomial", tokens=7, num_experts=5, top_k=5) == 7).all()


# --- streams -------------------------------------------------------------------------------------------------------


@EVERY_ROUTING
def test_the_same_keys_give_the_same_draw(kind):
    np.testing.assert_array_equal(draw(kind), draw(kind))


def test_each_seed_layer_microbatch_and_lane_has_a_draw_of_its_own():
    keys = [dict(zip(KEYS, values, strict=True)) for values in product(range(3), repeat=4)]
    draws = {draw("multinomial", **key).tobytes() for key in keys}
    assert len(draws) == len(keys)


@EVERY_ROUTING
@pytest.mark.parametrize(("num_experts", "top_k"), [(64, 2), (21, 3)])
def test_layers_and_microbatches_drawn_together_are_as_those_drawn_alone(kind, num_experts, top_k):
    layers, microbatches = [3, 0, 7], [4, 9]
    shape = {"num_sources": 16, "tokens": 100, "num_experts": num_experts, "top_k": top_k}
    skew = Skew(**NEEDED, loads=np.ones((1, 1, num_experts)))
    together = draw_counts(kind, layers=layers, microbatches=microbatches, **shape, seed=1, skew=skew)
    for i, j in product(range(2), range(3)):
        alone = draw(kind, **shape, microbatch=microbatches[i], layer=layers[j])
        np.testing.assert_array_equal(together[i, j], alone)


def test_draws_do_not_depend_on_what_was_drawn_before():
    alone = draw("multinomial", microbatch=5)
    for microbatch in (7, 0, 6):
        draw("multinomial", microbatch=microbatch)
    np.random.default_rng(0).random(10)
    np.testing.assert_array_equal(draw("multinomial", microbatch=5), alone)


def test_draws_of_different_keys_are_uncorrelated():
    """Pearson's r of n independent pairs has standard deviation 1 / sqrt(n - 1)."""
    here, there = (draw("multinomial", num_sources=1000, layer=layer).ravel() for layer in (0, 1))
    assert abs(np.corrcoef(here, there)[0, 1]) < 5 / np.sqrt(here.size - 1)


def test_an_unknown_routing_is_refused():
    with pytest.raises(InvalidValueError) as refusal:
        draw("zipff")
    error = refusal.value
    assert (error.field, error.rule) == ("routing.kind", f"be one of {', '.join(ROUTINGS)}")
    assert (str(error.value), error.hint) == ("zipff", "Use balanced.")


def test_a_routing_entered_in_the_dict_alone_is_drawn(monkeypatch):
    """Shares of a toy: all tokens of a layer go to the first two experts, and each token takes both."""

    def first_two(request, layer, microbatch):
        del layer, microbatch
        return np.where(np.arange(request.num_experts) < 2, 0.5, 0.0)

    monkeypatch.setitem(ROUTINGS, "first_two", RoutingKind(summary="toy", shares=first_two))
    counts = draw("first_two", num_sources=3, tokens=5, num_experts=4, top_k=2)
    np.testing.assert_array_equal(counts, [[5, 5, 0, 0]] * 3)


@EVERY_ROUTING
def test_a_routing_says_what_it_is(kind):
    """It has shares or counts, requires only settings that it uses, and has a measure of its skew if it has a skew."""
    routing = ROUTINGS[kind]
    assert routing.summary
    assert routing.shares is not None or routing.counts is not None
    assert set(routing.required_settings) <= set(routing.settings)
    assert routing.uses("skew") == (routing.skew_measure is not None)
    assert routing.uses("shuffled") or not routing.lists_hottest_first
