"""What would make a work fit into memory: changes tried with the account of memory alone.

Model
-----
The order of a stage's passes decides its memory (`order_memory`), so that a change is priced without a simulation, also
on runs of many passes. Where the run itself needed more of a component than its order predicts (through its own times,
or its hottest rank), the component is assumed to need more in the same ratio under every change; weights stay as they
are.

Changes are tried one at a time, from the cheapest in time to the dearest: ZeRO, selective recomputation, smaller
microbatches, other schedules with the chunks that they need, more chunks, full recomputation; then, if none is enough,
the strongest together. Each is a scenario of its own, checked as the scenario is.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from sim.build.build import build
from sim.build.work import Work
from sim.errors import MoesimError
from sim.results.quantities import format_quantity
from sim.scenario.scenario import Scenario
from sim.studies.chunks import own_chunks, under_schedule
from sim.studies.order_memory import MOST_STEPS, predict_memory
from workloads.schedules import SCHEDULES

__all__ = ["explain_unfit", "say_what_fits", "what_would_fit"]

_FACTORS: Final = (2, 4, 8, 16, 32, 64)
_CHUNKS: Final = (2, 4, 8, 16)
_UNEVEN: Final = ("activations", "expert_activations", "logits", "buffers")
"""Components of memory that a run may need more of than its order alone predicts."""

Changes = dict[str, Any]


def what_would_fit(scenario: Scenario, work: Work, memory: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Return the changes that make a work fit, each with its peak: `set` (dotted keys) and `total_bytes`.

    None where changes are not tried: of forward runs, and of orders of more than `MOST_STEPS` passes.

    Parameters
    ----------
    scenario, work
        What does not fit; a change that the scenario may not have is not tried.
    memory
        What its run needed.
    """
    here = predict_memory(work) if work.kind.trains else None
    if here is None:
        return None
    over = _over(memory["peak_bytes_per_gpu"], here["peak_bytes_per_gpu"])
    capacity = float(memory["capacity_bytes"] - _reserved(memory))

    def fitting(tried: Iterator[tuple[str, Changes]]) -> list[dict[str, Any]]:
        """Return those that fit, of each kind of change the mildest."""
        found: dict[str, dict[str, Any]] = {}
        for kind, changes in tried:
            peak = None if kind in found else _peak_bytes(scenario, changes, over)
            if peak is not None and peak <= capacity:
                found[kind] = {"set": changes, "total_bytes": round(peak)}
        return list(found.values())

    return fitting(_single_changes(scenario, work)) or fitting(_strong_changes(scenario, work))[:1]


def explain_unfit(memory: Mapping[str, Any]) -> str:
    """Return a sentence on a peak that is over memory: where, when and from what."""
    components = {name: size for name, size in memory["peak_bytes_per_gpu"].items() if name != "total" and size}
    largest = sorted(components, key=lambda name: -components[name])[:3]
    words = [f"{name.replace('_', ' ')} {format_quantity(float(components[name]), 'bytes')}" for name in largest]
    total, capacity = memory["peak_bytes_per_gpu"]["total"], memory["capacity_bytes"]
    return (
        f"It does not fit into memory, and is no valid strategy: rank {memory['peak_rank']} of stage "
        f"{memory['peak_stage']} needs {format_quantity(float(total), 'bytes')} at "
        f"{format_quantity(memory['peak_time_s'], 's')} and has {format_quantity(float(capacity), 'bytes')}, of which "
        f"context and communicators take {format_quantity(float(_reserved(memory)), 'bytes')}; most are "
        f"{', '.join(words)}."
    )


def say_what_fits(found: list[dict[str, Any]] | None) -> str:
    """Return a sentence on what would fit.

    >>> say_what_fits([{"set": {"parallel.zero": 1}, "total_bytes": 5e9}])
    'It would fit with parallel.zero: 1 (5 GB).'
    """
    if found is None:
        return f"What would fit was not tried: it is of orders with at most {MOST_STEPS:,} passes."
    if not found:
        tried = "ZeRO, recomputation, smaller microbatches, other schedules and more chunks"
        return f"Nothing that was tried is enough: {tried}, each alone and some together."
    words = [
        f"{', '.join(f'{key}: {_shown(value)}' for key, value in change['set'].items())} "
        f"({format_quantity(float(change['total_bytes']), 'bytes')})"
        for change in found
    ]
    return f"It would fit with {'; or '.join(words)}."


# ---- private -----------------------------------------------------------------------------------------------------


def _reserved(memory: Mapping[str, Any]) -> int:
    """Return the bytes that context and communicators take."""
    return int(memory.get("reserved_bytes", {}).get("total", 0))


def _shown(value: object) -> str:
    return f"[{', '.join(map(str, value))}]" if isinstance(value, list) else str(value)


def _over(needed: Mapping[str, float], predicted: Mapping[str, float]) -> dict[str, float]:
    """Return what a run needed of each component over what its order predicts; at least 1."""
    return {name: max(1.0, needed[name] / predicted[name]) for name in _UNEVEN if predicted[name]}


def _peak_bytes(scenario: Scenario, changes: Changes, over: Mapping[str, float]) -> float | None:
    """Return the predicted peak under changes; None where the scenario may not have them."""
    try:
        predicted = predict_memory(build(scenario.variant(changes)).work)
    except MoesimError:
        return None
    if predicted is None:
        return None
    components = {name: size for name, size in predicted["peak_bytes_per_gpu"].items() if name != "total"}
    return float(sum(size * over.get(name, 1.0) for name, size in components.items()))


def _single_changes(scenario: Scenario, work: Work) -> Iterator[tuple[str, Changes]]:
    """Yield changes one at a time with what kind of change each is, those of a kind from mild to strong."""
    mesh = work.mesh
    if max(mesh.dp_groups(0).shape[1], mesh.expert_dp_groups(0).shape[1]) > 1:
        for zero in range(work.zero + 1, 4):
            yield "zero", {"parallel.zero": zero}
    if work.recompute.kind == "none":
        yield from _selective_changes(work)
    for changes in _smaller_microbatches(work):
        yield "microbatches", changes
    yield from _schedule_changes(scenario, work)
    if work.recompute.kind != "full":
        yield "recompute", {"schedule.recompute": "full"}


def _schedule_changes(scenario: Scenario, work: Work) -> Iterator[tuple[str, Changes]]:
    """Yield other schedules, with the chunks that the scenario has and those that they need; then more chunks."""
    chunks = own_chunks(scenario)
    for kind, schedule in SCHEDULES.items():
        takes_any = schedule.num_chunks is None
        if kind != work.schedule:
            yield kind, under_schedule(scenario, kind)
        for number in _CHUNKS if takes_any else ():
            changes = under_schedule(scenario, kind, number)
            if kind != work.schedule:
                yield kind, changes
            elif number > chunks:
                yield "chunks", {key: value for key, value in changes.items() if key != "schedule.kind"}


def _selective_changes(work: Work) -> Iterator[tuple[str, Changes]]:
    """Yield modules of selective recomputation that the model has, a few and then more."""
    model = work.model
    light = ["layernorm"] + (["core_attn"] if not model.fused_attention else [])
    light += ["mla_up_proj"] if model.has_latent_attention else []
    light += ["moe_act"] if model.num_moe_layers else []
    whole = [*light, *(["mlp"] if model.num_moe_layers < model.layers else [])]
    experts = [m for m in whole if m != "moe_act"] + (["moe"] if model.num_moe_layers else [])
    for modules in dict.fromkeys((tuple(light), tuple(whole), tuple(experts))):
        yield "selective", {"schedule.recompute": "selective", "schedule.recompute_modules": list(modules)}


def _smaller_microbatches(work: Work) -> Iterator[Changes]:
    for factor in _FACTORS:
        if work.sequences_per_microbatch % factor == 0:
            yield {"workload.microbatches": factor * work.microbatches}


def _strong_changes(scenario: Scenario, work: Work) -> Iterator[tuple[str, Changes]]:
    """Yield full recomputation with ZeRO and smaller microbatches; then other schedules, with ZeRO and with all of it.

    ZeRO first as far as it needs no traffic in passes, then the strongest.
    """
    levels = (max(1, work.zero), 3)
    for zero in levels:
        keys: Changes = {"schedule.recompute": "full", "parallel.zero": zero}
        yield "strong", keys
        for small in _smaller_microbatches(work):
            yield "strong", {**keys, **small}
    for zero in levels:
        for kind in SCHEDULES:
            other = under_schedule(scenario, kind) | {"parallel.zero": zero}
            yield "strong", other
            yield "strong", other | {"schedule.recompute": "full"}
