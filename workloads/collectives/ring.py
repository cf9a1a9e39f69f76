"""Ring collectives over as many rings as a node has NICs.

Model
-----
With n ranks, S bytes and k rings, each ring carries S / k and each of its hops

    all-reduce                    2 (n - 1) / n * S / k        in 2 (n - 1) steps
    all-gather, reduce-scatter      (n - 1) / n * S / k        in   (n - 1) steps
    broadcast                                     S / k        in   (n - 1) steps, the hop into the root left out

Ring j enters and leaves a node over the GPU whose NIC belongs to it: even nodes are walked j, j+1, ..., j-1 and odd
nodes backwards, so that hops between nodes stay on one rail (but for the closing hop of an odd number of nodes).

Assumptions
-----------
Of the steps, twice (nodes - 1) (once for all-gather and reduce-scatter) cross nodes, as NCCL counts them.

References
----------
Patarasuk & Yuan, "Bandwidth optimal all-reduce algorithms", 2009. NCCL `src/graph/tuning.cc` (nInterSteps).
"""

from collections.abc import Sequence

import numpy as np

from workloads.collectives.exchange import Exchange, Step, nodes_in_order

__all__ = ["ring_all_gather", "ring_all_reduce", "ring_broadcast", "ring_reduce_scatter", "rings"]


def ring_all_reduce(ranks: Sequence[int], node_of: Sequence[int], num_bytes: float) -> Exchange:
    """Sum `num_bytes` over all `ranks` and leave the result on each.

    >>> exchange = ring_all_reduce([0, 1, 2, 3], [0, 0, 0, 0], 400.0)
    >>> exchange.total_bytes  # 4 ranks send 2 * 3/4 * 400 each
    2400.0
    """
    return _ring(ranks, node_of, num_bytes, rounds=2)


def ring_all_gather(ranks: Sequence[int], node_of: Sequence[int], num_bytes: float) -> Exchange:
    """Collect a tensor of `num_bytes`, of which each rank holds an equal part, on all `ranks`."""
    return _ring(ranks, node_of, num_bytes, rounds=1)


def ring_reduce_scatter(ranks: Sequence[int], node_of: Sequence[int], num_bytes: float) -> Exchange:
    """Sum `num_bytes` over all `ranks` and leave an equal part of the sum on each."""
    return _ring(ranks, node_of, num_bytes, rounds=1)


def ring_broadcast(ranks: Sequence[int], node_of: Sequence[int], num_bytes: float) -> Exchange:
    """Copy `num_bytes` from the first of `ranks` to all others.

    >>> ring_broadcast([0, 1, 2, 3], [0, 0, 0, 0], 100.0).total_bytes
    300.0
    """
    whole = _ring(ranks, node_of, num_bytes, rounds=1)
    if not whole.src.size:
        return whole
    goes_on = whole.dst != ranks[0]
    hop_bytes = num_bytes * len(ranks) / whole.src.size
    return Exchange(
        src=whole.src[goes_on],
        dst=whole.dst[goes_on],
        num_bytes=np.full(int(goes_on.sum()), hop_bytes),
        steps=tuple(
            Step(count=step.count, src=step.src[step.dst != ranks[0]], dst=step.dst[step.dst != ranks[0]])
            for step in whole.steps
        ),
        flow_bytes=hop_bytes,
    )


def rings(ranks: Sequence[int], node_of: Sequence[int]) -> list[list[int]]:
    """Return the rings: as many as the smallest node has ranks, each a cycle over all ranks.

    >>> rings([0, 1, 8, 9], [0, 0, 1, 1])
    [[0, 1, 9, 8], [1, 0, 8, 9]]
    """
    nodes = nodes_in_order(ranks, node_of)
    return [_one_ring(nodes, j) for j in range(min(len(node) for node in nodes))]


def _one_ring(nodes: list[list[int]], j: int) -> list[int]:
    ring: list[int] = []
    for position, node in enumerate(nodes):
        start = j % len(node)
        turned = node[start:] + node[:start]
        ring += turned if position % 2 == 0 else turned[::-1]
    return ring


def _ring(ranks: Sequence[int], node_of: Sequence[int], num_bytes: float, *, rounds: int) -> Exchange:
    n = len(ranks)
    cycles = rings(ranks, node_of) if n > 1 else []
    src = np.array([rank for cycle in cycles for rank in cycle], dtype=np.intp)
    dst = np.array([rank for cycle in cycles for rank in cycle[1:] + cycle[:1]], dtype=np.intp)
    hop_bytes = rounds * (n - 1) / n * num_bytes / max(1, len(cycles))
    return Exchange(
        src=src,
        dst=dst,
        num_bytes=np.full(src.shape, hop_bytes),
        steps=_steps(src, dst, dict(zip(ranks, node_of, strict=True)), rounds * (n - 1), rounds),
        flow_bytes=hop_bytes,
    )


def _steps(src: np.ndarray, dst: np.ndarray, node_of: dict[int, int], num_steps: int, rounds: int) -> tuple[Step, ...]:
    inter = np.array([node_of[int(a)] != node_of[int(b)] for a, b in zip(src, dst, strict=True)], dtype=bool)
    num_inter = min(num_steps, rounds * (len(set(node_of.values())) - 1))
    steps = []
    if num_steps - num_inter and not inter.all():
        steps.append(Step(count=num_steps - num_inter, src=src[~inter], dst=dst[~inter]))
    if num_inter:
        steps.append(Step(count=num_inter, src=src[inter], dst=dst[inter]))
    return tuple(steps)
