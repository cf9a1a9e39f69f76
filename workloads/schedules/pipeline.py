"""A pipeline: its stages and times, where the chunks of the model stand, and the steps that the stages run.

Model
-----
A model is cut into model chunks, which a microbatch visits one after another. A layout says which chunk of which stage
each model chunk is:

    row          one chunk for each stage, in order
    round_robin  chunk c of stage i is model chunk c p + i of v p (interleaved, breadth-first)
    vee          chunk 0 runs down the stages, chunk 1 back up (ZB-V, V-Half, V-Min, DualPipeV)
    both_ways    chunk 0 is a whole pipeline down, chunk 1 a copy of it up; a microbatch takes one (Chimera, DualPipe)

Assumptions
-----------
Where no times are given, F, B and W of all stages take equally long and a hop takes no time.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from sim.errors import InvalidValueError
from workloads.schedules.passes import FixedOrder, Order, Pass

__all__ = [
    "CHUNK_ORDERS",
    "DEFAULT_CHUNK_ORDER",
    "LAYOUTS",
    "ChunkLayout",
    "ChunkPosition",
    "Pipeline",
    "PipelineOrder",
    "StageTimes",
    "require",
]

LAYOUTS: dict[str, int | None] = {"row": 1, "round_robin": None, "vee": 2, "both_ways": 2}
"""Layout -> chunks of each stage; None: any number."""
CHUNK_ORDERS = tuple(layout for layout, num_chunks in LAYOUTS.items() if num_chunks != 1)
"""Layouts of several chunks, of which `schedule.chunk_order` names one for an order of the user's own."""
DEFAULT_CHUNK_ORDER = "round_robin"
"""Where the chunks of an order of the user's own stand, unless the user says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTimes:
    """How long the passes of one microbatch take on one stage, over all of its chunks that are no copies."""

    forward_ns: int
    backward_ns: int
    """B, by the inputs alone."""
    weight_ns: int


_EQUAL_TIMES = StageTimes(forward_ns=1, backward_ns=1, weight_ns=1)


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """What the order of a schedule is built from.

    >>> Pipeline(num_stages=2, num_microbatches=3).stage_times[0].forward_ns
    1
    """

    num_stages: int
    """Number of pipeline stages, p."""
    num_microbatches: int
    """Number of microbatches of a batch, m."""
    num_chunks: int = 1
    """Number of chunks of each stage, v."""
    times: tuple[StageTimes, ...] | None = None
    """Times of each stage; None: not known."""
    hop_ns: int = 0
    """Time from the end of a pass to the start of the pass that waits for it on another stage."""
    pairs: bool = False
    """Whether a schedule that alternates F and B runs each F together with the B after it (Megatron Core's overlap)."""
    weight_share: float = 0.4
    """What a microbatch keeps from B to W, over what it keeps from F to B: 0.37 to 0.43 in Qi et al. 2023, who keep
    attention scores, and up to 0.94 where attention scores are not kept."""

    def __post_init__(self) -> None:
        for field, value in (("parallel.pp", self.num_stages), ("workload.microbatches", self.num_microbatches)):
            require(value >= 1, field, "be at least 1", value, "Give one at least.")

    @cached_property
    def stage_times(self) -> tuple[StageTimes, ...]:
        """Times of each stage."""
        return self.times if self.times is not None else (_EQUAL_TIMES,) * self.num_stages


def require(ok: bool, field: str, rule: str, value: int, hint: str) -> None:
    """Refuse a number of stages or microbatches that a schedule cannot run.

    >>> require(True, "parallel.pp", "be even for chimera", 4, "Two pipelines meet halfway.")

    Raises
    ------
    InvalidValueError
        The rule is not kept.
    """
    if not ok:
        raise InvalidValueError(field=field, rule=rule, value=value, hint=hint)


class ChunkPosition(NamedTuple):
    """One chunk of one stage."""

    stage: int
    chunk: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkLayout:
    """Where the chunks of a model stand on the stages of a pipeline."""

    kind: str
    """A key of `LAYOUTS`."""
    num_stages: int
    """Number of pipeline stages, p."""
    num_chunks: int = 1
    """Number of chunks of each stage, v."""

    @property
    def num_copies(self) -> int:
        """Number of stages that keep each layer of the model.

        >>> ChunkLayout(kind="both_ways", num_stages=4, num_chunks=2).num_copies
        2
        """
        return 2 if self.kind == "both_ways" else 1

    @property
    def num_model_chunks(self) -> int:
        """Chunks that the model is cut into, all of which a microbatch visits.

        >>> ChunkLayout(kind="vee", num_stages=4, num_chunks=2).num_model_chunks
        8
        """
        return self.num_stages if self.num_copies == 2 else self.num_stages * self.num_chunks

    def model_chunk_of(self, stage: int, chunk: int) -> int:
        """Return which chunk of the model a chunk of a stage is, from 0.

        >>> [ChunkLayout(kind="vee", num_stages=3, num_chunks=2).model_chunk_of(0, chunk) for chunk in (0, 1)]
        [0, 5]
        """
        if self.kind in {"vee", "both_ways"} and chunk == 1:
            return self.num_model_chunks - 1 - stage
        return chunk * self.num_stages + stage

    def position_of(self, model_chunk: int, chunk: int = 0) -> ChunkPosition:
        """Return the stage and chunk where a chunk of the model stands; `chunk` selects one of two copies.

        >>> ChunkLayout(kind="round_robin", num_stages=4, num_chunks=2).position_of(5)
        ChunkPosition(stage=1, chunk=1)
        """
        if self.kind == "both_ways":
            return ChunkPosition(self.num_stages - 1 - model_chunk if chunk else model_chunk, chunk)
        chunk, stage = divmod(model_chunk, self.num_stages)
        return ChunkPosition(self.num_stages - 1 - stage if self.kind == "vee" and chunk else stage, chunk)

    def neighbour(self, stage: int, chunk: int, step: int) -> ChunkPosition | None:
        """Return the position that is `step` model chunks further on; None beyond either end of the model.

        >>> ChunkLayout(kind="row", num_stages=2).neighbour(1, 0, 1) is None
        True
        """
        model_chunk = self.model_chunk_of(stage, chunk) + step
        return self.position_of(model_chunk, chunk) if 0 <= model_chunk < self.num_model_chunks else None

    def dependencies(self, stage: int, pass_: Pass) -> tuple[tuple[int, Pass], ...]:
        """Return the passes that must have ended before a pass starts: (stage, pass) each.

        F waits for F of the model chunk before it; B waits for its own F and for B of the model chunk after it; W waits
        for its own B.

        >>> ChunkLayout(kind="row", num_stages=2).dependencies(0, Pass("B", 3))
        ((0, Pass(kind='F', microbatch=3, chunk=0)), (1, Pass(kind='B', microbatch=3, chunk=0)))
        """
        if pass_.kind == "W":
            return ((stage, Pass("B", pass_.microbatch, pass_.chunk)),)
        sender = self.neighbour(stage, pass_.chunk, -1 if pass_.kind == "F" else 1)
        received = () if sender is None else ((sender.stage, Pass(pass_.kind, pass_.microbatch, sender.chunk)),)
        return received if pass_.kind == "F" else ((stage, Pass("F", pass_.microbatch, pass_.chunk)), *received)

    def receiver(self, stage: int, pass_: Pass) -> ChunkPosition | None:
        """Return where the output of a pass goes; None where no other chunk waits for the output.

        >>> ChunkLayout(kind="round_robin", num_stages=2, num_chunks=2).receiver(1, Pass("F", 0))
        ChunkPosition(stage=0, chunk=1)
        """
        if pass_.kind == "W":
            return None
        return self.neighbour(stage, pass_.chunk, 1 if pass_.kind == "F" else -1)


@dataclass(frozen=True, kw_only=True)
class PipelineOrder:
    """The steps of all stages of a pipeline, with the layout of its chunks.

    >>> from workloads.schedules import build_pipeline_order
    >>> pipeline_order = build_pipeline_order("zb_h1", Pipeline(num_stages=2, num_microbatches=2))
    >>> pipeline_order.is_split(0, Pass("B", 1)), pipeline_order.forward().order[1]
    (True, [Pass(kind='F', microbatch=0, chunk=0), Pass(kind='F', microbatch=1, chunk=0)])
    """

    order: Order
    """The steps of every stage."""
    layout: ChunkLayout

    @cached_property
    def _weight_passes(self) -> list[frozenset[tuple[int, int]]]:
        return [frozenset((step.microbatch, step.chunk) for step in steps if step.kind == "W") for steps in self.order]

    def is_split(self, stage: int, backward: Pass) -> bool:
        """Return whether W of a backward pass is a pass of its own."""
        return (backward.microbatch, backward.chunk) in self._weight_passes[stage]

    def forward(self) -> "PipelineOrder":
        """Return the forward passes alone, in their order."""
        order: Order = [
            [Pass("F", step.microbatch, step.chunk) for step in steps if step.kind in {"F", "FB"}]
            for steps in self.order
        ]
        return PipelineOrder(order=order, layout=self.layout)

    def schedule(self) -> FixedOrder:
        """Return a schedule that answers the engine with these steps."""
        return FixedOrder(self.order)
