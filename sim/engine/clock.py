"""The event loop on a clock of integer nanoseconds (`sim.time` makes them), with its guards.

Ties break by (time, priority, insertion), SimPy's own order. Lanes run at SimPy's normal priority; the network solves
after all of them (`SOLVE_PRIORITY`), so that transfers that start at one time are solved once.

Guards: an event budget, and a stop on many events at one time.
"""

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

import simpy

from sim.errors import SimulationError
from sim.time import TimeRangeError

__all__ = [
    "MAX_EVENTS",
    "SOLVE_PRIORITY",
    "Alarm",
    "Clock",
    "Environment",
    "Signal",
]

SOLVE_PRIORITY = 2
"""After simpy's URGENT (0) and NORMAL (1)."""

MAX_EVENTS = 50_000_000
"""Events after which a run is ended, unless more are allowed."""

_LAST_NS = 2**62  # one more delay, of at most 1e18 ns, still fits 64 bits


class Environment(simpy.Environment):
    """SimPy's environment on a clock of whole nanoseconds, whose events `Clock.run` processes."""

    now: int = 0  # SimPy's is a property, which takes longer: every event reads it
    """Time since the start of the run, in nanoseconds."""


class Alarm(simpy.Event):
    """An event after a delay, at a priority of its own, which a `simpy.Timeout` has not.

    It calls back, or lets a process go on that waits for it. `subject` is what the callback is about: a
    `functools.partial` for each alarm would take longer.
    """

    _ok, _value = True, None

    def __init__(
        self,
        env: Environment,
        delay_ns: int,
        callback: Callable[[Any], None] | None = None,
        priority: int = 1,
        subject: Any = None,  # noqa: ANN401  # what the callback knows
    ) -> None:
        self.env, self.callbacks, self.subject = env, [] if callback is None else [callback], subject
        heappush(env._queue, (env.now + delay_ns, priority, next(env._eid), self))  # type: ignore[misc]  # as SimPy's `schedule`, for any priority


class Signal(simpy.Event):
    """An event that can fire within another event: its waiting processes go on at once, past the queue of events."""

    def fire(self) -> None:
        """Let all waiting processes go on now."""
        self._ok = True
        self._value = None
        waiting, self.callbacks = self.callbacks, None  # type: ignore[assignment]  # as simpy does: no callbacks, processed
        for callback in waiting or ():
            callback(self)

    def fire_later(self) -> None:
        """Let all waiting processes go on after the event that is being processed."""
        self.succeed()


class Clock:
    """A SimPy environment with guards against running for ever."""

    def __init__(self, *, max_events: int = MAX_EVENTS, max_events_at_one_time: int = 1_000_000) -> None:
        self.env = Environment()
        self.num_events = 0
        self._max_events = max_events
        self._max_events_at_one_time = max_events_at_one_time

    @property
    def now_ns(self) -> int:
        """Time since the start of the run."""
        return self.env.now

    def run(self) -> None:
        """Process events until none are left.

        Raises
        ------
        SimulationError
            When the event budget is spent, or when time stands still for too many events.
        """
        env, queue = self.env, self.env._queue
        num_events, last_ns, moved_at, last_event = self.num_events, -1, 0, 0
        try:
            while queue:
                now_ns, _, _, event = heappop(
                    queue
                )  # what `simpy.Environment.step` does, without a call for each event
                env._now = env.now = now_ns  # type: ignore[assignment]  # starts at 0 and every delay is an int
                callbacks, event.callbacks = event.callbacks, None  # type: ignore[assignment]  # as in `Signal.fire`
                for callback in callbacks:
                    callback(event)
                if not event._ok and not hasattr(event, "_defused"):
                    raise type(event._value)(*event._value.args) from event._value
                num_events += 1
                if now_ns != last_ns:
                    last_ns, moved_at = now_ns, num_events  # type: ignore[assignment]  # see above
                    last_event = min(num_events + self._max_events_at_one_time, self._max_events)
                    if now_ns > _LAST_NS:
                        raise _too_late(last_ns)
                if num_events > last_event:
                    self.num_events = num_events
                    raise self._endless(num_events - moved_at)
        finally:
            self.num_events = num_events

    def _endless(self, num_at_one_time: int) -> SimulationError:
        """Return the refusal of a run that has spent its events, or whose time stands still."""
        now_ns = self.now_ns
        if self.num_events > self._max_events:
            return SimulationError(
                f"engine: the run must end within {self._max_events:,} events, and is at {now_ns / 1e6:.3f} ms "
                "of simulated time. Use fewer microbatches or layers, or raise the limit."
            )
        return SimulationError(
            f"engine: time must move on, and {num_at_one_time:,} events happened at {now_ns} ns. "
            "A schedule or an operation of no length repeats itself."
        )


def _too_late(now_ns: int) -> TimeRangeError:
    """Return the refusal of a time that the clock cannot hold."""
    longest = f"{_LAST_NS / 1e9 / 31_557_600:.0f} years"
    return TimeRangeError(
        f"engine: simulated time must stay below {longest}, and is at {now_ns / 1e9:.3g} s",
        "Look for a bandwidth or a peak that is far too low.",
    )
