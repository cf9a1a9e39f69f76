"""A plan from measured pass times, without model and cluster.

Model
-----
Each stage has times for F, B and W. Where a schedule does not split the backward pass, B takes B + W and the gradient
leaves after both. A hop between stages takes `p2p_s` and blocks nobody.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sim.engine.clock import to_ns
from sim.engine.folding import Folding
from sim.engine.ops import NO_LAYER, Compute, Input, Op, Send, TimedKernel, Transfer
from sim.engine.plan.neighbours import inputs_of, target_of
from topology.links import LinkLoad
from workloads.schedules import Pass, Schedule, build_schedule

__all__ = ["PassesPlan"]


class PassesPlan:
    """Passes of given length on a pipeline of one rank per stage.

    >>> from sim.engine.simulation import run_plan
    >>> plan = PassesPlan(pass_times_s=[(1e-3, 2e-3, 0.0)] * 2, num_microbatches=3, p2p_s=0.0, schedule="1f1b")
    >>> run_plan(plan).trace.step_ns  # (m + p - 1)(F + B) = 4 * 3 ms
    12000000
    """

    def __init__(
        self, *, pass_times_s: Sequence[tuple[float, float, float]], num_microbatches: int, p2p_s: float, schedule: str
    ) -> None:
        self._times_s = list(pass_times_s)
        self.num_microbatches = num_microbatches
        self._schedule = schedule
        self.num_stages = len(self._times_s)
        self.lane_ranks: NDArray[np.intp] = np.arange(self.num_stages).reshape(-1, 1, 1)
        self.capacity_bytes_per_s: NDArray[np.float64] = np.zeros(0)
        self.can_fill = np.zeros(0, dtype=np.bool_)
        self.link_names: list[str] = []
        self.link_kinds: list[str] = []
        self.folding: Folding | None = None
        self.shares_compute = False
        self.num_sms: int | None = None
        self.fidelity = "bulk"
        self._hop = Transfer(
            load=LinkLoad(links=np.zeros(0, dtype=np.intp), num_bytes=np.zeros(0)),
            latency_ns=to_ns(p2p_s),
            alone_ns=0,
            flow_bytes=0.0,
            total_bytes=0.0,
            group=0,
            ranks=np.zeros(0, dtype=np.intp),
        )

    def schedule(self, lane: int) -> Schedule:
        """Return the schedule of the pipeline."""
        del lane
        return build_schedule(self._schedule, num_stages=self.num_stages, num_microbatches=self.num_microbatches)

    def inputs(self, stage: int, chosen: Pass) -> tuple[Input, ...]:
        """Return what a pass needs: F the stage before it, B its own F and the stage after it."""
        return inputs_of(stage, self.num_stages, chosen)

    def ops(self, stage: int, lane: int, chosen: Pass) -> tuple[Op, ...]:
        """Return the pass as one kernel."""
        del lane
        forward, backward, weight = self._times_s[stage]
        took_ns = to_ns(forward if chosen.kind == "F" else backward + weight)
        kernel = TimedKernel(kind="other_compute", layer=NO_LAYER, duration_ns=np.array([took_ns]), flops=0.0)
        return (Compute(kernels=(kernel,)),)

    def sends(self, stage: int, lane: int, chosen: Pass) -> tuple[Send, ...]:
        """Return the hop to the neighbouring stage."""
        target = target_of(stage, self.num_stages, chosen)
        if target is None:
            return ()
        return (Send(target=(target, lane), key=Input(stage, *chosen), transfer=self._hop),)

    def after_passes(self, stage: int, lane: int) -> tuple[Op, ...]:
        """Return nothing: there is no optimizer step."""
        del stage, lane
        return ()
