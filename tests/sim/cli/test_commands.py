"""The commands as a user types them: what they print, write and exit with."""

import importlib
import inspect
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from saying import Said

from sim.cli.app import COMMANDS
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


def test_run_prints_verdicts_metrics_and_times(moesim: Callable[..., Said]) -> None:
    """By default a screen that begins with the conclusion; with --verbose every verdict, metric and account."""
    said = moesim("run", "ep16_tp16_pp4", *SMALL)
    assert said.code == 0
    for word in ("\n\nRefuted: ", "REFUTED", "“26M tokens/second” (section 6)", "WHERE THE TIME WENT"):
        assert word in said.out
    assert "METRICS" not in said.out
    whole = moesim("run", "ep16_tp16_pp4", *SMALL, "--verbose").out
    for word in ("\n\nRefuted: ", "✗ refuted", "throughput", "latency", "attention", "bubble_fraction"):
        assert word in whole


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


def test_out_writes_its_files_and_nothing_is_written_without_it(
    moesim: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Result, page, traces, arrays and pictures; no temporary file is left."""
    monkeypatch.chdir(tmp_path)
    moesim("run", "ep16_tp16_pp4", *SMALL)
    assert list(tmp_path.iterdir()) == []
    said = moesim("run", "ep16_tp16_pp4", *SMALL, "--out", "new/out")
    names = sorted(path.name for path in (tmp_path / "new" / "out").iterdir())
    pictures = ["links.png", "memory.png", "pairs.png", "timeline.png"]
    files = ["details.npz", "pairs.npz", "report.html", "result.json", "trace.json", "trace.npz", "trace.pftrace"]
    assert names == sorted([*pictures, *files])
    assert all(name in said.out for name in names)
    with np.load(tmp_path / "new" / "out" / "trace.npz") as columns:
        assert tuple(columns.files) == COLUMNS
        assert len({columns[name].size for name in COLUMNS}) == 1
        assert set(columns["stream"]) <= {"pass", "compute", "comm", "p2p", "foreign"}


def test_check_exits_with_1_when_a_claim_fails_and_with_0_when_none_does(moesim: Callable[..., Said]) -> None:
    """`refuted` and `depends` fail; no claims, nothing to fail."""
    assert moesim("run", "ep16_tp16_pp4", *SMALL, "--check").code == 1
    assert moesim("run", "ep16_tp16_pp4", *SMALL, "--set", "claims=[]", "--check").code == 0


def test_check_exits_with_1_where_memory_is_exceeded_and_no_claim_is_about_that(moesim: Callable[..., Said]) -> None:
    """A claim on it decides alone, also one that says so."""
    tight = [*SMALL, "--set", "cluster.device.memory=100 MB", "--check"]
    claim = "claims=[{id: fits, says: over, source: here, metric: fits, expect: == false}]"
    assert moesim("run", "ep16_tp16_pp4", *tight, "--set", "claims=[]").code == 1
    assert moesim("run", "ep16_tp16_pp4", *tight, "--set", claim).code == 0
    assert moesim("run", "ep16_tp16_pp4", *tight[:-1], "--set", "claims=[]").code == 0


def test_a_run_of_passes_tells_nothing_of_gpus_and_routing(moesim: Callable[..., Said], tmp_path: Path) -> None:
    """It has neither; the JSON keeps its keys."""
    passes = "parallel: {pp: 2}\nworkload: {kind: passes, microbatches: 3, pass_times: {F: 1 ms, B: 2 ms}}\n"
    (tmp_path / "mine.yaml").write_text(passes)
    said = moesim("run", str(tmp_path / "mine.yaml")).out
    assert "PP2 · passes of 3 microbatches · schedule 1f1b" in said
    assert not [word for word in ("routing", "convention", "GPU", "gpus") if word in said]
    assert json.loads(moesim("run", str(tmp_path / "mine.yaml"), "--json").out)["metrics"]["num_gpus"] == 2


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
            "moesim: --output must end in one of .png, .svg, .pdf, .pftrace, .json, got a.gif. "
            "For example: -o out.png\n",
        ),
        (
            ["timeline", "ep64_tp16_pp4", "-o", "a.png", "--window", "5", "2"],
            "moesim: --window must be two times in ms, the first smaller, got 5 2. For example: --window 0 50\n",
        ),
        (
            ["timeline", "ep64_tp16_pp4", "-o", "a.png", "--window", "0", "inf"],
            "moesim: --window must be two times in ms, the first smaller, got 0 inf. For example: --window 0 50\n",
        ),
        (
            ["timeline", "ep64_tp16_pp4", "-o", "a.json", "--window", "1", "2"],
            "moesim: --window must be left out for .json, got 1 2. "
            "A Perfetto trace holds the whole run: zoom there, or write .png, .svg or .pdf.\n",
        ),
        (
            ["list", "preset"],
            "moesim: WHAT must be one of presets, models, schedules, metrics, scenarios, got preset. "
            "Did you mean `presets`?\n",
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
def test_bad_arguments_are_refused_with_rule_value_and_hint(
    moesim: Callable[..., Said], arguments: list[str], message: str
) -> None:
    """One line on standard error, exit 2, nothing on standard output."""
    assert moesim(*arguments) == Said(2, "", message)


NUMBERS = "moesim: {} must be an integer of at least {}, got {}. For example: {} 1\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "x", "--seed", "-1"], NUMBERS.format("--seed", "0 and at most 1,000,000,000,000", "-1", "--seed")),
        (["run", "x", "--seed=abc"], NUMBERS.format("--seed", "0 and at most 1,000,000,000,000", "abc", "--seed")),
        (
            ["run", "x", "--seed="],
            NUMBERS.format("--seed", "0 and at most 1,000,000,000,000", "an empty text", "--seed"),
        ),
        (["run", "x", "--jobs", "0"], NUMBERS.format("--jobs", 1, "0", "--jobs")),
        (["explain", "EP4", "--gpus", "0"], NUMBERS.format("--gpus", "1 and at most 65,536", "0", "--gpus")),
        (["list"], "moesim: WHAT must be given, got nothing. For example: moesim list presets\n"),
        (
            ["run"],
            "moesim: SCENARIO must be given, got nothing. "
            "For example: moesim run ep64_tp16_pp4 --set model.top_k=1 --out out/\n",
        ),
        (
            ["timeline", "x"],
            "moesim: --output must be given, got nothing. For example: moesim timeline ep64_tp16_pp4 -o timeline.svg\n",
        ),
        (
            ["timeline", "x", "-o", "a.png", "--window", "1", "b"],
            "moesim: --window must be 2 numbers, got b. For example: --window 0 50\n",
        ),
    ],
)
def test_a_value_that_an_option_does_not_take_is_refused_like_all_other_input(
    moesim: Callable[..., Said], arguments: list[str], message: str
) -> None:
    """One line of our own form and exit 2; with --json the same parts as an object."""
    assert moesim(*arguments) == Said(2, "", message)
    said = moesim(*arguments, "--json")
    error = json.loads(said.out)["error"]
    assert (said.code, said.err) == (2, message)
    assert set(error) == {"file", "line", "field", "rule", "value", "cure"}
    assert message == f"moesim: {error['field']} must {error['rule']}, got {error['value']}. {error['cure']}\n"


@pytest.mark.parametrize(
    ("arguments", "field", "words"),
    [
        (["rum", "x"], "the command", ["No such command 'rum'", "Did you mean 'run'?"]),
        (["run", "x", "--sed", "3"], "an option", ["No such option: --sed", "--seed"]),
        (["--foo"], "an option", ["No such option: --foo"]),
        (["run", "x", "--seed"], "--seed", ["'--seed' requires an argument", "See moesim --help."]),
        (["timeline", "x", "-o", "a.png", "--window", "1"], "--window", ["'--window' requires 2 arguments"]),
        (["run", "x", "--check=3"], "--check", ["'--check' does not take a value"]),
        (["list", "presets", "models"], "the command", ["(models)", "For example: moesim list presets"]),
        (["schema", "x"], "the command", ["(x)", "For example: moesim schema > moesim.schema.json"]),
    ],
)
def test_arguments_that_do_not_fit_a_command_are_refused_in_the_parsers_words(
    moesim: Callable[..., Said], arguments: list[str], field: str, words: list[str]
) -> None:
    """One line and exit 2; the object of --json, where the parser has not taken it as a value, has the same words."""
    said = moesim(*arguments)
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert all(word in said.err for word in words)
    said = moesim(arguments[0], "--json", *arguments[1:])
    error = json.loads(said.out)["error"]
    assert set(error) == {"file", "line", "field", "rule", "value", "cure"}
    if arguments != ["--foo"]:  # nothing has been read before `--json` there
        assert (said.code, error["field"]) == (2, field)
        assert error["value"].rstrip(".") in said.err
        assert said.err.endswith(f" {error['cure']}\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_the_arguments_of_a_command_are_those_of_the_function_that_does_its_work(name: str) -> None:
    """The function has a default for each argument that may be left out."""
    module, _, attribute = name.rpartition(".")
    does = inspect.signature(getattr(importlib.import_module(module), attribute)).parameters
    declared = inspect.signature(COMMANDS[name]).parameters
    assert set(does) == set(declared)
    for key, argument in declared.items():
        if argument.default is None:
            assert does[key].default in ((), None)


def test_moesim_alone_and_its_help_show_the_commands(moesim: Callable[..., Said]) -> None:
    """Both print the help, and no error."""
    for arguments in ((), ("--help",), ("-h",), ("run", "--help")):
        said = moesim(*arguments)
        assert said.err == ""
        assert "Usage: moesim" in said.out
        assert said.code == (0 if arguments else 2)


def test_an_interrupt_ends_with_130(moesim: Callable[..., Said], monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while a command runs."""

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sim.cli.listing.list_command", interrupt)
    assert moesim("list", "presets") == Said(130, "", "interrupted\n")


def test_a_missing_scenario_file_is_named_as_the_file(moesim: Callable[..., Said]) -> None:
    """The path stands where the place of an error stands."""
    error = json.loads(moesim("run", "no/such.yaml", "--json").out)["error"]
    assert (error["file"], error["line"], error["field"]) == ("no/such.yaml", None, "the scenario")


@pytest.mark.parametrize("output", ["a.png", "a.svg"])
def test_a_window_outside_the_run_is_refused_with_the_length_of_the_run(
    moesim: Callable[..., Said], tmp_path: Path, output: str
) -> None:
    """Nothing is drawn where nothing would be seen."""
    step_s = json.loads(moesim("run", "ep64_tp16_pp4", *SMALL, "--set", "claims=[]", "--json").out)["metrics"][
        "step_time_s"
    ]
    path = tmp_path / output
    said = moesim("timeline", "ep64_tp16_pp4", *SMALL, "-o", str(path), "--window", "1e6", "2e6")
    assert said.code == 2
    assert said.err.startswith(
        f"moesim: --window must lie in the run, which lasts {step_s * 1e3:.6g} ms, got 1e+06 2e+06. For"
    )
    assert not path.exists()


@pytest.mark.parametrize(("window", "has_notes"), [(("0", "1e6"), True), (("0", "1"), False), ((), True)])
def test_notes_on_the_whole_run_stand_beside_the_whole_run_alone(
    moesim: Callable[..., Said],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    window: tuple[str, ...],
    has_notes: bool,
) -> None:
    """Idle shares of the run would be read as those of the part that is drawn."""
    seen: dict[str, object] = {}
    monkeypatch.setattr("sim.cli.timeline.write_drawing", lambda *_, **named: seen.update(named))
    chosen = ["--window", *window] if window else []
    moesim("timeline", "ep64_tp16_pp4", *SMALL, "-o", str(tmp_path / "a.png"), *chosen)
    assert (seen["notes"] is not None) == has_notes


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
    """Cross-section checks name the field, the rule and the hint, with exit 2; with --json as an object too."""
    said = moesim("run", "ep64_tp16_pp4", "--set", change, "--json")
    error = json.loads(said.out)["error"]
    assert said.code == 2
    assert set(error) == {"file", "line", "field", "rule", "value", "cure"}
    assert said.err.count("\n") == 1
    for word in words:
        assert word in said.err


def test_a_deadlock_ends_with_3_and_names_the_cycle(moesim: Callable[..., Said]) -> None:
    """The spanning exchange as a blocking collective of all ranks."""
    arguments = ("run", "ep64_tp16_pp4", *SMALL, "--set", "parallel.exchange=blocking", "--set", "claims=[]")
    said = moesim(*arguments, "--json")
    assert said.code == 3
    error = json.loads(said.out)["error"]
    assert error == dict.fromkeys(["file", "line", "field", "rule", "value", "cure"]) | {"message": error["message"]}
    assert said.err == f"moesim: {error['message']}\n"
    assert "deadlock" in said.err
    assert "stage 0 -> stage 1 -> stage 0" in said.err


def test_an_unwritable_folder_ends_with_4(moesim: Callable[..., Said], tmp_path: Path) -> None:
    """A file stands where the folder should be."""
    (tmp_path / "taken").write_text("")
    said = moesim("run", "ep16_tp16_pp4", *SMALL, "--out", str(tmp_path / "taken"))
    assert (said.code, said.out) == (4, "")
    assert "taken" in said.err
    error = json.loads(moesim("init", str(tmp_path / "none" / "mine.yaml"), "--json").out)["error"]
    assert set(error) == {"file", "line", "field", "rule", "value", "cure", "message"}
    assert (error["file"], error["field"]) == (str(tmp_path / "none" / "mine.yaml"), None)


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
