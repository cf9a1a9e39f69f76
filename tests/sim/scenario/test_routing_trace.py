"""Recorded traces of routing: what is read, and what is refused with its cure."""

import numpy as np
import pytest

from sim.errors import InputError
from sim.scenario.load import load_scenario
from sim.scenario.routing_trace import read_routing_trace
from sim.studies.build_routing import skew_of
from sim.studies.stress.heat import expert_tokens

TOKENS = np.arange(1, 13, dtype=float).reshape(2, 2, 3)


def write_csv(path):
    """Write TOKENS, lines in any order."""
    lines = [f"{m},{layer},{e},{TOKENS[m, layer, e]:g}" for m, layer, e in np.ndindex(TOKENS.shape)]
    path.write_text("\n".join(["microbatch,layer,expert,tokens", *lines[::-1]]), encoding="utf-8")


def test_csv_and_npz_are_the_same(tmp_path):
    write_csv(tmp_path / "a.csv")
    np.savez(tmp_path / "a.npz", tokens=TOKENS)
    for name in ("a.csv", "a.npz"):
        np.testing.assert_array_equal(read_routing_trace(tmp_path / name), TOKENS)


def test_one_microbatch_needs_no_column_for_it(tmp_path):
    (tmp_path / "a.csv").write_text("expert,layer,tokens\n1,0,5\n0,0,3\n", encoding="utf-8")
    assert read_routing_trace(tmp_path / "a.csv").tolist() == [[[3.0, 5.0]]]


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "have columns layer, expert, tokens"),
        ("layer,expert\n0,0\n", "have columns layer, expert, tokens"),
        ("layer,expert,tokens\n0,0,x\n", "have numbers in every line, got line 2"),
        ("layer,expert,tokens\n0,-1,3\n", "number layers, experts and microbatches from 0"),
        ("layer,expert,tokens\n0,0.5,3\n", "number layers, experts and microbatches from 0"),
        ("layer,expert,tokens\n", "number layers, experts and microbatches from 0"),
        ("layer,expert,tokens\n0,0,-3\n", "have finite tokens of at least 0"),
        ("layer,expert,tokens\n1,0,3\n", "have tokens in every layer and microbatch, got none in layer 0"),
        ("layer,expert,tokens\n999999,999999,3\n", "have at most 100,000,000 counts"),
    ],
)
def test_what_is_no_recording_is_refused(tmp_path, text, rule):
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as refusal:
        read_routing_trace(tmp_path / "a.csv")
    assert rule in str(refusal.value)


def test_another_ending_or_content_is_refused(tmp_path):
    for name, content in (("a.txt", b"x"), ("a.npz", b"x")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError):
            read_routing_trace(tmp_path / name)
    np.savez(tmp_path / "b.npz", loads=TOKENS)
    with pytest.raises(InputError, match="have an array `tokens`"):
        read_routing_trace(tmp_path / "b.npz")


def test_a_scenario_names_a_recording_beside_it(tmp_path, contract_text):
    """Its number of experts is checked against the model's."""
    np.savez(tmp_path / "a.npz", tokens=TOKENS)
    text = contract_text.replace("kind: multinomial", "kind: trace, file: a.npz")
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    scenario = load_scenario(str(tmp_path / "mine.yaml"))
    np.testing.assert_array_equal(skew_of(scenario, 3).loads, TOKENS)
    with pytest.raises(InputError, match="experts = 64 experts"):
        skew_of(scenario, 64)


def test_the_first_layer_of_a_recording_is_the_first_with_experts(tmp_path):
    """Where layer 0 is dense, layers 1 and 2 send tokens to experts 0 and 1, and 2 and 3, as they were recorded."""
    (tmp_path / "a.csv").write_text("layer,expert,tokens\n0,0,1\n0,1,1\n1,2,1\n1,3,1\n", encoding="utf-8")
    text = """
cluster: {preset: dgx-h100, num_nodes: 1}
model: {layers: 3, dense_layers: 1, hidden: 512, heads: 8, ffn: 512, gated: true, experts: 4, top_k: 2, vocab: 1000}
parallel: {strategy: EP4_TP1_PP1_DP4}
workload: {kind: forward, sequences: 16, sequence_length: 256, microbatches: 2}
routing: {kind: trace, file: a.csv}
"""
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    tokens = expert_tokens(load_scenario(str(tmp_path / "mine.yaml")))
    assert (tokens > 0).tolist() == [[True, True, False, False], [False, False, True, True]]
