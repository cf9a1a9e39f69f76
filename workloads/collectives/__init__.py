"""Collectives: which rank sends how many bytes to which, and in how many steps. One algorithm per file.

An algorithm that is entered in `COLLECTIVES` is under the conformance tests; `network.all_reduce` names it. What it has
no entry for (an all-gather over a tree) takes the ring, as in NCCL.
"""

from collections.abc import Callable, Sequence

from workloads.collectives.all_to_all import all_to_all
from workloads.collectives.exchange import Exchange, Step, spread_inside
from workloads.collectives.hierarchical import (
    hierarchical_all_gather,
    hierarchical_all_reduce,
    hierarchical_reduce_scatter,
)
from workloads.collectives.nvls import nvls_all_reduce
from workloads.collectives.point_to_point import point_to_point
from workloads.collectives.ring import ring_all_gather, ring_all_reduce, ring_broadcast, ring_reduce_scatter
from workloads.collectives.tree import tree_all_reduce

__all__ = [
    "AUTO",
    "COLLECTIVES",
    "Exchange",
    "Step",
    "all_to_all",
    "hierarchical_all_gather",
    "hierarchical_all_reduce",
    "hierarchical_reduce_scatter",
    "nvls_all_reduce",
    "point_to_point",
    "ring_all_gather",
    "ring_all_reduce",
    "ring_broadcast",
    "ring_reduce_scatter",
    "spread_inside",
    "tree_all_reduce",
]

AUTO = ("ring", "tree", "nvls")
"""Algorithms among which `auto` takes the cheapest: those of NCCL."""

COLLECTIVES: dict[str, dict[str, Callable[[Sequence[int], Sequence[int], float], Exchange]]] = {
    "all_reduce": {
        "ring": ring_all_reduce,
        "tree": tree_all_reduce,
        "nvls": nvls_all_reduce,
        "hierarchical": hierarchical_all_reduce,
    },
    "all_gather": {"ring": ring_all_gather, "hierarchical": hierarchical_all_gather},
    "reduce_scatter": {"ring": ring_reduce_scatter, "hierarchical": hierarchical_reduce_scatter},
    "broadcast": {"ring": ring_broadcast},
}
"""Operation -> algorithm -> (ranks, node of each rank, bytes of the whole tensor) -> Exchange."""
