"""What a convention of expert parallelism answers for: legality, sizes that follow, groups, who owns a token.

Code elsewhere reads these properties and never compares a convention's name.
"""

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from workloads.strategy import Strategy

__all__ = ["EXCHANGE_MODES", "Convention", "IntArray", "whole_quotient"]

IntArray = NDArray[np.intp]

EXCHANGE_MODES = ("one_sided", "blocking")
"""How the stages enter the expert exchange of a convention whose experts lie on all stages."""


@dataclass(frozen=True, slots=True)
class Convention(ABC):
    """A reading of EP. Arrays `stages` hold the ranks of each stage, TP fastest, of shape [PP, R]."""

    name: ClassVar[str]
    """The name in scenarios and results."""
    meaning: ClassVar[str]
    """The rule in a line."""
    experts_span_stages: ClassVar[bool] = False
    """Whether a layer's experts lie on the GPUs of all stages and serve all stages.

    The exchange is then one-sided (an expert's GPU serves tokens when they come), a rank holds its experts for all
    layers, and no lane can run for another.
    """
    splits_sequence_over_tp: ClassVar[bool] = False
    """Whether a TP rank owns the tokens of its part of the sequence: SP is the default, and experts need SP."""
    supports_training: ClassVar[bool] = True
    """Whether frameworks with this convention train."""
    serves_requests: ClassVar[bool] = False
    """Whether frameworks with this convention answer requests of users."""

    # ---- legality and sizes that follow --------------------------------------------------------------------------

    def why_illegal(self, strategy: Strategy, *, num_gpus: int, gpus_per_node: int = 8) -> str | None:
        """Return the product that fails, or None where the strategy is legal.

        >>> from workloads.conventions import MEGATRON
        >>> MEGATRON.why_illegal(Strategy.parse("EP64_TP16_PP4"), num_gpus=64)
        'ETP x EP x PP = 1 x 64 x 4 = 256 does not divide TP x CP x DP x PP = 64: at least 256 GPUs are needed'
        """
        s, dp = strategy, self.dp_of(strategy, num_gpus)
        if dp is None:
            return self._why_no_dp(s, num_gpus)
        world = s.tp * s.cp * s.pp * dp
        if world > num_gpus:
            derived = "" if s.dp is not None else f"{self._dp_rule} = {dp}, and so "
            product = f"TP x CP x DP x PP = {s.tp} x {s.cp} x {dp} x {s.pp} = {world}"
            return f"{derived}{product} is more than {num_gpus} GPUs"
        if num_gpus - world >= gpus_per_node:
            return f"TP x CP x DP x PP = {world} leaves {num_gpus - world} of {num_gpus} GPUs unused, a node or more"
        return self._why_groups_fail(s, dp)

    def nearest_legal(
        self, strategy: Strategy, *, num_gpus: int, gpus_per_node: int = 8, count: int = 4
    ) -> list[Strategy]:
        """Return up to `count` legal strategies, those that change the fewest axes by the smallest factors first.

        DP follows from the number of GPUs, and SP from the convention. DP is named where DP is all that
        changes, and SP where `strategy` switches it off and the convention needs it. VPP stays as it is; CP and ETP
        stay or become 1.
        """
        sizes = [2**i for i in range(num_gpus.bit_length()) if 2**i <= num_gpus]
        found: list[tuple[int, float, str, Strategy]] = []
        axes = [sorted({*sizes, strategy.tp}), sorted({*sizes, strategy.pp}), sorted({*sizes, strategy.ep})]
        for tp, pp, ep, etp, cp in itertools.product(*axes, sorted({1, strategy.etp}), sorted({1, strategy.cp})):
            candidate = replace(strategy, tp=tp, pp=pp, ep=ep, etp=etp, cp=cp, dp=None, sp=None)
            if strategy.sp is False and self.requires_sp(candidate):
                candidate = replace(candidate, sp=True)
            if self.why_illegal(candidate, num_gpus=num_gpus, gpus_per_node=gpus_per_node) is None:
                pairs = zip(
                    (tp, pp, ep, etp, cp),
                    (getattr(strategy, axis) for axis in ("tp", "pp", "ep", "etp", "cp")),
                    strict=True,
                )
                factor = sum(abs(math.log2(new / old)) for new, old in pairs)
                num_changed = candidate.differences(replace(strategy, dp=None))
                dp = self.dp_of(candidate, num_gpus)
                if num_changed == 0 and strategy.dp not in {None, dp}:  # DP is what is wrong
                    candidate = replace(candidate, dp=dp)
                found.append((num_changed, factor, candidate.name, candidate))
        return [item[3] for item in sorted(found, key=lambda item: item[:3])[:count]]

    def what_was_meant(self, strategy: Strategy, *, num_gpus: int, gpus_per_node: int = 8) -> str | None:
        """Return a sentence on what an illegal strategy most likely means here, None where nothing is known.

        >>> from workloads.conventions import MEGATRON
        >>> MEGATRON.what_was_meant(Strategy.parse("TP1_PP4_DP1"), num_gpus=16)
        'DP1 is what is wrong: write DP4, or leave DP out.'
        """
        without_dp = replace(strategy, dp=None)
        sizes = {"num_gpus": num_gpus, "gpus_per_node": gpus_per_node}
        if strategy.dp is not None and self.why_illegal(without_dp, **sizes) is None:
            dp = self.dp_of(without_dp, num_gpus)
            return f"DP{strategy.dp} is what is wrong: write DP{dp}, or leave DP out."
        return None

    def default_etp(self, strategy: Strategy, *, num_gpus: int, gpus_per_node: int = 8) -> str | None:
        """Return what the framework's own default of ETP makes of a strategy; None where that is 1 as here."""
        del strategy, num_gpus, gpus_per_node
        return None

    def meant_strategy(self, strategy: Strategy, *, num_gpus: int, gpus_per_node: int = 8) -> Strategy | None:
        """Return the legal strategy that an illegal one is in the words of another program; None: none is known."""
        del strategy, num_gpus, gpus_per_node
        return None

    @abstractmethod
    def dp_of(self, strategy: Strategy, num_gpus: int) -> int | None:
        """Return DP as the strategy names it, or else as it follows; None where that is not a whole number."""

    def sp_of(self, strategy: Strategy) -> bool:
        """Return whether SP is on: as the strategy says, or else the default of the convention."""
        return self.splits_sequence_over_tp and strategy.tp > 1 if strategy.sp is None else strategy.sp

    def requires_sp(self, strategy: Strategy) -> bool:
        """Tell whether a strategy is illegal with SP switched off."""
        return self.splits_sequence_over_tp and strategy.tp > 1 and strategy.ep > 1

    @abstractmethod
    def as_named(self, strategy: Strategy) -> Strategy:
        """Return the strategy of a mesh without what follows from the convention: SP, and DP where EP gives it."""

    @abstractmethod
    def legal_product(self, strategy: Strategy) -> str:
        """Return the product that makes a strategy legal, with its sizes; DP is given."""

    def for_dense_model(self) -> "Convention | None":
        """Return the convention that lays out a model without experts; None where such a model has no place."""
        return self

    # ---- tokens and experts --------------------------------------------------------------------------------------

    def replicates_tokens_over_tp(self, strategy: Strategy) -> bool:
        """Tell whether every rank of a lane has all tokens of the lane, so that no token is sent to its experts.

        Each rank then runs its own experts, and an all-reduce sums the results. DP of the strategy is given.
        """
        del strategy
        return False

    def gathers_tokens(self, strategy: Strategy) -> bool:
        """Tell whether every rank of a lane gathers all tokens of the lane for the experts. DP is given.

        Each rank then runs its own experts on all of them, and a reduce-scatter sums the results.
        """
        del strategy
        return False

    def expert_shards(self, strategy: Strategy) -> float:
        """Return the ranks that share the copies of one replica's tokens when every expert receives equally many.

        Ranks with slices of the same experts have equal copies, those of all of them.
        """
        return strategy.tp / strategy.etp

    def expert_layers(self, stage_layers: Sequence[int], num_layers: int) -> Sequence[int]:
        """Return the layers whose experts a rank holds, of a stage with `stage_layers` of the model's `num_layers`."""
        del num_layers
        return stage_layers

    # ---- groups --------------------------------------------------------------------------------------------------

    def ep_groups(self, stages: IntArray, stage: int, strategy: Strategy) -> IntArray:
        """Return the groups of ranks over which a stage's tokens find their experts. Shape [groups, EP]."""
        return _ep_groups_of(stages[stage], strategy)

    def expert_dp_groups(
        self, stages: IntArray, same_stages: Sequence[int], stage: int, strategy: Strategy
    ) -> IntArray:
        """Return the ranks of `same_stages` with the same slices as ranks of `stage`. Shape [EP * ETP, holders]."""
        del stage
        size = strategy.ep * strategy.etp
        return np.ascontiguousarray(np.concatenate([stages[same].reshape(-1, size) for same in same_stages]).T)

    def ep_groups_of_lane(self, stages: IntArray, lane_ranks: IntArray, strategy: Strategy) -> IntArray:
        """Return the groups to which the tokens of a lane's ranks go. Shape [groups, EP]."""
        del stages
        return _ep_groups_of(lane_ranks, strategy)

    def lane_size(self, strategy: Strategy) -> int:
        """Return the ranks of a stage that collectives of every layer connect."""
        return math.lcm(strategy.tp * strategy.cp, strategy.ep * strategy.etp)

    # ---- private -------------------------------------------------------------------------------------------------

    _dp_rule: ClassVar[str] = ""
    """The product that gives DP where a strategy does not name it."""

    @abstractmethod
    def _why_no_dp(self, s: Strategy, num_gpus: int) -> str:
        """Return why DP is not a whole number."""

    @abstractmethod
    def _why_groups_fail(self, s: Strategy, dp: int) -> str | None:
        """Return why the axes do not form the groups of the convention on enough GPUs; None where they do."""


def whole_quotient(numerator: int, denominator: int) -> int | None:
    """Return the quotient; None where it is not a whole number of at least 1."""
    return numerator // denominator if numerator >= denominator and numerator % denominator == 0 else None


def _ep_groups_of(ranks: IntArray, strategy: Strategy) -> IntArray:
    """Return ranks in groups of EP with a stride of ETP, for ETP is the faster of the two. Shape [groups, EP]."""
    return ranks.reshape(-1, strategy.ep, strategy.etp).swapaxes(1, 2).reshape(-1, strategy.ep)
