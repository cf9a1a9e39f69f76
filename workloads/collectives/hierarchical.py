"""Two-level collectives: inside each node over NVLink, across nodes along each rail.

Model
-----
With k nodes of g ranks and S bytes: reduce-scatter in the node leaves S / g on each rank, an all-reduce along the
rail sums it over the nodes, an all-gather in the node completes it.

    all-reduce       NVLink 2 (g - 1) / g * S      NIC 2 (k - 1) / k * S / g       per rank, each direction
    all-gather       NVLink (g - 1) / g * S        NIC   (k - 1) / k * S / g
    reduce-scatter   the same

The levels are pipelined: one vector of loads, the chain of steps is that of both levels one after another.

Assumptions
-----------
Needs equally many ranks on each node; otherwise (and on one node) it is the flat ring.

References
----------
Jia et al., "Highly scalable deep learning training system with mixed-precision", 2018, section 4.2 (hierarchical
all-reduce).
"""

from collections.abc import Sequence

import numpy as np

from workloads.collectives.exchange import Exchange, Step, nodes_in_order
from workloads.collectives.ring import ring_all_gather, ring_all_reduce, ring_reduce_scatter

__all__ = ["hierarchical_all_gather", "hierarchical_all_reduce", "hierarchical_reduce_scatter"]


def hierarchical_all_reduce(ranks: Sequence[int], node_of: Sequence[int], num_bytes: float) -> Exchange:
    """Sum `num_bytes` over all `ranks`, level by level.

    >>> exchange = hierarchical_all_reduce([0, 1, 8, 9], [0, 0, 1, 1], 100.0)
    >>> exchange.total_bytes  # 4 ranks send 2 * 1/2 * 100 inside and 2 * 1/2 * 50 across
    600.0
    """
    if not _has_two_levels(ranks, node_of):
        return ring_all_reduce(ranks, node_of, num_bytes)
    return _two_levels(ranks, node_of, num_bytes, rounds=2)


def hierarchical_all_gather(ranks: Sequence[int], node_of: Sequence[int], num_bytes: float) -> Exchange:
    """Collect a tensor of `num_bytes` on all `ranks`: along the rails, then inside the nodes."""
    if not _has_two_levels(ranks, node_of):
        return ring_all_gather(ranks, node_of, num_bytes)
    return _two_levels(ranks, node_of, num_bytes, rounds=1)


def hierarchical_reduce_scatter(ranks: Sequence[int], node_of: Sequence[int], num_bytes: float) -> Exchange:
    """Sum `num_bytes` over all `ranks` and leave an equal part on each: inside the nodes, then along the rails."""
    if not _has_two_levels(ranks, node_of):
        return ring_reduce_scatter(ranks, node_of, num_bytes)
    return _two_levels(ranks, node_of, num_bytes, rounds=1)


def _has_two_levels(ranks: Sequence[int], node_of: Sequence[int]) -> bool:
    nodes = nodes_in_order(ranks, node_of)
    return len(nodes) > 1 and len(nodes[0]) > 1 and all(len(node) == len(nodes[0]) for node in nodes)


def _two_levels(ranks: Sequence[int], node_of: Sequence[int], num_bytes: float, *, rounds: int) -> Exchange:
    nodes = nodes_in_order(ranks, node_of)
    k, g = len(nodes), len(nodes[0])
    inside = [(a, b) for node in nodes for a, b in zip(node, node[1:] + node[:1], strict=True)]
    rails = [[node[i] for node in nodes] for i in range(g)]
    across = [(a, b) for rail in rails for a, b in zip(rail, rail[1:] + rail[:1], strict=True)]
    inside_bytes = rounds * (g - 1) / g * num_bytes
    across_bytes = rounds * (k - 1) / k * num_bytes / g
    pairs = np.array(inside + across, dtype=np.intp)
    split = len(inside)
    return Exchange(
        src=pairs[:, 0],
        dst=pairs[:, 1],
        num_bytes=np.concatenate([np.full(split, inside_bytes), np.full(len(across), across_bytes)]),
        steps=(
            Step(count=rounds * (g - 1), src=pairs[:split, 0], dst=pairs[:split, 1]),
            Step(count=rounds * (k - 1), src=pairs[split:, 0], dst=pairs[split:, 1]),
        ),
        flow_bytes=across_bytes,
    )
