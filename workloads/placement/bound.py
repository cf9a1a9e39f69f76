"""A lower bound on the load of the busiest rank for every placement with as many slots, and what placements reach.

Model
-----
The bound is the minimum z of a linear programme over x[e, n], the part of expert e that has n replicas::

    sum over n of x[e, n] = 1                          for each expert
    sum over n of x[e, n] load[e] / n <= z             a replica is on one rank, and receives an equal part
    sum over e, n of n x[e, n] <= slots
    sum of loads / ranks <= z

Every integral placement is a feasible point, so no placement has a smaller load. More slots widen the feasible set, so
the bound never rises with them.

For a given z the experts are independent. The minimum number of slots of expert e lies on the lower convex hull of the
points (load / n, n), and so between neighbours::

    slots(z) = sum over e of 2 n + 1 - n (n + 1) z / load[e],  n = max(0, ceil(load[e] / z) - 1)

This function is convex, decreasing and piecewise linear, so Newton's method from the left reaches `slots(z) = slots`
after finitely many steps without a solver. The tests compare it with the linear programme as scipy solves it.

Assumptions
-----------
The slots of a rank share its load only in the mean, so the bound is loose where few large experts meet on a rank. The
placement may differ from row to row of the loads, which real placements do not: the bound is loose where loads change.
"""

import numpy as np
from numpy.typing import NDArray

from workloads.placement.kinds import PlacementRequest, PlacementRule, place_experts

__all__ = ["max_over_mean", "min_busiest_loads"]

FloatArray = NDArray[np.float64]

_MAX_STEPS = 200
"""Newton's method takes about ten steps; the limit keeps rounding from making an endless loop."""


def min_busiest_loads(loads: FloatArray, *, num_slots: int, num_ranks: int) -> FloatArray:
    """Return, for each row of loads, a lower bound on the load of the busiest rank. Shape [N].

    Parameters
    ----------
    loads
        Tokens of each expert. Shape [N, E].
    num_slots, num_ranks
        Slots for experts and their replicas, at least one slot for each expert; ranks.

    Examples
    --------
    The hot expert has three replicas, or half of its tokens on one rank:

    >>> min_busiest_loads(np.array([[9.0, 1.0, 1.0, 1.0]]), num_slots=6, num_ranks=6)
    array([3.])
    >>> min_busiest_loads(np.array([[9.0, 1.0, 1.0, 1.0]]), num_slots=5, num_ranks=5)
    array([4.5])
    """
    max_replicas = num_slots - loads.shape[1] + 1
    z = np.maximum(loads.sum(axis=1) / num_ranks, loads.max(axis=1) / max_replicas)
    for _ in range(_MAX_STEPS):
        with np.errstate(divide="ignore", invalid="ignore"):  # experts, and rows, without any tokens
            n = np.maximum(0.0, np.ceil(np.nan_to_num(loads / z[:, None])) - 1)
            steepness = np.where(n > 0, n * (n + 1) / loads, 0.0).sum(axis=1)
            excess = (2 * n + 1).sum(axis=1) - steepness * z - num_slots
            step = np.where(excess > 0, excess / steepness, 0.0)
        later = z + step
        if (later <= z * (1 + 1e-15)).all():
            break
        z = later
    return np.asarray(z, dtype=float)


def max_over_mean(loads: FloatArray, *, num_ranks: int, replicas: int = 0) -> dict[str, float]:
    """Return the load of the busiest rank over the mean by placement, and under `bound` the bound for all placements.

    Parameters
    ----------
    loads
        Tokens of each expert, not all 0. Shape [E].
    num_ranks
        Ranks, which divide the slots.
    replicas
        Slots beyond one for each expert; with any, EPLB is among the placements. The other placements have them where
        the ranks do not divide the experts.

    Raises
    ------
    InvalidValueError
        The replicas do not give all ranks equally many slots.

    Examples
    --------
    >>> max_over_mean(np.array([5.0, 3.0, 1.0, 3.0]), num_ranks=2)
    {'contiguous': 1.3333333333333333, 'greedy': 1.0, 'bound': 1.0}
    """
    needed = replicas if loads.size % num_ranks else 0
    rules = [PlacementRule(kind=kind, replicas=needed) for kind in ("contiguous", "greedy")]
    if replicas:
        rules.append(PlacementRule(kind="eplb", replicas=replicas))
    ratios, mean = {}, float(loads.sum()) / num_ranks
    for rule in rules:
        slots = place_experts(PlacementRequest(rule=rule, num_experts=loads.size, num_ranks=num_ranks, loads=loads))
        per_replica = loads / np.bincount(slots.ravel(), minlength=loads.size)
        ratios[rule.kind] = float(per_replica[slots].sum(axis=1).max()) / mean
    bound = min_busiest_loads(loads[None], num_slots=loads.size + replicas, num_ranks=num_ranks)
    return {**ratios, "bound": float(bound[0]) / mean}
