"""A Ray on loopback, for tests and benchmarks: a head with two CPUs, whose processes end with it."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

READY_S = 120
ROOT = Path(__file__).parents[3]


@contextmanager
def local_ray() -> Iterator[subprocess.Popen[bytes]]:
    """Return the process of a head, which `RAY_ADDRESS` names until the context is left."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:  # sockets need short paths
        options = ["--head", "--block", "--node-ip-address=127.0.0.1", f"--port={port}", "--num-cpus=2"]
        options += ["--include-dashboard=false", "--disable-usage-stats", f"--temp-dir={folder}/ray"]
        command = [sys.executable, "-c", "from ray.scripts.scripts import main; main()", "start", *options]
        others = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
        environment = {**others, "HOME": folder, "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
        before = {key: os.environ.get(key) for key in ("HOME", "RAY_ADDRESS", "PYTHONPATH")}
        os.environ |= {"HOME": folder, "RAY_ADDRESS": f"127.0.0.1:{port}", "PYTHONPATH": str(ROOT)}
        try:
            wait_until(lambda: _answers(port), process)
            yield process
        finally:
            for key, value in before.items():
                os.environ.pop(key) if value is None else os.environ.update({key: value})
            process.send_signal(signal.SIGTERM)
            process.wait(READY_S)


def wait_until(holds: Callable[[], object], process: subprocess.Popen[bytes]) -> None:
    """Wait until something holds while a process runs."""
    end = time.monotonic() + READY_S
    while not holds():
        assert process.poll() is None, "it has ended"
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.05)


def _answers(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0
