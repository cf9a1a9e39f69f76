"""Verdicts and relevance on evidence made by hand."""

import pytest

from sim.results.catalog import CATALOG, resolve_metric
from sim.results.claims import Claim, Evidence, Outcome, Verdict, relate
from sim.results.facts import facts_of
from sim.results.superlatives import judge

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
        (0.2, [0.04, 0.3, 0.3], "depends", "holds under 1 of 3 alternatives: 40 ms under {model.top_k: 0}"),
        (0.04, [0.04, 0.04, 0.3], "depends", "refuted under 1 of 3 alternatives: 300 ms under {model.top_k: 2}"),
        (0.04, [0.3, 0.3], "depends", "holds only as declared"),
        (0.2, [0.04], "depends", "refuted as declared, holds under all 1 alternatives"),
        (0.04, [None, 0.03], "holds", "holds under all 1 alternatives"),
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


@pytest.mark.parametrize(
    ("value", "others", "said"),
    [
        (0.04, [0.3], "Not true: 300 ms under {model.top_k: 0}."),
        (0.2, [0.03], "True: 30 ms under {model.top_k: 0}."),
        (0.04, [0.03, 0.3, 0.02], "Not true: 300 ms under {model.top_k: 1}."),
        (0.04, [0.3, 0.03, 0.4], "True: 30 ms under {model.top_k: 1}."),
    ],
)
def test_the_sentence_of_an_open_claim_names_the_fewer(value: float, others: list[float], said: str) -> None:
    """Those under which it is true, or those under which it is not, and never none."""
    assert judge(FAST, Evidence(value=value, alternatives=under(*others))).sentence == said


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
    assert "190 to 220 ms over 3 seeds" in judge(FAST, Evidence(value=0.2, seeds=[0.2, 0.19, 0.22])).reason


def test_one_better_rival_refutes_a_superlative_and_is_named() -> None:
    """The best of the better ones, with how many there are."""
    rivals = [Outcome(name="A", value=0.5), Outcome(name="B", value=0.2), Outcome(name="C", value=2.0)]
    judged = judge(LEAST, Evidence(value=1.0, rivals=rivals))
    assert (judged.verdict, judged.rival) == ("refuted", rivals[1])
    assert "with B the whole step takes 200 ms instead of 1 s" in judged.reason
    assert "2 of 3 rivals are better" in judged.reason


def test_a_superlative_without_a_better_rival_is_not_judged_and_the_gap_to_the_bounds_is_stated() -> None:
    """Equal is not better; most is the mirror of least."""
    judged = judge(LEAST, Evidence(value=1.0, rivals=[Outcome(name="A", value=1.0)], bound_compute=0.25))
    assert judged.verdict == "not_judged"
    assert "arithmetic alone allows 250 ms (4 times)" in judged.reason
    most = Claim(id="m", says="most", source="1", metric="tokens_per_s", unit="tokens/s", superlative="most")
    assert judge(most, Evidence(value=1.0, rivals=[Outcome(name="A", value=2.0)])).verdict == "refuted"
    assert judge(most, Evidence(value=1.0, rivals=[Outcome(name="A", value=None)])).verdict == "not_judged"


BALANCE = Claim(
    id="balance",
    says="perfect",
    source="8",
    metric="imbalance_max_over_mean",
    is_met=lambda x: x <= 1.005,
    expected="== 1",
)


def skewed(value: float, step_time_s: float, *, assumes_claim: bool = False) -> Outcome:
    """Return a routing with its imbalance and its step time."""
    changes = {"routing.skew": value}
    return Outcome(
        name=f"skew {value}", changes=changes, value=value, step_time_s=step_time_s, assumes_claim=assumes_claim
    )


def test_a_run_that_assumes_a_claim_counts_neither_way() -> None:
    """Balanced routing shows no balance: the other routings decide, with what they cost in step time."""
    own = {"value": 1.0, "assumes_claim": True, "step_time_s": 2.0}
    judged = judge(BALANCE, Evidence(**own, alternatives=[skewed(1.0, 9.0, assumes_claim=True), skewed(1.5, 2.5)]))
    assert judged.verdict == "refuted"
    assert "1.5 under {skew 1.5}, at a cost of 25 % of step time" in judged.sentence
    assert judge(BALANCE, Evidence(**own, alternatives=[skewed(1.0, 2.1), skewed(1.5, 2.5)])).verdict == "depends"
    assert judge(BALANCE, Evidence(**own)).verdict == "not_judged"
    assert judge(BALANCE, Evidence(**own, alternatives=[skewed(1.0, 2.1, assumes_claim=True)])).verdict == "not_judged"


def test_a_superlative_about_a_part_holds_only_when_every_change_of_the_part_was_simulated() -> None:
    """None of them better: what was left out could be."""
    part = Claim(id="p", says="optimal TP", source="3", metric="step_time_s", superlative="least", part="tp")
    worse = [Outcome(name="TP8", value=2.0)]
    assert judge(part, Evidence(value=1.0, rivals=worse)).verdict == "holds"
    left_out = judge(part, Evidence(value=1.0, rivals=worse, not_run=["TP4"]))
    assert left_out.verdict == "not_judged"
    assert "not run without --thorough: TP4" in left_out.reason


def test_a_superlative_is_refuted_only_by_what_wins_whatever_is_left_open() -> None:
    """SP is a choice that the document never made; TP8 loses against the same strategy with SP, and TP4 does not."""
    part = Claim(id="p", says="optimal", source="3", metric="step_time_s", unit="s", superlative="least", part="tp")
    with_sp = Outcome(name="sp: true", value=0.7, is_same_work=True)
    other_work = Outcome(name="top_k: 1", value=0.1)
    tp8, tp4 = Outcome(name="TP8", value=0.8), Outcome(name="TP4", value=0.6)
    sp = Outcome(name="SP", value=0.5, open_keys=("parallel.sp",))
    under = {"value": 1.0, "alternatives": [with_sp, other_work]}
    lost = judge(part, Evidence(**under, rivals=[tp8]))
    assert (lost.verdict, lost.sentence) == (
        "depends",
        "With TP8 the whole step takes 800 ms instead of 1 s, but 700 ms under {sp: true}.",
    )
    won = judge(part, Evidence(**under, rivals=[tp8, tp4, sp]))
    assert (won.verdict, won.rival) == ("refuted", tp4)
    choice = judge(part, Evidence(value=1.0, rivals=[sp]))
    assert choice.verdict == "depends"
    assert choice.sentence.startswith("That depends on parallel.sp, which the document leaves open: with SP")


def test_rivals_under_alternatives_are_counted_with_the_least_margin() -> None:
    """Better under two of three; 1.25 and 2 times, so 1.25 at least."""
    pairs = [(2.0, 1.6), (1.0, 0.5), (1.0, 3.0)]
    under = [Outcome(name=str(i), value=own, rivals=[Outcome(name="R", value=r)]) for i, (own, r) in enumerate(pairs)]
    judged = judge(LEAST, Evidence(value=2.0, rivals=[Outcome(name="R", value=1.0)], alternatives=under))
    assert "a rival is better under 2 of 3 alternatives, by 1.25 times at least" in judged.reason


def test_an_interval_that_reaches_over_the_claim_says_so() -> None:
    """40 ms meets 50 ms, and 60 ms does not."""
    judged = judge(FAST, Evidence(value=0.04, seeds=[0.04, 0.06]))
    assert "which reach over what is claimed" in judged.reason
    assert judged.sentence == "Over 2 seeds it is met in some and not in others."
    assert "reach over" not in judge(FAST, Evidence(value=0.04, seeds=[0.04, 0.045])).reason


@pytest.mark.parametrize(
    ("verdicts", "facts"),
    [
        (["holds", "holds", "holds"], [["a", "b", "c"]]),
        (["refuted", "holds", "refuted"], [["a", "c"], ["b"]]),
        (["holds", "refuted", "refuted"], [["a"], ["b"], ["c"]]),
    ],
)
def test_a_fact_never_both_holds_and_is_refuted(verdicts: list[str], facts: list[list[str]]) -> None:
    """C follows from b, and b from a: one fact as long as all that is found is one verdict."""
    found = []
    for name, of, verdict in zip("abc", (None, "a", "b"), verdicts, strict=True):
        claim = Claim(id=name, says=name, source="1", metric="latency_s", because_of=of)
        found.append(Verdict(claim=claim, evidence=Evidence(value=1.0), verdict=verdict, reason=""))
    assert [[verdict.claim.id for verdict in fact.claims] for fact in facts_of(found)] == facts


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
