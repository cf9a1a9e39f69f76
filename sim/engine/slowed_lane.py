"""A lane whose kernels slow down while transfers take SMs of its ranks.

Model
-----
As `sim.engine.lane`, with ranks as in `sim.engine.slowed_compute`: ends are known when they have come. What a kernel
took beyond its time at full speed is its contention. Rows stand in the order in which kernels were asked for, and the
row of an op shows the rank that ended it last.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import simpy

from sim.engine.lane import Lane
from sim.engine.ops import Compute, Service
from sim.engine.slowed_compute import Claim, SlowedCompute
from sim.engine.world import World
from workloads.schedules import Pass, Schedule

__all__ = ["SlowedLane"]


class SlowedLane(Lane):
    """One lane of one stage, in a world whose transfers take SMs."""

    def __init__(self, world: World, stage: int, lane: int, schedule: Schedule, *, slowed: SlowedCompute) -> None:
        super().__init__(world, stage, lane, schedule)
        self._slowed = slowed

    def _compute(self, op: Compute, chosen: Pass) -> simpy.Event | None:
        """Queue the kernels of `op` on the lane's ranks; return the event of their last end."""
        recorder, released_by = self._world.recorder, self._last_row
        claim = self._slowed.claim(self.ranks, op.total_ns)
        self._last_row = recorder.add_compute(
            op,
            chosen,
            self.place,
            rank=self._rank_numbers[op.slowest],
            start_ns=self._env.now,
            took_ns=op.slowest_ns,
            released_by=released_by,
        )
        self._slowed.hold(self.ranks, self._last_row)
        self._count_tokens(op)
        return self._when_ended(
            claim, partial(self._note_compute, op, claim, self._last_row, self._env.now, released_by)
        )

    def _note_compute(
        self, op: Compute, claim: Claim, row: int, asked_ns: int, released_by: int, _: simpy.Event | None = None
    ) -> None:
        """Put right the rows of an op that has ended."""
        last = int(claim.end_ns.argmax())
        kernels_ns = [int(kernel.duration_ns[last]) for kernel in op.kernels]
        took_ns = claim.took_ns(last, kernels_ns, self._slowed.num_sms)
        start_ns = int(claim.start_ns[last])
        self._world.recorder.amend_compute(
            row,
            rank=self._rank_numbers[last],
            start_ns=start_ns,
            took_ns=took_ns,
            released_by=int(claim.holder[last]) if start_ns > asked_ns else released_by,
            contention_ns=tuple(took - full for took, full in zip(took_ns, kernels_ns, strict=True)),
        )

    def _serve(self, op: Service, chosen: Pass) -> simpy.Event | None:
        """Queue expert kernels on ranks of any stage; return the event of their last end."""
        ranks, duration_ns, served = self._asked(op)
        if not ranks.size:
            return None
        now_ns = self._env.now
        claim = self._slowed.claim(ranks, duration_ns)
        first = self._world.recorder.add_service(
            op,
            chosen,
            self.place,
            served=served,
            start_ns=claim.start_ns,  # these two are put right while the kernels wait and run
            end_ns=claim.end_ns,
            released_by=np.where(claim.start_ns > now_ns, claim.holder, self._last_row),
            last=0,
        )
        self._slowed.hold(ranks, np.arange(first, first + ranks.size))
        return self._when_ended(claim, partial(self._note_service, claim, first))

    def _note_service(self, claim: Claim, first: int, _: simpy.Event | None = None) -> None:
        """Go on from the kernel that has ended last."""
        last = int(claim.end_ns.argmax())
        self._world.recorder.amend_end(first, int(claim.end_ns[last]))
        self._last_row = first + last

    def _when_ended(self, claim: Claim, note: Callable[[simpy.Event | None], None]) -> simpy.Event | None:
        """Note a claim when it has ended; return the event of that, or None when that is now."""
        if not claim.is_open or claim.done.callbacks is None:
            note(None)
            return None
        claim.done.callbacks.append(note)
        return claim.done
