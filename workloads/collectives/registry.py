"""The tables of operations and of collective algorithms: what the program knows about either follows from its entry.

The values of `workload.op` and all that depends on them are derived from `OPERATIONS`.

The values of `network.all_reduce`, the operations that an algorithm has, the algorithms among which `auto` takes the
cheapest and the conformance tests are derived from `COLLECTIVES`. An algorithm runs under the protocols that
`topology.presets.protocols` gives for its name.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from workloads.collectives.exchange import Exchange
from workloads.collectives.hierarchical import (
    hierarchical_all_gather,
    hierarchical_all_reduce,
    hierarchical_reduce_scatter,
)
from workloads.collectives.ring import ring_all_gather, ring_all_reduce, ring_broadcast, ring_reduce_scatter
from workloads.collectives.tree import nvls_all_reduce, tree_all_reduce

__all__ = [
    "AUTO",
    "COLLECTIVES",
    "OPERATIONS",
    "CollectiveAlgorithm",
    "Operation",
    "algorithm_names",
    "algorithms_for",
]

AUTO = "auto"
"""Name of the choice of the cheapest algorithm."""


def _share_of_others(num_ranks: int) -> float:
    return (num_ranks - 1) / num_ranks


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """An operation that ranks enter together."""

    kind: str = "tp"
    """Kind of the operation in a trace."""
    bus_factor: Callable[[int], float] = lambda _: 1.0
    """Bus bandwidth over algorithm bandwidth for a number of ranks, as nccl-tests defines them."""
    has_algorithms: bool = False
    """Whether `network.all_reduce` chooses the algorithm, among those of `COLLECTIVES`."""
    is_exchange: bool = False
    """Whether each rank has bytes of its own for each rank: `network.all_to_all` names the algorithm."""
    is_expert_exchange: bool = False
    """Whether tokens are sent to their experts or back, so that the bytes follow from the tokens."""


OPERATIONS: dict[str, Operation] = {
    "all_reduce": Operation(has_algorithms=True, bus_factor=lambda num_ranks: 2 * _share_of_others(num_ranks)),
    "all_gather": Operation(has_algorithms=True, bus_factor=_share_of_others),
    "reduce_scatter": Operation(has_algorithms=True, bus_factor=_share_of_others),
    "broadcast": Operation(has_algorithms=True),
    "all_to_all": Operation(kind="ep_dispatch", bus_factor=_share_of_others, is_exchange=True),
    "dispatch": Operation(kind="ep_dispatch", is_exchange=True, is_expert_exchange=True),
    "combine": Operation(kind="ep_combine", is_exchange=True, is_expert_exchange=True),
    "send": Operation(kind="pp"),
}
"""Operation by name. The ring has every operation that has algorithms.

>>> OPERATIONS["all_reduce"].bus_factor(8), OPERATIONS["all_gather"].bus_factor(8), OPERATIONS["send"].bus_factor(8)
(1.75, 0.875, 1.0)
"""


class BuildExchange(Protocol):
    """An operation of an algorithm."""

    def __call__(
        self, ranks: Sequence[int], node_of: Sequence[int], num_bytes: float, nic_ranks: Sequence[int] = ()
    ) -> Exchange:
        """Return what `ranks` on the nodes `node_of` [R] send for a tensor of `num_bytes`.

        `nic_ranks` are the ranks over which nodes are entered and left; none: all of them.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectiveAlgorithm:
    """An algorithm, with the operations that it has."""

    exchanges: Mapping[str, BuildExchange]
    """Function of each operation. The ring runs an operation that the algorithm does not have (an all-gather over a
    tree), as in NCCL."""
    is_in_auto: bool = False
    """Whether `auto` considers the algorithm: NCCL has it."""


COLLECTIVES: dict[str, CollectiveAlgorithm] = {
    "ring": CollectiveAlgorithm(
        exchanges={
            "all_reduce": ring_all_reduce,
            "all_gather": ring_all_gather,
            "reduce_scatter": ring_reduce_scatter,
            "broadcast": ring_broadcast,
        },
        is_in_auto=True,
    ),
    "tree": CollectiveAlgorithm(exchanges={"all_reduce": tree_all_reduce}, is_in_auto=True),
    "nvls": CollectiveAlgorithm(exchanges={"all_reduce": nvls_all_reduce}, is_in_auto=True),
    "hierarchical": CollectiveAlgorithm(
        exchanges={
            "all_reduce": hierarchical_all_reduce,
            "all_gather": hierarchical_all_gather,
            "reduce_scatter": hierarchical_reduce_scatter,
        }
    ),
}
"""Algorithm by name. The ring has every operation."""


def algorithm_names() -> tuple[str, ...]:
    """Return the values that `network.all_reduce` may have.

    >>> algorithm_names()
    ('auto', 'ring', 'tree', 'nvls', 'hierarchical')
    """
    return (AUTO, *COLLECTIVES)


def algorithms_for(operation: str, name: str) -> list[str]:
    """Return the algorithms named by a value of `network.all_reduce` that have an operation, in the order of the table.

    >>> algorithms_for("all_reduce", "auto"), algorithms_for("all_gather", "auto"), algorithms_for("all_gather", "tree")
    (['ring', 'tree', 'nvls'], ['ring'], [])
    """
    return [
        algorithm
        for algorithm, entry in COLLECTIVES.items()
        if operation in entry.exchanges and (entry.is_in_auto if name == AUTO else algorithm == name)
    ]
