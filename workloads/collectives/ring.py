"""Ring collectives over as many rings as a node has GPUs next to a NIC.

Model
-----
With n ranks, S bytes and k rings, each ring carries S / k and each of its hops

    all-reduce                    2 (n - 1) / n * S / k        in 2 (n - 1) steps
    all-gather, reduce-scatter      (n - 1) / n * S / k        in   (n - 1) steps
    broadcast                                     S / k        in   (n - 1) steps, the hop into the root left out

A ring enters and leaves a node over GPUs that are next to a NIC (`rails_of`). Ring j enters even nodes over rail j and
leaves them over rail j - 1, and walks odd nodes backwards, so that hops between nodes stay on one rail. The closing hop
of an odd number of nodes crosses from rail j - 1 to rail j. On every node each rail is entered by one ring and left by
one ring, however many nodes there are. A node with a single rail is left over another rank.

Assumptions
-----------
Of the steps, twice (nodes - 1) (once for all-gather and reduce-scatter) cross nodes, as NCCL counts them.

References
----------
Patarasuk & Yuan, "Bandwidth optimal all-reduce algorithms", 2009. NVIDIA/nccl `src/graph/tuning.cc` (nInterSteps),
`src/graph/search.cc` (a channel starts at the GPU that is nearest to its NIC and ends at a GPU near a NIC) and
`src/graph/connect.cc` (channels c and c ^ 1 change places on odd nodes: "alternate rings to avoid crossing rails").
"""

from collections.abc import Sequence

import numpy as np

from workloads.collectives.exchange import Exchange, Step, cycle, rails_of, ranks_by_node

__all__ = ["ring_all_gather", "ring_all_reduce", "ring_broadcast", "ring_reduce_scatter", "rings"]


def ring_all_reduce(
    ranks: Sequence[int], node_of: Sequence[int], num_bytes: float, nic_ranks: Sequence[int] = ()
) -> Exchange:
    """Sum `num_bytes` over all `ranks` and leave the result on each.

    >>> exchange = ring_all_reduce([0, 1, 2, 3], [0, 0, 0, 0], 400.0)
    >>> exchange.total_bytes  # 4 ranks send 2 * 3/4 * 400 each
    2400.0
    """
    return _ring(ranks, node_of, num_bytes, nic_ranks, rounds=2)


def ring_all_gather(
    ranks: Sequence[int], node_of: Sequence[int], num_bytes: float, nic_ranks: Sequence[int] = ()
) -> Exchange:
    """Collect a tensor of `num_bytes`, of which each rank has an equal share, on all `ranks`."""
    return _ring(ranks, node_of, num_bytes, nic_ranks, rounds=1)


def ring_reduce_scatter(
    ranks: Sequence[int], node_of: Sequence[int], num_bytes: float, nic_ranks: Sequence[int] = ()
) -> Exchange:
    """Sum `num_bytes` over all `ranks` and leave an equal share of the sum on each."""
    return _ring(ranks, node_of, num_bytes, nic_ranks, rounds=1)


def ring_broadcast(
    ranks: Sequence[int], node_of: Sequence[int], num_bytes: float, nic_ranks: Sequence[int] = ()
) -> Exchange:
    """Copy `num_bytes` from the first of `ranks` to all others.

    >>> ring_broadcast([0, 1, 2, 3], [0, 0, 0, 0], 100.0).total_bytes
    300.0
    """
    closed = _ring(ranks, node_of, num_bytes, nic_ranks, rounds=1)
    if not closed.src.size:
        return closed
    root = ranks[0]
    is_open = closed.dst != root
    hop_bytes = num_bytes * len(ranks) / closed.src.size
    return Exchange(
        src=closed.src[is_open],
        dst=closed.dst[is_open],
        num_bytes=np.full(int(is_open.sum()), hop_bytes),
        steps=tuple(
            Step(count=step.count, src=step.src[step.dst != root], dst=step.dst[step.dst != root])
            for step in closed.steps
        ),
        flow_bytes=hop_bytes,
    )


def rings(ranks: Sequence[int], node_of: Sequence[int], nic_ranks: Sequence[int] = ()) -> list[list[int]]:
    """Return the rings: as many as the smallest node has rails, each a cycle over all ranks.

    >>> rings([0, 1, 8, 9], [0, 0, 1, 1])
    [[0, 1, 9, 8], [1, 0, 8, 9]]
    >>> rings([0, 1, 2, 3], [0, 0, 0, 0], [0, 2])  # enters at 0 and leaves at 2, and the other way round
    [[0, 1, 3, 2], [2, 3, 1, 0]]
    """
    nodes = ranks_by_node(ranks, node_of)
    rails = rails_of(nodes, nic_ranks)
    return [_ring_from(nodes, rails, first) for first in range(min(map(len, rails)))]


def _ring_from(nodes: list[list[int]], rails: list[list[int]], first: int) -> list[int]:
    """Return the ring that enters even nodes over rail `first` and leaves them over the rail before it."""
    ring: list[int] = []
    for number, (node, rail) in enumerate(zip(nodes, rails, strict=True)):
        enter, leave = rail[first], rail[first - 1]
        start = node.index(enter)
        walk = node[start:] + node[:start]
        if leave != enter:
            walk.remove(leave)
            walk.append(leave)
        ring += walk if number % 2 == 0 else walk[::-1]
    return ring


def _ring(
    ranks: Sequence[int], node_of: Sequence[int], num_bytes: float, nic_ranks: Sequence[int], *, rounds: int
) -> Exchange:
    """Return a collective that sends (n - 1) / n of the tensor around the rings `rounds` times."""
    n = len(ranks)
    cycles = rings(ranks, node_of, nic_ranks) if n > 1 else []
    hops = np.array([hop for ring in cycles for hop in cycle(ring)], dtype=np.intp).reshape(-1, 2)
    src, dst = hops[:, 0].copy(), hops[:, 1].copy()
    hop_bytes = rounds * (n - 1) / n * num_bytes / max(1, len(cycles))
    return Exchange(
        src=src,
        dst=dst,
        num_bytes=np.full(src.shape, hop_bytes),
        steps=_steps(src, dst, dict(zip(ranks, node_of, strict=True)), rounds * (n - 1), rounds),
        flow_bytes=hop_bytes,
    )


def _steps(src: np.ndarray, dst: np.ndarray, node_of: dict[int, int], num_steps: int, rounds: int) -> tuple[Step, ...]:
    crosses = np.array([node_of[int(a)] != node_of[int(b)] for a, b in zip(src, dst, strict=True)], dtype=bool)
    num_across = min(num_steps, rounds * (len(set(node_of.values())) - 1))
    steps = []
    if num_steps - num_across and not crosses.all():
        steps.append(Step(count=num_steps - num_across, src=src[~crosses], dst=dst[~crosses]))
    if num_across:
        steps.append(Step(count=num_across, src=src[crosses], dst=dst[crosses]))
    return tuple(steps)
