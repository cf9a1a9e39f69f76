"""Routing: counts are conserved, balanced is as even as can be, random draws have the moments of theory."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloads.errors import WorkloadError
from workloads.routing import ROUTINGS, draw_counts

EVERY_ROUTING = pytest.mark.parametrize("kind", ROUTINGS)
KEYS = {"seed": 1, "layer": 2, "microbatch": 3, "lane": 0}


def draw(kind: str, *, num_sources=16, tokens=64, num_experts=64, top_k=2, **keys) -> np.ndarray:
    return draw_counts(
        kind, num_sources=num_sources, tokens=tokens, num_experts=num_experts, top_k=top_k, **{**KEYS, **keys}
    )


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
    [(64, 64, 2), (1000, 8, 1), (16, 128, 8), (50, 8, 2), (2000, 21, 2), (500, 37, 4), (9, 300, 1)],
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


@pytest.mark.parametrize("top_k", [2, 3, 4, 8])
@pytest.mark.parametrize("num_experts", [9, 16, 21])
def test_every_pair_of_experts_is_chosen_equally_often(num_experts, top_k):
    """A token has both of a pair with p = k (k - 1) / (E (E - 1)), in one block of the split or in two.

    The frequency over S tokens has standard deviation sqrt(p (1 - p) / S); six of them hold for 210 pairs but for 4e-7.
    """
    num_tokens = 40_000
    chosen = draw("multinomial", num_sources=num_tokens, tokens=1, num_experts=num_experts, top_k=top_k)
    assert chosen.max() == 1
    together = (chosen.T @ chosen)[np.triu_indices(num_experts, 1)] / num_tokens
    p = top_k * (top_k - 1) / (num_experts * (num_experts - 1))
    assert np.abs(together - p).max() < 6 * np.sqrt(p * (1 - p) / num_tokens)


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
    with pytest.raises(WorkloadError) as refusal:
        draw("zipff")
    assert str(refusal.value) == f"routing: kind must be one of {', '.join(ROUTINGS)}, got zipff. Use balanced."
