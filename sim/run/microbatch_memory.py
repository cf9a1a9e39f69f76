"""What the passes of a `passes` scenario hold: the peak of a stage, from `workload.held`.

Model
-----
A microbatch holds `held.B` on a stage from the start of its F to the end of its B, and `held.W` from there to the end
of its W where that is a pass of its own. Chunks share both evenly, the copies of a both-ways pipeline hold the whole.
"""

from sim.engine.trace import Trace
from sim.results.memory import ChunkMemory, StageMemory, memory_of
from sim.scenario.workload_section import HeldBytes
from workloads.schedules import ChunkLayout

__all__ = ["held_metrics"]


def held_metrics(trace: Trace, held: HeldBytes, placement: ChunkLayout) -> dict[str, float]:
    """Return `held_bytes`, the most that any stage holds, and `held_microbatches`, that over `held.B`.

    Parameters
    ----------
    trace
        The run.
    held
        What a microbatch holds on a stage [bytes].
    placement
        Where the chunks stand.

    Examples
    --------
    >>> from sim.build.work import PassesWork
    >>> from sim.plan.passes import PassesPlan
    >>> from sim.engine.simulation import run_plan
    >>> work = PassesWork(pass_times_s=[(1e-3, 2e-3, 0.0)] * 3, num_microbatches=6, p2p_s=0.0, schedule="1f1b")
    >>> plan = PassesPlan(work)
    >>> held_metrics(run_plan(plan).trace, HeldBytes(B="1 GB", W="0.4 GB"), plan.pipeline_order.layout)
    {'held_bytes': 3000000000, 'held_microbatches': 3.0}
    """
    one = ChunkMemory(activations=held.B, weight_pass=held.W)
    stage = StageMemory(chunks=(one,) * (2 if placement.kind == "both_ways" else 1))
    memory = memory_of(trace, [stage] * placement.num_stages, capacity_bytes=1.0, microbatches=_count(trace))
    peak = memory["peak_bytes_per_gpu"]["total"]
    return {"held_bytes": peak, "held_microbatches": peak / held.B}


def _count(trace: Trace) -> int:
    """Return the microbatches of a run, which are one batch."""
    return int(trace.ints("microbatch").max(initial=0)) + 1
