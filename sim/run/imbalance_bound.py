"""How evenly the tokens of a run could have been spread over ranks by the best of all placements.

Model
-----
For the loads of each layer, microbatch and lane, the lower bound of `workloads.placement.bound` on the load of the
busiest rank over the mean of the ranks, averaged as `imbalance_max_over_mean` is: that figure of the same run is never
below the bound. Loads are the tokens that experts computed, after capacities.

Assumptions
-----------
The best placement may differ from layer to layer, from microbatch to microbatch and from lane to lane. It has as many
slots as the placement of the run.
"""

from collections.abc import Mapping

import numpy as np

from sim.build.work import Work
from sim.plan.logs import LoadLog
from workloads.placement.bound import min_busiest_loads

__all__ = ["IMBALANCE_BOUND", "imbalance_bound"]

IMBALANCE_BOUND = "imbalance_bound_max_over_mean"
"""Name of the bound among the values of a run."""


def imbalance_bound(work: Work, loads: LoadLog, lane_counts: Mapping[int, int]) -> float:
    """Return a lower bound on the mean of max/mean over ranks of all placements with as many slots; 1 without tokens.

    Parameters
    ----------
    work
        Work that ran.
    loads
        Tokens that the experts computed.
    lane_counts
        Lane that ran -> number of lanes that it stands for.
    """
    num_ranks = work.mesh.strategy.ep
    num_slots = work.model.experts + work.placement.replicas
    total = weights = 0.0
    for lane, count in lane_counts.items():
        computed = loads.of_lane(lane).astype(float)
        num_draws, num_groups, num_experts = computed.shape
        busiest = min_busiest_loads(computed.reshape(-1, num_experts), num_slots=num_slots, num_ranks=num_ranks)
        sums = computed.sum(axis=(1, 2))
        max_over_groups = busiest.reshape(num_draws, num_groups).max(axis=1) * num_groups * num_ranks
        total += count * float((max_over_groups[sums > 0] / sums[sums > 0]).sum())
        weights += count * int(np.count_nonzero(sums))
    return total / weights if weights else 1.0
