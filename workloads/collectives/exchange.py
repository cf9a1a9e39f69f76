"""What a collective asks of the network: flows between ranks and a chain of steps.

Model
-----
    time alone = latency of the chain + drain time of the flows

The chain is the longest row of messages that wait for each other; the latency of a step is that of its slowest pair.
The flows are given as totals over all steps, for a pipelined collective keeps all its links busy at once.

Assumptions
-----------
Chunks are small enough to pipeline perfectly: real collectives lose the time of a chunk per step (optimistic).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

__all__ = ["Exchange", "Pairs", "Step", "cycle", "rails_of", "ranks_by_node", "spread_inside", "two_level_exchange"]

IntArray = NDArray[np.intp]
FloatArray = NDArray[np.float64]
Pairs = list[tuple[int, int]]
"""Sender and receiver of each flow."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Step:
    """Messages that are sent at the same time, `count` times one after another."""

    count: int
    """How often the messages are sent."""
    src: IntArray
    """Senders. Shape [P]."""
    dst: IntArray
    """Receivers. Shape [P]."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Exchange:
    """Flows of one collective, with the chain of steps that its latency follows."""

    src: IntArray
    """Sender of each flow. Shape [F]."""
    dst: IntArray
    """Receiver of each flow. Shape [F]."""
    num_bytes: FloatArray
    """Bytes of each flow over the whole collective. Shape [F]."""
    steps: tuple[Step, ...]
    """The chain of steps, one after another."""
    flow_bytes: float
    """Bytes of a typical flow: the bytes on a link divided by `flow_bytes` are the number of flows on the link."""
    num_by_switch: int = 0
    """Flows, the first ones, that stand for what each rank sends to the switch of its node and receives from it."""
    looped_bytes_per_rank: float = 0.0
    """Bytes of the tensor for each rank of a node, where the algorithm runs in loops over them; 0: it does not."""

    @property
    def total_bytes(self) -> float:
        """Bytes sent by all ranks together."""
        return float(self.num_bytes.sum())


def ranks_by_node(ranks: Sequence[int], node_of: Sequence[int]) -> list[list[int]]:
    """Return the ranks grouped by node, in the order in which nodes and ranks appear.

    >>> ranks_by_node([0, 1, 8, 9], [0, 0, 1, 1])
    [[0, 1], [8, 9]]
    """
    groups: dict[int, list[int]] = {}
    for rank, node in zip(ranks, node_of, strict=True):
        groups.setdefault(int(node), []).append(int(rank))
    return list(groups.values())


def rails_of(nodes: Sequence[Sequence[int]], nic_ranks: Sequence[int] = ()) -> list[list[int]]:
    """Return the ranks of each node over which a collective enters and leaves the node.

    Rings and trees use as many rails as the node with the fewest of these ranks has.

    Parameters
    ----------
    nodes
        Ranks of each node.
    nic_ranks
        Ranks that are next to a NIC; a node without any, and every node where none is given, uses all of its ranks.
        Where nodes have enough positions in common, each node uses these positions: rails are then not crossed.

    Examples
    --------
    Four GPUs and two NICs a node, and a second node that has lost NIC 0:

    >>> rails_of([[0, 1, 2, 3], [8, 9, 10, 11]], [0, 2, 8, 10]), rails_of([[0, 1, 2, 3], [8, 9, 10, 11]], [0, 2, 10])
    ([[0, 2], [8, 10]], [[2], [10]])
    """
    is_next = frozenset(nic_ranks)
    own = [[i for i, rank in enumerate(node) if rank in is_next] or list(range(len(node))) for node in nodes]
    common = sorted(set(own[0]).intersection(*own[1:]))
    if len(common) == min(map(len, own)):
        own = [common] * len(nodes)
    return [[node[i] for i in positions] for node, positions in zip(nodes, own, strict=True)]


def cycle(ranks: Sequence[int]) -> Pairs:
    """Return the pairs of a cycle: each rank sends to the next rank, and the last rank to the first.

    >>> cycle([0, 1, 9])
    [(0, 1), (1, 9), (9, 0)]
    """
    return list(zip(ranks, [*ranks[1:], *ranks[:1]], strict=True))


def two_level_exchange(
    *,
    inside: Pairs,
    inside_bytes: float | Sequence[float],
    inside_steps: int,
    across: Pairs,
    across_bytes: float,
    across_steps: int,
) -> Exchange:
    """Return the exchange of flows inside nodes and across nodes; the chain has the steps of both levels.

    Parameters
    ----------
    inside, across
        Sender and receiver of each flow inside a node, and between nodes.
    inside_bytes, across_bytes
        Bytes of each flow.
    inside_steps, across_steps
        Messages that wait for each other; a level without flows has none.

    Examples
    --------
    >>> exchange = two_level_exchange(
    ...     inside=[(0, 1), (1, 0)], inside_bytes=6.0, inside_steps=1, across=[(0, 8)], across_bytes=4.0, across_steps=2
    ... )
    >>> exchange.total_bytes, [step.count for step in exchange.steps]
    (16.0, [1, 2])
    """
    pairs = np.array(inside + across, dtype=np.intp).reshape(-1, 2)
    src, dst, split = pairs[:, 0], pairs[:, 1], len(inside)
    num_bytes = np.concatenate(
        [np.broadcast_to(np.asarray(inside_bytes, dtype=float), split), np.full(len(across), across_bytes)]
    )
    steps = []
    if inside:
        steps.append(Step(count=inside_steps, src=src[:split], dst=dst[:split]))
    if across:
        steps.append(Step(count=across_steps, src=src[split:], dst=dst[split:]))
    flow_bytes = float(num_bytes[split if across else 0]) if num_bytes.size else 0.0
    return Exchange(src=src, dst=dst, num_bytes=num_bytes, steps=tuple(steps), flow_bytes=flow_bytes)


def spread_inside(
    exchange: Exchange,
    ranks: Sequence[int],
    node_of: Sequence[int],
    num_links: Mapping[tuple[int, int], float] | None = None,
) -> Exchange:
    """Return an exchange whose bytes inside each node are spread over all pairs of the node's ranks.

    Where GPUs are linked pair by pair, collectives run over as many different rings as there are links. A pair has as
    much of the bytes as `num_links` says that it has of the links; None: all pairs have equally much.

    >>> step = Step(count=1, src=np.array([0]), dst=np.array([1]))
    >>> ring = Exchange(
    ...     src=np.array([0, 1, 2]), dst=np.array([1, 2, 0]), num_bytes=np.full(3, 6.0), steps=(step,), flow_bytes=6.0
    ... )
    >>> spread_inside(ring, [0, 1, 2], [0, 0, 0]).num_bytes.tolist()
    [3.0, 3.0, 3.0, 3.0, 3.0, 3.0]
    """
    node_of_rank = dict(zip(ranks, node_of, strict=True))
    src_node, dst_node = (
        np.array([node_of_rank[int(r)] for r in ends], dtype=np.intp) for ends in (exchange.src, exchange.dst)
    )
    is_inside = src_node == dst_node
    src, dst, num_bytes = [exchange.src[~is_inside]], [exchange.dst[~is_inside]], [exchange.num_bytes[~is_inside]]
    for node in ranks_by_node(ranks, node_of):
        total = float(exchange.num_bytes[is_inside & (src_node == node_of_rank[node[0]])].sum())
        pairs = [(a, b) for a in node for b in node if a != b]
        shares = np.array([1.0 if num_links is None else num_links.get(pair, 0.0) for pair in pairs])
        if total and pairs:
            ends = np.array(pairs, dtype=np.intp)[shares > 0]
            src.append(ends[:, 0])
            dst.append(ends[:, 1])
            num_bytes.append(total / shares.sum() * shares[shares > 0])
    return replace(exchange, src=np.concatenate(src), dst=np.concatenate(dst), num_bytes=np.concatenate(num_bytes))
