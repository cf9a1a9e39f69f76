"""What experts computed, and what of it was for another: kept by layer and microbatch, where that is asked for."""

from collections.abc import Mapping, Sequence
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
        self._rerouted: dict[tuple[int, int, int], tuple[int, int]] = {}

    def note(
        self,
        lane: int,
        layers: Sequence[int],
        microbatches: Sequence[int],
        *,
        drawn: NDArray[np.int64],
        computed: NDArray[np.int64],
        num_groups: int,
    ) -> None:
        """Keep what experts of each group of hosts computed of what was drawn: by microbatch, then layer [N, S, E]."""
        if not self.is_on:
            return
        num_draws, _, num_experts = computed.shape
        per_expert = computed.reshape(num_draws, num_groups, -1, num_experts).sum(axis=2)
        sent_on = np.maximum(computed - drawn, 0).sum(axis=(1, 2)).tolist()
        routed = drawn.sum(axis=(1, 2)).tolist()
        for i, (microbatch, layer) in enumerate(product(microbatches, layers)):
            self._kept[lane, layer, microbatch] = per_expert[i]
            self._rerouted[lane, layer, microbatch] = sent_on[i], routed[i]

    def of_lane(self, lane: int) -> NDArray[np.int64]:
        """Return the tokens of each expert of each group, over layers and microbatches. Shape [N, G, E]."""
        kept = [loads for (of, _, _), loads in self._kept.items() if of == lane]
        return np.stack(kept) if kept else np.zeros((0, 1, 1), dtype=np.int64)

    def rerouted_fraction(self, lane_counts: Mapping[int, int]) -> float:
        """Return the share of the copies that experts computed whom their tokens had not chosen.

        Parameters
        ----------
        lane_counts
            Lanes that ran, and how many lanes each stands for.
        """
        sums = np.zeros(2)
        for (lane, _, _), of_draw in self._rerouted.items():
            sums += lane_counts.get(lane, 0) * np.array(of_draw)
        return float(sums[0] / sums[1]) if sums[1] else 0.0
