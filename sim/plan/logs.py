"""Logs that a plan keeps where they are wanted: bytes between every two ranks, and the tokens that experts computed.

Model
-----
    bytes[i, j] = sum over transfers that ended of their bytes from rank i to rank j, once for each lane they stand for

What a rank sends to itself is left out. A collective's bytes are those of its own algorithm: those of a ring between
neighbours, those of a hierarchical collective first inside the node. What a switch reduces and multicasts (NVLS) has no
other end: it counts between neighbours, as the plan puts it on the links, and is listed apart. Where there are more
ranks than fit a picture, a row stands for several ranks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sim.plan.folding import Folding
from sim.plan.ops import Transfer

__all__ = ["LoadLog", "PairLog", "PairUse"]

Ranks = NDArray[np.intp]
FloatArray = NDArray[np.float64]

_MOST_ROWS: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PairUse:
    """Bytes from ranks to ranks."""

    num_bytes: FloatArray
    """Bytes from the ranks of a row to those of a column. Shape [P, P]."""
    ranks_per_row: int
    """Consecutive ranks that a row and a column stand for; 1 for up to 1,024 ranks."""
    node_of: Ranks
    """Node of the first rank of each row. Shape [P]."""
    by_switch: FloatArray | None = None
    """The part of `num_bytes` that goes to the switch of a node, which reduces it; None: nothing. Shape [P, P]."""


class PairLog:
    """Bytes between each pair of ranks in each transfer, noted while `is_on`."""

    def __init__(self) -> None:
        self.is_on = False
        self._pairs: dict[Transfer, tuple[Ranks, Ranks, FloatArray, int]] = {}

    def note(
        self, transfer: Transfer, src: Ranks, dst: Ranks, num_bytes: FloatArray, *, num_by_switch: int = 0
    ) -> None:
        """Note the bytes from `src` to `dst` in a transfer, broadcast together; the first ones may be by a switch."""
        if self.is_on:
            self._pairs[transfer] = (src, dst, num_bytes, num_by_switch)

    def total(self, num_ended: Mapping[Transfer, int], node_of: Ranks, folding: Folding | None = None) -> PairUse:
        """Return the bytes of all transfers that ended.

        Parameters
        ----------
        num_ended
            Transfer -> how often it ended.
        node_of
            Node of each rank. Shape [R].
        folding
            Which lanes ran for others, if any did.
        """
        per_row = 1
        while -(-node_of.size // per_row) > _MOST_ROWS:
            per_row *= 2
        rows = -(-node_of.size // per_row)
        total, by_switch = np.zeros((rows, rows)), np.zeros((rows, rows))
        for transfer, count in num_ended.items():
            if transfer not in self._pairs:
                continue
            src, dst, num_bytes, num_by_switch = self._pairs[transfer]
            moved = (
                [(src, dst)] if folding is None else zip(*(folding.ranks(transfer, x) for x in (src, dst)), strict=True)
            )
            for senders, receivers in moved:
                amounts = np.where(senders == receivers, 0.0, num_bytes) * count
                places = senders // per_row, receivers // per_row
                np.add.at(total, places, amounts)
                if num_by_switch:
                    first = slice(num_by_switch)
                    np.add.at(by_switch, (places[0][first], places[1][first]), amounts[first])
        return PairUse(
            num_bytes=total,
            ranks_per_row=per_row,
            node_of=node_of[::per_row],
            by_switch=by_switch if by_switch.any() else None,
        )


class LoadLog:
    """Tokens of each expert by lane, layer and microbatch; a layer that is routed again has equal tokens."""

    def __init__(self) -> None:
        self.is_on = False
        """Whether anything is kept."""
        self._kept: dict[tuple[int, int, int], NDArray[np.int64]] = {}

    def note(
        self,
        lane: int,
        layers: Sequence[int],
        microbatches: Sequence[int],
        *,
        computed: NDArray[np.int64],
        num_groups: int,
    ) -> None:
        """Keep what experts of each group of hosts computed: by microbatch, then layer [N, S, E]."""
        if not self.is_on:
            return
        num_draws, _, num_experts = computed.shape
        per_expert = computed.reshape(num_draws, num_groups, -1, num_experts).sum(axis=2)
        for i, (microbatch, layer) in enumerate(product(microbatches, layers)):
            self._kept[lane, layer, microbatch] = per_expert[i]

    def of_lane(self, lane: int) -> NDArray[np.int64]:
        """Return the tokens of each expert of each group, over layers and microbatches. Shape [N, G, E]."""
        kept = [loads for (of, _, _), loads in self._kept.items() if of == lane]
        return np.stack(kept) if kept else np.zeros((0, 1, 1), dtype=np.int64)
