"""The order of passes on a pipeline stage.

A schedule is entered in `SCHEDULES` (`workloads.schedules.registry`): the entry adds the schedule to the scenario's
keys, to the command line and to the conformance tests. `custom` is read from a file (`workloads.schedules.custom`).

Contents
--------
- `workloads.schedules.registry`: the table of schedules.
- `workloads.schedules.passes`, `pipeline`: the steps of a stage; stages, chunks and their layout.
- `workloads.schedules.gpipe`, `one_f_one_b`, `zero_bubble`, `controllable_memory`, `chimera`, `dualpipe`: schedules.
- `workloads.schedules.slot_schedule`: repeats a block of passes; `list_scheduler`, `schedule_search`: search an order.
"""

from workloads.schedules.passes import FixedOrder, Order, Pair, Pass, Schedule, Step, passes_of
from workloads.schedules.pipeline import (
    CHUNK_ORDERS,
    DEFAULT_CHUNK_ORDER,
    ChunkLayout,
    Pipeline,
    PipelineOrder,
    StageTimes,
)
from workloads.schedules.registry import (
    CUSTOM,
    SCHEDULES,
    ScheduleKind,
    build_pipeline_order,
    build_schedule,
    schedule_kind_of,
    schedule_names,
)

__all__ = [
    "CHUNK_ORDERS",
    "CUSTOM",
    "DEFAULT_CHUNK_ORDER",
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
    "passes_of",
    "schedule_kind_of",
    "schedule_names",
]
