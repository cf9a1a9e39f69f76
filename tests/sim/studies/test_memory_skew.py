"""Memory of the hottest rank of a run."""

import pytest

from sim.scenario.load import load_scenario_text
from sim.studies.simulate import simulate_scenario

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


def test_what_experts_hold_for_w_grows_with_the_hottest_rank():
    """Between B and W it is of the tokens that arrived, as between F and B; all else stays."""
    pipeline = ("parallel.strategy=EP2_TP1_PP4_DP2", "workload.microbatches=4", "schedule.kind=zb_2p")
    even, _ = peak(*pipeline, "routing.kind=balanced")
    usual, _ = peak(*pipeline[:2], "schedule.kind=1f1b", "routing.kind=balanced")
    skewed, _ = peak(*pipeline, "routing.kind=hot_expert", "routing.skew=0.9")
    assert even["expert_activations"] > usual["expert_activations"]
    assert skewed["expert_activations"] > 1.2 * even["expert_activations"]
    assert skewed["activations"] == even["activations"]
