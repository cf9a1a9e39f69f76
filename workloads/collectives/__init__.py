"""Collectives: which rank sends how many bytes to which, and in how many steps. One algorithm per file.

Entering an all-reduce in `ALL_REDUCES` (likewise the other tables) adds it to the scenario keys and to the conformance
tests.
"""

from collections.abc import Callable, Sequence

from workloads.collectives.all_to_all import all_to_all
from workloads.collectives.exchange import Exchange, Step
from workloads.collectives.hierarchical import (
    hierarchical_all_gather,
    hierarchical_all_reduce,
    hierarchical_reduce_scatter,
)
from workloads.collectives.point_to_point import point_to_point
from workloads.collectives.ring import ring_all_gather, ring_all_reduce, ring_reduce_scatter

__all__ = [
    "COLLECTIVES",
    "Exchange",
    "Step",
    "all_to_all",
    "hierarchical_all_gather",
    "hierarchical_all_reduce",
    "hierarchical_reduce_scatter",
    "point_to_point",
    "ring_all_gather",
    "ring_all_reduce",
    "ring_reduce_scatter",
]

COLLECTIVES: dict[str, dict[str, Callable[[Sequence[int], Sequence[int], float], Exchange]]] = {
    "all_reduce": {"ring": ring_all_reduce, "hierarchical": hierarchical_all_reduce},
    "all_gather": {"ring": ring_all_gather, "hierarchical": hierarchical_all_gather},
    "reduce_scatter": {"ring": ring_reduce_scatter, "hierarchical": hierarchical_reduce_scatter},
}
"""Operation -> algorithm -> (ranks, node of each rank, bytes of the whole tensor) -> Exchange."""
