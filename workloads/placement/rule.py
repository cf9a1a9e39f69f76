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
    every: int | None = None
    """Microbatches after which a plan gives way to one from the window before; None: one plan (greedy, eplb)."""
    moves: bool = False
    """Whether what is not where the plan before has it (without `every` the contiguous placement) is copied there."""
    experts: tuple[tuple[int, ...], ...] = ()
    """Experts of each rank, for all layers or one layer with experts after another (explicit)."""

    @property
    def is_planned(self) -> bool:
        """Whether it depends on loads."""
        return self.kind in {"greedy", "eplb"}

    def plan_at(self, microbatch: int) -> int:
        """Return the number of the plan that a microbatch runs under; those before the run are negative.

        >>> [PlacementRule(kind="eplb", every=4).plan_at(microbatch) for microbatch in (-1, 0, 3, 4)]
        [-1, 0, 0, 1]
        """
        return 0 if self.every is None else microbatch // self.every
