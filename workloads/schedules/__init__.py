"""The order of passes on a pipeline stage, one file per schedule.

Entering a schedule in `SCHEDULES` adds it to the command line and to the conformance tests. `custom` is read from a
file (`workloads.schedules.custom`).
"""

from sim.errors import InvalidValueError
from workloads.schedules.base import FixedOrder, Order, Pair, Pass, Schedule, Step, parts_of
from workloads.schedules.breadth_first import breadth_first
from workloads.schedules.chimera import check_chimera, chimera
from workloads.schedules.chunk_layout import ChunkLayout
from workloads.schedules.dualpipe import check_dualpipe, dualpipe
from workloads.schedules.dualpipe_v import check_dualpipe_v, dualpipe_v
from workloads.schedules.gpipe import gpipe
from workloads.schedules.interleaved import interleaved
from workloads.schedules.one_f_one_b import one_f_one_b
from workloads.schedules.pipeline import Pipeline, StageTimes
from workloads.schedules.pipeline_order import PipelineOrder
from workloads.schedules.schedule_kind import ScheduleKind
from workloads.schedules.v_half import v_half
from workloads.schedules.v_min import v_min
from workloads.schedules.zb_1p import zb_1p
from workloads.schedules.zb_2p import zb_2p
from workloads.schedules.zb_h1 import zb_h1
from workloads.schedules.zb_h2 import zb_h2
from workloads.schedules.zb_v import zb_v

__all__ = [
    "SCHEDULES",
    "ChunkLayout",
    "FixedOrder",
    "Order",
    "Pair",
    "Pass",
    "Pipeline",
    "PipelineOrder",
    "Schedule",
    "ScheduleKind",
    "StageTimes",
    "Step",
    "build_pipeline_order",
    "build_schedule",
    "parts_of",
]

SCHEDULES: dict[str, ScheduleKind] = {
    "gpipe": ScheduleKind(build=gpipe),
    "1f1b": ScheduleKind(build=one_f_one_b),
    "interleaved": ScheduleKind(build=interleaved, layout="round_robin", num_chunks=None),
    "breadth_first": ScheduleKind(build=breadth_first, layout="round_robin", num_chunks=None),
    "zb_h1": ScheduleKind(build=zb_h1, splits_backward=True),
    "zb_h2": ScheduleKind(build=zb_h2, splits_backward=True),
    "zb_1p": ScheduleKind(build=zb_1p, splits_backward=True),
    "zb_2p": ScheduleKind(build=zb_2p, splits_backward=True),
    "zb_v": ScheduleKind(build=zb_v, layout="vee", num_chunks=2, splits_backward=True),
    "v_half": ScheduleKind(build=v_half, layout="vee", num_chunks=2, splits_backward=True),
    "v_min": ScheduleKind(build=v_min, layout="vee", num_chunks=2, splits_backward=True),
    "chimera": ScheduleKind(build=chimera, layout="both_ways", num_chunks=2, requires=check_chimera),
    "dualpipe": ScheduleKind(
        build=dualpipe,
        layout="both_ways",
        num_chunks=2,
        splits_backward=True,
        pairs=True,
        requires=check_dualpipe,
    ),
    "dualpipe_v": ScheduleKind(
        build=dualpipe_v,
        layout="vee",
        num_chunks=2,
        splits_backward=True,
        pairs=True,
        requires=check_dualpipe_v,
    ),
}
"""Schedule by name."""


def build_pipeline_order(kind: str, pipeline: Pipeline) -> PipelineOrder:
    """Return the pipeline_order of the schedule called `kind`.

    >>> build_pipeline_order("interleaved", Pipeline(num_stages=2, num_microbatches=2, num_chunks=3)).layout.num_model_chunks
    6

    Raises
    ------
    InvalidValueError
        There is no such schedule, or the pipeline is none for it.
    """
    if kind not in SCHEDULES:
        raise InvalidValueError(
            field="schedule.kind", rule=f"be one of {', '.join(SCHEDULES)}", value=kind, hint="Use 1f1b."
        )
    family = SCHEDULES[kind]
    family.check(kind, pipeline.num_chunks)
    return PipelineOrder(
        order=family.build(pipeline), layout=family.layout_on(pipeline.num_stages, pipeline.num_chunks)
    )


def build_schedule(kind: str, *, num_stages: int, num_microbatches: int, forward: bool = False) -> Schedule:
    """Return the schedule called `kind` of a pipeline of which no more is known; with `forward`, F alone.

    >>> build_schedule("1f1b", num_stages=2, num_microbatches=2).next_pass(1, 0)
    Pass(kind='F', microbatch=0, chunk=0)
    """
    pipeline_order = build_pipeline_order(kind, Pipeline(num_stages=num_stages, num_microbatches=num_microbatches))
    return (pipeline_order.forward() if forward else pipeline_order).schedule()
