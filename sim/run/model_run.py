"""A forward pass or a training step of a model, run once: metrics, both accounts of time, memory and bounds."""

from dataclasses import replace
from functools import cache
from typing import Final

from sim.build.build import build
from sim.build.work import Work
from sim.engine.simulation import Run, run_plan
from sim.errors import SimulationError
from sim.plan.bounds import all_reduce_wire_times_s, bounds_of
from sim.plan.jitter import jittered
from sim.plan.lowering import passes_differ
from sim.plan.pipeline import PipelinePlan
from sim.plan.what_if import under
from sim.results.memory import memory_of
from sim.results.metrics import RunQuantities, metrics_of
from sim.results.path import path_ns
from sim.results.stages import stages_ns
from sim.run.conservation import check_expert_tokens
from sim.run.engines import compiles
from sim.run.estimates import Counts, counts_of_plan, expected_of
from sim.run.explain import explain_run
from sim.run.imbalance_bound import IMBALANCE_BOUND, imbalance_bound
from sim.run.resources import Resources, minimum_of_work
from sim.run.scenario_run import RunOptions, ScenarioRun, Simulated, Value, pair_use
from sim.run.stage_memory import stage_memory
from sim.scenario.scenario import Scenario
from workloads.memory import params_per_rank, reserved_bytes
from workloads.mesh_metrics import explain_mesh_metrics, mesh_metrics
from workloads.schedules import Pass

__all__ = ["BLOCKING_EXCHANGE", "EXCHANGE", "ModelRun"]

BLOCKING_EXCHANGE: Final = "blocking_exchange_completes"
"""Metric: whether the expert exchange ends when all stages enter it as one collective."""


EXCHANGE: Final = "exchange_completes"
"""Metric: whether the expert exchange of the scenario ends, rather than in a deadlock."""


class ModelRun(ScenarioRun):
    """A scenario of kind forward or training."""

    def __init__(self, scenario: Scenario) -> None:
        super().__init__(scenario)
        self._built = build(scenario)
        self.work, self.warnings = self._built.work, self._built.warnings

    @property
    def probes(self) -> frozenset[str]:
        """`blocking_exchange_completes`, where experts serve all stages."""
        return frozenset({BLOCKING_EXCHANGE}) if self.work.mesh.convention.experts_span_stages else frozenset()

    def minimum_resources(self) -> Resources:
        """Return what the run surely needs."""
        return minimum_of_work(self.work)

    def counts(self) -> Counts:
        """Count what the run holds, on a plan that is made for that alone."""
        work = self.work
        plan = PipelinePlan(work, folds=work.may_fold)
        a_backward = Pass("B", work.num_microbatches // 2)  # the first and the last may be whole where most are not
        splits = work.kind.trains and plan.pipeline_order.is_split(0, a_backward)
        return counts_of_plan(
            plan,
            kinds=(*work.kind.pass_kinds, "W") if splits else work.kind.pass_kinds,
            num_microbatches=work.num_microbatches * work.visits_of_stage,
            work=work,
            is_compiled=compiles(self.scenario.spec.engine, plan, self.num_ops_alike(1)),
        )

    def estimated_resources(self) -> Resources:
        """Return what the run is expected to need."""
        return expected_of(self.counts())

    def num_ops_alike(self, runs_alike: int) -> int:
        """Return the operations of runs like this; none of a single run whose passes all differ.

        Making arrays of operations that come once takes as long as SimPy's engine and much more memory: 17.6 and 16.7 s
        of processor time, 2.1 and 0.5 GB under random routing on 4,096 GPUs.
        """
        return 0 if passes_differ(self.work) and runs_alike == 1 else super().num_ops_alike(runs_alike)

    def _simulate(self, options: RunOptions) -> Simulated:
        work = self.work
        plan = PipelinePlan(work, folds=work.may_fold)
        plan.costs.pairs.is_on, plan.costs.loads.is_on = options.pairs, IMBALANCE_BOUND in options.wanted
        run = self.run_plan(
            jittered(under(plan, work.what_if), work.jitter, work.seed),
            options,
            keep_ended=options.pairs,
        )
        stages, memory = stages_ns(run.trace), _memory(work, run)
        found, why, num_runs = self._exchange_metrics(options)
        if IMBALANCE_BOUND in options.wanted:
            found[IMBALANCE_BOUND] = imbalance_bound(work, plan.costs.loads, run.trace.num_of)
        mesh = cache(self._mesh_metrics)
        return Simulated(
            run=run,
            find_metrics=cache(lambda: metrics_of(run.trace, stages, _quantities(work, run))),
            find_path_ns=cache(lambda: path_ns(run.trace)),
            stages_ns=stages,
            memory=memory,
            find_mesh=cache(lambda: mesh()[0] | found),
            find_explanations=cache(lambda: mesh()[1] | why | explain_run(work, stages, memory)),
            find_bounds=cache(lambda: bounds_of(work, num_dropped=run.tokens_dropped)),
            find_wire_times_s=cache(lambda: all_reduce_wire_times_s(work)),
            num_tokens=work.batch_tokens * work.batches,
            num_nodes=work.cluster.num_nodes,
            batches=work.batches,
            num_runs=num_runs,
            find_assumptions=lambda: self._built.assumptions,
            warnings=[*self.warnings, *plan.costs.kernels.warnings],
            choices=list(plan.costs.transfers.choices.values()),
            pairs=pair_use(plan, run) if options.pairs and not work.what_if else None,
        )

    def _exchange_metrics(self, options: RunOptions) -> tuple[dict[str, Value], dict[str, str], int]:
        """Return whether exchanges end and a sentence on each, of a run that has ended, and the runs that this took."""
        found, why, num_runs = dict[str, Value](), dict[str, str](), 1
        if self.work.model.experts:
            found[EXCHANGE], why[EXCHANGE] = True, _how_exchange_is_entered(self.work)
        if BLOCKING_EXCHANGE in options.wanted:
            found[BLOCKING_EXCHANGE], why[BLOCKING_EXCHANGE], num_probes = _try_blocking_exchange(self.work)
            num_runs += num_probes
        return found, why, num_runs

    def _mesh_metrics(self) -> tuple[dict[str, Value], dict[str, str]]:
        """Return the metrics of the mesh, and a sentence on each that needs one."""
        work = self.work
        sizes = {"num_gpus": work.cluster.num_gpus, "gpus_per_node": work.cluster.gpus_per_node}
        stages = [work.stage_parameters(stage) for stage in range(work.mesh.num_stages)]
        metrics = mesh_metrics(work.mesh, work.model, stages=stages, **sizes)
        return dict(metrics), explain_mesh_metrics(work.mesh, work.model, metrics, stages=stages, **sizes)


# ---- private -----------------------------------------------------------------------------------------------------


def _memory(work: Work, run: Run) -> dict[str, object]:
    """Return the peak of memory per GPU, and memory over time."""
    stages, spans = range(work.mesh.num_stages), work.mesh.convention.experts_span_stages
    check_expert_tokens(run.tokens_received, run.tokens_sent, _expected_copies(work), num_padded=run.tokens_padded)
    skews = dict(run.exchange_skew)
    if spans and skews:  # a GPU serves the exchanges of all stages
        sent, received = zip(*skews.values(), strict=True)
        skews = dict.fromkeys(stages, (max(sent), max(received)))
    return memory_of(
        run.trace,
        [stage_memory(work, stage, skew=skews.get(stage, (1, 1))) for stage in stages],
        capacity_bytes=work.cluster.device.memory_bytes,
        reserved_bytes=reserved_bytes(work.mesh, work.dispatcher_buffer_bytes),
        microbatches=work.microbatches,
        expert_tokens=run.tokens_received,
        sent_tokens=run.tokens_sent,
        experts_span_stages=spans,
    )


def _expected_copies(work: Work) -> list[list[float]]:
    """Return the copies of tokens on a host that the account of memory takes a microbatch of a lane to have.

    Of each stage and chunk, mean of the hosts, over all layers of the chunk.
    """
    per_layer = work.copies_per_host
    return [
        [
            per_layer * sum(map(work.model.is_moe_layer, work.layers_of_model_chunk(chunk)))
            for chunk in work.model_chunks_of(stage)
        ]
        for stage in range(work.mesh.num_stages)
    ]


def _quantities(work: Work, run: Run) -> RunQuantities:
    """Return how much work the run stood for: tokens, FLOPs and parameters."""
    model, flops_multiple = work.model, work.kind.flops_per_forward_flop
    tokens = work.batch_tokens * work.batches
    head_tokens = work.head_tokens * work.num_microbatches * work.mesh.dp
    trains = work.kind.trains
    head_flops = 2.0 * work.num_heads * model.num_embedding_params * head_tokens
    layer_flops, layer_flops_causal = (
        model.flops_per_token(work.attended_length, causal=is_causal, with_head=False, with_mtp=trains) * tokens
        - 2.0 * model.num_expert_params * run.tokens_dropped
        for is_causal in (False, True)
    )
    recomputed = layer_flops  # where the whole layer is recomputed: without dropped copies of tokens
    if work.recompute.num_layers is not None:
        again = [layer for layer in work.layers if work.recompute_of(layer).kind == "full"]
        recomputed = tokens * sum(
            count * layer.flops_per_token(work.attended_length, causal=False)
            for layer, count in model.layer_kinds(again)
        )
    elif work.recompute.kind != "full":
        per_token = model.recomputed_flops_per_token(work.recompute, work.attended_length, with_mtp=trains)
        recomputed = per_token * tokens
    stages = [work.stage_parameters(stage) for stage in range(work.mesh.num_stages)]
    return RunQuantities(
        num_gpus=work.mesh.world,
        batch_tokens=work.batch_tokens,
        batches=work.batches,
        microbatches=work.microbatches,
        model_flops=flops_multiple * (layer_flops + head_flops),
        model_flops_causal=flops_multiple * (layer_flops_causal + head_flops),
        recomputed_flops=recomputed,
        peak_flops_per_s=work.cluster.device.peak_flops_per_s(model.product_dtype) * work.mesh.world,
        num_params=model.num_params,
        num_active_params=model.num_active_params,
        num_params_per_gpu=max(sum(params_per_rank(model, work.mesh, stage)) for stage in stages),
        imbalance_max_over_mean=run.imbalance_max_over_mean,
        dropped_fraction=run.tokens_dropped / max(1, run.tokens_routed),
        rerouted_fraction=run.tokens_rerouted / max(1, run.tokens_routed),
    )


def _how_exchange_is_entered(work: Work) -> str:
    """Return how the stages enter the exchange with their experts."""
    mesh = work.mesh
    if not mesh.convention.experts_span_stages or mesh.num_stages == 1:
        return f"the {mesh.strategy.ep} ranks of the exchange are on one stage and enter it together"
    if work.exchange == "blocking":
        return "all stages enter it in one order, which makes the pipeline run in step"
    return (
        f"one-sided, as declared, the exchange of {mesh.num_stages} stages runs: an expert serves tokens as they come"
    )


def _try_blocking_exchange(work: Work) -> tuple[bool, str, int]:
    """Run a batch whose exchange all stages enter as one collective: whether it ends, why, and the runs it took."""
    if not work.mesh.convention.experts_span_stages or work.mesh.num_stages == 1:
        return True, "all ranks of the exchange are on one stage and enter it together", 0
    # balanced routing and one batch: the question is which stage waits for which, and not for how long
    small = replace(work, exchange="blocking", batches=1, routing=replace(work.routing, kind="balanced"))
    try:
        run_plan(PipelinePlan(small), link_timeline=False)
    except SimulationError as error:
        ranks = work.mesh.strategy.ep
        return False, f"entered as one blocking collective of {ranks} ranks it never ends: {str(error).rstrip('.')}", 1
    return True, "all stages enter it in one order, which makes the pipeline run in step", 1
