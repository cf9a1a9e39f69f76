"""Equally many things into packs of nearly equal weight, the heaviest first, each to the lightest pack with room.

It is the longest-processing-time rule under a limit on the things of a pack. Ties go to the thing, and to the pack,
that stands first.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["pack"]

IntArray = NDArray[np.intp]


def pack(weights: NDArray[np.float64], num_packs: int) -> tuple[IntArray, IntArray]:
    """Return the pack of each thing, and its place there; `num_packs` divides the number of things. Both [N].

    Examples
    --------
    >>> pack(np.array([3.0, 9.0, 5.0, 1.0]), 2)
    (array([1, 0, 1, 0]), array([1, 0, 0, 1]))
    """
    room = weights.size // num_packs
    if room == 1:
        return np.arange(weights.size), np.zeros(weights.size, dtype=np.intp)
    pack_of, place = np.zeros(weights.size, dtype=np.intp), np.zeros(weights.size, dtype=np.intp)
    filled, load = [0] * num_packs, [0.0] * num_packs
    for thing in np.argsort(-weights, kind="stable").tolist():
        chosen = min((i for i in range(num_packs) if filled[i] < room), key=load.__getitem__)
        pack_of[thing], place[thing] = chosen, filled[chosen]
        filled[chosen] += 1
        load[chosen] += float(weights[thing])
    return pack_of, place
