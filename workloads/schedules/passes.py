"""What a schedule is to the engine: an answer to the question "what does this stage run next?".

A fixed list, an online heuristic and the batching of requests answer the same question; the engine waits for the inputs
of the pass that the answer names.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

__all__ = ["FixedOrder", "Order", "Pair", "Pass", "Schedule", "Step", "passes_of"]


class Pass(NamedTuple):
    """One visit of a microbatch to a stage."""

    kind: str
    """F (forward), B (backward by input, or the whole backward pass where no W follows), W (backward by weight)."""
    microbatch: int
    """Number of the microbatch, from 0."""
    chunk: int = 0
    """Number of the chunk on the stage, from 0."""


class Pair(NamedTuple):
    """A forward and a backward pass of one stage that run together; `microbatch` and `chunk` name the forward pass.

    >>> [pass_.kind for pass_ in passes_of(Pair("FB", 4, 0, 1, 1))]
    ['F', 'B']
    """

    kind: str
    """Always FB."""
    microbatch: int
    """Microbatch of the forward pass."""
    chunk: int
    """Chunk of the forward pass."""
    backward_microbatch: int
    """Microbatch of the backward pass."""
    backward_chunk: int
    """Chunk of the backward pass."""


Step = Pass | Pair
"""What a stage runs at a time."""
Order = list[list[Step]]
"""The steps of every stage."""


def passes_of(step: Step) -> tuple[Pass, ...]:
    """Return the passes of a step: two of a pair.

    >>> passes_of(Pass("W", 2))
    (Pass(kind='W', microbatch=2, chunk=0),)
    """
    if isinstance(step, Pair):
        return Pass("F", step.microbatch, step.chunk), Pass("B", step.backward_microbatch, step.backward_chunk)
    return (step,)


class Schedule(Protocol):
    """The order of passes of one pipeline."""

    def next_pass(self, stage: int, now_ns: int) -> Step | None:
        """Return the step that `stage` runs next, or None when the stage has run all of its passes."""
        ...


class FixedOrder:
    """A schedule that is a list of steps for each stage.

    >>> order = FixedOrder([[Pass("F", 0)]])
    >>> order.next_pass(0, 0), order.next_pass(0, 5)
    (Pass(kind='F', microbatch=0, chunk=0), None)
    """

    def __init__(self, order: Sequence[Sequence[Step]]) -> None:
        self._order = [list(steps) for steps in order]
        self._next = [0] * len(self._order)

    def next_pass(self, stage: int, now_ns: int) -> Step | None:
        """Return the next step of the list, whatever the time is."""
        del now_ns
        position = self._next[stage]
        if position == len(self._order[stage]):
            return None
        self._next[stage] = position + 1
        return self._order[stage][position]
