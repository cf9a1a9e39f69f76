"""The record as it is taken: an entry for each op; the rows of all entries are made at the end.

An op of many spans costs as little to note as an op of a few: an entry keeps what the run decided (when, released by
what, on which rank), and the op itself gives the rest. Rows come out in the order of their entries.

A *reference* names a row before it has a number: entry * 2**20 + its place in the entry; -1 for none.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.engine.trace import COLUMNS, KINDS, STREAMS
from sim.plan.ops import Collective, Compute, Service
from workloads.schedules import Step

__all__ = ["Recorder"]

IntArray = NDArray[np.int64]
Columns = dict[str, IntArray | NDArray[np.float64]]
_Rows = tuple[IntArray, dict[str, NDArray[Any] | int]]
"""The entry of each row, and the columns that are not empty."""

_KIND_CODE = {kind: code for code, kind in enumerate(KINDS)}
_STREAM_CODE = {stream: code for code, stream in enumerate(STREAMS)}
_SHIFT = 20
_PLACE = (1 << _SHIFT) - 1
_FLOATS = ("bytes", "flops")
_DURATION_COMPONENTS = ("imbalance_ns", "contention_ns", "latency_ns")


class Recorder:
    """Collects entries while the engine runs.

    >>> recorder = Recorder()
    >>> first = recorder.add(stage=0, lane=0, stream="comm", kind="tp", start_ns=0, end_ns=5, released_by=-1)
    >>> _ = recorder.add(stage=0, lane=0, stream="comm", kind="tp", start_ns=5, end_ns=9, released_by=first)
    >>> recorder.columns()["released_by"]
    array([-1,  0])
    """

    def __init__(self, homes: IntArray | None = None) -> None:
        """`homes` are the stage and lane of each rank, for services. Shape [2, ranks]."""
        self._homes = np.zeros((2, 0), dtype=np.int64) if homes is None else homes
        self.clear()

    def clear(self) -> None:
        """Forget all entries."""
        self._end_ns: list[int] = []  # of an entry's last row
        self._kind: list[int] = []
        self._joint: list[int] = []
        self._singles: list[tuple[float, ...]] = []
        self._computes: list[tuple[int, ...]] = []
        self._took_ns: list[tuple[int, ...]] = []
        self._slowed: dict[int, tuple[int, ...]] = {}  # contention of kernels, by the number in `_computes`
        self._collectives: list[tuple[int, ...]] = []
        self._ends_ns: list[Sequence[int]] = []
        self._services: list[tuple[int, ...]] = []
        self._served: list[tuple[IntArray, IntArray, IntArray, NDArray[np.intp] | None]] = []
        self._compute_ops: dict[Compute, int] = {}
        self._collective_ops: dict[Collective, int] = {}
        self._service_ops: dict[Service, int] = {}

    def add(
        self,
        *,
        stage: int,
        lane: int,
        stream: str,
        kind: str,
        start_ns: int,
        end_ns: int,
        released_by: int,
        rank: int = -1,
        group: int = -1,
        microbatch: int = -1,
        chunk: int = -1,
        layer: int = -1,
        num_bytes: float = 0.0,
        flops: float = 0.0,
        imbalance_ns: int = 0,
        contention_ns: int = 0,
        latency_ns: int = 0,
        is_joint: bool = False,
    ) -> int:
        """Note one row and return its reference; base is what the other components leave of the duration.

        A row is joint if other lanes take part in it.
        """
        if is_joint:
            self._joint.append(len(self._end_ns))
        code, number = _KIND_CODE[kind], len(self._end_ns)
        labels = (stage, lane, rank, group, _STREAM_CODE[stream], code, microbatch, chunk, layer)
        components = (imbalance_ns, contention_ns, latency_ns)
        self._singles.append((number, *labels, start_ns, end_ns, released_by, *components, num_bytes, flops))
        return self._note(end_ns, code)

    def add_compute(
        self,
        op: Compute,
        step: Step,
        position: tuple[int, int],
        *,
        rank: int,
        start_ns: int,
        took_ns: tuple[int, ...],
        released_by: int,
        contention_ns: tuple[int, ...] = (),
    ) -> int:
        """Note the kernels of `op` one after another on `rank`; return the reference of the last."""
        microbatch, chunk = step.microbatch, step.chunk
        number = len(self._end_ns)
        known = self._compute_ops.setdefault(op, len(self._compute_ops))
        self._computes.append((number, known, *position, rank, microbatch, chunk, start_ns, released_by))
        self._took_ns.append(took_ns)
        if any(contention_ns):
            self._slowed[len(self._took_ns) - 1] = contention_ns
        return self._note(start_ns + sum(took_ns), _KIND_CODE[op.kernels[-1].kind]) + len(took_ns) - 1

    def amend_compute(
        self,
        reference: int,
        *,
        rank: int,
        start_ns: int,
        took_ns: tuple[int, ...],
        released_by: int,
        contention_ns: tuple[int, ...],
    ) -> None:
        """Put right the rows of an op whose end was not known when `add_compute` noted it."""
        entry = reference >> _SHIFT
        number = bisect_left(self._computes, (entry,))
        _, known, stage, lane, _, microbatch, chunk, *_ = self._computes[number]
        self._computes[number] = (entry, known, stage, lane, rank, microbatch, chunk, start_ns, released_by)
        self._took_ns[number] = took_ns
        self._slowed[number] = contention_ns
        self.amend_end(reference, start_ns + sum(took_ns))

    def amend_end(self, reference: int, end_ns: int) -> None:
        """Put right the last end of an entry."""
        self._end_ns[reference >> _SHIFT] = end_ns

    def add_collective(
        self,
        op: Collective,
        step: Step,
        position: tuple[int, int],
        *,
        start_ns: int,
        end_ns: Sequence[int],
        released_by: int,
    ) -> int:
        """Note the transfers of `op`, which ended at `end_ns`; return the reference of the one that ended last."""
        microbatch, chunk = step.microbatch, step.chunk
        known = self._collective_ops.setdefault(op, len(self._collective_ops))
        self._collectives.append((len(self._end_ns), known, *position, microbatch, chunk, start_ns, released_by))
        self._ends_ns.append(end_ns)
        if len(end_ns) == 1:
            return self._note(end_ns[0], _KIND_CODE[op.kind])
        last_ns = max(end_ns)
        return self._note(last_ns, _KIND_CODE[op.kind]) + end_ns.index(last_ns)

    def add_service(
        self,
        op: Service,
        step: Step,
        position: tuple[int, int],
        *,
        served: NDArray[np.intp] | None,
        start_ns: IntArray,
        end_ns: IntArray,
        released_by: IntArray,
        last: int,
    ) -> int:
        """Note expert kernels on the ranks of `op` (at places `served`; None: on all); return the first reference.

        `last` is the place of the one that ended last. Starts and ends are read when the run is over: who knows them
        only then puts them right in the arrays, and the last with `amend_end`.
        """
        microbatch, chunk = step.microbatch, step.chunk
        known = self._service_ops.setdefault(op, len(self._service_ops))
        self._services.append((len(self._end_ns), known, *position, microbatch, chunk, end_ns.size))
        self._served.append((start_ns, end_ns, released_by, served))
        return self._note(int(end_ns[last]), _KIND_CODE[op.kind])

    def latest(self, references: Sequence[int]) -> int:
        """Return the row that ended last; ties go by the order of kinds, then to the lowest number. -1 for none."""
        known = [reference for reference in references if reference >= 0]
        if len(known) < 2:
            return known[0] if known else -1
        ends, kinds = self._end_ns, self._kind
        return min(known, key=lambda reference: (-ends[reference >> _SHIFT], kinds[reference >> _SHIFT], reference))

    def columns(self) -> Columns:
        """Return the columns of all rows so far."""
        return self.rows()[0]

    def rows(self) -> tuple[Columns, IntArray]:
        """Return the columns of all rows so far, and the numbers of joint rows."""
        tables = [self._single_rows(), self._compute_rows(), self._collective_rows(), self._service_rows()]
        sizes = [np.bincount(of, minlength=len(self._end_ns)) for of, _ in tables]
        size = np.add.reduce(sizes)
        first = np.cumsum(size) - size
        columns: dict[str, NDArray[Any]] = {name: _empty_column(name, int(size.sum())) for name in COLUMNS}
        for (of, given), own in zip(tables, sizes, strict=True):  # rows of one entry stand together and in order
            row = np.arange(of.size) + (first - np.cumsum(own) + own)[of]
            for name, values in given.items():
                columns[name][row] = values
        reference = columns["released_by"]
        if first.size:
            columns["released_by"] = np.where(reference < 0, -1, first[reference >> _SHIFT] + (reference & _PLACE))
        spent = columns["imbalance_ns"] + columns["contention_ns"] + columns["latency_ns"]
        columns["base_ns"] = columns["end_ns"] - columns["start_ns"] - spent
        return columns, first[self._joint]

    # ---- private -------------------------------------------------------------------------------------------------

    def _note(self, end_ns: int, code: int) -> int:
        """Open an entry and return the reference of its first row."""
        self._end_ns.append(end_ns)
        self._kind.append(code)
        return (len(self._end_ns) - 1) << _SHIFT

    def _single_rows(self) -> _Rows:
        names = ("entry", *COLUMNS[:9], "start_ns", "end_ns", "released_by", *_DURATION_COMPONENTS)
        table = _table([row[:-2] for row in self._singles], len(names))
        amounts = np.array([row[-2:] for row in self._singles], dtype=np.float64).reshape(-1, 2)
        given = dict(zip(names, table, strict=True))
        return given.pop("entry"), {**given, "bytes": amounts[:, 0], "flops": amounts[:, 1]}

    def _compute_rows(self) -> _Rows:
        entry, op, stage, lane, rank, microbatch, chunk, start_ns, released_by = _table(self._computes, 9)
        kernels = [kernel for op_ in self._compute_ops for kernel in op_.kernels]
        of, within, kernel = _spread(op, [len(op_.kernels) for op_ in self._compute_ops])
        took_ns = np.array([took for kernels in self._took_ns for took in kernels], dtype=np.int64)
        first = np.flatnonzero(within == 0)
        contention_ns = np.zeros(took_ns.size, dtype=np.int64)
        for number, values in self._slowed.items():
            contention_ns[first[number] : first[number] + len(values)] = values
        sums = np.append(0, np.cumsum(took_ns))
        end_ns = start_ns[of] + sums[1:] - sums[first][of]
        return entry[of], {
            "stage": stage[of],
            "lane": lane[of],
            "rank": rank[of],
            "stream": _STREAM_CODE["compute"],
            "kind": _ints(_KIND_CODE[timed.kind] for timed in kernels)[kernel],
            "microbatch": microbatch[of],
            "chunk": chunk[of],
            "layer": _ints(timed.layer for timed in kernels)[kernel],
            "start_ns": end_ns - took_ns,
            "end_ns": end_ns,
            "flops": np.array([timed.flops for timed in kernels], dtype=np.float64)[kernel],
            "released_by": np.where(within == 0, released_by[of], (entry[of] << _SHIFT) + within - 1),
            "imbalance_ns": np.maximum(0, took_ns - contention_ns - _ints(timed.mean_ns for timed in kernels)[kernel]),
            "contention_ns": contention_ns,
        }

    def _collective_rows(self) -> _Rows:
        entry, op, stage, lane, microbatch, chunk, start_ns, released_by = _table(self._collectives, 8)
        transfers = [transfer for op_ in self._collective_ops for transfer in op_.transfers]
        of, _, transfer = _spread(op, [len(op_.transfers) for op_ in self._collective_ops])
        figures = _table([(t.group, t.latency_ns, t.alone_ns, t.imbalance_ns) for t in transfers], 4)
        group, latency_ns, alone_ns, imbalance_ns = figures[:, transfer]
        end_ns = _ints(end for ends in self._ends_ns for end in ends)
        flows_ns = end_ns - start_ns[of] - latency_ns  # up to 1 ns less than alone: see the network's ends
        contention_ns = np.maximum(0, flows_ns - alone_ns)
        return entry[of], {
            "stage": stage[of],
            "lane": lane[of],
            "group": group,
            "stream": _ints(_STREAM_CODE["comm" if op_.stream is None else "async"] for op_ in self._collective_ops)[
                op
            ][of],
            "kind": _ints(_KIND_CODE[op_.kind] for op_ in self._collective_ops)[op][of],
            "microbatch": microbatch[of],
            "chunk": chunk[of],
            "layer": _ints(op_.layer for op_ in self._collective_ops)[op][of],
            "start_ns": start_ns[of],
            "end_ns": end_ns,
            "bytes": np.array([t.total_bytes for t in transfers], dtype=np.float64)[transfer],
            "released_by": released_by[of],
            "imbalance_ns": np.minimum(imbalance_ns, flows_ns - contention_ns),
            "contention_ns": contention_ns,
            "latency_ns": latency_ns,
        }

    def _service_rows(self) -> _Rows:
        entry, op, stage, lane, microbatch, chunk, size = _table(self._services, 7)
        of, ops = np.repeat(np.arange(op.size), size), list(self._service_ops)
        services = [(ops[number], served[-1]) for number, served in zip(op.tolist(), self._served, strict=True)]
        rank = _joined([_at(service.ranks, places) for service, places in services], np.int64)
        duration_ns = _joined([_at(service.duration_ns, places) for service, places in services], np.int64)
        home_stage, home_lane = self._homes[:, rank]
        is_foreign = (home_stage != stage[of]) | (home_lane != lane[of])
        mean_ns = _means([service.duration_ns for service in ops])
        start_ns = _joined([served[0] for served in self._served], np.int64)
        end_ns = _joined([served[1] for served in self._served], np.int64)
        return entry[of], {
            "stage": home_stage,
            "lane": home_lane,
            "rank": rank,
            "stream": np.where(is_foreign, _STREAM_CODE["foreign"], _STREAM_CODE["compute"]),
            "kind": _ints(_KIND_CODE[service.kind] for service in ops)[op][of],
            "microbatch": microbatch[of],
            "chunk": chunk[of],
            "layer": _ints(service.layer for service in ops)[op][of],
            "start_ns": start_ns,
            "end_ns": end_ns,
            "flops": _joined([_at(service.flops, places) for service, places in services], np.float64),
            "released_by": _joined([served[2] for served in self._served], np.int64),
            "imbalance_ns": np.maximum(0, duration_ns - mean_ns[op][of]),
            "contention_ns": end_ns - start_ns - duration_ns,
        }


def _empty_column(name: str, num_rows: int) -> NDArray[Any]:
    """Return a column of numbers that are missing, or of no time, no bytes and no FLOPs."""
    if name in _FLOATS:
        return np.zeros(num_rows)
    return np.full(num_rows, 0 if name in _DURATION_COMPONENTS else -1, dtype=np.int64)


def _ints(values: Iterable[int]) -> IntArray:
    return np.fromiter(values, dtype=np.int64)


def _means(arrays: Sequence[IntArray]) -> IntArray:
    """Return the mean of each array, to the nearest whole."""
    size = _ints(array.size for array in arrays)
    sums = np.add.reduceat(_joined(arrays, np.int64), np.cumsum(size) - size) if arrays else size
    return np.rint(sums / size).astype(np.int64)


def _table(rows: Sequence[tuple[float, ...]], num_columns: int) -> IntArray:
    """Return rows of whole numbers as columns. Shape [num_columns, rows]."""
    return _ints(chain.from_iterable(rows)).reshape(-1, num_columns).T  # type: ignore[arg-type]  # all are ints


def _at(values: NDArray[Any], places: NDArray[np.intp] | None) -> NDArray[Any]:
    return values if places is None else values[places]


def _joined(arrays: Sequence[NDArray[Any]], dtype: type[np.generic]) -> NDArray[Any]:
    return np.concatenate(arrays).astype(dtype, copy=False) if arrays else np.zeros(0, dtype=dtype)


def _spread(op: IntArray, sizes: Sequence[int]) -> tuple[IntArray, IntArray, IntArray]:
    """Give each entry a row for each kernel or transfer of its op.

    Returns the entry of each row, the row's place in the entry, and the number of its kernel or transfer among all.
    """
    num_members = np.array(sizes, dtype=np.int64)
    size = num_members[op]
    of = np.repeat(np.arange(op.size), size)
    within = np.arange(of.size) - np.repeat(np.cumsum(size) - size, size)
    return of, within, (np.cumsum(num_members) - num_members)[op][of] + within
