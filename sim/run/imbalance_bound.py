"""How evenly a run's tokens could have been spread over ranks by the best of all placements.

Model
-----
For the loads of each layer, microbatch and lane, the busiest rank of the linear pipeline_order of
`workloads.placement.bound` over the mean of the ranks, averaged as `imbalance_max_over_mean` is: so that figure of the
same run is never below. Loads are what experts computed, after capacities.

Assumptions
-----------
The best placement may be another for each layer, microbatch and lane, and has as many slots as the run's.
"""

from collections.abc import Mapping

import numpy as np

from sim.build.work import Work
from sim.plan.loads import LoadLog
from workloads.placement.bound import min_busiest_loads

__all__ = ["IMBALANCE_BOUND", "imbalance_bound"]

IMBALANCE_BOUND = "imbalance_bound_max_over_mean"
"""What it is called among a run's values."""


def imbalance_bound(work: Work, loads: LoadLog, lane_counts: Mapping[int, int]) -> float:
    """Return the least mean of max/mean over ranks that placements with the run's slots have; 1 without any tokens.

    Parameters
    ----------
    work
        What ran.
    loads
        Tokens of its experts.
    lane_counts
        Lanes that ran, and how many lanes each stands for.
    """
    num_ranks = work.mesh.strategy.ep
    num_slots = work.model.experts + work.placement.replicas
    total = weights = 0.0
    for lane, count in lane_counts.items():
        kept = loads.of_lane(lane).astype(float)
        num_draws, num_groups, num_experts = kept.shape
        busiest = min_busiest_loads(kept.reshape(-1, num_experts), num_slots=num_slots, num_ranks=num_ranks)
        sums = kept.sum(axis=(1, 2))
        most = busiest.reshape(num_draws, num_groups).max(axis=1) * num_groups * num_ranks
        total += count * float((most[sums > 0] / sums[sums > 0]).sum())
        weights += count * int(np.count_nonzero(sums))
    return total / weights if weights else 1.0
