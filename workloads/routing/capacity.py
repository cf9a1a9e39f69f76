"""What becomes of tokens beyond an expert's capacity.

Model
-----
    capacity = min(tokens, ceil(factor * tokens * top_k / experts))     of an expert, for the tokens of one source rank

    drop       copies beyond it are not computed
    pad        the same, and experts with fewer compute empty rows up to their capacity
    reroute    copies beyond it go to the next experts with room, in the order of numbers and once around; what finds
               none is dropped

A token takes an expert once, so that none can have more than all tokens: any factor of experts / top_k and more,
however large, is without a bound. Routed copies are those that are computed and those that are dropped; padding is
counted apart, and of those computed the ones that another expert than their own computes.

Only counts are known, not which tokens they are. So that a rerouted copy does not meet an expert which its token has
already, an expert takes of n copies that pass by only

    n * (1 - (top_k - 1) * copies that it has / (tokens * top_k - c[e]))       e: where they come from; in whole copies

which come from tokens without it if the top_k - 1 other choices of a token of e spread over the other experts as all
copies but the c[e] of e do. Those that it does not take go on. At top-1 no copy can repeat. Where tokens keep to some
nodes (`groups`), copies go on among the experts of their node only.

Assumptions
-----------
Which expert is next is a matter of numbers; real routers take the token's next choice. Of a token with two copies on
their way, both may come to the same expert.

References
----------
Fedus, Zoph, Shazeer, "Switch Transformers", 2022, equation 3. Each rank fills its own buffers, as in Megatron-LM.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.errors import InvalidValueError

__all__ = ["OVERFLOWS", "Kept", "keep_capacity"]

IntArray = NDArray[np.int64]

OVERFLOWS = ("drop", "pad", "reroute")
"""What may become of tokens beyond capacity."""


class Kept(NamedTuple):
    """Copies of tokens after capacities."""

    computed: IntArray
    """Copies that experts compute. Shape [..., S, E]."""
    carried: IntArray
    """The same with padding: what is sent and what kernels run on. Shape [..., S, E]."""
    rerouted: IntArray
    """Copies among those computed that came from another expert. Shape [..., S]."""


def keep_capacity(
    counts: IntArray, *, factor: float | None, overflow: str, tokens: int, top_k: int, groups: int = 1
) -> Kept:
    """Return what is left of counts [..., S, E] of `tokens` tokens of each source.

    Parameters
    ----------
    counts
        Copies of tokens of each source for each expert. Shape [..., S, E].
    factor
        Capacity over the mean of the experts; None: no bound.
    overflow
        drop, pad or reroute.
    tokens, top_k
        Tokens of a source, and experts of each.
    groups
        Groups of equally many experts, in order, of which rerouted copies stay in their own.

    Examples
    --------
    >>> keep_capacity(np.array([[5, 1, 0]]), factor=1.0, overflow="reroute", tokens=6, top_k=1).computed
    array([[2, 2, 2]])
    """
    none = np.zeros(counts.shape[:-1], dtype=np.int64)
    if factor is None:
        return Kept(counts, counts, none)
    if overflow not in OVERFLOWS:
        raise InvalidValueError(
            field="routing.overflow",
            rule=f"be one of {', '.join(OVERFLOWS)}",
            value=overflow,
            hint="Use drop.",
        )
    mean = tokens * top_k / counts.shape[-1]
    is_bound = factor * mean < tokens
    capacity = math.ceil(factor * mean - 1e-9) if is_bound else tokens  # a product such as 1.1 * 10 is no more than 11
    kept = np.minimum(counts, capacity) if is_bound else counts
    if overflow == "pad":
        return Kept(kept, np.full_like(counts, capacity), none)
    if overflow == "drop" or not is_bound:
        return Kept(kept, kept, none)
    by_group = (*counts.shape[:-1], groups, -1)
    computed = _sent_on(counts.reshape(by_group), kept.reshape(by_group), capacity, tokens, top_k).reshape(counts.shape)
    return Kept(computed, computed, (computed - kept).sum(axis=-1))


def _sent_on(counts: IntArray, kept: IntArray, capacity: int, tokens: int, top_k: int) -> IntArray:
    """Return `kept` [..., E] and what of the others went on to the next experts with room, once around."""
    kept, num_experts = kept.copy(), counts.shape[-1]
    beyond, others = counts - kept, np.maximum(tokens * top_k - counts, 1)  # choices of all tokens but those of one
    excess, crowding = np.zeros(counts.shape[:-1], dtype=np.int64), np.zeros(counts.shape[:-1])
    for step in range(2 * num_experts):
        expert = step % num_experts
        if step < num_experts:
            excess += beyond[..., expert]
            crowding += beyond[..., expert] / others[..., expert]
        room = capacity - kept[..., expert]
        repeated = np.minimum((top_k - 1) * kept[..., expert] * crowding, excess)  # that have the expert already
        taken = np.minimum(room, excess - np.rint(repeated).astype(np.int64))
        kept[..., expert] += taken
        crowding *= 1.0 - taken / np.maximum(excess, 1)
        excess -= taken
    return kept
