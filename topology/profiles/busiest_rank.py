"""Load of the busiest rank of an expert-parallel group, as the measured tables of fused experts draw it.

Published tables of fused experts give the tokens of the whole group and how these are spread over the experts. The
measured time is that of the busiest rank, so its share has to be known.

Model
-----
Popularity of an expert under exponent `a`, with `u` uniform on [0, 1]::

    x = ((high^(1-a) - low^(1-a)) u + low^(1-a))^(1 / (1-a))

between 1 and 0.8 tokens where there are more pairs than experts, else between 0.01 and 2. The tokens of an expert are
its share of all pairs, at most one of each token; what is cut off goes to the experts with the fewest. Ranks own
contiguous experts, or slots that EPLB has balanced.

Assumptions
-----------
- The measurements drew a few samples from seeds that are not known. The mean over `NUM_DRAWS` draws stands for them.
- Balanced loads give each expert equally many; with fewer pairs than experts, one each to as many as there are pairs.

References
----------
- ai-dynamo/aiconfigurator, collector (Apache-2.0): the rule, and that the busiest rank is timed.
"""

from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sim.errors import InvalidValueError

__all__ = ["NUM_DRAWS", "RankLoad", "busiest_rank"]

NUM_DRAWS: Final = 8
"""Draws whose mean stands for the measured ones."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class RankLoad:
    """What the busiest rank computes: sizes of the operation `fused_moe`."""

    pairs: float
    """Tokens, each counted once for every local expert that it goes to."""
    experts: float
    """Local experts, or slots."""
    active: float
    """Local experts with tokens."""
    busiest: float
    """Tokens of the local expert with most."""

    @property
    def sizes(self) -> dict[str, float]:
        """The load as sizes of `fused_moe`; its `hidden` and `ffn` are those of the model."""
        return {"pairs": self.pairs, "experts": self.experts, "active": self.active, "busiest": self.busiest}


@cache
def busiest_rank(
    tokens: int, *, experts: int, top_k: int, ep: int = 1, exponent: float | None = None, slots: int | None = None
) -> RankLoad:
    """Return the load of the busiest rank for `tokens` of the whole group.

    Parameters
    ----------
    tokens, experts, top_k, ep
        Tokens of the group, experts of the layer, experts of a token, ranks of the group.
    exponent
        That of the power law; None: balanced.
    slots
        Slots over which EPLB spreads experts and replicas; None: each expert stays where it is.

    Examples
    --------
    >>> busiest_rank(1024, experts=256, top_k=8, ep=32)
    RankLoad(pairs=256.0, experts=8.0, active=8.0, busiest=32.0)
    >>> busiest_rank(1024, experts=256, top_k=8, ep=32, exponent=1.2).pairs > 2 * 256
    True
    """
    for name, number in (("experts", experts), ("slots", slots or experts)):
        if number % ep:
            raise InvalidValueError(name, f"be divisible by ep = {ep}", number, f"Write {ep * (number // ep + 1)}.")
    local = (slots or experts) // ep
    if exponent is None:
        pairs = max(tokens * top_k / ep, 1.0)
        active = min(float(local), pairs)
        return RankLoad(pairs=pairs, experts=float(local), active=active, busiest=pairs / active)
    generator = np.random.default_rng(0)
    loads = []
    for _ in range(NUM_DRAWS):
        counts = _draw(generator, tokens, experts, top_k, exponent)
        ranks = counts.reshape(ep, local) if slots is None else _balanced(counts, ep, slots)
        rank = ranks[ranks.sum(axis=1).argmax()]
        loads.append((rank.sum(), np.count_nonzero(rank > 0.5), rank.max()))
    pairs, active, busiest = np.maximum(np.mean(loads, axis=0), 1.0).tolist()
    return RankLoad(pairs=pairs, experts=float(local), active=active, busiest=busiest)


def _draw(generator: np.random.Generator, tokens: int, experts: int, top_k: int, exponent: float) -> Floats:
    """Return the tokens of each expert."""
    low, high = (1.0, 0.8 * tokens) if tokens * top_k > experts else (0.01, 2.0)
    power, uniform = 1.0 - exponent, generator.random(experts)
    if power:
        popularity = ((high**power - low**power) * uniform + low**power) ** (1.0 / power)
    else:
        popularity = low * (high / low) ** uniform
    counts: Floats = np.minimum(np.round(popularity / popularity.sum() * tokens * top_k), tokens)
    missing = int(tokens * top_k - counts.sum())
    while missing > experts:  # equally to all that have room
        room = counts < tokens
        counts[room] = np.minimum(counts[room] + missing // int(room.sum()), tokens)
        missing = int(tokens * top_k - counts.sum())
    for _ in range(abs(missing)):
        counts[counts.argmin() if missing > 0 else counts.argmax()] += np.sign(missing)
    return counts


def _balanced(counts: Floats, ep: int, slots: int) -> Floats:
    """Return the tokens of each slot [ep, slots / ep], the busiest experts replicated and slots packed greedily."""
    replicas = np.ones(len(counts))
    for _ in range(slots - len(counts)):
        replicas[(counts / replicas).argmax()] += 1
    loads = np.repeat(counts / replicas, replicas.astype(np.int64))
    ranks, filled = np.zeros((ep, slots // ep)), np.zeros(ep, dtype=np.int64)
    for load in np.sort(loads)[::-1]:
        sums = np.where(filled < slots // ep, ranks.sum(axis=1), np.inf)
        rank = int(sums.argmin())
        ranks[rank, filled[rank]] = load
        filled[rank] += 1
    return ranks
