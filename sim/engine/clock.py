"""The event loop on a clock of integer nanoseconds (`sim.time` makes them), with its guards.

Ties break by (time, priority, insertion), SimPy's own order. Lanes run at SimPy's normal priority; the network solves
after all of them (`SOLVE_PRIORITY`), so that transfers that start at one time are solved once.

Guards: an event budget, and a stop on many events at one time.
"""

from collections.abc import Callable

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
    """SimPy's environment on a clock of whole nanoseconds."""

    @property
    def now(self) -> int:
        """Time since the start of the run, in nanoseconds."""
        return self._now  # type: ignore[return-value]  # starts at 0 and every delay is an int


class Alarm(simpy.Event):
    """An event that calls back after a delay, at a priority of its own (a `simpy.Timeout` has none)."""

    def __init__(
        self, env: simpy.Environment, delay_ns: int, callback: Callable[[simpy.Event], None], priority: int = 1
    ) -> None:
        self.env, self.callbacks, self._ok, self._value = env, [callback], True, None
        env.schedule(self, priority, delay_ns)  # type: ignore[arg-type]  # any int is a priority to the heap


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
        self._num_at_one_time = 0

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
        env, step = self.env, self.env.step
        last_ns, moved_at = -1, 0
        while True:
            try:
                step()
            except simpy.core.EmptySchedule:
                return
            self.num_events += 1
            now_ns = env.now
            if now_ns != last_ns:
                last_ns, moved_at = now_ns, self.num_events
                if now_ns > _LAST_NS:
                    longest = f"{_LAST_NS / 1e9 / 31_557_600:.0f} years"
                    raise TimeRangeError(
                        f"engine: simulated time must stay below {longest}, and is at {now_ns / 1e9:.3g} s",
                        "Look for a bandwidth or a peak that is far too low.",
                    )
            self._num_at_one_time = self.num_events - moved_at
            if self._num_at_one_time > self._max_events_at_one_time or self.num_events > self._max_events:
                self._refuse()

    def _refuse(self) -> None:
        """End a run that has spent its events, or whose time stands still."""
        now_ns = self.now_ns
        if self.num_events > self._max_events:
            raise SimulationError(
                f"engine: the run must end within {self._max_events:,} events, and is at {now_ns / 1e6:.3f} ms "
                "of simulated time. Use fewer microbatches or layers, or raise the limit."
            )
        raise SimulationError(
            f"engine: time must move on, and {self._num_at_one_time:,} events happened at {now_ns} ns. "
            "A schedule or an operation of no length repeats itself."
        )
