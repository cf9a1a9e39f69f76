"""Which elementwise work runs inside of other kernels, and which as kernels of its own.

Model
-----
    unfused op    bytes = elements * forward_bytes or backward_bytes of `UNFUSED_OPS`
    loss, fused   one kernel keeps maximum and sum of a row while it reads, a second writes the gradient in place of the
                  logits: 3 reads and writes of each logit; backward, the gradient is scaled in place

Bytes are those of PyTorch's kernels one after another, each of which reads and writes whole tensors in 2 bytes and
masks in 1; gradients of views cost nothing:

    rotary         t cos (4), its halves swapped: minus, concatenated (2 + 4), times sine (4), the sum (6), and the part
                   that is not rotated concatenated (4); backward the two products (8), halves back (2 + 4), the sum of
                   both gradients (6), and that of the empty part, filled with zeros and added (8)
    expert_clamp   both halves clamped (4) and concatenated (4); backward comparisons and choice, 8 for the gate, which
                   has one limit, and 14 for the other half, which has two: 11; and both gradients concatenated (4)
    expert_bias    bias times probability (2), added to each expert's part (6), parts concatenated (4); backward the
                   products by bias and by probability (4 + 4), their sums (2 + 2), and parts concatenated (4)

Assumptions
-----------
Biases and clamps of experts run as one kernel of all local experts here, and as two or more for each expert in truth:
the host needs longer than is modelled. That products of Hopper which also sum the gradient of a bias may be slower is
left out: optimistic.

References
----------
NVIDIA, Megatron-LM core 0.15: `rope_utils.py` (the fused kernel is left where a factor of YaRN is not 1),
`fusions/fused_bias_geglu.py` (`weighted_bias_quick_geglu_impl`), `moe/experts.py` (`TEGroupedMLP._apply_bias`).
NVIDIA, Transformer Engine 2.9: `pytorch/triton/cross_entropy.py`. PyTorch: `clamp_backward` in FunctionsManual.cpp.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

__all__ = ["ALL_FUSED", "FUSED_LOSS_ACCESSES", "UNFUSED_OPS", "Fusions"]


class UnfusedOp(NamedTuple):
    """What an op moves as kernels of its own."""

    forward_bytes: int
    """Of each element, in 2 bytes."""
    backward_bytes: int
    """The same of its gradient."""
    meaning: str
    """What an element is, for documents."""


UNFUSED_OPS: Final[dict[str, UnfusedOp]] = {
    "rotary": UnfusedOp(24, 28, "rotary embedding of each element of queries and keys"),
    "expert_clamp": UnfusedOp(8, 15, "limits of the inputs of the experts' activation, both halves"),
    "expert_bias": UnfusedOp(12, 16, "biases of the experts' results, weighed by the probability of each copy"),
}
"""Name -> what it moves, and of which elements."""

FUSED_LOSS_ACCESSES: Final = (3, 2)
"""Reads and writes of each logit by the fused loss, forward and backward."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fusions:
    """What software fuses."""

    has_fused_loss: bool = False
    """Whether the loss passes over the logits as Transformer Engine's fused cross entropy does."""
    unfused_ops: tuple[str, ...] = ()
    """Keys of `UNFUSED_OPS` that run as kernels of their own."""

    def moved_bytes(self, op: str, elements: float, *, dtype_bytes: int = 2) -> tuple[float, float] | None:
        """Return the bytes that an op moves by itself, forward and backward; None where it is fused.

        >>> Fusions(unfused_ops=("rotary",)).moved_bytes("rotary", 10)
        (240.0, 280.0)
        """
        if op not in self.unfused_ops:
            return None
        known, scale = UNFUSED_OPS[op], dtype_bytes / 2
        return known.forward_bytes * elements * scale, known.backward_bytes * elements * scale


ALL_FUSED: Final = Fusions()
"""No op of `UNFUSED_OPS` is a kernel of its own; the loss is not fused."""
