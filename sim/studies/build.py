"""A scenario becomes work: cluster, model, mesh and workload, with the checks that need more than one section.

What the scenario leaves open is filled in here and noted as an assumption, with its reason.
"""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from sim.engine.plan.passes import PassesPlan
from sim.engine.plan.placed import try_routing
from sim.engine.plan.transfer_sms import TransferSms
from sim.engine.plan.work import Work
from sim.errors import InputError
from sim.scenario.cluster_section import NetworkSpec
from sim.scenario.parallel_section import PlacementSpec
from sim.scenario.scenario import Scenario
from sim.scenario.workload_section import CollectiveWorkload, ForwardWorkload, PassesWorkload, TrainingWorkload
from sim.studies.build_cluster import cluster_of
from sim.studies.build_routing import skew_of
from sim.studies.node_limit import check_node_limit
from sim.studies.own_order import read_own_order
from topology.cluster import Cluster
from topology.errors import TopologyError
from topology.presets.clusters import get_cluster_preset
from topology.presets.protocols import FITTED, protocols_of
from workloads.errors import WorkloadError
from workloads.memory import MEGATRON_PRECISION, Precision
from workloads.mesh import CONVENTIONS, Mesh, build_mesh, why_illegal
from workloads.model import ModelSpec
from workloads.placement.rule import PlacementRule
from workloads.presets import get_model
from workloads.strategy import Strategy

__all__ = [
    "Assumption",
    "Built",
    "build",
    "build_passes",
    "build_scenario_cluster",
    "check_network",
    "exchange_sms",
    "placing",
    "suit_rival",
]

DEEPSEEK_SMS = 20
"""SMs of the all-to-alls of DeepSeek-V3 (technical report, 2024, section 3.2.2)."""
_AXES = ("tp", "pp", "ep", "etp", "dp", "cp", "vpp")
_MOST_SHOWN = 64  # stages of an example
_SUBJECT_PATHS = {
    "strategy": "parallel.strategy",
    "cluster": "cluster.preset",
    "device": "cluster.device.preset",
    "routing": "routing.kind",
    "placement": "placement.kind",
    "schedule": "schedule.kind",
}


class Assumption(NamedTuple):
    """A fact that the scenario does not give."""

    key: str
    """Key that would give it."""
    value: object
    """What was taken."""
    why: str
    """Why."""


@dataclass(frozen=True, kw_only=True)
class Built:
    """Work, and what had to be assumed or is worth a warning."""

    work: Work
    """The work."""
    assumptions: list[Assumption] = field(default_factory=list)
    """Facts filled in."""
    warnings: list[str] = field(default_factory=list)
    """What the user should know."""


def build(scenario: Scenario) -> Built:
    """Return the work of a scenario of kind forward or training.

    Raises
    ------
    InputError
        With the place in the file, where a preset is unknown, the mesh is illegal or parts do not go together.
    """
    with placing(scenario):
        return _build(scenario)


def build_scenario_cluster(scenario: Scenario) -> Cluster:
    """Return the cluster of a scenario.

    Raises
    ------
    InputError
        With the place in the file, where there is none or it cannot be.
    """
    with placing(scenario):
        return cluster_of(scenario)


def build_passes(scenario: Scenario) -> PassesPlan:
    """Return the plan of a scenario of kind passes."""
    workload = scenario.spec.workload
    if not isinstance(workload, PassesWorkload):
        raise TypeError("build_passes needs a scenario of kind passes")
    num_stages, held = scenario.spec.parallel.pp or 1, workload.held
    times = list(workload.pass_times) * (num_stages if len(workload.pass_times) == 1 else 1)
    num_chunks, own = scenario.spec.parallel.vpp or 1, None
    if scenario.spec.schedule.kind == "custom":
        own = read_own_order(
            scenario, num_stages=num_stages, num_microbatches=workload.microbatches, num_chunks=num_chunks
        )
    with placing(scenario):
        return PassesPlan(
            pass_times_s=[(t.F, t.B, t.W) for t in times],
            num_microbatches=workload.microbatches,
            p2p_s=workload.p2p,
            schedule=scenario.spec.schedule.kind,
            num_chunks=num_chunks,
            pair_s=[t.FB for t in times],
            weight_share=None if held is None else held.W / held.B,
            programme=own,
        )


def check_facts(scenario: Scenario) -> None:
    """Refuse presets that do not exist and a strategy that contradicts its axes; whether it is legal is a result.

    Raises
    ------
    InputError
        The first of these, with its place.
    """
    with placing(scenario):
        if scenario.spec.cluster is not None:
            cluster_of(scenario)
        if isinstance(scenario.spec.workload, CollectiveWorkload):
            return  # it has neither a whole model nor a strategy
        if scenario.spec.model is not None:
            _model(scenario)
        if scenario.spec.parallel is not None:
            _strategy(scenario)


def suit_rival(scenario: Scenario, position: int) -> tuple[Scenario, str]:
    """Return a rival as a scenario, and its name, with what a bare strategy name leaves open filled in.

    A rival that names a strategy and no convention takes the first convention under which it is legal; one that gives
    no microbatches takes as many as divide its sequences, at most the scenario's.
    """
    rival = scenario.spec.rivals[position]
    given = {"parallel.strategy": rival} if isinstance(rival, str) else dict(rival)
    varied = scenario.rival(position)
    changes: dict[str, object] = {}
    name = given.get("parallel.strategy")
    if name is None:
        return varied, ", ".join(f"{key}: {value}" for key, value in given.items())
    with placing(varied):
        cluster, strategy = cluster_of(varied), Strategy.parse(str(name))
    if "parallel.convention" not in given:
        sizes = {"num_gpus": cluster.num_gpus, "gpus_per_node": cluster.gpus_per_node}
        trains = isinstance(varied.spec.workload, TrainingWorkload)
        possible = [c for c in CONVENTIONS if not (trains and c == "vllm")]
        legal = [c for c in possible if why_illegal(strategy, c, **sizes) is None]
        changes["parallel.convention"] = legal[0] if legal else scenario.spec.parallel.convention
        if varied.spec.parallel.sp is not None and changes["parallel.convention"] != scenario.spec.parallel.convention:
            changes["parallel.sp"] = None
    varied = varied.variant({**given, **changes}, at=("rivals", position))
    workload = varied.spec.workload
    if "workload.microbatches" not in given and isinstance(workload, (ForwardWorkload, TrainingWorkload)):
        with placing(varied):
            dp = _mesh(varied, cluster, _model(varied)).dp
        if workload.sequences % dp == 0:
            per_replica = workload.sequences // dp
            changes["workload.microbatches"] = _largest_divisor(per_replica, at_most=workload.microbatches)
            varied = varied.variant({**given, **changes}, at=("rivals", position))
    shown = {key: value for key, value in given.items() if key != "parallel.strategy"}
    extra = "".join(
        f", {key.rpartition('.')[2]} {value}" for key, value in {**shown, **changes}.items() if value is not None
    )
    return varied, f"{name} ({extra[2:]})" if extra else str(name)


# ---- private -----------------------------------------------------------------------------------------------------


def _largest_divisor(number: int, *, at_most: int) -> int:
    """Return the largest divisor of a number that is no larger than `at_most`.

    >>> _largest_divisor(12, at_most=5), _largest_divisor(7, at_most=6)
    (4, 1)
    """
    small = [divisor for divisor in range(1, math.isqrt(number) + 1) if number % divisor == 0]
    return max(divisor for one in small for divisor in (one, number // one) if divisor <= at_most)


def _build(scenario: Scenario) -> Built:
    spec, workload = scenario.spec, scenario.spec.workload
    if not isinstance(workload, (ForwardWorkload, TrainingWorkload)):
        raise scenario.error_at(
            "workload.kind",
            rule="be forward or training here",
            value=workload.kind,
            cure="Use forward.",
        )
    cluster, model = cluster_of(scenario), _model(scenario)
    check_network(scenario, cluster)
    cluster.device.peak_flops_per_s(model.dtype)  # refuse a type that the device does not compute in
    mesh = _mesh(scenario, cluster, model)
    check_node_limit(scenario, cluster, mesh.ep_groups(0), experts=model.experts, top_k=model.top_k)
    work = Work(
        cluster=cluster,
        model=model,
        mesh=mesh,
        kind=workload.kind,
        batches=workload.batches if isinstance(workload, ForwardWorkload) else 1,
        sequences=workload.sequences,
        sequence_length=workload.sequence_length,
        microbatches=workload.microbatches,
        schedule=spec.schedule.kind,
        recompute=spec.schedule.recompute,
        recompute_modules=spec.schedule.recompute_modules or ("core_attn",),
        routing=spec.routing.kind,
        skew=skew_of(scenario, model.experts),
        capacity_factor=spec.routing.capacity_factor,
        overflow=spec.routing.overflow,
        placement=_placement(spec.placement),
        seed=spec.seed,
        all_reduce=spec.network.all_reduce,
        all_to_all=spec.network.all_to_all,
        max_nodes_per_token=spec.routing.max_nodes_per_token,
        exchange_sms=exchange_sms(spec.network),
        fidelity=spec.network.fidelity,
        exchange=spec.parallel.exchange,
        zero=spec.parallel.zero,
        precision=Precision(workload.gradient_dtype, workload.moment_dtype)
        if isinstance(workload, TrainingWorkload)
        else MEGATRON_PRECISION,
        **_layers(scenario, model, mesh),
    )
    try_routing(work)
    return Built(work=work, assumptions=_assumptions(scenario, work), warnings=_warnings(work))


def check_network(scenario: Scenario, cluster: Cluster) -> None:
    """Refuse an all-reduce that the cluster cannot run, and SMs that leave its kernels none."""
    network = scenario.spec.network
    known = dict.fromkeys(protocol.algorithm for protocol in protocols_of(cluster.inside, cluster.between))
    if network.all_reduce not in {"auto", *known}:
        raise scenario.error_at(
            "network.all_reduce",
            rule=f"be an algorithm that {cluster.name} can run",
            value=network.all_reduce,
            cure="Its switches do not reduce: write auto, ring, tree or hierarchical.",
        )
    if network.num_sms is not None and network.num_sms >= cluster.device.num_sms:
        raise scenario.error_at(
            "network.num_sms",
            rule=f"be below the {cluster.device.num_sms} SMs of {cluster.device.name}",
            value=network.num_sms,
            cure="Leave SMs to the kernels.",
        )


def exchange_sms(network: NetworkSpec) -> TransferSms | None:
    """Return the SMs of dispatch and combine: those given, or what DeepSeek-V3 gave its hierarchical exchange."""
    num_sms = network.num_sms or (DEEPSEEK_SMS if network.all_to_all == "hierarchical" else None)
    return None if num_sms is None else TransferSms(num_sms=num_sms, bytes_per_s=FITTED["DeepEP SM rate"].value)


def _placement(spec: PlacementSpec) -> PlacementRule:
    given = spec.model_dump(exclude_none=True)
    return PlacementRule(**given)


def _model(scenario: Scenario) -> ModelSpec:
    section = scenario.spec.model
    if section is None:
        raise scenario.error_at("model", rule="be given", value="nothing", cure="Add a section `model:`.")
    given = section.given()
    if section.preset is not None:
        return replace(get_model(section.preset), **given)  # type: ignore[arg-type]  # the section has the same fields
    given.setdefault("kv_heads", given["heads"])
    given.setdefault("head_dim", int(given["hidden"]) // int(given["heads"]))
    given.setdefault("dense_ffn", given["ffn"])
    return ModelSpec(**given)  # type: ignore[arg-type]  # the section has the same fields


def _strategy(scenario: Scenario) -> Strategy:
    parallel = scenario.spec.parallel
    given = {axis: getattr(parallel, axis) for axis in _AXES if getattr(parallel, axis) is not None}
    if parallel.strategy is None:
        return Strategy(**given, sp=parallel.sp)
    named = Strategy.parse(parallel.strategy)
    said = re.findall(r"[A-Z]+", parallel.strategy.upper())
    for axis, size in given.items():
        if axis.upper() in said and getattr(named, axis) != size:
            raise scenario.error_at(
                f"parallel.{axis}",
                rule=f"agree with {axis.upper()}{getattr(named, axis)} in parallel.strategy {parallel.strategy}",
                value=size,
                cure="Drop one of the two.",
            )
    if named.sp and parallel.sp is False:
        raise scenario.error_at(
            "parallel.sp", rule="agree with SP in parallel.strategy", value=False, cure="Drop one of the two."
        )
    return replace(named, **given, sp=parallel.sp if parallel.sp is not None else named.sp)


def _mesh(scenario: Scenario, cluster: Cluster, model: ModelSpec) -> Mesh:
    """Lay the strategy out; a dense model has no experts to be read in several ways, and takes Megatron's mesh."""
    strategy, convention = _strategy(scenario), scenario.spec.parallel.convention
    if not model.experts and convention == "spanning":
        raise scenario.error_at(
            "parallel.convention",
            rule="be megatron or vllm for a dense model",
            value=convention,
            cure="Only experts can lie on all stages: use convention: megatron.",
        )
    if not model.experts and convention == "vllm":
        convention = "megatron"
        strategy = replace(strategy, sp=bool(strategy.sp))
    return build_mesh(
        strategy,
        convention,
        num_gpus=cluster.num_gpus,
        gpus_per_node=cluster.gpus_per_node,
        rank_order=tuple(scenario.spec.parallel.rank_order),
    )


def _layers(scenario: Scenario, model: ModelSpec, mesh: Mesh) -> dict[str, tuple[int, ...]]:
    """Return the layers of stages and, where stages hold several, of chunks."""
    parts = _part_layers(scenario, model, mesh)
    if mesh.strategy.vpp == 1:
        return {"stage_layers": parts}
    by_stage = tuple(sum(parts[stage :: mesh.num_stages]) for stage in range(mesh.num_stages))
    return {"stage_layers": by_stage, "part_layers": parts}


def _part_layers(scenario: Scenario, model: ModelSpec, mesh: Mesh) -> tuple[int, ...]:
    given, num_parts = scenario.spec.parallel.stage_layers, mesh.num_stages * mesh.strategy.vpp
    if given is not None:
        return tuple(given)
    split = model.spread_layers(num_parts)
    if split is None:
        every, rest = divmod(model.layers, num_parts)
        example = [every + (i < rest) for i in range(num_parts)]
        raise scenario.error_at(
            "parallel.stage_layers",
            rule=f"be given where {model.layers} layers do not divide by PP{mesh.num_stages}"
            + (f" x VPP{mesh.strategy.vpp}" if mesh.strategy.vpp > 1 else ""),
            value="nothing",
            cure=f"Give for example {example}." if len(example) <= _MOST_SHOWN else "Give the layers of each stage.",
        )
    return tuple(split)


def _assumptions(scenario: Scenario, work: Work) -> list[Assumption]:
    spec, mesh = scenario.spec, work.mesh
    given = scenario.resolved()
    found = [Assumption(key, _look_up(given, key), why) for key, why in spec.assumed.items()]
    if not scenario.is_given("parallel.convention"):
        found.append(Assumption("parallel.convention", mesh.convention, "the most common reading of EP"))
    if spec.parallel.sp is None and work.mesh.strategy.tp > 1:
        found.append(Assumption("parallel.sp", mesh.sp, f"what the {mesh.convention} convention requires"))
    if not scenario.is_given("parallel.dp") and "DP" not in (spec.parallel.strategy or "").upper():
        found.append(Assumption("parallel.dp", mesh.dp, "what the other axes leave of the GPUs"))
    if mesh.world < work.cluster.num_gpus:
        idle = work.cluster.num_gpus - mesh.world
        found.append(
            Assumption(
                "cluster.num_nodes",
                spec.cluster.num_nodes if spec.cluster else 0,
                f"{idle} of {work.cluster.num_gpus} GPUs stay unused",
            )
        )
    for key, value, why in (
        ("routing.kind", work.routing, "every token chooses at random"),
        ("schedule.kind", work.schedule, "the usual schedule"),
        ("network.all_reduce", work.all_reduce, "NCCL's cheapest of ring, tree and NVLS"),
        ("model.dtype", work.model.dtype, "the usual training type"),
        ("model.gated", work.model.gated, "not said"),
    ):
        if not scenario.is_given(key) and not (key.startswith("model.") and scenario.is_given("model.preset")):
            found.append(Assumption(key, value, why))
    if work.kind == "forward":
        found.append(
            Assumption("workload.head", "last token of each sequence", "prefill computes the output head for it alone")
        )
    if (
        spec.cluster
        and spec.cluster.preset
        and spec.cluster.device.preset
        and spec.cluster.device.preset != get_cluster_preset(spec.cluster.preset).device
    ):
        why = f"sold in other machines: the fabric of {spec.cluster.preset} is taken all the same"
        found.append(Assumption("cluster.device.preset", spec.cluster.device.preset, why))
    return found


def _look_up(values: dict[str, Any], dotted: str) -> object:
    """Return the value at a dotted key, SI; None where the scenario leaves it out."""
    node: Any = values
    for part in dotted.split("."):
        node = node.get(part) if isinstance(node, dict) else None
    return node


def _warnings(work: Work) -> list[str]:
    mesh, per_node = work.mesh, work.cluster.gpus_per_node
    warnings = []
    for axis, group in (("TP", mesh.tp_groups(0)[0]), ("EP", mesh.ep_groups(0)[0])):
        num_nodes = len(set(work.cluster.node_of(group).tolist()))
        if num_nodes > 1:
            warnings.append(f"{axis}{group.size} leaves a node of {per_node} GPUs: its groups span {num_nodes} nodes.")
    return warnings


@contextmanager
def placing(scenario: Scenario) -> Iterator[None]:
    """Give what cluster and workload refuse its place in the scenario."""
    try:
        yield
    except (WorkloadError, TopologyError) as error:
        raise _placed(scenario, error) from None


def _placed(scenario: Scenario, error: WorkloadError | TopologyError) -> InputError:
    """Return the error with file and line."""
    path = error.field if "." in error.field else f"{error.subject}.{error.field}"
    subject = error.subject.split(" ")[0]
    if error.field in ("preset", "name", "kind") and subject in _SUBJECT_PATHS:
        path = _SUBJECT_PATHS[subject]
    elif subject == "cluster":
        path = f"cluster.{error.field}"
    elif subject == "device":
        path = "model.dtype" if error.field == "dtype" else f"cluster.device.{error.field}"
    return scenario.error_at(path, rule=error.rule, value=error.value, cure=error.cure)
