"""The document's convention: a layer's experts on the GPUs of all stages."""

from collections.abc import Sequence
from dataclasses import dataclass

from workloads.conventions.base import IntArray
from workloads.conventions.spread import SpreadExperts
from workloads.strategy import Strategy

__all__ = ["Spanning"]


@dataclass(frozen=True, slots=True)
class Spanning(SpreadExperts):
    """Experts of a layer lie on the GPUs of all stages; rank t mod TP owns token t."""

    name = "spanning"
    meaning = "EP = TP x PP x DP; a GPU holds its experts for all layers, so a layer's experts lie on all stages"
    experts_span_stages = True

    def legal_product(self, strategy: Strategy) -> str:
        """Return the product that is EP."""
        s = strategy
        return f"EP = TP x PP x DP = {s.tp} x {s.pp} x {s.dp} = {s.ep}: a GPU holds its experts for all layers"

    def for_dense_model(self) -> None:
        """Return None: only experts can lie on all stages."""
        return

    def expert_shards(self, strategy: Strategy) -> float:
        """Return EP: a replica's copies go to the GPUs of all stages."""
        return strategy.ep

    def expert_layers(self, stage_layers: Sequence[int], num_layers: int) -> Sequence[int]:
        """Return all layers of the model."""
        del stage_layers
        return range(num_layers)

    def ep_groups(self, stages: IntArray, stage: int, strategy: Strategy) -> IntArray:
        """Return all ranks, which are one group."""
        del stage, strategy
        return stages.reshape(1, -1)

    def expert_dp_groups(
        self, stages: IntArray, same_stages: Sequence[int], stage: int, strategy: Strategy
    ) -> IntArray:
        """Return each rank of the stage as a group of its own: its experts are nowhere else. Shape [R, 1]."""
        del same_stages, strategy
        groups: IntArray = stages[stage][:, None]
        return groups

    def ep_groups_of_lane(self, stages: IntArray, lane_ranks: IntArray, strategy: Strategy) -> IntArray:
        """Return all ranks, which are one group."""
        del lane_ranks, strategy
        return stages.reshape(1, -1)

    def lane_size(self, strategy: Strategy) -> int:
        """Return the ranks that TP and CP connect: the exchange with experts is one-sided and connects none."""
        return strategy.tp * strategy.cp

    _dp_rule = "DP = EP / (TP x PP)"

    def _ranks_per_replica(self, s: Strategy) -> int:
        return s.tp * s.pp

    def _why_no_dp(self, s: Strategy, num_gpus: int) -> str:
        del num_gpus
        return f"EP = TP x PP x DP, so TP x PP = {s.tp * s.pp} must divide EP{s.ep}"

    def _why_other_ep(self, s: Strategy, dp: int) -> str:
        return f"EP spans all GPUs, TP x PP x DP = {s.tp} x {s.pp} x {dp} = {s.tp * s.pp * dp}, and EP{s.ep} is named"
