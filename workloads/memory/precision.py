"""In which types training keeps gradients and optimizer states.

Model
-----
    optimizer  4 (master weight) + 2 moments                        bytes per parameter

The default is Megatron's: gradients accumulated and reduced in fp32, moments in fp32, 2 + 4 + 12 bytes with bf16
weights. Gradients in bf16 make it 16; DeepSeek-V3 kept moments in bf16 and gradients and master weights in fp32.

References
----------
Megatron-LM, `--accumulate-allreduce-grads-in-fp32`, `--exp-avg-dtype`. DeepSeek-AI, "DeepSeek-V3 technical report",
2024, section 3.3.3.
"""

from dataclasses import dataclass

__all__ = ["MEGATRON_PRECISION", "STATE_DTYPE_BYTES", "Precision"]

STATE_DTYPE_BYTES = {"fp32": 4, "bf16": 2}
"""Bytes of a gradient or a moment, by type."""


@dataclass(frozen=True, slots=True)
class Precision:
    """Types of gradients and moments.

    >>> Precision().optimizer_bytes, Precision(moment="bf16").optimizer_bytes
    (12, 8)
    """

    gradient: str = "fp32"
    """fp32 or bf16: gradients, as they are kept and reduced."""
    moment: str = "fp32"
    """fp32 or bf16: each of Adam's two moments."""

    @property
    def gradient_bytes(self) -> int:
        """Bytes of a gradient."""
        return STATE_DTYPE_BYTES[self.gradient]

    @property
    def optimizer_bytes(self) -> int:
        """Bytes of the optimizer's state of a parameter: master weight and two moments."""
        return 4 + 2 * STATE_DTYPE_BYTES[self.moment]


MEGATRON_PRECISION = Precision()
"""Gradients and moments in fp32."""
