"""Collectives over the replicas of parameters: the ranks that hold the same ones, dense and expert apart.

Replicas may lie in several lanes, which then meet. What lanes do together is in the hands of the first of each group.
"""

import numpy as np
from numpy.typing import NDArray

from sim.engine.ops import NO_LAYER, Collective, Join
from sim.engine.plan.costs import Costs
from sim.engine.plan.work import Work

__all__ = ["over_replicas"]

Ranks = NDArray[np.intp]


def over_replicas(
    work: Work,
    costs: Costs,
    place: tuple[int, int],
    lane_of: Ranks,
    *,
    operation: str,
    params: tuple[float, float],
    bytes_per_param: int,
    layer: int = NO_LAYER,
) -> list[Collective]:
    """Return the collective in which a lane takes part; none where nothing has a replica.

    Parameters
    ----------
    work, costs, place
        What runs, and on which (stage, lane).
    lane_of
        The lane that runs for each. Shape [lanes].
    operation
        all_reduce, reduce_scatter or all_gather.
    params, bytes_per_param
        Dense and expert parameters of a rank, and the bytes of each.
    layer
        Layer of the parameters, if they are of one; lanes meet by operation, stage and layer.
    """
    mesh, (stage, _lane) = work.mesh, place
    stages = mesh.stages_alike(stage)
    homes = np.zeros((mesh.world, 2), dtype=np.intp)  # stage and lane of each rank
    for one in stages:
        homes[mesh.lanes(one), 0] = one
        homes[mesh.lanes(one), 1] = np.arange(mesh.num_lanes)[:, None]
    everything = ((mesh.dp_groups(stage), params[0]), (mesh.expert_dp_groups(stage), params[1]))
    families = [(groups, num_params) for groups, num_params in everything if groups.shape[1] > 1 and num_params > 0]
    crosses_lanes = any((homes[groups] != homes[groups[:, :1]]).any() for groups, _ in families)
    transfers, number = [], 0
    for groups, num_params in families:
        transfers += [
            costs.transfers.collective(operation, groups[i], float(num_params * bytes_per_param), group=number + 1 + i)
            for i in np.flatnonzero((homes[groups[:, 0]] == place).all(axis=1)).tolist()
        ]
        number += len(groups)
    if not transfers and not crosses_lanes:
        return []
    join = None
    if crosses_lanes:
        members = tuple((one, other) for one in stages for other in np.unique(lane_of).tolist())
        join = Join(key=("dp", operation, stages[0], layer), members=members)
    return [Collective(kind="dp", layer=layer, transfers=tuple(transfers), join=join)]
