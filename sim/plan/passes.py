"""A plan from measured pass times, without model and cluster.

Model
-----
Each stage has times for F, B and W. Where a schedule does not split a backward pass, B takes B + W and the gradient
leaves after both. A chunk takes its share of the stage's time; where a stage holds two replicas (Chimera, DualPipe),
each takes the whole. F and B that run concurrently take `pair_s`, by default as long as F and B one after the other. A
hop between stages takes `p2p_s` and blocks nobody.
"""

import numpy as np
from numpy.typing import NDArray

from sim.build.passes_work import PassesWork
from sim.plan.folding import Folding
from sim.plan.ops import NO_LAYER, Compute, Input, Op, Send, TimedKernel, Transfer, inputs_of, target_of
from sim.time import to_ns
from topology.links import LinkLoad
from workloads.schedules import Pair, Pass, Schedule, Step, passes_of

__all__ = ["PassesPlan"]


class PassesPlan:
    """Passes of given times on a pipeline of one rank per stage.

    Examples
    --------
    >>> from sim.engine.simulation import run_plan
    >>> work = PassesWork(pass_times_s=[(1e-3, 2e-3, 0.0)] * 2, num_microbatches=3, p2p_s=0.0, schedule="1f1b")
    >>> run_plan(PassesPlan(work)).trace.step_ns  # (m + p - 1)(F + B) = 4 * 3 ms
    12000000
    """

    def __init__(self, work: PassesWork) -> None:
        self.work = work
        self.num_stages = work.num_stages
        self.num_microbatches = work.num_microbatches
        self.pipeline_order = work.pipeline_order
        self._visits_of_stage = work.pipeline_order.layout.num_model_chunks // work.num_stages
        self.lane_ranks: NDArray[np.intp] = np.arange(self.num_stages).reshape(-1, 1, 1)
        self.capacity_bytes_per_s: NDArray[np.float64] = np.zeros(0)
        self.can_saturate = np.zeros(0, dtype=np.bool_)
        self.link_names: list[str] = []
        self.link_kinds: list[str] = []
        self.folding: Folding | None = None
        self.shares_compute = False
        self.num_sms: int | None = None
        self.fidelity = "bulk"
        self._ops: dict[tuple[int, str, bool], tuple[Op, ...]] = {}
        self._hop = Transfer(
            load=LinkLoad(links=np.zeros(0, dtype=np.intp), num_bytes=np.zeros(0)),
            latency_ns=to_ns(work.p2p_s),
            alone_ns=0,
            flow_bytes=0.0,
            total_bytes=0.0,
            group=0,
            ranks=np.zeros(0, dtype=np.intp),
        )

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of the passes that stages run."""
        return tuple(
            sorted({pass_.kind for steps in self.pipeline_order.order for step in steps for pass_ in passes_of(step)})
        )

    @property
    def num_visits(self) -> int:
        """Passes of one kind on a stage: microbatches times the chunks that each visits there."""
        return self.num_microbatches * self._visits_of_stage

    def schedule(self, lane: int) -> Schedule:
        """Return the schedule of the pipeline."""
        del lane
        return self.pipeline_order.schedule()

    def inputs(self, stage: int, step: Step) -> tuple[Input, ...]:
        """Return what a step needs."""
        return inputs_of(self.pipeline_order.layout, stage, step)

    def ops(self, stage: int, lane: int, step: Step) -> tuple[Op, ...]:
        """Return the step as one kernel."""
        del lane
        is_split = step.kind == "B" and isinstance(step, Pass) and self.pipeline_order.is_split(stage, step)
        key = (stage, step.kind, is_split)
        if key not in self._ops:
            duration_ns = to_ns(self._step_s(stage, step, is_split=is_split) / self._visits_of_stage)
            kernel = TimedKernel(kind="other_compute", layer=NO_LAYER, duration_ns=np.array([duration_ns]), flops=0.0)
            self._ops[key] = (Compute(kernels=(kernel,)),)
        return self._ops[key]

    def sends(self, stage: int, lane: int, pass_: Pass) -> tuple[Send, ...]:
        """Return the hop to the neighbouring stage."""
        target = target_of(self.pipeline_order.layout, stage, pass_)
        if target is None:
            return ()
        return (Send(target=(target, lane), key=Input(stage, *pass_), transfer=self._hop),)

    def before_passes(self, stage: int, lane: int) -> tuple[Op, ...]:
        """Return nothing: no transfer runs next to passes."""
        del stage, lane
        return ()

    def after_passes(self, stage: int, lane: int) -> tuple[Op, ...]:
        """Return nothing: there is no optimizer step."""
        del stage, lane
        return ()

    # ---- private -------------------------------------------------------------------------------------------------

    def _step_s(self, stage: int, step: Step, *, is_split: bool) -> float:
        """Return how long a step takes over all of a stage's chunks."""
        forward, backward, weight = self.work.pass_times_s[stage]
        if isinstance(step, Pair):
            pair_s = None if self.work.pair_s is None else self.work.pair_s[stage]
            return forward + backward + weight if pair_s is None else pair_s
        whole = backward if is_split else backward + weight
        return {"F": forward, "B": whole, "W": weight}[step.kind]
