"""From shares of copies to the law by which a token takes its experts.

Model
-----
A token takes an expert once, so the chance that it takes expert e is bounded by 1. With shares p of the copies

    pi[e] = min(1, c p[e]),  sum of pi = top_k        c by filling up: experts at 1 leave the rest to the others

Given these, a token takes the set S with probability proportional to the product of odds w[e] over S: conditional
Bernoulli sampling, the law of most entropy among those with chances pi. With equal shares every set is equally likely.
The odds are found by iteration: start at pi / (1 - pi), multiply by wanted over present odds. Where shares are so
uneven that this swings to and fro, by the root of that: half a step in the log of the odds. Where all experts but those
at 1 share a single choice, odds are pi themselves.

References
----------
Chen, Dempster, Liu, "Weighted finite population sampling to maximize entropy", Biometrika 81, 1994.
"""

import numpy as np
from numpy.typing import NDArray

from sim.errors import InvalidValueError

__all__ = ["bernoulli_odds", "choice_chances", "conditional_tables"]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
_MOST_ROUNDS = 500
_CLOSE = 1e-11  # of chances
_STEPS = (1.0, 0.5)  # of the log of odds, one after the other until one converges


def choice_chances(shares: FloatArray, top_k: int) -> FloatArray:
    """Return the chance that a token takes each expert, as near to `top_k * shares` as 1 allows. Shape [E].

    Examples
    --------
    >>> choice_chances(np.array([0.8, 0.1, 0.1]), 2)
    array([1. , 0.5, 0.5])
    """
    alive = shares > 0
    if int(alive.sum()) < top_k:
        raise InvalidValueError(
            field="routing.kind",
            rule=f"give tokens to at least top_k = {top_k} experts of a layer",
            value=int(alive.sum()),
            hint="A token takes an expert once.",
        )
    chances, full = np.zeros(shares.size), np.zeros(shares.size, dtype=bool)
    while True:
        free = alive & ~full
        left = top_k - int(full.sum())
        chances[free] = left * shares[free] / shares[free].sum() if left else 0.0
        over = free & (chances >= 1.0)
        if not over.any():
            return chances
        chances[over] = 1.0
        full |= over


def bernoulli_odds(chances: FloatArray, top_k: int) -> FloatArray:
    """Return the biased coins of which `top_k` heads give each expert its chance. Shape [E].

    Each expert throws its coin, and throws that have not exactly `top_k` heads do not count.
    """
    free = (chances > 0) & (chances < 1)
    if top_k - int((chances >= 1).sum()) == 1:
        return np.where(free, chances / (1.0 + chances), chances)
    if not free.any() or np.ptp(chances[free]) == 0:
        return chances.copy()
    for step in _STEPS:
        coins = _iterated(chances, free, top_k, step)
        if coins is not None:
            return coins
    raise InvalidValueError(
        field="routing.skew",
        rule=f"be so weak that tokens can take top_k = {top_k} distinct experts by these shares",
        value=f"chances from {chances[free].min():.3g} to {chances[free].max():.3g} of an expert",
        hint="Lower routing.skew or model.top_k.",
    )


def _iterated(chances: FloatArray, free: BoolArray, top_k: int, step: float) -> FloatArray | None:
    """Return coins that give experts their chances, by steps of a part of the log of odds; None: not found."""
    coins, wanted = chances.copy(), chances[free] / (1.0 - chances[free])
    for _ in range(_MOST_ROUNDS):
        with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
            present = _given_total(coins, top_k)[free]
            factors = wanted * (1.0 - present) / present
            odds = coins[free] / (1.0 - coins[free]) * (factors if step == 1 else factors**step)
        if np.isnan(present).any():
            return None
        if np.abs(present - chances[free]).max() < _CLOSE:
            return coins
        if np.isnan(odds).any() or np.isinf(odds).any():
            return None
        coins[free] = odds / (1.0 + odds)
    return None


def conditional_tables(coins: FloatArray, top_k: int) -> list[FloatArray]:
    """Return P(heads = r), r up to `top_k`, of blocks of 1, 2, 4, ... experts. Shapes [E', k + 1], [E' / 2, k + 1], ...

    E' is the next power of two: experts that are added never show heads.
    """
    size = 1 << (coins.size - 1).bit_length()
    leaves = np.zeros((size, top_k + 1))
    leaves[:, 0] = 1.0
    leaves[: coins.size, 0], leaves[: coins.size, 1] = 1.0 - coins, coins
    levels = [leaves]
    while len(levels[-1]) > 1:
        levels.append(_joined(levels[-1][0::2], levels[-1][1::2]))
    return levels


def _joined(first: FloatArray, second: FloatArray) -> FloatArray:
    """Return the distribution of the sum of two counts of heads, as far as both arrays go. All [B, k + 1]."""
    joined = np.zeros_like(first)
    for heads in range(first.shape[1]):
        joined[:, heads:] += first[:, heads, None] * second[:, : first.shape[1] - heads]
    return joined


def _given_total(coins: FloatArray, top_k: int) -> FloatArray:
    """Return the chance of heads of each coin where all show `top_k` heads. Shape [E]."""
    levels = conditional_tables(coins, top_k)
    others = np.zeros((1, top_k + 1))
    others[0, 0] = 1.0
    for level in reversed(levels[:-1]):
        siblings = level.reshape(-1, 2, top_k + 1)[:, ::-1].reshape(level.shape)
        others = _joined(np.repeat(others, 2, axis=0), siblings)
    heads = coins * others[: coins.size, top_k - 1]
    return np.asarray(heads / (heads + (1.0 - coins) * others[: coins.size, top_k]), dtype=float)
