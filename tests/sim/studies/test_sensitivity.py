"""Sensitivity: the smallest change that flips a claim, on figures made by hand and in a small run."""

from conclusions import check_conclusion

from sim.results.claims import Claim, Evidence, Verdict
from sim.scenario.load import load_scenario
from sim.studies.claims import judge_scenario
from sim.studies.sensitivity import Change, changes_of, flips_of

SMALL = (
    "workload.batches=1",
    "workload.sequences=16",
    "workload.microbatches=4",
    "alternatives=[{model.top_k: 1}]",
    "rivals=[EP16_TP4_PP4_DP4]",
    "workload.sequence_length=256",
    "assumed={model.top_k: not said}",
)
CLAIMS = (
    "claims=[{id: most, says: most, source: '4', metric: memory.weights, expect: '<= 1 GB'}, "
    "{id: best, says: best, source: '10', metric: step_time_s, superlative: least}]"
)


def verdict(value: float, limit: float) -> Verdict:
    """Return a claim of at most a limit."""
    claim = Claim(id="c", says="c", source="1", metric="x", is_met=lambda x: x <= limit, expected_value=limit)
    return Verdict(claim=claim, evidence=Evidence(value=value), verdict="holds", reason="")


def test_a_claim_flips_at_the_smallest_change_on_either_side() -> None:
    """X = 10 a of a = 2: at most 35 flips between a = 2 and 4, at least never below; at most 100 by no change."""
    scenario = load_scenario("ep16_tp16_pp4")
    changes = [Change(key="a", own=2, value=a, scenario=scenario) for a in (1, 4, 8)]
    values = [{"x": 10.0 * change.value} for change in changes]
    (row,) = flips_of([verdict(20, 35)], changes, values)
    assert (row.key, row.own, row.before, row.after, row.metric) == ("a", 2, 2, 4, 40)
    (row,) = flips_of([verdict(20, 45)], changes, values)
    assert (row.before, row.after) == (4, 8)
    (row,) = flips_of([verdict(20, 100)], changes, values)
    assert (row.key, row.closest, row.after, row.metric) == (None, "a", 8, 80)
    (row,) = flips_of([verdict(20, 15)], changes, values)  # refuted, and holds at half
    assert (row.before, row.after) == (2, 1)


def test_each_number_among_the_assumptions_is_changed_by_powers_of_two() -> None:
    """Top-2 to 1, 4, 8, 16; times of kernels, bytes and latencies to an eighth and eight times."""
    changes = changes_of(load_scenario("ep64_tp16_pp4", overrides=[*SMALL, CLAIMS]))
    values = {}
    for change in changes:
        values.setdefault(change.key, []).append(change.value)
    assert values["model.top_k"] == [1, 4, 8, 16]
    assert values["time of all kernels"] == [0.125, 0.25, 0.5, 2, 4, 8]
    assert len(values) == 4


def test_a_thorough_run_has_rivals_under_alternatives_intervals_and_sensitivity() -> None:
    """Of a small case: one alternative, one rival, eight seeds with jitter, one assumption and three times."""
    scenario = load_scenario("ep64_tp16_pp4", overrides=[*SMALL, CLAIMS])
    result = judge_scenario(scenario, thorough=True)
    data = result.to_dict()
    best = data["claims"][1]
    assert "a rival is better under 1 of 1 alternatives" in best["reason"]
    assert (best["interval_runs"], best["interval_over"]) == (8, "seeds with jitter")
    assert best["interval"][0] < best["interval"][1]
    assert best["interval"][0] > 0.9 * best["value"]
    assert {row["claim"] for row in data["sensitivity"]} == {"most"}
    assert data["engine"]["runs"] == 2 + 1 + 1 + 8 + 1 + (4 + 18) - 1  # top-1 is an alternative and a change
    check_conclusion(data)
