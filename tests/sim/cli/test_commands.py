"""The commands as a user types them: what they print, write and exit with."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from sim.cli import main
from sim.engine.trace import COLUMNS

SMALL = [
    "--set",
    "workload.batches=1",
    "--set",
    "workload.sequences=8",
    "--set",
    "workload.microbatches=2",
    "--set",
    "workload.sequence_length=1024",
]
"""Makes the bundled scenarios quick."""


class Said(NamedTuple):
    """What a command said."""

    code: int
    out: str
    err: str


@pytest.fixture
def moesim(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Run a command in this process."""

    def call(*arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["moesim", *arguments])
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 0
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return call


def test_run_prints_verdicts_metrics_and_times(moesim: Callable[..., Said]) -> None:
    """The tables of the main job name the strategy, the verdicts and both accounts."""
    said = moesim("run", "ep16_tp16_pp4", *SMALL)
    assert said.code == 0
    for word in ("refuted", "throughput", "latency", "attention", "bubble"):
        assert word in said.out


def test_json_is_one_object_with_the_contracts_keys(moesim: Callable[..., Said]) -> None:
    """Names and sums that outside checks rely on."""
    said = moesim("run", "ep16_tp16_pp4", *SMALL, "--json")
    data = json.loads(said.out)
    assert {
        "schema_version",
        "scenario",
        "assumptions",
        "warnings",
        "metrics",
        "path_ns",
        "stages_ns",
        "memory",
        "conservation",
        "links",
        "claims",
        "engine",
    } <= set(data)
    step_ns = round(data["metrics"]["step_time_s"] * 1e9)
    assert sum(data["path_ns"].values()) == step_ns
    assert all(sum(stage.values()) == step_ns for stage in data["stages_ns"])
    assert "other" not in data["path_ns"]
    assert data["memory"]["peak_bytes_per_gpu"]["total"] > 0
    assert set(data["claims"][0]["expect"]) == {"op", "value", "unit", "tolerance"}
    assert set(data["engine"]) >= {"wall_s", "plan_wall_s", "runs", "stage_ops", "spans", "events", "solves", "folded"}


def test_out_writes_four_files_and_nothing_is_written_without_it(
    moesim: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """result.json, trace.npz, timeline.png, trace.json; no temporary file is left."""
    monkeypatch.chdir(tmp_path)
    moesim("run", "ep16_tp16_pp4", *SMALL)
    assert list(tmp_path.iterdir()) == []
    said = moesim("run", "ep16_tp16_pp4", *SMALL, "--out", "new/out")
    names = sorted(path.name for path in (tmp_path / "new" / "out").iterdir())
    assert names == ["result.json", "timeline.png", "trace.json", "trace.npz"]
    assert all(name in said.out for name in names)
    with np.load(tmp_path / "new" / "out" / "trace.npz") as columns:
        assert tuple(columns.files) == COLUMNS
        assert len({columns[name].size for name in COLUMNS}) == 1
        assert set(columns["stream"]) <= {"pass", "compute", "comm", "p2p", "foreign"}


def test_check_exits_with_1_when_a_claim_fails_and_with_0_when_none_does(moesim: Callable[..., Said]) -> None:
    """`refuted` and `depends` fail; no claims, nothing to fail."""
    assert moesim("run", "ep16_tp16_pp4", *SMALL, "--check").code == 1
    assert moesim("run", "ep16_tp16_pp4", *SMALL, "--set", "claims=[]", "--check").code == 0


def test_a_seed_changes_random_routing_and_nothing_else_does(moesim: Callable[..., Said]) -> None:
    """The same seed gives the same figures."""
    base = ["run", "ep64_tp16_pp4_multinomial", *SMALL, "--set", "claims=[]", "--json", "--seed"]
    steps = [json.loads(moesim(*base, seed).out)["metrics"]["step_time_s"] for seed in ("1", "1", "2")]
    assert steps[0] == steps[1] != steps[2]


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf", ".json"])
def test_timeline_writes_what_the_suffix_names(moesim: Callable[..., Said], tmp_path: Path, suffix: str) -> None:
    """Each kind of file begins as such a file does."""
    path = tmp_path / f"picture{suffix}"
    said = moesim("timeline", "ep64_tp16_pp4", *SMALL, "-o", str(path))
    assert (said.code, said.err) == (0, "")
    begins = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF", ".json": b"{"}[suffix]
    assert path.read_bytes().startswith(begins)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["timeline", "ep64_tp16_pp4", "-o", "a.gif"],
            "moesim: --output must end in one of .png, .svg, .pdf, .json, got a.gif. For example: -o out.png\n",
        ),
        (
            ["timeline", "ep64_tp16_pp4", "-o", "a.png", "--window", "5", "2"],
            "moesim: --window must be two times in ms, the first smaller, got (5.0, 2.0). For example: --window 0 50\n",
        ),
        (
            ["list", "preset"],
            "moesim: WHAT must be one of presets, models, schedules, metrics, scenarios, got preset. "
            "Did you mean presets?\n",
        ),
        (
            ["init", "mine.txt"],
            "moesim: FILE must end in .yaml, got mine.txt. For example: moesim init mine.yaml\n",
        ),
        (
            ["explain", "EP64_XX2"],
            "moesim: STRATEGY must be made of known parts, not 'XX2', got 'EP64_XX2'. "
            "Join axes and sizes with _, as in EP64_TP16_PP4 (TP PP EP DP CP ETP VPP SP).\n",
        ),
    ],
)
def test_bad_arguments_are_refused_with_rule_value_and_cure(
    moesim: Callable[..., Said], arguments: list[str], message: str
) -> None:
    """One line on standard error, exit 2, nothing on standard output."""
    assert moesim(*arguments) == Said(2, "", message)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("parallel.strategy=EP64_TP16_PP8", ["parallel.strategy", "spanning", "Nearest legal"]),
        ("cluster.preset=dgx-h10", ["cluster.preset", "name a known cluster", "dgx-h100"]),
        ("cluster.device.preset=h100", ["cluster.device.preset", "h100-sxm"]),
        ("workload.microbatches=7", ["workload.sequences", "multiple of DP x microbatches"]),
        ("model.layers=18", ["parallel.stage_layers", "[5, 5, 4, 4]"]),
        ("model.top_k=65", ["model.top_k", "at most model.experts = 64"]),
        ("claims.0.metric=speed", ["claims.0.metric", "name a known metric"]),
        ("model.dense_layers=17", ["model.dense_layers", "at most model.layers = 16"]),
        ("parallel.tp=8", ["parallel.tp", "agree with TP16 in parallel.strategy"]),
    ],
)
def test_a_scenario_that_cannot_be_is_refused_before_anything_runs(
    moesim: Callable[..., Said], change: str, words: list[str]
) -> None:
    """Cross-section checks name the field, the rule and the cure, with exit 2; with --json as an object too."""
    said = moesim("run", "ep64_tp16_pp4", "--set", change, "--json")
    error = json.loads(said.out)["error"]
    assert said.code == 2
    assert set(error) == {"file", "line", "field", "rule", "value", "cure"}
    assert said.err.count("\n") == 1
    for word in words:
        assert word in said.err


def test_a_deadlock_ends_with_3_and_names_the_cycle(moesim: Callable[..., Said]) -> None:
    """The spanning exchange as a blocking collective of all ranks."""
    said = moesim("run", "ep64_tp16_pp4", *SMALL, "--set", "parallel.exchange=blocking", "--set", "claims=[]")
    assert said.code == 3
    assert "deadlock" in said.err
    assert "stage 0 -> stage 1 -> stage 0" in said.err


def test_an_unwritable_folder_ends_with_4(moesim: Callable[..., Said], tmp_path: Path) -> None:
    """A file stands where the folder should be."""
    (tmp_path / "taken").write_text("")
    said = moesim("run", "ep16_tp16_pp4", *SMALL, "--out", str(tmp_path / "taken"))
    assert (said.code, said.out) == (4, "")
    assert "taken" in said.err


def test_explain_shows_every_convention_and_legal_names(moesim: Callable[..., Said]) -> None:
    """The document's strategy is legal in the spanning reading alone."""
    data = json.loads(moesim("explain", "EP64_TP16_PP4", "--gpus", "64", "--json").out)
    legal = {name: entry["legal"] for name, entry in data["conventions"].items()}
    assert legal == {"megatron": False, "vllm": False, "spanning": True}
    assert "256 GPUs" in data["conventions"]["megatron"]["why"]
    assert "EP16_TP16_PP4" in data["conventions"]["megatron"]["nearest_legal"]


@pytest.mark.parametrize("what", ["presets", "models", "schedules", "metrics", "scenarios"])
def test_lists_have_rows_with_every_column(moesim: Callable[..., Said], what: str) -> None:
    """As tables and as JSON."""
    tables = json.loads(moesim("list", what, "--json").out)
    text = moesim("list", what).out
    for rows in tables.values():
        assert rows
        assert all(str(row["name"]) in text for row in rows)


def test_schema_and_starter_serve_an_editor_and_a_beginner(moesim: Callable[..., Said], tmp_path: Path) -> None:
    """The schema is JSON; the starter runs; a file that exists is not overwritten."""
    assert json.loads(moesim("schema").out)["$schema"].startswith("https://json-schema.org/")
    path = tmp_path / "mine.yaml"
    assert moesim("init", str(path)).code == 0
    assert moesim("init", str(path)).code == 2
    assert moesim("run", str(path)).code == 0


def test_version_and_help_name_an_example(moesim: Callable[..., Said]) -> None:
    """Every command's help ends with an example."""
    assert moesim("--version").out.startswith("moesim ")
    for command in ("run", "timeline", "explain", "list", "schema", "init"):
        assert "Example: moesim" in moesim(command, "--help").out
