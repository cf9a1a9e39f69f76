"""What kernels cost: the device turns shapes into seconds, here they become nanoseconds on each rank.

A measured profile of the device prices them as far as it has their operations (`sim.plan.measured_costs`), and the
closed form of the device prices the others. Kernels that come again are priced once, and the runs of a process share
their prices. Under drawn routing those of experts do not come again: where each rank has one expert, they are read from
a table of all counts of tokens so far.
"""

from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.plan.measured_costs import MeasuredCosts, Note
from sim.plan.ops import NO_LAYER, Compute, ExpertTokens, TimedKernel
from sim.time import TimeRangeError, to_ns_array
from topology.device import OUTPUT_BYTES, Device
from topology.profiles import DeviceProfile
from topology.uncertainty import MODEL_ITSELF, Factors
from workloads.kernels import STREAMED_IN_TRAINING, Attention, Gemm, GroupedGemm, Kernel, Memory, Scan

__all__ = ["Block", "KernelCosts", "makes_weight_gradient"]

Times = NDArray[np.int64]
Block = Callable[[NDArray[np.int64]], list[Kernel]]
"""Kernels of experts, from the tokens [R, E] that arrive for each on each rank."""

_MOST_KNOWN, _MOST_TABLES = 1 << 14, 64
"""Kernels and ops, and tables of tokens, that are kept for further runs."""
_MOST_SHARED_BYTES = 1 << 16
"""Tokens of a grouped product up to which its price is kept for further runs."""
_MOST_TOKENS = 2**18
"""Tokens on an expert above which its kernels are not looked up: the table would take megabytes."""


class _Priced(NamedTuple):
    """A kernel on all ranks."""

    duration_ns: Times
    """Time on each rank. Shape [R]."""
    flops: float
    """FLOPs of all ranks together."""
    notes: tuple[Note, ...]
    """What was noted when it was priced."""


class _KnownPrices:
    """Kernels that were priced on one device in one way, for all runs of a process."""

    def __init__(self) -> None:
        self.kernels: dict[Hashable, _Priced] = {}
        self.tables: dict[Hashable, tuple[Times, tuple[Note, ...]]] = {}
        """Time by the tokens of one expert, by the kernel's shape and the size of the table."""
        self.computes: dict[tuple[tuple[Kernel, ...], int, int, int], Compute] = {}

    def forget_very_many(self) -> None:
        """Forget all where they are very many."""
        if len(self.kernels) + len(self.computes) >= _MOST_KNOWN or len(self.tables) >= _MOST_TABLES:
            for known in (self.kernels, self.tables, self.computes):
                known.clear()


@lru_cache(maxsize=16)
def _known_prices(*way: Hashable) -> _KnownPrices:
    """Return the prices known so far: `way` is all that they depend on besides kernel and ranks."""
    del way
    return _KnownPrices()


class KernelCosts:
    """Prices of kernels on one device."""

    def __init__(
        self,
        device: Device,
        *,
        dtype: str,
        is_random: bool = False,
        gradient_bytes: int | None = None,
        fused_wgrad: bool = True,
        clock: float = 1.0,
        rate: float = 1.0,
        profile: DeviceProfile | None = None,
        factors: Factors = MODEL_ITSELF,
    ) -> None:
        """Price kernels on `device`.

        Parameters
        ----------
        dtype
            Type in which kernels compute.
        is_random
            Whether tokens choose their experts at random, so that no kernel of these comes twice.
        gradient_bytes
            In training, bytes of a gradient in the sum of the microbatches, to which a product adds the gradient of a
            weight: it reads and writes the sum (Megatron-LM, `gradient_accumulation_fusion`). None: nothing is trained.
        fused_wgrad
            Whether a product adds its gradient; else a kernel of its own reads it and adds it to the sum.
        clock
            Clock over the clock under which kernels were measured; products and attention follow it.
        rate
            Rate of all kernels over the measured ones.
        profile
            Measured kernels of the device, which price what they have; None: the closed form prices all kernels.
        factors
            What times are multiplied by.
        """
        trains = gradient_bytes is not None
        self.measured = None if profile is None else MeasuredCosts(profile, dtype=dtype, trains=trains)
        """Prices of the profile, where there is one."""
        self._device = device
        self._factors = factors
        self._dtype = dtype
        self._trains = trains
        self._sum_bytes = OUTPUT_BYTES if gradient_bytes is None else 2 * gradient_bytes
        self._clock, self._rate = clock, rate
        self._adds_apart = trains and not fused_wgrad
        self._is_random = is_random
        self._by_tokens: dict[Hashable, NDArray[np.int64]] = {}
        self._services: dict[Hashable, tuple[Times, NDArray[np.float64]]] = {}
        self._computes: dict[tuple[tuple[Kernel, ...], int, int, int], Compute] = {}
        self._prices: dict[Hashable, tuple[NDArray[np.int64], float]] = {}
        way = (self._trains, self._sum_bytes, clock, rate, self._adds_apart, factors)
        self._shared = _known_prices(device, dtype, profile, *way)
        self._shared.forget_very_many()

    @property
    def warnings(self) -> list[str]:
        """What users should know of the prices so far."""
        return [] if self.measured is None else self.measured.warnings

    def compute(
        self,
        kernels: Sequence[Kernel],
        num_ranks: int,
        *,
        layer: int = NO_LAYER,
        tokens_routed: int = 0,
        expert_tokens: ExpertTokens | None = None,
    ) -> Compute:
        """Return `kernels` on each of `num_ranks` ranks as one op; equal requests give the same op."""
        key = (tuple(kernels), num_ranks, layer, tokens_routed)
        if expert_tokens is not None or any(_varies(kernel) for kernel in kernels):
            return self._compute(*key, expert_tokens)
        if key not in self._computes:
            self._computes[key] = self._shared_compute(key)
        return self._computes[key]

    def kernel_ns(self, kernel: Kernel, num_ranks: int) -> NDArray[np.int64]:
        """Return the time of `kernel` on each rank. Shape [R]."""
        if self._is_random and _varies(kernel):
            return self._kernel_ns(kernel, num_ranks)
        return self._priced(kernel, num_ranks)[0]

    def service(self, block: Block, tokens: NDArray[np.int64], *, key: Hashable) -> tuple[Times, NDArray[np.float64]]:
        """Return time and FLOPs of all kernels that `block` makes of `tokens` [..., R, E] on each rank [..., R].

        Where each rank has one expert they are read from a table of all counts so far, one for each `key`.
        """
        ranks = tokens.shape[:-1]
        if tokens.shape[-1] != 1 or (most := int(tokens.max(initial=0))) >= _MOST_TOKENS:
            duration_ns, flops = self._service(block, tokens.reshape(-1, tokens.shape[-1]))
            return duration_ns.reshape(ranks), flops.reshape(ranks)
        known = self._services.get(key)
        if known is None or known[0].size <= most:
            counts = np.arange(1 << most.bit_length(), dtype=np.int64)
            known = self._services[key] = self._service(block, counts[:, None])
        arrived = tokens[..., 0]
        return known[0][arrived], known[1][arrived]

    def each(self, block: Block, tokens: NDArray[np.int64]) -> list[tuple[str, Times, list[float], bool]]:
        """Return kind, time by rank [N, R], FLOPs [N] and whether it makes gradients of weights of each kernel.

        The kernels are those that `block` makes of `tokens` [N, R, E].
        """
        ranks, flat = tokens.shape[:2], tokens.reshape(-1, tokens.shape[2])
        return [
            (
                kernel.kind,
                self.kernel_ns(kernel, len(flat)).reshape(ranks),
                np.broadcast_to(kernel.flops, len(flat)).reshape(ranks).sum(axis=1).tolist(),
                makes_weight_gradient(kernel),
            )
            for kernel in block(flat)
        ]

    # ---- private -------------------------------------------------------------------------------------------------

    def _shared_compute(self, key: tuple[tuple[Kernel, ...], int, int, int]) -> Compute:
        """Return an op that runs share; its kernels count as priced in this run."""
        known = self._shared.computes.get(key)
        if known is None:
            known = self._shared.computes[key] = self._compute(*key, None)
        else:
            for kernel in key[0]:
                self._priced(kernel, key[1])
        return known

    def _compute(
        self,
        kernels: tuple[Kernel, ...],
        num_ranks: int,
        layer: int,
        tokens_routed: int,
        expert_tokens: ExpertTokens | None,
    ) -> Compute:
        timed = []
        for kernel in kernels:
            duration_ns, flops = self._priced(kernel, num_ranks)
            timed.append(
                TimedKernel(
                    kind=kernel.kind,
                    layer=layer,
                    duration_ns=duration_ns,
                    flops=flops,
                    is_weight_gradient=makes_weight_gradient(kernel),
                )
            )
        return Compute(kernels=tuple(timed), tokens_routed=tokens_routed, expert_tokens=expert_tokens)

    def _service(self, block: Block, tokens: NDArray[np.int64]) -> tuple[Times, NDArray[np.float64]]:
        duration_ns, flops = np.zeros(len(tokens), dtype=np.int64), np.zeros(len(tokens))
        for kernel in block(tokens):
            duration_ns += self.kernel_ns(kernel, len(tokens))
            flops += kernel.flops
        return duration_ns, flops

    def _priced(self, kernel: Kernel, num_ranks: int) -> tuple[NDArray[np.int64], float]:
        """Return the time of `kernel` on each rank [R], and the FLOPs of all; equal kernels are priced once."""
        if self._is_random and _varies(kernel):  # none comes twice
            return self._kernel_ns(kernel, num_ranks), _flops_of_all(kernel, num_ranks)
        key: Hashable = (kernel, num_ranks)
        if isinstance(kernel, GroupedGemm):
            key = (*_shape_of(kernel), kernel.tokens.tobytes(), kernel.tokens.shape)
        elif isinstance(kernel, Memory) and isinstance(kernel.num_bytes, np.ndarray):
            key = (kernel.operation, kernel.width, kernel.is_backward, kernel.num_bytes.tobytes())
        if key not in self._prices:
            self._prices[key] = self._shared_price(key, kernel, num_ranks)
        return self._prices[key]

    def _shared_price(self, key: Hashable, kernel: Kernel, num_ranks: int) -> tuple[NDArray[np.int64], float]:
        """Return the price of a kernel: one that runs share, unless it is large or read from a table."""
        if isinstance(kernel, GroupedGemm) and (
            _has_one_expert(kernel.tokens) or kernel.tokens.nbytes > _MOST_SHARED_BYTES
        ):
            return self._kernel_ns(kernel, num_ranks), _flops_of_all(kernel, num_ranks)
        known = self._shared.kernels.get(key)
        if known is None:
            with self._hear() as notes:
                priced = self._kernel_ns(kernel, num_ranks), _flops_of_all(kernel, num_ranks)
            self._shared.kernels[key] = _Priced(*priced, tuple(notes))
            return priced
        self._note_again(known.notes)
        return known.duration_ns, known.flops

    def _hear(self) -> AbstractContextManager[list[Note]]:
        return nullcontext([]) if self.measured is None else self.measured.hear()

    def _note_again(self, notes: Sequence[Note]) -> None:
        if self.measured is not None:
            self.measured.note_again(notes)

    def _kernel_ns(self, kernel: Kernel, num_ranks: int) -> NDArray[np.int64]:
        try:
            return self._rounded_ns(kernel, num_ranks)
        except TimeRangeError as error:
            raise error.caused_by(_described(kernel)) from None

    def _rounded_ns(self, kernel: Kernel, num_ranks: int) -> NDArray[np.int64]:
        device, dtype = self._device, self._dtype
        time_s: float | NDArray[np.float64] | None
        if isinstance(kernel, GroupedGemm) and _has_one_expert(kernel.tokens):
            return self._one_expert_ns(kernel)
        if isinstance(kernel, GroupedGemm):
            return to_ns_array(self._grouped_s(kernel, kernel.tokens))
        time_s = None if self.measured is None else self.measured.time_s(kernel)
        factor = self._factor(kernel, is_measured=time_s is not None)
        if time_s is not None:
            pass
        elif isinstance(kernel, Gemm):
            time_s = self._gemm_s(kernel)
        elif isinstance(kernel, (Attention, Scan)):
            time_s = device.attention_time_s(kernel.flops, kernel.num_bytes, backward=kernel.is_backward, dtype=dtype)
        else:
            is_streamed = self._trains and kernel.operation in STREAMED_IN_TRAINING
            time_s = device.memory_time_s(kernel.num_bytes, operation=None if is_streamed else kernel.operation)
        times_s = np.asarray(time_s, dtype=float) * factor
        if self._adds_apart and isinstance(kernel, Gemm) and kernel.weight_gradient:
            times_s = times_s + device.memory_time_s((OUTPUT_BYTES + self._sum_bytes) * kernel.m * kernel.n)
        times_s = times_s / (self._rate if isinstance(kernel, Memory) else self._rate * self._clock)
        return to_ns_array(times_s if times_s.ndim else np.full(num_ranks, times_s))

    def _factor(self, kernel: Kernel, *, is_measured: bool) -> float:
        """Return what the time of a kernel is multiplied by."""
        factors = self._factors
        if isinstance(kernel, Memory):
            return factors.memory_bound
        if not is_measured:
            return factors.closed_form
        if isinstance(kernel, Gemm):
            return factors.gemm
        return factors.grouped_gemm if isinstance(kernel, GroupedGemm) else factors.attention

    def _gemm_s(self, kernel: Gemm) -> float:
        """Return the time of a product; several of one shape are a grouped product, each with its own factors."""
        device, dtype = self._device, kernel.dtype or self._dtype
        if kernel.batch > 1:
            rows = np.full(kernel.batch, kernel.m)
            return float(device.grouped_gemm_time_s(rows, kernel.n, kernel.k, dtype=dtype))
        moved = self._sum_bytes if kernel.weight_gradient else OUTPUT_BYTES
        return device.gemm_time_s(kernel.m, kernel.n, kernel.k, dtype=dtype, output_bytes=moved)

    def _grouped_s(self, kernel: GroupedGemm, tokens: NDArray[np.int64]) -> NDArray[np.float64]:
        measured_s = None if self.measured is None else self.measured.grouped_s(kernel, tokens)
        factor = self._factor(kernel, is_measured=measured_s is not None)
        if measured_s is not None:
            return measured_s * factor
        device, dtype = self._device, kernel.dtype or self._dtype
        if kernel.weight_gradient:
            sums = self._sum_bytes
            return factor * device.grouped_weight_gradient_time_s(
                tokens, kernel.n, kernel.k, dtype=dtype, output_bytes=sums
            )
        return factor * device.grouped_gemm_time_s(tokens, kernel.n, kernel.k, dtype=dtype)

    def _one_expert_ns(self, kernel: GroupedGemm) -> NDArray[np.int64]:
        """Return the time where each rank has one expert: by its tokens, from a table of all counts so far."""
        tokens, key = kernel.tokens[:, 0], _shape_of(kernel)
        most = int(tokens.max(initial=0))
        known = self._by_tokens.get(key)
        if known is None or known.size <= most:
            known = self._by_tokens[key] = self._table(kernel, 1 << most.bit_length())
        return known[tokens]

    def _table(self, kernel: GroupedGemm, size: int) -> NDArray[np.int64]:
        """Return the time of a grouped product by the tokens of the one expert of each rank, below `size`."""
        key = (*_shape_of(kernel), size)
        known = self._shared.tables.get(key)
        if known is None:
            with self._hear() as notes:
                time_s = self._grouped_s(kernel, np.arange(size, dtype=np.int64)[:, None])
            known = self._shared.tables[key] = to_ns_array(time_s / (self._clock * self._rate)), tuple(notes)
        else:
            self._note_again(known[1])
        return known[0]


def _has_one_expert(tokens: NDArray[np.int64]) -> bool:
    """Tell whether each rank has one expert, with so few tokens that they can be looked up."""
    return tokens.shape[-1] == 1 and bool(tokens.max(initial=0) < _MOST_TOKENS)


def _shape_of(kernel: GroupedGemm) -> tuple[object, ...]:
    """Return all of a grouped product but its tokens."""
    return (kernel.n, kernel.k, kernel.weight_gradient, kernel.input_gradient, kernel.dtype)


def makes_weight_gradient(kernel: Kernel) -> bool:
    """Tell whether a kernel makes gradients of weights, which a pass W may run apart."""
    return isinstance(kernel, (Gemm, GroupedGemm)) and kernel.weight_gradient


def _described(kernel: Kernel) -> str:
    """Return what a kernel does, in numbers.

    >>> _described(Gemm(kind="attention", m=2, n=3, k=4))
    'a kernel of attention, [2, 4] x [4, 3]'
    """
    what = f"a kernel of {kernel.kind.replace('_', ' ')}"
    if isinstance(kernel, Gemm):
        return f"{what}, [{kernel.m}, {kernel.k}] x [{kernel.k}, {kernel.n}]"
    if isinstance(kernel, GroupedGemm):
        most = int(kernel.tokens.max(initial=0))
        return f"{what}, up to {most} tokens for an expert of [{kernel.k}, {kernel.n}]"
    flops = f"{kernel.flops:.3g} FLOPs and " if isinstance(kernel, (Attention, Scan)) else ""
    return f"{what}, {flops}{np.max(kernel.num_bytes):.3g} bytes"


def _flops_of_all(kernel: Kernel, num_ranks: int) -> float:
    flops = kernel.flops
    return float(flops.sum() if isinstance(flops, np.ndarray) else np.full(num_ranks, flops).sum())


def _varies(kernel: Kernel) -> bool:
    """Tell whether a kernel differs from rank to rank, by the tokens that the routing sent there."""
    return isinstance(kernel, GroupedGemm) or (isinstance(kernel, Memory) and isinstance(kernel.num_bytes, np.ndarray))
