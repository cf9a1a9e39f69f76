"""What a collective asks of the network: flows between ranks and a chain of steps.

Model
-----
    time alone = latency of the chain + drain time of the flows

The chain is the longest row of messages that wait for each other; a step's latency is that of its slowest pair. The
flows are given as totals over all steps, for a pipelined collective keeps all its links busy at once.

Assumptions
-----------
Chunks are small enough to pipeline perfectly: real collectives lose a chunk's time per step (optimistic).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

__all__ = ["Exchange", "Step", "nodes_in_order", "spread_inside"]

IntArray = NDArray[np.intp]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Step:
    """Messages that go out together, a number of times one after another."""

    count: int
    """Times in the chain."""
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
    """The chain."""
    flow_bytes: float
    """Bytes of one typical flow: bytes on a link over this is the number of flows that stand for it there."""

    @property
    def total_bytes(self) -> float:
        """Bytes sent by all ranks together."""
        return float(self.num_bytes.sum())


def nodes_in_order(ranks: Sequence[int], node_of: Sequence[int]) -> list[list[int]]:
    """Return the ranks grouped by node, in the order in which nodes and ranks appear.

    >>> nodes_in_order([0, 1, 8, 9], [0, 0, 1, 1])
    [[0, 1], [8, 9]]
    """
    groups: dict[int, list[int]] = {}
    for rank, node in zip(ranks, node_of, strict=True):
        groups.setdefault(int(node), []).append(int(rank))
    return list(groups.values())


def spread_inside(exchange: Exchange, ranks: Sequence[int], node_of: Sequence[int]) -> Exchange:
    """Return an exchange whose bytes inside each node are spread evenly over all pairs of its ranks.

    Where GPUs are linked pair by pair, collectives run over as many different rings as there are links.

    >>> one = Step(count=1, src=np.array([0]), dst=np.array([1]))
    >>> ring = Exchange(
    ...     src=np.array([0, 1, 2]), dst=np.array([1, 2, 0]), num_bytes=np.full(3, 6.0), steps=(one,), flow_bytes=6.0
    ... )
    >>> spread_inside(ring, [0, 1, 2], [0, 0, 0]).num_bytes.tolist()
    [3.0, 3.0, 3.0, 3.0, 3.0, 3.0]
    """
    home = dict(zip(ranks, node_of, strict=True))
    src_node, dst_node = (
        np.array([home[int(r)] for r in ends], dtype=np.intp) for ends in (exchange.src, exchange.dst)
    )
    stays = src_node == dst_node
    src, dst, amount = [exchange.src[~stays]], [exchange.dst[~stays]], [exchange.num_bytes[~stays]]
    for node in nodes_in_order(ranks, node_of):
        total = float(exchange.num_bytes[stays & (src_node == home[node[0]])].sum())
        pairs = np.array([(a, b) for a in node for b in node if a != b], dtype=np.intp).reshape(-1, 2)
        if total and len(pairs):
            src.append(pairs[:, 0])
            dst.append(pairs[:, 1])
            amount.append(np.full(len(pairs), total / len(pairs)))
    return replace(exchange, src=np.concatenate(src), dst=np.concatenate(dst), num_bytes=np.concatenate(amount))
