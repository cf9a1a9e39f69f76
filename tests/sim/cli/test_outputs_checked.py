"""Where a command shall write is checked before anything is simulated, and the check makes nothing."""

import os
import sys
from pathlib import Path

import pytest
from bad_inputs import GOOD

from sim.cli import main

CURE = "Choose a folder that can be written."
FOLDERS = [
    # --out, exit code, message; there is a file `f`, and a folder `o` with a folder `result.json`
    ("", 2, "--out must be a path, got an empty text. For example: --out out/"),
    (" ", 2, "--out must be a path, got an empty text. For example: --out out/"),
    ("f", 4, f"f: Not a folder. {CURE}"),
    ("f/g/h", 4, f"f/g/h: f is not a folder. {CURE}"),
    ("dangling", 4, f"dangling: Not a folder. {CURE}"),
    ("o", 4, "o/result.json: Is a directory. Remove it, or choose another name."),
    ("a" * 300, 4, f"{'a' * 300}: File name too long. {CURE}"),
]
FILES = [
    # -o, exit code, message
    ("", 2, "--output must be a path, got an empty text. For example: -o out.png"),
    ("o", 2, "--output must end in one of .png, .svg, .pdf, .pftrace, .json, got o. For example: -o out.png"),
    ("o/result.json", 4, "o/result.json: Is a directory. Remove it, or choose another name."),
    ("none/x.png", 4, "none/x.png: No such folder. Make its folder, or choose another."),
    ("f/x.png", 4, f"f/x.png: f is not a folder. {CURE}"),
]


@pytest.fixture
def refusal(monkeypatch, capsys, tmp_path):
    """Return a command that must not simulate, nor change the folder it runs in; it returns exit code and message."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "o/result.json").mkdir(parents=True)
    (tmp_path / "f").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "good.yaml").write_text(GOOD, encoding="utf-8")

    def refuse(*_, **__):
        raise AssertionError("it must not simulate")

    monkeypatch.setattr("sim.cli.run.simulate", refuse)
    monkeypatch.setattr("sim.cli.timeline.simulate_scenario", refuse)

    def call(*arguments):
        before = sorted(tmp_path.rglob("*"))
        monkeypatch.setattr(sys, "argv", ["moesim", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        assert sorted(tmp_path.rglob("*")) == before
        assert said.out == ""
        return ended.value.code, said.err.removeprefix("moesim: ").rstrip("\n")

    return call


@pytest.mark.parametrize(("folder", "code", "message"), FOLDERS)
def test_a_folder_that_cannot_be_written_is_refused_before_a_run(refusal, folder, code, message):
    """A minute of simulation is not thrown away."""
    assert refusal("run", "good.yaml", "--out", folder) == (code, message)


@pytest.mark.parametrize(("file", "code", "message"), FILES)
def test_a_file_that_cannot_be_written_is_refused_before_a_run(refusal, file, code, message):
    """Its folder must exist."""
    assert refusal("timeline", "good.yaml", "-o", file) == (code, message)


@pytest.mark.parametrize(
    "arguments", [("run", "good.yaml", "--out", "o/new/er"), ("timeline", "good.yaml", "-o", "o/x.png")]
)
def test_a_folder_without_permission_is_refused_before_a_run(refusal, monkeypatch, arguments):
    """The existing folder decides, because the folders below it would be made in it."""
    monkeypatch.setattr(os, "access", lambda path, _: Path(path) != Path("o"))
    assert refusal(*arguments) == (4, f"{arguments[-1]}: Permission denied. {CURE}")


def test_a_file_to_start_from_has_a_name(refusal):
    """An empty text would be the folder the command runs in."""
    assert refusal("init", "") == (2, "FILE must be a path, got an empty text. For example: moesim init mine.yaml")


def test_a_home_that_the_shell_left_is_put_in(monkeypatch, capsys, tmp_path):
    """As in `--out=~/out`; no folder is called `~`."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["moesim", "init", "~/mine.yaml"])
    with pytest.raises(SystemExit):
        main()
    assert str(tmp_path) in capsys.readouterr().out
    assert (tmp_path / "mine.yaml").is_file()
