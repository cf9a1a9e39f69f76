"""Two-level collectives: inside each node over NVLink, across nodes along each rail.

Model
-----
With k nodes of g ranks and S bytes: a reduce-scatter in the node leaves S / g on each rank, an all-reduce along the
rail sums S / g over the nodes, an all-gather in the node completes the tensor.

    all-reduce       NVLink 2 (g - 1) / g * S      NIC 2 (k - 1) / k * S / g       per rank, each direction
    all-gather       NVLink (g - 1) / g * S        NIC   (k - 1) / k * S / g       along the rails, then in the nodes
    reduce-scatter   the same, in the nodes, then along the rails

The levels are pipelined: the flows of both levels are one vector of loads, the chain has the steps of both levels, one
level after the other.

Assumptions
-----------
Nodes need equally many ranks, and there need to be several nodes and several ranks on each; otherwise the collective is
the flat ring.

References
----------
Jia et al., "Highly scalable deep learning training system with mixed-precision", 2018, section 4.2 (hierarchical
all-reduce).
"""

from collections.abc import Sequence

from workloads.collectives.exchange import Exchange, cycle, ranks_by_node, two_level_exchange
from workloads.collectives.ring import ring_all_gather, ring_all_reduce, ring_reduce_scatter

__all__ = ["hierarchical_all_gather", "hierarchical_all_reduce", "hierarchical_reduce_scatter"]


def hierarchical_all_reduce(
    ranks: Sequence[int], node_of: Sequence[int], num_bytes: float, nic_ranks: Sequence[int] = ()
) -> Exchange:
    """Sum `num_bytes` over all `ranks`, level by level.

    >>> exchange = hierarchical_all_reduce([0, 1, 8, 9], [0, 0, 1, 1], 100.0)
    >>> exchange.total_bytes  # 4 ranks send 2 * 1/2 * 100 inside and 2 * 1/2 * 50 across
    600.0
    """
    return _two_levels(ranks, node_of, num_bytes, rounds=2) or ring_all_reduce(ranks, node_of, num_bytes, nic_ranks)


def hierarchical_all_gather(
    ranks: Sequence[int], node_of: Sequence[int], num_bytes: float, nic_ranks: Sequence[int] = ()
) -> Exchange:
    """Collect a tensor of `num_bytes` on all `ranks`: along the rails, then inside the nodes."""
    return _two_levels(ranks, node_of, num_bytes, rounds=1) or ring_all_gather(ranks, node_of, num_bytes, nic_ranks)


def hierarchical_reduce_scatter(
    ranks: Sequence[int], node_of: Sequence[int], num_bytes: float, nic_ranks: Sequence[int] = ()
) -> Exchange:
    """Sum `num_bytes` over all `ranks` and leave an equal share on each: inside the nodes, then along the rails."""
    return _two_levels(ranks, node_of, num_bytes, rounds=1) or ring_reduce_scatter(ranks, node_of, num_bytes, nic_ranks)


def _two_levels(ranks: Sequence[int], node_of: Sequence[int], num_bytes: float, *, rounds: int) -> Exchange | None:
    """Return the exchange of both levels; None where there are no two equal levels."""
    nodes = ranks_by_node(ranks, node_of)
    k, g = len(nodes), len(nodes[0])
    if k == 1 or g == 1 or any(len(node) != g for node in nodes):
        return None
    return two_level_exchange(
        inside=[pair for node in nodes for pair in cycle(node)],
        inside_bytes=rounds * (g - 1) / g * num_bytes,
        inside_steps=rounds * (g - 1),
        across=[pair for i in range(g) for pair in cycle([node[i] for node in nodes])],
        across_bytes=rounds * (k - 1) / k * num_bytes / g,
        across_steps=rounds * (k - 1),
    )
