"""One simulation: plan, run, metrics, both accounts of time, memory, and everything a claim may be held against."""

from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from sim.build.assumptions import Assumption, warnings_of_passes
from sim.build.build import Built, build, build_passes
from sim.build.collective import build_collective
from sim.build.work import Work
from sim.engine.simulation import Run, run_plan
from sim.errors import SimulationError
from sim.plan.bounds import Bounds, all_reduce_wire_times_s, bounds_of
from sim.plan.collective import CollectivePlan, bus_factor
from sim.plan.pairs import PairUse
from sim.plan.passes import PassesPlan
from sim.plan.pipeline import PipelinePlan
from sim.plan.transfer_costs import Choice
from sim.results.memory import memory_of
from sim.results.metrics import RunFacts, metrics_of
from sim.results.path import path_ns
from sim.results.stages import stages_ns
from sim.run.explain import explain_run
from sim.run.imbalance_bound import IMBALANCE_BOUND, imbalance_bound
from sim.run.limits import NO_LIMITS, Limits, estimate_run
from sim.run.microbatch_memory import held_metrics
from sim.run.minimum_resources import held_bytes, minimum_of_collective, minimum_of_passes, minimum_of_work
from sim.run.stage_memory import stage_memory
from sim.scenario.scenario import Scenario
from sim.scenario.workload_section import CollectiveWorkload, PassesWorkload
from sim.time import TimeRangeError
from workloads.memory import params_per_rank
from workloads.mesh_metrics import explain_mesh_metrics, mesh_metrics

__all__ = ["Simulated", "simulate_scenario"]

Value = float | int | bool


@dataclass(frozen=True, kw_only=True, eq=False)
class Simulated:
    """One simulation and what it says."""

    run: Run
    """Trace and engine statistics."""
    metrics: dict[str, Value]
    """The contract's metrics."""
    path_ns: dict[str, int]
    """Account of the step time along the path."""
    stages_ns: list[dict[str, int]]
    """Account of each stage."""
    memory: dict[str, Any]
    """Peak per GPU; empty where there is no model."""
    mesh: dict[str, Value]
    """Facts of the mesh; empty where there is none."""
    explanations: dict[str, str]
    """A line on metrics that need one, by name."""
    bounds: Bounds | None
    """Lower bounds on a batch; None where there is no model."""
    wire_times_s: dict[str, float]
    """NIC time of one all-reduce per layer over a batch, by algorithm."""
    batches: int = 1
    """Batches."""
    num_runs: int = 1
    """Simulations that this took."""
    assumptions: list[Assumption] = field(default_factory=list)
    """Facts that the scenario does not give."""
    warnings: list[str] = field(default_factory=list)
    """What the user should know."""
    choices: list[Choice] = field(default_factory=list)
    """Algorithm and protocol of each collective."""
    pairs: PairUse | None = None
    """Bytes between every two GPUs; None where not asked for, and where there are none."""

    @property
    def values(self) -> dict[str, Value]:
        """Every metric by its name in the catalogue."""
        memory = self.memory
        peak = memory.get("peak_bytes_per_gpu", {})
        flat = dict(peak) if isinstance(peak, Mapping) else {}
        scalars = ("capacity_bytes", "fits", "peak_fraction", "peak_stage", "peak_rank", "peak_time_s")
        flat |= {key: memory[key] for key in scalars if key in memory}
        if flat:
            flat["states"] = sum(peak[part] for part in ("weights", "gradients", "optimizer"))
        return {**self.mesh, **flat, **self.metrics}


def simulate_scenario(
    scenario: Scenario,
    *,
    wanted: Set[str] = frozenset(),
    link_timeline: bool = True,
    pairs: bool = False,
    limits: Limits = NO_LIMITS,
) -> Simulated:
    """Simulate a scenario once.

    Parameters
    ----------
    scenario
        What to simulate.
    wanted
        Names of metrics that are computed only where they are asked for: `blocking_exchange_completes`, and
        `imbalance_bound_max_over_mean`.
    link_timeline
        Whether the trace has the course of the links' load, which the Perfetto trace shows.
    pairs
        Whether to add up the bytes between every two GPUs.
    limits
        What the run may need; more is refused before it is planned.
    """
    try:
        if isinstance(scenario.spec.workload, PassesWorkload):
            return _simulate_passes(scenario, limits)
        if isinstance(scenario.spec.workload, CollectiveWorkload):
            return _simulate_collective(scenario, limits, pairs=pairs)
        return _simulate(scenario, wanted, limits, link_timeline=link_timeline, pairs=pairs)
    except TimeRangeError as error:
        raise SimulationError(f"{error}{_what_makes_it_long(scenario)}", file=scenario.path) from None


# ---- private -----------------------------------------------------------------------------------------------------


def _simulate(scenario: Scenario, wanted: Set[str], limits: Limits, *, link_timeline: bool, pairs: bool) -> Simulated:
    built = build(scenario)
    work = built.work
    _check_limits(work, limits)
    plan = PipelinePlan(work)
    plan.costs.pairs.is_on, plan.costs.loads.is_on = pairs, IMBALANCE_BOUND in wanted
    run = run_plan(plan, max_events=limits.engine_events, link_timeline=link_timeline, keep_ended=pairs)
    stages, path = stages_ns(run.trace), path_ns(run.trace)
    memory = memory_of(
        run.trace,
        [stage_memory(work, stage, skew=run.exchange_skew.get(stage, (1, 1))) for stage in range(work.mesh.num_stages)],
        capacity_bytes=work.cluster.device.memory_bytes,
        microbatches=work.microbatches,
        expert_tokens=run.tokens_received,
        sent_tokens=run.tokens_sent,
    )
    facts, explanations = _facts(built)
    num_runs = 1
    if "blocking_exchange_completes" in wanted:
        completes, why, tried = _try_blocking_exchange(work)
        facts["blocking_exchange_completes"] = completes
        explanations["blocking_exchange_completes"] = why
        num_runs += tried
    if IMBALANCE_BOUND in wanted:
        facts[IMBALANCE_BOUND] = imbalance_bound(work, plan.costs.loads, run.trace.num_of)
    metrics = metrics_of(run.trace, stages, _run_facts(work, run))
    explanations |= explain_run(work, path, stages, memory)
    return Simulated(
        run=run,
        metrics=metrics,
        path_ns=path,
        stages_ns=stages,
        memory=memory,
        mesh=facts,
        explanations=explanations,
        bounds=bounds_of(work, num_dropped=run.tokens_dropped),
        wire_times_s=all_reduce_wire_times_s(work),
        batches=work.batches,
        num_runs=num_runs,
        assumptions=built.assumptions,
        warnings=list(built.warnings),
        choices=list(plan.costs.transfers.choices.values()),
        pairs=_pairs(plan, run) if pairs else None,
    )


def _what_makes_it_long(scenario: Scenario) -> str:
    """Return the quantities of the scenario that every time follows from, with their lines where a file gives them."""
    said = []
    for key in ("sequences", "sequence_length", "microbatches", "batches"):
        if scenario.is_given(f"workload.{key}"):
            value = getattr(scenario.spec.workload, key)
            line = scenario.places.line_of(("workload", key))
            said.append(f"{key} {value}" + (f" (line {line})" if line else ""))
    return f" The workload has {', '.join(said)}." if said else ""


def _check_limits(work: Work, limits: Limits) -> None:
    """Refuse what surely needs too much, and then, where a user has set limits, what a plan is expected to need."""
    limits.check_minimum(minimum_of_work(work))
    if limits.are_set:
        estimate = estimate_run(
            PipelinePlan(work),
            kinds=("F", "B") if work.kind == "training" else ("F",),
            num_microbatches=work.num_microbatches * work.visits_of_stage,
            is_drawn=work.routing != "balanced",
            held_bytes=held_bytes(work),
        )
        limits.check(estimate)


def _simulate_passes(scenario: Scenario, limits: Limits) -> Simulated:
    if not isinstance(workload := scenario.spec.workload, PassesWorkload):
        raise TypeError("passes of given times are simulated from a scenario of kind passes")
    least = minimum_of_passes(num_stages=scenario.spec.parallel.pp or 1, num_microbatches=workload.microbatches)
    limits.check_minimum(least)  # before the order is built
    plan = PassesPlan(build_passes(scenario))
    if limits.are_set:
        limits.check(estimate_run(plan, kinds=plan.kinds, num_microbatches=plan.num_visits, is_drawn=False))
    run = run_plan(plan, max_events=limits.engine_events)
    stages = stages_ns(run.trace)
    facts = RunFacts(
        num_gpus=plan.num_stages,
        batch_tokens=0,
        batches=1,
        microbatches=plan.num_microbatches,
        model_flops=0.0,
        model_flops_causal=0.0,
        recomputed_flops=0.0,
        peak_flops_per_s=1.0,
        num_params=0,
        num_active_params=0,
        num_params_per_gpu=0,
        imbalance_max_over_mean=1.0,
    )
    metrics = metrics_of(run.trace, stages, facts)
    known = (
        "step_time_s",
        "latency_s",
        "bubble_fraction",
        "stall_fraction",
        "bubble_fraction_published_form",
        "num_gpus",
    )
    held = {} if workload.held is None else held_metrics(run.trace, workload.held, plan.pipeline_order.layout)
    return Simulated(
        run=run,
        metrics={name: metrics[name] for name in known} | held,
        path_ns=path_ns(run.trace),
        stages_ns=stages,
        memory={},
        mesh={"pp": plan.num_stages},
        explanations={},
        warnings=warnings_of_passes(scenario, plan.pipeline_order),
        bounds=None,
        wire_times_s={},
    )


def _simulate_collective(scenario: Scenario, limits: Limits, *, pairs: bool) -> Simulated:
    work, assumptions = build_collective(scenario)
    limits.check_minimum(minimum_of_collective(work))
    plan = CollectivePlan(work)
    run = run_plan(plan, keep_ended=pairs)
    time_s = run.trace.step_ns / 1e9
    algbw = plan.logical_bytes / time_s
    return Simulated(
        run=run,
        metrics={
            "collective_time_s": time_s,
            "algbw_bytes_per_s": algbw,
            "busbw_bytes_per_s": algbw * bus_factor(work.op, work.ranks.size),
            "step_time_s": time_s,
            "num_gpus": work.ranks.size,
        },
        path_ns=path_ns(run.trace),
        stages_ns=stages_ns(run.trace),
        memory={},
        mesh={},
        explanations={},
        bounds=None,
        wire_times_s={},
        assumptions=assumptions,
        choices=[plan.choice],
        pairs=_pairs(plan, run) if pairs else None,
    )


def _pairs(plan: PipelinePlan | CollectivePlan, run: Run) -> PairUse:
    """Return the bytes between every two GPUs of the mesh."""
    node_of = plan.work.cluster.node_of(np.arange(int(plan.lane_ranks.max()) + 1))
    return plan.costs.pairs.total(run.num_ended, node_of, plan.folding)


def _run_facts(work: Work, run: Run) -> RunFacts:
    passes = 3 if work.kind == "training" else 1
    tokens = work.batch_tokens * work.batches
    head_tokens = work.head_tokens * work.num_microbatches * work.mesh.dp
    head = 2.0 * work.model.num_embedding_params * head_tokens
    layers = [
        work.model.flops_per_token(work.sequence_length, causal=c, with_head=False) * tokens
        - 2.0 * work.model.num_expert_params * run.tokens_dropped
        for c in (False, True)
    ]
    per_gpu = [_params_of(work, stage) for stage in range(work.mesh.num_stages)]
    return RunFacts(
        num_gpus=work.mesh.world,
        batch_tokens=work.batch_tokens,
        batches=work.batches,
        microbatches=work.microbatches,
        model_flops=passes * (layers[0] + head),
        model_flops_causal=passes * (layers[1] + head),
        recomputed_flops=layers[0] if work.recompute == "full" else _remade_flops_per_token(work) * tokens,
        peak_flops_per_s=work.cluster.device.peak_flops_per_s(work.model.dtype) * work.mesh.world,
        num_params=work.model.num_params,
        num_active_params=work.model.num_active_params,
        num_params_per_gpu=max(per_gpu),
        imbalance_max_over_mean=run.imbalance_max_over_mean,
        dropped_fraction=run.tokens_dropped / max(1, run.tokens_routed),
        rerouted_fraction=run.tokens_rerouted / max(1, run.tokens_routed),
    )


def _remade_flops_per_token(work: Work) -> float:
    """Return the FLOPs of what selective recomputation computes again, over all layers."""
    model, again = work.model, work.again
    num_dense = model.layers - model.num_moe_layers
    shared = model.shared_experts * model.num_expert_params
    routed = model.top_k * model.num_expert_params + model.hidden * model.experts
    parts = {
        "core_attn": model.layers * model.attention_score_flops_per_token(work.sequence_length, causal=False),
        "mlp": 2.0 * num_dense * model.num_dense_ffn_params,
        "moe": 2.0 * model.num_moe_layers * (routed + shared),
        "shared_experts": 0.0 if again.recomputes("moe") else 2.0 * model.num_moe_layers * shared,
    }
    return sum(flops for module, flops in parts.items() if again.recomputes(module))


def _params_of(work: Work, stage: int) -> int:
    """Return the parameters that each rank of a stage holds, replicas of experts with them."""
    return sum(params_per_rank(work.model, work.mesh, work.stage_parameters(stage)))


def _facts(built: Built) -> tuple[dict[str, Value], dict[str, str]]:
    work = built.work
    sizes = {"num_gpus": work.cluster.num_gpus, "gpus_per_node": work.cluster.gpus_per_node}
    held = [work.stage_parameters(stage) for stage in range(work.mesh.num_stages)]
    facts = mesh_metrics(work.mesh, work.model, held=held, **sizes)
    return dict(facts), explain_mesh_metrics(work.mesh, work.model, facts, **sizes)


def _try_blocking_exchange(work: Work) -> tuple[bool, str, int]:
    """Run a batch with the exchange entered by all stages as one collective: whether it ends, why, runs it took."""
    if not work.mesh.convention.experts_span_stages or work.mesh.num_stages == 1:
        return True, "all ranks of the exchange are on one stage and enter it together", 0
    small = replace(work, exchange="blocking", batches=1, routing="balanced")  # who waits for whom, not for how long
    try:
        run_plan(PipelinePlan(small), link_timeline=False)
    except SimulationError as error:
        ranks = work.mesh.strategy.ep
        return False, f"entered as one blocking collective of {ranks} ranks it never ends: {str(error).rstrip('.')}", 1
    return True, "all stages enter it in one order, which makes the pipeline run in step", 1
