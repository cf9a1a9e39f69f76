"""Collectives on the command line: every command takes their scenarios, and refusals are whole."""

import json
from pathlib import Path

import pytest

ALL_REDUCE = """\
name: all-reduce
cluster: {preset: dgx-h100, num_nodes: 2}
workload: {kind: collective, op: all_reduce, num_ranks: 16, bytes: 1 GiB}
"""
DISPATCH = """\
name: dispatch
cluster: {preset: dgx-h100, num_nodes: 2}
workload: {kind: collective, op: dispatch, num_ranks: 16, tokens: 128 tokens}
model: {hidden: 7168, top_k: 8, experts: 64}
network: {all_to_all: hierarchical}
routing: {max_nodes_per_token: 2}
"""
JUDGED = (
    ALL_REDUCE
    + """\
claims:
  - {id: fast, says: fast, source: here, metric: busbw_bytes_per_s, expect: ">= 400 GB/s"}
  - {id: slow, says: slow, source: here, metric: collective_time_s, expect: ">= 1 s"}
alternatives:
  - {workload.bytes: 1 MiB}
"""
)


@pytest.fixture
def call(moesim, monkeypatch, tmp_path):
    """Return a function that writes a scenario and runs a command on it in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(text, *arguments):
        Path("case.yaml").write_text(text, encoding="utf-8")
        return moesim(arguments[0], "case.yaml", *arguments[1:])

    return run


@pytest.mark.parametrize(
    ("text", "changes", "how"),
    [
        (ALL_REDUCE, (), ("all_reduce", "nvls", "Simple")),
        (ALL_REDUCE, ("workload.bytes=8 B",), ("all_reduce", "tree", "LL")),
        (ALL_REDUCE, ("network.all_reduce=ring",), ("all_reduce", "ring", "Simple")),
        (ALL_REDUCE, ("workload.op=broadcast",), ("broadcast", "ring", "Simple")),
        (ALL_REDUCE, ("workload.op=send",), ("send", "send", "copy")),
        (ALL_REDUCE, ("workload.op=all_to_all",), ("all_to_all", "direct", "copy")),
        (DISPATCH, (), ("dispatch", "hierarchical", "DeepEP")),
    ],
)
def test_the_json_says_how_every_collective_ran(call, text, changes, how):
    """Algorithm and protocol; alone on the network, it takes the time that it was chosen by."""
    code, out, _ = call(text, "run", "--json", *(f"--set={change}" for change in changes))
    data = json.loads(out)
    (one,) = data["collectives"]
    assert code == 0
    assert (one["operation"], one["algorithm"], one["protocol"]) == how
    assert one["time_ns"] == pytest.approx(data["metrics"]["collective_time_s"] * 1e9, abs=2)


def test_claims_on_bandwidths_are_judged_under_alternatives(call):
    """More than 400 GB/s of bus bandwidth with 1 GiB, but not with 1 MiB; never a second."""
    code, out, _ = call(JUDGED, "run", "--json", "--jobs", "1")
    verdicts = {claim["id"]: claim["verdict"] for claim in json.loads(out)["claims"]}
    assert (code, verdicts) == (0, {"fast": "depends", "slow": "refuted"})
    assert call(JUDGED, "run", "--check", "--jobs", "1")[0] == 1


@pytest.mark.parametrize("text", [ALL_REDUCE, DISPATCH], ids=["all-reduce", "dispatch"])
def test_every_file_of_a_run_is_written(call, text):
    """Result, traces and pictures; the bytes between GPUs are those of the collective."""
    code, out, err = call(text, "run", "--out", "out")
    assert (code, err) == (0, "")
    names = {path.name for path in Path("out").iterdir()}
    assert {"result.json", "trace.npz", "trace.json", "timeline.png", "links.png", "pairs.npz", "pairs.png"} <= names
    assert "COLLECTIVE" in out


@pytest.mark.parametrize("suffix", [".png", ".svg", ".json"])
def test_a_collective_has_a_timeline(call, suffix):
    """One transfer."""
    code, _, err = call(ALL_REDUCE, "timeline", "-o", f"line{suffix}")
    assert (code, err) == (0, "")
    assert Path(f"line{suffix}").stat().st_size > 0


REFUSED = [
    # scenario, change, the message after the place
    (
        ALL_REDUCE,
        "workload.num_ranks=1",
        "workload.num_ranks must be at least 2, got 1. One rank has no other rank to exchange data with.",
    ),
    (
        ALL_REDUCE,
        "workload.num_ranks=17",
        "workload.num_ranks must be on the 16 GPUs of the cluster, got 17. Use fewer ranks, or more cluster.num_nodes.",
    ),
    (
        ALL_REDUCE,
        "workload={kind: collective, op: all_reduce, num_ranks: 2, ranks: [3, 16], bytes: 1 MB}",
        "workload.ranks must be on the 16 GPUs of the cluster, got 16. Use fewer ranks, or more cluster.num_nodes.",
    ),
    (
        ALL_REDUCE,
        "workload={kind: collective, op: all_reduce, num_ranks: 2, ranks: [3, 3], bytes: 1 MB}",
        "workload.ranks must name 2 different ranks, got [3, 3]. List each once, and as many as num_ranks says.",
    ),
    (
        ALL_REDUCE,
        "workload={kind: collective, op: all_reduce, num_ranks: 2, ranks: [3], bytes: 1 MB}",
        "workload.ranks must name 2 different ranks, got [3]. List each once, and as many as num_ranks says.",
    ),
    (
        DISPATCH,
        "model.experts=60",
        "model.experts must be a multiple of 16 ranks and at least top_k = 8, got 60. "
        "Each rank has equally many experts.",
    ),
    (
        DISPATCH,
        "model={preset: gpt-22b}",
        "model.top_k must be at least 1, got 0. Give top_k, or a model with experts.",
    ),
    (
        DISPATCH,
        "workload={kind: collective, op: all_gather, num_ranks: 16, tokens: 128}",
        "workload.tokens must be left out of op all_gather, got 128. Give bytes.",
    ),
]


@pytest.mark.parametrize(("text", "change", "message"), REFUSED)
def test_what_cannot_be_run_is_refused(call, text, change, message):
    """With exit code 2, the place, what is wrong and the hint."""
    code, out, err = call(text, "run", "--set", change)
    assert (code, out) == (2, "")
    assert err.endswith(f" {message}\n")
    assert err.startswith("moesim: ")


def test_a_limit_of_nodes_leaves_a_token_its_experts(call):
    """One of two nodes has 32 of 64 experts: 32 can be chosen there, 33 cannot."""
    limit = "routing.max_nodes_per_token=1"
    assert call(DISPATCH, "run", "--set", limit, "--set", "model.top_k=32")[0] == 0
    code, _, err = call(DISPATCH, "run", "--set", limit, "--set", "model.top_k=33")
    assert code == 2
    assert "must leave a token at least top_k = 33 of 64 experts on 2 nodes, got 1." in err


def test_a_limit_of_nodes_is_checked_where_a_model_runs(call):
    """16 experts on two nodes, 8 on each: a token cannot choose 9 on one."""
    text = """\
cluster: {preset: dgx-h100, num_nodes: 2}
model: {layers: 2, hidden: 1024, heads: 16, ffn: 1024, experts: 16, top_k: 9, vocab: 1000}
parallel: {strategy: EP16_TP1_PP1_DP16, convention: megatron}
workload: {kind: forward, sequences: 16, sequence_length: 128}
"""
    assert call(text, "run", "--set", "routing.max_nodes_per_token=2")[0] == 0
    code, _, err = call(text, "run", "--set", "routing.max_nodes_per_token=1")
    assert code == 2
    assert "must leave a token at least top_k = 9 of 16 experts on 2 nodes, got 1." in err


def test_a_combine_that_is_asked_for_in_fp8_says_that_it_is_sent_in_bf16(call):
    """DeepEP's combine: the type that is taken stands among the assumptions."""
    _, out, _ = call(DISPATCH, "run", "--json", "--set", "workload.op=combine", "--set", "model.dtype=fp8")
    types = [item["value"] for item in json.loads(out)["assumptions"] if item["key"] == "model.dtype"]
    assert types == ["bf16"]
