"""Ops as the columns that the kernel reads: all ops of a type together, each of them once."""

from collections.abc import Callable, Hashable, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.engine.compiled import layout as at
from sim.engine.rows import KIND_CODE, joined, whole
from sim.plan.ops import AwaitStream, Collective, Compute, HostWork, Op, Service, Transfer

__all__ = ["OpColumns"]

IntArray = NDArray[np.int64]
_Columns = dict[int, IntArray | int]
"""Columns by name; a number is that of all ops."""


class OpColumns:
    """Columns of all ops of a plan.

    Parameters
    ----------
    ops
        The ops, as they are numbered.
    number_of
        The number of each transfer, by its id.
    lane_size
        Ranks of a lane.
    needs_ranks
        Whether kernels have the times of all ranks, and not of the slowest alone.
    """

    def __init__(
        self,
        ops: Sequence[Op],
        number_of: Callable[[Sequence[Transfer]], IntArray],
        lane_size: int,
        *,
        needs_ranks: bool,
    ) -> None:
        self._number_of, self._lane_size, self._needs_ranks = number_of, lane_size, needs_ranks
        self.streams: dict[str, int] = {}
        """Number of each stream."""
        self.labels: dict[tuple[str, Hashable], int] = {}
        """Number of each label of a stream."""
        self.joint: dict[int, int] = {}
        """Number of each transfer that several lanes make together, in their order."""
        self.most_served = 0
        """Most kernels of a service."""
        self._meetings: dict[tuple[object, ...], tuple[int, int]] = {}
        self._durations: list[IntArray] = []
        self._rows: dict[bytes, int] = {}
        self._rows_by_id: dict[int, tuple[int, IntArray]] = {}
        self.ints = self._columns(ops)
        """The columns."""

    def _columns(self, ops: Sequence[Op]) -> dict[int, IntArray]:
        numbers: dict[type[Op], list[int]] = {Compute: [], Collective: [], AwaitStream: [], HostWork: [], Service: []}
        for number, op in enumerate(ops):
            numbers[type(op)].append(number)
        records = np.zeros((len(ops), at.OP_SIZE), dtype=np.int64)
        columns: dict[int, IntArray] = {at.OPS: records.ravel()}
        make: dict[type[Op], Callable[[Sequence[Any]], _Columns]] = {
            Compute: self._of_computes,
            Collective: self._of_collectives,
            AwaitStream: self._of_awaits,
            HostWork: self._of_host_work,
            Service: self._of_services,
        }
        for type_, of in numbers.items():
            rows = np.array(of, dtype=np.int64)
            for name, values in make[type_]([ops[number] for number in of]).items():
                if name < at.OP_SIZE:  # a field of records
                    records[rows, name] = values
                else:
                    columns[name] = np.asarray(values)
        sizes = whole(size for _, size in self._meetings.values())
        return columns | {
            at.DURATION_NS: joined(self._durations, np.int64),
            at.MEETING_FIRST: np.cumsum(sizes) - sizes,
            at.MEETING_SIZE: sizes,
        }

    # ---- types ---------------------------------------------------------------------------------------------------

    def _of_computes(self, ops: Sequence[Compute]) -> _Columns:
        size = whole(len(op.kernels) for op in ops)
        end, issued = np.cumsum(size), whole(bool(op.issue_ns) for op in ops)
        took_ns = whole(chain.from_iterable(op.slowest_ns for op in ops))
        kinds = whole(KIND_CODE[kernel.kind] for op in ops for kernel in op.kernels)
        of_kernels, durations = np.full(took_ns.size, -1), np.full(len(ops), -1)
        issue_ns = np.zeros(took_ns.size, dtype=np.int64)
        for number in range(len(ops)) if self._needs_ranks else np.flatnonzero(issued).tolist():
            op, kernels = ops[number], slice(end[number] - size[number], end[number])
            if op.issue_ns:
                issue_ns[kernels] = op.issue_ns
                of_kernels[kernels] = [self._duration_row(kernel.duration_ns) for kernel in op.kernels]
                if of_kernels[kernels].max() >= 0:  # issued in pieces, each piece has its own slowest rank
                    durations[number] = self._add_durations(op.total_ns)
            if self._needs_ranks and durations[number] < 0:
                durations[number] = self._duration_row(op.total_ns)
        return {
            at.OP_TYPE: np.where(issued, at.ISSUED_COMPUTE, at.COMPUTE),
            at.OP_KIND: kinds[end - 1],
            at.OP_NS: np.diff(np.append(0, np.cumsum(took_ns))[np.append(0, end)]),
            at.OP_SLOWEST: whole(op.slowest for op in ops),
            at.OP_DURATIONS: durations,
            at.OP_FIRST_KERNEL: end - size,
            at.OP_END_KERNEL: end,
            at.OP_COUNTS: whole(_counts(op) for op in ops),
            at.KERNEL_NS: took_ns,
            at.KERNEL_ISSUE_NS: issue_ns,
            at.KERNEL_DURATIONS: of_kernels,
            at.KERNEL_KIND: kinds,
        }

    def _of_collectives(self, ops: Sequence[Collective]) -> _Columns:
        size, numbers = whole(len(op.transfers) for op in ops), self._number_of([t for op in ops for t in op.transfers])
        end, meetings = np.cumsum(size), np.full(len(ops), -1)
        for number, op in enumerate(ops):
            if op.rendezvous is not None:
                known = (len(self._meetings), len(op.rendezvous.members))
                meetings[number] = self._meetings.setdefault(op.rendezvous.key, known)[0]
                for transfer in numbers[end[number] - size[number] : end[number]].tolist():
                    self.joint.setdefault(transfer, len(self.joint))
        return {
            at.OP_TYPE: at.COLLECTIVE,
            at.OP_KIND: whole(KIND_CODE[op.kind] for op in ops),
            at.OP_FIRST_TRANSFER: end - size,
            at.OP_END_TRANSFER: end,
            at.OP_STREAM: whole(self._stream(op.stream) for op in ops),
            at.OP_LABEL: whole(self._label(op) for op in ops),
            at.OP_ISSUE_NS: whole(op.issue_ns or 0 for op in ops),
            at.OP_MEETING: meetings,
            at.OP_TRANSFER: numbers,
        }

    def _of_awaits(self, ops: Sequence[AwaitStream]) -> _Columns:
        return {
            at.OP_TYPE: at.AWAIT,
            at.OP_STREAM: whole(self._stream(op.stream) for op in ops),
            at.OP_LABEL: whole(self._label(op) for op in ops),
        }

    def _of_host_work(self, ops: Sequence[HostWork]) -> _Columns:
        return {
            at.OP_TYPE: at.HOST_WORK,
            at.OP_NS: whole(op.work_ns for op in ops),
            at.OP_WAITS: whole(op.waits for op in ops),
        }

    def _of_services(self, ops: Sequence[Service]) -> _Columns:
        size = whole(op.ranks.size for op in ops)
        self.most_served = max((int(np.count_nonzero(op.duration_ns)) for op in ops), default=0)
        return {
            at.OP_TYPE: at.SERVE,
            at.OP_KIND: whole(KIND_CODE[op.kind] for op in ops),
            at.OP_FIRST_RANK: np.cumsum(size) - size,
            at.OP_END_RANK: np.cumsum(size),
            at.OP_COUNTS: 1,
            at.SERVICE_RANK: joined([op.ranks for op in ops], np.int64),
            at.SERVICE_NS: joined([op.duration_ns for op in ops], np.int64),
        }

    # ---- fields --------------------------------------------------------------------------------------------------

    def _stream(self, name: str | None) -> int:
        return -1 if name is None else self.streams.setdefault(name, len(self.streams))

    def _label(self, op: Collective | AwaitStream) -> int:
        if op.label is None or op.stream is None:
            return -1
        return self.labels.setdefault((op.stream, op.label), len(self.labels))

    def _duration_row(self, duration_ns: IntArray) -> int:
        """Return where the times of all ranks stand; -1 where they are equal."""
        if self._lane_size == 1:
            return -1
        known = self._rows_by_id.get(id(duration_ns))
        if known is None:
            is_even = bool((duration_ns == duration_ns[0]).all())
            row = -1 if is_even else self._add_durations(duration_ns)
            known = self._rows_by_id[id(duration_ns)] = (row, duration_ns)  # kept, so that the id stays its own
        return known[0]

    def _add_durations(self, duration_ns: IntArray) -> int:
        key = duration_ns.tobytes()
        if key not in self._rows:
            self._rows[key] = len(self._durations) * self._lane_size
            self._durations.append(duration_ns)
        return self._rows[key]


def _counts(op: Compute) -> bool:
    """Tell whether tokens of an op count."""
    return op.expert_tokens is not None or bool(
        op.tokens_routed or op.tokens_dropped or op.tokens_padded or op.tokens_rerouted
    )
