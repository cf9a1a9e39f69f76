"""What a scenario leaves open and was filled in, with the reason, and what its user should know."""

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.build.device_profile import why_profile
from sim.build.layout import taken_from_hf_config
from sim.build.runtime import runtime_assumptions
from sim.build.work import Work
from sim.scenario.recordings.recording import span_of
from sim.scenario.scenario import Scenario
from sim.scenario.workload_section import PassesWorkload
from topology.cluster import Cluster
from topology.presets.clusters import get_cluster_preset
from workloads.context_parallel import DEFAULT_CP_KIND
from workloads.formats import FP8_RECIPES
from workloads.memory import Recompute, activation_bytes_per_microbatch, reserved_bytes
from workloads.model import ModelSpec
from workloads.presets import MODELS
from workloads.routing import ROUTINGS
from workloads.schedules import Pair, PipelineOrder

__all__ = ["Assumption", "assumptions_of", "warnings_of", "warnings_of_passes", "warnings_of_racks"]

_OTHER_LAYERS = ("kv_lora_rank", "sliding_window", "layer_types", "hybrid_override_pattern", "moe_every")
"""Fields without which a model of the sizes of a preset has other layers than the preset."""
_FEW_TOKENS = 8
"""Tokens of a sequence up to which a forward pass is most likely meant as decode."""
_MOST_GPUS_OF_A_NODE = 16
"""GPUs of a node; a rack of one NVLink domain has more."""
_WHY_NOTHING = {"core_attn": "fused attention keeps no scores"}


class Assumption(NamedTuple):
    """A fact that the scenario does not give."""

    key: str
    """Key that would give it."""
    value: object
    """What was taken."""
    why: str
    """Reason for the value, in one sentence."""


def assumptions_of(scenario: Scenario, work: Work) -> list[Assumption]:
    """Return the facts that a scenario does not give, with what was taken and why."""
    spec, mesh = scenario.spec, work.mesh
    given = scenario.resolved() if spec.assumed else {}
    found = [Assumption(key, _look_up(given, key), why) for key, why in spec.assumed.items()]
    if not scenario.is_given("parallel.convention"):
        found.append(Assumption("parallel.convention", mesh.convention.name, "the most common reading of EP"))
    if spec.parallel.sp is None and work.mesh.strategy.tp > 1:
        found.append(Assumption("parallel.sp", mesh.sp, f"what the {mesh.convention.name} convention requires"))
    if not scenario.is_given("parallel.dp") and "DP" not in (spec.parallel.strategy or "").upper():
        found.append(Assumption("parallel.dp", mesh.dp, "what the other axes leave of the GPUs"))
    found += [*_of_etp(scenario, work), *_of_context(scenario, work), *_of_fsdp(scenario, work)]
    if mesh.world < work.cluster.num_gpus:
        idle = work.cluster.num_gpus - mesh.world
        found.append(
            Assumption(
                "cluster.num_nodes",
                spec.cluster.num_nodes if spec.cluster else 0,
                f"{idle} of {work.cluster.num_gpus} GPUs stay unused",
            )
        )
    found += [Assumption(taken.key, taken.value, taken.why) for taken in taken_from_hf_config(scenario)]
    for key, value, why in (
        ("routing.kind", work.routing.kind, "every token chooses at random"),
        ("schedule.kind", work.schedule, "the usual schedule"),
        ("network.all_reduce", work.network.all_reduce, "NCCL's cheapest of ring, tree and NVLS"),
        ("model.dtype", work.model.dtype, "the usual training type"),
        ("model.gated", work.model.gated, "not said"),
    ):
        is_of_model = key.startswith("model.") and (
            scenario.is_given("model.preset") or scenario.is_given("model.hf_config")
        )
        if not scenario.is_given(key) and not is_of_model:
            found.append(Assumption(key, value, why))
    if scenario.spec.profile is None:
        found.append(Assumption("profile", *why_profile(work.profile, work.cluster.device)))
    found += [Assumption(*assumed) for assumed in runtime_assumptions(scenario, work)]
    found += [*_of_formats(scenario, work), *_of_memory(work)]
    if not work.kind.trains:
        found.append(
            Assumption("workload.head", "last token of each sequence", "prefill computes the output head for it alone")
        )
    if work.kind.trains and work.placement.replicas:
        why = "summed over them after the last pass, layer by layer; each copy keeps weights and optimizer of its own"
        found.append(Assumption("placement.gradients", "all-reduce over the ranks of each expert", why))
    if work.kind.trains and work.placement.moves:
        why = "gradients are done with when a plan changes, between steps"
        found.append(Assumption("placement.moved", "weights and optimizer state", why))
    if (
        spec.cluster
        and spec.cluster.preset
        and spec.cluster.device.preset
        and spec.cluster.device.preset != get_cluster_preset(spec.cluster.preset).device
    ):
        why = f"sold in other machines: the fabric of {spec.cluster.preset} is taken all the same"
        found.append(Assumption("cluster.device.preset", spec.cluster.device.preset, why))
    return [*found, *_of_documents(work), *_of_recording(work)]


def _of_documents(work: Work) -> list[Assumption]:
    """Return the lengths that the attention of packed documents comes to."""
    lengths = work.attended_lengths
    if lengths is None:
        return []
    value = f"attention as in sequences of {lengths.min():,} to {lengths.max():,} tokens, mean {lengths.mean():,.0f}"
    return [Assumption("workload.documents", value, f"sum of squares over sum of what was drawn with seed {work.seed}")]


def _of_etp(scenario: Scenario, work: Work) -> list[Assumption]:
    """Return the ETP that was taken, and what Megatron's own default would make of the mesh."""
    parallel, convention = scenario.spec.parallel, work.mesh.convention
    if not work.model.experts or parallel.etp is not None or "ETP" in (parallel.strategy or "").upper():
        return []
    sizes = {"num_gpus": work.cluster.num_gpus, "gpus_per_node": work.cluster.gpus_per_node}
    theirs = convention.default_etp(work.mesh.strategy, **sizes)
    why = "every rank holds whole experts" + (f". {theirs}" if theirs else "")
    return [Assumption("parallel.etp", work.mesh.strategy.etp, why)]


def _of_formats(scenario: Scenario, work: Work) -> list[Assumption]:
    """Return the recipe of fp8 that was taken, and in which type tokens are then sent to experts."""
    formats = work.model.formats
    if formats.recipe is None:
        return []
    found = []
    if not scenario.is_given("runtime.fp8_recipe"):
        name = next(name for name, recipe in FP8_RECIPES.items() if recipe is formats.recipe)
        why = "model.dtype is fp8; operands of linear layers are fp8, all else stays bf16"
        found.append(Assumption("runtime.fp8_recipe", name, why))
    if work.model.experts and not scenario.is_given("runtime.dispatch_dtype"):
        why = "Megatron-LM's; DeepSeek sends tokens in fp8"
        found.append(Assumption("runtime.dispatch_dtype", formats.dispatch_dtype, why))
    return found


def _of_context(scenario: Scenario, work: Work) -> list[Assumption]:
    """Return the kind of context parallelism and the sizes of its levels, where they were chosen."""
    context, parallel = work.context, scenario.spec.parallel
    if context.size == 1:
        return []
    found = []
    if parallel.cp_kind is None:
        found.append(Assumption("parallel.cp_kind", context.kind, "Megatron-LM's default, p2p"))
    if context.rules.has_two_levels and parallel.cp_sizes is None:
        sizes = [context.sizes.inner, context.sizes.outer]
        why = "all-to-all inside of a node, where the ranks can share the heads, and a ring across"
        found.append(Assumption("parallel.cp_sizes", sizes, why))
    return found


def _of_fsdp(scenario: Scenario, work: Work) -> list[Assumption]:
    """Return the shards of hybrid FSDP, where they were chosen, and over how many ranks they split experts."""
    parallel, mesh, sharding = scenario.spec.parallel, work.mesh, work.sharding
    if parallel.fsdp != "hybrid" or parallel.fsdp_shards is not None:
        return []
    why = "the replicas of a node"
    if work.model.experts:
        num_shards = sharding.num_shards(mesh.expert_dp_groups(0).shape[1])
        why += f"; states of experts are split over {num_shards}" if num_shards > 1 else "; experts are whole"
    return [Assumption("parallel.fsdp_shards", sharding.num_shards(mesh.dp_groups(0).shape[1]), why)]


def _of_memory(work: Work) -> list[Assumption]:
    """Return the reserved memory of a device, and the device's capacity where the capacity has no source."""
    device, reserved = work.cluster.device, reserved_bytes(work.mesh, work.dispatcher_buffer_bytes)
    why = "a CUDA context, and NCCL's buffers for each axis with more than one rank; no part of the peak"
    if work.dispatcher_buffer_bytes:
        why = f"{why}; buffers of DeepEP"
    found = [Assumption("memory.reserved", f"{sum(reserved.values()) / 1e9:.3g} GB", why)]
    if device.memory_source is None:
        found.append(
            Assumption(
                "cluster.device.memory", f"{device.memory_bytes / 1e9:.4g} GB", f"no source for {device.name}: assumed"
            )
        )
    return found


def _of_recording(work: Work) -> list[Assumption]:
    """Return how a recorded routing is replayed, and where it is too short for that."""
    loads, model = work.routing.skew.loads, work.model
    if not ROUTINGS[work.routing.kind].uses("file") or loads is None:
        return []
    copies = work.tokens * work.mesh.dp * model.top_k
    if work.routing.skew.has_tokens(work.tokens * work.mesh.dp, model.top_k):
        how, why = (
            "counts",
            f"the {copies:,} copies of each microbatch and layer are those of the run: dealt out evenly",
        )
    else:
        sums = loads.sum(axis=2)
        low, high = (f"{value:,.10g}" for value in (sums.min(), sums.max()))
        recorded = low if low == high else f"{low} to {high}"
        how = "shares"
        why = (
            f"scaled from {recorded} recorded copies of a microbatch and layer to {copies:,}: tokens are drawn by them"
        )
    short = [
        f"{loads.shape[axis]} of {run} {what}"
        for axis, run, what in ((0, work.num_microbatches, "microbatches"), (1, model.num_moe_layers, "layers"))
        if loads.shape[axis] < run
    ]
    why += f"; it has {' and '.join(short)}, and is repeated" if short else ""
    why += "".join(f"; {unused}" for unused in _not_replayed(work))
    if work.placement.is_planned:
        why += "; a plan sees its last microbatches as those before the run"
    too_few = int(((loads > 0).sum(axis=2) < model.top_k).sum())
    if too_few:
        why += (
            f"; layers of a step in which fewer experts than top_k have tokens: {too_few}: tokens take idle experts too"
        )
    why += f"; read as {work.routing.skew.recorded}" if work.routing.skew.recorded else ""
    return [Assumption("routing.file", how, why)]


def _not_replayed(work: Work) -> list[str]:
    """Return which layers and microbatches of a recording the run does not replay, as clauses."""
    skew, clauses = work.routing.skew, []
    num_steps, num_layers = (0, 0) if skew.loads is None else skew.loads.shape[:2]
    num_replayed = len(skew.expert_layers) or work.model.num_moe_layers
    for what, total, used, numbers in (
        ("microbatches", num_steps, work.num_microbatches, ()),
        ("layers", num_layers, num_replayed, skew.recorded_layers[num_replayed:]),
    ):
        if total > used:
            which, verb = (f"{total - used} of its", "are") if total > used + 1 else ("of its", "is")
            named = f" ({span_of(numbers)})" if numbers else ""
            clauses.append(f"the last {which} {total} {what}{named} {verb} not replayed")
    return clauses


def _look_up(values: dict[str, Any], dotted: str) -> object:
    """Return the value at a dotted key, SI; None where the scenario leaves it out."""
    node: Any = values
    for part in dotted.split("."):
        node = node.get(part) if isinstance(node, dict) else None
    return node


def warnings_of_passes(scenario: Scenario, pipeline_order: PipelineOrder) -> list[str]:
    """Return what a user should know of a pipeline of passes: times of pairs where none is run."""
    workload = scenario.spec.workload
    if not isinstance(workload, PassesWorkload) or all(times.FB is None for times in workload.pass_times):
        return []
    if any(isinstance(step, Pair) for steps in pipeline_order.order for step in steps):
        return []
    return [f"workload.pass_times.FB means nothing with schedule.kind {scenario.spec.schedule.kind}: it runs no pairs."]


def warnings_of(work: Work) -> list[str]:
    """Return what the user should know: groups that leave a node, options that change nothing here."""
    mesh, per_node = work.mesh, work.cluster.gpus_per_node
    warnings = []
    axes = {"TP": mesh.tp_groups(0), "CP": mesh.cp_groups(0), "EP": mesh.ep_groups(0), "ETP": mesh.etp_groups(0)}
    for axis, groups in axes.items():
        num_ranks = groups.shape[1] * {"CP": mesh.strategy.tp, "EP": mesh.strategy.etp}.get(axis, 1)
        warnings += _of_groups(axis, work.cluster.node_of(groups), per_node, num_ranks)
    if work.zero and max(mesh.dp_groups(0).shape[1], mesh.expert_dp_groups(0).shape[1]) == 1:
        warnings.append(f"parallel.zero: {work.zero} splits nothing: there is one replica of every parameter.")
    if work.context.size == 1 and work.context.kind != DEFAULT_CP_KIND:
        warnings.append(f"parallel.cp_kind: {work.context.kind} changes nothing with CP 1.")
    if work.fsdp is not None and max(mesh.dp_groups(0).shape[1], mesh.expert_dp_groups(0).shape[1]) == 1:
        warnings.append("parallel.fsdp splits nothing: there is one replica of every parameter.")
    warnings += warnings_of_racks(work.cluster, [mesh.tp_groups(0)[0], mesh.ep_groups(0)[0], mesh.dp_groups(0)[0]])
    warnings += _of_node_limit(work)
    warnings += _of_stand_in(work.model)
    if not work.kind.trains and work.sequence_length <= _FEW_TOKENS:
        warnings.append(
            f"workload.sequence_length: {work.sequence_length} is a prefill of so many tokens, with a KV cache of "
            "these alone: decode with a context belongs to workload.kind serving (docs/serving.md)."
        )
    if work.kind.trains and work.recompute.kind == "selective":
        warnings += [
            f"Recomputing {module} frees no memory: {_WHY_NOTHING.get(module, 'this model has none')}."
            for module in work.recompute.modules
            if _kept(work, Recompute("selective", (module,))) == _kept(work, Recompute())
        ]
    if work.kind.trains and work.splits_backward and mesh.convention.experts_span_stages and mesh.num_stages > 1:
        warnings.append(
            "Experts' weight gradients run with B (spanning): W has the others alone, and the bubble is larger."
        )
    return warnings


def _of_groups(axis: str, nodes: NDArray[np.intp], per_node: int, num_ranks: int) -> list[str]:
    """Return that groups leave their node, of the nodes of each group [groups, G]; the most telling of them.

    A group and what lies between its ranks are `num_ranks` ranks.
    """
    num_groups, size = nodes.shape
    spanned = [len(set(of_group)) for of_group in nodes.tolist()]
    if max(spanned) == 1:
        return []
    if spanned[0] > 1:
        return [f"{axis}{size} leaves a node of {per_node} GPUs: its groups span {spanned[0]} nodes."]
    straddle = sum(number > 1 for number in spanned)
    used = per_node // num_ranks * num_ranks
    cure = f": cluster.gpus_per_node_used: {used} keeps each in one" if 0 < used < per_node else ""
    return [f"{axis}{size} leaves a node of {per_node} GPUs in {straddle} of the {num_groups} groups of a stage{cure}."]


def warnings_of_racks(cluster: Cluster, groups: Sequence[NDArray[np.intp]]) -> list[str]:
    """Return that collectives of a group of ranks over several NVLink racks are beyond what was validated."""
    num_racks = max((len(set(cluster.node_of(group).tolist())) for group in groups), default=1)
    if num_racks == 1 or cluster.gpus_per_node <= _MOST_GPUS_OF_A_NODE or "nvlink" not in cluster.link_kinds:
        return []
    return [
        f"Collectives over {num_racks} NVLink racks of {cluster.gpus_per_node} GPUs are beyond what is validated, and "
        "look far too fast: of an all-reduce of 8 GiB over 20 racks of GB200, 841 GB/s of bus bandwidth are modelled "
        "and 203 GB/s were measured."
    ]


def _of_stand_in(model: ModelSpec) -> list[str]:
    """Return that a model has the sizes of a preset and not the kinds of layers that make it that model."""
    alike = {
        name: [key for key in _OTHER_LAYERS if getattr(MODELS[name], key) != getattr(model, key)]
        for name in _presets_by_sizes().get(_sizes(model), ())
    }
    if not alike or not all(alike.values()):
        return []
    name, keys = next(iter(alike.items()))
    return [
        f"model has the sizes of {name} and not its {' and '.join(keys)}: parameters, KV cache and times are those of "
        f"a stand-in. Write model.preset: {name}, or give these fields."
    ]


@cache
def _presets_by_sizes() -> dict[tuple[int, ...], list[str]]:
    """Return the names of presets by their sizes."""
    names: dict[tuple[int, ...], list[str]] = {}
    for name, preset in MODELS.items():
        names.setdefault(_sizes(preset), []).append(name)
    return names


def _sizes(model: ModelSpec) -> tuple[int, ...]:
    return model.hidden, model.heads, model.experts, model.ffn


def _of_node_limit(work: Work) -> list[str]:
    """Return where a limit of nodes changes nothing, or where more nodes are met than it says."""
    limit = work.routing.max_nodes_per_token
    if limit is None:
        return []
    num_nodes = work.num_limited_nodes
    if limit >= min(num_nodes, work.model.top_k):
        why = f"a group with all experts is on {num_nodes} of them, and a token takes {work.model.top_k} experts"
        return [f"routing.max_nodes_per_token: {limit} limits nothing: {why}."]
    placement = work.placement
    if placement.keeps_nodes_together(num_nodes):
        return []
    meant = "the limit is one of nodes with experts placed in order"
    return [f"placement.kind: {placement.kind} may spread a token's experts over more nodes: {meant}."]


def _kept(work: Work, recompute: Recompute) -> float:
    """Return what a microbatch keeps of all layers for its backward pass."""
    return activation_bytes_per_microbatch(
        work.model, work.mesh, work.layers, work.tokens, recompute, sequence_length=work.sequence_length
    )
