"""The table of schedules: all that the program knows about a schedule follows from its entry in `SCHEDULES`.

The names that a user may write, the chunks of each stage that are legal, the command line's list and the conformance
tests are derived from the table. The schedule `custom` has no entry: a user's file gives its order
(`workloads.schedules.custom`), and `schedule_kind_of` gives the properties that follow from where its chunks stand.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from sim.errors import InvalidValueError
from workloads.schedules.chimera import check_chimera, chimera
from workloads.schedules.controllable_memory import v_half, v_min, zb_v
from workloads.schedules.dualpipe import check_dualpipe, check_dualpipe_v, dualpipe, dualpipe_v
from workloads.schedules.gpipe import breadth_first, gpipe
from workloads.schedules.one_f_one_b import interleaved, interleaved_in_flight, one_f_one_b
from workloads.schedules.passes import Order, Schedule
from workloads.schedules.pipeline import DEFAULT_CHUNK_ORDER, LAYOUTS, ChunkLayout, Pipeline, PipelineOrder
from workloads.schedules.zero_bubble import zb_1p, zb_2p, zb_h1, zb_h2

__all__ = [
    "CUSTOM",
    "SCHEDULES",
    "ScheduleKind",
    "build_pipeline_order",
    "build_schedule",
    "schedule_kind_of",
    "schedule_names",
]

CUSTOM = "custom"
"""Name of the schedule whose order is read from a file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleKind:
    """How the order of a schedule is built, and what the schedule requires of a pipeline."""

    build: Callable[[Pipeline], Order] | None
    """Builds the steps of every stage; the first line of its docstring is the summary of the schedule. None: the order
    is read from a file."""
    max_in_flight: Callable[[Pipeline], int] | None = None
    """Most chunks whose activations a stage has in flight, from F to the end of B and W, where W keeps no more than B.
    None: no bound is known."""
    layout: str = "row"
    """Where the chunks stand: a key of `LAYOUTS`."""
    splits_backward: bool = False
    """Whether W is a pass of its own, for some microbatches at least."""
    pairs: bool = False
    """Whether forward and backward passes run at the same time on a stage."""
    can_pair: bool = False
    """Whether the schedule alternates forward and backward passes, which `Pipeline.pairs` runs at the same time."""
    uses_pass_times: bool = False
    """Whether the order depends on how long the passes take, and on what a microbatch keeps from B to W."""
    requires: Callable[[Pipeline], None] | None = None
    """Refuses numbers of stages or microbatches that the schedule cannot run, with an `InvalidValueError`."""

    @property
    def reads_file(self) -> bool:
        """Whether the order is read from a file."""
        return self.build is None

    @property
    def num_chunks(self) -> int | None:
        """Chunks of each stage; None: as many as `parallel.vpp` says."""
        return LAYOUTS[self.layout]

    @property
    def needs_num_chunks(self) -> bool:
        """Whether the number of chunks has to be given: any number is legal, and no number is the usual one.

        >>> [name for name, kind in SCHEDULES.items() if kind.needs_num_chunks]
        ['interleaved', 'breadth_first']
        """
        return self.num_chunks is None and not self.reads_file

    @property
    def summary(self) -> str:
        """First line of the docstring of the schedule.

        >>> SCHEDULES["v_half"].summary
        'V-Half: half the activations of 1F1B, in the V shape.'
        """
        return ((self.build and self.build.__doc__) or "").partition("\n")[0]

    def accepts_num_chunks(self, num_chunks: int) -> bool:
        """Return whether a stage can have `num_chunks` chunks; 1 stands for a number that is not given.

        >>> [SCHEDULES[name].accepts_num_chunks(2) for name in ("1f1b", "zb_v", "interleaved")]
        [False, True, True]
        """
        return self.num_chunks is None or num_chunks in {1, self.num_chunks}

    def layout_on(self, num_stages: int, num_chunks: int = 1) -> ChunkLayout:
        """Return where the chunks stand; `num_chunks` counts where the schedule takes any number of chunks."""
        chunks = num_chunks if self.num_chunks is None else self.num_chunks
        kind = "row" if self.reads_file and chunks == 1 else self.layout
        return _chunk_layout(kind, num_stages, chunks)

    def check(self, name: str, pipeline: Pipeline) -> None:
        """Refuse a pipeline that the schedule called `name` cannot run; a `num_chunks` of 1 is read as not given.

        Raises
        ------
        InvalidValueError
            The schedule does not have this number of chunks, or refuses this number of stages or of microbatches.
        """
        if not self.accepts_num_chunks(pipeline.num_chunks):
            any_number = " or ".join(other for other, kind in SCHEDULES.items() if kind.needs_num_chunks)
            raise InvalidValueError(
                field="parallel.vpp",
                rule=f"be {self.num_chunks} for {name}",
                value=pipeline.num_chunks,
                hint=f"Leave it out, or use {any_number}.",
            )
        if self.requires is not None:
            self.requires(pipeline)


SCHEDULES: dict[str, ScheduleKind] = {
    "gpipe": ScheduleKind(build=gpipe, max_in_flight=lambda pipe: pipe.num_microbatches),
    "1f1b": ScheduleKind(
        build=one_f_one_b,
        max_in_flight=lambda pipe: min(pipe.num_microbatches, pipe.num_stages + pipe.pairs),
        can_pair=True,
    ),
    "interleaved": ScheduleKind(
        build=interleaved, max_in_flight=interleaved_in_flight, layout="round_robin", can_pair=True
    ),
    "breadth_first": ScheduleKind(
        build=breadth_first,
        max_in_flight=lambda pipe: pipe.num_microbatches * pipe.num_chunks,
        layout="round_robin",
    ),
    "zb_h1": ScheduleKind(build=zb_h1, max_in_flight=lambda pipe: pipe.num_stages, splits_backward=True),
    "zb_h2": ScheduleKind(build=zb_h2, max_in_flight=lambda pipe: 2 * pipe.num_stages - 1, splits_backward=True),
    "zb_1p": ScheduleKind(
        build=zb_1p, max_in_flight=lambda pipe: pipe.num_stages, splits_backward=True, uses_pass_times=True
    ),
    "zb_2p": ScheduleKind(
        build=zb_2p, max_in_flight=lambda pipe: 2 * pipe.num_stages, splits_backward=True, uses_pass_times=True
    ),
    "zb_v": ScheduleKind(
        build=zb_v,
        max_in_flight=lambda pipe: 2 * pipe.num_stages,
        layout="vee",
        splits_backward=True,
        uses_pass_times=True,
    ),
    "v_half": ScheduleKind(
        build=v_half, max_in_flight=lambda pipe: 2 * ((pipe.num_stages + 2) // 2), layout="vee", splits_backward=True
    ),
    "v_min": ScheduleKind(
        build=v_min, max_in_flight=lambda pipe: 2 * ((pipe.num_stages + 4) // 3), layout="vee", splits_backward=True
    ),
    "chimera": ScheduleKind(
        build=chimera, max_in_flight=lambda pipe: pipe.num_stages, layout="both_ways", requires=check_chimera
    ),
    "dualpipe": ScheduleKind(
        build=dualpipe,
        max_in_flight=lambda pipe: pipe.num_stages + 1,
        layout="both_ways",
        splits_backward=True,
        pairs=True,
        requires=check_dualpipe,
    ),
    "dualpipe_v": ScheduleKind(
        build=dualpipe_v,
        max_in_flight=lambda pipe: 2 * pipe.num_stages + 1,
        layout="vee",
        splits_backward=True,
        pairs=True,
        requires=check_dualpipe_v,
    ),
}
"""Schedule by name."""


def schedule_names() -> tuple[str, ...]:
    """Return the names that `schedule.kind` may have: those of the table, and `custom`.

    >>> schedule_names()[-2:]
    ('dualpipe_v', 'custom')
    """
    return (*SCHEDULES, CUSTOM)


def schedule_kind_of(name: str, chunk_order: str = DEFAULT_CHUNK_ORDER) -> ScheduleKind:
    """Return the properties of a schedule; `chunk_order` is the layout of the chunks of `custom`.

    >>> [schedule_kind_of("custom", chunk_order).num_chunks for chunk_order in ("round_robin", "vee")]
    [None, 2]
    """
    if name == CUSTOM:
        return ScheduleKind(build=None, layout=chunk_order, splits_backward=True, pairs=True)
    return SCHEDULES[name]


@lru_cache(maxsize=256)
def _chunk_layout(kind: str, num_stages: int, num_chunks: int) -> ChunkLayout:
    """Return a layout; a work needs its own again and again."""
    return ChunkLayout(kind=kind, num_stages=num_stages, num_chunks=num_chunks)


def build_pipeline_order(name: str, pipeline: Pipeline) -> PipelineOrder:
    """Return the steps of every stage of the schedule called `name`, and where the chunks stand.

    >>> pipeline = Pipeline(num_stages=2, num_microbatches=2, num_chunks=3)
    >>> build_pipeline_order("interleaved", pipeline).layout.num_model_chunks
    6

    Raises
    ------
    InvalidValueError
        The table has no such schedule, or the schedule cannot run the pipeline.
    """
    kind = SCHEDULES.get(name)
    if kind is None or kind.build is None:
        rule = f"be one of {', '.join(SCHEDULES)}"
        raise InvalidValueError(field="schedule.kind", rule=rule, value=name, hint="Use 1f1b.")
    kind.check(name, pipeline)
    return PipelineOrder(order=kind.build(pipeline), layout=kind.layout_on(pipeline.num_stages, pipeline.num_chunks))


def build_schedule(name: str, *, num_stages: int, num_microbatches: int, forward: bool = False) -> Schedule:
    """Return the schedule called `name` of a pipeline whose times are not known; with `forward`, F passes alone.

    >>> build_schedule("1f1b", num_stages=2, num_microbatches=2).next_pass(1, 0)
    Pass(kind='F', microbatch=0, chunk=0)
    """
    pipeline_order = build_pipeline_order(name, Pipeline(num_stages=num_stages, num_microbatches=num_microbatches))
    return (pipeline_order.forward() if forward else pipeline_order).schedule()
