"""A scenario becomes work: cluster, model, mesh and workload, with the checks that need more than one section.

What the scenario leaves open is filled in here and noted as an assumption, with its reason.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final

from sim.build.assumptions import Assumption, assumptions_of, warnings_of
from sim.build.cluster import cluster_of
from sim.build.device_profile import profile_of
from sim.build.exchange_overlap import check_exchange_overlap, network_of
from sim.build.hints import with_tried_hint
from sim.build.layout import context_of, fsdp_of, mesh_of, model_of, pipeline_layout_of, strategy_of
from sim.build.passes_work import PassesWork
from sim.build.routing import check_node_limit, routing_of, try_routing
from sim.build.runtime import check_dispatch, check_overlap, formats_of, fusions_of, runtime_of
from sim.build.served_requests import lengths_of
from sim.build.work import Work
from sim.errors import InvalidValueError
from sim.scenario.file_bytes import read_input_text
from sim.scenario.recordings.arrays import Shape
from sim.scenario.scenario import Scenario
from sim.scenario.workload_section import CollectiveWorkload, ForwardWorkload, PassesWorkload, TrainingWorkload
from topology.cluster import Cluster
from workloads.placement import PlacementRule
from workloads.schedules import PipelineOrder, schedule_kind_of
from workloads.schedules.custom import read_custom
from workloads.serving.lengths import Lengths
from workloads.workload_kind import WORKLOAD_KINDS

__all__ = [
    "Built",
    "build",
    "build_passes",
    "build_scenario_cluster",
    "check_network",
]

_MAX_BYTES: Final = 1 << 26
"""The largest file of a schedule that is read."""


@dataclass(frozen=True, kw_only=True)
class Built:
    """Work, and what had to be assumed or is worth a warning."""

    scenario: Scenario
    """What the work was built from."""
    work: Work
    warnings: list[str] = field(default_factory=list)
    """What the user should know."""

    @cached_property
    def assumptions(self) -> list[Assumption]:
        """Facts filled in, looked for when they are first read."""
        return assumptions_of(self.scenario, self.work)


def build(scenario: Scenario) -> Built:
    """Return the work of a scenario of kind forward or training.

    Raises
    ------
    InvalidValueError
        With the place in the file, where a preset is unknown, the mesh is illegal or parts do not go together.
    """
    with scenario.located_errors():
        try:
            return _build(scenario)
        except InvalidValueError as error:
            raise with_tried_hint(scenario, error, _build) from None


def build_scenario_cluster(scenario: Scenario) -> Cluster:
    """Return the cluster of a scenario.

    Raises
    ------
    InvalidValueError
        With the place in the file, where there is none or it cannot be.
    """
    with scenario.located_errors():
        return cluster_of(scenario)


def build_passes(scenario: Scenario) -> PassesWork:
    """Return the work of a scenario of kind passes."""
    workload = scenario.spec.workload
    if not isinstance(workload, PassesWorkload):
        raise TypeError("build_passes needs a scenario of kind passes")
    num_stages, kept = scenario.spec.parallel.pp or 1, workload.held
    times = list(workload.pass_times) * (num_stages if len(workload.pass_times) == 1 else 1)
    num_chunks = scenario.spec.parallel.vpp or 1
    with scenario.located_errors():
        own = _own_order(scenario, num_stages=num_stages, num_microbatches=workload.microbatches, num_chunks=num_chunks)
        return PassesWork(
            pass_times_s=[(t.F, t.B, t.W) for t in times],
            num_microbatches=workload.microbatches,
            p2p_s=workload.p2p,
            schedule=scenario.spec.schedule.kind,
            num_chunks=num_chunks,
            pair_s=[t.FB for t in times],
            weight_share=None if kept is None else kept.W / kept.B,
            what_if=scenario.spec.what_if,
            jitter=scenario.spec.jitter.as_given,
            seed=scenario.spec.seed,
            own_order=own,
        )


def check_values(scenario: Scenario) -> None:
    """Refuse presets that do not exist and a strategy that contradicts its axes; whether it is legal is a result.

    Raises
    ------
    InvalidValueError
        The first of these, with its place.
    """
    with scenario.located_errors():
        if scenario.spec.cluster is not None:
            cluster_of(scenario)
        if isinstance(scenario.spec.workload, CollectiveWorkload):
            return  # it has neither a whole model nor a strategy
        if scenario.spec.model is not None:
            model_of(scenario)
        if scenario.spec.parallel is not None:
            strategy_of(scenario)


# ---- private -----------------------------------------------------------------------------------------------------


def _build(scenario: Scenario) -> Built:
    spec, workload = scenario.spec, scenario.spec.workload
    if not isinstance(workload, (ForwardWorkload, TrainingWorkload)):
        raise InvalidValueError(
            "workload.kind",
            rule="be forward or training here",
            value=workload.kind,
            hint="Use forward.",
        )
    cluster, model = cluster_of(scenario), model_of(scenario)
    trains = isinstance(workload, TrainingWorkload)
    formats = formats_of(scenario, model, cluster.device, trains=trains)
    model = replace(model, formats=formats, fusions=fusions_of(scenario, model, trains=trains))
    check_network(scenario, cluster)
    cluster.device.peak_flops_per_s(model.base_dtype)  # refuse a type that the device does not compute in
    mesh = mesh_of(scenario, cluster, model)
    placement = placement_of(spec.placement, num_experts=model.experts, num_ranks=mesh.strategy.ep)
    check_node_limit(scenario, cluster, mesh.ep_groups(0), experts=model.experts, top_k=model.top_k)
    batches = workload.batches if isinstance(workload, ForwardWorkload) else 1
    own = _own_order(
        scenario,
        num_stages=mesh.num_stages,
        num_microbatches=batches * workload.microbatches,
        num_chunks=mesh.strategy.vpp,
    )
    schedule_kind = schedule_kind_of(spec.schedule.kind, spec.schedule.chunk_order)
    parts = schedule_kind.layout_on(mesh.num_stages, mesh.strategy.vpp)
    layout = pipeline_layout_of(scenario, model, mesh, parts)
    runtime = runtime_of(scenario, num_chunks=mesh.strategy.vpp)
    expert_layers = tuple(filter(model.is_moe_layer, range(model.num_all_layers)))
    work = Work(
        cluster=cluster,
        model=model,
        mesh=mesh,
        kind=WORKLOAD_KINDS[workload.kind],
        batches=batches,
        sequences=workload.sequences,
        sequence_length=workload.sequence_length,
        documents=_documents_of(workload),
        microbatches=workload.microbatches,
        schedule=spec.schedule.kind,
        recompute=spec.schedule.recomputation,
        offload_layers=spec.schedule.offload_layers or 0,
        routing=routing_of(
            scenario,
            cluster,
            mesh.ep_groups(0)[0],
            shape=Shape(num_experts=model.experts, top_k=model.top_k, num_layers=len(expert_layers)),
            num_slots=model.experts + placement.replicas,
            expert_layers=expert_layers,
        ),
        placement=placement,
        seed=spec.seed,
        network=network_of(scenario, runtime),
        context=context_of(scenario, cluster, model, mesh),
        runtime=runtime,
        profile=profile_of(scenario, cluster.device),
        factors=spec.factors.of_kernels_and_links,
        host_factors=spec.factors.of_host,
        what_if=spec.what_if,
        jitter=spec.jitter.as_given,
        exchange=spec.parallel.exchange,
        zero=spec.parallel.zero,
        fsdp=fsdp_of(scenario, cluster, mesh),
        precision=workload.precision,
        chunk_order=spec.schedule.chunk_order,
        chunk_layers=layout.layers,
        embedding_chunk=layout.embedding_chunk,
        head_chunk=layout.head_chunk,
        mtp_chunk=layout.mtp_chunk,
        own_order=own,
    )
    check_overlap(scenario, work)
    check_exchange_overlap(scenario, work)
    check_dispatch(scenario, work)
    try_routing(work)
    return Built(scenario=scenario, work=work, warnings=[*cluster.warnings, *warnings_of(work)])


def _documents_of(workload: ForwardWorkload | TrainingWorkload) -> Lengths | None:
    """Return the lengths of the documents that sequences are packed from; None where each sequence is one."""
    if not isinstance(workload, TrainingWorkload) or workload.documents is None:
        return None
    return lengths_of("workload.documents", workload.documents)


def _own_order(scenario: Scenario, *, num_stages: int, num_microbatches: int, num_chunks: int) -> PipelineOrder | None:
    """Return the order of passes of the file that the schedule reads; None where the schedule reads no file.

    Raises
    ------
    InvalidValueError
        The file cannot be read, or holds no order of the pipeline; the line is that of the file.
    """
    schedule = scenario.spec.schedule
    if not schedule_kind_of(schedule.kind, schedule.chunk_order).reads_file:
        return None
    path = scenario.file_beside("schedule.file", schedule.file or "")
    hint = "Write a text file with one line of passes per stage."
    text = read_input_text(path, _MAX_BYTES, hint=hint, too_large="Use fewer microbatches.")
    with scenario.located_errors(other_file=path):
        return read_custom(
            text,
            num_stages=num_stages,
            num_microbatches=num_microbatches,
            num_chunks=num_chunks,
            chunk_order=schedule.chunk_order,
            forward=not scenario.spec.workload.has_backward,
        )


def check_network(scenario: Scenario, cluster: Cluster) -> None:
    """Refuse an all-reduce that the cluster cannot run, and SMs that leave its kernels none."""
    network = scenario.spec.network
    known = dict.fromkeys(protocol.algorithm for protocol in cluster.protocols)
    if network.all_reduce not in {"auto", *known}:
        raise InvalidValueError(
            "network.all_reduce",
            rule=f"be an algorithm that {cluster.name} can run",
            value=network.all_reduce,
            hint="NVLS needs an NVSwitch that reduces and GPUs that use it: write auto, ring, tree or hierarchical.",
        )
    if network.num_sms is not None and network.num_sms >= cluster.device.num_sms:
        raise InvalidValueError(
            "network.num_sms",
            rule=f"be below the {cluster.device.num_sms} SMs of {cluster.device.name}",
            value=network.num_sms,
            hint="Leave SMs to the kernels.",
        )


def placement_of(rule: PlacementRule, *, num_experts: int, num_ranks: int) -> PlacementRule:
    """Return how experts are placed, with the number of replicas that slots tell where they are listed."""
    replicas = rule.num_slots(num_experts, num_ranks) - num_experts
    if rule.replicas not in {0, replicas}:
        raise InvalidValueError(
            "placement.replicas",
            rule=f"agree with the {replicas} replicas among the slots of placement.experts",
            value=rule.replicas,
            hint="Leave replicas out: the slots tell their number.",
        )
    return replace(rule, replicas=replicas)
