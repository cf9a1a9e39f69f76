"""Collectives over the replicas of parameters: the ranks that hold the same ones, dense and expert apart.

Replicas may lie in several lanes, which then meet. What lanes do together is in the hands of the first of each group.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.build.work import Work
from sim.plan.costs import Costs
from sim.plan.ops import NO_LAYER, Collective, RendezvousKey, Transfer

__all__ = ["Exchanged", "exchanged", "over_replicas"]

Ranks = NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchanged:
    """What replicas of parameters of a stage exchange."""

    transfers: tuple[Transfer, ...]
    """One for each group of ranks that hold the same parameters."""
    homes: tuple[tuple[int, int], ...]
    """Stage and lane of the first rank of each group."""
    crosses_lanes: bool
    """Whether a group has ranks in several lanes."""


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
    stages = work.mesh.stages_with_same_layers(place[0])
    found = exchanged(work, costs, place[0], operation=operation, params=params, bytes_per_param=bytes_per_param)
    transfers = tuple(transfer for transfer, home in zip(found.transfers, found.homes, strict=True) if home == place)
    if not transfers and not found.crosses_lanes:
        return []
    join = None
    if found.crosses_lanes:
        members = tuple((stage, other) for stage in stages for other in np.unique(lane_of).tolist())
        join = RendezvousKey(key=("dp", operation, stages[0], layer), members=members)
    return [Collective(kind="dp", layer=layer, transfers=transfers, join=join)]


def exchanged(
    work: Work, costs: Costs, stage: int, *, operation: str, params: tuple[float, float], bytes_per_param: int
) -> Exchanged:
    """Return what all lanes of a stage, and of the one that holds the same, exchange, priced once."""
    stage = work.mesh.stages_with_same_layers(stage)[0]
    num_bytes = tuple(float(num_params * bytes_per_param) for num_params in params)
    return costs.shared(
        ("replicas", operation, stage, num_bytes), lambda: _exchanged(work, costs, stage, operation, num_bytes)
    )


# ---- private -----------------------------------------------------------------------------------------------------


def _exchanged(work: Work, costs: Costs, stage: int, operation: str, num_bytes: tuple[float, ...]) -> Exchanged:
    """Return the same of as many bytes of dense parameters and of experts on each rank."""
    mesh = work.mesh
    homes = np.zeros((mesh.world, 2), dtype=np.intp)  # stage and lane of each rank
    for one in mesh.stages_with_same_layers(stage):
        homes[mesh.lanes(one), 0] = one
        homes[mesh.lanes(one), 1] = np.arange(mesh.num_lanes)[:, None]
    everything = zip((mesh.dp_groups(stage), mesh.expert_dp_groups(stage)), num_bytes, strict=True)
    families = [(groups, of_rank) for groups, of_rank in everything if groups.shape[1] > 1 and of_rank > 0]
    transfers: list[Transfer] = []
    for groups, of_rank in families:
        transfers += [
            costs.transfers.collective(operation, group, of_rank, group=number)
            for number, group in enumerate(groups, start=len(transfers) + 1)
        ]
    return Exchanged(
        transfers=tuple(transfers),
        homes=tuple(_place(*home) for groups, _ in families for home in homes[groups[:, 0]].tolist()),
        crosses_lanes=any((homes[groups] != homes[groups[:, :1]]).any() for groups, _ in families),
    )


def _place(stage: int, lane: int) -> tuple[int, int]:
    return stage, lane
