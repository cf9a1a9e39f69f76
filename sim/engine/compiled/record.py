"""What the kernel has written down, as the columns of a trace, as what links carried, and as counts of tokens."""

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import cast

import numpy as np
from numpy.typing import NDArray

from sim.engine.compiled import layout as at
from sim.engine.compiled.arrays import ArrayPlan, KeptPlan
from sim.engine.compiled.layout import Memory
from sim.engine.network.linkuse import LinkLog
from sim.engine.rows import (
    STREAM_CODE,
    CollectiveEntries,
    Columns,
    ComputeEntries,
    ServiceEntries,
    SingleEntries,
    columns_of,
    spread,
    table_of,
    whole,
)
from sim.engine.slowed_compute import kernels_took_ns
from sim.engine.tokens import TokenCounts
from sim.engine.trace import LinkUse
from sim.plan.ops import NO_LAYER, Collective, Compute, Op, Service, Transfer
from workloads.schedules import Step

__all__ = ["Record"]

IntArray = NDArray[np.int64]


class _Selected:
    """Entries of one type."""

    def __init__(self, memory: Memory, types: IntArray, type_: int) -> None:
        self._memory, self._num_entries = memory, types.size
        self.entry = np.flatnonzero(types == type_)
        """Number of each. Shape [E]."""

    def __getitem__(self, name: int) -> IntArray:
        """Return a column of the record. Shape [E]."""
        return self._memory.column(name, self._num_entries)[self.entry]


class Record:
    """The record of a run of the kernel."""

    def __init__(self, plan: KeptPlan, arrays: ArrayPlan, memory: Memory) -> None:
        self._plan, self._arrays, self._memory = plan, arrays, memory
        self._stage, self._lane = np.array(arrays.positions, dtype=np.int64).reshape(-1, 2).T
        self._lane_ranks = plan.lane_ranks[self._stage, self._lane]
        self._num_entries = int(memory.m[at.NUM_ENTRIES])

    def rows(self) -> tuple[Columns, IntArray]:
        """Return the columns of all rows, and the numbers of the rows of transfers that lanes make together."""
        types = self._memory.column(at.ENTRY_TYPE, self._num_entries)
        make: dict[int, Callable[[_Selected], SingleEntries | ComputeEntries | CollectiveEntries | ServiceEntries]] = {
            **{type_: partial(self._singles, type_) for type_ in range(at.COMPUTE_ENTRY)},
            at.COMPUTE_ENTRY: self._computes,
            at.COLLECTIVE_ENTRY: self._collectives,
            at.SERVICE_ENTRY: self._services,
        }
        there = np.bincount(types, minlength=at.SERVICE_ENTRY + 1)
        tables = [
            make_table(_Selected(self._memory, types, type_)) for type_, make_table in make.items() if there[type_]
        ]
        rows, first = columns_of(tables, self._num_entries)
        return rows, first[types == at.JOINT_ENTRY]

    def link_use(self, *, with_timeline: bool) -> LinkUse:
        """Return what the links have carried."""
        plan, memory, transfers = self._plan, self._memory, self._arrays.transfers
        folding, capacity = plan.folding, plan.capacity_bytes_per_s
        can_saturate = plan.can_saturate | (capacity <= 0)
        load_of = None if folding is None else folding.load
        log = LinkLog(capacity, plan.link_names, plan.link_kinds, can_saturate, load_of)
        num_intervals, num_shares = int(memory.m[at.NUM_INTERVALS]), int(memory.m[at.NUM_SHARES])
        starts, ends, firsts, solved = (
            memory.column(name, num_intervals).tolist()
            for name in (at.INTERVAL_START, at.INTERVAL_END, at.INTERVAL_FIRST, at.INTERVAL_SOLVED)
        )
        shares = memory.column(at.SHARE_TRANSFER, num_shares).tolist()
        rates = memory.floats(at.SHARE_RATE, num_shares).tolist()
        for start_ns, end_ns, first, is_solved, end in zip(
            starts, ends, firsts, solved, [*firsts[1:], num_shares], strict=False
        ):
            flowing = tuple(transfers[number] for number in shares[first:end])
            log.add(start_ns, end_ns, flowing, rates[first:end] if is_solved else None)
        for transfer, count in self.num_ended().items():
            log.end(transfer, count)
        return log.summary(with_timeline=with_timeline)

    def num_ended(self) -> dict[Transfer, int]:
        """Return how often each transfer has ended, in the order in which they ended first."""
        memory = self._memory
        order = memory.column(at.ENDED_ORDER, int(memory.m[at.NUM_ENDED])).tolist()
        counts = memory.column(at.ENDED_COUNT).tolist()
        return {self._arrays.transfers[number]: counts[number] for number in order}

    def tokens(self) -> TokenCounts:
        """Return the tokens that lanes have counted."""
        counts, memory = TokenCounts(self._plan.folding), self._memory
        num, arrays = int(memory.m[at.NUM_COUNTED]), self._arrays
        positions, steps, ops = arrays.positions, arrays.steps, arrays.ops
        columns = [memory.column(name, num) for name in (at.COUNTED_OP, at.COUNTED_POSITION, at.COUNTED_SIDE)]
        columns[0] = at.op_number(columns[0])
        for number, position, side in zip(*(column.tolist() for column in columns), strict=True):
            counts.count_op(positions[position], steps[side], cast("Compute | Service", ops[number]))
        return counts

    # ---- private -------------------------------------------------------------------------------------------------

    @cached_property
    def _visits_of_sides(self) -> IntArray:
        """Microbatch and chunk of each side. Shape [2, sides]."""
        return _visits(self._arrays.steps)

    def _common(self, of: _Selected, visits: IntArray | None = None) -> dict[str, IntArray]:
        """Return what entries of all kinds have; microbatch and chunk are those of their sides, unless given."""
        visits, position = self._visits_of_sides if visits is None else visits, of[at.ENTRY_POSITION]
        microbatch, chunk = np.take(visits, of[at.ENTRY_SIDE], axis=1)
        return {
            "entry": of.entry,
            "stage": self._stage[position],
            "lane": self._lane[position],
            "microbatch": microbatch,
            "chunk": chunk,
            "start_ns": of[at.ENTRY_START],
            "released_by": of[at.ENTRY_BY],
        }

    def _singles(self, type_: int, of: _Selected) -> SingleEntries:
        """Return entries of one row: passes, waits, sends, or transfers that lanes make together."""
        is_of_pass = type_ in (at.PASS_ENTRY, at.SEND_ENTRY)
        common = self._common(of, _visits(self._arrays.passes) if is_of_pass else None)
        columns: dict[str, NDArray[np.generic]] = {"kind": of[at.ENTRY_KIND], "end_ns": of[at.ENTRY_END]}
        if type_ == at.JOINT_ENTRY:
            columns |= self._joint_columns(of)
        elif type_ == at.AWAIT_ENTRY:
            columns |= {
                "stream": np.full(of.entry.size, STREAM_CODE["await"]),
                "layer": self._layers(self._arrays.ops)[at.op_number(of[at.ENTRY_OP])],
            }
        elif type_ == at.PASS_ENTRY:
            columns["stream"] = np.full(of.entry.size, STREAM_CODE["pass"])
        else:
            columns |= self._send_columns(of)
        return SingleEntries(**common, columns=columns)

    def _send_columns(self, of: _Selected) -> dict[str, NDArray[np.generic]]:
        sends, send = self._arrays.sends, of[at.ENTRY_X]
        stream = whole(STREAM_CODE["comm" if of_pass.blocks else "p2p"] for of_pass in sends)
        latency_ns = whole(of_pass.transfer.latency_ns for of_pass in sends)[send]
        alone_ns = whole(of_pass.transfer.alone_ns for of_pass in sends)[send]
        return {
            "stream": stream[send],
            "bytes": np.array([of_pass.transfer.total_bytes for of_pass in sends], dtype=np.float64)[send],
            "contention_ns": np.maximum(0, of[at.ENTRY_END] - of[at.ENTRY_START] - latency_ns - alone_ns),
            "latency_ns": latency_ns,
        }

    def _joint_columns(self, of: _Selected) -> dict[str, NDArray[np.generic]]:
        transfers, ops = self._arrays.transfers, self._arrays.ops
        number, op = self._memory.column(at.PLACE_TRANSFER)[of[at.ENTRY_X]], at.op_number(of[at.ENTRY_OP])
        stream = whole(
            STREAM_CODE["async" if isinstance(op, Collective) and op.stream is not None else "comm"] for op in ops
        )
        latency_ns, alone_ns = (
            whole(getattr(transfer, name) for transfer in transfers)[number] for name in ("latency_ns", "alone_ns")
        )
        flows_ns = of[at.ENTRY_END] - of[at.ENTRY_START] - latency_ns
        contention_ns = np.maximum(0, flows_ns - alone_ns)
        home = np.full(int(self._plan.lane_ranks.max()) + 1, -1)
        for position, place in enumerate(self._arrays.positions):
            home[self._plan.lane_ranks[place]] = position
        owner = home[whole(int(transfer.ranks[0]) if transfer.ranks.size else -1 for transfer in transfers)][number]
        num_bytes = np.array([transfer.total_bytes for transfer in transfers], dtype=np.float64)[number]
        return {
            "group": whole(transfer.group for transfer in transfers)[number],
            "stream": stream[op],
            "layer": self._layers(ops)[op],
            "bytes": np.where(owner == of[at.ENTRY_POSITION], num_bytes, 0.0),
            "imbalance_ns": np.minimum(
                whole(transfer.imbalance_ns for transfer in transfers)[number], flows_ns - contention_ns
            ),
            "contention_ns": contention_ns,
            "latency_ns": latency_ns,
        }

    def _layers(self, ops: list[Op]) -> IntArray:
        return whole(NO_LAYER if isinstance(op, Compute) else op.layer for op in ops)

    def _computes(self, of: _Selected) -> ComputeEntries:
        """Return entries of kernels."""
        memory, ops = self._memory, self._arrays.ops
        kernels = [kernel for op in ops if isinstance(op, Compute) for kernel in op.kernels]
        record, rank, begin, end = (of[name] for name in (at.ENTRY_OP, at.ENTRY_RANK, at.ENTRY_X, at.ENTRY_Y))
        of_row, within = spread(end - begin)
        took_ns = memory.column(at.KERNEL_NS)[begin[of_row] + within]
        contention_ns = np.zeros(took_ns.size, dtype=np.int64)
        first = np.cumsum(end - begin) - (end - begin)
        is_other = rank != memory.m[record + at.OP_SLOWEST]  # the rank that ends last: not the op's slowest
        is_other &= memory.m[record + at.OP_DURATIONS] >= 0
        for number in np.flatnonzero(is_other).tolist():
            at_row = int(first[number])
            for i, kernel in enumerate(kernels[int(begin[number]) : int(end[number])]):
                took_ns[at_row + i] = kernel.duration_ns[rank[number]]
        self._slow_down(of, took_ns, contention_ns, first)
        return ComputeEntries(
            **self._common(of),
            rank=self._lane_ranks[of[at.ENTRY_POSITION], rank],
            first=begin,
            size=end - begin,
            kernels=kernels,
            took_ns=took_ns,
            contention_ns=contention_ns,
        )

    def _slow_down(self, of: _Selected, took_ns: IntArray, contention_ns: IntArray, first: IntArray) -> None:
        """Write the time that kernels took while transfers took SMs, where speeds have changed."""
        memory, num_sms = self._memory, self._plan.num_sms
        num = int(memory.m[at.NUM_SPEEDS])
        if num == 0:
            return
        starts, ends, sizes = of[at.ENTRY_START], of[at.ENTRY_END], of[at.ENTRY_Y] - of[at.ENTRY_X]
        entries, since_ns, work, speed = (
            memory.column(name, num) for name in (at.SPEED_ENTRY, at.SPEED_SINCE, at.SPEED_WORK, at.SPEED_NOW)
        )
        bounds = np.append(np.flatnonzero(np.diff(entries, prepend=-1)), num)
        number_of = dict(zip(of.entry.tolist(), range(of.entry.size), strict=True))
        for low, high in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            number = number_of[int(entries[low])]
            start_ns, row, size = int(starts[number]), int(first[number]), int(sizes[number])
            full_ns = took_ns[row : row + size].tolist()
            if int(ends[number]) - start_ns == sum(full_ns):
                continue
            segments = [
                (max(since, start_ns), left, at_speed)
                for since, left, at_speed in zip(
                    since_ns[low:high].tolist(), work[low:high].tolist(), speed[low:high].tolist(), strict=True
                )
            ][::-1]
            taken = kernels_took_ns(full_ns, start_ns, segments, num_sms or 1)
            took_ns[row : row + size] = taken
            contention_ns[row : row + size] = np.array(taken) - np.array(full_ns)

    def _collectives(self, of: _Selected) -> CollectiveEntries:
        """Return entries of transfers of a lane alone."""
        ops = self._arrays.ops
        number = np.cumsum([isinstance(op, Collective) for op in ops]) - 1
        of_row, within = spread(of[at.ENTRY_Y])
        return CollectiveEntries(
            **self._common(of),
            op=number[at.op_number(of[at.ENTRY_OP])],
            ops=[op for op in ops if isinstance(op, Collective)],
            end_ns=self._memory.column(at.PLACE_END)[of[at.ENTRY_X][of_row] + within],
        )

    def _services(self, of: _Selected) -> ServiceEntries:
        """Return entries of expert kernels on ranks of any stage."""
        ops, memory = self._arrays.ops, self._memory
        services = [op for op in ops if isinstance(op, Service)]
        number = np.cumsum([isinstance(op, Service) for op in ops]) - 1
        num = int(memory.m[at.NUM_SERVED])
        homes = np.zeros((2, int(self._plan.lane_ranks.max()) + 1), dtype=np.int64)
        for place in np.ndindex(self._plan.lane_ranks.shape[:2]):
            homes[:, self._plan.lane_ranks[place]] = np.array(place)[:, None]
        common = self._common(of)
        del common["start_ns"], common["released_by"]
        return ServiceEntries(
            **common,
            start_ns=memory.column(at.SERVED_START, num),
            released_by=memory.column(at.SERVED_BY, num),
            op=number[at.op_number(of[at.ENTRY_OP])],
            ops=services,
            size=of[at.ENTRY_Y],
            place=memory.column(at.SERVED_RANK, num),
            end_ns=memory.column(at.SERVED_END, num),
            homes=homes,
        )


def _visits(steps: Sequence[Step]) -> IntArray:
    """Return microbatch and chunk of each step. Shape [2, steps]."""
    return table_of([(step.microbatch, step.chunk) for step in steps], 2)
