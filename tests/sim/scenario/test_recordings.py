"""Recordings of routing: what is read, what is refused with its hint, and how recordings are replayed."""

import io
import json
import re
import sys
import zipfile

import numpy as np
import pytest
from hf_configs import CONFIGS

from sim.build.build import build
from sim.build.cluster import cluster_of
from sim.build.routing import routing_of
from sim.errors import InvalidValueError
from sim.plan.expert_routing import copies_drawn, placed_experts
from sim.scenario.load import load_scenario
from sim.scenario.recordings import read_recording
from sim.scenario.recordings.arrays import Shape
from sim.studies.stress.report import expert_tokens
from workloads.placement import PlacementRequest, PlacementRule, place_experts

TOKENS = np.arange(1, 13, dtype=float).reshape(2, 2, 3)


def write_csv(path):
    """Write TOKENS, lines in any order."""
    lines = [f"{m},{layer},{e},{TOKENS[m, layer, e]:g}" for m, layer, e in np.ndindex(TOKENS.shape)]
    path.write_text("\n".join(["microbatch,layer,expert,tokens", *lines[::-1]]), encoding="utf-8")


def test_csv_and_npz_are_the_same(tmp_path):
    write_csv(tmp_path / "a.csv")
    np.savez(tmp_path / "a.npz", tokens=TOKENS)
    for name in ("a.csv", "a.npz"):
        np.testing.assert_array_equal(read_recording(tmp_path / name).tokens, TOKENS)


def test_one_microbatch_needs_no_column_for_it(tmp_path):
    (tmp_path / "a.csv").write_text("expert,layer,tokens\n1,0,5\n0,0,3\n", encoding="utf-8")
    assert read_recording(tmp_path / "a.csv").tokens.tolist() == [[[3.0, 5.0]]]


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "have columns of layer, expert and tokens"),
        ("layer,expert\n0,0\n", "have columns of layer, expert and tokens"),
        ("layer,expert,tokens\n0,0,x\n", "have numbers in every line, got line 2"),
        ("layer,expert,tokens\n0,-1,3\n", "number layers, experts and steps by whole numbers"),
        ("layer,expert,tokens\n0,0.5,3\n", "number layers, experts and steps by whole numbers"),
        ("layer,expert,tokens\n", "number layers, experts and steps by whole numbers"),
        ("layer,expert,tokens\n0,0,-3\n", "have finite tokens of at least 0"),
        (
            "step,layer,expert,tokens\n0,3,0,3\n0,4,0,3\n1,3,0,3\n",
            "have tokens in every layer of every step, got none in",
        ),
        ("layer,expert,tokens\n0,999999999,3\n", "have at most 33,554,432 counts, got 1,000,000,000"),
        ("layer,expert,tokens\n0,0,0\n", "have tokens, got only zeros"),
    ],
)
def test_what_is_no_recording_is_refused(tmp_path, text, rule):
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    with pytest.raises(InvalidValueError) as refusal:
        read_recording(tmp_path / "a.csv")
    assert rule in str(refusal.value)


def test_another_ending_or_content_is_refused(tmp_path):
    for name, content in (("a.txt", b"x"), ("a.npz", b"x")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InvalidValueError):
            read_recording(tmp_path / name)
    np.savez(tmp_path / "b.npz", one=TOKENS, other=TOKENS)
    with pytest.raises(InvalidValueError, match="have one array of routing, got one, other"):
        read_recording(tmp_path / "b.npz")


@pytest.mark.parametrize(
    ("tokens", "got"),
    [
        (
            np.zeros((2, 3), dtype=[("a", "f8"), ("b", "i8")]),
            "real numbers in tokens, got dtype [('a', '<f8'), ('b', '<i8')]",
        ),
        (np.zeros((2, 3), dtype=[("\u00e4", "f8")]), "real numbers in tokens, got dtype [('ä', '<f8')]"),
        (np.zeros((2, 3), dtype=[("\u4e00", "f8")]), "real numbers in tokens, got named fields"),
        (np.ones((2, 3), dtype=complex), "real numbers in tokens, got dtype complex128"),
        (np.ones((2, 3), dtype=bool), "real numbers in tokens, got dtype bool"),
        (np.full((2, 3), "1"), "real numbers in tokens, got dtype <U1"),
        (np.full((2, 3), None), "real numbers in tokens, got dtype object"),
        (np.zeros((2, 3), dtype="M8[s]"), "real numbers in tokens, got dtype datetime64[s]"),
        (np.ones(3), "[steps, layers, experts], got 1 dims"),
    ],
)
@pytest.mark.filterwarnings("ignore:Stored array in format 3.0")
def test_an_array_of_something_else_is_refused(tmp_path, tokens, got):
    np.savez(tmp_path / "a.npz", tokens=tokens)
    with pytest.raises(InvalidValueError, match=re.escape(got)):
        read_recording(tmp_path / "a.npz")


@pytest.mark.parametrize("kind", ["i2", "u8", "f4", "f8"])
def test_every_type_of_real_numbers_is_read(tmp_path, kind):
    np.savez_compressed(tmp_path / "a.npz", tokens=TOKENS.astype(kind))
    np.testing.assert_array_equal(read_recording(tmp_path / "a.npz").tokens, TOKENS)


def test_a_header_that_claims_too_much_is_refused_before_it_is_read(tmp_path):
    """A file of a few bytes that would ask for all memory; one with less than it claims; one that is no zip."""
    for shape, rule in (
        ((10**7, 10**7), "unpack to at most 256 MiB, got 95,367,432 MiB"),
        ((9, 9), "an NPZ file"),
    ):
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
            archive.writestr("tokens.npy", header.getvalue() + b"0")
        with pytest.raises(InvalidValueError, match=rule):
            read_recording(tmp_path / "a.npz")
    with (tmp_path / "b.npz").open("wb") as stream:
        np.save(stream, TOKENS)
    with pytest.raises(InvalidValueError, match="be an NPZ file of numbers"):
        read_recording(tmp_path / "b.npz")


def test_a_scenario_names_a_recording_beside_it(tmp_path, contract_text):
    """Its number of experts is checked against the model's."""
    np.savez(tmp_path / "a.npz", tokens=TOKENS)
    text = contract_text.replace("kind: multinomial", "kind: trace, file: a.npz")
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    scenario = load_scenario(str(tmp_path / "mine.yaml"))
    np.testing.assert_array_equal(
        routing_of(scenario, cluster_of(scenario), np.arange(3), shape=Shape(num_experts=3)).skew.loads, TOKENS
    )
    with pytest.raises(InvalidValueError, match="experts = 64 experts"):
        routing_of(scenario, cluster_of(scenario), np.arange(64), shape=Shape(num_experts=64))


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


def test_parquet_is_the_same_as_csv(tmp_path):
    """Where the extra `parquet` is installed; lines in any order, and one microbatch without its column."""
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    rows = [(m, layer, e, TOKENS[m, layer, e]) for m, layer, e in np.ndindex(TOKENS.shape)][::-1]
    frame = pandas.DataFrame(rows, columns=["microbatch", "layer", "expert", "tokens"])
    frame.to_parquet(tmp_path / "a.parquet")
    np.testing.assert_array_equal(read_recording(tmp_path / "a.parquet").tokens, TOKENS)
    frame[frame.microbatch == 0].drop(columns="microbatch").to_parquet(tmp_path / "b.parquet")
    np.testing.assert_array_equal(read_recording(tmp_path / "b.parquet").tokens, TOKENS[:1])
    frame.drop(columns="expert").to_parquet(tmp_path / "c.parquet")
    with pytest.raises(InvalidValueError, match="have columns of layer, expert and tokens"):
        read_recording(tmp_path / "c.parquet")
    (tmp_path / "d.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(InvalidValueError, match="be a Parquet file"):
        read_recording(tmp_path / "d.parquet")


def test_parquet_without_its_extra_names_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "a.parquet").write_bytes(b"")
    with pytest.raises(InvalidValueError, match=r"Install moesim\[parquet\], or write it as CSV or NPZ"):
        read_recording(tmp_path / "a.parquet")


# --- replayed -------------------------------------------------------------------------------------------------------

SMALL = """
cluster: {{preset: dgx-h100, num_nodes: 1}}
model: {{layers: {layers}, hidden: 512, heads: 8, ffn: 512, experts: 8, top_k: 2, vocab: 1000}}
parallel: {{strategy: EP4_TP1_PP1_DP8}}
workload: {{kind: forward, sequences: 16, sequence_length: 64, microbatches: 2}}
routing: {{kind: trace, file: a.npz}}
"""
COPIES = 16 * 64 * 2 // 2


def recorded(num_microbatches=2, num_layers=3, copies=COPIES):
    """Return whole counts that sum to the copies of a microbatch, uneven, each expert's at most its tokens."""
    rng = np.random.default_rng(4)
    return rng.multinomial(copies, rng.dirichlet(np.full(8, 2.0)), size=(num_microbatches, num_layers)).astype(float)


def replayed(tmp_path, loads, layers=3, extra=""):
    """Return counts of all sources [microbatches, layers, experts], and what was assumed of the file."""
    np.savez(tmp_path / "a.npz", tokens=loads)
    (tmp_path / "mine.yaml").write_text(SMALL.format(layers=layers) + extra, encoding="utf-8")
    built = build(load_scenario(str(tmp_path / "mine.yaml")))
    work = built.work
    lanes = [copies_drawn(work, lane, list(range(layers)), range(2)) for lane in range(work.mesh.num_lanes)]
    assert len(lanes) == 2
    assert all(np.ptp(lane.sum(axis=2)) == 0 for lane in lanes)  # each source has its copies
    counts = sum(lane.sum(axis=1) for lane in lanes).reshape(2, layers, 8)
    return counts, next(item for item in built.assumptions if item.key == "routing.file")


def test_whole_counts_of_the_runs_tokens_are_replayed_as_they_are(tmp_path):
    """To the copy, over two lanes of four sources; sources share each expert's evenly."""
    loads = recorded()
    counts, assumed = replayed(tmp_path, loads)
    np.testing.assert_array_equal(counts, loads)
    assert assumed.value == "counts"
    read = "read as token counts: 3 layers (0 to 2), 8 experts, 2 steps"
    assert (
        assumed.why == f"the 1,024 copies of each microbatch and layer are those of the run: dealt out evenly; {read}"
    )


@pytest.mark.parametrize("loads", [2 * recorded(), recorded() / 3, recorded(copies=COPIES - 1)])
def test_other_counts_are_replayed_as_shares(tmp_path, loads):
    """Drawn: not the recorded numbers, and near them; and the run says so."""
    counts, assumed = replayed(tmp_path, loads)
    wanted = loads / loads.sum(axis=2, keepdims=True) * COPIES
    assert (counts.sum(axis=2) == COPIES).all()
    assert (np.abs(counts - wanted) <= 6 * np.sqrt(wanted) + 1).all()
    assert not np.array_equal(counts, np.rint(wanted))
    assert assumed.value == "shares"
    read = "token counts" if (loads == np.floor(loads)).all() else "shares, not counts"
    assert f"to 1,024: tokens are drawn by them; read as {read}" in assumed.why


def test_a_recording_that_is_too_short_says_that_it_is_repeated(tmp_path):
    counts, assumed = replayed(tmp_path, recorded(num_microbatches=1, num_layers=2))
    np.testing.assert_array_equal(counts[0], counts[1])
    np.testing.assert_array_equal(counts[:, 0], counts[:, 2])
    assert "it has 1 of 2 microbatches and 2 of 3 layers, and is repeated" in assumed.why


def test_what_a_run_does_not_replay_of_a_recording_is_said(tmp_path):
    """Layers by the numbers of the file, and microbatches by how many they are."""
    _, assumed = replayed(tmp_path, recorded(num_microbatches=5, num_layers=4), layers=2)
    unused = "the last 3 of its 5 microbatches are not replayed; the last 2 of its 4 layers (2 to 3) are not replayed"
    assert unused in assumed.why
    _, assumed = replayed(tmp_path, recorded(num_microbatches=3))
    assert "; the last of its 3 microbatches is not replayed;" in assumed.why
    assert "layers (" not in assumed.why.split("; read as")[0]
    _, assumed = replayed(tmp_path, recorded(num_microbatches=1, num_layers=2))
    assert "not replayed" not in assumed.why


def test_a_plan_sees_the_end_of_a_recording_as_what_was_before(tmp_path):
    """Microbatches -1 and -2 are the last and the one before; the run says so."""
    loads = recorded(num_microbatches=3)
    extra = "placement: {kind: greedy, window: 1, stale: 1}\n"
    _, assumed = replayed(tmp_path, loads, extra=extra)
    assert "a plan sees its last microbatches as those before the run" in assumed.why
    work = build(load_scenario(str(tmp_path / "mine.yaml"))).work
    wanted = place_experts(
        PlacementRequest(rule=PlacementRule(kind="greedy"), num_experts=8, num_ranks=4, loads=loads[1, 0])
    )
    np.testing.assert_array_equal(placed_experts(work, 0, 0), wanted)


@pytest.mark.parametrize(
    "model",
    [
        "{preset: mixtral-8x7b}",
        "{hf_config: config.json}",
        "{layers: 32, hidden: 4096, heads: 32, ffn: 14336, experts: 8, top_k: 2, vocab: 32000}",
    ],
)
def test_a_recording_is_read_by_the_model_however_the_model_is_given(tmp_path, model):
    """Ids [3, 32, 64, 2] of a model of 32 layers are 3 steps of 64 tokens, not 3 steps of 64 layers."""
    (tmp_path / "config.json").write_text(json.dumps(CONFIGS["mixtral-8x7b"]), encoding="utf-8")
    np.save(
        tmp_path / "ids.npy",
        np.random.default_rng(1).permuted(np.arange(8) + np.zeros((3, 32, 64, 1), int), axis=3)[..., :2],
    )
    (tmp_path / "a.yaml").write_text(
        f"cluster: {{preset: dgx-h100, num_nodes: 1}}\nmodel: {model}\nparallel: {{strategy: EP8_TP1_PP1_DP8}}\n"
        "workload: {kind: forward, sequences: 8, sequence_length: 64, microbatches: 1}\n"
        "routing: {kind: trace, file: ids.npy}\n",
        encoding="utf-8",
    )
    loads = build(load_scenario(tmp_path / "a.yaml")).work.routing.skew.loads
    assert loads.shape == (3, 32, 8)
    assert (loads.sum(axis=2) == 64 * 2).all()
