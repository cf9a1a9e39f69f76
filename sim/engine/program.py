"""What runs the ops of a lane one after another: of the lane itself, of one pass of a pair, or of a stream.

Model
-----
Ranks differ within an op (slow ranks, hot experts); an op ends when the slowest rank of the lane has ended, and its
imbalance is the slowest rank over the mean.

A collective with a stream is started and runs next to whatever the lane does after it (`sim.engine.stream`), until
the lane awaits it.

Where the plan gives the host's time, a kernel or a collective starts when the host has issued it: the host issues the
ops of a lane in their order and runs ahead of the lane, until it has to wait for the lane (`HostWork`)::

    issued = end of the host's work before + time to issue it
    start  = max(end of the op before, issued)

Assumptions
-----------
Groups of a lane that end an op early wait for the others (they meet again within the layer): pessimistic by at most the
groups' spread. Ranks of a lane have one host, and wait for each other where the host is late: pessimistic where they
differ.
"""

from collections.abc import Generator
from copy import copy
from typing import Any

import numpy as np
import simpy
from numpy.typing import NDArray

from sim.engine.clock import Alarm
from sim.engine.deadlock import Wait
from sim.engine.host import Host
from sim.engine.network.contention import Batch
from sim.engine.run_state import Rendezvous, RunState
from sim.engine.stream import RunCollective, Started, Steps, Streams
from sim.plan.ops import NO_LAYER, AwaitStream, Collective, Compute, HostWork, Op, RendezvousKey, Service
from workloads.schedules import Step

__all__ = ["Program"]


class Program:
    """Runs ops on the ranks of a lane."""

    def __init__(self, run_state: RunState, stage: int, lane: int) -> None:
        self.position = (stage, lane)
        self.stage, self.lane = stage, lane
        self.ranks = run_state.plan.lane_ranks[stage, lane]
        self.wait: Wait | None = None
        self._rank_numbers: list[int] = self.ranks.tolist()
        first, last = self._rank_numbers[0], self._rank_numbers[-1]
        is_row = self._rank_numbers == list(range(first, last + 1))
        self._rank_index: slice | NDArray[np.intp] = slice(first, last + 1) if is_row else self.ranks
        self._run_state, self._env = run_state, run_state.clock.env
        self._last_row = -1
        self._host = Host()  # of the lane, of both sides of a pair, and of all streams
        self._streams = Streams(self._env, run_state.recorder.latest)  # likewise
        self._on_streams: list[Program] = []  # copies of the lane, each running the collectives of a stream
        self._is_stream = False  # whether this is such a copy
        self._started: dict[str, Started] = {}  # the last collective on each stream that this program has started

    # ---- private -------------------------------------------------------------------------------------------------

    def _run_ops(self, step: Step, ops: tuple[Op, ...]) -> Steps:
        for op in ops:
            if isinstance(op, Compute) and not op.issue_ns:
                ended = self._compute(op, step)
                if ended is not None:
                    yield ended
            elif (
                isinstance(op, Collective)
                and op.rendezvous is None
                and (self._is_stream or not (op.stream or op.issue_ns))
            ):
                batch = self._run_state.network.begin(op.transfers)
                if batch.done.callbacks is not None:
                    yield batch.done
                self._note_batch(op, step, batch)
            else:
                yield from self._run_other(op, step)

    def _run_other(self, op: Op, step: Step) -> Steps:
        """Run an op that is neither kernels nor transfers of the lane alone, or that the host has to issue."""
        if isinstance(op, Compute):
            yield from self._run_issued(op, step)
        elif isinstance(op, Service):
            ended = self._serve(op, step)
            if ended is not None:
                yield ended
        elif isinstance(op, AwaitStream):
            yield from self._await_stream(op, step)
        elif isinstance(op, HostWork):
            self._host.work(op.work_ns, not_before_ns=self._env.now if op.waits else 0)
        else:
            if op.issue_ns and not self._is_stream:
                yield from self._issue(op.issue_ns)
            if op.stream is not None and not self._is_stream:
                self._start(op, op.stream, step)
            elif op.rendezvous is not None:
                yield from self._run_joint(op, op.rendezvous, step)
            else:
                batch = self._run_state.network.begin(op.transfers)
                if batch.done.callbacks is not None:
                    yield batch.done
                self._note_batch(op, step, batch)

    def _note_batch(self, op: Collective, step: Step, batch: Batch) -> None:
        """Record transfers of this lane alone that have ended."""
        if op.transfers:
            self._last_row = self._run_state.recorder.add_collective(
                op,
                step,
                self.position,
                start_ns=batch.start_ns,
                end_ns=batch.end_ns,
                released_by=self._last_row,
            )

    def _issue(self, issue_ns: int) -> Steps:
        """Wait until the host has issued an op."""
        issued_ns = self._host.work(issue_ns)
        if issued_ns > self._env.now:
            yield Alarm(self._env, issued_ns - self._env.now)

    def _run_issued(self, op: Compute, step: Step) -> Steps:
        """Run kernels as the host issues them: in one piece as long as the host is ahead of the slowest rank."""
        issued_ns = [self._host.work(issue_ns) for issue_ns in op.issue_ns]
        first, num_kernels = 0, len(issued_ns)
        while first < num_kernels:
            if issued_ns[first] > self._env.now:
                yield Alarm(self._env, issued_ns[first] - self._env.now)
            reached_ns, end = self._env.now, first
            while end < num_kernels and issued_ns[end] <= reached_ns:
                reached_ns += op.slowest_ns[end]
                end += 1
            ended = self._compute(self._run_state.part_of(op, first, end), step)
            if ended is not None:
                yield ended
            first = end

    def _start(self, op: Collective, name: str, step: Step) -> None:
        """Start transfers on a stream."""
        self._started[name] = self._streams.start(op, name, step, self._last_row, self._open_stream)

    def _open_stream(self) -> RunCollective:
        """Return what runs the collectives of a new stream."""
        on_stream = copy(self)  # on the same ranks, at its own place in the record
        on_stream.wait, on_stream._is_stream = None, True
        self._on_streams.append(on_stream)
        return on_stream._run_on_stream

    def _run_on_stream(self, op: Collective, step: Step, released_by: int) -> Generator[simpy.Event, Any, int]:
        """Run a collective of a stream; return its row."""
        self._last_row = released_by
        yield from self._run_ops(step, (op,))
        return self._last_row

    def _await_stream(self, op: AwaitStream, step: Step) -> Steps:
        """Wait for a collective that was started on a stream."""
        started = self._started.get(op.stream) if op.label is None else self._streams.labelled(op, self.position, step)
        if started is None:
            return
        if not started.done.processed:
            since_ns = self._env.now
            yield started.done
            if self._env.now > since_ns:
                self._note_span(
                    "await",
                    started.op.kind,
                    step,
                    since_ns=since_ns,
                    released_by=self._last_row,
                    layer=started.op.layer,
                )
        self._last_row = self._run_state.recorder.latest([self._last_row, started.row])

    def _note_span(
        self, stream: str, kind: str, step: Step, *, since_ns: int, released_by: int, layer: int = NO_LAYER
    ) -> None:
        """Record a span that ends now: a pass, or a wait for a stream."""
        self._run_state.recorder.add(
            stage=self.stage,
            lane=self.lane,
            stream=stream,
            kind=kind,
            microbatch=step.microbatch,
            chunk=step.chunk,
            layer=layer,
            start_ns=since_ns,
            end_ns=self._env.now,
            released_by=released_by,
        )

    def _compute(self, op: Compute, step: Step) -> simpy.Event | None:
        """Claim the lane's ranks for the kernels of `op`; return the event of their last end, None when that is now."""
        now_ns = at_ns = self._env.now
        slowest, took_ns, released_by = op.slowest, op.slowest_ns, self._last_row
        run_state = self._run_state
        if run_state.shares_compute:  # ranks may be busy for others: each starts when it is free
            start, end, holder = run_state.compute.claim(self._rank_index, op.total_ns, now_ns=now_ns)
            if not isinstance(start, int) and not isinstance(holder, int):  # some rank is busy
                slowest = int(end.argmax())
                at_ns = int(start[slowest])
                if slowest != op.slowest:
                    took_ns = tuple([kernel.duration_ns.item(slowest) for kernel in op.kernels])
                if at_ns > now_ns:
                    released_by = int(holder[slowest])
        self._last_row = run_state.recorder.add_compute(
            op,
            step,
            self.position,
            rank=self._rank_numbers[slowest],
            start_ns=at_ns,
            took_ns=took_ns,
            released_by=released_by,
        )
        if run_state.shares_compute:
            run_state.compute.hold(self._rank_index, self._last_row)
        self._run_state.tokens.count_op(self.position, step, op)
        ends_in_ns = at_ns + sum(took_ns) - now_ns
        return Alarm(self._env, ends_in_ns) if ends_in_ns > 0 else None

    def _run_joint(self, op: Collective, key: RendezvousKey, step: Step) -> Steps:
        """Run a collective that other lanes enter as well."""
        rendezvous = self._enter(op, key)
        if rendezvous.batch is None:
            self._wait_for_members(op, rendezvous, step)
            yield rendezvous.begun
            self.wait = None
        if rendezvous.batch is None:
            raise RuntimeError("a rendezvous that has begun has its batch")
        batch = rendezvous.batch
        released_by = self._run_state.recorder.latest(list(rendezvous.arrived.values()))
        if not batch.done.processed:
            yield batch.done
        rows = [
            self._record_transfer(op, step, batch, position, released_by)
            for position, transfer in enumerate(batch.transfers)
            if np.isin(transfer.ranks, self.ranks).any()
        ]
        self._last_row = self._run_state.recorder.latest(rows) if rows else released_by

    def _enter(self, op: Collective, key: RendezvousKey) -> Rendezvous:
        """Enter a rendezvous with the transfers that this lane owns; the last lane to come starts those of all."""
        rendezvous = self._run_state.rendezvous.setdefault(key.key, Rendezvous(key.members, self._env.event()))
        rendezvous.arrived[self.position] = self._last_row
        rendezvous.transfers.extend(op.transfers)
        if len(rendezvous.arrived) == len(key.members):
            rendezvous.batch = self._run_state.network.begin(rendezvous.transfers)
            rendezvous.begun.succeed()
        return rendezvous

    def _wait_for_members(self, op: Collective, rendezvous: Rendezvous, step: Step) -> None:
        missing = tuple(member for member in rendezvous.members if member not in rendezvous.arrived)
        stages = ", ".join(dict.fromkeys(str(stage) for stage, _ in missing))
        where = f" of layer {op.layer}" if op.layer != NO_LAYER else ""
        self.wait = Wait(
            lane=self.position,
            during=f"{step.kind}{step.microbatch}",
            what=f"{op.kind}{where}, which stages {stages} have not entered",
            needs=missing,
        )

    def _record_transfer(self, op: Collective, step: Step, batch: Batch, position: int, released_by: int) -> int:
        transfer, start_ns, end_ns = batch.transfers[position], batch.start_ns, batch.end_ns[position]
        owns = int(transfer.ranks[0]) in self.ranks
        flows_ns = end_ns - start_ns - transfer.latency_ns  # up to 1 ns less than alone: see the network's ends
        contention_ns = max(0, flows_ns - transfer.alone_ns)
        return self._run_state.recorder.add(
            stage=self.stage,
            lane=self.lane,
            group=transfer.group,
            stream="comm" if op.stream is None else "async",
            kind=op.kind,
            microbatch=step.microbatch,
            chunk=step.chunk,
            layer=op.layer,
            start_ns=start_ns,
            end_ns=end_ns,
            num_bytes=transfer.total_bytes if owns else 0.0,
            released_by=released_by,
            imbalance_ns=min(transfer.imbalance_ns, flows_ns - contention_ns),
            contention_ns=contention_ns,
            latency_ns=transfer.latency_ns,
            is_joint=True,
        )

    def _ranks_with_tokens(
        self, op: Service, step: Step
    ) -> tuple[NDArray[np.intp], NDArray[np.int64], NDArray[np.intp] | None]:
        """Return the ranks to which tokens came, their times, and their places in `op` (None: all).

        Other ranks run nothing, and nothing waits for them.
        """
        self._run_state.tokens.count_op(self.position, step, op)
        if op.duration_ns.item(op.duration_ns.argmin()) > 0:
            return op.ranks, op.duration_ns, None
        places = np.flatnonzero(op.duration_ns)
        return op.ranks[places], op.duration_ns[places], places

    def _serve(self, op: Service, step: Step) -> simpy.Event | None:
        """Queue expert kernels on ranks of any stage; return the event of their last end, None without any tokens."""
        now_ns, compute = self._env.now, self._run_state.compute
        ranks, duration_ns, places = self._ranks_with_tokens(op, step)
        if not ranks.size:
            return None
        start, end, holder = compute.claim(ranks, duration_ns, now_ns=now_ns)
        last = int(end.argmax())
        first = self._run_state.recorder.add_service(
            op,
            step,
            self.position,
            served=places,
            start_ns=start,
            end_ns=end,
            released_by=self._last_row if isinstance(start, int) else np.where(start > now_ns, holder, self._last_row),
            last=last,
        )
        compute.hold(ranks, np.arange(first, first + ranks.size))
        self._last_row = first + last
        return Alarm(self._env, int(end[last]) - now_ns)
