"""How a command ends when nobody reads, nothing can be written, or it is interrupted: in few words, leaving no half."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

MAIN = "from sim.cli import main; main()"
READY = "from sim.cli import main; print('ready', flush=True); main()"
GUARDED = [
    ["run", "ep16_tp16_pp4", "--set", "alternatives=[]", "--set", "rivals=[]"],
    ["run", "ep16_tp16_pp4", "--set", "alternatives=[]", "--set", "rivals=[]", "--json"],
    ["list", "presets"],
    ["schema"],
    ["--help"],
]
ANNOUNCES = """
import logging
from sim.cli import app, main
app.app = lambda **_: logging.getLogger("sim.engine").info("compiling, about %d s", 25)
main()
"""
ROOT = Path(__file__).parents[3]


def start(arguments, program=MAIN, **streams):
    """Start the command in a process and a session of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments], env=environment, start_new_session=True, **streams
    )


def test_what_is_announced_before_a_long_step_stands_on_standard_error():
    process = start(["run"], ANNOUNCES, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.communicate(timeout=60) == (b"", b"compiling, about 25 s\n")
    assert process.returncode == 0


@pytest.mark.parametrize("arguments", GUARDED, ids=" ".join)
def test_a_closed_pipe_is_silent(arguments):
    """The reader is gone before anything is written."""
    reading, writing = os.pipe()
    os.close(reading)
    process = start(arguments, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here to stand for a full disk")
@pytest.mark.parametrize("arguments", GUARDED, ids=" ".join)
def test_a_full_disk_is_a_message(arguments):
    """Standard output cannot be written: the reason and a hint, exit code 4."""
    with Path("/dev/full").open("wb") as full:
        process = start(arguments, stdout=full, stderr=subprocess.PIPE)
        _, stderr = process.communicate(timeout=60)
    message = "moesim: standard output: No space left on device. Make room, or write somewhere else.\n"
    assert (process.returncode, stderr.decode()) == (4, message)


@pytest.mark.skipif(sys.platform == "win32", reason="streams are closed otherwise here")
@pytest.mark.parametrize("arguments", GUARDED, ids=" ".join)
@pytest.mark.parametrize("how", ["closed", "read only"])
def test_a_closed_standard_output_is_a_message_and_nothing_is_run(arguments, how, tmp_path):
    """It is found out first: no file is written of which nobody would hear."""

    def close():
        os.close(1)
        if how == "read only":
            os.dup2(os.open(os.devnull, os.O_RDONLY), 1)

    out = ["--out", str(tmp_path / "out")] if arguments[0] == "run" else []
    process = start([*arguments, *out], stderr=subprocess.PIPE, preexec_fn=close)
    _, stderr = process.communicate(timeout=60)
    message = "moesim: standard output: it is closed. Leave it open, or send it to a file.\n"
    assert (process.returncode, stderr.decode()) == (4, message)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="streams are closed otherwise here")
@pytest.mark.parametrize(
    ("arguments", "code", "start_of_output"),
    [(["run", "nope"], 2, b""), (["run", "nope", "--json"], 2, b'{"error": '), (["list", "scenarios"], 0, b"\n")],
)
def test_without_standard_error_messages_are_dropped(arguments, code, start_of_output):
    """They do not stand on standard output instead, where the result is looked for."""
    process = start(arguments, stdout=subprocess.PIPE, preexec_fn=lambda: os.close(2))
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == code
    assert printed[: len(start_of_output) or None] == start_of_output


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here to stand for a full disk")
def test_a_refusal_that_cannot_be_printed_keeps_its_exit_code():
    """Both streams are full: the exit code is all that is left."""
    with Path("/dev/full").open("wb") as full:
        process = start(["run", "nope", "--json"], stdout=full, stderr=full)
        assert process.wait(timeout=60) == 2


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="no process groups here")
@pytest.mark.parametrize("delay_s", [0.2, 1.0, 3.0])
def test_an_interrupt_ends_a_run_and_its_processes(tmp_path, delay_s):
    """As at a terminal, all processes of the run are signalled; one word is left, exit code 130, and no file."""
    out = tmp_path / "out"
    arguments = ["run", "ep64_tp16_pp4", "--set", "workload.batches=64", "--out", str(out), "--jobs", "2"]
    process = start(arguments, READY, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"  # else a loaded machine has not come to the command
    time.sleep(delay_s)
    os.killpg(process.pid, signal.SIGINT)
    printed, stderr = process.communicate(timeout=60)  # its processes hold the pipes: they have ended as well
    assert (process.returncode, printed, stderr.decode()) == (130, b"", "interrupted\n")
    assert not out.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of file sizes here")
def test_a_file_that_does_not_fit_is_a_message_and_no_half_file(tmp_path):
    """Files of at most 20 kB stand for a disk that fills up: what was whole stays, the rest is not there."""
    import resource  # not on all systems

    out = tmp_path / "out"
    small = ["--set", "alternatives=[]", "--set", "rivals=[]", "--set", "claims=[]", "--out", str(out)]
    limit = (20_000, 20_000)
    process = start(
        ["run", "ep16_tp16_pp4", *small],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),
    )
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 4
    assert stderr.decode().startswith(f"moesim: {out}")
    assert stderr.decode().endswith(": File too large. Make room or choose another folder.\n")
    assert {path.name for path in out.iterdir()} <= {"result.json"}
