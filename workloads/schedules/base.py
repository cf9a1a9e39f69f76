"""What a schedule is to the engine: an answer to "what does this stage do next?".

Fixed lists, online heuristics and request batching answer the same question; the engine waits for the inputs of the
pass that it is given.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

__all__ = ["FixedOrder", "Order", "Pair", "Pass", "Schedule", "Step", "parts_of"]


class Pass(NamedTuple):
    """One visit of a microbatch to a stage."""

    kind: str
    """F (forward), B (backward by input, or whole where no W follows), W (backward by weight)."""
    microbatch: int
    """Number of the microbatch, from 0."""
    chunk: int = 0
    """Virtual stage on this stage."""


class Pair(NamedTuple):
    """A forward and a backward pass of one stage that run together; `kind`, `microbatch` and `chunk` name its F.

    >>> [part.kind for part in parts_of(Pair("FB", 4, 0, 1, 1))]
    ['F', 'B']
    """

    kind: str
    """FB."""
    microbatch: int
    """Microbatch of the forward pass."""
    chunk: int
    """Chunk of the forward pass."""
    back_microbatch: int
    """Microbatch of the backward pass."""
    back_chunk: int
    """Chunk of the backward pass."""


Step = Pass | Pair
"""What a stage runs at a time."""
Order = list[list[Step]]
"""The steps of every stage."""


def parts_of(step: Step) -> tuple[Pass, ...]:
    """Return the passes of a step.

    >>> parts_of(Pass("W", 2))
    (Pass(kind='W', microbatch=2, chunk=0),)
    """
    if isinstance(step, Pair):
        return Pass("F", step.microbatch, step.chunk), Pass("B", step.back_microbatch, step.back_chunk)
    return (step,)


class Schedule(Protocol):
    """The order of passes of one pipeline."""

    def next_pass(self, stage: int, now_ns: int) -> Step | None:
        """Return the step that `stage` runs next, or None when it has run all of its passes."""
        ...


class FixedOrder:
    """A schedule that is a list of steps per stage.

    >>> order = FixedOrder([[Pass("F", 0)]])
    >>> order.next_pass(0, 0), order.next_pass(0, 5)
    (Pass(kind='F', microbatch=0, chunk=0), None)
    """

    def __init__(self, passes: Sequence[Sequence[Step]]) -> None:
        self._passes = [list(stage) for stage in passes]
        self._next = [0] * len(self._passes)

    def next_pass(self, stage: int, now_ns: int) -> Step | None:
        """Return the next step of the list; the time does not matter to it."""
        del now_ns
        position = self._next[stage]
        if position == len(self._passes[stage]):
            return None
        self._next[stage] = position + 1
        return self._passes[stage][position]
