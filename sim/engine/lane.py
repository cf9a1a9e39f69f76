"""The process that runs the passes of one lane of a stage.

Model
-----
A lane is a set of ranks that meet in every layer. It asks its schedule for a pass, waits for the pass's inputs, runs
its ops one after another (`sim.engine.program`), hands its output on and asks for the next pass.

The two passes of a pair open together, when the inputs of both have come. Each pass then runs its own ops in their
order, at the same time as the other: a kernel waits for a rank that runs a kernel of the other pass, first come first
served; transfers share links. Each pass closes and hands its output on when it has ended; the lane goes on when both
passes have ended.

Assumptions
-----------
Sends wait for nobody, unless they block the sender.
"""

from collections.abc import Sequence
from copy import copy

import simpy

from sim.engine.clock import Alarm
from sim.engine.deadlock import Wait
from sim.engine.program import Program
from sim.engine.run_state import RunState
from sim.engine.stream import Steps
from sim.plan.ops import Collective, ConcurrentPasses, Input, Op, Send
from workloads.schedules import Pass, Schedule, Step, passes_of

__all__ = ["Lane"]


class Lane(Program):
    """One lane of one stage."""

    def __init__(self, run_state: RunState, stage: int, lane: int, schedule: Schedule) -> None:
        super().__init__(run_state, stage, lane)
        self._schedule = schedule
        self._arrived: dict[Input, int] = {}
        self._wake: simpy.Event | None = None
        self._home, self._sides = self, list[Lane]()

    def run(self) -> Steps:
        """Run all passes, then what follows them."""
        yield from self._run_ops(Pass("O", -1, -1), self._run_state.plan.before_passes(self.stage, self.lane))
        while (step := self._schedule.next_pass(self.stage, self._run_state.clock.now_ns)) is not None:
            inputs = self._run_state.plan.inputs(self.stage, step)
            yield from self._await_inputs(step, inputs)
            self._last_row = self._run_state.recorder.latest([self._last_row, *(self._arrived[key] for key in inputs)])
            ops = self._run_state.planned_ops(self.stage, self.lane, step)
            if isinstance(ops, ConcurrentPasses):
                yield from self._run_pair(ops)
            else:
                yield from self._run_step(step, ops)
            yield Alarm(self._env, 0)  # a schedule that repeats passes of no length must meet the clock's guard
        after, last = self._run_state.plan.after_passes(self.stage, self.lane), Pass("O", -1, -1)
        # a lane that waits for other lanes before these ops has no pass open: it is idle
        while (
            after
            and isinstance(after[0], Collective)
            and after[0].rendezvous is not None
            and after[0].rendezvous.is_barrier
        ):
            yield from self._run_joint(after[0], after[0].rendezvous, last)
            after = after[1:]
        if after:
            yield from self._run_step(last, after)

    @property
    def waits(self) -> Sequence[Wait]:
        """What the lane waits for; each side of a pair, and each stream, may wait for something."""
        return [lane.wait for lane in (self, *self._sides, *self._on_streams) if lane.wait is not None]

    def receive(self, key: Input, row: int) -> None:
        """Take an input that row `row` brought."""
        self._arrived[key] = row
        if self._wake is not None:
            wake, self._wake = self._wake, None
            wake.succeed()

    # ---- private -------------------------------------------------------------------------------------------------

    def _await_inputs(self, step: Step, inputs: tuple[Input, ...]) -> Steps:
        for key in inputs:
            while key not in self._arrived:
                self.wait = Wait(
                    lane=self.position,
                    during=f"{step.kind}{step.microbatch}",
                    what=f"{key.kind}{key.microbatch} of stage {key.stage}",
                    needs=((key.stage, self.lane),),
                )
                self._wake = self._env.event()
                yield self._wake
        self.wait = None

    def _run_pair(self, pair: ConcurrentPasses) -> Steps:
        """Run the two passes of a pair at the same time."""
        self._sides = [copy(self) for _ in pair.sides]  # on the same ranks, each at its own place in the record
        for side in self._sides:
            side._started = dict(self._started)
        yield self._env.all_of(
            [
                self._env.process(side._run_step(*pass_and_ops))
                for side, pass_and_ops in zip(self._sides, pair.sides, strict=True)
            ]
        )
        self._last_row = self._run_state.recorder.latest([side._last_row for side in self._sides])
        for side in self._sides:
            for stream, last in side._started.items():
                self._started[stream] = max(last, self._started.get(stream, last), key=lambda started: started.number)
        self._sides = []

    def _run_step(self, step: Step, ops: tuple[Op, ...]) -> Steps:
        """Run the ops of a step and hand on what its passes made."""
        opened_ns, released_by = self._env.now, self._last_row
        yield from self._run_ops(step, ops)
        for pass_ in passes_of(step):
            self._note_span("pass", pass_.kind, pass_, since_ns=opened_ns, released_by=released_by)
            if pass_.microbatch >= 0:
                self._home.receive(Input(self.stage, *pass_), self._last_row)
                for send in self._run_state.plan.sends(self.stage, self.lane, pass_):
                    ended = self._send(send, pass_)
                    if send.blocks:
                        yield ended

    def _send(self, send: Send, pass_: Pass) -> simpy.Event:
        """Send the output of a pass to another stage; return the event of its end."""
        batch, released_by = self._run_state.network.begin((send.transfer,)), self._last_row
        target = self._run_state.receivers[send.target]

        def deliver(_: simpy.Event) -> None:
            """Record the transfer when it has ended, and hand its row to the lane that waits for it."""
            transfer, start_ns, end_ns = send.transfer, batch.start_ns, batch.end_ns[0]
            row = self._run_state.recorder.add(
                stage=self.stage,
                lane=self.lane,
                stream="comm" if send.blocks else "p2p",
                kind="pp",
                microbatch=pass_.microbatch,
                chunk=pass_.chunk,
                start_ns=start_ns,
                end_ns=end_ns,
                num_bytes=transfer.total_bytes,
                released_by=released_by,
                contention_ns=max(0, end_ns - start_ns - transfer.latency_ns - transfer.alone_ns),
                latency_ns=transfer.latency_ns,
            )
            if send.blocks:
                self._last_row = self._run_state.recorder.latest([self._last_row, row])
            target.receive(send.key, row)

        if batch.done.callbacks is None:
            raise RuntimeError("a batch that has just begun cannot be processed")
        batch.done.callbacks.append(deliver)
        return batch.done
