"""Changes of one part of a strategy: what they are, and that a superlative about a part is judged by them alone."""

import pytest

from sim.scenario.load import load_scenario
from sim.studies.claims import simulate
from sim.studies.parts import changes_of_part
from sim.studies.variants import variants_of

SMALL = ("workload.batches=1", "workload.sequences=16", "workload.microbatches=4", "workload.sequence_length=512")
NO_CLAIMS = ("claims=[]", "alternatives=[]", "rivals=[]")


def claim(part: str, metric: str = "step_time_s") -> str:
    """Return a superlative about a part."""
    return f"claims=[{{id: a, says: a, source: '1', metric: {metric}, superlative: least, part: {part}}}]"


def test_tp_is_changed_to_other_powers_of_two_under_the_same_reading_of_ep() -> None:
    """Half of it first; EP and PP stay, and DP follows. 16 heads allow no TP32."""
    changes = changes_of_part(load_scenario("ep64_tp16_pp4"), "tp")
    assert list(changes) == ["EP64_TP8_PP4_DP2", "EP64_TP4_PP4_DP4", "EP64_TP2_PP4_DP8", "EP64_TP1_PP4_DP16"]
    megatron = load_scenario("ep16_tp16_pp4")
    assert next(iter(changes_of_part(megatron, "tp"))) == "EP16_TP8_PP4_DP2"


def test_an_all_reduce_is_changed_to_other_algorithms_and_to_sequence_parallelism() -> None:
    """SP first, where the reading allows to choose."""
    changes = changes_of_part(load_scenario("ep64_tp16_pp4"), "all_reduce")
    assert next(iter(changes)) == "sequence parallelism"
    assert {"all-reduce ring", "all-reduce tree", "all-reduce nvls", "all-reduce hierarchical"} < set(changes)
    assert "sequence parallelism" not in changes_of_part(load_scenario("ep16_tp16_pp4"), "all_reduce")


def test_a_pipeline_is_changed_to_schedules_and_microbatches() -> None:
    """Twice the microbatches first; then of training lean schedules, and of forward passes chunks."""
    training = changes_of_part(load_scenario("ep64_tp16_pp4_training"), "pipeline")
    assert list(training)[:3] == ["32 microbatches", "schedule zb_h1", "schedule zb_1p"]
    forward = changes_of_part(load_scenario("ep64_tp16_pp4"), "pipeline")
    assert list(forward) == ["32 microbatches", "2 chunks for each stage", "64 microbatches"]


def test_a_default_run_takes_the_first_changes_and_says_which_it_left_out() -> None:
    """A thorough run leaves out none."""
    scenario = load_scenario("ep64_tp16_pp4", overrides=[*SMALL, claim("tp")])
    few, all_ = variants_of(scenario), variants_of(scenario, thorough=True)
    assert [rival.part for rival in few.rivals] == ["tp"]
    assert few.not_run["tp"][0].startswith("EP64_TP4_PP4")
    assert not all_.not_run
    assert len(all_.rivals) == 1 + len(few.not_run["tp"])


def test_a_change_that_needs_more_memory_is_no_better_pipeline() -> None:
    """Of fewer microbatches each is larger: were they tried, their memory would rule them out."""
    overrides = [*SMALL, claim("pipeline", "bubble_fraction"), "alternatives=[]"]
    judged = simulate("ep64_tp16_pp4", overrides=overrides).claims[0]
    assert judged.verdict == "refuted"  # schedule and microbatches set the bubble, whichever number is assumed
    assert judged.rival is not None
    assert judged.rival.name == "16 microbatches"
    assert "(p-1)/(m+p-1) is 42.9% with p = 4 and m = 4" in judged.sentence


def test_sequence_parallelism_in_the_spanning_reading_halves_what_tp_sends_after_experts() -> None:
    """Without SP an all-reduce and an all-gather of each layer, with it an all-gather and a reduce-scatter."""
    exact, split = (
        simulate("ep64_tp16_pp4", overrides=[*SMALL, *NO_CLAIMS, f"parallel.sp={sp}"]) for sp in ("false", "true")
    )
    assert split.metrics["step_time_s"] < exact.metrics["step_time_s"]
    assert split.simulated.run.tokens_computed == exact.simulated.run.tokens_computed
    activations = [run.memory["peak_bytes_per_gpu"]["activations"] for run in (exact, split)]
    assert activations[1] < activations[0] / 2


def test_a_blocking_exchange_that_deadlocks_is_an_outcome() -> None:
    """False where it deadlocks, and no value of any other metric."""
    claims = (
        "claims=[{id: a, says: a, source: '1', metric: exchange_completes, expect: '== true'}, "
        "{id: b, says: b, source: '1', metric: tokens_per_s, expect: '> 1 tokens/s'}]"
    )
    overrides = [*SMALL, claims, "alternatives=[{parallel.exchange: blocking}]", "rivals=[]"]
    defined, fast = simulate("ep64_tp16_pp4", overrides=overrides).claims
    assert (defined.verdict, fast.verdict) == ("depends", "holds")
    assert "deadlock at" in defined.sentence
    assert fast.evidence.alternatives[0].value is None


def test_waiting_for_another_stage_is_the_transfer_that_is_under_way() -> None:
    """One microbatch of four stages in one node each: every stage but the first waits for one hop, by hand."""
    result = simulate(
        "ep16_tp16_pp4",
        overrides=[*NO_CLAIMS, "workload.batches=1", "workload.sequences=16", "workload.microbatches=1"],
    )
    trace = result.trace
    hops = [row for row in range(len(trace["kind"])) if trace["kind"][row] == "pp"]
    lasted = sum(int(trace["end_ns"][row] - trace["start_ns"][row]) for row in hops)
    assert len(hops) == 3
    assert result.metrics["pp_fraction"] == pytest.approx(lasted / 4 / trace.step_ns, rel=1e-9)
