"""Skew next to published measurements of it: the law of a combine's time, and what perfect balance gains a prefill."""

import pytest
from published_skew import COMBINE, LARGE, PUBLISHED, STUDENT_7, Line, combine_points, gains, line_through, reached_at

from sim.build.collective import build_collective
from sim.plan.collective import CollectivePlan
from sim.scenario.load import load_scenario_text
from sim.studies.stress.report import stress_test

FEW = {"skews": (0.0, 0.6, 1.2), "seeds": (1, 2)}


@pytest.fixture(scope="module")
def small():
    return line_through(combine_points(**FEW))


@pytest.fixture(scope="module")
def large():
    return line_through(combine_points(LARGE, **FEW))


def test_a_combine_is_linear_in_its_busiest_destination(small, large):
    """Closer than the published r: nothing is measured here, and only who sends to itself is left to chance."""
    assert small.correlation > 0.998  # a call of NCCL's, 33 us, weighs as much as half of the bytes
    assert large.correlation > 0.999
    assert small.correlation > PUBLISHED.correlation


def test_the_constant_is_latency_and_its_share_depends_on_the_bytes(small, large):
    """22 times the bytes have the same latency, and so a smaller share of it.

    The line through a few points of the large one is off by what ranks send to themselves, so of it the latency is
    taken. The gap to the published share has both signs: the share says how large a layer is, not how good a model.
    """
    latency_s = CollectivePlan(build_collective(load_scenario_text(COMBINE))[0]).transfer.latency_ns / 1e9
    assert small.constant == pytest.approx(latency_s, rel=0.5)
    assert abs(large.constant) < 0.03 * large.slope
    assert large.slope / small.slope == pytest.approx(4096 * 8 * 7168 / (640 * 4 * 4096), rel=0.1)
    assert latency_s / (latency_s + large.slope) < PUBLISHED.share < small.share


def test_the_published_constant_is_not_told_from_nothing(large):
    """Its error is at least that of the slope, for max/mean is at least 1: 0 and the large layer's are within."""
    half = STUDENT_7 * PUBLISHED.least_constant_error
    assert half > PUBLISHED.constant
    whole = PUBLISHED.constant + PUBLISHED.slope
    assert (PUBLISHED.constant - half) / whole < large.share < (PUBLISHED.constant + half) / whole


def test_the_error_of_a_slope_follows_from_r():
    """By hand: slope 2, r = 0.8 of 11 points: 2 sqrt((1 / 0.64 - 1) / 9) = 0.5."""
    assert Line(constant=0.0, slope=2.0, correlation=0.8, num_points=11).slope_error == pytest.approx(0.5)


def test_a_ratio_that_is_never_reached_has_no_skew():
    assert reached_at([0.0, 1.0], [1.0, 1.2], 1.3) is None


def test_perfect_balance_gains_more_the_older_the_plan():
    """The published order: none above EPLB above perfect balance. Hidden exchanges make what is left weigh more."""
    data = stress_test("deepseek_prefill", skews=[1.5], num_seeds=1)
    found = gains(data)
    none, old, newer, new = (found[name][0] for name in found)
    assert none > old > newer > new > 1.05
    hidden = gains(data, with_exchanges=False)
    assert all(hidden[name][0] > found[name][0] for name in found)
