"""How experts are placed, as one value."""

from dataclasses import dataclass

__all__ = ["PlacementRule"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementRule:
    """How experts are placed on the ranks of their group."""

    kind: str = "contiguous"
    """Name of the placement."""
    replicas: int = 0
    """Slots beyond one for each expert, over all ranks of a group (eplb)."""
    groups: int = 1
    """Groups of experts that stay on one node where they can (eplb)."""
    window: int = 8
    """Microbatches whose loads a plan is made from (greedy, eplb)."""
    stale: int = 0
    """Microbatches between the last of these and the first of the run."""
    moves: bool = False
    """Whether what is not where the contiguous placement has it is copied there before the first pass."""
    experts: tuple[tuple[int, ...], ...] = ()
    """Experts of each rank, for all layers or one layer with experts after another (explicit)."""

    @property
    def is_planned(self) -> bool:
        """Whether it depends on loads."""
        return self.kind in {"greedy", "eplb"}
