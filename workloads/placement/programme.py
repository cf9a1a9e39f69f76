"""The linear programme behind `workloads.placement.bound`, solved as it stands: slow, and its oracle.

Model
-----
A linear programme over x[e, n], the part of expert e that has n replicas, and the load z of the busiest rank::

    minimise z
    sum over n of x[e, n] = 1                          for each expert
    sum over n of x[e, n] load[e] / n <= z             a replica is on one rank, and takes an equal part
    sum over e, n of n x[e, n] <= slots
    sum of loads / ranks <= z

An integral placement is one of its points, so no placement has less. More slots widen it: the bound never rises.

scipy solves it (the extra `moesim[lp]`).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.errors import InvalidValueError

__all__ = ["solve_busiest_load"]


def solve_busiest_load(loads: NDArray[np.float64], *, num_slots: int, num_ranks: int) -> float:
    """Return a load that the busiest rank has at least.

    Parameters
    ----------
    loads
        Tokens of each expert. Shape [E].
    num_slots, num_ranks
        Experts with their replicas; ranks.

    Examples
    --------
    >>> round(solve_busiest_load(np.array([9.0, 1.0, 1.0, 1.0]), num_slots=6, num_ranks=6), 9)  # three replicas
    3.0
    """
    try:
        from scipy.optimize import linprog  # noqa: PLC0415  # optional, and slow to import
        from scipy.sparse import csr_array  # noqa: PLC0415  # as above
    except ImportError:
        raise InvalidValueError(
            field="placement.programme", rule="have scipy", value="none", hint="Install moesim[lp]."
        ) from None
    solve: Any = linprog  # whose types differ from release to release
    num_experts, most = loads.size, num_slots - loads.size + 1
    copies = np.tile(np.arange(1, most + 1), num_experts)
    expert = np.repeat(np.arange(num_experts), most)
    place = np.arange(copies.size)
    at_most = csr_array(
        (
            np.concatenate([loads[expert] / copies, -np.ones(num_experts), copies]),
            (
                np.concatenate([expert, np.arange(num_experts), np.full(copies.size, num_experts)]),
                np.concatenate([place, np.full(num_experts, copies.size), place]),
            ),
        ),
        shape=(num_experts + 1, copies.size + 1),
    )
    whole = csr_array((np.ones(copies.size), (expert, place)), shape=(num_experts, copies.size + 1))
    solved = solve(
        np.append(np.zeros(copies.size), 1.0),
        A_ub=at_most,
        b_ub=np.append(np.zeros(num_experts), num_slots),
        A_eq=whole,
        b_eq=np.ones(num_experts),
        bounds=[(0, None)] * copies.size + [(float(loads.sum()) / num_ranks, None)],
        method="highs",
    )
    return float(solved.fun)
