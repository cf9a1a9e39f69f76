"""When requests arrive.

Model
-----
    at_once   all at time 0
    uniform   one every 1 / rate
    poisson   gaps from an exponential distribution of mean 1 / rate
    gamma     gaps from a gamma distribution of mean 1 / rate and coefficient of variation `cv`: above 1 in bursts
    bursts    groups of `burst` at a time, groups as poisson with rate / burst

In a closed loop (`concurrency`) no time of arrival is given: a request arrives when an earlier one has ended.

References
----------
Zhong et al., "DistServe", 2024, arXiv 2401.09670 (Poisson); Wang et al., "BurstGPT", 2024, arXiv 2401.17644 (gamma).
"""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["ARRIVALS", "arrival_times_s"]

Floats = NDArray[np.float64]
_Draw = Callable[[np.random.Generator, int, float, float, int], Floats]


def arrival_times_s(
    kind: str, random: np.random.Generator, count: int, *, rate_per_s: float = 1.0, cv: float = 1.0, burst: int = 1
) -> Floats:
    """Return the times of arrival of `count` requests, ascending. Shape [count].

    >>> arrival_times_s("uniform", np.random.default_rng(1), 3, rate_per_s=10.0).tolist()
    [0.0, 0.1, 0.2]
    """
    return ARRIVALS[kind](random, count, rate_per_s, cv, burst)


def _at_once(random: np.random.Generator, count: int, rate_per_s: float, cv: float, burst: int) -> Floats:
    del random, rate_per_s, cv, burst
    return np.zeros(count)


def _uniform(random: np.random.Generator, count: int, rate_per_s: float, cv: float, burst: int) -> Floats:
    del random, cv, burst
    return np.arange(count) / rate_per_s


def _poisson(random: np.random.Generator, count: int, rate_per_s: float, cv: float, burst: int) -> Floats:
    del cv, burst
    return np.cumsum(random.exponential(1.0 / rate_per_s, count))


def _gamma(random: np.random.Generator, count: int, rate_per_s: float, cv: float, burst: int) -> Floats:
    del burst
    shape = 1.0 / cv**2
    return np.cumsum(random.gamma(shape, 1.0 / (rate_per_s * shape), count))


def _bursts(random: np.random.Generator, count: int, rate_per_s: float, cv: float, burst: int) -> Floats:
    del cv
    groups = -(-count // burst)
    return np.repeat(np.cumsum(random.exponential(burst / rate_per_s, groups)), burst)[:count]


ARRIVALS: Final[dict[str, _Draw]] = {
    "at_once": _at_once,
    "uniform": _uniform,
    "poisson": _poisson,
    "gamma": _gamma,
    "bursts": _bursts,
}
"""Arrivals of an open loop by name."""
