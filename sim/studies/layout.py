"""Model, strategy, mesh and split of layers, as a scenario's sections give them together."""

import re
from collections.abc import Sequence
from dataclasses import replace

from sim.scenario.scenario import Scenario
from topology.cluster import Cluster
from workloads.mesh import Mesh, build_mesh
from workloads.model import ModelSpec
from workloads.presets import get_model
from workloads.strategy import Strategy

__all__ = ["divide_over_chunks", "layers_of", "mesh_of", "model_of", "strategy_of"]

_AXES = ("tp", "pp", "ep", "etp", "dp", "cp", "vpp")
_MOST_SHOWN = 64  # stages of an example


def model_of(scenario: Scenario) -> ModelSpec:
    """Return the model: a preset with fields that differ, or all fields one by one."""
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


def strategy_of(scenario: Scenario) -> Strategy:
    """Return the strategy; its name and the axes that are given one by one must agree."""
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


def mesh_of(scenario: Scenario, cluster: Cluster, model: ModelSpec) -> Mesh:
    """Lay the strategy out; a dense model has no experts to be read in several ways, and takes Megatron's mesh."""
    strategy, convention = strategy_of(scenario), scenario.spec.parallel.convention
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


def layers_of(scenario: Scenario, model: ModelSpec, mesh: Mesh) -> dict[str, tuple[int, ...]]:
    """Return the layers of stages and, where stages hold several, of chunks."""
    parts = _part_layers(scenario, model, mesh)
    if mesh.strategy.vpp == 1:
        return {"stage_layers": parts}
    by_stage = tuple(sum(parts[stage :: mesh.num_stages]) for stage in range(mesh.num_stages))
    return {"stage_layers": by_stage, "part_layers": parts}


def divide_over_chunks(layers: Sequence[int], *, num_stages: int, num_chunks: int) -> list[int]:
    """Return the layers of chunks for a split that is of another number of chunks: each stage keeps its total.

    A stage's layers are divided evenly. What does not divide goes to its earlier chunks, on the first stage to its
    later ones, so that the chunks beside embedding and head are the lighter ones.

    Parameters
    ----------
    layers
        Chunk c of stage i is number c p + i. Length a multiple of [stages].
    num_stages, num_chunks
        Stages p, and the chunks of each that are wanted.

    Examples
    --------
    >>> divide_over_chunks([2, 3, 3, 2], num_stages=4, num_chunks=3)
    [0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0]
    >>> divide_over_chunks([0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0], num_stages=4, num_chunks=1)
    [2, 3, 3, 2]
    """
    totals = [sum(layers[stage::num_stages]) for stage in range(num_stages)]
    divided = []
    for stage, total in enumerate(totals):
        every, rest = divmod(total, num_chunks)
        chunks = [every + (chunk < rest) for chunk in range(num_chunks)]
        divided.append(chunks[::-1] if stage == 0 else chunks)
    return [chunks[chunk] for chunk in range(num_chunks) for chunks in divided]


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
