"""The core of a mixer under context parallelism, step by step: kernels of a rank, and what is exchanged next to them.

Model
-----
A sequence is cut into 2 c chunks for c ranks. Rank i has chunks i and 2 c - 1 - i (zigzag), so that a causal mask
leaves every rank equally many scores, 1 / c of all. With F the FLOPs of a rank, and q, k, v, o the bytes of queries,
keys, values and output that it owns::

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
from dataclasses import dataclass, replace

from workloads.blocks.core import CoreTensors
from workloads.kernels import Attention, Kernel, Memory, backward_of

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
    size: int
    """Ranks that take part."""
    stride: int = 1
    """Positions in the group from one of these ranks to the next."""
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
        """Return the steps of the forward pass."""
        middle = _ring(core, sizes) if sizes.outer > 1 else [CpStep(kernels=_whole(core, sizes))]
        if sizes.inner == 1:
            return middle
        tensors = core.tensors
        return [*_all_to_alls(core, sizes, tensors.inputs), *middle, *_all_to_alls(core, sizes, (tensors.output,))]

    def backward(self, core: CoreOfRank, sizes: CpSizes) -> list[CpStep]:
        """Return the steps of the backward pass."""
        if sizes.outer > 1:
            middle = _ring_backward(core, sizes)
        else:
            middle = [CpStep(kernels=tuple(backward_of(_whole(core, sizes))))]
        if sizes.inner == 1:
            return middle
        tensors = core.tensors
        return [*_all_to_alls(core, sizes, (tensors.output,)), *middle, *_all_to_alls(core, sizes, tensors.inputs)]

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
        return [*self._gather(core, sizes), CpStep(kernels=self._chunks(core, sizes))]

    def backward(self, core: CoreOfRank, sizes: CpSizes) -> list[CpStep]:
        """Return the steps of the backward pass; the gradients of keys and values are sums over the ranks."""
        whole = sizes.outer * core.tensors.kv_elements
        # each chunk adds its gradients, on average to half of the sequence; then they are brought into order
        added = _elementwise(core, "merge", whole, 1.5)
        sums = (added, added, _elementwise(core, "relayout", whole, 2))
        return [
            *self._gather(core, sizes),
            CpStep(kernels=(*backward_of(self._chunks(core, sizes)), *sums)),
            *(
                CpStep(exchange=_in_group("reduce_scatter", core, sizes.outer, elements))
                for elements in core.tensors.inputs[1:]
            ),
        ]

    def buffers(self, tensors: CoreTensors, sizes: CpSizes) -> CpBuffers:
        """Return the gathered keys and values, a copy in another order, and the gradients of them, twice."""
        whole = sizes.outer * tensors.kv_elements
        return CpBuffers(forward=whole + sizes.outer * max(tensors.inputs[1:]), backward=3 * whole)

    @staticmethod
    def _gather(core: CoreOfRank, sizes: CpSizes) -> list[CpStep]:
        gathers = [
            CpStep(exchange=_in_group("all_gather", core, sizes.outer, elements))
            for elements in core.tensors.inputs[1:]
        ]
        whole = sizes.outer * core.tensors.kv_elements
        return [*gathers, CpStep(kernels=(_elementwise(core, "relayout", whole, 2),))]

    @staticmethod
    def _chunks(core: CoreOfRank, sizes: CpSizes) -> tuple[Kernel, ...]:
        """Return a kernel for each of the two chunks; together they meet as many keys on every rank."""
        half = _part_of(core, sizes, queries=1 / (2 * sizes.outer), keys=0.5, num_parts=2)
        return (half, half)


# ---- private -----------------------------------------------------------------------------------------------------


def _elementwise(core: CoreOfRank, operation: str, elements: float, times: float) -> Memory:
    """Return a kernel that reads or writes tensors of so many elements of each token, so many times in all."""
    return Memory(
        kind="attention",
        operation=operation,
        rows=core.tokens,
        width=round(elements),
        num_bytes=times * core.bytes_of(elements),
    )


def _in_group(operation: str, core: CoreOfRank, size: int, elements: float) -> CpExchange:
    """Return a transfer between ranks next to each other."""
    return CpExchange(operation=operation, size=size, num_bytes=core.bytes_of(elements))


def _to_next(core: CoreOfRank, sizes: CpSizes, elements: float, *, is_backward: bool = False) -> CpExchange:
    """Return a transfer to the next rank of a ring."""
    num_bytes = core.bytes_of(elements)
    return CpExchange(
        operation="ring", size=sizes.outer, stride=sizes.inner, num_bytes=num_bytes, is_backward=is_backward
    )


def _all_to_alls(core: CoreOfRank, sizes: CpSizes, tensors: Sequence[float]) -> list[CpStep]:
    """Return an all-to-all of each tensor, one after another, with the copies that lay out and that sort the parts."""
    copies = CpStep(kernels=(_elementwise(core, "relayout", sum(tensors), 2),))
    exchanges = [CpStep(exchange=_in_group("all_to_all", core, sizes.inner, elements)) for elements in tensors]
    return [copies, *exchanges, copies]


def _whole(core: CoreOfRank, sizes: CpSizes) -> tuple[Kernel, ...]:
    """Return the kernels of all tokens and of a rank's heads."""
    if not core.tensors.is_attention:
        return core.kernels
    return (_part_of(core, sizes, queries=1.0, keys=1.0, num_parts=1, is_causal=True),)


def _part_of(
    core: CoreOfRank, sizes: CpSizes, *, queries: float, keys: float, num_parts: int, is_causal: bool = False
) -> Attention:
    """Return a kernel of a share of the rank's scores, of parts of a sequence's queries and keys, as shares of it."""
    (whole,) = (kernel for kernel in core.kernels if isinstance(kernel, Attention))
    of_q, of_kv = (share * sizes.outer for share in (queries, keys))  # of what a rank owns
    elements = of_q * (core.tensors.inputs[0] + core.tensors.output) + of_kv * core.tensors.kv_elements
    return replace(
        whole,
        flops=whole.flops / num_parts,
        num_bytes=core.bytes_of(elements),
        batch=whole.batch * sizes.inner * sizes.outer,
        query_length=round(whole.query_length * queries),
        kv_length=round(whole.kv_length * keys),
        heads=whole.heads // sizes.inner,
        kv_heads=max(1, whole.kv_heads // sizes.inner),
        is_causal=is_causal,
    )


def _ring_kernels(core: CoreOfRank, sizes: CpSizes) -> list[Attention]:
    """Return the kernel of each step: of the rank's own chunks, then of all its queries and half of the keys."""
    num, own = sizes.outer, 1 / sizes.outer
    first = _part_of(core, sizes, queries=own, keys=own, num_parts=num, is_causal=True)
    return [first, *[_part_of(core, sizes, queries=own, keys=own / 2, num_parts=num)] * (num - 1)]


def _ring(core: CoreOfRank, sizes: CpSizes) -> list[CpStep]:
    to_next = _to_next(core, sizes, core.tensors.kv_elements)
    last = sizes.outer - 1
    steps = [
        CpStep(kernels=(kernel,), exchange=to_next if step < last else None)
        for step, kernel in enumerate(_ring_kernels(core, sizes))
    ]
    output = core.tensors.output
    sums = [_elementwise(core, "merge", output, 2 if step == 0 else 3) for step in range(sizes.outer)]
    return [*steps, CpStep(kernels=tuple(sums))]


def _ring_backward(core: CoreOfRank, sizes: CpSizes) -> list[CpStep]:
    kv, last = core.tensors.kv_elements, sizes.outer - 1
    steps: list[CpStep] = []
    for step, kernel in enumerate(reversed(_ring_kernels(core, sizes))):
        if step > 0:  # gradients that have come are added to before they go on; the first are only laid out
            steps.append(CpStep(kernels=(_elementwise(core, "merge", kv, 1.0 if step == 1 else 1.5),)))
        summed = _elementwise(core, "merge", core.tensors.inputs[0], 2 if step == 0 else 3)
        exchange = _to_next(core, sizes, kv if step in (0, last) else 2 * kv, is_backward=True)
        steps.append(CpStep(kernels=(*backward_of([kernel]), summed), exchange=exchange))
    return [*steps, CpStep(kernels=(_elementwise(core, "merge", kv, 1.5),))]
