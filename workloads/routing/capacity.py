"""What becomes of tokens beyond an expert's capacity.

Model
-----
    capacity = ceil(factor * tokens * top_k / experts)         of an expert, for the tokens of one source rank

    drop       copies beyond it are not computed
    pad        the same, and experts with fewer compute empty rows up to their capacity
    reroute    copies beyond it go to the next expert with room, in the order of numbers; dropped where none has any

Routed copies are those that are computed and those that are dropped; padding is counted apart.

Assumptions
-----------
A copy that is sent on may meet an expert that its token has chosen already; real routers take the token's next choice.

References
----------
Fedus, Zoph, Shazeer, "Switch Transformers", 2022, equation 3. Each rank fills its own buffers, as in Megatron-LM.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from workloads.errors import WorkloadError

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


def keep_capacity(counts: IntArray, *, factor: float | None, overflow: str, tokens: int, top_k: int) -> Kept:
    """Return what is left of counts [..., S, E] of `tokens` tokens of each source.

    Examples
    --------
    >>> keep_capacity(np.array([[5, 1, 0]]), factor=1.0, overflow="reroute", tokens=6, top_k=1).computed
    array([[2, 2, 2]])
    """
    if factor is None:
        return Kept(counts, counts)
    if overflow not in OVERFLOWS:
        raise WorkloadError(
            subject="routing",
            field="overflow",
            rule=f"be one of {', '.join(OVERFLOWS)}",
            value=overflow,
            cure="Use drop.",
        )
    mean = tokens * top_k / counts.shape[-1]
    if factor * mean >= tokens and overflow != "pad":
        return Kept(counts, counts)  # a token takes an expert once: none can have more
    capacity = math.ceil(factor * mean - 1e-9)  # a product such as 1.1 * 10 is no more than 11
    computed = np.minimum(counts, capacity)
    if overflow == "reroute":
        computed = _sent_on(counts, capacity)
    carried = np.full_like(counts, capacity) if overflow == "pad" else computed
    return Kept(computed, carried)


def _sent_on(counts: IntArray, capacity: int) -> IntArray:
    """Return counts of which what is beyond capacity went to the next experts with room, once around."""
    kept = np.minimum(counts, capacity)
    excess = np.zeros(counts.shape[:-1], dtype=np.int64)
    num_experts = counts.shape[-1]
    for step in range(2 * num_experts):
        expert = step % num_experts
        if step < num_experts:
            excess += counts[..., expert] - kept[..., expert]
        taken = np.minimum(excess, capacity - kept[..., expert])
        kept[..., expert] += taken
        excess -= taken
    return kept
