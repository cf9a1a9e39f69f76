"""Counts that the runs of a process have drawn, kept for further runs that need the same.

Model
-----
A draw is known by all that it depends on: its stream of random numbers (seed, layer, microbatch, lane), sources,
tokens, experts and top_k, the shares of the experts, and the limit of nodes. Draws of equal keys are equal, so that
what is kept changes no figure: a study that compares placements or capacities for the same tokens draws these tokens
once.

The draws that were used last are kept, up to `MOST_BYTES` in each process. Kept counts cannot be written.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["MOST_BYTES", "KeptDraws"]

MOST_BYTES: Final = 2**25
"""Memory of what is kept: the draws of ten scenarios of 8 layers, 4 microbatches, 32 sources and 128 experts."""

IntArray = NDArray[np.int64]


class KeptDraws:
    """Draws by key, the latest last."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        """Keep nothing yet, and at most `most_bytes`."""
        self._most_bytes, self._num_bytes = most_bytes, 0
        self._draws: OrderedDict[Hashable, IntArray] = OrderedDict()

    def counts(self, keys: Sequence[Hashable], draw: Callable[[list[int]], list[IntArray]]) -> IntArray:
        """Return the counts of each of N `keys`, of which those that are not kept are drawn. Shape [N, S, E].

        Parameters
        ----------
        keys
            All that each draw depends on.
        draw
            Receives positions in `keys`, and returns the counts of each.

        Examples
        --------
        >>> kept = KeptDraws()
        >>> for keys in ("ab", "bc"):
        ...     kept.counts(keys, lambda missing: [np.full((1, 2), ord(keys[i]) - 97) for i in missing]).tolist()
        [[[0, 0]], [[1, 1]]]
        [[[1, 1]], [[2, 2]]]
        """
        known = {i: self._draws[key] for i, key in enumerate(keys) if key in self._draws}
        missing = [i for i in range(len(keys)) if i not in known]
        if missing:
            known |= zip(missing, draw(missing), strict=True)
        for i, key in enumerate(keys):
            self._keep(key, known[i])
        return np.stack([known[i] for i in range(len(keys))])

    def _keep(self, key: Hashable, counts: IntArray) -> None:
        if key in self._draws:
            self._draws.move_to_end(key)
            return
        kept = np.array(counts)  # not a part of a larger array, all of which would stay
        kept.flags.writeable = False
        self._draws[key] = kept
        self._num_bytes += kept.nbytes
        while self._num_bytes > self._most_bytes:
            self._num_bytes -= self._draws.popitem(last=False)[1].nbytes
