"""Jitter: factors of mean 1 by pass and rank, on every kernel, and nothing at all where there is none."""

import numpy as np
import pytest

from sim.build.passes_work import PassesWork
from sim.engine.simulation import run_plan
from sim.plan.jitter import jittered
from sim.plan.passes import PassesPlan
from sim.scenario.load import load_scenario
from sim.studies.claims import simulate
from workloads.jitter import EXACT, Jitter

SMALL = ("workload.batches=1", "workload.sequences=16", "workload.microbatches=4", "claims=[]", "rivals=[]")
BOTH = Jitter(pass_cv=0.02, rank_spread=0.01)


def test_factors_have_mean_1_and_their_coefficient_of_variation() -> None:
    """Over 100,000 draws: the mean to 5 standard errors, the variation to 2 %."""
    for variation, factors in (
        (0.02, Jitter(pass_cv=0.02).pass_factors(100_000, 1, (0, 1))),
        (0.10, Jitter(rank_spread=0.10).rank_factors(100_000, 1)),
    ):
        assert factors.mean() == pytest.approx(1, abs=5 * variation / 100_000**0.5)
        assert factors.std() == pytest.approx(variation, rel=0.02)


def test_a_factor_is_of_a_pass_and_a_rank() -> None:
    """Another pass, rank or seed has another factor; the same ones have the same factor again."""
    first = BOTH.pass_factors(4, 1, (0, 0, 0))
    assert len(set(first)) == 4
    assert np.array_equal(first, BOTH.pass_factors(4, 1, (0, 0, 0)))
    assert not np.isin(BOTH.pass_factors(4, 1, (0, 0, 1)), first).any()
    assert not np.isin(BOTH.pass_factors(4, 2, (0, 0, 0)), first).any()


def test_a_lone_stage_takes_the_sum_of_its_passes_with_their_factors() -> None:
    """One stage, three microbatches of F 1 ms and B 2 ms: by hand from the factors."""
    work = PassesWork(pass_times_s=[(1e-3, 2e-3, 0.0)], num_microbatches=3, p2p_s=0.0, schedule="gpipe")
    plan = PassesPlan(work)
    assert jittered(plan, EXACT, 1) is plan
    step_ns = run_plan(jittered(plan, BOTH, 7)).trace.step_ns
    lasting = BOTH.rank_factors(1, 7)[0]
    factors = [
        (time_ns, BOTH.pass_factors(1, 7, (0, 0, kind, i, 0))[0])
        for kind, time_ns in ((0, 1e6), (1, 2e6))
        for i in range(3)
    ]
    assert step_ns == sum(round(time_ns * lasting * factor) for time_ns, factor in factors)


def test_kernels_of_a_pass_share_its_factor() -> None:
    """Every kernel of the first pass on a rank is longer or shorter by the same factor than without jitter."""
    exact, varied = (
        simulate(
            "ep16_tp16_pp4", overrides=[*SMALL, "parallel.strategy=EP1_TP1_PP4_DP16", "workload.microbatches=1", *more]
        )
        for more in ([], ["jitter.pass_cv=2 %"])
    )

    def of_first_pass(result):
        trace = result.trace
        rows = trace.rows("compute", stage=0, lane=0)
        return trace["base_ns"][rows] + trace["imbalance_ns"][rows]

    ratio = of_first_pass(varied) / of_first_pass(exact)
    assert ratio.std() < 1e-4
    assert ratio.mean() == pytest.approx(Jitter(pass_cv=0.02).pass_factors(64, 1, (0, 0, 0, 0, 0))[0], rel=1e-4)
    assert varied.trace.num_folded == 0


def test_no_jitter_is_the_exact_run_to_the_byte() -> None:
    """Both keys 0, and the section absent."""
    exact, zero = (
        simulate("ep64_tp16_pp4", overrides=[*SMALL, "alternatives=[]", *more])
        for more in ([], ["jitter={pass_cv: 0, rank_spread: 0 %}"])
    )
    for column in ("start_ns", "end_ns", "base_ns"):
        assert exact.trace[column].tobytes() == zero.trace[column].tobytes()


def test_jitter_is_written_as_a_share_or_a_percentage() -> None:
    """2 % is 0.02."""
    spec = load_scenario("ep64_tp16_pp4", overrides=["jitter={pass_cv: 2 %, rank_spread: 0.01}"]).spec
    assert spec.jitter.as_given == BOTH
