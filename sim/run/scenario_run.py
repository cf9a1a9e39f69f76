"""A scenario that is built and can be run, and what its simulation says: the same for every kind of workload.

A kind of workload answers for itself: what it needs, and how it is simulated. What all kinds have in common stands
here: limits are checked before anything is planned, and a time that the clock cannot hold is reported with the
quantities of the workload that it follows from.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sim.build.assumptions import Assumption
from sim.engine.run_state import Plan
from sim.engine.simulation import Run, collector_paused
from sim.errors import MoesimError, SimulationError
from sim.plan.bounds import Bounds
from sim.plan.collective import CollectivePlan
from sim.plan.logs import PairUse
from sim.plan.pipeline import PipelinePlan
from sim.plan.transfer_costs import Choice
from sim.results.serving import ServingSteps
from sim.run.engines import run_on
from sim.run.memory_guard import bounded_memory
from sim.run.resources import LEAST_LONG_EVENTS, LONG_RUN_S, NO_LIMITS, Limits, Resources
from sim.scenario.scenario import Scenario
from sim.time import TimeRangeError

__all__ = ["RunOptions", "ScenarioRun", "Simulated", "Value", "pair_use"]

Value = float | int | bool
_QUANTITIES = ("sequences", "sequence_length", "microbatches", "batches")
_STATE_COMPONENTS = ("weights", "gradients", "optimizer")
_MEMORY_METRICS = ("capacity_bytes", "fits", "peak_fraction", "peak_stage", "peak_rank", "peak_time_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How a scenario is run."""

    wanted: Set[str] = frozenset()
    """Metrics that are computed only where their names stand here: `blocking_exchange_completes`, and
    `imbalance_bound_max_over_mean`."""
    link_timeline: bool = True
    """Whether the trace has the load of the links over time, which the Perfetto trace shows."""
    links: bool = True
    """Whether what the links carried is added up at all."""
    pairs: bool = False
    """Whether the bytes between every two GPUs are added up."""
    limits: Limits = NO_LIMITS
    """What the run may need; a run that needs more is refused before it is planned."""
    runs_alike: int = 1
    """About how many runs like this the process has to do, this one among them."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Simulated:
    """One simulation and what it says; what a `find_` works out, it works out when it is first read."""

    run: Run
    """Trace and engine statistics."""
    find_metrics: Callable[[], dict[str, Value]]
    """Works out the contract's metrics."""
    find_path_ns: Callable[[], dict[str, int]]
    """Works out the account of the step time along the path."""
    stages_ns: list[dict[str, int]]
    """Account of each stage."""
    memory: dict[str, Any] = field(default_factory=dict)
    """Peak per GPU; empty where there is no model."""
    find_mesh: Callable[[], dict[str, Value]] = dict
    """Works out the metrics of the mesh; empty where there is none."""
    find_explanations: Callable[[], dict[str, str]] = dict
    """Works out a sentence on each metric that needs one, by name."""
    find_bounds: Callable[[], Bounds | None] = lambda: None
    """Works out lower bounds on the time of a batch; None where there is no model."""
    find_wire_times_s: Callable[[], dict[str, float]] = dict
    """Works out the NIC time of one all-reduce per layer over a batch, by algorithm."""
    num_tokens: int = 0
    """Tokens of all batches; 0 where there is no model."""
    num_nodes: int = 0
    """Nodes of the cluster that was built, which a file of several hosts decides; 0 where there is no cluster."""
    batches: int = 1
    """Batches that were run."""
    num_runs: int = 1
    """Simulations that this took."""
    find_assumptions: Callable[[], list[Assumption]] = list
    """Looks for the facts that the scenario does not give."""
    warnings: list[str] = field(default_factory=list)
    """What the user should know."""
    choices: list[Choice] = field(default_factory=list)
    """Algorithm and protocol of each collective."""
    requests: list[dict[str, Any]] | None = None
    """Of each request what happened to it, where requests were served; else None."""
    steps: ServingSteps | None = None
    """Steps of a server; None where no requests were served."""
    pairs: PairUse | None = None
    """Bytes between every two GPUs; None where they were not wanted, and where there are none."""

    @property
    def metrics(self) -> dict[str, Value]:
        """The contract's metrics."""
        return self.find_metrics()

    @property
    def path_ns(self) -> dict[str, int]:
        """Account of the step time along the path."""
        return self.find_path_ns()

    @property
    def mesh(self) -> dict[str, Value]:
        """Metrics of the mesh; empty where there is none."""
        return self.find_mesh()

    @property
    def explanations(self) -> dict[str, str]:
        """A sentence on each metric that needs one, by name."""
        return self.find_explanations()

    @property
    def bounds(self) -> Bounds | None:
        """Lower bounds on the time of a batch; None where there is no model."""
        return self.find_bounds()

    @property
    def wire_times_s(self) -> dict[str, float]:
        """NIC time of one all-reduce per layer over a batch, by algorithm."""
        return self.find_wire_times_s()

    @property
    def assumptions(self) -> list[Assumption]:
        """Facts that the scenario does not give."""
        return self.find_assumptions()

    @property
    def values(self) -> dict[str, Value]:
        """Every metric by its name in the catalogue."""
        peak = self.memory.get("peak_bytes_per_gpu", {})
        memory = dict(peak) if isinstance(peak, Mapping) else {}
        memory |= {name: self.memory[name] for name in _MEMORY_METRICS if name in self.memory}
        if memory:
            memory["reserved"] = self.memory["reserved_bytes"]["total"]
            memory["states"] = sum(peak[component] for component in _STATE_COMPONENTS)
        return {**self.mesh, **memory, **self.metrics}


class ScenarioRun(ABC):
    """A scenario that is built: domain values, made once, and what follows from them."""

    def __init__(self, scenario: Scenario) -> None:
        """Build what `scenario` describes.

        Raises
        ------
        InvalidValueError
            With the place in the file, where parts of the scenario do not go together.
        """
        self.scenario = scenario

    @property
    def probes(self) -> frozenset[str]:
        """Metrics that say something of this scenario even where no claim names them."""
        return frozenset()

    @abstractmethod
    def minimum_resources(self) -> Resources:
        """Return what the run surely needs; nothing is planned for that."""

    @abstractmethod
    def estimated_resources(self) -> Resources:
        """Return what the run is expected to need, from a plan that is made for that alone."""

    def expected_if_long(self) -> Resources | None:
        """Return what the run is expected to need where that is over `LONG_RUN_S` of processor time, else None.

        A run of few events is not planned for that, unless it is simulated flow by flow.
        """
        is_flow = self.scenario.spec.network.fidelity == "flow"
        if not is_flow and self.minimum_resources().num_events < LEAST_LONG_EVENTS:
            return None
        try:
            with bounded_memory():
                expected = self.estimated_resources()
        except MoesimError:  # the run fails as well, and says where
            return None
        return expected if expected.cpu_s is not None and expected.cpu_s > LONG_RUN_S else None

    def simulate(self, options: RunOptions) -> Simulated:
        """Simulate the scenario once.

        Raises
        ------
        SimulationError
            The run would go over a limit, or cannot go on (a deadlock names its cycle).
        """
        try:
            with self.scenario.located_errors(), bounded_memory(), collector_paused():
                options.limits.check_minimum(self.minimum_resources())
                if options.limits.are_set:
                    options.limits.check_estimate(self.estimated_resources())
                simulated = self._simulate(options)
        except TimeRangeError as error:
            message = f"{error}{_quantities_of(self.scenario)}"
            raise SimulationError(message, file=self.scenario.path) from None
        why = simulated.run.stats.why_not_compiled
        if why is not None and self.scenario.is_given("engine"):
            simulated.warnings.append(f"engine: SimPy's processes ran in place of the compiled engine: {why}.")
        return simulated

    def run_plan(self, plan: Plan, options: RunOptions, *, keep_ended: bool = False) -> Run:
        """Run a plan on the engine that the scenario names."""
        return run_on(
            self.scenario.spec.engine,
            plan,
            num_ops=lambda: self.num_ops_alike(options.runs_alike),
            max_events=options.limits.engine_events,
            link_timeline=options.link_timeline,
            keep_ended=keep_ended,
            links=options.links,
        )

    def num_ops_alike(self, runs_alike: int) -> int:
        """Return how many operations runs like this have that a compiled engine would run."""
        return self.minimum_resources().num_ops * runs_alike

    @abstractmethod
    def _simulate(self, options: RunOptions) -> Simulated:
        """Plan, run, and work out what the run says."""


def pair_use(plan: PipelinePlan | CollectivePlan, run: Run) -> PairUse:
    """Return the bytes between every two GPUs of the mesh; the run must have kept which transfers ended."""
    node_of = plan.work.cluster.node_of(np.arange(int(plan.lane_ranks.max()) + 1))
    return plan.costs.pairs.total(run.num_ended, node_of, plan.folding)


def _quantities_of(scenario: Scenario) -> str:
    """Return the quantities of the scenario that every time follows from, with their lines where a file gives them."""
    given = []
    for key in _QUANTITIES:
        if scenario.is_given(f"workload.{key}"):
            value = getattr(scenario.spec.workload, key)
            line = scenario.places.line_of(("workload", key))
            given.append(f"{key} {value}" + (f" (line {line})" if line else ""))
    return f" The workload has {', '.join(given)}." if given else ""
