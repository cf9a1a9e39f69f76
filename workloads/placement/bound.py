"""A lower bound on the load of the busiest rank, whatever the placement with as many slots.

Model
-----
The least z of a linear programme over x[e, n], the part of expert e that has n replicas::

    sum over n of x[e, n] = 1                          for each expert
    sum over n of x[e, n] load[e] / n <= z             a replica is on one rank, and takes an equal part
    sum over e, n of n x[e, n] <= slots
    sum of loads / ranks <= z

An integral placement is one of its points, so no placement has less. More slots widen it: the bound never rises.

Given z, experts are independent. The fewest slots that expert e can do with lie on the lower hull of the points
(load / n, n), which are convex, and so between neighbours::

    slots(z) = sum over e of 2 n + 1 - n (n + 1) z / load[e],  n = max(0, ceil(load[e] / z) - 1)

That is convex, falling and linear in pieces, so Newton's method from the left meets `slots(z) = slots` after finitely
many steps. No solver is needed; `workloads.placement.programme` has one, which tests hold this against.

Assumptions
-----------
That slots of a rank share it is only in the mean, so the bound is loose where few large experts meet on a rank. A
placement may be another for each row of loads, which real ones are not: loose again where loads change.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["least_busiest_loads"]

FloatArray = NDArray[np.float64]

_MOST_STEPS = 200  # some ten are taken; rounding must not make an endless loop


def least_busiest_loads(loads: FloatArray, *, num_slots: int, num_ranks: int) -> FloatArray:
    """Return, for each row, a load that the busiest rank has at least. Shape [N].

    Parameters
    ----------
    loads
        Tokens of each expert, in rows of their own. Shape [N, E].
    num_slots, num_ranks
        Experts with their replicas, at least one slot for each; ranks.

    Examples
    --------
    Three replicas of the hot expert, or half of its tokens on one rank:

    >>> least_busiest_loads(np.array([[9.0, 1.0, 1.0, 1.0]]), num_slots=6, num_ranks=6)
    array([3.])
    >>> least_busiest_loads(np.array([[9.0, 1.0, 1.0, 1.0]]), num_slots=5, num_ranks=5)
    array([4.5])
    """
    most_copies = num_slots - loads.shape[1] + 1
    z = np.maximum(loads.sum(axis=1) / num_ranks, loads.max(axis=1) / most_copies)
    for _ in range(_MOST_STEPS):
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
