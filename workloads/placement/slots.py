"""Tokens of experts become tokens of the slots that hold the experts, and experts move from slot to slot.

Model
-----
Of c tokens that a source has for an expert with n replicas, replica i receives floor((c + (i + source) mod n) / n).
These are whole tokens that sum to c; the remainder goes to another replica from source to source.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["moved_experts", "split_over_replicas"]

IntArray = NDArray[np.int64]


def split_over_replicas(counts: IntArray, slots: NDArray[np.intp]) -> IntArray:
    """Return the tokens that each source sends to each slot. Shape [..., S, R, C].

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
    expert_of_slot = slots.ravel()
    num_replicas = np.bincount(expert_of_slot, minlength=counts.shape[-1])[expert_of_slot]
    replica = np.zeros(expert_of_slot.size, dtype=np.int64)
    for slot in np.flatnonzero(num_replicas > 1).tolist():
        replica[slot] = (expert_of_slot[:slot] == expert_of_slot[slot]).sum()
    turn = (replica + np.arange(counts.shape[-2])[:, None]) % num_replicas
    split = (counts[..., expert_of_slot] + turn) // num_replicas
    return np.asarray(split.reshape(*counts.shape[:-1], *slots.shape), dtype=np.int64)


def moved_experts(before: NDArray[np.intp], after: NDArray[np.intp]) -> IntArray:
    """Return how many experts each rank receives from each other rank when the slots change. Shape [R, R], from by to.

    A rank that had an expert before receives no copy of it. Any other rank receives the expert once, for all its
    slots, from the first rank that had the expert.

    Examples
    --------
    >>> moved_experts(np.array([[0, 1], [2, 3]]), np.array([[0, 2], [1, 3]]))
    array([[0, 1],
           [1, 0]])
    """
    first_rank_with = {expert: rank for rank in reversed(range(len(before))) for expert in before[rank].tolist()}
    moved = np.zeros((len(before), len(before)), dtype=np.int64)
    for rank, experts in enumerate(after.tolist()):
        for expert in sorted(set(experts) - set(before[rank].tolist())):
            moved[first_rank_with[expert], rank] += 1
    return moved
