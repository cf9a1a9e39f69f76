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
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Exchange", "Step", "nodes_in_order"]

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
