"""Copies of tokens that a run sends to experts, and that experts compute.

A lane that runs for others counts as often as it stands for lanes.
"""

from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from sim.plan.folding import Folding
from sim.plan.ops import Compute, ExpertTokens, Service
from workloads.schedules import Step

__all__ = ["TokenCounts"]

LanePosition = tuple[int, int]
"""Stage, and lane of the stage."""
_Visit = tuple[int, int]
"""Microbatch, and chunk of the stage."""
_Total = TypeVar("_Total")


class TokenCounts:
    """What lanes have counted so far."""

    def __init__(self, folding: Folding | None) -> None:
        self._folding = folding
        self.routed = self.dropped = self.padded = self.rerouted = 0
        self._tokens: list[tuple[int, ExpertTokens]] = []
        self._steps: list[tuple[LanePosition, Step]] = []

    def count_op(self, position: LanePosition, step: Step, op: Compute | Service) -> None:
        """Count the tokens of kernels that a lane runs, or lets run."""
        if isinstance(op, Service):
            self.count(position, step, 0, op.expert_tokens)
            return
        if op.tokens_routed or op.expert_tokens is not None:
            self.count(position, step, op.tokens_routed, op.expert_tokens)
        if op.tokens_dropped or op.tokens_padded or op.tokens_rerouted:
            self.count_lost(position[1], op.tokens_dropped, op.tokens_padded, op.tokens_rerouted)

    def count(self, position: LanePosition, step: Step, routed: int, computed: ExpertTokens | None) -> None:
        """Note copies of tokens that a lane sent to experts, and those that ranks computed for it."""
        num_lanes = self._num_lanes(position[1])
        self.routed += num_lanes * routed
        if computed is not None:
            self._tokens.append((num_lanes, computed))
            self._steps.append((position, step))

    def received(self) -> dict[LanePosition, dict[tuple[int, int], NDArray[np.int64]]]:
        """Return (stage, lane) -> (microbatch, chunk) -> rows of tokens on its experts' hosts, over all layers."""
        return self._of_passes(lambda of_pass: np.add.reduce([tokens.rows for tokens in of_pass]))

    def sent(self) -> dict[LanePosition, dict[tuple[int, int], int]]:
        """Return (stage, lane) -> (microbatch, chunk) -> copies that its sources have for experts, over all layers."""
        return self._of_passes(lambda of_pass: sum(tokens.num_routed for tokens in of_pass))

    def exchange_skew(self) -> dict[int, tuple[float, float]]:
        """Return, for each stage, the most rows that a rank sent and received in one exchange.

        Over the mean of the copies that sources have.
        """
        skew: dict[int, tuple[float, float]] = {}
        exchanges = {
            (stage, id(tokens)): tokens
            for ((stage, _), _), (_, tokens) in zip(self._steps, self._tokens, strict=True)
            if tokens.num_routed
        }
        for (stage, _), tokens in exchanges.items():
            sent, received = skew.get(stage, (0.0, 0.0))
            over_mean = int(tokens.rows.max()) * tokens.rows.size / tokens.num_routed
            skew[stage] = (max(sent, tokens.sent_over_mean), max(received, over_mean))
        return skew

    def count_lost(self, lane: int, dropped: int, padded: int, rerouted: int) -> None:
        """Note copies of tokens that no expert computes, or another expert; and empty rows that experts compute."""
        num_lanes = self._num_lanes(lane)
        self.dropped += num_lanes * dropped
        self.padded += num_lanes * padded
        self.rerouted += num_lanes * rerouted

    def sums(self) -> tuple[int, float]:
        """Return the tokens that experts computed, and the busiest rank's over the mean's, averaged over all counts."""
        known = {id(tokens): tokens.computed for _, tokens in self._tokens}  # microbatches may share them
        if not known:
            return 0, 1.0
        counts = np.array([count for count, _ in self._tokens], dtype=np.int64)
        place = {key: number for number, key in enumerate(known)}
        of_count = [place[id(tokens)] for _, tokens in self._tokens]
        size = np.array([computed.size for computed in known.values()])
        first, computed = np.cumsum(size) - size, np.concatenate(list(known.values()))
        totals = np.add.reduceat(computed, first)[of_count]
        most = (np.maximum.reduceat(computed, first) * size)[of_count]
        has_tokens = totals > 0
        if not has_tokens.any():
            return 0, 1.0
        means = np.repeat(most[has_tokens] / totals[has_tokens], counts[has_tokens])
        return int((counts * totals).sum()), float(np.mean(means))

    # ---- private -------------------------------------------------------------------------------------------------

    def _num_lanes(self, lane: int) -> int:
        return 1 if self._folding is None else int(self._folding.num_of[lane])

    def _of_passes(self, total: Callable[[list[ExpertTokens]], _Total]) -> dict[LanePosition, dict[_Visit, _Total]]:
        """Return (stage, lane) -> (microbatch, chunk) -> the total of its exchanges; equal exchanges are added once."""
        exchanges: dict[LanePosition, dict[_Visit, list[ExpertTokens]]] = {}
        for (position, step), (_, tokens) in zip(self._steps, self._tokens, strict=True):
            exchanges.setdefault(position, {}).setdefault((step.microbatch, step.chunk), []).append(tokens)
        known: dict[tuple[int, ...], _Total] = {}
        totals: dict[LanePosition, dict[_Visit, _Total]] = {}
        for position, visits in exchanges.items():
            of_lane = totals[position] = {}
            for visit, of_visit in visits.items():
                key = tuple(map(id, of_visit))
                if key not in known:
                    known[key] = total(of_visit)
                of_lane[visit] = known[key]
        return totals
