"""The core of a mixer under context parallelism, step by step: kernels of a rank, and what is exchanged next to them.

Model
-----
A sequence is cut into 2 c chunks for c ranks. Rank i has chunks i and 2 c - 1 - i (zigzag), so that a causal mask leaves
every rank equally many scores, 1 / c of all. With F the FLOPs of a rank, and q, k, v, o the bytes of queries, keys,
values and output that it owns::

    heads      all-to-all of q, k, v -> the core of all tokens, heads / n on a rank -> all-to-all of o
               backward: all-to-all of the gradient of o -> core backward -> all-to-all of the gradients of q, k, v
    ring       n steps of F / n: of its own chunks (causal), then of all queries against the first half of the other
               rank's keys (a rank after it) or of its second half against all of them (a rank before it).
               In step i = 0 .. n - 2 keys and values, k + v bytes, go to the next rank
               backward: k + v in steps 0 .. n - 2, and their gradients, as many bytes, in steps 1 .. n - 1
    gather     all-gather of k and of v -> two kernels of F / 2, one for each chunk
               backward: all-gather of k and of v again -> core backward -> reduce-scatter of their gradients

The next step of a ring begins when both the kernels and the transfer of the step before have ended. All other exchanges
run alone. Partial outputs are scaled and summed after the last step of a ring (3 o read and written for each but the
first), and partial gradients of queries after each.

Assumptions
-----------
Elementwise kernels are those of the rank that has most of them (the last of a ring, whose queries all meet the keys of
every other rank). Statistics of the softmax are left out: 4 bytes of a head and token. Where attention has a window,
ranks have equal shares of the scores; the first chunk of a sequence has fewer, which is left out: pessimistic by less
than a chunk.

References
----------
Transformer Engine, `context_parallel.py`: `AttnFuncWithCPAndKVP2P`, `AttnFuncWithCPAndKVAllGather`,
`AttnFuncWithCPAndQKVOA2A` (order of steps, what is sent when, elementwise kernels). Liu et al., "Ring attention with
blockwise transformers for near-infinite context", 2023. Jacobs et al., "DeepSpeed Ulysses", 2023 (all-to-all).
Fang and Zhao, "USP: a unified sequence parallelism approach for long context generative AI", 2024 (both together).
Megatron-LM, `mamba_context_parallel.py` (all-to-all around the scan).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from workloads.blocks.core import CoreTensors
from workloads.kernels import Attention, Kernel, Memory
from workloads.layers import backward_of

__all__ = ["CoreOfRank", "CpBuffers", "CpExchange", "CpSizes", "CpStep", "GatheredKeys", "HeadsAndRing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CpSizes:
    """How a context-parallel group is cut: ranks next to each other, and ranks at the same place of these."""

    inner: int
    """Ranks of a group that exchanges heads for tokens."""
    outer: int
    """Ranks of a ring."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CpExchange:
    """A transfer in every context-parallel group, or in every part of one."""

    operation: str
    """ring (to the next rank), all_gather, reduce_scatter or all_to_all."""
    level: str
    """inner or outer, as in `CpSizes`, or all: the whole group."""
    num_bytes: float
    """Bytes of a rank's own tensor: a ring sends all of them, an all-to-all all but its own part."""
    is_backward: bool = False
    """Whether a ring turns the other way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CpStep:
    """Kernels of a rank and a transfer that run at the same time; the step ends when both have ended."""

    kernels: tuple[Kernel, ...] = ()
    exchange: CpExchange | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CpBuffers:
    """What the core of a layer takes in addition while it runs, in elements of a token that a rank owns."""

    forward: float = 0.0
    backward: float = 0.0
    """In addition to the gradients of queries, keys, values and output."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreOfRank:
    """The core of a mixer for a microbatch on one rank, whose share is 1 / CP of the tokens."""

    kernels: tuple[Kernel, ...]
    """Forward kernels of the rank's share."""
    tensors: CoreTensors
    tokens: int
    """Tokens of the microbatch that the rank owns."""
    dtype_bytes: int

    def bytes_of(self, elements: float) -> float:
        """Return the bytes of tensors of so many elements of each token."""
        return elements * self.tokens * self.dtype_bytes


class HeadsAndRing:
    """All-to-all of heads inside of groups, and a ring of keys and values across them; either may be of size 1."""

    def forward(self, core: CoreOfRank, sizes: CpSizes) -> list[CpStep]:
        """Return the steps of the forward pass.

        >>> core = CoreOfRank(
        ...     kernels=(Attention(kind="attention", flops=80.0, num_bytes=0.0),),
        ...     tensors=CoreTensors(inputs=(8.0, 2.0, 2.0), output=8.0, is_attention=True), tokens=4, dtype_bytes=2,
        ... )
        >>> steps = HeadsAndRing().forward(core, CpSizes(inner=1, outer=2))
        >>> [(step.kernels[0].flops, step.exchange.num_bytes if step.exchange else 0.0) for step in steps[:2]]
        [(40.0, 32.0), (40.0, 0.0)]
        """
        middle = _ring(core, sizes.outer) if sizes.outer > 1 else [CpStep(kernels=core.kernels)]
        if sizes.inner == 1:
            return middle
        tensors = core.tensors
        return [*_all_to_alls(core, tensors.inputs), *middle, *_all_to_alls(core, (tensors.output,))]

    def backward(self, core: CoreOfRank, sizes: CpSizes) -> list[CpStep]:
        """Return the steps of the backward pass."""
        if sizes.outer > 1:
            middle = _ring_backward(core, sizes.outer)
        else:
            middle = [CpStep(kernels=tuple(backward_of(core.kernels)))]
        if sizes.inner == 1:
            return middle
        tensors = core.tensors
        return [*_all_to_alls(core, (tensors.output,)), *middle, *_all_to_alls(core, tensors.inputs)]

    def buffers(self, tensors: CoreTensors, sizes: CpSizes) -> CpBuffers:
        """Return what is there while the core runs: copies for the all-to-alls, all parts that went round the ring."""
        forward = backward = 0.0
        if sizes.inner > 1:
            forward = backward = sum(tensors.inputs) + tensors.output
        if sizes.outer > 1:
            kv, num = tensors.kv_elements, sizes.outer
            forward += (num - 1) * kv + num * tensors.output
            backward += 4 * kv + tensors.inputs[0]
        return CpBuffers(forward=forward, backward=backward)


class GatheredKeys:
    """Keys and values of the whole sequence are gathered on every rank."""

    def forward(self, core: CoreOfRank, sizes: CpSizes) -> list[CpStep]:
        """Return the steps of the forward pass."""
        return [*self._gather(core, sizes), CpStep(kernels=self._chunks(core))]

    def backward(self, core: CoreOfRank, sizes: CpSizes) -> list[CpStep]:
        """Return the steps of the backward pass; the gradients of keys and values are sums over the ranks."""
        whole = sizes.outer * core.bytes_of(core.tensors.kv_elements)
        # each chunk adds its gradients, on average to half of the sequence; then they are brought into order
        sums = [_elementwise(1.5 * whole), _elementwise(1.5 * whole), _elementwise(2 * whole)]
        return [
            *self._gather(core, sizes),
            CpStep(kernels=(*backward_of(self._chunks(core)), *sums)),
            *(
                CpStep(exchange=CpExchange(operation="reduce_scatter", level="all", num_bytes=core.bytes_of(elements)))
                for elements in core.tensors.inputs[1:]
            ),
        ]

    def buffers(self, tensors: CoreTensors, sizes: CpSizes) -> CpBuffers:
        """Return the gathered keys and values, a copy in another order, and the gradients of them, twice."""
        whole = sizes.outer * tensors.kv_elements
        return CpBuffers(forward=whole + sizes.outer * max(tensors.inputs[1:]), backward=3 * whole)

    @staticmethod
    def _gather(core: CoreOfRank, sizes: CpSizes) -> list[CpStep]:
        whole = sizes.outer * core.bytes_of(core.tensors.kv_elements)
        gathers = [
            CpStep(exchange=CpExchange(operation="all_gather", level="all", num_bytes=core.bytes_of(elements)))
            for elements in core.tensors.inputs[1:]
        ]
        return [*gathers, CpStep(kernels=(_elementwise(2 * whole),))]

    @staticmethod
    def _chunks(core: CoreOfRank) -> tuple[Kernel, ...]:
        """Return a kernel for each of the two chunks; together they meet as many keys on every rank."""
        flops = sum(kernel.flops for kernel in core.kernels if isinstance(kernel, Attention))
        tensors = core.tensors
        num_bytes = core.bytes_of(tensors.inputs[0] + tensors.output + tensors.kv_elements)
        half = Attention(kind="attention", flops=flops / 2, num_bytes=num_bytes / 2)
        return (half, half)


# ---- private -----------------------------------------------------------------------------------------------------


def _elementwise(num_bytes: float) -> Memory:
    return Memory(kind="attention", num_bytes=num_bytes)


def _all_to_alls(core: CoreOfRank, tensors: Sequence[float]) -> list[CpStep]:
    """Return an all-to-all of each tensor, one after another, with the copies that lay out and that sort the parts."""
    copies = CpStep(kernels=(_elementwise(2 * core.bytes_of(sum(tensors))),))
    exchanges = [
        CpStep(exchange=CpExchange(operation="all_to_all", level="inner", num_bytes=core.bytes_of(elements)))
        for elements in tensors
    ]
    return [copies, *exchanges, copies]


def _attention_of_step(core: CoreOfRank, num_steps: int, step: int) -> Attention:
    """Return the kernel of a step of a ring: of the rank's own chunks, or of all queries and half of the keys."""
    flops = sum(kernel.flops for kernel in core.kernels if isinstance(kernel, Attention))
    tensors = core.tensors
    ends, kv = tensors.inputs[0] + tensors.output, tensors.kv_elements
    elements = ends + kv if step == 0 else max(ends + kv / 2, ends / 2 + kv)
    return Attention(kind="attention", flops=flops / num_steps, num_bytes=core.bytes_of(elements))


def _ring(core: CoreOfRank, num_steps: int) -> list[CpStep]:
    kv, output = (core.bytes_of(elements) for elements in (core.tensors.kv_elements, core.tensors.output))
    to_next = CpExchange(operation="ring", level="outer", num_bytes=kv)
    steps = [
        CpStep(kernels=(_attention_of_step(core, num_steps, step),), exchange=to_next if step < num_steps - 1 else None)
        for step in range(num_steps)
    ]
    sums = (_elementwise(2 * output), *(_elementwise(3 * output) for _ in range(num_steps - 1)))
    return [*steps, CpStep(kernels=sums)]


def _ring_backward(core: CoreOfRank, num_steps: int) -> list[CpStep]:
    kv, queries = (core.bytes_of(elements) for elements in (core.tensors.kv_elements, core.tensors.inputs[0]))
    steps: list[CpStep] = []
    for step in range(num_steps):
        if step > 0:  # gradients that have come are added to before they go on; the first are only laid out
            steps.append(CpStep(kernels=(_elementwise((1.0 if step == 1 else 1.5) * kv),)))
        kernel = backward_of([_attention_of_step(core, num_steps, num_steps - 1 - step)])
        summed = _elementwise((2 if step == 0 else 3) * queries)
        num_bytes = kv if step in (0, num_steps - 1) else 2 * kv
        exchange = CpExchange(operation="ring", level="outer", num_bytes=num_bytes, is_backward=True)
        steps.append(CpStep(kernels=(*kernel, summed), exchange=exchange))
    return [*steps, CpStep(kernels=(_elementwise(1.5 * kv),))]
