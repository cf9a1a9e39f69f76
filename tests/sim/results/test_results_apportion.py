"""Whole numbers that keep their sum."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.results.accounts import apportion, apportion_each

WEIGHTS = st.lists(st.integers(0, 10**12), min_size=1, max_size=8)
TOTALS = st.integers(0, 10**12)


@settings(deadline=None, derandomize=True)
@given(TOTALS, WEIGHTS)
def test_shares_sum_to_the_total(total, weights):
    assert sum(apportion(total, weights)) == total


@settings(deadline=None, derandomize=True)
@given(TOTALS, WEIGHTS.filter(any))
def test_a_share_is_less_than_one_away_from_its_exact_part(total, weights):
    whole = sum(weights)
    for share, weight in zip(apportion(total, weights), weights, strict=True):
        assert abs(share * whole - total * weight) < whole


@settings(deadline=None, derandomize=True)
@given(TOTALS, WEIGHTS.filter(any))
def test_what_weighs_nothing_gets_nothing(total, weights):
    assert all(share == 0 for share, weight in zip(apportion(total, weights), weights, strict=True) if weight == 0)


@settings(deadline=None, derandomize=True)
@given(WEIGHTS.filter(any))
def test_weights_that_sum_to_the_total_are_the_shares(weights):
    assert apportion(sum(weights), weights) == weights


@settings(deadline=None, derandomize=True)
@given(TOTALS, st.integers(1, 10**6), WEIGHTS.filter(any))
def test_only_the_ratio_of_weights_matters(total, k, weights):
    assert apportion(total, [k * weight for weight in weights]) == apportion(total, weights)


@pytest.mark.parametrize(
    ("total", "weights", "expected"),
    [(10, [1, 1, 1], [4, 3, 3]), (7, [5, 3, 2], [4, 2, 1]), (1, [1, 1], [1, 0]), (0, [3, 4], [0, 0]), (9, [0], [9])],
)
def test_the_largest_remainders_get_the_rest_and_ties_go_to_the_first(total, weights, expected):
    assert apportion(total, weights) == expected


@pytest.mark.parametrize("most", [3, 10**9, 10**12], ids=["ties", "of a run", "beyond 64 bits"])
def test_many_are_apportioned_as_each(most):
    """Among them are totals and weights of nothing, and products that 64 bits do not hold."""
    rng = np.random.default_rng(3)
    weights, totals = rng.integers(0, most, (4, 300)), rng.integers(0, most, 300)
    weights[:, ::7], totals[::5] = 0, 0
    expected = [apportion(total, column) for total, column in zip(totals.tolist(), weights.T.tolist(), strict=True)]
    assert apportion_each(totals, weights).T.tolist() == expected
