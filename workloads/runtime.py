"""What the software does while a model runs: attention kernels, and whatever else a framework and its version decide.

A scenario's section `runtime:` has the fields of `Runtime` as keys. `runtime.preset` names an entry of `RUNTIMES`,
which fills the keys that are not given; without a preset the entry `ideal` does.
"""

from dataclasses import dataclass
from typing import Final

__all__ = ["ATTENTIONS", "DEFAULT_RUNTIME", "RUNTIMES", "Runtime"]

ATTENTIONS: Final = ("fused", "unfused")
"""Kinds of attention kernels: scores stay inside of a kernel, or pass through memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """What the software does."""

    attention: str | None = None
    """`fused`: scores stay in the attention kernel; `unfused`: they are written and read; null: as
    `model.fused_attention` says."""
    overlap_grad_reduce: bool = False
    """Whether gradients are reduced next to the last backward pass, bucket by bucket, as Megatron-LM does."""
    overlap_param_gather: bool = False
    """Whether ZeRO 1 gathers parameters next to the first forward pass of the next step, bucket by bucket."""


DEFAULT_RUNTIME: Final = "ideal"
"""The preset of a scenario that names none."""

RUNTIMES: Final[dict[str, Runtime]] = {
    "ideal": Runtime(),  # nothing between kernels takes time: what any software can at best reach
}
"""What frameworks do, by name of the preset; the source of each value stands next to it."""
