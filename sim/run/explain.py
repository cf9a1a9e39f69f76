"""What the figures of a run say about a metric, in a sentence: the second half of a verdict's reason."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sim.build.work import Work
from sim.results.accounts import CATEGORY_WORDS, COMPUTE_CATEGORIES
from sim.results.quantities import format_quantity
from workloads.memory import GRADIENT_BYTES, OPTIMIZER_BYTES, kv_cache_bytes, params_per_rank

__all__ = ["explain_run"]

_MEMORY_WORDS: Final = {"expert_activations": "activations of experts", "kv_cache": "KV cache"}
"""Component of memory -> what sentences call it, where that is not its name."""


def explain_run(work: Work, stages_ns: Sequence[Mapping[str, int]], memory: Mapping[str, object]) -> dict[str, str]:
    """Return a line for each metric that the run can say more about, by name."""
    lines = dict.fromkeys(
        ("step_time_s", "latency_s", "tokens_per_s", "steady_tokens_per_s"), _where_time_went(stages_ns)
    )
    lines |= dict.fromkeys(("total", "peak_fraction"), _what_memory_holds(work, memory))
    lines["fits"] = _what_training_holds(work)
    lines["bubble_fraction"] = _what_sets_the_bubble(work, stages_ns)
    lines["stage_compute_max_over_mean"] = _stage_loads(stages_ns)
    if work.mesh.strategy.tp > 1:
        group = work.mesh.tp_groups(0)[0]
        lines |= dict.fromkeys(("exposed_tp_s", "exposed_tp_fraction", "tp_fraction"), _where(work, "TP", group))
    if work.context.size > 1:
        meaning = work.context.rules.meaning
        lines["exposed_cp_s"] = f"{_where(work, 'CP', work.mesh.cp_groups(0)[0])}: {meaning}"
    if work.model.experts:
        lines["imbalance_max_over_mean"] = _how_tokens_spread(work)
    return lines


def _where_time_went(stages_ns: Sequence[Mapping[str, int]]) -> str:
    sums = {category: sum(stage[category] for stage in stages_ns) for category in stages_ns[0]}
    whole = sum(sums.values())
    top = sorted(sums.items(), key=lambda item: -item[1])[:3]
    shares = (f"{CATEGORY_WORDS[category]} ({ns / whole:.0%})" for category, ns in top)
    return f"most of a stage's time goes to {', '.join(shares)}"


def _what_sets_the_bubble(work: Work, stages_ns: Sequence[Mapping[str, int]]) -> str:
    """Return the idle share, the bubble of equal stages, and what makes the difference."""
    stages, number = work.mesh.num_stages, work.num_microbatches * work.visits_of_stage
    if stages == 1:
        return "one stage has no bubble"
    share = (stages - 1) / (number + stages - 1)
    idle = sum(stage["idle"] for stage in stages_ns) / sum(sum(stage.values()) for stage in stages_ns)
    of_batches = f", of {work.batches} batches" if work.batches > 1 else ""
    rest = "" if f"{idle:.1%}" == f"{share:.1%}" else f"; the bubble here is {idle:.1%}, for stages are not equal"
    return f"(p-1)/(m+p-1) is {share:.1%} with p = {stages} and m = {number}{of_batches}{rest}"


def _what_memory_holds(work: Work, memory: Mapping[str, object]) -> str:
    peak = memory["peak_bytes_per_gpu"]
    components = dict(peak) if isinstance(peak, Mapping) else {}
    sizes = sorted(
        ((name, size) for name, size in components.items() if name != "total" and size), key=lambda item: -item[1]
    )
    line = "made of " + ", ".join(
        f"{_MEMORY_WORDS.get(name, name)} {format_quantity(size, 'bytes')}" for name, size in sizes
    )
    if work.kind.trains:
        return line
    stages = [work.stage_parameters(stage) for stage in range(work.mesh.num_stages)]
    sequences, s = work.sequences // work.mesh.dp, work.mesh.strategy
    cache = max(
        kv_cache_bytes(work.model, stage.layers, sequences, work.sequence_length, s.tp, cp=s.cp) for stage in stages
    )
    stream = sequences * work.sequence_length * work.model.hidden * work.model.dtype_bytes
    return (
        f"{line}; a whole batch has {format_quantity(cache, 'bytes')} of KV cache and an unsharded hidden state of "
        f"{format_quantity(float(stream), 'bytes')}"
    )


def _what_training_holds(work: Work) -> str:
    """Return what training would hold of the parameters of the fullest GPU; nothing for a run that trains."""
    if work.kind.trains:
        return ""
    stages = [work.stage_parameters(stage) for stage in range(work.mesh.num_stages)]
    params = max(sum(params_per_rank(work.model, work.mesh, stage)) for stage in stages)
    state = params * (work.model.dtype_bytes + GRADIENT_BYTES + OPTIMIZER_BYTES)
    return f"for a forward pass, while training would hold {format_quantity(float(state), 'bytes')} before activations"


def _stage_loads(stages_ns: Sequence[Mapping[str, int]]) -> str:
    loads = [sum(stage[category] for category in COMPUTE_CATEGORIES) / 1e9 for stage in stages_ns]
    shown = ", ".join(format_quantity(load, "s") for load in loads[:8])
    return f"own compute of the stages, embedding and output head included: {shown}{' ...' if len(loads) > 8 else ''}"


def _where(work: Work, axis: str, group: NDArray[np.intp]) -> str:
    """Return whether a group of an axis stays in a node."""
    nodes = int(np.unique(work.cluster.node_of(group)).size)
    where = (
        f"leaves the node of {work.cluster.gpus_per_node} GPUs and spans {nodes} nodes"
        if nodes > 1
        else "stays in a node"
    )
    return f"{axis}{group.size} {where}"


def _how_tokens_spread(work: Work) -> str:
    if work.has_balanced_routing:
        return "the declared routing is balanced, and so assumes what is claimed"
    routed = work.tokens * work.model.top_k / work.model.experts
    kind = work.routing.kind
    return f"{kind} routing sends {routed:,.0f} tokens of a microbatch to an expert on average, and not evenly"
