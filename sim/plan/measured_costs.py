"""Kernels priced by a measured profile of the device, as far as the profile has their operations.

Model
-----
    time = slowdown(shape) * max(flops / peak, bytes / memory bandwidth) + slowdown * launch

with the slowdown of the profile (`topology.profiles`), and the FLOPs and bytes of the kernel itself. The experts of a
grouped product have different numbers of tokens: each takes the time of its share of a launch in which all experts have
as many tokens as it has. Slowdowns over tokens are read from a curve with `_PER_OCTAVE` points for a factor of two.

Attention is looked up by the length at which causal attention has as many FLOPs, so that windows, chunks and the parts
of context parallelism are as efficient as short sequences.

Assumptions
-----------
- A kernel of an operation that the profile has not is priced by the closed form (`topology.device`).
- Backward kernels that are bound by memory slow down as their forward kernels.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

import numpy as np
from numpy.typing import NDArray

from topology.profiles import DeviceProfile
from topology.profiles.formats import FORMATS
from topology.profiles.operation import Shape
from topology.profiles.operations import LAUNCH_S, OPERATIONS, roofline_s
from workloads.kernels import (
    ATTENTION_BACKWARD_FACTOR,
    STREAMED_IN_TRAINING,
    Attention,
    Gemm,
    GroupedGemm,
    Kernel,
    Memory,
    Scan,
)

__all__ = ["MeasuredCosts", "Note"]

Floats = NDArray[np.float64]
Note = tuple[str, bool]
"""An operation whose time was read from a profile, and whether the shape lies outside of what was measured."""

_FORMATS: Final = {"bf16": "bf16", "fp16": "bf16", **{name: name for name in FORMATS}}
"""Type of a product -> its format; other types have none."""
_PER_OCTAVE: Final = 8
"""Points of a curve over tokens for each factor of two."""
_OCTAVES: Final = 24
"""Factors of two that a curve spans: 16 million tokens of an expert, beyond which the last slowdown stays."""
_MEMORY_OPERATIONS: Final = {
    "norm": "norm",
    "swiglu": "swiglu",
    "rotary": "rope",
    "residual_add": "residual_add",
    "embedding": "embedding",
    "quantise": "quantise",
    "amax": "amax",
}
"""Kernel that is bound by memory -> the operation of profiles."""
_LATENT: Final = (576, 512)
"""Width of a key and of a value of absorbed latent attention that was measured: DeepSeek-V3's latents."""


class MeasuredCosts:
    """Prices of kernels from one profile."""

    def __init__(self, profile: DeviceProfile, *, dtype: str, trains: bool = False) -> None:
        """Price kernels of type `dtype`, where they have none of their own.

        Where a model is trained, kernels that differ from those of serving, which were measured, are left out.
        """
        self._profile, self._device, self._dtype = profile, profile.device, dtype
        self._left_out = STREAMED_IN_TRAINING if trains else frozenset()
        self._asked: Counter[str] = Counter()
        self._extrapolated: Counter[str] = Counter()
        self._heard: list[Note] = []

    @contextmanager
    def hear(self) -> Iterator[list[Note]]:
        """Give a list to which the notes are added that are made until the context is left."""
        before, self._heard = self._heard, []
        try:
            yield self._heard
        finally:
            self._heard = before

    def note_again(self, notes: Iterable[Note]) -> None:
        """Note what was noted when a price was found that is known by now."""
        for note in notes:
            self._note(*note)

    def time_s(self, kernel: Kernel) -> float | Floats | None:
        """Return the time of a kernel, a number or of each rank [R]; None where the profile has not its operation."""
        if isinstance(kernel, Gemm):
            return self._gemm_s(kernel)
        if isinstance(kernel, GroupedGemm):
            return self.grouped_s(kernel, kernel.tokens)
        if isinstance(kernel, Attention):
            return self._attention_s(kernel)
        return None if isinstance(kernel, Scan) else self._memory_s(kernel)

    def grouped_s(self, kernel: GroupedGemm, tokens: NDArray[np.int64]) -> Floats | None:
        """Return the time [...] of a grouped product for `tokens` [..., E] of each expert."""
        fmt, experts = _FORMATS.get(kernel.dtype or self._dtype), tokens.shape[-1]
        operation = _product("grouped_gemm", kernel)
        if fmt is None or kernel.n * kernel.k == 0:
            return None
        key, curves = (operation, fmt, experts, kernel.n, kernel.k), self._profile.curves
        if key not in curves:
            curves[key] = self._curve(*key)
        curve = curves[key]
        if curve is None:
            return None
        slowdowns, extrapolated = curve
        octave = np.minimum(np.log2(np.maximum(tokens, 1)), _OCTAVES) * _PER_OCTAVE
        slowdown = np.interp(octave, np.arange(len(slowdowns)), slowdowns) * (tokens > 0)
        busy_s = (
            roofline_s(operation, fmt, _grouped(operation, 1.0, tokens, kernel.n, kernel.k), self._device) - LAUNCH_S
        )
        self._note(operation, bool(extrapolated[np.ceil(octave.max(initial=0.0)).astype(np.int64)]))
        active = np.maximum(np.count_nonzero(tokens, axis=-1), 1)
        return np.asarray((slowdown * busy_s).sum(axis=-1) + slowdown.sum(axis=-1) / active * LAUNCH_S)

    @property
    def warnings(self) -> list[str]:
        """A sentence where shapes lay outside of what was measured."""
        if not self._extrapolated:
            return []
        names = ", ".join(f"{name} {count} of {self._asked[name]}" for name, count in self._extrapolated.items())
        return [
            f"profile: kernels of {self._device.name} outside of the measured shapes are extrapolated with the "
            f"efficiency of the nearest shapes: {names}."
        ]

    # ---- private -------------------------------------------------------------------------------------------------

    def _gemm_s(self, kernel: Gemm) -> float | None:
        operation = _product("gemm", kernel)
        fmt = _FORMATS.get(kernel.dtype or self._dtype)
        if fmt is None or kernel.batch != 1 or kernel.m * kernel.n * kernel.k == 0:
            return None
        shape = OPERATIONS[operation].complete({"m": kernel.m, "n": kernel.n, "k": kernel.k})
        slowdown = self._slowdown(operation, fmt, shape)
        return None if slowdown is None else float(slowdown[0] * roofline_s(operation, fmt, shape, self._device)[0])

    def _attention_s(self, kernel: Attention) -> float | None:
        fmt = _FORMATS.get(kernel.dtype or self._dtype)
        if fmt is None or not kernel.flops > 0:
            return None
        if kernel.operation == "mla_decode":
            if (kernel.head_dim, kernel.value_dim) != _LATENT or kernel.is_backward:
                return None
            sizes = {"batch": kernel.batch, "heads": kernel.heads, "length": kernel.kv_length}
            return self._of_work("mla_decode", fmt, sizes, kernel.flops, kernel.num_bytes)
        if kernel.query_length == 1 and kernel.kv_length > 1 and kernel.head_dim == kernel.value_dim:
            sizes = {"batch": kernel.batch, "heads": kernel.heads, "kv_heads": kernel.kv_heads}
            sizes |= {"length": kernel.kv_length, "head_dim": kernel.head_dim}
            return self._of_work("attention_decode", fmt, sizes, kernel.flops, kernel.num_bytes)
        operation = "attention_backward" if kernel.is_backward else "attention_forward"
        forward_flops = kernel.flops / (ATTENTION_BACKWARD_FACTOR if kernel.is_backward else 1.0)
        per_square = kernel.batch * kernel.heads * (kernel.head_dim + kernel.value_dim) * (1 if kernel.is_causal else 2)
        sizes = {
            "batch": kernel.batch,
            "heads": kernel.heads,
            "kv_heads": kernel.kv_heads,
            "length": (forward_flops / per_square) ** 0.5,
            "head_dim": kernel.head_dim,
            "value_dim": kernel.value_dim,
            "causal": float(kernel.is_causal),
        }
        return self._of_work(operation, fmt, sizes, kernel.flops, kernel.num_bytes)

    def _of_work(
        self, operation: str, fmt: str, sizes: dict[str, float], flops: float, num_bytes: float
    ) -> float | None:
        """Return the time of a kernel with FLOPs and bytes of its own."""
        slowdown = self._slowdown(operation, fmt, OPERATIONS[operation].complete(sizes))
        if slowdown is None:
            return None
        compute_s = flops / FORMATS[fmt].peak_flops_per_s(self._device)
        memory_s = num_bytes / self._device.memory_bandwidth_bytes_per_s
        return float(slowdown[0]) * (max(compute_s, memory_s) + LAUNCH_S)

    def _memory_s(self, kernel: Memory) -> float | Floats | None:
        operation = _MEMORY_OPERATIONS.get(kernel.operation)
        if operation is None or kernel.operation in self._left_out or kernel.width <= 0:
            return None
        rows, num_bytes = np.asarray(kernel.rows, dtype=np.float64), np.asarray(kernel.num_bytes, dtype=np.float64)
        shape = OPERATIONS[operation].complete({"rows": np.maximum(rows, 1.0), "width": kernel.width})
        slowdown = self._slowdown(operation, "bf16", shape)
        if slowdown is None:
            return None
        busy_s = num_bytes / self._device.memory_bandwidth_bytes_per_s
        time_s = np.where(num_bytes > 0, slowdown.reshape(rows.shape) * (busy_s + LAUNCH_S), 0.0)
        return time_s if time_s.ndim else float(time_s)

    def _slowdown(self, operation: str, fmt: str, shape: Shape) -> Floats | None:
        answer = self._profile.slowdown(operation, fmt, shape)
        if answer is None:
            return None
        self._note(operation, bool(answer.extrapolated.any()))
        return answer.slowdown

    def _note(self, operation: str, is_extrapolated: bool) -> None:
        self._heard.append((operation, is_extrapolated))
        self._asked[operation] += 1
        self._extrapolated[operation] += is_extrapolated
        if not self._extrapolated[operation]:
            del self._extrapolated[operation]

    def _curve(self, operation: str, fmt: str, experts: int, n: int, k: int) -> tuple[Floats, NDArray[np.bool_]] | None:
        """Return the slowdown over the tokens of each expert, `_PER_OCTAVE` points for a factor of two."""
        tokens = np.exp2(np.arange(_OCTAVES * _PER_OCTAVE + 1) / _PER_OCTAVE)
        shape = _grouped(operation, float(experts), tokens, n, k)
        answer = self._profile.slowdown(operation, fmt, shape)
        return None if answer is None else (answer.slowdown, answer.extrapolated)


def _product(forward: str, kernel: Gemm | GroupedGemm) -> str:
    """Return the operation of a product: `forward`, or that of its gradient by the weight or by the input.

    >>> _product("gemm", Gemm(kind="expert", m=2, n=3, k=5, input_gradient=True))
    'gemm_input_gradient'
    """
    if kernel.weight_gradient:
        return f"{forward}_weight_gradient"
    return f"{forward}_input_gradient" if kernel.input_gradient else forward


def _grouped(operation: str, experts: float, tokens: NDArray[np.number], n: int, k: int) -> Shape:
    """Return the shape of a grouped product with `tokens` of each expert; of weight gradients they are the depth."""
    sizes = {"m": k, "n": n, "k": tokens} if operation.endswith("weight_gradient") else {"m": tokens, "n": n, "k": k}
    return OPERATIONS[operation].complete({"experts": experts, **sizes})
