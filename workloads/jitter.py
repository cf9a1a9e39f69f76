"""How much the times of passes vary: from pass to pass, and from rank to rank for a whole run.

Model
-----
    factor of a kernel = pass factor * rank factor           both lognormal, of mean 1
    pass factor          one draw for each pass and rank, of all its kernels, coefficient of variation `pass_cv`
    rank factor          one draw for each rank, for the whole run, coefficient of variation `rank_spread`

Assumptions
-----------
Draws are independent. In real jobs slowness lasts over passes (sequence lengths, garbage collection), which slows
pipelines more: the draws err fast.

References
----------
Lin et al., "Understanding Stragglers in Large Model Training Using What-if Analysis", OSDI 2025. Their traces without
a cause of straggling (ST; AR, stages 1 to 3) have a coefficient of variation of 1.5 to 3 % for the same rank and
microbatch from step to step, and medians of ranks from 0.976 to 1.018 of their group (SE).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["EXACT", "MEASURED", "Jitter"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Jitter:
    """How much the times of passes vary; 0 and 0: not at all."""

    pass_cv: float = 0.0
    """Coefficient of variation of the time of a pass on a rank, one factor for all its kernels."""
    rank_spread: float = 0.0
    """Coefficient of variation of the speed of ranks, a factor for the whole run."""

    @property
    def is_on(self) -> bool:
        """Whether anything varies."""
        return self.pass_cv > 0 or self.rank_spread > 0

    def rank_factors(self, num_ranks: int, seed: int) -> NDArray[np.float64]:
        """Return the lasting factor of each rank. Shape [G]."""
        return _lognormal(self.rank_spread, num_ranks, (seed, _OF_RANKS))

    def pass_factors(self, num_ranks: int, seed: int, key: tuple[int, ...]) -> NDArray[np.float64]:
        """Return the factor of each rank in one pass, named by whole numbers. Shape [G].

        >>> Jitter().pass_factors(2, 1, (0, 0)).tolist()
        [1.0, 1.0]
        """
        return _lognormal(self.pass_cv, num_ranks, (seed, _OF_PASSES, *key))


EXACT = Jitter()
"""Every pass takes what it is modelled to take."""
MEASURED = Jitter(pass_cv=0.02, rank_spread=0.01)
"""Middle of the traces without a cause of straggling (see References)."""

_OF_RANKS, _OF_PASSES = 0x4A52, 0x4A50


# ---- private -----------------------------------------------------------------------------------------------------


def _lognormal(variation: float, number: int, key: tuple[int, ...]) -> NDArray[np.float64]:
    """Return lognormal factors of mean 1 and a coefficient of variation, by a stream of their own."""
    if not variation:
        return np.ones(number)
    sigma = float(np.sqrt(np.log1p(variation**2)))
    factors: NDArray[np.float64] = np.exp(sigma * np.random.default_rng(key).standard_normal(number) - sigma**2 / 2)
    return factors
