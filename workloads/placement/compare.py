"""How evenly placements that know the loads spread them over ranks, and how evenly any could."""

import numpy as np
from numpy.typing import NDArray

from workloads.placement.bound import least_busiest_loads
from workloads.placement.place import place_experts
from workloads.placement.rule import PlacementRule

__all__ = ["max_over_mean"]


def max_over_mean(loads: NDArray[np.float64], *, num_ranks: int, replicas: int = 0) -> dict[str, float]:
    """Return the busiest rank over the mean by placement; `bound` is what none with as many slots can be below.

    Parameters
    ----------
    loads
        Tokens of each expert, not all 0. Shape [E].
    num_ranks
        Ranks, which divide the experts.
    replicas
        Slots beyond one for each expert, a multiple of the ranks; with any, EPLB is among the placements.

    Raises
    ------
    InvalidValueError
        Replicas do not give ranks equally many slots.

    Examples
    --------
    >>> max_over_mean(np.array([5.0, 3.0, 1.0, 3.0]), num_ranks=2)
    {'contiguous': 1.3333333333333333, 'greedy': 1.0, 'bound': 1.0}
    """
    rules = [PlacementRule(kind="contiguous"), PlacementRule(kind="greedy")]
    if replicas:
        rules.append(PlacementRule(kind="eplb", replicas=replicas))
    found, mean = {}, float(loads.sum()) / num_ranks
    for rule in rules:
        slots = place_experts(rule, num_experts=loads.size, num_ranks=num_ranks, loads=loads)
        of_each = loads / np.bincount(slots.ravel(), minlength=loads.size)
        found[rule.kind] = float(of_each[slots].sum(axis=1).max()) / mean
    bound = least_busiest_loads(loads[None], num_slots=loads.size + replicas, num_ranks=num_ranks)
    return {**found, "bound": float(bound[0]) / mean}
