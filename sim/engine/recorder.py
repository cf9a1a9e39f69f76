"""The record as it is taken: an entry for each op; the rows of all entries are made at the end.

An op of many spans costs as little to note as an op of a few: an entry keeps what the run decided (when, released by
what, on which rank), and the op itself gives the rest (`sim.engine.rows`, which says what a reference is as well).
"""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from sim.engine.rows import (
    KIND_CODE,
    PLACE_BITS,
    STREAM_CODE,
    CollectiveEntries,
    Columns,
    ComputeEntries,
    ServiceEntries,
    SingleEntries,
    columns_of,
    joined,
    table_of,
    whole,
)
from sim.plan.ops import Collective, Compute, Service
from workloads.schedules import Step

__all__ = ["Recorder"]

IntArray = NDArray[np.int64]
_COMMON = ("entry", "stage", "lane", "microbatch", "chunk", "start_ns", "released_by")


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
        self._served: list[tuple[IntArray | int, IntArray, IntArray | int, NDArray[np.intp] | None]] = []
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
        code, number = KIND_CODE[kind], len(self._end_ns)
        labels = (stage, lane, rank, group, STREAM_CODE[stream], code, microbatch, chunk, layer)
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
        (stage, lane), number = position, len(self._end_ns)
        known = self._compute_ops.setdefault(op, len(self._compute_ops))
        self._computes.append((number, known, stage, lane, rank, step.microbatch, step.chunk, start_ns, released_by))
        self._took_ns.append(took_ns)
        if contention_ns and any(contention_ns):
            self._slowed[len(self._took_ns) - 1] = contention_ns
        self._end_ns.append(start_ns + sum(took_ns))
        self._kind.append(KIND_CODE[op.kernels[-1].kind])
        return (number << PLACE_BITS) + len(took_ns) - 1

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
        entry = reference >> PLACE_BITS
        number = bisect_left(self._computes, (entry,))
        _, known, stage, lane, _, microbatch, chunk, *_ = self._computes[number]
        self._computes[number] = (entry, known, stage, lane, rank, microbatch, chunk, start_ns, released_by)
        self._took_ns[number] = took_ns
        self._slowed[number] = contention_ns
        self.amend_end(reference, start_ns + sum(took_ns))

    def amend_end(self, reference: int, end_ns: int) -> None:
        """Put right the last end of an entry."""
        self._end_ns[reference >> PLACE_BITS] = end_ns

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
        (stage, lane), number = position, len(self._end_ns)
        known = self._collective_ops.setdefault(op, len(self._collective_ops))
        self._collectives.append((number, known, stage, lane, step.microbatch, step.chunk, start_ns, released_by))
        self._ends_ns.append(end_ns)
        last_ns = end_ns[0] if len(end_ns) == 1 else max(end_ns)
        self._end_ns.append(last_ns)
        self._kind.append(KIND_CODE[op.kind])
        return (number << PLACE_BITS) + end_ns.index(last_ns)

    def add_service(
        self,
        op: Service,
        step: Step,
        position: tuple[int, int],
        *,
        served: NDArray[np.intp] | None,
        start_ns: IntArray | int,
        end_ns: IntArray,
        released_by: IntArray | int,
        last: int,
    ) -> int:
        """Note expert kernels on the ranks of `op` (at places `served`; None: on all); return the first reference.

        `last` is the place of the one that ended last. A start or a reference may be of all ranks. Starts and ends are
        read when the run is over: who knows them only then puts them right in the arrays, and the last with
        `amend_end`.
        """
        microbatch, chunk = step.microbatch, step.chunk
        known = self._service_ops.setdefault(op, len(self._service_ops))
        self._services.append((len(self._end_ns), known, *position, microbatch, chunk, end_ns.size))
        self._served.append((start_ns, end_ns, released_by, served))
        return self._note(int(end_ns[last]), KIND_CODE[op.kind])

    def latest(self, references: Sequence[int]) -> int:
        """Return the row that ended last; ties go by the order of kinds, then to the lowest number. -1 for none."""
        known = [reference for reference in references if reference >= 0]
        if len(known) < 2:
            return known[0] if known else -1
        ends, kinds = self._end_ns, self._kind
        return min(
            known, key=lambda reference: (-ends[reference >> PLACE_BITS], kinds[reference >> PLACE_BITS], reference)
        )

    def columns(self) -> Columns:
        """Return the columns of all rows so far."""
        return self.rows()[0]

    def rows(self) -> tuple[Columns, IntArray]:
        """Return the columns of all rows so far, and the numbers of joint rows."""
        tables = (self._singles_table(), self._computes_table(), self._collectives_table(), self._services_table())
        columns, first = columns_of(tables, len(self._end_ns))
        return columns, first[self._joint]

    # ---- private -------------------------------------------------------------------------------------------------

    def _note(self, end_ns: int, code: int) -> int:
        """Open an entry and return the reference of its first row."""
        self._end_ns.append(end_ns)
        self._kind.append(code)
        return (len(self._end_ns) - 1) << PLACE_BITS

    def _singles_table(self) -> SingleEntries:
        """Return the entries of one row."""
        labels = ("stage", "lane", "rank", "group", "stream", "kind", "microbatch", "chunk", "layer")
        names = ("entry", *labels, "start_ns", "end_ns", "released_by", "imbalance_ns", "contention_ns", "latency_ns")
        table = table_of([row[:-2] for row in self._singles], len(names))
        amounts = np.array([row[-2:] for row in self._singles], dtype=np.float64).reshape(-1, 2)
        given = dict(zip(names, table, strict=True))
        common = {name: given.pop(name) for name in _COMMON}
        return SingleEntries(**common, columns={**given, "bytes": amounts[:, 0], "flops": amounts[:, 1]})

    def _computes_table(self) -> ComputeEntries:
        """Return the entries of kernels."""
        entry, op, stage, lane, rank, microbatch, chunk, start_ns, released_by = table_of(self._computes, 9)
        num_kernels = whole(len(op_.kernels) for op_ in self._compute_ops)
        size = num_kernels[op]
        took_ns = whole(chain.from_iterable(self._took_ns))
        contention_ns, first = np.zeros(took_ns.size, dtype=np.int64), np.cumsum(size) - size
        for number, values in self._slowed.items():
            contention_ns[first[number] : first[number] + len(values)] = values
        return ComputeEntries(
            entry=entry,
            stage=stage,
            lane=lane,
            microbatch=microbatch,
            chunk=chunk,
            start_ns=start_ns,
            released_by=released_by,
            rank=rank,
            first=(np.cumsum(num_kernels) - num_kernels)[op],
            size=size,
            kernels=[kernel for op_ in self._compute_ops for kernel in op_.kernels],
            took_ns=took_ns,
            contention_ns=contention_ns,
        )

    def _collectives_table(self) -> CollectiveEntries:
        """Return the entries of collectives."""
        entry, op, stage, lane, microbatch, chunk, start_ns, released_by = table_of(self._collectives, 8)
        return CollectiveEntries(
            entry=entry,
            stage=stage,
            lane=lane,
            microbatch=microbatch,
            chunk=chunk,
            start_ns=start_ns,
            released_by=released_by,
            op=op,
            ops=list(self._collective_ops),
            end_ns=whole(chain.from_iterable(self._ends_ns)),
        )

    def _services_table(self) -> ServiceEntries:
        """Return the entries of services."""
        entry, op, stage, lane, microbatch, chunk, size = table_of(self._services, 7)
        ops = list(self._service_ops)
        place = None
        if any(served[-1] is not None for served in self._served):
            places = [
                np.arange(ops[number].ranks.size) if served[-1] is None else served[-1]
                for number, served in zip(op.tolist(), self._served, strict=True)
            ]
            place = joined(places, np.int64)
        return ServiceEntries(
            entry=entry,
            stage=stage,
            lane=lane,
            microbatch=microbatch,
            chunk=chunk,
            start_ns=_of_all([served[0] for served in self._served], size),
            released_by=_of_all([served[2] for served in self._served], size),
            op=op,
            ops=ops,
            size=size,
            place=place,
            end_ns=joined([served[1] for served in self._served], np.int64),
            homes=self._homes,
        )


def _of_all(values: Sequence[IntArray | int], size: IntArray) -> IntArray:
    """Return values of entries [E], or arrays of them, for each of the rows that the entries have [E]. Shape [rows]."""
    rows = np.repeat(whole(value if isinstance(value, int) else -1 for value in values), size)
    first = np.cumsum(size) - size
    for number, value in enumerate(values):
        if not isinstance(value, int):
            rows[first[number] : first[number] + value.size] = value
    return rows
