"""A Dask cluster on loopback, for tests and benchmarks: a scheduler and workers, each a process of its own."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[3]
READY_S = 60


class LocalDask:
    """A scheduler with workers."""

    def __init__(self, folder: Path) -> None:
        """Start a scheduler that writes its address into a folder."""
        self._file = folder / "scheduler.json"
        self.processes = {}
        self._start("scheduler", "dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", self._file)
        self.address = self._wait_for_address()

    def add_worker(self, name: str, **environment: str) -> None:
        """Start a worker without a nanny, which would start it again after it is killed."""
        self._start(
            name, "dask_worker", self.address, "--host", "127.0.0.1", "--nthreads", "2", "--no-nanny", "--name", name,
            "--local-directory", self._file.parent, environment=environment,
        )  # fmt: skip

    def wait_for_workers(self, num: int) -> None:
        """Wait until so many workers have come."""
        from distributed import Client

        with Client(self.address, set_as_default=False, timeout=READY_S) as client:
            client.wait_for_workers(num, timeout=READY_S)

    @property
    def url(self) -> str:
        """The address as `--cluster` takes it."""
        return self.address.replace("tcp", "dask")

    def close(self) -> None:
        """End all processes, the workers first."""
        for process in reversed(self.processes.values()):
            process.kill()
        for process in self.processes.values():
            process.wait(READY_S)

    def _start(self, name: str, module: str, *arguments: object, environment: Mapping[str, str] | None = None) -> None:
        self.processes[name] = subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.{module}", "--no-dashboard", *map(str, arguments)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=self._file.parent,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **(environment or {})},
        )  # fmt: skip

    def _wait_for_address(self) -> str:
        end = time.monotonic() + READY_S
        while time.monotonic() < end:
            if self._file.exists() and self._file.stat().st_size:
                return str(json.loads(self._file.read_text(encoding="utf-8"))["address"])
            time.sleep(0.05)
        raise TimeoutError("the scheduler did not start")


@contextmanager
def local_dask(folder: Path, *, workers: int) -> Iterator[LocalDask]:
    """Return a cluster with so many workers, which ends when the context is left."""
    cluster = LocalDask(folder)
    try:
        for i in range(workers):
            cluster.add_worker(f"worker {i}")
        cluster.wait_for_workers(workers)
        yield cluster
    finally:
        cluster.close()
