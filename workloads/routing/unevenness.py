"""How uneven the loads of experts are, in the usual measures.

Model
-----
    max_over_mean    largest load / mean
    gini             mean absolute difference of two experts / (2 mean): 0 for equal loads, 1 - 1/E where one has all
    entropy          - sum p log p / log E of shares p: 1 for equal loads, 0 where one has all
    cv               standard deviation over all experts / mean
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["unevenness"]


def unevenness(loads: NDArray[np.float64]) -> dict[str, float | int]:
    """Return the measures of loads [E], which are not all 0.

    Examples
    --------
    >>> found = unevenness(np.array([2.0, 0.0]))
    >>> found["max_over_mean"], found["gini"], found["entropy"], found["cv"], found["idle_experts"]
    (2.0, 0.5, 0.0, 1.0, 1)
    """
    num_experts, total = loads.size, float(loads.sum())
    shares = np.sort(loads) / total
    ranks = np.arange(1, num_experts + 1)
    used = shares[shares > 0]
    entropy = float(-(used * np.log(used)).sum() / np.log(num_experts)) if num_experts > 1 else 1.0
    return {
        "tokens": total,
        "max_over_mean": float(shares[-1] * num_experts),
        "gini": float((2 * ranks - num_experts - 1) @ shares / num_experts),
        "entropy": abs(entropy),  # no minus before 0
        "cv": float(shares.std() * num_experts),
        "idle_experts": int((shares == 0).sum()),
    }
