"""Lengths of prompts and answers, drawn from a distribution or fixed.

Model
-----
    fixed        `tokens`
    uniform      whole numbers from `least` to `most`, both included
    lognormal    exp(normal) with the given mean and coefficient of variation, rounded, at least 1, at most `most`
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sim.errors import InvalidValueError

__all__ = ["LENGTH_KINDS", "Lengths"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """A distribution of tokens.

    >>> Lengths(kind="uniform", least=8, most=10).draw(np.random.default_rng(1), 4).tolist()
    [9, 9, 10, 10]
    """

    kind: str = "fixed"
    """A key of `LENGTH_KINDS`."""
    tokens: int | None = None
    """Tokens of each (fixed)."""
    least: int = 1
    """Fewest tokens (uniform)."""
    most: int | None = None
    """Most tokens (uniform, lognormal)."""
    mean: int | None = None
    """Mean of the tokens (lognormal), before those above `most` are cut."""
    cv: float = 1.0
    """Standard deviation over mean (lognormal)."""

    def __post_init__(self) -> None:
        needed = {"fixed": "tokens", "uniform": "most", "lognormal": "mean"}.get(self.kind)
        if needed is None:
            raise InvalidValueError("kind", f"be one of {', '.join(LENGTH_KINDS)}", self.kind, "Write fixed.")
        if getattr(self, needed) is None:
            raise InvalidValueError(needed, f"be given with kind {self.kind}", "nothing", f"Add {needed}: 1024.")
        if self.most is not None and self.most < self.least:
            raise InvalidValueError("most", f"be at least least = {self.least}", self.most, "Swap the two.")

    def draw(self, random: np.random.Generator, count: int) -> NDArray[np.int64]:
        """Return the tokens of `count` requests. Shape [count]."""
        return LENGTH_KINDS[self.kind](self, random, count)


def _fixed(lengths: Lengths, random: np.random.Generator, count: int) -> NDArray[np.int64]:
    del random
    return np.full(count, lengths.tokens, dtype=np.int64)


def _uniform(lengths: Lengths, random: np.random.Generator, count: int) -> NDArray[np.int64]:
    return random.integers(lengths.least, lengths.most, count, endpoint=True)


def _lognormal(lengths: Lengths, random: np.random.Generator, count: int) -> NDArray[np.int64]:
    variance = math.log(1.0 + lengths.cv**2)
    location = math.log(lengths.mean or 1) - variance / 2
    drawn = np.rint(random.lognormal(location, math.sqrt(variance), count)).astype(np.int64)
    return np.clip(drawn, 1, lengths.most)


LENGTH_KINDS: Final[dict[str, Callable[[Lengths, np.random.Generator, int], NDArray[np.int64]]]] = {
    "fixed": _fixed,
    "uniform": _uniform,
    "lognormal": _lognormal,
}
"""Distributions of lengths by name."""
