"""The rows of a record, made from entries: an entry is an op, a span, or a transfer, and has one row or several.

Both engines write entries down in their own way, and make the rows here.

A *reference* names a row before it has a number: entry * 2**20 + its place in the entry; -1 for none.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.engine.trace import COLUMNS, KINDS, STREAMS
from sim.plan.ops import Collective, Service, TimedKernel

__all__ = [
    "KIND_CODE",
    "PLACE_BITS",
    "STREAM_CODE",
    "CollectiveEntries",
    "Columns",
    "ComputeEntries",
    "Entries",
    "ServiceEntries",
    "SingleEntries",
    "columns_of",
    "joined",
    "spread",
    "table_of",
    "whole",
]

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
Columns = dict[str, IntArray | FloatArray]
KIND_CODE = {kind: code for code, kind in enumerate(KINDS)}
STREAM_CODE = {stream: code for code, stream in enumerate(STREAMS)}
PLACE_BITS = 20
"""Bits of a reference that hold the place of a row in its entry."""
_PLACE = (1 << PLACE_BITS) - 1
_FLOATS = ("bytes", "flops")
_DURATION_COMPONENTS = ("imbalance_ns", "contention_ns", "latency_ns")
Of = IntArray | slice
"""The entry of each row, by its place in a table; a slice where each entry has one row."""
Within = IntArray | int
"""The place of each row in its entry."""
_Given = dict[str, NDArray[Any] | int]
"""The columns of rows that are not empty."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Entries:
    """What entries of one kind have in common. Each column has shape [E]."""

    entry: IntArray
    """Number of the entry in the record."""
    stage: IntArray
    lane: IntArray
    microbatch: IntArray
    chunk: IntArray
    start_ns: IntArray
    released_by: IntArray
    """Reference."""

    def sizes(self) -> IntArray | None:
        """Return the number of rows of each entry; None: one each."""
        return None

    def labels(self, of: Of) -> dict[str, IntArray]:
        """Return the columns that say where and for what, for rows of entries `of`."""
        return {
            "stage": self.stage[of],
            "lane": self.lane[of],
            "microbatch": self.microbatch[of],
            "chunk": self.chunk[of],
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SingleEntries(Entries):
    """Entries of one row. Each column has shape [E]."""

    columns: dict[str, NDArray[Any]]
    """The other columns of their rows."""

    def rows(self, of: Of, within: Within) -> _Given:
        """Return the rows."""
        del within
        return {**self.labels(of), "start_ns": self.start_ns, "released_by": self.released_by, **self.columns}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ComputeEntries(Entries):
    """Kernels one after another on the rank that ends last."""

    rank: IntArray
    """Shape [E]."""
    first: IntArray
    """Number of the first kernel. Shape [E]."""
    size: IntArray
    """Number of kernels. Shape [E]."""
    kernels: Sequence[TimedKernel]
    """Kernels, as they are numbered."""
    took_ns: IntArray
    """Time that each row took. Shape [rows]."""
    contention_ns: IntArray
    """Of which it would not have taken at full speed. Shape [rows]."""

    def sizes(self) -> IntArray:
        """Return the number of rows of each entry."""
        return self.size

    def rows(self, of: Of, within: Within) -> _Given:
        """Return the rows."""
        kernel, sums = self.first[of] + within, np.cumsum(self.took_ns)
        first = np.cumsum(self.size) - self.size
        end_ns = (self.start_ns - (sums[first] - self.took_ns[first]))[of] + sums
        mean_ns = whole(timed.mean_ns for timed in self.kernels)[kernel]
        return {
            **self.labels(of),
            "rank": self.rank[of],
            "stream": STREAM_CODE["compute"],
            "kind": whole(KIND_CODE[timed.kind] for timed in self.kernels)[kernel],
            "layer": whole(timed.layer for timed in self.kernels)[kernel],
            "start_ns": end_ns - self.took_ns,
            "end_ns": end_ns,
            "flops": np.array([timed.flops for timed in self.kernels], dtype=np.float64)[kernel],
            "released_by": np.where(within == 0, self.released_by[of], (self.entry[of] << PLACE_BITS) + within - 1),
            "imbalance_ns": np.maximum(0, self.took_ns - self.contention_ns - mean_ns),
            "contention_ns": self.contention_ns,
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CollectiveEntries(Entries):
    """Transfers of a lane alone that start together."""

    op: IntArray
    """Number of the collective. Shape [E]."""
    ops: Sequence[Collective]
    """Collectives, as they are numbered."""
    end_ns: IntArray
    """Shape [rows]."""

    def sizes(self) -> IntArray:
        """Return the number of rows of each entry."""
        return whole(len(op.transfers) for op in self.ops)[self.op]

    def rows(self, of: Of, within: Within) -> _Given:
        """Return the rows."""
        op, ops = self.op[of], self.ops
        num_transfers = whole(len(op_.transfers) for op_ in ops)
        transfers = {id(transfer): transfer for op_ in ops for transfer in op_.transfers}  # many ops have the same ones
        number = dict(zip(transfers, range(len(transfers)), strict=True))
        numbers = whole(number[id(transfer)] for op_ in ops for transfer in op_.transfers)
        transfer = numbers[(np.cumsum(num_transfers) - num_transfers)[op] + within]
        figures = table_of([(t.group, t.latency_ns, t.alone_ns, t.imbalance_ns) for t in transfers.values()], 4)
        group, latency_ns, alone_ns, imbalance_ns = np.take(figures, transfer, axis=1)
        flows_ns = self.end_ns - self.start_ns[of] - latency_ns  # up to 1 ns less than alone: see the network's ends
        contention_ns = np.maximum(0, flows_ns - alone_ns)
        stream = whole(STREAM_CODE["comm" if op_.stream is None else "async"] for op_ in ops)
        return {
            **self.labels(of),
            "group": group,
            "stream": stream[op],
            "kind": whole(KIND_CODE[op_.kind] for op_ in ops)[op],
            "layer": whole(op_.layer for op_ in ops)[op],
            "start_ns": self.start_ns[of],
            "end_ns": self.end_ns,
            "bytes": np.array([t.total_bytes for t in transfers.values()], dtype=np.float64)[transfer],
            "released_by": self.released_by[of],
            "imbalance_ns": np.minimum(imbalance_ns, flows_ns - contention_ns),
            "contention_ns": contention_ns,
            "latency_ns": latency_ns,
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ServiceEntries(Entries):
    """Expert kernels on ranks of any stage. Starts and references are of each row, and not of each entry."""

    op: IntArray
    """Number of the service. Shape [E]."""
    ops: Sequence[Service]
    """Services, as they are numbered."""
    size: IntArray
    """Kernels that served. Shape [E]."""
    place: IntArray | None
    """Their places in their ops; None: all ranks of each, in their order. Shape [rows]."""
    end_ns: IntArray
    """Shape [rows]."""
    homes: IntArray
    """Stage and lane of each rank. Shape [2, ranks]."""

    def sizes(self) -> IntArray:
        """Return the number of rows of each entry."""
        return self.size

    def rows(self, of: Of, within: Within) -> _Given:
        """Return the rows."""
        op, ops = self.op[of], self.ops
        num_ranks = whole(service.ranks.size for service in ops)
        at: Of = slice(None)  # where each op was run once, on all of its ranks
        if self.place is not None or self.op.size > len(ops):
            at = (np.cumsum(num_ranks) - num_ranks)[op] + (within if self.place is None else self.place)
        rank = joined([service.ranks for service in ops], np.int64)[at]
        duration_ns = joined([service.duration_ns for service in ops], np.int64)[at]
        home_stage, home_lane = self.homes[:, rank]
        is_foreign = (home_stage != self.stage[of]) | (home_lane != self.lane[of])
        mean_ns = _means([service.duration_ns for service in ops])
        return {
            "stage": home_stage,
            "lane": home_lane,
            "rank": rank,
            "stream": np.where(is_foreign, STREAM_CODE["foreign"], STREAM_CODE["compute"]),
            "kind": whole(KIND_CODE[service.kind] for service in ops)[op],
            "microbatch": self.microbatch[of],
            "chunk": self.chunk[of],
            "layer": whole(service.layer for service in ops)[op],
            "start_ns": self.start_ns,
            "end_ns": self.end_ns,
            "flops": joined([service.flops for service in ops], np.float64)[at],
            "released_by": self.released_by,
            "imbalance_ns": np.maximum(0, duration_ns - mean_ns[op]),
            "contention_ns": self.end_ns - self.start_ns - duration_ns,
        }


def columns_of(
    tables: Sequence[SingleEntries | ComputeEntries | CollectiveEntries | ServiceEntries], num_entries: int
) -> tuple[Columns, IntArray]:
    """Return the columns of all rows in the order of their entries, and the first row of each entry."""
    tables = [table for table in tables if table.entry.size]
    sizes = [table.sizes() for table in tables]
    size = np.zeros(num_entries, dtype=np.int64)
    for table, own in zip(tables, sizes, strict=True):
        size[table.entry] = 1 if own is None else own
    first = np.cumsum(size) - size
    columns = _empty_columns(int(size.sum()))
    for table, own in zip(tables, sizes, strict=True):
        of, within = spread(own)
        row = first[table.entry[of]] + within
        for name, values in table.rows(of, within).items():
            columns[name][row] = values
    reference, base_ns = columns["released_by"], columns["base_ns"]
    if first.size:
        reference[:] = np.where(reference < 0, -1, first[reference >> PLACE_BITS] + (reference & _PLACE))
    np.subtract(columns["end_ns"], columns["start_ns"], out=base_ns)
    for name in _DURATION_COMPONENTS:
        base_ns -= columns[name]
    return columns, first


def _empty_columns(num_rows: int) -> dict[str, NDArray[Any]]:
    """Return columns of numbers that are missing, or no time, no bytes and no FLOPs; those of a type in one block."""
    names = [name for name in COLUMNS if name not in _FLOATS]
    numbers = np.empty((len(names), num_rows), dtype=np.int64)
    numbers[:] = np.array([0 if name in _DURATION_COMPONENTS else -1 for name in names])[:, None]
    columns = dict(zip((*names, *_FLOATS), (*numbers, *np.zeros((len(_FLOATS), num_rows))), strict=True))
    return {name: columns[name] for name in COLUMNS}


def whole(values: Iterable[int]) -> IntArray:
    """Return whole numbers as an array."""
    return np.fromiter(values, dtype=np.int64)


def table_of(rows: Sequence[tuple[float, ...]], num_columns: int) -> IntArray:
    """Return rows of whole numbers as columns. Shape [num_columns, rows]."""
    return whole(chain.from_iterable(rows)).reshape(-1, num_columns).T  # type: ignore[arg-type]  # all are ints


def joined(arrays: Sequence[NDArray[Any]], dtype: type[np.generic]) -> NDArray[Any]:
    """Return arrays one after another; none of them is an empty array."""
    return np.concatenate(arrays).astype(dtype, copy=False) if arrays else np.zeros(0, dtype=dtype)


def _means(arrays: Sequence[IntArray]) -> IntArray:
    """Return the mean of each array, to the nearest whole."""
    size = whole(array.size for array in arrays)
    sums = np.add.reduceat(joined(arrays, np.int64), np.cumsum(size) - size) if arrays else size
    return np.rint(sums / size).astype(np.int64)


def spread(size: IntArray | None) -> tuple[Of, Within]:
    """Give each entry as many rows as its size (None: one); return the entry of each row, and its place in the entry.

    >>> spread(np.array([2, 1]))
    (array([0, 0, 1]), array([0, 1, 0]))
    """
    if size is None or (size == 1).all():
        return slice(None), 0
    of = np.repeat(np.arange(size.size), size)
    return of, np.arange(of.size) - np.repeat(np.cumsum(size) - size, size)
