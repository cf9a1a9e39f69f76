"""Worker processes end with the command that started them, however the command ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

MOST_S = 60.0
"""A machine that is busy takes long to start processes; no test of speed."""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="processes are found in /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_no_process_is_left_when_a_command_is_ended_by(number):
    """The scenario takes far longer than the test: workers are ended and do not run out of work."""
    changes = ["--set", "workload.batches=2000"]
    words = [sys.executable, "-c", "from sim.cli import main; main()", "run", "ep64_tp16_pp4", "--jobs", "2", *changes]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as command:
        workers = wait_for(lambda: workers_of(command.pid))
        assert len(workers) == 2
        os.kill(command.pid, number)
        command.wait()
        try:
            assert wait_for(lambda: not any(map(is_alive, workers)))
        finally:
            for worker in filter(is_alive, workers):
                os.kill(worker, signal.SIGKILL)


def wait_for(condition):
    """Return what a condition says, as soon as it is true."""
    deadline = time.monotonic() + MOST_S
    while not (said := condition()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return said


def workers_of(parent):
    """Return both workers of a command, or nothing before both are there and one of them runs its first simulation."""
    children = [int(child) for child in Path(f"/proc/{parent}/task/{parent}/children").read_text("ascii").split()]
    return children if len(children) == 2 and all(map(num_threads, children)) else []


def num_threads(process):
    """Return how many threads a process has next to its first."""
    return len(list(Path(f"/proc/{process}/task").iterdir())) - 1


def is_alive(process):
    """Return whether a process runs; one that has ended and was not waited for is dead."""
    try:
        return Path(f"/proc/{process}/stat").read_text("ascii").rpartition(")")[2].split()[0] not in {"Z", "X"}
    except (FileNotFoundError, ProcessLookupError):
        return False
