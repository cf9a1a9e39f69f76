"""Steps of a server that the engine runs one by one: the oracle of prices that are kept by class."""

from collections.abc import Sequence

from sim.build.serving import ServingWork
from sim.engine.simulation import run_plan
from sim.plan.serving_costs import StepTime, rank_batches
from sim.plan.serving_kernels import KernelSteps
from sim.plan.serving_plan import ServingStepPlan
from sim.time import to_ns
from workloads.serving.requests import Batch

__all__ = ["SimulatedSteps"]


class SimulatedSteps:
    """Runs each step on each stage, kernel by kernel and collective by collective."""

    def __init__(self, work: ServingWork) -> None:
        self._costs, self._num_steps = KernelSteps(work), 0

    @property
    def warnings(self) -> list[str]:
        """What users should know of the prices so far."""
        return self._costs.warnings

    def step(self, batches: Sequence[Batch]) -> StepTime:
        """Return the time of a step of the ranks of a group, one batch of each."""
        costs, work = self._costs, self._costs.work
        ranks = rank_batches(work, batches)
        parts_ns = dict(costs.step(batches).parts_ns)
        stage_ns = []
        for stage in range(work.mesh.num_stages):
            plan = ServingStepPlan(costs, stage, ranks, self._num_steps)
            run = run_plan(plan, link_timeline=False)
            host_s = work.limits.host_s if stage == 0 else 0.0
            stage_ns.append(run.trace.end_ns + to_ns(host_s))
        self._num_steps += 1
        parts_ns["stalled"] = parts_ns.get("stalled", 0) + sum(stage_ns) - sum(parts_ns.values())
        return StepTime(tuple(stage_ns), tuple(parts_ns.items()))
