"""The table of collective algorithms: all that the program knows about an algorithm follows from its entry.

The values of `network.all_reduce`, the operations that an algorithm has, the algorithms among which `auto` takes the
cheapest and the conformance tests are derived from `COLLECTIVES`. An algorithm runs under the protocols that
`topology.presets.protocols` gives for its name.
"""

from collections.abc import Mapping, Sequence
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

__all__ = ["AUTO", "COLLECTIVES", "CollectiveAlgorithm", "algorithm_names", "algorithms_for", "operations"]

AUTO = "auto"
"""Name of the choice of the cheapest algorithm."""


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


def operations() -> tuple[str, ...]:
    """Return the operations, those of the ring.

    >>> operations()
    ('all_reduce', 'all_gather', 'reduce_scatter', 'broadcast')
    """
    return tuple(COLLECTIVES["ring"].exchanges)


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
