"""A Dask cluster that runs already. A worker that ends costs its chunk another try, by the scheduler of the cluster."""

import queue
import time
import warnings
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Any, Final

from sim.errors import InvalidValueError, SimulationError
from sim.studies.executors.chunk import Chunk, ChunkRefusedError, program_of_worker, run_chunk
from sim.studies.executors.executor import Ended, Executor, reason_of, refused_by_worker
from sim.studies.store.keys import program_digest

__all__ = ["DaskCluster"]

_REACH_S: Final = 10
"""So long a scheduler may take to answer."""
_ALONE_S: Final = 60.0
"""So long a cluster may be without workers before a study ends."""
_KEPT: Final = "What was finished is kept, and the same command goes on from there."


class DaskCluster(Executor):
    """The workers of a Dask scheduler."""

    def __init__(self, address: str) -> None:
        """Connect to a scheduler, and check the program of its workers.

        Raises
        ------
        InvalidValueError
            Dask is not installed, the scheduler does not answer, or a worker has another program.
        """
        self.name = f"dask://{address}"
        try:
            import distributed  # noqa: PLC0415  # optional, and slow to import
        except ImportError:
            hint = "Install moesim[dask]."
            raise InvalidValueError("--cluster", "have Dask installed", self.name, hint) from None
        dask: Any = distributed  # it has no types
        self._killed = dask.KilledWorker
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # other versions of Dask's own parts; the program is checked below
                self._client: Any = dask.Client(f"tcp://{address}", timeout=_REACH_S, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            hint = (
                f"{reason_of(error)}. Start one with `dask scheduler` and `dask worker tcp://HOST:PORT`, or check the "
            )
            hint += "address."
            raise InvalidValueError("--cluster", "be a scheduler that answers", self.name, hint) from None
        self._running: dict[Any, Chunk] = {}
        self._done: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._seen_s = time.monotonic()
        try:
            self._check_workers()
        except BaseException:
            self.close(drop=True)
            raise

    @property
    def num_workers(self) -> int:
        """Processes of the cluster: one simulates one point at a time, however many threads it has."""
        return max(1, len(self._client.scheduler_info(n_workers=-1)["workers"]))

    def submit(self, chunk: Chunk) -> None:
        """Give a chunk to the cluster."""
        future = self._client.submit(run_chunk, chunk, pure=False, key=f"moesim-{id(self)}-{chunk.id}")
        self._running[future] = chunk
        future.add_done_callback(self._done.put)

    def ended(self, timeout_s: float) -> list[Ended]:
        """Return chunks that ended."""
        found = []
        with suppress(queue.Empty):
            found.append(self._done.get(timeout=timeout_s))
            while True:
                found.append(self._done.get_nowait())
        if found:
            self._seen_s = time.monotonic()
        elif time.monotonic() - self._seen_s > _ALONE_S:
            self._check_alive()
        return [Ended(chunk=self._running.pop(future), records=self._records(future)) for future in found]

    def close(self, *, drop: bool) -> None:
        """Leave the cluster, which goes on; what still runs for this study is dropped."""
        with suppress(OSError, TimeoutError, RuntimeError):
            if drop and self._running:
                self._client.cancel(list(self._running), force=True)
            self._client.close(timeout=5)

    # ---- private -------------------------------------------------------------------------------------------------

    def _records(self, future: Any) -> Any:  # noqa: ANN401  # Dask's own class has no types
        try:
            return future.result(timeout=_REACH_S)
        except ChunkRefusedError as error:
            raise refused_by_worker(self.name, error) from None
        except self._killed:
            return None  # it ended several workers one after another
        except (CancelledError, OSError, TimeoutError):
            raise self._lost("the scheduler does not answer any more") from None

    def _check_workers(self) -> None:
        """Refuse a cluster without workers, and workers with another program."""
        try:
            found = self._client.run(program_of_worker)
        except (OSError, TimeoutError, ImportError, AttributeError) as error:
            hint = f"{reason_of(error)}. Install this version of moesim on every worker."
            raise InvalidValueError("--cluster", "be workers with the program", self.name, hint) from None
        if not found:
            hint = f"Start one: dask worker {self.name.replace('dask', 'tcp')}"
            raise InvalidValueError("--cluster", "have workers", f"{self.name} with none", hint)
        other = sorted(worker for worker, digest in found.items() if digest != program_digest())
        if other:
            refusal = ChunkRefusedError("have the same version of the program")
            raise refused_by_worker(f"{self.name}, where {other[0]} has another one", refusal)

    def _check_alive(self) -> None:
        """End a study whose cluster has lost its scheduler or all workers for a while."""
        try:
            if self._client.scheduler_info(n_workers=-1)["workers"] and self._client.status == "running":
                self._seen_s = time.monotonic()
                return
        except (OSError, TimeoutError, KeyError):
            pass
        raise self._lost(f"it has had no worker for {_ALONE_S:.0f} s")

    def _lost(self, why: str) -> SimulationError:
        return SimulationError(f"{self.name}: {why}. {_KEPT}")
