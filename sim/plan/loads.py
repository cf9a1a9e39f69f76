"""What experts computed: kept by layer and microbatch, where that is asked for."""

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
        self,
        lane: int,
        layers: Sequence[int],
        microbatches: Sequence[int],
        *,
        computed: NDArray[np.int64],
        num_groups: int,
    ) -> None:
        """Keep what experts of each group of hosts computed: by microbatch, then layer [N, S, E]."""
        if not self.is_on:
            return
        num_draws, _, num_experts = computed.shape
        per_expert = computed.reshape(num_draws, num_groups, -1, num_experts).sum(axis=2)
        for i, (microbatch, layer) in enumerate(product(microbatches, layers)):
            self._kept[lane, layer, microbatch] = per_expert[i]

    def of_lane(self, lane: int) -> NDArray[np.int64]:
        """Return the tokens of each expert of each group, over layers and microbatches. Shape [N, G, E]."""
        kept = [loads for (of, _, _), loads in self._kept.items() if of == lane]
        return np.stack(kept) if kept else np.zeros((0, 1, 1), dtype=np.int64)
