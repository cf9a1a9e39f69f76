"""Conventions whose EP is the size of a fixed set of ranks, from which DP follows."""

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar

from workloads.conventions.base import Convention, whole_quotient
from workloads.strategy import Strategy

__all__ = ["SpreadExperts"]


@dataclass(frozen=True, slots=True)
class SpreadExperts(Convention):
    """A convention that spreads a layer's experts over a fixed set of ranks: EP is the size of the set and gives DP."""

    @abstractmethod
    def _ranks_per_replica(self, s: Strategy) -> int:
        """Return the ranks of one data-parallel replica that hold experts of a layer."""

    def dp_of(self, strategy: Strategy, num_gpus: int) -> int | None:
        """Return DP: EP (x ETP) over the ranks of one replica that hold experts of a layer."""
        del num_gpus
        if strategy.dp is not None:
            return strategy.dp
        slices = strategy.etp if self._slices_experts else 1
        return whole_quotient(strategy.ep * slices, self._ranks_per_replica(strategy))

    def as_named(self, strategy: Strategy) -> Strategy:
        """Return the strategy without SP and DP."""
        return replace(strategy, sp=None, dp=None)

    def _why_groups_fail(self, s: Strategy, dp: int) -> str | None:
        sizes = {"CP": s.cp, "ETP": 1 if self._slices_experts else s.etp}
        axes = [axis for axis, size in sizes.items() if size > 1]
        if axes:
            named, have = " and ".join(f"{axis}{sizes[axis]}" for axis in axes), "have" if len(axes) > 1 else "has"
            return f"{named} {have} no place in this reading of EP: leave {' and '.join(axes)} out"
        if s.ep * s.etp != self._ranks_per_replica(s) * dp:
            return self._why_other_ep(s, dp)
        return self._why_no_sp if s.sp else None

    _slices_experts: ClassVar[bool] = False
    """Whether ETP ranks may hold slices of the same experts."""
    _why_no_sp: ClassVar[str | None] = None
    """Why SP has to be off; None: it may be on."""

    @abstractmethod
    def _why_other_ep(self, s: Strategy, dp: int) -> str:
        """Return the size that EP must have."""
