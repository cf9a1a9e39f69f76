"""What would make a work fit into memory: changes tried with the account of memory alone.

Model
-----
A schedule decides how many microbatches are in flight, and a pipeline whose passes all take as long shows how many: it
is run in place of the work, which takes milliseconds, and its memory is added up as that of a run. What the run itself
needed over that (its own times, its hottest rank) is taken to be needed under every change in the same ratio.

Changes are tried one at a time, from the cheapest in time to the dearest: ZeRO, selective recomputation, smaller
microbatches, other schedules, full recomputation; then, if none is enough, the strongest together.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from sim.engine.plan.passes import PassesPlan
from sim.engine.plan.work import Work
from sim.engine.simulation import run_plan
from sim.errors import InputError, MoesimError
from sim.results.memory import memory_of
from sim.results.quantities import format_quantity
from sim.scenario.scenario import Scenario
from sim.studies.memory import stage_memory
from workloads.errors import WorkloadError
from workloads.schedules import SCHEDULES

__all__ = ["explain_unfit", "predict_memory", "say_what_fits", "what_would_fit"]

_MOST_PASSES: Final = 5_000  # of a pipeline that is run only to count; some 0.1 s each
_FACTORS: Final = (2, 4, 8, 16, 32, 64)

Changes = dict[str, Any]


def predict_memory(work: Work) -> dict[str, Any]:
    """Return the memory of a work as its schedule alone decides it, with passes that all take as long."""
    trains = work.kind == "training"
    plan = PassesPlan(
        pass_times_s=[(1e-3, 1e-3 if trains else 0.0, 1e-3 if trains else 0.0)] * work.mesh.num_stages,
        num_microbatches=work.num_microbatches,
        p2p_s=0.0,
        schedule=work.schedule,
        num_chunks=work.mesh.strategy.vpp,
    )
    return memory_of(
        run_plan(plan, link_course=False).trace,
        [stage_memory(work, stage) for stage in range(work.mesh.num_stages)],
        capacity_bytes=work.cluster.device.memory_bytes,
        microbatches=work.microbatches,
    )


def what_would_fit(scenario: Scenario, work: Work, memory: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Return the changes that make a work fit, each with its peak: `set` (dotted keys) and `total_bytes`.

    None where changes are not tried: of forward runs, and of more passes than are soon counted.

    Parameters
    ----------
    scenario, work
        What does not fit; a change that the scenario may not have is not tried.
    memory
        What its run needed.
    """
    if work.kind != "training" or _num_passes(work) > _MOST_PASSES:
        return None
    capacity = float(memory["capacity_bytes"])
    here = _peak(work)
    if here is None:
        return None
    over = max(1.0, memory["peak_bytes_per_gpu"]["total"] / here)

    def fitting(tried: Iterator[tuple[Changes, Changes]]) -> list[dict[str, Any]]:
        found: dict[tuple[str, ...], dict[str, Any]] = {}
        for changes, fields in tried:
            keys = tuple(changes) if "schedule.kind" not in changes else (str(changes),)
            if keys in found or not _may_have(scenario, changes):  # of levels and factors the mildest is enough
                continue
            peak = _peak(work, **fields)
            if peak is not None and peak * over <= capacity:
                found[keys] = {"set": changes, "total_bytes": round(peak * over)}
        return list(found.values())

    return fitting(_single_changes(work)) or fitting(_strong_changes(work))[:1]


def explain_unfit(memory: Mapping[str, Any]) -> str:
    """Return a sentence on a peak that is over memory: where, when and from what."""
    parts = {part: size for part, size in memory["peak_bytes_per_gpu"].items() if part != "total" and size}
    largest = sorted(parts, key=lambda part: -parts[part])[:3]
    words = [f"{part.replace('_', ' ')} {format_quantity(float(parts[part]), 'bytes')}" for part in largest]
    total, capacity = memory["peak_bytes_per_gpu"]["total"], memory["capacity_bytes"]
    return (
        f"It does not fit into memory, and is no valid strategy: rank {memory['peak_rank']} of stage "
        f"{memory['peak_stage']} needs {format_quantity(float(total), 'bytes')} at "
        f"{format_quantity(memory['peak_time_s'], 's')} and has {format_quantity(float(capacity), 'bytes')}; most are "
        f"{', '.join(words)}."
    )


def say_what_fits(found: list[dict[str, Any]] | None) -> str:
    """Return a sentence on what would fit.

    >>> say_what_fits([{"set": {"parallel.zero": 1}, "total_bytes": 5e9}])
    'It would fit with parallel.zero: 1 (5 GB).'
    """
    if found is None:
        return f"What would fit was not tried: it is of runs with at most {_MOST_PASSES:,} passes."
    if not found:
        return "None of ZeRO, recomputation, smaller microbatches and other schedules is enough."
    words = [
        f"{', '.join(f'{key}: {_shown(value)}' for key, value in one['set'].items())} "
        f"({format_quantity(float(one['total_bytes']), 'bytes')})"
        for one in found
    ]
    return f"It would fit with {'; or '.join(words)}."


# ---- private -----------------------------------------------------------------------------------------------------


def _shown(value: object) -> str:
    return f"[{', '.join(value)}]" if isinstance(value, list) else str(value)


def _may_have(scenario: Scenario, changes: Changes) -> bool:
    """Tell whether a scenario with changes is a valid one."""
    try:
        scenario.variant(changes)
    except InputError:
        return False
    return True


def _num_passes(work: Work) -> int:
    return 2 * work.mesh.num_stages * work.num_microbatches


def _peak(work: Work, **changes: Any) -> float | None:  # noqa: ANN401 - fields of a work
    """Return the predicted peak of a work with changes; None where it cannot be, or the schedule cannot run it."""
    try:
        other = replace(work, **changes)
        if _num_passes(other) > _MOST_PASSES:
            return None
        return float(predict_memory(other)["peak_bytes_per_gpu"]["total"])
    except (MoesimError, WorkloadError):
        return None


def _single_changes(work: Work) -> Iterator[tuple[Changes, Changes]]:
    """Yield changes one at a time, as keys of the scenario and as fields of the work, levels and factors in order."""
    mesh = work.mesh
    if max(mesh.dp_groups(0).shape[1], mesh.expert_dp_groups(0).shape[1]) > 1:
        for zero in range(work.zero + 1, 4):
            yield {"parallel.zero": zero}, {"zero": zero}
    if work.recompute == "none":
        yield from _selective_changes(work)
    yield from _smaller_microbatches(work)
    for kind in SCHEDULES:
        if kind != work.schedule:
            yield {"schedule.kind": kind}, {"schedule": kind}
    if work.recompute != "full":
        yield {"schedule.recompute": "full"}, {"recompute": "full"}


def _selective_changes(work: Work) -> Iterator[tuple[Changes, Changes]]:
    """Yield modules of selective recomputation that the model has, a few and then more."""
    model = work.model
    light = ["layernorm"] + (["core_attn"] if not model.fused_attention else [])
    light += ["moe_act"] if model.num_moe_layers else []
    whole = [*light, *(["mlp"] if model.num_moe_layers < model.layers else [])]
    experts = [m for m in whole if m != "moe_act"] + (["moe"] if model.num_moe_layers else [])
    for modules in dict.fromkeys((tuple(light), tuple(whole), tuple(experts))):
        changes = {"schedule.recompute": "selective", "schedule.recompute_modules": list(modules)}
        yield changes, {"recompute": "selective", "recompute_modules": modules}


def _smaller_microbatches(work: Work) -> Iterator[tuple[Changes, Changes]]:
    for factor in _FACTORS:
        if work.sequences_per_microbatch % factor == 0:
            microbatches = factor * work.microbatches
            yield {"workload.microbatches": microbatches}, {"microbatches": microbatches}


def _strong_changes(work: Work) -> Iterator[tuple[Changes, Changes]]:
    """Yield full recomputation, with the strongest ZeRO that needs no traffic in passes, and then with everything."""
    for zero in (max(1, work.zero), 3):
        keys: Changes = {"schedule.recompute": "full", "parallel.zero": zero}
        fields: Changes = {"recompute": "full", "zero": zero}
        yield keys, fields
        for small, smaller in _smaller_microbatches(work):
            yield {**keys, **small}, {**fields, **smaller}
