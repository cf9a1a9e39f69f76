"""A lane whose kernels slow down while transfers take SMs of its ranks.

Model
-----
As `sim.engine.lane`, with ranks as in `sim.engine.slowed_compute`: ends are known when they have come. What a kernel
took beyond its time at full speed is its contention. Rows stand in the order in which kernels were claimed, and the
row of an op shows the rank that ended it last.
"""

from collections.abc import Callable
from typing import TypedDict

import numpy as np
import simpy

from sim.engine.lane import Lane
from sim.engine.run_state import RunState
from sim.engine.slowed_compute import Claim, SlowedCompute
from sim.plan.ops import Compute, Service
from workloads.schedules import Schedule, Step

__all__ = ["SlowedLane"]


class _Shown(TypedDict):
    """What the rows of an op's kernels show."""

    rank: int
    start_ns: int
    took_ns: tuple[int, ...]
    released_by: int
    contention_ns: tuple[int, ...]


class SlowedLane(Lane):
    """One lane of one stage, in a run whose transfers take SMs."""

    def __init__(
        self, run_state: RunState, stage: int, lane: int, schedule: Schedule, *, slowed: SlowedCompute
    ) -> None:
        super().__init__(run_state, stage, lane, schedule)
        self._slowed = slowed

    def _compute(self, op: Compute, step: Step) -> simpy.Event | None:
        """Queue the kernels of `op` on the lane's ranks; return the event of their last end, None when that is now."""
        recorder, claimed_ns, before = self._run_state.recorder, self._env.now, self._last_row
        claim = self._slowed.claim(self.ranks, op.total_ns)
        row = self._last_row = recorder.add_compute(
            op, step, self.position, **self._shown(op, claim, claimed_ns, before)
        )
        self._slowed.hold(self.ranks, row)
        self._run_state.tokens.count_op(self.position, step, op)

        def put_right(_: simpy.Event) -> None:
            if claim.was_moved:
                recorder.amend_compute(row, **self._shown(op, claim, claimed_ns, before))

        return _then(claim, put_right)

    def _shown(self, op: Compute, claim: Claim, claimed_ns: int, before: int) -> _Shown:
        """Return what an op's rows show, as far as is known: the rank that ends last."""
        last = claim.last
        start_ns = int(claim.start_ns[last])
        full_ns = op.slowest_ns if last == op.slowest else tuple(int(kernel.duration_ns[last]) for kernel in op.kernels)
        took_ns = claim.took_ns(last, full_ns, self._slowed.num_sms)
        return _Shown(
            rank=self._rank_numbers[last],
            start_ns=start_ns,
            took_ns=took_ns,
            released_by=int(claim.holder[last]) if start_ns > claimed_ns else before,
            contention_ns=tuple(took - full for took, full in zip(took_ns, full_ns, strict=True)),
        )

    def _serve(self, op: Service, step: Step) -> simpy.Event | None:
        """Queue expert kernels on ranks of any stage; return the event of their last end, None without any tokens."""
        ranks, duration_ns, served = self._ranks_with_tokens(op, step)
        if not ranks.size:
            return None
        recorder, claimed_ns = self._run_state.recorder, self._env.now
        claim = self._slowed.claim(ranks, duration_ns)
        first = recorder.add_service(
            op,
            step,
            self.position,
            served=served,
            start_ns=claim.start_ns,  # these two arrays are put right while the kernels wait and run
            end_ns=claim.end_ns,
            released_by=np.where(claim.start_ns > claimed_ns, claim.holder, self._last_row),
            last=claim.last,
        )
        self._slowed.hold(ranks, np.arange(first, first + ranks.size))

        def go_on(_: simpy.Event) -> None:
            """Go on from the kernel that has ended last."""
            recorder.amend_end(first, int(claim.end_ns[claim.last]))
            self._last_row = first + claim.last

        return _then(claim, go_on)


def _then(claim: Claim, follow: Callable[[simpy.Event], None]) -> simpy.Event | None:
    """Let something follow the end of a claim; return the event of that, or None when it has ended already."""
    if not claim.is_open:
        return None
    if claim.done.callbacks is None:
        raise RuntimeError("a claim that is open cannot have been processed")
    claim.done.callbacks.append(follow)
    return claim.done
