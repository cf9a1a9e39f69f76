"""All-reduce over two binary trees of nodes; inside a node a chain of ranks (NCCL's Tree) or the NVLink switch (NVLS).

Model
-----
Between nodes half of the tensor goes up and down each tree; a node that has children in one tree is a leaf of the
other. With k nodes of g ranks and S bytes, on each of the g rails

    an edge of a tree           S / (2 g) up and as much down
    a node                      at most 2 S / g each way; with two nodes S / g

*Tree*: inside a node the chain carries S towards its head and S back. Heads take turns: 2 (g - 1) / g * S per rank.

*NVLS*: inside a node the switch reduces and multicasts, 6/5 * S over each GPU's link, each way. The minimum would be
(1 + 1 / g) * S: the switch reads S from each of g GPUs and hands each GPU its share of the sum, which the GPU writes to
all. 6/5 is what NCCL's cost model counts for any g.

Assumptions
-----------
NVLS sends one message inside a node, however many ranks the node has: ranks wait for the switch, not for each other.
Every rank of a node is a rail of the trees, also where several ranks share a NIC; NCCL's trees leave a node over the
ranks next to a NIC only, as rings do here.

References
----------
Sanders, Speck & Traeff, "Two-tree algorithms for full bandwidth broadcast, reduction and scan", 2009. NVIDIA/nccl
src/graph/trees.cc (which trees) and src/graph/tuning.cc (steps of the chain; ratio 5/6 and latencies of NVLS and
NVLSTree).
"""

from collections.abc import Sequence
from dataclasses import replace

from workloads.collectives.exchange import Exchange, Pairs, cycle, ranks_by_node, two_level_exchange
from workloads.collectives.ring import ring_all_reduce

__all__ = ["nvls_all_reduce", "tree_all_reduce", "two_trees"]

_NVLS_RATIO = 6 / 5


def tree_all_reduce(
    ranks: Sequence[int], node_of: Sequence[int], num_bytes: float, nic_ranks: Sequence[int] = ()
) -> Exchange:
    """Sum `num_bytes` over all `ranks` and leave the result on each.

    >>> exchange = tree_all_reduce([0, 8], [0, 1], 100.0)
    >>> exchange.src.tolist(), exchange.num_bytes.tolist()  # each half up one tree and down again
    ([8, 0, 0, 8], [50.0, 50.0, 50.0, 50.0])
    """
    del nic_ranks
    nodes = ranks_by_node(ranks, node_of)
    chains = [(node, cycle(node)) for node in nodes if len(node) > 1]
    up_and_down = [[*chain, *((b, a) for a, b in chain)] for _, chain in chains]
    inside_bytes = [num_bytes * (len(node) - 1) / len(node) for node, chain in chains for _ in range(2 * len(chain))]
    return two_level_exchange(
        inside=[pair for pairs in up_and_down for pair in pairs],
        inside_bytes=inside_bytes,
        inside_steps=2 * (max(map(len, nodes)) - 1),
        across=_tree_flows(nodes),
        across_bytes=num_bytes / 2 / min(map(len, nodes)),
        across_steps=_tree_steps(len(nodes)),
    )


def nvls_all_reduce(
    ranks: Sequence[int], node_of: Sequence[int], num_bytes: float, nic_ranks: Sequence[int] = ()
) -> Exchange:
    """Sum `num_bytes` over all `ranks` by the switch; by the ring unless nodes have equally many ranks, at least two.

    >>> nvls_all_reduce([0, 1, 2, 3], [0, 0, 0, 0], 100.0).total_bytes  # 4 ranks send 120 each
    480.0
    """
    nodes = ranks_by_node(ranks, node_of)
    if len(nodes[0]) < 2 or len({len(node) for node in nodes}) > 1:
        return ring_all_reduce(ranks, node_of, num_bytes, nic_ranks)
    exchange = two_level_exchange(
        inside=[pair for node in nodes for pair in cycle(node)],
        inside_bytes=_NVLS_RATIO * num_bytes,
        inside_steps=1,
        across=_tree_flows(nodes),
        across_bytes=num_bytes / 2 / len(nodes[0]),
        across_steps=_tree_steps(len(nodes)),
    )
    num_by_switch = sum(map(len, nodes))
    return replace(exchange, looped_bytes_per_rank=num_bytes / len(nodes[0]), num_by_switch=num_by_switch)


def two_trees(num_nodes: int) -> Pairs:
    """Return the edges (child, parent) of both trees.

    >>> two_trees(4)
    [(1, 2), (2, 0), (3, 2), (2, 1), (1, 3), (0, 1)]
    """
    first = [(child, _parent(child, num_nodes)) for child in range(1, num_nodes)]
    if num_nodes % 2:
        second = [((child + 1) % num_nodes, (parent + 1) % num_nodes) for child, parent in first]
    else:
        second = [(num_nodes - 1 - child, num_nodes - 1 - parent) for child, parent in first]
    return first + second


def _parent(child: int, num_nodes: int) -> int:
    """Return the parent in the tree of root 0 whose leaves are the odd numbers."""
    lowest = child & -child
    parent = (child ^ lowest) | (lowest << 1)
    return parent if parent < num_nodes else child ^ lowest


def _tree_flows(nodes: Sequence[Sequence[int]]) -> Pairs:
    """Return the flows between nodes, up and down both trees on every rail; each carries half of the rail's bytes."""
    num_rails = min(map(len, nodes))
    edges = [(nodes[a][rail], nodes[b][rail]) for a, b in two_trees(len(nodes)) for rail in range(num_rails)]
    return [flow for a, b in edges for flow in ((a, b), (b, a))]


def _tree_steps(num_nodes: int) -> int:
    """Return the messages of the chain between nodes: up and down as many levels as NCCL counts."""
    return 2 * (num_nodes.bit_length() - 1)
