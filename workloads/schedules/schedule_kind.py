"""One schedule of the table: what makes its order, and what it asks of a pipeline."""

import sys
from collections.abc import Callable
from dataclasses import dataclass

from sim.errors import InvalidValueError
from workloads.schedules.base import Order
from workloads.schedules.chunk_layout import ChunkLayout
from workloads.schedules.pipeline import Pipeline

__all__ = ["ScheduleKind"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleKind:
    """A schedule by its paper."""

    build: Callable[[Pipeline], Order]
    """Pipeline -> steps of every stage."""
    layout: str = "row"
    """Where chunks stand (`ChunkLayout.kind`)."""
    num_chunks: int | None = 1
    """Chunks of each stage; None: as many as are asked for."""
    splits_backward: bool = False
    """Whether W is a pass of its own, for some microbatches at least."""
    pairs: bool = False
    """Whether forward and backward passes run together."""
    requires: Callable[[Pipeline], None] | None = None
    """Refuses numbers of stages or microbatches that the schedule cannot run, with a `InvalidValueError`."""

    @property
    def copies(self) -> int:
        """How often each part of the model is kept."""
        return 2 if self.layout == "both_ways" else 1

    @property
    def summary(self) -> str:
        """First line of the page of the schedule."""
        text = sys.modules[self.build.__module__].__doc__ or ""
        return text.strip().splitlines()[0]

    def layout_on(self, num_stages: int, num_chunks: int = 1) -> ChunkLayout:
        """Return where the chunks stand; how many there are is `num_chunks` where the schedule takes any number."""
        chunks = num_chunks if self.num_chunks is None else self.num_chunks
        return ChunkLayout(kind=self.layout, num_stages=num_stages, num_chunks=chunks)

    def check(self, kind: str, num_chunks: int) -> None:
        """Refuse a number of chunks that the schedule does not have; 1 is read as not given.

        Raises
        ------
        InvalidValueError
            The number of chunks is another one.
        """
        if self.num_chunks is not None and num_chunks not in {1, self.num_chunks}:
            raise InvalidValueError(
                field="parallel.vpp",
                rule=f"be {self.num_chunks} for {kind}",
                value=num_chunks,
                hint="Leave it out, or use interleaved or breadth_first.",
            )
