"""Number types of measured kernels: bytes of what they read, and the peak that they compute at."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from topology.device import Device

__all__ = ["FORMATS", "Format"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """Number types of a kernel: bytes of what it reads, and its peak."""

    input_bytes: float
    """Bytes of an element of the activations, of query, or of what a memory-bound kernel reads."""
    weight_bytes: float
    """Bytes of an element of the weights, or of the cached keys and values."""
    peak_over_bf16: float
    """Peak of matrix products over that of bf16, where the device states none of fp8."""
    peak_over_fp8: float | None = None
    """Peak of matrix products over that of fp8; None: products in the format have nothing to do with fp8."""
    falls_back_to: str | None = None
    """The format whose measured points are used where a profile has none of this one."""
    meaning: str
    """What the format is, for documents."""

    def peak_flops_per_s(self, device: Device) -> float:
        """Return the peak of matrix products on a device."""
        if self.peak_over_fp8 is not None and device.peak_fp8_flops_per_s is not None:
            return device.peak_fp8_flops_per_s * self.peak_over_fp8
        return device.peak_bf16_flops_per_s * self.peak_over_bf16


FORMATS: Final[Mapping[str, Format]] = MappingProxyType(
    {
        "bf16": Format(input_bytes=2, weight_bytes=2, peak_over_bf16=1, meaning="bf16 or fp16 in and out"),
        "fp8": Format(
            input_bytes=1, weight_bytes=1, peak_over_bf16=2, peak_over_fp8=1, meaning="fp8, one scale for a tensor"
        ),
        "fp8_block": Format(
            input_bytes=1,
            weight_bytes=1,
            peak_over_bf16=2,
            peak_over_fp8=1,
            meaning="fp8, scales for blocks of 1 x 128 and 128 x 128",
        ),
        "mxfp8": Format(
            input_bytes=1,
            weight_bytes=1,
            peak_over_bf16=2,
            peak_over_fp8=1,
            falls_back_to="fp8_block",
            meaning="fp8, a scale for 32 elements",
        ),
        "nvfp4": Format(
            input_bytes=0.5, weight_bytes=0.5, peak_over_bf16=4, peak_over_fp8=2, meaning="fp4, a scale for 16 elements"
        ),
        "int8": Format(input_bytes=1, weight_bytes=1, peak_over_bf16=2, meaning="int8 in, as SmoothQuant makes it"),
        "int8_wo": Format(input_bytes=2, weight_bytes=1, peak_over_bf16=1, meaning="weights in int8, products in bf16"),
        "int4_wo": Format(
            input_bytes=2, weight_bytes=0.5, peak_over_bf16=1, meaning="weights in int4, products in bf16"
        ),
        "bf16_kv_fp8": Format(input_bytes=2, weight_bytes=1, peak_over_bf16=1, meaning="bf16 with a cache of fp8"),
    }
)
"""Formats by name."""
