"""How many outputs a step yields where a draft model proposes tokens.

Model
-----
A step computes the last output of a request and `num_drafts` proposed tokens. A draft is kept with probability p if all
drafts before it are, and one output comes from the model itself::

    mean outputs of a step = 1 + p + p^2 + ... + p^num_drafts = acceptance length

p follows from the acceptance length, which is measured and given. Every request draws from a stream of its own.

Assumptions
-----------
p is the same for all drafts and requests. Measured drafts are kept less often the later they stand: of DeepSeek-V4's,
0.79 of the first and 0.22 of the third (SemiAnalysisAI/InferenceX@843c6254, golden_al_distribution). The mean is met
whatever the law; the spread of time between tokens depends on the law.

References
----------
Leviathan et al., "Fast inference from transformers via speculative decoding", 2023, arXiv 2211.17192, equation 1.
"""

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["Acceptance", "keep_probability"]

_STREAM = 0x5BEC
"""Name of the streams of random numbers of this purpose."""
_NUM_BISECTIONS = 60
"""Steps that leave no digit of a float to find."""


def keep_probability(num_drafts: int, acceptance_length: float) -> float:
    """Return the probability that a draft is kept if all before it are.

    >>> round(keep_probability(1, 1.85), 3), keep_probability(3, 4.0), round(keep_probability(3, 2.49), 2)
    (0.85, 1.0, 0.69)
    """
    low, high = 0.0, 1.0
    if acceptance_length >= 1 + num_drafts:
        return 1.0
    for _ in range(_NUM_BISECTIONS):
        middle = (low + high) / 2
        if sum(middle**power for power in range(num_drafts + 1)) < acceptance_length:
            low = middle
        else:
            high = middle
    return high


class Acceptance:
    """Draws the outputs of steps.

    >>> Acceptance(num_drafts=3, acceptance_length=4.0, seed=1).outputs(0, 0, at_most=4, total=100)
    4
    """

    def __init__(self, *, num_drafts: int, acceptance_length: float, seed: int) -> None:
        self._num_drafts, self._seed = num_drafts, seed
        self._keep = keep_probability(num_drafts, acceptance_length)
        self._drawn: dict[int, NDArray[np.int64]] = {}

    def outputs(self, request: int, num_before: int, *, at_most: int, total: int) -> int:
        """Return the outputs of a step of a request that has `num_before` of `total` outputs; at least 1."""
        if at_most == 1:
            return 1
        if request not in self._drawn:
            random = np.random.default_rng([self._seed, _STREAM, request])
            self._drawn[request] = self._kept(random.random(total))
        return min(at_most, 1 + int(self._drawn[request][num_before]))

    def forget(self, request: int) -> None:
        """Drop what was drawn for a request that is done."""
        self._drawn.pop(request, None)

    def _kept(self, uniform: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return how many drafts are kept in a row: n or more with probability p^n."""
        if self._keep in (0.0, 1.0):
            return np.full(len(uniform), self._num_drafts if self._keep else 0)
        in_a_row = np.log1p(-uniform) / math.log(self._keep)
        return np.minimum(in_a_row, self._num_drafts).astype(np.int64)
