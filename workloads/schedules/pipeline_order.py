"""What the stages of a pipeline do: their steps, where their chunks stand, and which backward passes are whole."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from workloads.schedules.base import FixedOrder, Order, Pass, Step
from workloads.schedules.chunk_layout import ChunkLayout

__all__ = ["PipelineOrder"]


@dataclass(frozen=True, kw_only=True)
class PipelineOrder:
    """An order on its stages.

    >>> from workloads.schedules import Pipeline, build_pipeline_order
    >>> pipeline_order = build_pipeline_order("zb_h1", Pipeline(num_stages=2, num_microbatches=2))
    >>> pipeline_order.is_split(0, Pass("B", 1)), pipeline_order.forward().order[1]
    (True, [Pass(kind='F', microbatch=0, chunk=0), Pass(kind='F', microbatch=1, chunk=0)])
    """

    order: Order
    """The steps of every stage."""
    layout: ChunkLayout
    """Where the chunks stand."""

    @cached_property
    def _weights(self) -> list[frozenset[tuple[int, int]]]:
        return [frozenset((one.microbatch, one.chunk) for one in steps if one.kind == "W") for steps in self.order]

    def is_split(self, stage: int, backward: Pass) -> bool:
        """Return whether W of a backward pass is a pass of its own."""
        return (backward.microbatch, backward.chunk) in self._weights[stage]

    def forward(self) -> "PipelineOrder":
        """Return the forward passes alone, in their order."""
        return PipelineOrder(order=[_forward(steps) for steps in self.order], layout=self.layout)

    def schedule(self) -> FixedOrder:
        """Return what answers the engine, from the first step on."""
        return FixedOrder(self.order)


def _forward(steps: Sequence[Step]) -> list[Step]:
    return [Pass("F", one.microbatch, one.chunk) for one in steps if one.kind in {"F", "FB"}]
