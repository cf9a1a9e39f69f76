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
of `RankCompute`.

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

from sim.engine.clock import SOLVE_PRIORITY, Alarm, Environment, Signal
from sim.errors import SimulationError
from sim.plan.ops import Transfer, mask_of

__all__ = ["Claim", "SlowedCompute", "kernels_took_ns"]

IntArray = NDArray[np.int64]
Ranks = NDArray[np.intp]
Places = NDArray[np.intp]
_MOST_WORK = 2**62  # SM * ns: as much again, of time, fits 64 bits
_AFTER_ALL = SOLVE_PRIORITY + 1
"""After all that happens at one time: a transfer may end when another begins."""


class Claim:
    """A piece of work on each of some ranks; `done` fires when the last of them has ended it."""

    __slots__ = (
        "_past",
        "_since_ns",
        "_speed",
        "_work",
        "alarm",
        "done",
        "end_ns",
        "holder",
        "last",
        "last_ns",
        "mask",
        "ranks",
        "start_ns",
    )

    def __init__(self, ranks: Ranks, holder: IntArray, start_ns: IntArray, work: IntArray, speed: IntArray) -> None:
        self.ranks, self.mask = ranks, mask_of(ranks)
        self.holder = holder
        """The previous span of each rank (-1 for none). Shape [R]."""
        self.start_ns, self.end_ns = start_ns, start_ns - (-work // speed)
        """On each rank, as far as is known now; final when `done` has fired. Shape [R]."""
        self._work, self._speed = work, speed  # left since the last change, and how fast it goes down
        self._since_ns = np.zeros(ranks.size, dtype=np.int64)  # that change; none so far
        self._past: list[tuple[IntArray, IntArray, IntArray]] = []  # these three before each change
        self.last = 0
        """The place that ends last, the first of several."""
        self.last_ns = -1  # its end, as the alarm is set
        self.done: Signal
        self.alarm: simpy.Event | None = None

    @property
    def is_open(self) -> bool:
        """Whether it has not ended. A claim of no work on free ranks has ended when it comes."""
        return self.alarm is not None

    @property
    def was_moved(self) -> bool:
        """Whether speeds have changed since it came, so that ends may be others than they seemed."""
        return bool(self._past)

    def took_ns(self, position: int, kernels_ns: Sequence[int], num_sms: int) -> tuple[int, ...]:
        """Return the time of each kernel of the rank at `position`, as far as known, from times at full speed."""
        start_ns, end_ns = int(self.start_ns[position]), int(self.end_ns[position])
        if end_ns - start_ns == sum(kernels_ns):
            return tuple(kernels_ns)
        segments = [
            (max(int(since_ns[position]), start_ns), int(work[position]), int(speed[position]))
            for since_ns, work, speed in (*self._past, (self._since_ns, self._work, self._speed))
        ]
        return kernels_took_ns(kernels_ns, start_ns, segments, num_sms)

    def advance(self, at: Places, now_ns: int) -> None:
        """Take off the work at places `at` what has been done since the last change of speed."""
        self._past.append((self._since_ns.copy(), self._work.copy(), self._speed.copy()))
        ran_ns = np.maximum(now_ns - np.maximum(self.start_ns[at], self._since_ns[at]), 0)
        self._work[at] -= ran_ns * self._speed[at]
        self._since_ns[at] = now_ns

    def predict(self, at: Places, now_ns: int, speed: IntArray, free_ns: IntArray) -> None:
        """Set starts and ends at places `at` for a new speed there, and for ranks that are free at another time."""
        start_ns = self.start_ns[at]
        start_ns = self.start_ns[at] = np.where(start_ns > now_ns, free_ns, start_ns)
        self.end_ns[at] = np.maximum(start_ns, now_ns) - (-self._work[at] // speed)
        self._speed[at] = speed


class SlowedCompute:
    """What each rank runs, how fast, and when it is free.

    >>> ranks = SlowedCompute(Environment(), num_ranks=1, num_sms=100)
    >>> ranks.claim(np.array([0]), np.array([5])).end_ns
    array([5])
    """

    def __init__(self, env: Environment, num_ranks: int, num_sms: int) -> None:
        self._env, self.num_sms = env, num_sms
        self._left = np.full(num_ranks, num_sms, dtype=np.int64)  # SMs that no transfer takes
        self._free_ns = np.zeros(num_ranks, dtype=np.int64)
        self._holder = np.full(num_ranks, -1, dtype=np.int64)
        self._is_changed = np.zeros(num_ranks, dtype=np.bool_)
        self._running: list[Claim] = []  # in the order in which they came

    def claim(self, ranks: Ranks, duration_ns: IntArray) -> Claim:
        """Queue work that takes `duration_ns` at full speed on each of `ranks`, each of shape [R]."""
        now_ns = self._env.now
        if duration_ns.max() > _MOST_WORK // self.num_sms:
            raise SimulationError(
                f"kernel: time at full speed must be at most {_MOST_WORK // self.num_sms / 1e9:.3g} s where transfers "
                f"take SMs, and is {duration_ns.max() / 1e9:.3g} s. Look for a peak that is far too low."
            )
        start_ns = np.maximum(self._free_ns[ranks], now_ns)
        claim = Claim(ranks, self._holder[ranks], start_ns, duration_ns * self.num_sms, self._speed_of(ranks))
        claim.done = Signal(self._env)
        self._free_ns[ranks] = claim.end_ns
        claim.last = int(claim.end_ns.argmax())
        if claim.end_ns[claim.last] > now_ns:
            self._running.append(claim)
            self._set_alarm(claim)
        return claim

    def hold(self, ranks: Ranks, rows: IntArray | int) -> None:
        """Note the span that holds each of `ranks` from now on."""
        self._holder[ranks] = rows

    def begin(self, transfer: Transfer) -> None:
        """Let a transfer take its SMs."""
        self._change(transfer.ranks, -transfer.num_sms)
        if self._left[transfer.ranks].min() <= 0:
            Alarm(self._env, 0, partial(self._check, transfer), _AFTER_ALL)

    def end(self, transfer: Transfer) -> None:
        """Let a transfer give its SMs back."""
        self._change(transfer.ranks, transfer.num_sms)

    # ---- private -------------------------------------------------------------------------------------------------

    def _speed_of(self, ranks: Ranks) -> IntArray:
        return np.maximum(self._left[ranks], 1)  # 1: until `_check` has refused

    def _change(self, ranks: Ranks, num_sms: int) -> None:
        """Give SMs to the kernels of `ranks`, or take some; predict anew what they end when, and who waits for them."""
        now_ns, touched = self._env.now, self._touched(ranks)
        for claim, at in touched:
            claim.advance(at, now_ns)
        self._left[ranks] += num_sms
        for claim, at in touched:  # those who came before have set when ranks are free
            ranks_at = claim.ranks[at]
            claim.predict(at, now_ns, self._speed_of(ranks_at), self._free_ns[ranks_at])
            self._free_ns[ranks_at] = claim.end_ns[at]
            claim.last = int(claim.end_ns.argmax())
            self._set_alarm(claim)

    def _touched(self, ranks: Ranks) -> list[tuple[Claim, Places]]:
        """Return the claims that have not ended on all of `ranks`, with their places there."""
        mask = mask_of(ranks)
        met = [claim for claim in self._running if claim.mask & mask]
        if not met:
            return []
        self._is_changed[ranks] = True
        touched = [
            (claim, np.flatnonzero(self._is_changed[claim.ranks] & (claim.end_ns > self._env.now))) for claim in met
        ]
        self._is_changed[ranks] = False
        return [(claim, at) for claim, at in touched if at.size]

    def _set_alarm(self, claim: Claim) -> None:
        last_ns = int(claim.end_ns[claim.last])
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
        is_over = self._left[transfer.ranks] <= 0
        if is_over.any():
            rank = int(transfer.ranks[is_over.argmax()])
            raise SimulationError(
                "transfers: those on a rank at one time must leave its kernels an SM, and take "
                f"{self.num_sms - self._left[rank]} of {self.num_sms} on rank {rank} at {self._env.now} ns "
                f"({transfer.num_sms} by one that begins then). Let each take fewer, or fewer run at once."
            )


def kernels_took_ns(
    kernels_ns: Sequence[int], start_ns: int, segments: Sequence[tuple[int, int, int]], num_sms: int
) -> tuple[int, ...]:
    """Return the time of each of several kernels that follow each other on a rank whose speed changes.

    Parameters
    ----------
    kernels_ns
        Times at full speed.
    start_ns
        Start of the first.
    segments
        From when on, with how much work left, and how fast the rank ran, in the order of time.
    num_sms
        Full speed.

    Examples
    --------
    >>> kernels_took_ns([10, 10], 0, [(0, 2000, 100), (10, 1000, 50)], 100)
    (10, 20)
    """
    ends_ns, left = [start_ns], sum(kernels_ns) * num_sms
    for full_ns in kernels_ns:
        left -= full_ns * num_sms
        ends = [since_ns - (left - work) // speed for since_ns, work, speed in segments if work > left]
        ends_ns.append(ends[-1] if ends else start_ns)
    return tuple(after - before for before, after in pairwise(ends_ns))
