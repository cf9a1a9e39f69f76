"""What experts computed: kept of each layer and microbatch, where that is asked for."""

from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

__all__ = ["LoadLog"]


class LoadLog:
    """Tokens of each expert by lane, layer and microbatch; a layer that is asked for again is the same again."""

    def __init__(self) -> None:
        self.is_on = False
        """Whether anything is kept."""
        self._kept: dict[tuple[int, int, int], NDArray[np.int64]] = {}

    def note(
        self, lane: int, layers: Sequence[int], microbatches: Sequence[int], of_groups: Sequence[NDArray[np.int64]]
    ) -> None:
        """Keep what the experts of each group of hosts computed: by microbatch and then by layer, [N, S, E] each."""
        if not self.is_on:
            return
        per_expert = np.stack([counts.sum(axis=1) for counts in of_groups], axis=1)
        for (microbatch, layer), loads in zip(product(microbatches, layers), per_expert, strict=True):
            self._kept[lane, layer, microbatch] = loads

    def of_lane(self, lane: int) -> NDArray[np.int64]:
        """Return the tokens of each expert of each group, over layers and microbatches. Shape [N, G, E]."""
        kept = [loads for (of, _, _), loads in self._kept.items() if of == lane]
        return np.stack(kept) if kept else np.zeros((0, 1, 1), dtype=np.int64)
