"""The order of passes on a pipeline stage.

A schedule is entered in `SCHEDULES` (`workloads.schedules.registry`): the entry adds the schedule to the scenario's
keys, to the command line and to the conformance tests. `custom` is read from a file (`workloads.schedules.custom`).
"""

from workloads.schedules.base import FixedOrder, Order, Pair, Pass, Schedule, Step, parts_of
from workloads.schedules.chunk_layout import CHUNK_ORDERS, ChunkLayout
from workloads.schedules.pipeline import Pipeline, StageTimes
from workloads.schedules.pipeline_order import PipelineOrder
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
    "schedule_kind_of",
    "schedule_names",
]
