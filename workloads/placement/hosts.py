"""Tokens of experts become tokens of the slots that hold them.

Model
-----
Of c tokens that a source has for an expert with n replicas, replica i gets floor((c + (i + source) mod n) / n): whole
tokens that sum to c, of which the odd ones go to another replica from source to source.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["moved_experts", "split_over_replicas"]

IntArray = NDArray[np.int64]


def split_over_replicas(counts: IntArray, slots: NDArray[np.intp]) -> IntArray:
    """Return what sources send to each slot. Shape [..., S, R, C].

    Parameters
    ----------
    counts
        Tokens of each source for each expert. Shape [..., S, E].
    slots
        Expert in each slot of each rank. Shape [R, C].

    Examples
    --------
    >>> split_over_replicas(np.array([[5, 2], [5, 2]]), np.array([[0, 1], [0, 0]]))
    array([[[1, 2],
            [2, 2]],
    <BLANKLINE>
           [[2, 2],
            [2, 1]]])
    """
    held = slots.ravel()
    copies = np.bincount(held, minlength=counts.shape[-1])[held]
    number = np.zeros(held.size, dtype=np.int64)
    for slot in np.flatnonzero(copies > 1).tolist():
        number[slot] = (held[:slot] == held[slot]).sum()
    turn = (number + np.arange(counts.shape[-2])[:, None]) % copies
    split = (counts[..., held] + turn) // copies
    return np.asarray(split.reshape(*counts.shape[:-1], *slots.shape), dtype=np.int64)


def moved_experts(before: NDArray[np.intp], after: NDArray[np.intp]) -> IntArray:
    """Return how many experts each rank copies from each other when the slots change. Shape [R, R], from by to.

    A rank that held an expert copies none; others take it from the first rank that held it, once for all
    their slots.

    Examples
    --------
    >>> moved_experts(np.array([[0, 1], [2, 3]]), np.array([[0, 2], [1, 3]]))
    array([[0, 1],
           [1, 0]])
    """
    holder = {expert: rank for rank in reversed(range(len(before))) for expert in before[rank].tolist()}
    moved = np.zeros((len(before), len(before)), dtype=np.int64)
    for rank, held in enumerate(after.tolist()):
        for expert in sorted(set(held) - set(before[rank].tolist())):
            moved[holder[expert], rank] += 1
    return moved
