"""The process that runs the passes of one lane of a stage.

Model
-----
A lane is a set of ranks that meet in every layer. It asks its schedule for a pass, waits for the pass's inputs, runs
its ops one after another, hands its output on and asks again. Ranks differ within an op (slow ranks, hot experts); an
op ends when the slowest of the lane has ended, and its imbalance is the slowest rank over the mean.

The two passes of a pair open together, when the inputs of both have come. Each then runs its own ops in their order,
beside the other's: kernels wait for a rank that runs one of the other pass, first come first served; transfers share
links. Each closes and hands its output on when it has ended; the lane goes on when both have.

Assumptions
-----------
Groups of a lane that end an op early wait for the others (they meet again within the layer): pessimistic by at most the
groups' spread. Sends wait for nobody.
"""

from collections.abc import Generator, Sequence
from copy import copy
from typing import Any

import numpy as np
import simpy
from numpy.typing import NDArray

from sim.engine.deadlock import Wait
from sim.engine.network.batch import Batch
from sim.engine.run_state import Rendezvous, RunState
from sim.plan.ops import NO_LAYER, Collective, Compute, ConcurrentPasses, Input, Op, RendezvousKey, Send, Service
from workloads.schedules import Pass, Schedule, Step, passes_of

__all__ = ["Lane"]

Steps = Generator[simpy.Event, Any, None]


class Lane:
    """One lane of one stage."""

    def __init__(self, world: RunState, stage: int, lane: int, schedule: Schedule) -> None:
        self.place = (stage, lane)
        self.stage, self.lane = stage, lane
        self.ranks = world.plan.lane_ranks[stage, lane]
        self._rank_numbers: list[int] = self.ranks.tolist()
        first, last = self._rank_numbers[0], self._rank_numbers[-1]
        is_row = self._rank_numbers == list(range(first, last + 1))
        self._places: slice | NDArray[np.intp] = slice(first, last + 1) if is_row else self.ranks
        self.wait: Wait | None = None
        self._world, self._env, self._schedule = world, world.clock.env, schedule
        self._arrived: dict[Input, int] = {}
        self._wake: simpy.Event | None = None
        self._last_row = -1
        self._home, self._sides = self, list[Lane]()

    def run(self) -> Steps:
        """Run all passes, then what follows them."""
        while (chosen := self._schedule.next_pass(self.stage, self._world.clock.now_ns)) is not None:
            inputs = self._world.plan.inputs(self.stage, chosen)
            yield from self._await_inputs(chosen, inputs)
            self._last_row = self._world.recorder.latest([self._last_row, *(self._arrived[key] for key in inputs)])
            ops = self._world.planned_ops(self.stage, self.lane, chosen)
            if isinstance(ops, ConcurrentPasses):
                yield from self._run_pair(ops)
            else:
                yield from self._run_step(chosen, ops)
            yield self._env.timeout(0)  # a schedule that repeats passes of no length must meet the clock's guard
        after, last = self._world.plan.after_passes(self.stage, self.lane), Pass("O", -1, -1)
        # who waits for others before the rest has no pass open: it is idle
        while after and isinstance(after[0], Collective) and after[0].join is not None and after[0].join.is_barrier:
            yield from self._join(after[0], after[0].join, last)
            after = after[1:]
        if after:
            yield from self._run_step(last, after)

    @property
    def waits(self) -> Sequence[Wait]:
        """What the lane waits for; each side of a pair may wait for something."""
        return [one.wait for one in (self, *self._sides) if one.wait is not None]

    def receive(self, key: Input, row: int) -> None:
        """Take an input that row `row` brought."""
        self._arrived[key] = row
        if self._wake is not None:
            wake, self._wake = self._wake, None
            wake.succeed()

    # ---- private -------------------------------------------------------------------------------------------------

    def _await_inputs(self, chosen: Step, inputs: tuple[Input, ...]) -> Steps:
        for key in inputs:
            while key not in self._arrived:
                self.wait = Wait(
                    lane=self.place,
                    during=f"{chosen.kind}{chosen.microbatch}",
                    what=f"{key.kind}{key.microbatch} of stage {key.stage}",
                    needs=((key.stage, self.lane),),
                )
                self._wake = self._env.event()
                yield self._wake
        self.wait = None

    def _run_pair(self, pair: ConcurrentPasses) -> Steps:
        """Run the passes of a pair at the same time."""
        self._sides = [copy(self) for _ in pair.sides]  # on the same ranks, each at its own place in the record
        yield self._env.all_of(
            [self._env.process(side._run_step(*of)) for side, of in zip(self._sides, pair.sides, strict=True)]
        )
        self._last_row = self._world.recorder.latest([side._last_row for side in self._sides])
        self._sides = []

    def _run_step(self, chosen: Step, ops: tuple[Op, ...]) -> Steps:
        """Run the ops of a step and hand on what its passes made."""
        opened_ns, released_by = self._env.now, self._last_row
        yield from self._run_ops(chosen, ops)
        for part in passes_of(chosen):
            self._close(part, opened_ns, released_by)
            if part.microbatch >= 0:
                self._hand_on(part)

    def _hand_on(self, done: Pass) -> None:
        """Give the output of a pass to whom it is for, on this stage and others."""
        self._home.receive(Input(self.stage, *done), self._last_row)
        for send in self._world.plan.sends(self.stage, self.lane, done):
            self._send(send, done)

    def _run_ops(self, chosen: Step, ops: tuple[Op, ...]) -> Steps:
        begin, note = self._world.network.begin, self._world.recorder.add_collective
        for op in ops:
            if isinstance(op, Compute):
                ended = self._compute(op, chosen)
                if ended is not None:
                    yield ended
            elif isinstance(op, Service):
                ended = self._serve(op, chosen)
                if ended is not None:
                    yield ended
            elif op.join is None:
                batch = begin(op.transfers)
                if batch.done.callbacks is not None:
                    yield batch.done
                if op.transfers:
                    self._last_row = note(
                        op,
                        chosen,
                        self.place,
                        start_ns=batch.start_ns,
                        end_ns=batch.end_ns,
                        released_by=self._last_row,
                    )
            else:
                yield from self._join(op, op.join, chosen)

    def _close(self, chosen: Pass, opened_ns: int, released_by: int) -> None:
        """Record a pass that ends now."""
        self._world.recorder.add(
            stage=self.stage,
            lane=self.lane,
            stream="pass",
            kind=chosen.kind,
            microbatch=chosen.microbatch,
            chunk=chosen.chunk,
            start_ns=opened_ns,
            end_ns=self._env.now,
            released_by=released_by,
        )

    def _compute(self, op: Compute, chosen: Step) -> simpy.Event | None:
        """Claim the lane's ranks for the kernels of `op`; return the event of their last end, None when that is now."""
        now_ns = at_ns = self._env.now
        slowest, took_ns, released_by = op.slowest, op.slowest_ns, self._last_row
        world = self._world
        if world.shares_compute:  # ranks may be busy for others: each starts when it is free
            start, end, holder = world.compute.claim(self._places, op.total_ns, now_ns=now_ns)
            slowest = int(end.argmax())
            at_ns = int(start[slowest])
            if slowest != op.slowest:
                took_ns = tuple(int(kernel.duration_ns[slowest]) for kernel in op.kernels)
            if at_ns > now_ns:
                released_by = int(holder[slowest])
        self._last_row = world.recorder.add_compute(
            op,
            chosen,
            self.place,
            rank=self._rank_numbers[slowest],
            start_ns=at_ns,
            took_ns=took_ns,
            released_by=released_by,
        )
        if world.shares_compute:
            world.compute.hold(self._places, self._last_row)
        self._count_tokens(op, chosen)
        ends_in_ns = at_ns + sum(took_ns) - now_ns
        return self._env.timeout(ends_in_ns) if ends_in_ns > 0 else None

    def _count_tokens(self, op: Compute, chosen: Step) -> None:
        if op.tokens_routed or op.expert_tokens is not None:
            self._world.count_tokens(self.place, chosen, op.tokens_routed, op.expert_tokens)
        if op.tokens_dropped or op.tokens_padded or op.tokens_rerouted:
            self._world.count_lost(self.lane, op.tokens_dropped, op.tokens_padded, op.tokens_rerouted)

    def _join(self, op: Collective, join: RendezvousKey, chosen: Step) -> Steps:
        """Run a collective that other lanes enter as well."""
        meeting = self._meet(op, join)
        if meeting.batch is None:
            self._wait_for_meeting(op, meeting, chosen)
            yield meeting.begun
            self.wait = None
        if meeting.batch is None:
            raise RuntimeError("a meeting that has begun has its batch")
        batch = meeting.batch
        released_by = self._world.recorder.latest(list(meeting.arrived.values()))
        if not batch.done.processed:
            yield batch.done
        rows = [
            self._record_transfer(op, chosen, batch, position, released_by)
            for position, transfer in enumerate(batch.transfers)
            if np.isin(transfer.ranks, self.ranks).any()
        ]
        self._last_row = self._world.recorder.latest(rows) if rows else released_by

    def _meet(self, op: Collective, join: RendezvousKey) -> Rendezvous:
        """Enter a meeting with the transfers that this lane owns; the last to come starts those of all."""
        meeting = self._world.meetings.setdefault(join.key, Rendezvous(join.members, self._env.event()))
        meeting.arrived[self.place] = self._last_row
        meeting.transfers.extend(op.transfers)
        if len(meeting.arrived) == len(join.members):
            meeting.batch = self._world.network.begin(meeting.transfers)
            meeting.begun.succeed()
        return meeting

    def _wait_for_meeting(self, op: Collective, meeting: Rendezvous, chosen: Step) -> None:
        missing = tuple(place for place in meeting.members if place not in meeting.arrived)
        stages = ", ".join(dict.fromkeys(str(stage) for stage, _ in missing))
        where = f" of layer {op.layer}" if op.layer != NO_LAYER else ""
        self.wait = Wait(
            lane=self.place,
            during=f"{chosen.kind}{chosen.microbatch}",
            what=f"{op.kind}{where}, which stages {stages} have not entered",
            needs=missing,
        )

    def _record_transfer(self, op: Collective, chosen: Step, batch: Batch, position: int, released_by: int) -> int:
        transfer, start_ns, end_ns = batch.transfers[position], batch.start_ns, batch.end_ns[position]
        owns = int(transfer.ranks[0]) in self.ranks
        flows_ns = end_ns - start_ns - transfer.latency_ns  # up to 1 ns less than alone: see the network's ends
        contention_ns = max(0, flows_ns - transfer.alone_ns)
        return self._world.recorder.add(
            stage=self.stage,
            lane=self.lane,
            group=transfer.group,
            stream="comm",
            kind=op.kind,
            microbatch=chosen.microbatch,
            chunk=chosen.chunk,
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

    def _asked(self, op: Service, chosen: Step) -> tuple[NDArray[np.intp], NDArray[np.int64], NDArray[np.intp] | None]:
        """Return ranks, times and places (None: all) where tokens came: others are not asked, nor waited for."""
        self._world.count_tokens(self.place, chosen, 0, op.expert_tokens)
        if op.duration_ns.all():
            return op.ranks, op.duration_ns, None
        places = np.flatnonzero(op.duration_ns)
        return op.ranks[places], op.duration_ns[places], places

    def _serve(self, op: Service, chosen: Step) -> simpy.Event | None:
        """Queue expert kernels on ranks of any stage; return the event of their last end, None without any tokens."""
        now_ns, compute = self._env.now, self._world.compute
        ranks, duration_ns, places = self._asked(op, chosen)
        if not ranks.size:
            return None
        start, end, holder = compute.claim(ranks, duration_ns, now_ns=now_ns)
        last = int(end.argmax())
        first = self._world.recorder.add_service(
            op,
            chosen,
            self.place,
            served=places,
            start_ns=start,
            end_ns=end,
            released_by=np.where(start > now_ns, holder, self._last_row),
            last=last,
        )
        compute.hold(ranks, np.arange(first, first + ranks.size))
        self._last_row = first + last
        return self._env.timeout(int(end[last]) - now_ns)

    def _send(self, send: Send, chosen: Pass) -> None:
        batch, released_by = self._world.network.begin((send.transfer,)), self._last_row
        target = self._world.receivers[send.target]

        def deliver(_: simpy.Event) -> None:
            """Record the transfer when it has ended, and hand its row to the lane that waits for it."""
            transfer, start_ns, end_ns = send.transfer, batch.start_ns, batch.end_ns[0]
            row = self._world.recorder.add(
                stage=self.stage,
                lane=self.lane,
                stream="p2p",
                kind="pp",
                microbatch=chosen.microbatch,
                chunk=chosen.chunk,
                start_ns=start_ns,
                end_ns=end_ns,
                num_bytes=transfer.total_bytes,
                released_by=released_by,
                contention_ns=max(0, end_ns - start_ns - transfer.latency_ns - transfer.alone_ns),
                latency_ns=transfer.latency_ns,
            )
            target.receive(send.key, row)

        if batch.done.callbacks is None:
            raise RuntimeError("a batch that has just begun cannot be processed")
        batch.done.callbacks.append(deliver)
