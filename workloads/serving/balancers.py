"""Which data-parallel rank a request goes to.

Model
-----
    least_loaded   the rank with the least 4 * waiting + running, the first of equals; a request that is sent there
                   counts as waiting until the counts are learnt again
    round_robin    one rank after the other

References
----------
vLLM 0.19, `vllm/v1/engine/core_client.py`, `DPLBAsyncMPClient.get_core_engine_for_request`.
"""

from collections.abc import Callable, Sequence
from typing import Final

__all__ = ["BALANCERS", "Balancer", "LeastLoaded", "RoundRobin"]

_WAITING_WEIGHT: Final = 4
"""Weight of a waiting request over that of a running one, in vLLM."""


class RoundRobin:
    """Sends requests to one rank after the other.

    >>> balancer = RoundRobin(2)
    >>> [balancer.choose() for _ in range(3)]
    [0, 1, 0]
    """

    def __init__(self, num_ranks: int) -> None:
        self._num_ranks, self._next = num_ranks, 0

    def choose(self) -> int:
        """Return the rank of the next request."""
        chosen, self._next = self._next, (self._next + 1) % self._num_ranks
        return chosen

    def learn(self, counts: Sequence[tuple[int, int]]) -> None:
        """Take the counts of waiting and running requests of each rank, which do not matter here."""
        del counts


class LeastLoaded:
    """Sends requests to the rank with the fewest, as far as it knows.

    >>> balancer = LeastLoaded(2)
    >>> balancer.learn([(0, 5), (1, 0)])
    >>> [balancer.choose() for _ in range(2)]
    [1, 0]
    """

    def __init__(self, num_ranks: int) -> None:
        self._counts = [[0, 0] for _ in range(num_ranks)]

    def choose(self) -> int:
        """Return the rank of the next request."""
        scores = [_WAITING_WEIGHT * waiting + running for waiting, running in self._counts]
        chosen = scores.index(min(scores))
        self._counts[chosen][0] += 1
        return chosen

    def learn(self, counts: Sequence[tuple[int, int]]) -> None:
        """Take the counts of waiting and running requests of each rank."""
        self._counts = [list(count) for count in counts]


Balancer = RoundRobin | LeastLoaded

BALANCERS: Final[dict[str, Callable[[int], Balancer]]] = {"least_loaded": LeastLoaded, "round_robin": RoundRobin}
"""Balancers by name."""
