"""What becomes of token copies beyond the capacity of an expert.

Model
-----
    capacity = min(tokens, ceil(factor * tokens * top_k / experts))     of an expert, for the tokens of one source rank

    drop       copies beyond the capacity are not computed
    pad        as drop, and experts with fewer copies compute empty rows up to their capacity
    reroute    copies beyond the capacity go to the next experts with room, by number and once around; copies that find
               no room are dropped

A token takes an expert once, so an expert has at most all tokens: any factor of experts / top_k and more, however
large, sets no bound. The routed copies are the computed and the dropped copies. Padding is counted apart, and so are
the computed copies that another expert than their own computes.

Only counts are known, and not which tokens they belong to. A rerouted copy must not meet an expert that its token has
already: of n copies that pass by, an expert takes only

    n * (1 - (top_k - 1) * copies that it has / (tokens * top_k - c[e]))       e: their own expert; in whole copies

These copies come from tokens without that expert if the top_k - 1 other choices of a token of e spread over the other
experts as all copies but the c[e] copies of e do. The other copies go on. At top-1 no copy can repeat. Where tokens
keep to some nodes (`groups`), copies go on among the experts of their node only.

Assumptions
-----------
The next expert is the expert with the next number; real routers take the next choice of the token. Two rerouted copies
of one token may come to the same expert.

References
----------
Fedus, Zoph, Shazeer, "Switch Transformers", 2022, equation 3. Each rank fills buffers of its own, as in Megatron-LM.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.errors import InvalidValueError

__all__ = ["OVERFLOWS", "KeptCopies", "keep_capacity"]

IntArray = NDArray[np.int64]

OVERFLOWS = ("drop", "pad", "reroute")
"""What may become of token copies beyond the capacity of an expert."""


class KeptCopies(NamedTuple):
    """Token copies after the capacities are applied."""

    computed: IntArray
    """Copies that experts compute. Shape [..., S, E]."""
    carried: IntArray
    """Computed copies and padding, which are sent and which kernels run on. Shape [..., S, E]."""
    rerouted: IntArray
    """Computed copies that came from another expert. Shape [..., S]."""


def keep_capacity(
    counts: IntArray, *, factor: float | None, overflow: str, tokens: int, top_k: int, groups: int = 1
) -> KeptCopies:
    """Return the copies that experts compute of counts [..., S, E], where each source has `tokens` tokens.

    Parameters
    ----------
    counts
        Token copies of each source for each expert. Shape [..., S, E].
    factor
        Capacity over the mean number of copies of an expert; None: no bound.
    overflow
        One of `OVERFLOWS`.
    tokens, top_k
        Tokens of a source, and experts of a token.
    groups
        Groups of equally many experts, in order; rerouted copies stay in their group.

    Examples
    --------
    >>> keep_capacity(np.array([[5, 1, 0]]), factor=1.0, overflow="reroute", tokens=6, top_k=1).computed
    array([[2, 2, 2]])
    """
    no_copies = np.zeros(counts.shape[:-1], dtype=np.int64)
    if factor is None:
        return KeptCopies(counts, counts, no_copies)
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
        return KeptCopies(kept, np.full_like(counts, capacity), no_copies)
    if overflow == "drop" or not is_bound:
        return KeptCopies(kept, kept, no_copies)
    by_group = (*counts.shape[:-1], groups, -1)
    computed = _reroute(counts.reshape(by_group), kept.reshape(by_group), capacity, tokens, top_k)
    computed = computed.reshape(counts.shape)
    return KeptCopies(computed, computed, (computed - kept).sum(axis=-1))


def _reroute(counts: IntArray, kept: IntArray, capacity: int, tokens: int, top_k: int) -> IntArray:
    """Return `kept` [..., E] with the other copies moved to the next experts with room, once around."""
    kept, num_experts = kept.copy(), counts.shape[-1]
    overflow, other_choices = counts - kept, np.maximum(tokens * top_k - counts, 1)
    waiting, crowding = np.zeros(counts.shape[:-1], dtype=np.int64), np.zeros(counts.shape[:-1])
    for step in range(2 * num_experts):
        expert = step % num_experts
        if step < num_experts:
            waiting += overflow[..., expert]
            crowding += overflow[..., expert] / other_choices[..., expert]
        room = capacity - kept[..., expert]
        repeated = np.minimum((top_k - 1) * kept[..., expert] * crowding, waiting)  # their tokens have the expert
        taken = np.minimum(room, waiting - np.rint(repeated).astype(np.int64))
        kept[..., expert] += taken
        crowding *= 1.0 - taken / np.maximum(waiting, 1)
        waiting -= taken
    return kept
