"""A Ray cluster that runs already. A worker that ends costs its chunk another try, by Ray."""

import os
import sys
from contextlib import ExitStack, redirect_stdout, suppress
from typing import Any, Final

from sim.errors import InvalidValueError, SimulationError
from sim.studies.executors.chunk import Chunk, ChunkRefusedError, program_of_worker, run_chunk
from sim.studies.executors.executor import Ended, Executor, reason_of, refused_by_worker
from sim.studies.store.keys import program_digest

__all__ = ["RayCluster"]

_RETRIES: Final = 3
"""So often a chunk is tried again whose worker ended."""
_FIRST_S: Final = 60
"""So long the first worker may take to start."""
_KEPT: Final = "What was finished is kept, and the same command goes on from there."


class RayCluster(Executor):
    """The workers of a Ray cluster."""

    def __init__(self) -> None:
        """Connect to the cluster of this machine, or of `RAY_ADDRESS`, and check the program of a worker.

        Raises
        ------
        InvalidValueError
            Ray is not installed, no cluster answers, or its workers have another program.
        """
        self.name = "ray"
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray warns of its future default
        try:
            import ray  # noqa: PLC0415  # optional, and slow to import
        except ImportError:
            hint = "Install moesim[ray]."
            raise InvalidValueError("--cluster", "have Ray installed", self.name, hint) from None
        self._ray: Any = ray
        self._stack = ExitStack()  # what Ray says of workers that end goes to standard output, where the result goes
        self._stack.enter_context(redirect_stdout(sys.stderr))
        try:
            ray.init(address="auto", log_to_driver=False, logging_level="ERROR", ignore_reinit_error=True)
        except (ConnectionError, RuntimeError, OSError, ValueError) as error:
            hint = f"{reason_of(error)}. Start one with `ray start --head`, or set RAY_ADDRESS."
            self._stack.close()
            raise InvalidValueError("--cluster", "be a cluster that answers", self.name, hint) from None
        self._task = ray.remote(num_cpus=1, max_retries=_RETRIES)(run_chunk)
        self._running: dict[Any, Chunk] = {}
        try:
            self._check_worker()
        except BaseException:
            self.close(drop=True)
            raise

    @property
    def num_workers(self) -> int:
        """CPUs of the cluster: Ray starts a process for each."""
        return max(1, int(self._ray.cluster_resources().get("CPU", 1)))

    def submit(self, chunk: Chunk) -> None:
        """Give a chunk to the cluster."""
        self._running[self._task.remote(chunk)] = chunk

    def ended(self, timeout_s: float) -> list[Ended]:
        """Return chunks that ended."""
        if not self._running:
            return []
        waiting = list(self._running)
        done, _ = self._ray.wait(waiting, num_returns=1, timeout=timeout_s)
        more, _ = self._ray.wait(waiting, num_returns=len(waiting), timeout=0) if done else ([], [])
        return [Ended(chunk=self._running.pop(task), records=self._records(task)) for task in more or done]

    def close(self, *, drop: bool) -> None:
        """Leave the cluster, which goes on; what still runs for this study is dropped."""
        with suppress(Exception):  # whatever Ray says when it has gone
            for task in self._running if drop else ():
                self._ray.cancel(task, force=True)
            self._ray.shutdown()
        self._stack.close()

    # ---- private -------------------------------------------------------------------------------------------------

    def _check_worker(self) -> None:
        """Refuse a cluster whose first worker has another program; each chunk checks its own."""
        digest = self._ray.remote(num_cpus=1)(program_of_worker).remote()
        try:
            found = self._ray.get(digest, timeout=_FIRST_S)
        except self._ray.exceptions.GetTimeoutError:
            hint = "Its CPUs may all be taken: see `ray status`."
            raise InvalidValueError("--cluster", f"begin a task in {_FIRST_S} s", self.name, hint) from None
        except self._ray.exceptions.RayError:
            raise refused_by_worker(self.name, ChunkRefusedError("have moesim installed")) from None
        if found != program_digest():
            raise refused_by_worker(self.name, ChunkRefusedError("have the same version of the program"))

    def _records(self, task: Any) -> Any:  # noqa: ANN401  # Ray's own class has no types
        errors = self._ray.exceptions
        try:
            return self._ray.get(task)
        except (errors.WorkerCrashedError, errors.OutOfMemoryError, errors.NodeDiedError):
            return None  # it ended several workers one after another
        except errors.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, ChunkRefusedError):
                raise refused_by_worker(self.name, cause) from None
            raise
        except errors.RayError as error:
            raise SimulationError(f"{self.name}: the cluster cannot go on: {reason_of(error)}. {_KEPT}") from None
