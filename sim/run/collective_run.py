"""A collective on its own, run once: time, algorithm bandwidth and bus bandwidth."""

from functools import cache

from sim.build.assumptions import warnings_of_racks
from sim.build.collective import build_collective
from sim.errors import InvalidValueError
from sim.plan.collective import CollectivePlan
from sim.results.path import path_ns
from sim.results.stages import stages_ns
from sim.run.resources import Resources, minimum_of_collective
from sim.run.scenario_run import RunOptions, ScenarioRun, Simulated, pair_use
from sim.scenario.scenario import Scenario
from workloads.collectives import OPERATIONS

__all__ = ["CollectiveRun"]


class CollectiveRun(ScenarioRun):
    """A scenario of kind collective."""

    def __init__(self, scenario: Scenario) -> None:
        super().__init__(scenario)
        self.work, self.assumptions = build_collective(scenario)

    def minimum_resources(self) -> Resources:
        """Return what the run surely needs."""
        return minimum_of_collective(self.work)

    def estimated_resources(self) -> Resources:
        """Return the minimum: a collective is one operation, and its plan is the greater part of its run."""
        return self.minimum_resources()

    def _simulate(self, options: RunOptions) -> Simulated:
        plan = CollectivePlan(self.work)
        run = self.run_plan(
            plan,
            options,
            keep_ended=options.pairs,
        )
        if run.trace.step_ns == 0:
            raise InvalidValueError(
                "workload.tokens",
                rule=f"send something to another rank with op {self.work.op}",
                value=self.work.tokens,
                hint="All tokens stay on their ranks: give more tokens, a larger model.top_k or another routing.",
            )
        time_s, num_ranks = run.trace.step_ns / 1e9, self.work.ranks.size
        algbw = plan.logical_bytes / time_s
        return Simulated(
            run=run,
            find_metrics=lambda: {
                "collective_time_s": time_s,
                "algbw_bytes_per_s": algbw,
                "busbw_bytes_per_s": algbw * OPERATIONS[self.work.op].bus_factor(num_ranks),
                "step_time_s": time_s,
                "num_gpus": num_ranks,
            },
            find_path_ns=cache(lambda: path_ns(run.trace)),
            stages_ns=stages_ns(run.trace),
            num_nodes=self.work.cluster.num_nodes,
            find_assumptions=lambda: self.assumptions,
            warnings=[
                *self.work.cluster.warnings,
                *warnings_of_racks(self.work.cluster, [self.work.ranks]),
            ],
            choices=[plan.choice],
            pairs=pair_use(plan, run) if options.pairs else None,
        )
