"""Kendall's tau and regret of groups whose order can be read off."""

import pytest

from sim.studies.figures import Figure
from sim.studies.ranking import rank_groups, summarise_rankings


def figures(pairs, *, metric="step_time_s", group=None, **changes):
    """Return figures of one group from pairs of a measured and a modelled value."""
    texts = {"suite": "s", "case": "c", "system": "x", "source": "x", "unit": None, "apart": None, "note": None}
    return [
        Figure(
            **texts, metric=metric, published=float(measured), modelled=modelled, tolerance_pct=10, problem=None,
            changes={"parallel.tp": i, "workload.microbatches": i, **changes}, group=group, name=f"strategy {i}",
        )
        for i, (measured, modelled) in enumerate(pairs)
    ]  # fmt: skip


def test_a_model_that_keeps_the_order_has_tau_1_and_no_regret():
    """However wrong its times are."""
    (ranking,) = rank_groups(figures([(1, 10), (2, 11), (3, 30)]))
    assert (ranking.kendall_tau, ranking.kendall_tau_all, ranking.regret_pct) == (1, 1, 0)
    assert ranking.num_pairs == 3


def test_a_model_that_turns_the_order_round_has_tau_minus_1_and_chooses_the_worst():
    """Measured 3, where 1 is to be had: 200 % slower."""
    (ranking,) = rank_groups(figures([(1, 3), (2, 2), (3, 1)]))
    assert (ranking.kendall_tau, ranking.regret_pct) == (-1, pytest.approx(200))
    assert ranking.best_modelled.name == "strategy 2"


def test_pairs_within_ten_percent_count_in_the_tau_of_all_alone():
    """1 and 1.05 stand the wrong way round: 2 of 3 pairs are right, and both clear ones."""
    (ranking,) = rank_groups(figures([(1, 2), (1.05, 1), (2, 4)]))
    assert (ranking.num_pairs, ranking.kendall_tau) == (2, 1)
    assert ranking.kendall_tau_all == pytest.approx(1 / 3)
    assert ranking.regret_pct == pytest.approx(5)


def test_strategies_that_the_model_does_not_separate_are_neither_right_nor_wrong():
    """One tie and two concordant pairs; of two best strategies the slower one as measured counts for the regret."""
    (ranking,) = rank_groups(figures([(1, 1), (2, 1), (4, 4)]))
    assert ranking.kendall_tau == pytest.approx(2 / 3)
    assert ranking.regret_pct == pytest.approx(100)


def test_of_throughputs_more_is_better():
    """The strategy of most tokens/s is modelled as second: 1500 instead of 1650, 10 % slower."""
    (ranking,) = rank_groups(figures([(1500, 2000.0), (1650, 1900.0)], metric="tokens_per_s_per_gpu"))
    assert (ranking.kendall_tau, ranking.kendall_tau_all) == (None, -1)
    assert ranking.regret_pct == pytest.approx(10)


def test_strategies_of_one_work_are_a_group_and_others_are_not():
    """The batch is part of the work, the number of microbatches of the strategy; a group by name goes before."""
    small, large = figures([(1, 1), (2, 2)]), figures([(3, 3), (4, 4)], **{"workload.sequences": 64})
    assert [ranking.name for ranking in rank_groups([*small, *large])] == ["c", "c, sequences 64"]
    named = [*figures([(1, 1)], group="all"), *figures([(2, 2)], group="all", **{"workload.sequences": 64})]
    assert [ranking.name for ranking in rank_groups(named)] == ["all"]
    assert rank_groups(figures([(1, 1)])) == []
    assert rank_groups(figures([(1, None), (2, 2)])) == []


def test_the_summary_is_over_groups():
    """Groups without a clear pair have no tau, and a regret."""
    rankings = rank_groups([
        *figures([(1, 1), (2, 2)], group="a"),
        *figures([(1, 2), (2, 1)], group="b"),
        *figures([(1, 2), (1.02, 1)], group="c"),
    ])  # fmt: skip
    summary = summarise_rankings(rankings)
    assert (summary["num_groups"], summary["median_tau"], summary["worst_tau"]) == (3, 0, -1)
    assert summary["median_regret_pct"] == pytest.approx(2)
    assert summary["worst_regret_pct"] == pytest.approx(100)
