"""Lanes that run alike are run once, and counted as often as they are.

Model
-----
Of lanes that are alike (see `sim.plan.lane_equivalence`) the first runs; what it does counts for each of them, on the links
and ranks that each has in its place. What lanes do together (reduction of gradients) is run whole, and counts once.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from sim.plan.ops import Transfer
from topology.links import LinkLoad

__all__ = ["Folding"]

IntArray = NDArray[np.intp]


class Folding:
    """Which lane runs for which."""

    def __init__(self, lane_of: IntArray, lane_ranks: IntArray, link_map: Callable[[int], IntArray]) -> None:
        """Fold lanes.

        Parameters
        ----------
        lane_of
            The lane that runs for each. Shape [lanes].
        lane_ranks
            Ranks of each lane. Shape [stages, lanes, lane_size].
        link_map
            The link of a lane that stands in the place of each link of the lane that runs for it. Shape [L].
        """
        self.lane_of, self._lane_ranks = lane_of, lane_ranks
        self.num_of = np.bincount(lane_of, minlength=lane_of.size)
        self._link_map = link_map
        self._home = np.full(int(lane_ranks.max()) + 1, -1)
        for lane in range(lane_of.size):
            self._home[lane_ranks[:, lane]] = lane
        self._counts: dict[Transfer, int] = {}
        self._maps: dict[int, IntArray] = {}

    @property
    def running(self) -> list[int]:
        """Lanes that run, ascending."""
        lanes: list[int] = np.unique(self.lane_of).tolist()
        return lanes

    def count(self, transfer: Transfer) -> int:
        """Return how many transfers one stands for: as many as its lane, or 1 where lanes meet."""
        count = self._counts.get(transfer)
        if count is None:
            home = self._home[transfer.ranks]
            count = int(self.num_of[home[0]]) if home.size and (home == home[0]).all() else 1
            self._counts[transfer] = count
        return count

    def load(self, transfer: Transfer) -> LinkLoad:
        """Return the bytes on links of all transfers that one stands for."""
        if self.count(transfer) == 1:
            return transfer.load
        moved = self._links_of(int(self._home[transfer.ranks[0]]))[:, transfer.load.links]
        links, place = np.unique(moved, return_inverse=True)
        num_bytes = np.bincount(place.ravel(), weights=np.tile(transfer.load.num_bytes, len(moved)))
        return LinkLoad(links=links, num_bytes=num_bytes.astype(np.float64))

    def ranks(self, transfer: Transfer, ranks: IntArray) -> list[IntArray]:
        """Return ranks of a transfer's lane and those in their place, for each lane that it stands for."""
        if self.count(transfer) == 1:
            return [ranks]
        home = int(self._home[transfer.ranks[0]])
        place = np.zeros(self._home.size, dtype=np.intp)
        own = self._lane_ranks[:, home].ravel()
        place[own] = np.arange(own.size)
        return [self._lane_ranks[:, lane].ravel()[place[ranks]] for lane in np.flatnonzero(self.lane_of == home)]

    # ---- private -------------------------------------------------------------------------------------------------

    def _links_of(self, lane: int) -> IntArray:
        """Return the links in the place of those of `lane`, for each lane that it runs for. Shape [lanes, L]."""
        if lane not in self._maps:
            self._maps[lane] = np.stack([self._link_map(int(other)) for other in np.flatnonzero(self.lane_of == lane)])
        return self._maps[lane]
