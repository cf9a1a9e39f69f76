"""A device: the time of a kernel from its shape.

Model
-----
A GEMM [m, k] x [k, n] is cut into tiles `(tile_m, tile_n)`; each SM works one tile at a time, in waves:

    num_tiles = ceil(m / tile_m) * ceil(n / tile_n)          summed over the experts of a grouped GEMM
    tile_s    = 2 * tile_m * tile_n * k / (peak_flops_per_s / num_sms * gemm_efficiency) + tile_overhead_s
    compute_s = min over TILES of ceil(num_tiles / num_sms) * tile_s
    memory_s  = bytes of both inputs and the output / (memory_bandwidth_bytes_per_s * memory_efficiency)
    t         = max(compute_s, memory_s) + UNOVERLAPPED * min(compute_s, memory_s) + kernel_overhead_s

Attention: `max(flops / (peak * attention_efficiency), memory_s) + kernel_overhead_s`; its published efficiencies are of
whole kernels. Elementwise kernels: `bytes / (memory_bandwidth_bytes_per_s * fraction) + kernel_overhead_s`, where the
fraction is that of the operation. No work takes no time: nothing is launched.

Error of the fit
----------------
`gemm_efficiency`, `memory_efficiency`, `kernel_overhead_s` and `tile_overhead_s` are fitted, once per device, by
`benchmarks/fit_device.py` to measured linears of Llama-2 7B and 70B (fp16, M = 1 to 4096). |error| in percent:

    device         rows   all: median  p90  worst   M >= 512: median  p90  worst   M < 512: median  p90  worst
    a100-sxm-80gb   416           4.1   12     29                5.3   12     26               3.9   12     29
    h100-sxm        416           5.1   15     41                6.7   18     36               4.6   14     41

Each half of the shapes, predicted with constants fitted to the other half: A100 4.4, 12, 30; H100 5.3, 16, 49.
The worst rows last 4 us, measured to 1 us, or are shapes for which cuBLAS takes a slow kernel (H100, K = 28672,
N = 8192: 890 TFLOP/s at M = 512, 570 at M = 1024).

Assumptions
-----------
- A third of the shorter of compute and memory time is not hidden (pipeline fill and drain), the same on all devices.
- No split-K: a deep and narrow GEMM (k large, few tiles) looks too slow.
- All tile shapes reach the same efficiency, and the library picks the best: small m on odd shapes looks too fast.
- Nothing is found in L2: small GEMMs that follow their producer look too slow.
- The clock is constant: power capping under a long run is inside `gemm_efficiency`, as far as the profile had it.
- A grouped GEMM loses nothing but tiles and waves, which errs fast: by 14 % at 512 tokens per expert and by 20 % to
  40 % below, against Transformer Engine's grouped GEMMs on a B200.
- fp8: inputs of 1 byte, outputs of 2; scaling factors are not counted.

References
----------
- Williams et al., "Roofline", 2009: the two bounds.
- NVIDIA, "Matrix Multiplication Background User's Guide": tile and wave quantisation.
- Agrawal et al., "Vidur", 2024 (microsoft/vidur, data/profiling/compute): the profile.
"""

import math
from dataclasses import dataclass
from typing import Final, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim.errors import InvalidValueError

__all__ = ["MEMORY_FRACTIONS", "OUTPUT_BYTES", "TILES", "UNOVERLAPPED", "Device"]

TILES = ((128, 256), (128, 128), (64, 128), (64, 64), (32, 64))
"""Tile shapes (tile_m, tile_n) that a GEMM may be cut into: the common ones of cuBLAS and CUTLASS."""

UNOVERLAPPED = 1 / 3
"""Part of the shorter of compute and memory time that is not hidden behind the longer (fits: A100 0.3, H100 0.35)."""

_TILE_M, _TILE_N = np.array(TILES, dtype=np.float64).T
_INPUT_BYTES = {"bf16": 2, "fp16": 2, "fp8": 1, "fp8_block": 1, "mxfp8": 1, "tf32": 4}
_FP8 = ("fp8", "fp8_block", "mxfp8")
"""Products in fp8: with a scale of each tensor, of blocks of 128, of blocks of 32; they reach about the same rate."""
OUTPUT_BYTES = 2
"""Bytes of an element that a GEMM writes: fp8 GEMMs of training write bf16."""

MEMORY_FRACTIONS: Final[dict[str, float]] = {
    "norm": 0.33,
    "swiglu": 0.545,
    "rotary": 0.45,
    "embedding": 0.16,
    "permute": 0.50,
    "unpermute": 0.50,
    "sort_chunks": 0.50,
    "amax": 0.39,
}
"""Fraction of the datasheet's bandwidth that an operation reaches, where it is less than `memory_efficiency`.

The mean of A100 and H100 in Vidur's profile of vLLM's kernels (4,096 tokens, hidden 8,192: norm 0.34 and 0.32, SwiGLU
0.51 and 0.58, rotary embedding 0.43 and 0.46, look-up of embeddings 0.15 and 0.17); SimuMax's measured permutations on
a B200 (0.501 forward, 0.511 backward); aiconfigurator's largest magnitude of a tensor on an H100 (1,314 GB/s). A sum of
two tensors reaches 0.88 and 0.96, and a cast to fp8 0.91 on an H100: `memory_efficiency` as it is.
"""

_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One accelerator as a rank sees it: datasheet figures and the few constants fitted to measured kernels."""

    name: str
    """Name as reports print it."""
    peak_bf16_flops_per_s: float
    """Datasheet peak of dense bf16 and fp16 matrix products, without sparsity."""
    peak_fp8_flops_per_s: float | None = None
    """Datasheet peak of dense fp8 matrix products; `None` where the device has no fp8."""
    memory_bytes: int
    """Bytes that a framework can allocate in all: what PyTorch's `total_memory` says, not the size as sold."""
    memory_source: str | None = None
    """Where `memory_bytes` comes from; None: assumed."""
    memory_bandwidth_bytes_per_s: float
    """Datasheet bandwidth of the memory."""
    has_bf16: bool = True
    """Whether matrix units multiply bf16 and tf32; False: fp16 only, which has the peak of `peak_bf16_flops_per_s`."""
    host_bytes_per_s: float = 55e9
    """Bandwidth of copies between device and host in one direction; default: PCIe 5.0 x16, of
    63 GB/s what pinned memory reaches (assumed)."""
    num_sms: int
    """Units that each work one tile at a time: SMs, CUs, AI cores."""
    gemm_efficiency: float
    """Fraction of the peak inside a full wave of tiles, 0 to 1."""
    fp8_efficiency_ratio: float = 1.0
    """Fraction of the fp8 peak that GEMMs reach, over that of the bf16 peak."""
    memory_efficiency: float
    """Fraction of the memory bandwidth that a streaming kernel reaches, 0 to 1."""
    attention_efficiency: float
    """Fraction of the peak that fused attention reaches in the forward pass, the causal half counted."""
    attention_backward_efficiency: float
    """The same in the backward pass."""
    kernel_overhead_s: float
    """Fixed time of a kernel: launch, first and last bytes."""
    tile_overhead_s: float
    """Time that each tile adds to its wave: fill and drain of the tile's pipeline."""
    sustained_clock: float = 1.0
    """Clock in a long run over the clock under which kernels were measured in short ones, 0 to 1: what power and heat
    leave of it. Fitted to training steps (`benchmarks/fit_software.py`); 1: not known. More than 5 ms of kernels cost a
    B200 a fifth of its clock (flashinfer-ai/flashinfer, pull request 2899: 1,965 to 1,580 MHz)."""
    sustained_clock_fp8: float | None = None
    """The same where products are in fp8; None: as in bf16."""
    has_block_scaling: bool = False
    """Whether tensor cores scale blocks of 32 elements (MXFP8), and take fp8 operands in any layout: Blackwell."""
    has_multicast: bool = False
    """Whether NVSwitches reduce for it (NVLS): NVIDIA's GPUs of compute capability 9.0 and up."""
    source: str
    """Where the figures come from, and how sure they are."""

    def __post_init__(self) -> None:
        rates = ("peak_bf16_flops_per_s", "memory_bandwidth_bytes_per_s", "host_bytes_per_s")
        for field in (*rates, "memory_bytes", "num_sms"):
            self._check(field, rule="be finite and above 0", low=0.0, low_open=True)
        if self.peak_fp8_flops_per_s is not None:
            self._check("peak_fp8_flops_per_s", rule="be finite and above 0, or None", low=0.0, low_open=True)
        for field in ("gemm", "memory", "attention", "attention_backward"):
            self._check(f"{field}_efficiency", rule="lie in (0, 1]", low=0.0, low_open=True, high=1.0)
        if self.sustained_clock_fp8 is not None:
            self._check("sustained_clock_fp8", rule="lie in (0, 1]", low=0.0, low_open=True, high=1.0)
        self._check("sustained_clock", rule="lie in (0, 1]", low=0.0, low_open=True, high=1.0)
        self._check("fp8_efficiency_ratio", rule="be finite and above 0", low=0.0, low_open=True)
        for field in ("kernel_overhead_s", "tile_overhead_s"):
            self._check(field, rule="be finite and not negative", low=0.0)
        for field in ("memory_bytes", "num_sms"):
            value = getattr(self, field)
            if value != int(value):
                raise self._error(field, "be a whole number", value)
            object.__setattr__(self, field, int(value))  # 80e9 is welcome

    def long_run_clock(self, *, in_fp8: bool) -> float:
        """Return the clock in a long run whose products are in bf16 or in fp8, over that of measured kernels."""
        return self.sustained_clock if not in_fp8 or self.sustained_clock_fp8 is None else self.sustained_clock_fp8

    def peak_flops_per_s(self, dtype: str) -> float:
        """Return the datasheet peak for `dtype`: `bf16`, `fp16`, `fp8` or `tf32` (fp32 in memory, half of bf16's peak).

        >>> from topology.presets.devices import DEVICES
        >>> DEVICES["h100-sxm"].peak_flops_per_s("fp8")
        1979000000000000.0
        """
        if dtype not in _INPUT_BYTES:
            raise self._error("dtype", "be one of bf16, fp16, fp8, tf32", repr(dtype))
        rule, hint = "be one that the device computes in", f"Use {'bf16' if self.has_bf16 else 'fp16'}."
        if dtype in ("bf16", "tf32") and not self.has_bf16:
            raise self._error("dtype", rule, repr(dtype), hint)
        if dtype == "tf32":
            return self.peak_bf16_flops_per_s / 2
        if dtype not in _FP8:
            return self.peak_bf16_flops_per_s
        if self.peak_fp8_flops_per_s is None:
            raise self._error("dtype", rule, repr(dtype), hint)
        return self.peak_fp8_flops_per_s

    @overload
    def gemm_time_s(
        self, m: float, n: float, k: float, *, dtype: str = "bf16", output_bytes: int = OUTPUT_BYTES
    ) -> float: ...
    @overload
    def gemm_time_s(
        self,
        m: NDArray[np.number],
        n: ArrayLike,
        k: ArrayLike,
        *,
        dtype: str = "bf16",
        output_bytes: int = OUTPUT_BYTES,
    ) -> _Floats: ...

    def gemm_time_s(
        self, m: ArrayLike, n: ArrayLike, k: ArrayLike, *, dtype: str = "bf16", output_bytes: int = OUTPUT_BYTES
    ) -> float | _Floats:
        """Return the time of one GEMM [m, k] x [k, n]; numbers or arrays that broadcast. 0 if any of them is 0.

        `output_bytes` are moved for each element of the result: 8 where it is added to a sum in 4 bytes.

        8192 x 8192 weights, 4096 tokens on an H100: 32 x 32 tiles are 8 waves of 132, a tile takes
        2 x 128 x 256 x 8192 / (989e12 / 132 x 0.82) = 87.4 us + 1.3 us, a third of the memory's 86 us is not hidden.

        >>> from topology.presets.devices import DEVICES
        >>> round(DEVICES["h100-sxm"].gemm_time_s(4096, 8192, 8192) * 1e6)  # measured: 788
        742
        """
        return _as_given(self._gemm_time_s(_checked("m", m)[..., np.newaxis], n, k, dtype, output_bytes), m, n, k)

    def grouped_gemm_time_s(self, tokens: ArrayLike, n: int, k: int, *, dtype: str = "bf16") -> _Floats:
        """Return the time [...] of one launch for `tokens` [..., E] per local expert, each with its own weights [k, n].

        Tiles are rounded up per expert, waves over the launch; the weights of experts without tokens are not read.

        >>> from topology.presets.devices import DEVICES
        >>> h100 = DEVICES["h100-sxm"]
        >>> float(h100.grouped_gemm_time_s([512], 1024, 4096)) == h100.gemm_time_s(512, 1024, 4096)
        True
        """
        return self._gemm_time_s(_checked("tokens", tokens), n, k, dtype)

    def grouped_weight_gradient_time_s(
        self, tokens: ArrayLike, n: int, k: int, *, dtype: str = "bf16", output_bytes: int = OUTPUT_BYTES
    ) -> _Floats:
        """Return the time [...] of one launch that gives each local expert its gradient [k, n] from `tokens` [..., E].

        The tokens are the inner dim, [k, tokens] x [tokens, n]: every expert with tokens has equally many tiles, and a
        tile's time follows its tokens.

        >>> from topology.presets.devices import DEVICES
        >>> h100 = DEVICES["h100-sxm"]
        >>> float(h100.grouped_weight_gradient_time_s([512], 1024, 4096)) == h100.gemm_time_s(4096, 1024, 512)
        True
        """
        inner = _checked("tokens", tokens)
        num_experts = np.count_nonzero(inner, axis=-1)
        mean_tokens = inner.sum(axis=-1) / np.maximum(num_experts, 1)
        rows = np.broadcast_to(np.where(inner > 0, float(k), 0.0), inner.shape)
        compute_s = self._compute_s(rows, _checked("n", n), mean_tokens, dtype)
        num_bytes = inner.sum(axis=-1) * (k + n) * _INPUT_BYTES[dtype] + num_experts * k * n * output_bytes
        memory_s = self._memory_s(num_bytes)
        busy_s = np.maximum(compute_s, memory_s) + UNOVERLAPPED * np.minimum(compute_s, memory_s)
        return self._launched_s(busy_s * (num_experts * n * k > 0))

    @overload
    def attention_time_s(
        self, flops: float, num_bytes: float, *, backward: bool = False, dtype: str = "bf16"
    ) -> float: ...
    @overload
    def attention_time_s(
        self, flops: NDArray[np.number], num_bytes: ArrayLike, *, backward: bool = False, dtype: str = "bf16"
    ) -> _Floats: ...

    def attention_time_s(
        self, flops: ArrayLike, num_bytes: ArrayLike, *, backward: bool = False, dtype: str = "bf16"
    ) -> float | _Floats:
        """Return the time of one fused attention kernel; a causal one counts half of the score matrix in `flops`.

        >>> from topology.presets.devices import DEVICES
        >>> round(DEVICES["h100-sxm"].attention_time_s(989e9 * 0.42, 0.0), 7)  # 1 ms + 3.5 us
        0.0010035
        """
        efficiency = self.attention_backward_efficiency if backward else self.attention_efficiency
        compute_s = _checked("flops", flops) / (self.peak_flops_per_s(dtype) * efficiency)
        busy_s = np.maximum(compute_s, self._memory_s(_checked("num_bytes", num_bytes)))
        return _as_given(self._launched_s(busy_s), flops, num_bytes)

    @overload
    def memory_time_s(self, num_bytes: float, *, operation: str | None = None) -> float: ...
    @overload
    def memory_time_s(self, num_bytes: NDArray[np.number], *, operation: str | None = None) -> _Floats: ...

    def memory_time_s(self, num_bytes: ArrayLike, *, operation: str | None = None) -> float | _Floats:
        """Return the time of one elementwise kernel that reads and writes `num_bytes` in all.

        An operation of `MEMORY_FRACTIONS` reaches that fraction of the bandwidth, others reach `memory_efficiency`.

        >>> from topology.presets.devices import DEVICES
        >>> round(DEVICES["h100-sxm"].memory_time_s(3.35e9 * 0.935), 7)  # 1 ms + 3.5 us
        0.0010035
        """
        fraction = min(MEMORY_FRACTIONS.get(operation or "", 1.0), self.memory_efficiency)
        busy_s = _checked("num_bytes", num_bytes) / (self.memory_bandwidth_bytes_per_s * fraction)
        return _as_given(self._launched_s(busy_s), num_bytes)

    def _gemm_time_s(
        self, tokens: _Floats, n: ArrayLike, k: ArrayLike, dtype: str, output_bytes: int = OUTPUT_BYTES
    ) -> _Floats:
        n, k = _checked("n", n), _checked("k", k)
        m = tokens.sum(axis=-1)
        compute_s = self._compute_s(tokens, n, k, dtype)
        num_experts = np.count_nonzero(tokens, axis=-1)
        num_bytes = (m + num_experts * n) * k * _INPUT_BYTES[dtype] + m * n * output_bytes
        memory_s = self._memory_s(num_bytes)
        busy_s = np.maximum(compute_s, memory_s) + UNOVERLAPPED * np.minimum(compute_s, memory_s)
        return self._launched_s(busy_s * (m * n * k > 0))

    def _compute_s(self, tokens: _Floats, n: _Floats, k: _Floats, dtype: str) -> _Floats:
        """Return the time of the waves under the best tile; the last axis inside is the menu of tiles."""
        ratio = self.fp8_efficiency_ratio if dtype in _FP8 else 1.0
        sm_flops_per_s = self.peak_flops_per_s(dtype) / self.num_sms * self.gemm_efficiency * ratio
        tile_rows = np.ceil(tokens[..., np.newaxis] / _TILE_M).sum(axis=-2)
        num_waves = np.ceil(tile_rows * np.ceil(n[..., np.newaxis] / _TILE_N) / self.num_sms)
        tile_s = k[..., np.newaxis] * (2 * _TILE_M * _TILE_N / sm_flops_per_s) + self.tile_overhead_s
        best_s: _Floats = (num_waves * tile_s).min(axis=-1)
        return best_s

    def _memory_s(self, num_bytes: _Floats) -> _Floats:
        return num_bytes / (self.memory_bandwidth_bytes_per_s * self.memory_efficiency)

    def _launched_s(self, busy_s: _Floats) -> _Floats:
        return np.where(busy_s > 0, busy_s + self.kernel_overhead_s, 0.0)

    def _check(self, field: str, *, rule: str, low: float, low_open: bool = False, high: float = math.inf) -> None:
        value = getattr(self, field)
        if (
            isinstance(value, int | float)
            and math.isfinite(value)
            and low <= value <= high
            and not (low_open and value == low)
        ):
            return
        raise self._error(field, rule, value)

    def _error(self, field: str, rule: str, value: object, hint: str = "Give a physical figure.") -> InvalidValueError:
        return InvalidValueError(
            field="model.dtype" if field == "dtype" else f"cluster.device.{field}",
            subject=f"device {self.name!r}",
            rule=rule,
            value=value,
            hint=hint,
        )


def _checked(field: str, values: ArrayLike) -> _Floats:
    array = np.asarray(values, dtype=np.float64)
    if not ((array >= 0) & (array < np.inf)).all():
        raise InvalidValueError(
            subject="kernel",
            field=field,
            rule="be finite and not negative",
            value=values,
            hint="Check the shapes that the layer gives.",
        )
    return array


def _as_given(time_s: _Floats, *arguments: ArrayLike) -> float | _Floats:
    """Return a float where every argument was a number."""
    return time_s if any(isinstance(argument, np.ndarray) for argument in arguments) else float(time_s)
