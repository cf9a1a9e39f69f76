"""Model, strategy, mesh and split of layers, as a scenario's sections give them together."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sim.build.runtime import with_attention_of
from sim.errors import InvalidValueError, Remedy
from sim.scenario.model_section import ModelSection
from sim.scenario.parallel_section import AXES
from sim.scenario.scenario import Scenario
from topology.cluster import Cluster
from workloads.context_parallel import CP_KINDS, DEFAULT_CP_KIND, ContextParallel
from workloads.conventions import CONVENTIONS, get_convention
from workloads.memory import Fsdp
from workloads.mesh import Mesh, build_mesh
from workloads.model import ModelSpec
from workloads.pipeline_layout import PipelineLayout, parse_layout
from workloads.presets import get_model
from workloads.schedules import ChunkLayout
from workloads.schedules.registry import schedule_kind_of
from workloads.strategy import Strategy

if TYPE_CHECKING:
    from sim.scenario.hf_config import TakenValue

__all__ = [
    "context_of",
    "fsdp_of",
    "mesh_of",
    "model_of",
    "pipeline_layout_of",
    "spread_over",
    "strategy_of",
    "taken_from_hf_config",
]

_MOST_SHOWN = 64  # stages of an example


def model_of(scenario: Scenario) -> ModelSpec:
    """Return the model: a preset or a file with fields that differ, or all fields one by one."""
    section = scenario.spec.model
    if section is None:
        raise InvalidValueError("model", rule="be given", value="nothing", hint="Add a section `model:`.")
    return with_attention_of(scenario, _model_of_section(scenario, section))


def _model_of_section(scenario: Scenario, section: ModelSection) -> ModelSpec:
    given = section.given()
    if section.hf_config is not None:
        return _model_of_hf_config(scenario, section.hf_config, given)
    if section.preset is not None:
        return replace(get_model(section.preset), **given)
    return ModelSpec(**given)


def taken_from_hf_config(scenario: Scenario) -> "tuple[TakenValue, ...]":
    """Return what had to be chosen where `model.hf_config` leaves something open; fields of the scenario are given."""
    file = scenario.spec.model.hf_config if scenario.spec.model else None
    if file is None:
        return ()
    from sim.scenario.hf_config import read_hf_config  # noqa: PLC0415  # few scenarios name such a file

    taken = read_hf_config(scenario.file_beside("model.hf_config", file)).taken
    return tuple(value for value in taken if value.key == "model.hf_config" or not scenario.is_given(value.key))


def _model_of_hf_config(scenario: Scenario, file: str, given: Mapping[str, Any]) -> ModelSpec:
    """Return the model of a file in the scenario's folder; an error about a field of the file names the file."""
    from sim.scenario.hf_config import read_hf_config  # noqa: PLC0415  # few scenarios name such a file

    path = scenario.file_beside("model.hf_config", file)
    hf = read_hf_config(path)
    try:
        return ModelSpec(**{**hf.fields, **given})
    except InvalidValueError as error:
        field = error.field.removeprefix("model.")
        key = None if field in given else hf.origins.get(field)
        raise error if key is None else error.at(field=f"{key} ({error.field})", file=str(path)) from None


def strategy_of(scenario: Scenario) -> Strategy:
    """Return the strategy; its name and the axes that are given one by one must agree.

    With a layout and a schedule of any number of chunks VPP follows from the stages of the layout, as in Megatron-LM.
    """
    strategy, spec = _given_strategy(scenario), scenario.spec
    if strategy.vpp == 1 and spec.parallel.layout is not None:
        vpp, rest = divmod(parse_layout(spec.parallel.layout).num_chunks, strategy.pp)
        if not rest and schedule_kind_of(spec.schedule.kind, spec.schedule.chunk_order).num_chunks is None:
            return replace(strategy, vpp=vpp)
    return strategy


def _given_strategy(scenario: Scenario) -> Strategy:
    parallel = scenario.spec.parallel
    given = {axis: getattr(parallel, axis) for axis in AXES if getattr(parallel, axis) is not None}
    if parallel.strategy is None:
        return Strategy(**given, sp=parallel.sp)
    named = Strategy.parse(parallel.strategy)
    named_axes = re.findall(r"[A-Z]+", parallel.strategy.upper())
    for axis, size in given.items():
        if axis.upper() in named_axes and getattr(named, axis) != size:
            raise InvalidValueError(
                f"parallel.{axis}",
                rule=f"agree with {axis.upper()}{getattr(named, axis)} in parallel.strategy {parallel.strategy}",
                value=size,
                hint="Drop one of the two.",
            )
    if named.sp and parallel.sp is False:
        raise InvalidValueError(
            "parallel.sp", rule="agree with SP in parallel.strategy", value=False, hint="Drop one of the two."
        )
    return replace(named, **given, sp=parallel.sp if parallel.sp is not None else named.sp)


def mesh_of(scenario: Scenario, cluster: Cluster, model: ModelSpec) -> Mesh:
    """Lay the strategy out; a dense model has no experts to be read in several ways, and takes Megatron's mesh."""
    strategy, convention = strategy_of(scenario), get_convention(scenario.spec.parallel.convention)
    dense = convention if model.experts else convention.for_dense_model()
    if dense is None:
        known = [name for name, other in CONVENTIONS.items() if other.for_dense_model() is not None]
        raise InvalidValueError(
            "parallel.convention",
            rule=f"be {' or '.join(known)} for a dense model",
            value=convention.name,
            hint=f"Only experts can lie on all stages: use convention: {known[0]}.",
        )
    if dense != convention:
        strategy = replace(strategy, sp=convention.sp_of(strategy))
    return build_mesh(
        strategy,
        dense.name,
        num_gpus=cluster.num_gpus,
        gpus_per_node=cluster.gpus_per_node,
        rank_order=tuple(scenario.spec.parallel.rank_order),
    )


def context_of(scenario: Scenario, cluster: Cluster, model: ModelSpec, mesh: Mesh) -> ContextParallel:
    """Return how CP ranks compute attention together.

    The inner groups of a kind of two levels have as many ranks as `parallel.cp_sizes` says, or else as a node has that
    can share the heads.
    """
    parallel, s = scenario.spec.parallel, mesh.strategy
    kind = parallel.cp_kind or DEFAULT_CP_KIND
    if not CP_KINDS[kind].has_two_levels:
        if parallel.cp_sizes is not None:
            known = [name for name, rules in CP_KINDS.items() if rules.has_two_levels]
            rule, hint = f"be left out with cp_kind {kind}", f"Remove it, or use cp_kind: {known[0]}."
            raise InvalidValueError("parallel.cp_sizes", rule, list(parallel.cp_sizes), hint)
        return ContextParallel(size=s.cp, kind=kind)
    if parallel.cp_sizes is not None:
        if math.prod(parallel.cp_sizes) != s.cp:
            rule, hint = f"have the product CP = {s.cp}", "Write two sizes whose product is CP."
            raise InvalidValueError("parallel.cp_sizes", rule, list(parallel.cp_sizes), hint)
        return ContextParallel(size=s.cp, kind=kind, inner=parallel.cp_sizes[0])
    mixers = [layer.attention for layer, _ in model.layer_kinds(range(model.layers)) if layer.attention is not None]
    fitting = [
        inner
        for inner in range(1, s.cp + 1)
        if s.cp % inner == 0
        and inner * s.tp <= max(s.tp, cluster.gpus_per_node)
        and all(mixer.why_not_split_over_context(s.tp, inner) is None for mixer in mixers)
    ]
    return ContextParallel(size=s.cp, kind=kind, inner=max(fitting, default=1))


def spread_over(layers: Sequence[int], before: ChunkLayout, after: ChunkLayout) -> list[int]:
    """Return the layers of each model chunk under a new layout, from a split that was made for another layout.

    Stages keep their totals.

    A stage's layers are divided evenly over its chunks. What does not divide goes to its earlier chunks, on the first
    stage to its later ones, so that the chunks next to embedding and head are the lighter ones.

    Parameters
    ----------
    layers
        Layers of each model chunk under the layout `before`, in the model's order.
    before, after
        The two layouts of model chunks, on as many stages.

    Examples
    --------
    >>> row = ChunkLayout(kind="row", num_stages=4)
    >>> spread_over([2, 3, 3, 2], row, ChunkLayout(kind="round_robin", num_stages=4, num_chunks=3))
    [0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0]
    >>> spread_over([2, 3, 3, 2], row, ChunkLayout(kind="vee", num_stages=4, num_chunks=2))
    [1, 2, 2, 1, 1, 1, 1, 1]
    """
    chunks_before, chunks_after = _chunks_of_one_copy(before), _chunks_of_one_copy(after)
    divided = [0] * after.num_model_chunks
    for stage in range(after.num_stages):
        total = sum(layers[before.model_chunk_of(stage, chunk)] for chunk in chunks_before)
        every, rest = divmod(total, len(chunks_after))
        shares = [every + (chunk < rest) for chunk in chunks_after]
        for chunk, share in zip(chunks_after, shares[::-1] if stage == 0 else shares, strict=True):
            divided[after.model_chunk_of(stage, chunk)] = share
    return divided


def _chunks_of_one_copy(layout: ChunkLayout) -> range:
    return range(1 if layout.num_copies == 2 else layout.num_chunks)


def fsdp_of(scenario: Scenario, cluster: Cluster, mesh: Mesh) -> Fsdp | None:
    """Return how FSDP splits the states; None without FSDP. Hybrid FSDP splits them inside of nodes by default."""
    parallel = scenario.spec.parallel
    if parallel.fsdp == "none":
        return None
    groups, expert_groups = mesh.dp_groups(0), mesh.expert_dp_groups(0)
    num_replicas, shards = groups.shape[1], groups.shape[1]
    if parallel.fsdp == "hybrid":
        nodes = cluster.node_of(groups[0])
        shards = parallel.fsdp_shards or int((nodes == nodes[0]).sum())
        if num_replicas % shards:
            sizes = [n for n in range(1, num_replicas + 1) if num_replicas % n == 0]
            raise InvalidValueError(
                "parallel.fsdp_shards",
                rule=f"divide the {num_replicas} replicas of a rank's dense parameters",
                value=shards,
                hint=f"Choose among {', '.join(map(str, sizes))}.",
            )
    num_instances = num_replicas // shards
    num_expert_replicas = expert_groups.shape[1]
    if num_expert_replicas > 1 and num_expert_replicas % num_instances:
        raise InvalidValueError(
            "parallel.fsdp_shards",
            rule=f"give {num_replicas} / shards instances that divide the {num_expert_replicas} replicas of experts",
            value=shards,
            hint="Use more shards, or parallel.fsdp: full.",
        )
    return Fsdp(
        num_instances=num_instances,
        reshards_after_forward=parallel.fsdp_reshard_after_forward,
        reduces_every_microbatch=parallel.fsdp_reduce_every_microbatch,
    )


def pipeline_layout_of(scenario: Scenario, model: ModelSpec, mesh: Mesh, parts: ChunkLayout) -> PipelineLayout:
    """Return what each model chunk holds: as `parallel.layout` or `stage_layers` says, or equally many layers."""
    if scenario.spec.parallel.layout is not None:
        return _given_layout(scenario.spec.parallel.layout, model, mesh, parts)
    last = parts.num_model_chunks - 1
    return PipelineLayout(
        layers=_layers_of_chunks(scenario, model, mesh, parts),
        embedding_chunk=0,
        head_chunk=last,
        num_mtp_layers=model.num_nextn_predict_layers,
        mtp_chunk=last,
    )


def _given_layout(text: str, model: ModelSpec, mesh: Mesh, parts: ChunkLayout) -> PipelineLayout:
    """Return what a layout string says, which must be of this model and pipeline."""
    layout, num_chunks = parse_layout(text), parts.num_model_chunks
    for rule, given, hint in (
        (
            f"have {num_chunks} stages, one for each {'stage' if num_chunks == mesh.num_stages else 'model chunk'}, "
            f"separated by |",
            (layout.num_chunks, num_chunks),
            "An interleaved schedule has PP x VPP of them, every other schedule one or two for each stage.",
        ),
        (f"place model.layers = {model.layers} layers t", (sum(layout.layers), model.layers), "Change the numbers."),
        (
            f"place model.num_nextn_predict_layers = {model.num_nextn_predict_layers} MTP layers m",
            (layout.num_mtp_layers, model.num_nextn_predict_layers),
            "Write one m for each, or change model.num_nextn_predict_layers.",
        ),
    ):
        if given[0] != given[1]:
            raise InvalidValueError("parallel.layout", rule=rule, value=f"{given[0]} in {text}", hint=hint)
    return layout


def _layers_of_chunks(scenario: Scenario, model: ModelSpec, mesh: Mesh, parts: ChunkLayout) -> tuple[int, ...]:
    """Return the layers of each part of the model, in its order: of stages or, where these hold several, of chunks."""
    given, num_model_chunks = scenario.spec.parallel.stage_layers, parts.num_model_chunks
    if given is not None:
        return tuple(given)
    split = model.spread_layers(num_model_chunks)
    if split is None:
        every, rest = divmod(model.layers, num_model_chunks)
        example = [every + (i < rest) for i in range(num_model_chunks)]
        raise InvalidValueError(
            "parallel.stage_layers",
            rule=f"be given where {model.layers} layers do not divide by PP{mesh.num_stages}"
            + (f" x {parts.num_chunks} chunks" if parts.num_model_chunks > mesh.num_stages else ""),
            value="nothing",
            hint="Give the layers of each stage.",
        ).with_remedies(
            [Remedy({"parallel.stage_layers": example}, str(example))] if len(example) <= _MOST_SHOWN else [],
            lead="Give for example",
        )
    return tuple(split)
