"""What follows the last backward pass: gradient reduction over the replicas, and the optimizer step.

Model
-----
    zero 0    all-reduce of gradients, then Adam on all of a rank's parameters
    zero 1    reduce-scatter of gradients, Adam on 1 / replicas of them, all-gather of weights
    zero 2    Adam on 1 / replicas, all-gather of weights: the passes have reduced the gradients (`plan.sharded`)
    zero 3    Adam on 1 / replicas: the passes gather the weights as well

Dense parameters have DP replicas; experts have R / EP of a stage's R ranks, one under `spanning`.

Then the copies of experts that EPLB put on several ranks of a group add up what each has (`plan.copies`); each copy is
updated where it lies.

Under `spanning` an expert serves all stages, so all stages meet after their backward passes, before anything else.

Gradients are reduced in the type they are kept in, by default 4 bytes (Megatron's), weights gathered in the model's
type. Adam reads gradient, two moments and master weight and writes moments, master weight and weight: by default 28 +
weight bytes per parameter.

Assumptions
-----------
Reduction starts after the last backward pass: no overlap with it, which is pessimistic where frameworks overlap.
"""

import numpy as np
from numpy.typing import NDArray

from sim.build.work import Work
from sim.plan.costs import Costs
from sim.plan.data_parallel import exchanged, over_replicas
from sim.plan.expert_replica_gradients import sum_over_copies
from sim.plan.ops import Collective, Op, RendezvousKey, Transfer
from workloads.layers import optimizer_step
from workloads.memory import optimized_params_per_rank, params_per_rank

__all__ = ["finish_training", "gradient_transfers"]

Ranks = NDArray[np.intp]


def finish_training(work: Work, costs: Costs, stage: int, lane: int, lane_of: Ranks) -> list[Op]:
    """Return the ops after the last pass of one lane, which meets those that run.

    `lane_of` says which lane runs for each. What lanes do together is in the hands of the first, which always runs: it
    has a rank in each of these groups. Shape [lanes].
    """
    dense, expert = _params(work, stage)
    ranks = work.mesh.lanes(stage)[lane]
    updated = optimized_params_per_rank(work.model, work.mesh, work.stage_parameters(stage), stage, zero=work.zero)
    step = optimizer_step(updated, work.precision.step_bytes(work.model.dtype_bytes))
    update = costs.kernels.compute([step], ranks.size)

    def over(operation: str, bytes_per_param: int) -> list[Collective]:
        """Return an operation over the replicas of the stage's dense and expert parameters."""
        return over_replicas(
            work,
            costs,
            (stage, lane),
            lane_of,
            operation=operation,
            params=(dense, expert),
            bytes_per_param=bytes_per_param,
        )

    reduced: list[Op] = [*over(_reduction(work), work.precision.gradient_bytes)] if work.zero < 2 else []
    if work.mesh.convention.experts_span_stages and work.mesh.num_stages * work.mesh.num_lanes > 1:
        reduced = [_wait_for_all_stages(work), *reduced]
    reduced += sum_over_copies(work, costs, stage, lane)
    if work.zero in (0, 3):
        return [*reduced, update]
    return [*reduced, update, *over("all_gather", work.model.dtype_bytes)]


def gradient_transfers(work: Work, costs: Costs, stage: int) -> list[Transfer]:
    """Return all that the replicas of a stage exchange, as if it were all after the last pass.

    What copies of experts add up is left out: it stays in each lane, and is alike where their wiring is.
    ZeRO 2 and 3 put the same bytes on the same links as ZeRO 1, in other shares.
    """
    params = _params(work, stage)
    operations = [(_reduction(work), work.precision.gradient_bytes)]
    operations += [("all_gather", work.model.dtype_bytes)] if work.zero else []
    return [
        transfer
        for operation, num_bytes in operations
        for transfer in exchanged(
            work, costs, stage, operation=operation, params=params, bytes_per_param=num_bytes
        ).transfers
    ]


# ---- private -----------------------------------------------------------------------------------------------------


def _params(work: Work, stage: int) -> tuple[int, int]:
    """Return the dense and the expert parameters of a rank, copies of experts with them."""
    return params_per_rank(work.model, work.mesh, work.stage_parameters(stage))


def _reduction(work: Work) -> str:
    return "reduce_scatter" if work.zero else "all_reduce"


def _wait_for_all_stages(work: Work) -> Op:
    """Return a meeting of all lanes: a spanning rank's expert has its gradient when the last of them has used it."""
    members = tuple((stage, lane) for stage in range(work.mesh.num_stages) for lane in range(work.mesh.num_lanes))
    join = RendezvousKey(key=("gradients",), members=members, is_barrier=True)
    return Collective(kind="dp", layer=-1, transfers=(), join=join)
