"""Collectives: which rank sends how many bytes to which, and in how many steps.

An algorithm is entered in `COLLECTIVES` (`workloads.collectives.registry`): the entry adds the algorithm to the values
of `network.all_reduce` and to the conformance tests.

Contents
--------
- `workloads.collectives.registry`: the tables of operations and of algorithms.
- `workloads.collectives.settings`: the section `network:` as one value, and the table of all-to-alls.
- `workloads.collectives.exchange`: what a collective asks of the network.
- `workloads.collectives.ring`, `tree`, `hierarchical`: algorithms; `direct`: transfers without an algorithm;
  `node_relay`: an all-to-all in which a token crosses to each node once.
"""

from workloads.collectives.direct import all_to_all, point_to_point
from workloads.collectives.exchange import Exchange, Step, spread_inside
from workloads.collectives.hierarchical import hierarchical_all_reduce
from workloads.collectives.registry import (
    AUTO,
    COLLECTIVES,
    OPERATIONS,
    CollectiveAlgorithm,
    Operation,
    algorithm_names,
    algorithms_for,
)
from workloads.collectives.ring import ring_all_reduce, ring_broadcast
from workloads.collectives.tree import nvls_all_reduce, tree_all_reduce

__all__ = [
    "AUTO",
    "COLLECTIVES",
    "OPERATIONS",
    "CollectiveAlgorithm",
    "Exchange",
    "Operation",
    "Step",
    "algorithm_names",
    "algorithms_for",
    "all_to_all",
    "hierarchical_all_reduce",
    "nvls_all_reduce",
    "point_to_point",
    "ring_all_reduce",
    "ring_broadcast",
    "spread_inside",
    "tree_all_reduce",
]
