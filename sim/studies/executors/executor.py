"""What every executor does: it takes chunks, and hands out those that ended, in whatever order they end."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from sim.errors import InvalidValueError
from sim.studies.executors.chunk import Chunk, ChunkRefusedError
from sim.studies.store.record import Record

__all__ = ["Ended", "Executor", "reason_of", "refused_by_worker"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A chunk that ended."""

    chunk: Chunk
    """The chunk."""
    records: Sequence[Record] | None
    """Results of its points, in their order; None where what ran it ended without a word, again and again."""


class Executor(ABC):
    """Where chunks are simulated."""

    name: str
    """The executor as messages show it."""

    @property
    @abstractmethod
    def num_workers(self) -> int:
        """Chunks that it simulates at the same time."""

    @abstractmethod
    def submit(self, chunk: Chunk) -> None:
        """Begin to simulate a chunk; several may wait."""

    @abstractmethod
    def ended(self, timeout_s: float) -> list[Ended]:
        """Return chunks that ended since the last call; none where none does in `timeout_s`.

        Raises
        ------
        MoesimError
            The executor cannot go on.
        """

    @abstractmethod
    def close(self, *, drop: bool) -> None:
        """End the work; `drop`: nobody waits for what still runs."""

    def __enter__(self) -> Self:
        """Return the executor, which is closed when the context is left."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close the executor; after an error what still runs is dropped."""
        self.close(drop=kind is not None)


def reason_of(error: Exception) -> str:
    r"""Return what an error of a cluster says, in one line and without a full stop.

    >>> reason_of(OSError("no route\n to host."))
    'no route to host'
    """
    return " ".join(str(error).split())[:200].rstrip(".")


def refused_by_worker(name: str, error: ChunkRefusedError) -> InvalidValueError:
    """Return the error of a cluster whose workers have another program, or other files."""
    hint = "Install this version of moesim on every worker, with the scenario's files at the same paths."
    return InvalidValueError("--cluster", f"be workers that {error}", name, hint)
