"""The peak of memory that a schedule's order alone decides, without a simulation.

Model
-----
A stage runs one pass after another, so its memory follows from the order of its steps: F adds the bytes that a
microbatch keeps in a chunk, the end of B frees them and leaves the bytes that W needs, the end of W frees those. The
peak is the largest sum over the steps of all stages; how long passes take does not matter.

For more than 8 p microbatches two shorter pipelines are examined, of 4 p and 8 p microbatches and as many more as m
leaves over p: the memory of a stage has stopped growing by then, or grows by the same amount for every further
microbatch (GPipe).

Assumptions
-----------
The tokens of experts are spread evenly over the ranks. Where experts serve all stages, each stage is taken to have the
most tokens in flight at the same time, which is pessimistic.
"""

from functools import lru_cache
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sim.build.work import Work
from sim.errors import MoesimError
from sim.plan.pipeline import PipelinePlan
from sim.results.memory import MEMORY_COMPONENTS, ChunkMemory, StageMemory
from sim.run.stage_memory import stage_memory
from workloads.schedules import Pipeline, PipelineOrder, build_pipeline_order, passes_of

__all__ = ["MOST_STEPS", "predict_memory"]

MOST_STEPS: Final = 300_000
"""Passes of the longest order that is examined; for a longer order there is no prediction."""
_PERIODS: Final = (4, 8)
_VARYING: Final = ("activations", "expert_activations", "logits")
_WAITING: Final = {"activations": "weight_pass", "expert_activations": "expert_weight_pass"}

_Changes = NDArray[np.int64]
"""What a stage's steps change, in order: chunk, microbatches from F to B, and from B to W. Shape [changes, 3]."""


def predict_memory(work: Work) -> dict[str, Any] | None:
    """Return the memory of a training work as its order decides it: `peak_bytes_per_gpu` and `peak_stage`.

    None where the schedule cannot run the work, or has more than `MOST_STEPS` passes.

    >>> from sim.scenario.load import load_scenario
    >>> from sim.build.build import build
    >>> predict_memory(build(load_scenario("ep64_tp16_pp4_training")).work)["peak_bytes_per_gpu"]["total"]
    23720787968
    """
    num_stages, m = work.mesh.num_stages, work.num_microbatches
    shorter = [period * num_stages + m % num_stages for period in _PERIODS]
    lengths = shorter if m > shorter[-1] and work.own_order is None else [m]
    if max(lengths) * num_stages * work.visits_of_stage * 3 > MOST_STEPS:
        return None
    stages, plan = [stage_memory(work, stage) for stage in range(num_stages)], PipelinePlan(work)
    try:
        peaks = [
            [_peak(sizes, of_stage) for sizes, of_stage in zip(stages, _changes_of(plan, length), strict=True)]
            for length in lengths
        ]
    except MoesimError:
        return None
    last = peaks[-1]
    for (first, second), (from_m, to_m) in zip(pairwise(peaks), pairwise(lengths), strict=True):
        growth = (m - to_m) / (to_m - from_m)
        last = [
            {component: size + growth * (size - few[component]) for component, size in many.items()}
            for few, many in zip(first, second, strict=True)
        ]
    if work.mesh.convention.experts_span_stages:
        served = sum(peak["expert_activations"] for peak in last)
        last = [{**peak, "expert_activations": served} for peak in last]
    stage = max(range(num_stages), key=lambda i: (sum(last[i].values()), -i))
    components = {component: round(last[stage][component]) for component in MEMORY_COMPONENTS}
    return {"peak_bytes_per_gpu": {**components, "total": round(sum(last[stage].values()))}, "peak_stage": stage}


# ---- private -----------------------------------------------------------------------------------------------------


def _changes_of(plan: PipelinePlan, num_microbatches: int) -> list[_Changes]:
    """Return what the steps of each stage change, with so many microbatches."""
    own = plan.work.own_order
    return _changes(own) if own is not None else _of_schedule(plan.work.schedule, plan.pipeline_of(num_microbatches))


@lru_cache(maxsize=8)
def _of_schedule(kind: str, pipeline: Pipeline) -> list[_Changes]:
    """Return the changes of a schedule, and keep them: ZeRO and recomputation leave an order as it is."""
    return _changes(build_pipeline_order(kind, pipeline))


def _changes(pipeline_order: PipelineOrder) -> list[_Changes]:
    """Return what the steps of each stage change: F opens, B closes and lets wait for W, W ends."""
    changes = []
    for stage, steps in enumerate(pipeline_order.order):
        rows = []
        for step in steps:
            for pass_ in passes_of(step):
                waits = pass_.kind == "B" and pipeline_order.is_split(stage, pass_)
                opened, waiting = {"F": (1, 0), "B": (-1, int(waits)), "W": (0, -1)}[pass_.kind]
                rows.append((pass_.chunk, opened, waiting))
        changes.append(np.array(rows, dtype=np.int64))
    return changes


def _peak(sizes: StageMemory, changes: _Changes) -> dict[str, float]:
    """Return a stage's peak by component."""
    chunk, opened, waiting = changes.T
    known = len(sizes.chunks)
    share = min(1.0, known / (int(chunk.max(initial=0)) + 1))
    over_time = {
        component: np.cumsum(
            _each(sizes.chunks, component, share)[chunk % known] * opened
            + (_each(sizes.chunks, _WAITING[component], share)[chunk % known] * waiting if component in _WAITING else 0)
        )
        for component in _VARYING
    }
    at = int(np.argmax(sum(over_time.values())))
    constant = {
        component: float(getattr(sizes, component, 0.0)) for component in MEMORY_COMPONENTS if component not in _VARYING
    }
    return constant | {component: float(values[at]) for component, values in over_time.items()}


def _each(chunks: tuple[ChunkMemory, ...], component: str, share: float) -> NDArray[np.float64]:
    """Return what a microbatch adds to a component of memory in each chunk, in whole bytes."""
    return np.rint(share * np.array([getattr(chunk, component) for chunk in chunks]))
