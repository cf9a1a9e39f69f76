"""A pipeline of passes of given length, run once: step time, bubble, and what microbatches keep on a stage.

Model
-----
A microbatch keeps `workload.held.B` bytes on a stage from the start of its F to the end of its B, and `workload.held.W`
from there to the end of its W where that is a pass of its own. Chunks share both evenly; each of the two copies of the
model in a both-ways pipeline keeps the whole.
"""

from functools import cache, cached_property
from typing import Final

from sim.build.assumptions import warnings_of_passes
from sim.build.build import build_passes
from sim.build.passes_work import PassesWork
from sim.engine.trace import Trace
from sim.plan.jitter import jittered
from sim.plan.passes import PassesPlan
from sim.plan.what_if import under
from sim.results.memory import ChunkMemory, StageMemory, memory_of
from sim.results.metrics import RunQuantities, metrics_of
from sim.results.path import path_ns
from sim.results.stages import stages_ns
from sim.run.engines import compiles
from sim.run.estimates import counts_of_plan, expected_of
from sim.run.resources import Resources, minimum_of_passes
from sim.run.scenario_run import RunOptions, ScenarioRun, Simulated
from sim.scenario.scenario import Scenario
from sim.scenario.workload_section import HeldBytes, PassesWorkload
from workloads.schedules import ChunkLayout

__all__ = ["PassesRun", "microbatch_memory"]

_METRICS: Final = (
    "step_time_s",
    "latency_s",
    "bubble_fraction",
    "stall_fraction",
    "bubble_fraction_published_form",
    "num_gpus",
)


class PassesRun(ScenarioRun):
    """A scenario of kind passes."""

    def __init__(self, scenario: Scenario) -> None:
        super().__init__(scenario)
        if not isinstance(workload := scenario.spec.workload, PassesWorkload):
            raise TypeError("passes of given length are built from a scenario of kind passes")
        self._workload = workload

    @cached_property
    def work(self) -> PassesWork:
        """The passes in the order of their schedule, built when they are first needed: a long order takes long."""
        return build_passes(self.scenario)

    def minimum_resources(self) -> Resources:
        """Return what the run surely needs; the order of the passes is not made for that."""
        num_stages = self.scenario.spec.parallel.pp or 1
        return minimum_of_passes(num_stages=num_stages, num_microbatches=self._workload.microbatches)

    def estimated_resources(self) -> Resources:
        """Return what the run is expected to need."""
        plan = PassesPlan(self.work)
        is_compiled = compiles(self.scenario.spec.engine, plan, self.num_ops_alike(1))
        counts = counts_of_plan(plan, kinds=plan.kinds, num_microbatches=plan.num_visits, is_compiled=is_compiled)
        return expected_of(counts)

    def _simulate(self, options: RunOptions) -> Simulated:
        plan, kept = PassesPlan(self.work), self._workload.held
        run = self.run_plan(
            jittered(under(plan, self.work.what_if), self.work.jitter, self.work.seed),
            options,
        )
        stages = stages_ns(run.trace)
        metrics = metrics_of(run.trace, stages, _quantities(self.work))
        memory = {} if kept is None else microbatch_memory(run.trace, kept, self.work.pipeline_order.layout)
        return Simulated(
            run=run,
            find_metrics=lambda: {name: metrics[name] for name in _METRICS} | memory,
            find_path_ns=cache(lambda: path_ns(run.trace)),
            stages_ns=stages,
            find_mesh=lambda: {"pp": self.work.num_stages},
            warnings=warnings_of_passes(self.scenario, self.work.pipeline_order),
        )


def microbatch_memory(trace: Trace, kept: HeldBytes, layout: ChunkLayout) -> dict[str, float]:
    """Return `held_bytes`, the most that microbatches keep on a stage, and `held_microbatches`, that over `held.B`.

    Parameters
    ----------
    trace
        The run.
    kept
        Bytes that a microbatch keeps on a stage until B and until W.
    layout
        Where the chunks stand.

    Examples
    --------
    >>> from sim.engine.simulation import run_plan
    >>> work = PassesWork(pass_times_s=[(1e-3, 2e-3, 0.0)] * 3, num_microbatches=6, p2p_s=0.0, schedule="1f1b")
    >>> trace = run_plan(PassesPlan(work)).trace
    >>> microbatch_memory(trace, HeldBytes(B="1 GB", W="0.4 GB"), work.pipeline_order.layout)
    {'held_bytes': 3000000000, 'held_microbatches': 3.0}
    """
    chunk = ChunkMemory(activations=kept.B, weight_pass=kept.W)
    stage = StageMemory(chunks=(chunk,) * layout.num_copies)
    num_microbatches = int(trace.ints("microbatch").max(initial=0)) + 1  # of one batch
    memory = memory_of(trace, [stage] * layout.num_stages, capacity_bytes=1.0, microbatches=num_microbatches)
    peak = memory["peak_bytes_per_gpu"]["total"]
    return {"held_bytes": peak, "held_microbatches": peak / kept.B}


def _quantities(work: PassesWork) -> RunQuantities:
    """Return what is known of the work of passes: no tokens, no FLOPs and no parameters."""
    return RunQuantities(
        num_gpus=work.num_stages,
        batch_tokens=0,
        batches=1,
        microbatches=work.num_microbatches,
        model_flops=0.0,
        model_flops_causal=0.0,
        recomputed_flops=0.0,
        peak_flops_per_s=1.0,
        num_params=0,
        num_active_params=0,
        num_params_per_gpu=0,
        imbalance_max_over_mean=1.0,
    )
