"""A recipe becomes a scenario, in the keys of a scenario file."""

import math
from dataclasses import fields
from typing import Any, Final

from recipes.recipe import CLUSTERS_OF, Recipe, RefusedError
from topology.presets.clusters import CLUSTERS
from workloads.presets import get_model
from workloads.runtime import Runtime

__all__ = ["ILLEGAL_IN_MEGATRON", "MICROBATCHES_PER_STAGE", "scenario_of"]

MICROBATCHES_PER_STAGE: Final = 2
"""Microbatches of a pipeline that a short run has for each of its stages: enough for the peak of memory, as no stage of
an interleaved schedule has more in flight, and few enough for a run of seconds."""
ILLEGAL_IN_MEGATRON: Final = "refused by Megatron's own rule"
"""Cause of a recipe whose experts do not fit its GPUs: Megatron's `initialize_model_parallel` raises on it."""
_WITH_BF16_WEIGHTS: Final = ("blockwise",)
"""Recipes of fp8 whose weights keep a copy in bf16: there alone Megatron-Bridge has `fp8_param_gather` off
(`bf16_with_fp8_subchannel_scaling_mixed`); it is on with current and delayed scaling and mxfp8."""
_PRESET: Final = "megatron-core-2025"
"""`runtime.preset`: Megatron Core with the settings of Megatron-Bridge, whose exchanges overlap where they can."""
_GPUS_OF_A_TRAY: Final = 4


def scenario_of(recipe: Recipe, *, full: bool = False) -> dict[str, Any]:
    """Return the scenario of one training step.

    Parameters
    ----------
    recipe
        What is trained, and how.
    full
        Whether the step has all of its microbatches; else at most `MICROBATCHES_PER_STAGE` for each stage.

    Raises
    ------
    RefusedError
        The GPUs do not divide by the mesh, or the batch by replicas and microbatches.
    """
    per_replica = recipe.tp * recipe.cp * recipe.pp
    dp, rest = divmod(recipe.num_gpus, per_replica)
    if rest:
        raise RefusedError("illegal", f"{recipe.num_gpus} GPUs are no multiple of TP x CP x PP = {per_replica}")
    per_experts = recipe.etp * recipe.ep * recipe.pp
    if recipe.num_gpus % per_experts:
        detail = f"{recipe.num_gpus} GPUs are no multiple of ETP x EP x PP = {per_experts}"
        raise RefusedError(ILLEGAL_IN_MEGATRON, detail)
    microbatches, rest = divmod(recipe.sequences, dp * recipe.mbs)
    if rest or not microbatches:
        raise RefusedError("illegal", f"{recipe.sequences} sequences are no multiple of DP x MBS = {dp} x {recipe.mbs}")
    if not full:
        microbatches = _fewer(microbatches, recipe.pp)
    return {
        "name": recipe.name,
        "cluster": _cluster(recipe),
        "model": _model(recipe),
        "parallel": _parallel(recipe, dp),
        "workload": {
            "kind": "training",
            "sequences": dp * recipe.mbs * microbatches,
            "sequence_length": recipe.sequence_length,
            "microbatches": microbatches,
            "gradient_dtype": recipe.gradients,
            "moment_dtype": recipe.moments,
        },
        "schedule": _schedule(recipe),
        # Published runs force the load of experts to be balanced.
        **({"routing": {"kind": "balanced"}} if get_model(recipe.model).experts else {}),
        **_runtime(recipe),
    }


def _fewer(microbatches: int, num_stages: int) -> int:
    """Return the microbatches of a short run: a multiple of the stages, which interleaved schedules ask for."""
    return min(microbatches, MICROBATCHES_PER_STAGE * num_stages)


def _cluster(recipe: Recipe) -> dict[str, Any]:
    """Return the fewest nodes that the GPUs fill evenly; of a rack, whole trays."""
    preset = CLUSTERS_OF[recipe.gpu]
    per_node = CLUSTERS[preset].fabric.gpus_per_node
    tray = _GPUS_OF_A_TRAY if per_node > 8 and recipe.num_gpus >= _GPUS_OF_A_TRAY else 1
    for num_nodes in range(math.ceil(recipe.num_gpus / per_node), recipe.num_gpus + 1):
        used, rest = divmod(recipe.num_gpus, num_nodes)
        if not rest and used % tray == 0:
            whole = {} if used == per_node else {"gpus_per_node_used": used}
            return {"preset": preset, "num_nodes": num_nodes, **whole}
    raise RefusedError("illegal", f"{recipe.num_gpus} GPUs are no whole trays of {_GPUS_OF_A_TRAY}")


def _model(recipe: Recipe) -> dict[str, Any]:
    model: dict[str, Any] = {"preset": recipe.model}
    if recipe.mtp is not None and recipe.mtp != get_model(recipe.model).num_nextn_predict_layers:
        model["num_nextn_predict_layers"] = recipe.mtp
    if recipe.fp8_recipe is not None:
        model["dtype"] = "fp8"
    return model


def _parallel(recipe: Recipe, dp: int) -> dict[str, Any]:
    axes = {axis: getattr(recipe, axis) for axis in ("tp", "cp", "pp", "vpp", "ep", "etp")}
    parallel: dict[str, Any] = {axis: size for axis, size in axes.items() if size > 1}
    has_experts = get_model(recipe.model).experts > 0
    if has_experts and recipe.tp > 1:
        parallel["etp"] = recipe.etp
    parallel |= {"dp": dp, "sp": recipe.sp or (recipe.tp > 1 and has_experts)}  # Megatron's experts ask for SP with TP
    if recipe.cp > 1 and get_model(recipe.model).sliding_window is not None:
        parallel["cp_kind"] = (
            "all_to_all"  # Transformer Engine's for windows and sinks; else Megatron's default, a ring
        )
    if recipe.fsdp != "none":
        parallel["fsdp"] = recipe.fsdp
    else:
        parallel["zero"] = 1  # the distributed optimizer, which all base recipes have on
    if recipe.layout is not None:
        parallel["layout"] = recipe.layout
    elif recipe.split == "with_ends" and recipe.pp > 1:
        parallel["stage_layers"] = _split_with_ends(get_model(recipe.model).layers, recipe.pp * recipe.vpp)
    return parallel


def _split_with_ends(layers: int, num_chunks: int) -> list[int]:
    """Return the layers of each chunk where embedding and loss count as a layer each.

    >>> _split_with_ends(94, 8)
    [11, 12, 12, 12, 12, 12, 12, 11]
    """
    every, rest = divmod(layers + 2, num_chunks)
    if rest:
        raise RefusedError("illegal", f"{layers} layers, embedding and loss do not divide by {num_chunks} chunks")
    return [every - 1, *[every] * (num_chunks - 2), every - 1]


def _schedule(recipe: Recipe) -> dict[str, Any]:
    schedule: dict[str, Any] = {"kind": "interleaved" if recipe.vpp > 1 else "1f1b"}
    if recipe.offload_layers:
        schedule["offload_layers"] = recipe.offload_layers
    if isinstance(recipe.recompute, str):
        layers = {} if recipe.recompute_layers is None else {"recompute_layers": recipe.recompute_layers}
        return schedule | {"recompute": recipe.recompute, **layers}
    return schedule | {"recompute": "selective", "recompute_modules": list(recipe.recompute)}


def _runtime(recipe: Recipe) -> dict[str, Any]:
    """Return the section `runtime`: a preset, and those keys of the recipe that are built."""
    known = {"preset", *(field.name for field in fields(Runtime))}
    wanted: dict[str, Any] = {"preset": _PRESET, **recipe.runtime}
    if recipe.fp8_recipe is not None:
        wanted["fp8_recipe"] = recipe.fp8_recipe
        if recipe.fp8_recipe not in _WITH_BF16_WEIGHTS:
            wanted["fp8_param_gather"] = True
    runtime = {key: value for key, value in wanted.items() if key in known}
    return {"runtime": runtime}
