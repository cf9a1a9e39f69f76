"""Whole numbers that keep their sum: the largest-remainder rule.

Model
-----
    share_i = floor(total * w_i / sum(w)),  the rest goes one each to the largest remainders, ties to the first
"""

from collections.abc import Sequence

__all__ = ["apportion"]


def apportion(total: int, weights: Sequence[int]) -> list[int]:
    """Divide `total` in proportion to `weights` into whole numbers that sum to it.

    >>> apportion(10, [1, 1, 1])
    [4, 3, 3]
    >>> apportion(5, [0, 0])
    [5, 0]
    """
    whole = sum(weights)
    if whole == 0:
        return [total] + [0] * (len(weights) - 1)
    shares = [total * weight // whole for weight in weights]
    remainders = [total * weight % whole for weight in weights]
    order = sorted(range(len(weights)), key=lambda i: (-remainders[i], i))
    for i in order[: total - sum(shares)]:
        shares[i] += 1
    return shares
