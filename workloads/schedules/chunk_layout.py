"""Where the parts of a model stand: which stage and chunk comes after which.

Model
-----
    row          one chunk per stage, in order
    round_robin  chunk c of stage i is part c p + i of v p (interleaved, breadth-first)
    vee          chunk 0 runs down the stages, chunk 1 back up (ZB-V, V-Half, V-Min, DualPipeV)
    both_ways    chunk 0 is a whole pipeline down, chunk 1 a copy of it up; a microbatch takes one (Chimera, DualPipe)
"""

from dataclasses import dataclass
from typing import NamedTuple

from workloads.schedules.base import Pass

__all__ = ["CHUNK_ORDERS", "LAYOUTS", "ChunkLayout", "ChunkPosition"]

LAYOUTS: dict[str, int | None] = {"row": 1, "round_robin": None, "vee": 2, "both_ways": 2}
"""Layout -> chunks of each stage; None: any number."""
CHUNK_ORDERS = tuple(layout for layout, num_chunks in LAYOUTS.items() if num_chunks != 1)
"""Layouts of several chunks, of which `schedule.chunk_order` names one for an order of the user's own."""


class ChunkPosition(NamedTuple):
    """One chunk of one stage."""

    stage: int
    """Stage."""
    chunk: int
    """Chunk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkLayout:
    """The chunks of a pipeline's stages."""

    kind: str
    """row, round_robin, vee or both_ways."""
    num_stages: int
    """Stages, p."""
    num_chunks: int = 1
    """Chunks of each stage, v."""

    @property
    def num_model_chunks(self) -> int:
        """Parts that the model is cut into: what a microbatch visits.

        >>> ChunkLayout(kind="vee", num_stages=4, num_chunks=2).num_model_chunks
        8
        """
        return self.num_stages if self.kind == "both_ways" else self.num_stages * self.num_chunks

    def model_chunk_of(self, stage: int, chunk: int) -> int:
        """Return which part of the model a chunk is, from 0.

        >>> [ChunkLayout(kind="vee", num_stages=3, num_chunks=2).model_chunk_of(0, chunk) for chunk in (0, 1)]
        [0, 5]
        """
        if self.kind in {"vee", "both_ways"} and chunk == 1:
            return self.num_model_chunks - 1 - stage
        return chunk * self.num_stages + stage

    def position_of(self, part: int, chunk: int = 0) -> ChunkPosition:
        """Return where a part stands; `chunk` tells which of two copies.

        >>> ChunkLayout(kind="round_robin", num_stages=4, num_chunks=2).position_of(5)
        ChunkPosition(stage=1, chunk=1)
        """
        if self.kind == "both_ways":
            return ChunkPosition(self.num_stages - 1 - part if chunk else part, chunk)
        chunk, stage = divmod(part, self.num_stages)
        return ChunkPosition(self.num_stages - 1 - stage if self.kind == "vee" and chunk else stage, chunk)

    def beside(self, stage: int, chunk: int, step: int) -> ChunkPosition | None:
        """Return the place that is `step` parts further on, None beyond either end.

        >>> ChunkLayout(kind="row", num_stages=2).beside(1, 0, 1) is None
        True
        """
        part = self.model_chunk_of(stage, chunk) + step
        return self.position_of(part, chunk) if 0 <= part < self.num_model_chunks else None

    def needs(self, stage: int, one: Pass) -> tuple[tuple[int, Pass], ...]:
        """Return the passes that must have ended before a pass: (stage, pass) each.

        F needs F of the part before it; B needs its own F and B of the part after it; W needs its own B.

        >>> ChunkLayout(kind="row", num_stages=2).needs(0, Pass("B", 3))
        ((0, Pass(kind='F', microbatch=3, chunk=0)), (1, Pass(kind='B', microbatch=3, chunk=0)))
        """
        if one.kind == "W":
            return ((stage, Pass("B", one.microbatch, one.chunk)),)
        other = self.beside(stage, one.chunk, -1 if one.kind == "F" else 1)
        comes = () if other is None else ((other.stage, Pass(one.kind, one.microbatch, other.chunk)),)
        return comes if one.kind == "F" else ((stage, Pass("F", one.microbatch, one.chunk)), *comes)

    def target(self, stage: int, one: Pass) -> ChunkPosition | None:
        """Return where a pass's output goes; None where it ends here.

        >>> ChunkLayout(kind="round_robin", num_stages=2, num_chunks=2).target(1, Pass("F", 0))
        ChunkPosition(stage=0, chunk=1)
        """
        if one.kind == "W":
            return None
        return self.beside(stage, one.chunk, 1 if one.kind == "F" else -1)
