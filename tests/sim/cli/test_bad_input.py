"""Bad input as a user gives it: field, rule and hint, exit 2, no traceback, nothing written."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import pytest
from bad_inputs import ARGUMENTS, EDITS, FILES, GOOD, Refused

from sim.cli import main
from sim.scenario.json_schema import json_schema

CHECKOUT = Path(__file__).parents[3]


class Answer(NamedTuple):
    """What a command said."""

    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def hang_guard() -> Iterator[None]:
    """End a test that hangs, so that it does not take the suite along; a minute and a half is no test of speed."""
    if not hasattr(signal, "SIGALRM") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(*_: object) -> None:
        pytest.fail("the command hangs")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(90)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., Answer]:
    """Return `moesim run ... --out out` in an empty folder, which must be as it was afterwards."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> Answer:
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        monkeypatch.setattr(sys, "argv", ["moesim", "run", *arguments, "--out", "out"])
        with pytest.raises(SystemExit) as ended:
            main()
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
        said = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Answer(ended.value.code, said.out, said.err)

    return call


def check(said: Answer, refused: Refused, *, file: str | None = None) -> None:
    """Check that a command ended with 2 and said where, what, which rule and what to write instead, in one line."""
    place, field, rule, hint = refused
    error = json.loads(said.out)["error"]
    assert said.code == 2
    assert said.err.startswith("moesim: ")
    assert said.err.count("\n") == 1
    assert all(part in said.err for part in (error["field"], error["rule"], error["cure"]))
    assert (error["file"], error["line"]) == ((file, place) if isinstance(place, int) or file else (place, None))
    assert error["field"] == field
    assert error["rule"].startswith(rule)
    assert error["cure"].startswith(hint)


@pytest.mark.parametrize(("old", "new", "refused"), EDITS)
def test_one_wrong_thing_is_told_with_line_field_rule_and_hint(
    run: Callable[..., Answer], old: str, new: str, refused: Refused
) -> None:
    """The scenario runs but for that one thing."""
    assert old in GOOD
    Path("bad.yaml").write_text(GOOD.replace(old, new, 1), encoding="utf-8")
    check(run("bad.yaml", "--json"), refused, file="bad.yaml")


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_scenario_is_refused(run: Callable[..., Answer], name: str) -> None:
    """Empty, enormous, deep, aliased, cyclic, tagged, binary or in another encoding."""
    content, refused = FILES[name]
    Path("bad.yaml").write_bytes(content)
    check(run("bad.yaml", "--json"), refused, file="bad.yaml")


@pytest.mark.parametrize(("arguments", "refused"), ARGUMENTS)
def test_a_wrong_path_name_or_change_is_named_as_the_place(
    run: Callable[..., Answer], arguments: list[str], refused: Refused
) -> None:
    """The file itself is good."""
    Path("good.yaml").write_text(GOOD, encoding="utf-8")
    check(run(*arguments, "--json"), refused)


def test_the_parts_of_a_message_stand_in_the_json(run: Callable[..., Answer]) -> None:
    """With --json the same words, and nothing but the object on standard output."""
    Path("bad.yaml").write_text(GOOD.replace("hidden", "hiden"), encoding="utf-8")
    said = run("bad.yaml", "--json")
    assert said.err == "moesim: bad.yaml:7: model.hiden must be a known key, got hiden. Did you mean `hidden`?\n"
    assert json.loads(said.out) == {
        "error": {
            "file": "bad.yaml",
            "line": 7,
            "field": "model.hiden",
            "rule": "be a known key",
            "value": "hiden",
            "cure": "Did you mean `hidden`?",
        }
    }


def test_a_model_larger_than_memory_is_a_finding_and_not_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """How much is missing is a result: the times are those of a device that could hold it."""
    monkeypatch.chdir(tmp_path)
    Path("large.yaml").write_text(GOOD.replace("  num_nodes: 1", "  num_nodes: 1\n  device: {memory: 1 MB}"))
    monkeypatch.setattr(sys, "argv", ["moesim", "run", "large.yaml", "--json", "--set", "claims=[]"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code in (0, None)
    said = json.loads(capsys.readouterr().out)["findings"][0]
    assert said.startswith("It does not fit into memory, and is no valid strategy: rank 0 of stage 0 needs 3.081 GB")
    assert "has 1 MB, of which context and communicators take 1.186 GB; most are weights" in said


FORBIDDEN = (
    "moesim: secret.yaml: the file must be readable, got no permission to read it. "
    "Change its permissions, or copy it.\n"
)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads files that nobody may read")
def test_a_file_without_permission_is_refused(run: Callable[..., Answer]) -> None:
    """Not a traceback of the operating system's error."""
    Path("secret.yaml").write_text(GOOD, encoding="utf-8")
    Path("secret.yaml").chmod(0)
    assert run("secret.yaml") == Answer(2, "", FORBIDDEN)


def test_a_file_that_the_system_refuses_to_open_is_refused(
    run: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same where the tests are run by root."""
    opens = Path.open

    def refuse(path: Path, *arguments: Any, **named: Any) -> IO[Any]:
        if path.name == "secret.yaml":
            raise PermissionError(13, "Permission denied", str(path))
        return opens(path, *arguments, **named)

    Path("secret.yaml").write_text(GOOD, encoding="utf-8")
    monkeypatch.setattr(Path, "open", refuse)
    assert run("secret.yaml") == Answer(2, "", FORBIDDEN)


@pytest.mark.parametrize("name", ["binary", "laughs", "python", "keys"])
def test_a_process_ends_with_2_and_one_line(tmp_path: Path, name: str) -> None:
    """As above, in a process of its own: no traceback, and no file in the folder it runs in."""
    content, refused = FILES[name]
    (tmp_path / "bad.yaml").write_bytes(content)
    ended = subprocess.run(
        [sys.executable, "-c", "from sim.cli import main; main()", "run", "bad.yaml", "--json", "--out", "out"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        check=False,
    )
    check(Answer(ended.returncode, ended.stdout, ended.stderr), refused, file="bad.yaml")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.yaml"]


CODE = [
    "!!python/object/apply:os.system ['touch pwned']",
    "!!python/object/new:subprocess.Popen [['touch', 'pwned']]",
    "!!python/name:os.system",
    "!!python/module:os",
    "!<tag:yaml.org,2002:python/object/apply:os.system> [touch pwned]",
    "${IFS}$(touch pwned)",
    "`touch pwned`",
    "__import__('os').system('touch pwned')",
    "{{ ''.__class__.__mro__ }}",
    "../../../../etc/passwd",
    "file:///etc/passwd",
    "!include secret.yaml",
]


STARTS = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "socket.connect")
"""What the interpreter says before it starts another program, or reaches the network."""
SECRETS = ("secret.yaml", "passwd")
"""Files that no scenario of ours names."""


@pytest.fixture(scope="module")
def audited() -> Iterator[list[tuple[str, tuple[object, ...]]]]:
    """Return what the interpreter says it opens and starts; a hook cannot be taken away again, but can be silent."""
    events: list[tuple[str, tuple[object, ...]]] = []
    listening = [True]

    def hear(event: str, details: tuple[object, ...]) -> None:
        if listening and (event == "open" or event in STARTS):
            events.append((event, details))

    sys.addaudithook(hear)
    yield events
    listening.clear()


@pytest.mark.parametrize("value", CODE)
@pytest.mark.parametrize("key", ["name", "seed", "cluster.preset", "model.preset", "parallel.strategy", "routing.kind"])
def test_no_value_runs_code_or_reads_another_file(
    run: Callable[..., Answer], audited: list[tuple[str, tuple[object, ...]]], key: str, value: str
) -> None:
    """A text is a name or it is refused: nothing in a scenario is a path, a command or an expression."""
    Path("secret.yaml").write_text("seed: 1\n")
    Path("good.yaml").write_text(GOOD, encoding="utf-8")
    audited.clear()
    said = run("good.yaml", "--set", f"{key}={value}", "--set", "seeds=x")  # the last is refused in any case
    seen = [(event, details) for event, details in audited if event in STARTS or str(details[0]).endswith(SECRETS)]
    assert said.code == 2
    assert "good.yaml" in [details[0] for event, details in audited if event == "open"]
    assert seen == []


def test_only_keys_that_are_bound_to_a_folder_name_a_file() -> None:
    """Files of these sections are bound to the folder of the scenario; no other key names a file."""
    sections = json_schema()["$defs"]
    files = {name for name, section in sections.items() if {"file", "hf_config"} & set(section.get("properties", {}))}
    assert files == {"ClusterSpec", "ModelSpec", "PublishedTableSpec", "RoutingSpec", "ScheduleSpec"}


def test_nothing_is_written_outside_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A name that looks like a path stays a name."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    Path("good.yaml").write_text(GOOD.replace("one node", '"../../escaped"').replace("id: optimal", 'id: "../up"'))
    monkeypatch.setattr(sys, "argv", ["moesim", "run", "good.yaml", "--out", "out", "--jobs", "1"])
    with pytest.raises(SystemExit) as ended:
        main()
    capsys.readouterr()
    assert ended.value.code in (0, None)
    written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert written == {
        "here/good.yaml",
        *(f"here/out/{name}" for name in ("links.png", "memory.png", "pairs.npz", "pairs.png", "result.json")),
        *(f"here/out/{name}" for name in ("timeline.png", "trace.json", "trace.npz", "trace.pftrace")),
        *(f"here/out/{name}" for name in ("details.npz", "report.html")),
    }


def test_a_command_that_finds_no_more_memory_ends_with_3_and_one_line(
    monkeypatch: pytest.MonkeyPatch, run: Callable[..., Answer]
) -> None:
    """Wherever it runs out."""

    def run_out(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("sim.run.scenario_run.ScenarioRun.simulate", run_out)
    Path("good.yaml").write_text(GOOD, encoding="utf-8")
    said = run("good.yaml", "--jobs", "1")
    assert (said.code, said.out) == (3, "")
    assert said.err == (
        "moesim: the run must fit into the memory of this machine, and found no more of it. Use fewer microbatches, "
        "batches, layers, experts or GPUs, or a lower --jobs.\n"
    )
