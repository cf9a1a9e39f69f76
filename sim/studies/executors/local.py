"""Processes of this machine; with one job, this process."""

from collections import deque
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import ExitStack

from sim.run.parallel_runs import process_pool, result_of
from sim.studies.executors.chunk import Chunk, run_chunk
from sim.studies.executors.executor import Ended, Executor
from sim.studies.store.record import Record

__all__ = ["LocalProcesses"]


class LocalProcesses(Executor):
    """As many processes as jobs; they end with this one, however it ends."""

    def __init__(self, jobs: int) -> None:
        """Start the processes."""
        self._jobs, self.name = jobs, "1 process" if jobs == 1 else f"{jobs} processes"
        self._waiting: deque[Chunk] = deque()
        self._running: dict[Future[list[Record]], Chunk] = {}
        self._stack = ExitStack()
        self._pool = self._stack.enter_context(process_pool(jobs)) if jobs > 1 else None

    @property
    def num_workers(self) -> int:
        """The number of processes."""
        return self._jobs

    def submit(self, chunk: Chunk) -> None:
        """Give a chunk to the processes."""
        if self._pool is None:
            self._waiting.append(chunk)
        else:
            self._running[self._pool.submit(run_chunk, chunk)] = chunk

    def ended(self, timeout_s: float) -> list[Ended]:
        """Return chunks that ended."""
        if self._waiting:
            chunk = self._waiting.popleft()
            return [Ended(chunk=chunk, records=run_chunk(chunk))]
        done = wait(self._running, timeout_s, FIRST_COMPLETED).done if self._running else ()
        return [Ended(chunk=self._running.pop(future), records=result_of(future)) for future in done]

    def close(self, *, drop: bool) -> None:
        """End the processes."""
        if drop:
            error = InterruptedError()
            self._stack.__exit__(InterruptedError, error, None)
        else:
            self._stack.close()
