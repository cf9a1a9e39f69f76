"""Columns of a lowered plan: tables that grow row by row, and transfers over links."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sim.engine.compiled import layout as at
from sim.engine.rows import joined, table_of, whole
from sim.engine.run_state import Plan
from sim.plan.ops import Transfer

__all__ = ["NetworkColumns", "Table"]

IntArray = NDArray[np.int64]


@dataclass(slots=True, eq=False)
class Table:
    """Columns that grow row by row."""

    names: tuple[int, ...]
    rows: list[tuple[int, ...]] = field(default_factory=list)

    def add(self, *values: int) -> int:
        """Add a row; return its number."""
        self.rows.append(values)
        return len(self.rows) - 1

    def columns(self) -> dict[int, IntArray]:
        """Return the columns."""
        table = np.ascontiguousarray(table_of(self.rows, len(self.names)))
        return dict(zip(self.names, table, strict=True))


class NetworkColumns:
    """Transfers as the kernel sees them: sparse rows over the links that can saturate."""

    def __init__(self, plan: Plan, transfers: Sequence[Transfer]) -> None:
        self._plan, self._transfers = plan, transfers
        capacity = plan.capacity_bytes_per_s
        can_saturate = plan.can_saturate | (capacity <= 0)
        self.links = np.flatnonzero(can_saturate)
        self._sizes = np.array([transfer.load.links.size for transfer in transfers], dtype=np.int64)
        self._all_links = joined([transfer.load.links for transfer in transfers], np.int64)
        num_bytes = joined([transfer.load.num_bytes for transfer in transfers], np.float64)
        self._flow_bytes = np.array([transfer.flow_bytes for transfer in transfers], dtype=np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):  # of links without capacity: nothing flows there
            self._loaded = num_bytes / np.repeat(self._flow_bytes, self._sizes) / capacity[self._all_links]
        self._is_kept = can_saturate[self._all_links]
        self._dead = np.bincount(
            np.repeat(np.arange(self._sizes.size), self._sizes),
            weights=capacity[self._all_links] <= 0,
            minlength=self._sizes.size,
        )
        self._column = np.cumsum(can_saturate) - 1

    def ints(self) -> dict[int, IntArray]:
        """Return the columns of integers."""
        transfers = self._transfers
        owner = np.repeat(np.arange(self._sizes.size), self._sizes)[self._is_kept]
        sizes = np.bincount(owner, minlength=self._sizes.size)
        ends = np.cumsum(sizes)
        link = self._column[self._all_links[self._is_kept]]
        # a rank that sends and receives gives its SMs once
        taking = [np.unique(transfer.ranks) if transfer.num_sms else transfer.ranks[:0] for transfer in transfers]
        rank_ends = np.cumsum(whole(ranks.size for ranks in taking))
        return {
            at.FIRST_LINK: ends - sizes,
            at.END_LINK: ends,
            at.LINK: link,
            **_class_columns(owner, link, self._sizes.size),
            at.LATENCY_NS: whole(transfer.latency_ns for transfer in transfers),
            at.ALONE_NS: whole(transfer.alone_ns for transfer in transfers),
            at.IS_DEAD: (self._dead > 0).astype(np.int64),
            at.TRANSFER_SMS: whole(transfer.num_sms for transfer in transfers),
            at.FIRST_RANK: rank_ends - whole(ranks.size for ranks in taking),
            at.END_RANK: rank_ends,
            at.SM_RANK: joined(taking, np.int64),
        }

    def floats(self) -> dict[int, NDArray[np.float64]]:
        """Return the columns of floats."""
        count = None if self._plan.folding is None else self._plan.folding.count
        own = np.array([1.0 / transfer.most_bytes_per_s for transfer in self._transfers], dtype=np.float64)
        busiest = np.zeros(self._sizes.size)
        has_links = self._sizes > 0
        if has_links.any():
            first = (np.cumsum(self._sizes) - self._sizes)[has_links]
            busiest[has_links] = np.maximum.reduceat(self._loaded, first)
        total = [transfer.total_bytes * (1 if count is None else count(transfer)) for transfer in self._transfers]
        return {
            at.FLOW_BYTES: self._flow_bytes,
            at.BUSIEST: np.maximum(busiest, own),
            at.OWN_WEIGHT: own,
            at.TOTAL_BYTES: np.array(total, dtype=np.float64),
            at.WEIGHT: self._loaded[self._is_kept],
        }


def _class_columns(transfer: IntArray, link: IntArray, num_transfers: int) -> dict[int, IntArray]:
    """Return the classes of links that each transfer uses: links are of one class where the same transfers use them.

    Parameters
    ----------
    transfer, link
        Each pair of a transfer and a link that it uses, by rising transfer.
    """
    order = np.argsort(link, kind="stable")
    users = transfer[order]
    bounds = np.append(np.flatnonzero(np.diff(link[order], prepend=-1)), link.size).tolist()
    numbers: dict[bytes, int] = {}
    class_of = np.array(
        [numbers.setdefault(users[first:end].tobytes(), len(numbers)) for first, end in pairwise(bounds)],
        dtype=np.int64,
    )
    of_pairs = np.empty_like(link)
    of_pairs[order] = np.repeat(class_of, np.diff(bounds))
    classes = np.unique(transfer * max(len(numbers), 1) + of_pairs)
    sizes = np.bincount(classes // max(len(numbers), 1), minlength=num_transfers)
    ends = np.cumsum(sizes)
    return {at.FIRST_CLASS: ends - sizes, at.END_CLASS: ends, at.CLASS: classes % max(len(numbers), 1)}
