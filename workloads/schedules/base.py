"""What a schedule is to the engine: an answer to "what does this stage do next?".

Fixed lists, online heuristics and request batching answer the same question; the engine waits for the inputs of the
pass that it is given.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

__all__ = ["FixedOrder", "Pass", "Schedule"]


class Pass(NamedTuple):
    """One visit of a microbatch to a stage."""

    kind: str
    """F (forward), B (backward by input, or whole where W is not split off), W (backward by weight)."""
    microbatch: int
    """Number of the microbatch, from 0."""
    chunk: int = 0
    """Virtual stage on this stage."""


class Schedule(Protocol):
    """The order of passes of one pipeline."""

    def next_pass(self, stage: int, now_ns: int) -> Pass | None:
        """Return the pass that `stage` runs next, or None when it has run all of its passes."""
        ...


class FixedOrder:
    """A schedule that is a list of passes per stage.

    >>> order = FixedOrder([[Pass("F", 0)]])
    >>> order.next_pass(0, 0), order.next_pass(0, 5)
    (Pass(kind='F', microbatch=0, chunk=0), None)
    """

    def __init__(self, passes: Sequence[Sequence[Pass]]) -> None:
        self._passes = [list(stage) for stage in passes]
        self._next = [0] * len(self._passes)

    def next_pass(self, stage: int, now_ns: int) -> Pass | None:
        """Return the next pass of the list; the time does not matter to it."""
        del now_ns
        position = self._next[stage]
        if position == len(self._passes[stage]):
            return None
        self._next[stage] = position + 1
        return self._passes[stage][position]
