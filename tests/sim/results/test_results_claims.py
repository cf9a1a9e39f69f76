"""Verdicts and relevance on evidence made by hand."""

import pytest

from sim.results.catalog import CATALOG, resolve_metric
from sim.results.claims import Claim, Evidence, Outcome, Verdict, judge, relate

FAST = Claim(
    id="fast",
    says="50 ms",
    source="1",
    metric="latency_s",
    unit="s",
    is_met=lambda x: x <= 0.05,
    expected="<= 50 ms",
    expected_value=0.05,
)
LEAST = Claim(id="best", says="optimal", source="1", metric="step_time_s", unit="s", superlative="least")


def under(*values: float | None) -> list[Outcome]:
    """Return one alternative for each value."""
    return [Outcome(name=f"model.top_k: {i}", changes={"model.top_k": i}, value=v) for i, v in enumerate(values)]


@pytest.mark.parametrize(
    ("value", "others", "verdict", "words"),
    [
        (0.04, [], "holds", "simulated 40 ms"),
        (0.04, [0.03, 0.02], "holds", "holds under all 2 alternatives"),
        (0.2, [0.3, 0.1], "refuted", "refuted under all 2 alternatives"),
        (0.2, [], "refuted", "(4 times)"),
        (0.2, [0.04, 0.3, 0.3], "depends", "holds under 1 of 3 alternatives: {model.top_k: 0} 40 ms"),
        (0.04, [0.04, 0.04, 0.3], "depends", "refuted under 1 of 3 alternatives: {model.top_k: 2} 300 ms"),
        (0.04, [0.3, 0.3], "depends", "holds only as declared"),
        (0.2, [0.04], "depends", "refuted as declared, holds under all 1 alternatives"),
        (0.04, [None, 0.03], "holds", "(1 could not be run)"),
        (0.04, [None], "holds", "none of 1 alternatives could be run"),
        (None, [], "not_judged", "latency_s has no value here"),
    ],
)
def test_a_claim_is_judged_here_and_under_every_alternative(
    value: float | None, others: list[float | None], verdict: str, words: str
) -> None:
    """Met everywhere, nowhere, or under some: which is named."""
    judged = judge(FAST, Evidence(value=value, alternatives=under(*others)))
    assert judged.verdict == verdict
    assert words in judged.reason


def test_bounds_stand_in_the_reason() -> None:
    """A claim that a bound refutes needs no simulation."""
    reason = judge(FAST, Evidence(value=0.2, bound_compute=0.04, bound_wires=0.07)).reason
    assert "arithmetic alone at the peak of all GPUs allows 40 ms" in reason
    assert "the wires alone at their datasheet rate allow 70 ms" in reason


def test_a_superlative_without_rivals_says_so() -> None:
    """None declared, or none that runs and fits."""
    assert judge(LEAST, Evidence(value=1.0)).reason == "no rivals are declared"
    too_big = Outcome(name="A", value=None, problem="does not fit into memory")
    assert judge(LEAST, Evidence(value=1.0, rivals=[too_big])).verdict == "not_judged"


def test_seeds_give_the_span_of_the_metric() -> None:
    """The least and the largest value, and how many."""
    assert "190 ms to 220 ms over 3 seeds" in judge(FAST, Evidence(value=0.2, seeds=[0.2, 0.19, 0.22])).reason


def test_one_better_rival_refutes_a_superlative_and_is_named() -> None:
    """The best of the better ones, with how many there are."""
    rivals = [Outcome(name="A", value=0.5), Outcome(name="B", value=0.2), Outcome(name="C", value=2.0)]
    judged = judge(LEAST, Evidence(value=1.0, rivals=rivals))
    assert (judged.verdict, judged.rival) == ("refuted", rivals[1])
    assert "200 ms with B" in judged.reason
    assert "2 of 3 rivals have less" in judged.reason


def test_a_superlative_without_a_better_rival_is_not_judged_and_the_gap_to_the_bounds_is_stated() -> None:
    """Equal is not better; most is the mirror of least."""
    judged = judge(LEAST, Evidence(value=1.0, rivals=[Outcome(name="A", value=1.0)], bound_compute=0.25))
    assert judged.verdict == "not_judged"
    assert "arithmetic alone allows 250 ms (4 times)" in judged.reason
    most = Claim(id="m", says="most", source="1", metric="tokens_per_s", unit="tokens/s", superlative="most")
    assert judge(most, Evidence(value=1.0, rivals=[Outcome(name="A", value=2.0)])).verdict == "refuted"
    assert judge(most, Evidence(value=1.0, rivals=[Outcome(name="A", value=None)])).verdict == "not_judged"


def _verdict(claim: str, verdict: str, supports: str | None = None) -> Verdict:
    made = Claim(id=claim, says=claim, source="1", metric="latency_s", supports=supports)
    return Verdict(claim=made, evidence=Evidence(value=1.0), verdict=verdict, reason=f"{claim} because")


@pytest.mark.parametrize(
    ("own", "conclusion", "relevance"),
    [
        ("holds", "holds", "supports"),
        ("holds", "refuted", "irrelevant"),
        ("holds", "depends", "irrelevant"),
        ("holds", "not_judged", "irrelevant"),
        ("refuted", "holds", "contradicts"),
        ("refuted", "refuted", "contradicts"),
        ("depends", "holds", "irrelevant"),
        ("not_judged", "holds", "irrelevant"),
    ],
)
def test_a_true_sentence_supports_nothing_when_its_conclusion_fails(own: str, conclusion: str, relevance: str) -> None:
    """Relevance follows from the claim's own verdict and that of the claim it is offered for."""
    related = relate([_verdict("reason", own, "conclusion"), _verdict("conclusion", conclusion)])
    assert related[0].relevance == relevance
    assert related[0].relevance_reason


def test_a_claim_without_conclusion_stands_for_itself() -> None:
    """It supports the document where it holds and contradicts it where it is refuted."""
    assert [v.relevance for v in relate([_verdict("a", "holds"), _verdict("b", "refuted")])] == [
        "supports",
        "contradicts",
    ]


@pytest.mark.parametrize("name", CATALOG)
def test_every_metric_is_found_by_name_and_by_group(name: str) -> None:
    """And under no other group."""
    group = CATALOG[name].group
    assert resolve_metric(name) == resolve_metric(f"{group}.{name}") == name
    assert resolve_metric(f"nowhere.{name}") is None
