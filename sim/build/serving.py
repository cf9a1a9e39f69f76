"""A scenario of kind serving becomes work: cluster, model, mesh, requests, limits, and measured times of layers."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sim.build.assumptions import Assumption
from sim.build.build import placement_of
from sim.build.cluster import cluster_of
from sim.build.device_profile import profile_of, why_profile
from sim.build.exchange_overlap import network_of
from sim.build.layout import mesh_of, model_of, pipeline_layout_of
from sim.build.routing import check_node_limit, routing_of
from sim.build.runtime import formats_of, fusions_of, runtime_of
from sim.build.served_checks import check_served_experts, check_served_split, check_served_strategy, check_server
from sim.build.served_requests import CLOSED_LOOPS, check_requests, requests_of
from sim.errors import InvalidValueError
from sim.scenario.recordings.arrays import Shape
from sim.scenario.recordings.step_times import read_step_times
from sim.scenario.scenario import Scenario
from sim.scenario.serving_section import ServingWorkload
from topology.cluster import Cluster
from topology.profiles import DeviceProfile
from topology.uncertainty import MODEL_ITSELF, Factors
from workloads.collectives.settings import NetworkSettings
from workloads.conventions import CONVENTIONS, get_convention
from workloads.memory import StageParameters, forward_working_bytes, params_per_rank, stage_parameters_in_order
from workloads.memory.reserved import CONTEXT_BYTES
from workloads.mesh import Mesh
from workloads.model import ModelSpec
from workloads.placement import PlacementRule
from workloads.routing.settings import RoutingSettings
from workloads.schedules import schedule_kind_of
from workloads.serving.requests import Request
from workloads.serving.server import ServerLimits, default_limits

__all__ = ["LayerTimes", "ServingWork", "build_serving"]

_DENSE: Final = ("layer", "tokens", "time_us")
_ATTENTION: Final = ("prefill_chunk", "kv_prefill", "n_decode", "kv_decode", "time_us")
_MOE: Final = ("tokens", "activated_experts", "time_us")
_SAME: Final = (
    "policy",
    "role",
    "gpu_memory_utilization",
    "kv_blocks",
    "kv_cache_dtype",
    "prefix_caching",
    "long_prefill_token_threshold",
    "max_prefill_tokens",
    "schedule_conservativeness",
    "clip_max_new_tokens",
    "balancer",
    "receive_interval",
    "routing_steps",
    "cuda_graph_sizes",
)
"""Keys of the server that are fields of its limits."""
_SHOWN: Final = ("gpu_memory_utilization", "prefix_caching", "balancer", "balancer_interval")
"""Keys of the server whose defaults are those of a framework."""
_FP8_RECIPE: Final = "blockwise"
"""Recipe by which products in fp8 are priced where none is given.

aiconfigurator has tensorwise products of TensorRT-LLM with a cast of the input: [16, 2048] x [2048, 2048] takes 13.8 us
on an H200, and 6.9 us with scales of blocks; SGLang's tensorwise products on an H100 take what those of blocks take.
"""
_PER_SEQUENCE: Final = ("layer", "sequences", "time_us")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerTimes:
    """Measured times of layers, rows of numbers as `workload.layer_times` names their columns; times in us."""

    dense: dict[str, NDArray[np.float64]]
    """Tokens and time of each layer by name. Shape [N, 2]."""
    per_sequence: dict[str, NDArray[np.float64]]
    """Sequences and time of output head and sampler. Shape [N, 2]."""
    attention: NDArray[np.float64]
    """Chunk, its context, decodes, their context, time. Shape [N, 5]."""
    moe: NDArray[np.float64] | None
    """Tokens, activated experts, time. Shape [N, 3]."""
    link_bytes_per_s: float | None
    """Bandwidth of the exchange of tokens; None: the cluster prices it."""
    link_latency_s: float
    """Time of an exchange before the first byte."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ServingWork:
    """A model on a cluster that serves requests."""

    cluster: Cluster
    model: ModelSpec
    mesh: Mesh
    requests: tuple[Request, ...]
    """Requests in the order of their arrival."""
    concurrency: int | None
    """Requests in the system at any time (closed loop); None: requests come at their times."""
    num_warmup: int
    """Requests, the first, that metrics of requests leave out."""
    count_every: int
    """One of so many requests counts in metrics of requests."""
    limits: ServerLimits
    """Limits of the server; `kv_blocks` is given."""
    stage_layers: tuple[int, ...]
    """Layers of each stage."""
    routing: RoutingSettings
    """Which experts tokens are sent to."""
    placement: PlacementRule
    """Which rank holds which expert."""
    network: NetworkSettings
    """How transfers are simulated."""
    profile: DeviceProfile | None
    """Measured kernels of the device."""
    factors: Factors = MODEL_ITSELF
    """What times of kernels and transfers are multiplied by."""
    layer_times: LayerTimes | None = None
    """Measured times of layers, in place of kernels; None: kernels are priced."""
    simulates_all: bool = False
    """Whether every collective of every step is simulated."""
    slo_s: dict[str, float] = field(default_factory=dict)
    """Most `ttft`, `tpot` and `latency` that users are promised."""
    seed: int = 1
    assumptions: list[Assumption] = field(default_factory=list)
    """Facts filled in."""
    warnings: list[str] = field(default_factory=list)
    """What the user should know."""

    @property
    def ranks_meet(self) -> bool:
        """Whether data-parallel ranks exchange tokens with experts, and so step together."""
        s = self.mesh.strategy
        return self.model.experts > 0 and self.mesh.dp > 1 and s.ep * s.etp > s.tp

    @property
    def num_groups(self) -> int:
        """Groups of ranks that step together."""
        return 1 if self.ranks_meet else self.mesh.dp

    @property
    def ranks_per_group(self) -> int:
        """Data-parallel ranks of a group."""
        return self.mesh.dp if self.ranks_meet else 1


def build_serving(scenario: Scenario) -> ServingWork:
    """Return the work of a scenario of kind serving.

    Raises
    ------
    InvalidValueError
        With the place in the file, where parts do not go together, no KV block is left, or a prompt is longer than the
        cache.
    """
    with scenario.located_errors():
        return _build(scenario)


# ---- private -----------------------------------------------------------------------------------------------------


def _build(scenario: Scenario) -> ServingWork:
    spec, workload = scenario.spec, scenario.spec.workload
    if not isinstance(workload, ServingWorkload):
        raise TypeError("serving is built from a scenario of kind serving")
    assumptions: list[Assumption] = []
    given, scenario = scenario, _under_serving_convention(scenario, assumptions)
    cluster, model = cluster_of(scenario), model_of(scenario)
    if model.dtype == "fp8" and not scenario.is_given("runtime.fp8_recipe"):
        why = "serving casts inside of other kernels; tensorwise products were measured with a cast of their own"
        assumptions.append(Assumption("runtime.fp8_recipe", _FP8_RECIPE, why))
        scenario = scenario.without_judgement().variant({"runtime.fp8_recipe": _FP8_RECIPE})
    formats = formats_of(scenario, model, cluster.device, trains=False)
    model = replace(model, formats=formats, fusions=fusions_of(scenario, model, trains=False))
    cluster.device.peak_flops_per_s(model.base_dtype)
    mesh = mesh_of(scenario, cluster, model)
    check_node_limit(scenario, cluster, mesh.ep_groups(0), experts=model.experts, top_k=model.top_k)
    check_served_strategy(scenario, mesh)
    check_server(workload.server, model, mesh, has_tables=workload.layer_times is not None)
    placement = placement_of(spec.placement, num_experts=model.experts, num_ranks=mesh.strategy.ep)
    layout = pipeline_layout_of(
        scenario, model, mesh, schedule_kind_of("gpipe").layout_on(mesh.num_stages, mesh.strategy.vpp)
    )
    check_served_split(model, mesh, layout.layers, placement.replicas)
    limits = _limits(given, workload, cluster, mesh.num_stages, assumptions)
    if limits.kv_blocks is None:
        blocks = _kv_blocks(model, mesh, cluster, limits, _stages(model, layout.layers, limits, placement))
        limits = replace(limits, kv_blocks=blocks)
        why = "what weights, activations and context leave of the memory, least of the ranks"
        assumptions.append(Assumption("workload.server.kv_blocks", blocks, why))
    requests = requests_of(given, workload.requests, spec.seed)
    check_requests(requests, limits)
    if workload.requests.count is None and workload.requests.trace is None:
        why = f"{CLOSED_LOOPS} times the concurrency, as InferenceX sends"
        assumptions.append(Assumption("workload.requests.count", len(requests), why))
    profile = profile_of(given, cluster.device)
    if spec.profile is None and workload.layer_times is None:
        assumptions.append(Assumption("profile", *why_profile(profile, cluster.device)))
    expert_layers = tuple(filter(model.is_moe_layer, range(model.num_all_layers)))
    shape = Shape(num_experts=model.experts, top_k=model.top_k, num_layers=len(expert_layers))
    routing = routing_of(given, cluster, mesh.ep_groups(0)[0], shape=shape, expert_layers=expert_layers)
    check_served_experts(placement, routing, cluster, model, mesh)
    return ServingWork(
        cluster=cluster,
        model=model,
        mesh=mesh,
        requests=requests,
        concurrency=workload.requests.concurrency,
        num_warmup=workload.requests.warmup,
        count_every=workload.requests.count_every,
        limits=limits,
        stage_layers=tuple(layout.layers),
        routing=routing,
        placement=placement,
        network=network_of(given, runtime_of(given)),
        profile=profile,
        factors=spec.factors.of_kernels_and_links,
        layer_times=_layer_times(given, workload, model),
        simulates_all=workload.server.step_times == "full",
        slo_s={} if workload.slo is None else {k: v for k, v in workload.slo.model_dump().items() if v is not None},
        seed=spec.seed,
        assumptions=assumptions,
        warnings=list(cluster.warnings),
    )


def _under_serving_convention(scenario: Scenario, assumptions: list[Assumption]) -> Scenario:
    """Return the scenario under the convention of serving frameworks, which experts need."""
    serving = [name for name, convention in CONVENTIONS.items() if convention.serves_requests]
    if not scenario.is_given("parallel.convention"):
        assumptions.append(Assumption("parallel.convention", serving[0], "experts lie as vLLM and SGLang lay them"))
        return scenario.without_judgement().variant({"parallel.convention": serving[0]})
    convention = scenario.spec.parallel.convention
    if not get_convention(convention).serves_requests:
        rule = f"be {' or '.join(serving)} with workload.kind serving"
        hint = f"Write convention: {serving[0]}, or leave it out."
        raise InvalidValueError("parallel.convention", rule, convention, hint)
    return scenario


def _limits(
    scenario: Scenario, workload: ServingWorkload, cluster: Cluster, num_stages: int, assumptions: list[Assumption]
) -> ServerLimits:
    """Return the limits of the server, with the defaults of its framework."""
    server, is_sglang = workload.server, workload.server.policy == "sglang"
    tokens, seqs = default_limits(memory_bytes=cluster.device.memory_bytes, device=cluster.device.name)
    filled: dict[str, int | str] = {
        "max_num_batched_tokens": 8192 if is_sglang else tokens,
        "max_num_seqs": seqs,
        "block_size": 1 if is_sglang else 16,
        "exchange": "all_to_all" if scenario.is_given("network.all_to_all") else "all_gather",
    }
    whose = "SGLang 0.5" if is_sglang else "vLLM 0.19"
    values = {key: getattr(server, key) for key in filled}
    for key, value in filled.items():
        if values[key] is None:
            values[key] = value
            assumptions.append(Assumption(f"workload.server.{key}", value, f"the default of {whose} on this device"))
    if values["max_num_batched_tokens"] < values["max_num_seqs"] and server.max_num_seqs is None:
        values["max_num_seqs"] = values["max_num_batched_tokens"]
    shown = {key: getattr(server, key) for key in _SHOWN} | {"async_scheduling": server.async_scheduling is not False}
    times = {"host_time": "0 s", "request_time": "0 s"}
    reasons = {
        "host_time": "schedules the next step while the GPUs work",
        "request_time": "HTTP, template and tokeniser take time on no GPU, and it is not known",
    }
    for key, value in {**shown, **times}.items():
        if not scenario.is_given(f"workload.server.{key}"):
            why = reasons.get(key, f"the default of {whose}")
            assumptions.append(Assumption(f"workload.server.{key}", value, why))
    speculation, overlap = server.speculation, server.two_batch_overlap
    return ServerLimits(
        **values,
        **{key: getattr(server, key) for key in _SAME},
        async_scheduling=server.async_scheduling is not False and num_stages == 1,
        num_drafts=0 if speculation is None else speculation.num_tokens,
        acceptance_length=1.0 if speculation is None else speculation.acceptance_length,
        draft_layers=0 if speculation is None else speculation.layers,
        two_batch_overlap=None if overlap is None else (overlap.decode_tokens, overlap.prefill_tokens),
        balancer_interval_s=server.balancer_interval,
        host_s=server.host_time or 0.0,
        request_s=server.request_time or 0.0,
    )


def _stages(
    model: ModelSpec, stage_layers: Sequence[int], limits: ServerLimits, placement: PlacementRule
) -> list[StageParameters]:
    """Return what each stage holds: layers, replicas of experts, and the draft model on the last one."""
    stages = [replace(stage, expert_replicas=placement.replicas) for stage in stage_parameters_in_order(stage_layers)]
    drafts = [model.layers - 1] * limits.draft_layers
    return [*stages[:-1], replace(stages[-1], layers=[*stages[-1].layers, *drafts])]


def _kv_blocks(
    model: ModelSpec, mesh: Mesh, cluster: Cluster, limits: ServerLimits, stages: Sequence[StageParameters]
) -> int:
    """Return the blocks for which memory has room after all else, least of the stages."""
    tp = mesh.strategy.tp
    found = []
    for stage in stages:
        weights = sum(params_per_rank(model, mesh, stage)) * model.weight_bytes
        working = forward_working_bytes(model, mesh, limits.max_num_batched_tokens)
        logits = limits.max_num_seqs * model.padded_vocab(tp) / tp * model.logit_bytes if stage.has_head else 0.0
        left = limits.gpu_memory_utilization * cluster.device.memory_bytes - CONTEXT_BYTES - weights - working - logits
        of_block = limits.block_size * limits.kv_share * _kv_bytes_per_token(model, stage, tp)
        if left < of_block:
            raise InvalidValueError(
                "workload.server.gpu_memory_utilization",
                rule="leave memory for a KV block",
                value=f"{limits.gpu_memory_utilization:g}: {weights / 1e9:.1f} GB of weights and "
                f"{(working + logits) / 1e9:.1f} GB of activations on {cluster.device.memory_bytes / 1e9:.1f} GB",
                hint="Use more ranks for the weights, or a smaller type.",
            )
        found.append(int(left // of_block))
    return min(found)


def _kv_bytes_per_token(model: ModelSpec, stage: StageParameters, tp: int) -> float:
    """Return the bytes that a token leaves on a rank, in all layers of a stage; a window saves no block."""
    return sum(
        count * layer.attention.kv_cache_bytes_per_token / layer.attention.num_kv_shards(tp)
        for layer, count in model.layer_kinds(stage.layers)
        if layer.attention is not None
    )


def _layer_times(scenario: Scenario, workload: ServingWorkload, model: ModelSpec) -> LayerTimes | None:
    section = workload.layer_times
    if section is None:
        return None
    if workload.server.step_times == "full":
        rule, hint = "be classes with workload.layer_times", "Remove it: tables have no collectives to simulate."
        raise InvalidValueError("workload.server.step_times", rule, "full", hint)
    if model.experts and section.moe is None:
        raise InvalidValueError("workload.layer_times.moe", "be given for a model with experts", "nothing", "Add moe.")

    def read(key: str, columns: tuple[str, ...]) -> tuple[list[str], NDArray[np.float64]]:
        field_name = f"workload.layer_times.{key}"
        return read_step_times(scenario.file_beside(field_name, getattr(section, key)), field_name, columns)

    def by_layer(key: str, columns: tuple[str, ...]) -> dict[str, NDArray[np.float64]]:
        layers, rows = read(key, columns)
        names = np.array(layers)
        return {name: rows[names == name] for name in dict.fromkeys(layers)}

    return LayerTimes(
        dense=by_layer("dense", _DENSE),
        per_sequence=by_layer("per_sequence", _PER_SEQUENCE),
        attention=read("attention", _ATTENTION)[1],
        moe=None if section.moe is None else read("moe", _MOE)[1],
        link_bytes_per_s=section.link_bytes_per_s,
        link_latency_s=section.link_latency,
    )
