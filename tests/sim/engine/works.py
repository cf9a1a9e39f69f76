"""Small models on small clusters: what the engine's tests plan and run."""

from dataclasses import replace
from functools import cache

from sim.build.work import Work
from sim.plan.costs import Costs
from sim.plan.expert_router import ExpertRouter, RoutedLayer
from sim.plan.ops import LanePosition
from topology.cluster import Cluster, build_cluster
from topology.presets.clusters import FABRICS
from topology.presets.devices import DEVICES
from workloads.collectives.settings import NetworkSettings
from workloads.memory import Recompute
from workloads.mesh import build_mesh
from workloads.model import ModelSpec
from workloads.routing.settings import RoutingSettings
from workloads.schedules import SCHEDULES
from workloads.strategy import Strategy
from workloads.workload_kind import WORKLOAD_KINDS

GPUS_PER_NODE = 8
_NESTED = {
    "network": (NetworkSettings, {key: key for key in ("fidelity", "all_reduce", "all_to_all", "num_sms")}),
    "routing": (
        RoutingSettings,
        {"routing": "kind"} | {key: key for key in ("skew", "capacity_factor", "overflow", "max_nodes_per_token")},
    ),
    "recompute": (Recompute, {"recompute": "kind", "recompute_modules": "modules"}),
}


@cache
def make_cluster(num_gpus: int) -> Cluster:
    """Nodes of eight H100."""
    return build_cluster(FABRICS["dgx-h100"], -(-num_gpus // GPUS_PER_NODE), DEVICES["h100-sxm"])


@cache
def make_plain_cluster(num_gpus: int) -> Cluster:
    """Nodes of eight H100 of whose links no more is known than their own figures: no protocols."""
    fabric = replace(FABRICS["dgx-h100"], inside=None, between=None)
    return build_cluster(fabric, -(-num_gpus // GPUS_PER_NODE), DEVICES["h100-sxm"])


def make_model(
    *, layers: int = 4, experts: int = 16, top_k: int = 2, hidden: int = 256, dense_layers: int = 0
) -> ModelSpec:
    """Return a model small enough that kernels take microseconds; `experts` = 0 is dense."""
    return ModelSpec(
        layers=layers,
        hidden=hidden,
        heads=16,
        kv_heads=16,
        head_dim=hidden // 16,
        ffn=2 * hidden,
        dense_ffn=4 * hidden,
        experts=experts,
        top_k=top_k if experts else 0,
        dense_layers=dense_layers,
        vocab=1024,
    )


def make_work(
    strategy: str,
    convention: str,
    *,
    num_gpus: int = 16,
    model: ModelSpec | None = None,
    sp: bool | None = None,
    **changes: object,
) -> Work:
    """Lay a small model out on a cluster: 4 microbatches of a few thousand tokens."""
    model = make_model() if model is None else model
    mesh = build_mesh(replace(Strategy.parse(strategy), sp=sp), convention, num_gpus=num_gpus)
    parts = SCHEDULES[str(changes.get("schedule", "1f1b"))].layout_on(mesh.num_stages, mesh.strategy.vpp)
    settings = {
        "kind": "forward",
        "batches": 1,
        "sequences": 32,
        "sequence_length": 512,
        "microbatches": 4,
        "schedule": "1f1b",
        "chunk_layers": tuple(model.spread_layers(parts.num_model_chunks) or ()),
    }
    fields = _as_fields(settings | changes, {name: kind() for name, (kind, _) in _NESTED.items()})
    return Work(cluster=make_cluster(num_gpus), model=model, mesh=mesh, **fields)


def change(work: Work, **changes: object) -> Work:
    """Return a work with other fields, named as for `make_work`."""
    return replace(work, **_as_fields(changes, {name: getattr(work, name) for name in _NESTED}))


def route(work: Work, *, layer: int = 0, microbatch: int = 0, costs: Costs | None = None) -> RoutedLayer:
    """Return the routing of a layer on the first lane of the first stage."""
    costs = Costs(work.cluster, dtype="bf16") if costs is None else costs
    return ExpertRouter(work, costs).route(LanePosition(0, 0), layer, microbatch)


def _as_fields(changes: dict[str, object], given: dict[str, object]) -> dict[str, object]:
    """Return fields of a work, those of its network, routing and recomputation put into `given` ones."""
    changes = dict(changes)
    for name, (_, keys) in _NESTED.items():
        inner = {field: changes.pop(key) for key, field in keys.items() if key in changes}
        if inner:
            changes[name] = replace(given[name], **inner)
    if isinstance(changes.get("kind"), str):
        changes["kind"] = WORKLOAD_KINDS[changes["kind"]]
    return changes
