"""What a run does with a model: a forward pass, or a step of training."""

from dataclasses import dataclass
from typing import Final

__all__ = ["FORWARD", "TRAINING", "WORKLOAD_KINDS", "WorkloadKind"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadKind:
    """The passes of a workload, and what follows them."""

    name: str
    """The name in scenarios."""
    trains: bool
    """Whether backward passes, a reduction of gradients and an optimizer step follow the forward passes."""

    @property
    def pass_kinds(self) -> tuple[str, ...]:
        """Kinds of passes that every microbatch makes; W, where a schedule splits it off, is a part of B."""
        return ("F", "B") if self.trains else ("F",)

    @property
    def flops_per_forward_flop(self) -> int:
        """FLOPs of all passes over those of the forward pass: a backward pass has two products for each of F."""
        return 3 if self.trains else 1


FORWARD: Final = WorkloadKind(name="forward", trains=False)
TRAINING: Final = WorkloadKind(name="training", trains=True)

WORKLOAD_KINDS: Final = {kind.name: kind for kind in (FORWARD, TRAINING)}
"""Kinds of workloads that run a model, by name."""
