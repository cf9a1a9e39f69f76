"""`routing.draw: approximate`: the moments of exact counts, within errors that are stated, and what is refused."""

import numpy as np
import pytest

from sim.errors import InvalidValueError
from sim.scenario.load import load_scenario
from workloads.routing import Skew, draw_counts
from workloads.routing.conditional_bernoulli import inclusion_probabilities
from workloads.routing.normal_counts import normal_counts

NUM = 4000
KEYS = {"num_sources": NUM, "tokens": 600, "num_experts": 32, "top_k": 4, "seed": 3, "layers": [0], "microbatches": [0]}
LAWS = [("multinomial", Skew()), ("zipf", Skew(skew=0.4)), ("power_law", Skew(skew=0.2))]


@pytest.mark.parametrize(("kind", "skew"), LAWS)
def test_a_normal_law_has_the_moments_of_exact_counts(kind, skew):
    """Means and variances within 5 standard errors of 4,000 sources; correlations within 0.01 more."""
    exact, normal = (
        draw_counts(kind, **KEYS, skew=skew, is_approximate=is_approximate)[0, 0].astype(float)
        for is_approximate in (False, True)
    )
    assert (exact != normal).any()
    for counts in (exact, normal):
        assert (counts.sum(axis=1) == 2400).all()
        assert (counts >= 0).all()
        assert (counts <= 600).all()
    deviation = exact.std(axis=0)
    assert (np.abs(exact.mean(axis=0) - normal.mean(axis=0)) <= 5 * deviation * np.sqrt(2 / NUM)).all()
    ratio = normal.std(axis=0) / deviation
    assert (np.abs(ratio - 1) <= 5 * np.sqrt(1 / NUM) + 1 / 12 / deviation**2).all()  # rounding adds up to 1/6
    difference = np.corrcoef(exact.T) - np.corrcoef(normal.T)
    assert np.abs(difference).max() <= 5 * np.sqrt(2 / NUM) + 0.01


@pytest.mark.parametrize(("kind", "skew"), LAWS)
def test_the_busiest_expert_of_a_lane_is_as_busy(kind, skew):
    """Mean of the busiest of 32 experts over 500 lanes of 8 sources: within 0.5 %."""
    busiest = []
    for is_approximate in (False, True):
        counts = draw_counts(kind, **KEYS, skew=skew, is_approximate=is_approximate)[0, 0]
        busiest.append(counts.reshape(-1, 8, 32).sum(axis=1).max(axis=1).mean())
    assert busiest[1] == pytest.approx(busiest[0], rel=5e-3)


def test_where_counts_are_small_they_are_drawn_exactly():
    """A variance under 25 in a source, or one expert with more than half of all variance."""
    few = {**KEYS, "tokens": 60, "num_sources": 5}
    for is_approximate in (False, True):
        drawn = draw_counts("zipf", **few, skew=Skew(skew=0.4), is_approximate=is_approximate)
        np.testing.assert_array_equal(drawn, draw_counts("zipf", **few, skew=Skew(skew=0.4)))
    assert normal_counts(np.array([0.5, 0.5]), 3, 10**4, np.random.default_rng(1)) is None


def test_experts_that_all_tokens_take_or_none_have_all_or_none():
    """Of 1,000 tokens with three choices: one expert takes all, one none."""
    inclusion = inclusion_probabilities(np.array([0.6, 0.1, 0.1, 0.1, 0.1, 0.0]), 3)
    counts = normal_counts(inclusion, 50, 1000, np.random.default_rng(1))
    assert (counts[:, 0] == 1000).all()
    assert (counts[:, 5] == 0).all()
    assert (counts.sum(axis=1) == 3000).all()


@pytest.mark.parametrize(
    ("routing", "rule"),
    [
        ("{kind: balanced, draw: approximate}", "must be exact with routing.kind balanced"),
        ("{kind: stride, draw: approximate}", "must be exact with routing.kind stride"),
        ("{draw: approximate, max_nodes_per_token: 2}", "must be exact with routing.max_nodes_per_token"),
        ("{draw: gauss}", "routing.draw must be one of exact, approximate"),
    ],
)
def test_a_draw_that_is_none_is_refused(routing, rule):
    """By name, before anything runs."""
    with pytest.raises(InvalidValueError, match=rule):
        load_scenario("ep16_tp16_pp4", overrides=[f"routing={routing}"])
