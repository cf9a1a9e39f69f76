"""All-reduce over two binary trees of nodes, with a chain of ranks inside each.

Model
-----
Half of the tensor goes up and down each tree; a node that is inside the one is a leaf of the other. With k nodes of g
ranks and S bytes, on each of the g rails

    an edge of a tree           S / (2 g) up and as much down
    a node                      at most 2 S / g each way; with two nodes S / g

and inside a node the chain carries S towards its head and S back. Heads take turns: 2 (g - 1) / g * S per rank.

References
----------
Sanders, Speck & Traeff, "Two-tree algorithms for full bandwidth broadcast, reduction and scan", 2009. NVIDIA/nccl
src/graph/trees.cc (which trees) and src/graph/tuning.cc (steps of the chain).
"""

from collections.abc import Sequence

import numpy as np

from workloads.collectives.exchange import Exchange, Step, nodes_in_order

__all__ = ["tree_all_reduce", "two_trees"]

Edges = list[tuple[int, int]]


def tree_all_reduce(ranks: Sequence[int], node_of: Sequence[int], num_bytes: float) -> Exchange:
    """Sum `num_bytes` over all `ranks` and leave the result on each.

    >>> exchange = tree_all_reduce([0, 8], [0, 1], 100.0)
    >>> exchange.src.tolist(), exchange.num_bytes.tolist()  # each half up one tree and down again
    ([8, 0, 0, 8], [50.0, 50.0, 50.0, 50.0])
    """
    nodes = nodes_in_order(ranks, node_of)
    inside = [pair for node in nodes if len(node) > 1 for pair in _chain(node)]
    inside_bytes = [num_bytes * (len(node) - 1) / len(node) for node in nodes if len(node) > 1 for _ in _chain(node)]
    across = tree_flows(nodes)
    across_bytes = num_bytes / 2 / min(len(node) for node in nodes)
    pairs = np.array(inside + across, dtype=np.intp).reshape(-1, 2)
    split, steps = len(inside), []
    if inside:
        longest = max(len(node) for node in nodes)
        steps.append(Step(count=2 * (longest - 1), src=pairs[:split, 0], dst=pairs[:split, 1]))
    if across:
        steps.append(tree_step(pairs[split:], len(nodes)))
    return Exchange(
        src=pairs[:, 0],
        dst=pairs[:, 1],
        num_bytes=np.array(inside_bytes + [across_bytes] * len(across)),
        steps=tuple(steps),
        flow_bytes=across_bytes if across else (inside_bytes[0] if inside else 0.0),
    )


def tree_flows(nodes: Sequence[Sequence[int]]) -> Edges:
    """Return the flows between nodes, up and down both trees on every rail; each carries half of its rail's share."""
    num_rails = min(len(node) for node in nodes)
    up = [
        (nodes[child][rail], nodes[parent][rail])
        for child, parent in two_trees(len(nodes))
        for rail in range(num_rails)
    ]
    return [flow for a, b in up for flow in ((a, b), (b, a))]


def tree_step(pairs: np.ndarray, num_nodes: int) -> Step:
    """Return the chain's messages between nodes: up and down as many levels as NCCL counts."""
    return Step(count=2 * (num_nodes.bit_length() - 1), src=pairs[:, 0], dst=pairs[:, 1])


def two_trees(num_nodes: int) -> Edges:
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


def _chain(node: Sequence[int]) -> Edges:
    """Return the chain's pairs, there and back, over all heads."""
    there = list(zip(node, [*node[1:], node[0]], strict=True))
    return there + [(b, a) for a, b in there]
