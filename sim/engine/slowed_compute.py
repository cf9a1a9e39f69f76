"""Ranks as resources whose kernels slow down while transfers take SMs: first come first served, not preempted.

Model
-----
    speed[r] = SMs - sum of num_sms of the transfers that run on rank r now       in SMs
    work     = time at full speed * SMs
    end      = the first whole nanosecond by which the speed has summed up to the work since the start

All of these are integers, so that work is conserved to the last bit. An end is rounded up, by less than 1 ns. Kernels
that one claim makes a rank run one after another are one piece of work, rounded up once, at its end; where one of them
gives way to the next the record rounds up too, but that moves nothing.

A transfer takes its SMs from its start, latency included, to its end. Where nobody takes any, starts and ends are those
of `sim.engine.compute`.

How it is fast
--------------
Ends are predicted for the speeds of now, and predicted anew where speeds change: an event for each claim, and one more
for each change that moves its last end.

Assumptions
-----------
A kernel slows down in proportion to the SMs that are taken, whatever limits it: pessimistic for kernels that wait for
memory, optimistic where a wave of tiles no longer fits. Memory bandwidth that transfers take is not modelled.
"""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import numpy as np
import simpy
from numpy.typing import NDArray

from sim.engine.bits import bits_of
from sim.engine.clock import SOLVE_PRIORITY, Alarm, Environment, Signal
from sim.engine.ops import Transfer
from sim.errors import SimulationError

__all__ = ["Claim", "SlowedCompute"]

IntArray = NDArray[np.int64]
Places = NDArray[np.intp]
_AFTER_ALL = SOLVE_PRIORITY + 1
"""After all that happens at one time: a transfer may end when another begins."""


class Claim:
    """A piece of work on each of some ranks; `done` fires when the last of them has ended it."""

    __slots__ = ("alarm", "done", "end_ns", "holder", "last_ns", "mask", "past", "ranks", "start_ns", "work")

    def __init__(
        self, ranks: NDArray[np.intp], start_ns: IntArray, end_ns: IntArray, work: IntArray, holder: IntArray
    ) -> None:
        self.ranks, self.mask = ranks, bits_of(ranks)
        self.start_ns, self.end_ns = start_ns, end_ns
        """On each rank, as far as is known now; final when `done` has fired. Shape [R]."""
        self.holder = holder
        """The span that held each rank before (-1 for none). Shape [R]."""
        self.last_ns = -1  # end
        self.work = work  # left, as of the last change of its ranks' speed
        self.past: list[tuple[IntArray, IntArray, IntArray]] = []  # last change, work left then, speed since
        self.done: Signal
        self.alarm: simpy.Event | None = None

    @property
    def is_open(self) -> bool:
        """Whether it has not ended. One that asks for no work of free ranks has ended when it comes."""
        return self.alarm is not None

    def took_ns(self, place: int, kernels_ns: Sequence[int], num_sms: int) -> tuple[int, ...]:
        """Return the time that each kernel at `place` took, all having ended; at full speed they take `kernels_ns`."""
        start_ns, end_ns = int(self.start_ns[place]), int(self.end_ns[place])
        if len(kernels_ns) == 1:
            return (end_ns - start_ns,)
        course = [(int(since[place]), int(work[place]), int(speed[place])) for since, work, speed in self.past]
        course = [(max(since_ns, start_ns), work, speed) for since_ns, work, speed in course if since_ns < end_ns]
        ends_ns, left = [start_ns], sum(kernels_ns) * num_sms
        for full_ns in kernels_ns:
            left -= full_ns * num_sms
            ends = [since_ns - (left - work) // speed for since_ns, work, speed in course if work > left]
            ends_ns.append(ends[-1] if ends else start_ns)
        return tuple(after - before for before, after in pairwise(ends_ns))


class SlowedCompute:
    """What each rank runs, how fast, and when it is free.

    >>> ranks = SlowedCompute(Environment(), num_ranks=1, num_sms=100)
    >>> ranks.claim(np.array([0]), np.array([5])).end_ns
    array([5])
    """

    def __init__(self, env: Environment, num_ranks: int, num_sms: int) -> None:
        self._env, self.num_sms = env, num_sms
        self._taken = np.zeros(num_ranks, dtype=np.int64)
        self._speed = np.full(num_ranks, num_sms, dtype=np.int64)
        self._since_ns = np.zeros(num_ranks, dtype=np.int64)  # when the speed changed
        self._free_ns = np.zeros(num_ranks, dtype=np.int64)
        self._holder = np.full(num_ranks, -1, dtype=np.int64)
        self._is_changed = np.zeros(num_ranks, dtype=np.bool_)
        self._running: list[Claim] = []  # in the order in which they came

    def claim(self, ranks: NDArray[np.intp], duration_ns: IntArray) -> Claim:
        """Queue work that takes `duration_ns` at full speed on each of `ranks`, each of shape [R]."""
        start_ns, speed = np.maximum(self._free_ns[ranks], self._env.now), self._speed[ranks]
        work = duration_ns * self.num_sms
        end_ns = start_ns - (-work // speed)
        claim = Claim(ranks, start_ns, end_ns, work, self._holder[ranks])
        claim.past.append((self._since_ns[ranks], work.copy(), speed))
        claim.done = Signal(self._env)
        self._free_ns[ranks] = end_ns
        if end_ns.max() > self._env.now:
            self._running.append(claim)
            self._set_alarm(claim)
        return claim

    def hold(self, ranks: NDArray[np.intp], rows: IntArray | int) -> None:
        """Note the span that holds each of `ranks` from now on."""
        self._holder[ranks] = rows

    def begin(self, transfer: Transfer) -> None:
        """Let a transfer take its SMs."""
        self._taken[transfer.ranks] += transfer.num_sms
        if (self._taken[transfer.ranks] >= self.num_sms).any():
            Alarm(self._env, 0, partial(self._check, transfer), _AFTER_ALL)
        self._change(transfer.ranks)

    def end(self, transfer: Transfer) -> None:
        """Let a transfer give its SMs back."""
        self._taken[transfer.ranks] -= transfer.num_sms
        self._change(transfer.ranks)

    # ---- private -------------------------------------------------------------------------------------------------

    def _change(self, ranks: NDArray[np.intp]) -> None:
        """Give `ranks` the speed of now, and predict anew when they end what they run and what waits for them."""
        touched = self._touched(ranks)
        for claim, at in touched:
            self._advance(claim, at)
        self._speed[ranks] = np.maximum(self.num_sms - self._taken[ranks], 1)  # 1: until `_check` has refused
        self._since_ns[ranks] = self._env.now
        for claim, at in touched:
            self._predict(claim, at)

    def _touched(self, ranks: NDArray[np.intp]) -> list[tuple[Claim, Places]]:
        """Return the claims that have not ended on all of `ranks`, with their places there."""
        mask = bits_of(ranks)
        met = [claim for claim in self._running if claim.mask & mask]
        if not met:
            return []
        self._is_changed[ranks] = True
        touched = [
            (claim, np.flatnonzero(self._is_changed[claim.ranks] & (claim.end_ns > self._env.now))) for claim in met
        ]
        self._is_changed[ranks] = False
        return [(claim, at) for claim, at in touched if at.size]

    def _advance(self, claim: Claim, at: Places) -> None:
        """Take off the work what has been done since the last change of speed."""
        ranks = claim.ranks[at]
        ran_ns = np.maximum(self._env.now - np.maximum(claim.start_ns[at], self._since_ns[ranks]), 0)
        claim.work[at] -= ran_ns * self._speed[ranks]

    def _predict(self, claim: Claim, at: Places) -> None:
        """Set starts and ends for the speeds of now; those who came before have theirs already."""
        now_ns, ranks = self._env.now, claim.ranks[at]
        start_ns = claim.start_ns[at]
        start_ns = np.where(start_ns > now_ns, self._free_ns[ranks], start_ns)
        end_ns = np.maximum(start_ns, now_ns) - (-claim.work[at] // self._speed[ranks])
        claim.start_ns[at], claim.end_ns[at] = start_ns, end_ns
        self._free_ns[ranks] = end_ns
        claim.past.append((self._since_ns[claim.ranks], claim.work.copy(), self._speed[claim.ranks]))
        self._set_alarm(claim)

    def _set_alarm(self, claim: Claim) -> None:
        last_ns = int(claim.end_ns.max())
        if last_ns != claim.last_ns:
            claim.last_ns = last_ns
            claim.alarm = Alarm(self._env, last_ns - self._env.now, partial(self._end, claim))

    def _end(self, claim: Claim, event: simpy.Event) -> None:
        if claim.alarm is event:  # and no other has been set since
            self._running.remove(claim)
            claim.alarm = None
            claim.done.fire()

    def _check(self, transfer: Transfer, _: simpy.Event) -> None:
        """Refuse transfers that leave a rank no SM."""
        is_over = self._taken[transfer.ranks] >= self.num_sms
        if is_over.any():
            rank = int(transfer.ranks[is_over.argmax()])
            raise SimulationError(
                f"transfers: those on a rank at one time must leave its kernels an SM, and take {self._taken[rank]} "
                f"of {self.num_sms} on rank {rank} at {self._env.now} ns ({transfer.num_sms} by one that begins then). "
                "Let each take fewer, or fewer run at once."
            )
