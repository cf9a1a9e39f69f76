"""Collectives that a lane has started and that run next to whatever the lane does: a stream, as CUDA has them.

Model
-----
    start of a collective = max(time at which the lane starts it, end of the one before it on its stream)

The collectives of a stream run one after another, in the order in which the lane starts them; those of two streams
share links and SMs, with each other and with the lane's own transfers and kernels. A collective that several lanes
enter (`rendezvous`) begins when the last of their streams has come to it.

Assumptions
-----------
Starting and awaiting take no time of the lane.
"""

from collections import deque
from collections.abc import Callable, Generator, Hashable, Sequence
from typing import Any

import simpy

from sim.engine.clock import Environment, Signal
from sim.errors import SimulationError
from sim.plan.ops import AwaitStream, Collective
from workloads.schedules import Step

__all__ = ["RunCollective", "Started", "Steps", "Streams"]

Steps = Generator[simpy.Event, Any, None]
RunCollective = Callable[[Collective, Step, int], Generator[simpy.Event, Any, int]]
"""Runs a collective of a step that a row has released; returns the row that ended last."""
Latest = Callable[[Sequence[int]], int]
"""Returns the row of several that ended last."""


class Started:
    """A collective that was started on a stream; `done` fires when it has ended."""

    __slots__ = ("done", "number", "op", "released_by", "row", "step")

    def __init__(self, number: int, op: Collective, step: Step, *, released_by: int, done: Signal) -> None:
        self.number, self.op, self.step, self.released_by, self.done = number, op, step, released_by, done
        self.row = -1
        """Its row that ended last; known when `done` has fired."""


class Streams:
    """The streams of a lane, by name."""

    def __init__(self, env: Environment, latest: Latest) -> None:
        self._env, self._latest = env, latest
        self._streams: dict[str, _Stream] = {}
        self._labelled: dict[tuple[str, Hashable], Started] = {}

    def start(
        self, op: Collective, name: str, step: Step, released_by: int, open_stream: Callable[[], RunCollective]
    ) -> Started:
        """Start a collective after those that were started on stream `name` before.

        Row `released_by` let the lane come here; `open_stream` returns what runs the collectives of a new stream.
        """
        stream = self._streams.get(name)
        if stream is None:
            stream = self._streams[name] = _Stream(self._env, open_stream(), self._latest)
        started = stream.start(op, step, released_by)
        if op.label is not None:
            self._labelled[name, op.label] = started
        return started

    def labelled(self, op: AwaitStream, position: tuple[int, int], step: Step) -> Started:
        """Return the last collective of the label that `op` awaits.

        Raises
        ------
        SimulationError
            No such collective has been started.
        """
        started = self._labelled.get((op.stream, op.label))
        if started is None:
            raise SimulationError(
                f"plan: a collective must be started before it is awaited, and {op.label!r} on stream {op.stream!r} of "
                f"stage {position[0]} was not (in {step.kind}{step.microbatch}). Start it, or await another label."
            )
        return started


class _Stream:
    """The collectives of one stream of a lane."""

    def __init__(self, env: Environment, run: RunCollective, latest: Latest) -> None:
        self._env, self._run, self._latest = env, run, latest
        self._waiting: deque[Started] = deque()
        self._is_running = False
        self._last_row = -1
        self._num_started = 0

    def start(self, op: Collective, step: Step, released_by: int) -> Started:
        """Start a collective after those that were started before."""
        done = Signal(self._env)
        started = Started(self._num_started, op, step, released_by=released_by, done=done)
        self._num_started += 1
        self._waiting.append(started)
        if not self._is_running:
            self._is_running = True
            self._env.process(self._run_all())
        return started

    def _run_all(self) -> Steps:
        """Run what was started until nothing is left."""
        while self._waiting:
            started = self._waiting.popleft()
            before = self._latest([self._last_row, started.released_by])
            started.row = self._last_row = yield from self._run(started.op, started.step, before)
            started.done.fire()  # the lane may start the next one in this
        self._is_running = False
