"""Memory of the hottest rank of a run."""

import pytest

from sim.run.simulate import simulate_scenario
from sim.scenario.load import load_scenario_text

TEXT = """
cluster: {preset: dgx-h100, num_nodes: 1}
model: {layers: 4, hidden: 1024, heads: 16, ffn: 4096, experts: 8, top_k: 2, vocab: 32000}
parallel: {strategy: EP8_TP1_PP1_DP8}
workload: {kind: training, sequences: 8, sequence_length: 512, microbatches: 1}
"""


def peak(*changes):
    """Return the parts of the peak, and the run."""
    simulated = simulate_scenario(load_scenario_text(TEXT, overrides=changes))
    return simulated.memory["peak_bytes_per_gpu"], simulated


@pytest.mark.parametrize("kind", ["forward", "training"])
def test_random_routing_needs_more_memory_than_balanced(kind):
    """The hottest rank holds more tokens than the mean, and all else stays."""
    even, uneven = (peak(f"workload.kind={kind}", f"routing.kind={name}")[0] for name in ("balanced", "multinomial"))
    grown = {part for part in even if uneven[part] > even[part]}
    assert grown == {"total", "buffers", "activations" if kind == "forward" else "expert_activations"}
    assert all(uneven[part] == even[part] for part in set(even) - grown)


def test_one_microbatch_in_flight_holds_the_tokens_of_the_busiest_rank():
    """By the tokens that the engine counted: 1,024 copies on a rank on average, in each of 4 layers."""
    even, _ = peak("routing.kind=balanced")
    uneven, simulated = peak("routing.kind=multinomial")
    (tokens,) = simulated.run.tokens_received[0, 0].values()
    assert tokens.mean() == 4 * 1024
    ratio = tokens.max() / tokens.mean()
    assert uneven["expert_activations"] == pytest.approx(even["expert_activations"] * ratio, abs=1)
    assert simulated.memory["peak_rank"] == tokens.argmax()


@pytest.mark.parametrize("kind", ["balanced", "hot_expert"])
@pytest.mark.parametrize(("capacity", "overflow"), [(2.0, "pad"), (0.5, "pad"), (0.5, "drop")])
def test_ranks_hold_padding_and_do_not_hold_what_is_dropped(kind, capacity, overflow):
    """Balanced, an expert has f times its mean of rows, and so has its rank, as sent and as received.

    Padded, each has as many whatever the routing; the buffers are T hidden 2 (2 + top_k (f + f)).
    """
    skew = ("routing.skew=0.6",) if kind == "hot_expert" else ()
    plain, _ = peak("routing.kind=balanced")
    capped, simulated = peak(
        f"routing.kind={kind}", *skew, f"routing.capacity_factor={capacity}", f"routing.overflow={overflow}"
    )
    if kind == "hot_expert" and overflow == "drop":
        assert capped["expert_activations"] == pytest.approx(capacity * plain["expert_activations"])  # of the hot rank
        return
    assert capped["expert_activations"] == pytest.approx(capacity * plain["expert_activations"])
    assert capped["buffers"] - plain["buffers"] == pytest.approx(512 * 1024 * 2 * 2 * 2 * (capacity - 1))
    assert simulated.run.tokens_dropped > 0 or capacity > 1 or kind == "balanced"


def test_drops_are_not_taken_for_a_busier_rank():
    """The busiest rank holds what it computes over the mean of what was routed, and not of what is left of it."""
    plain, _ = peak("routing.kind=balanced")
    hot, simulated = peak("routing.kind=hot_expert", "routing.skew=0.9", "routing.capacity_factor=1.25")
    (tokens,) = simulated.run.tokens_received[0, 0].values()
    assert tokens.mean() < 0.8 * 4 * 1024
    assert hot["expert_activations"] == pytest.approx(plain["expert_activations"] * tokens.max() / (4 * 1024), abs=1)


def test_what_experts_hold_for_w_grows_with_the_hottest_rank():
    """Between B and W it is of the tokens that arrived, as between F and B; all else stays."""
    pipeline = ("parallel.strategy=EP2_TP1_PP4_DP2", "workload.microbatches=4", "schedule.kind=zb_2p")
    even, _ = peak(*pipeline, "routing.kind=balanced")
    usual, _ = peak(*pipeline[:2], "schedule.kind=1f1b", "routing.kind=balanced")
    skewed, _ = peak(*pipeline, "routing.kind=hot_expert", "routing.skew=0.9")
    assert even["expert_activations"] > usual["expert_activations"]
    assert skewed["expert_activations"] > 1.2 * even["expert_activations"]
    assert skewed["activations"] == even["activations"]
