"""Kernels as values: the shape that a device turns into time, with its FLOPs and bytes.

Model
-----
    Gemm         [m, k] x [k, n], `batch` of them        2 m n k * batch FLOPs
    GroupedGemm  [tokens[r, e], k] x [k, n] per expert   2 n k * sum over experts
    Attention    fused scores, softmax and values        as given
    Scan         a recurrent state over a sequence       as given
    Memory       [rows, width], bound by memory          no FLOPs, time by its bytes

`kind` is the part of the account of time that the kernel belongs to. A kernel describes one rank; `GroupedGemm` holds
the ranks of a group along its first axis, for they receive different numbers of tokens. The shape of a kernel is all
that a device and its measured profile need to price the kernel.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "ATTENTION_OPERATIONS",
    "MEMORY_OPERATIONS",
    "STREAMED_IN_TRAINING",
    "Attention",
    "Cast",
    "Gemm",
    "GroupedGemm",
    "Kernel",
    "Memory",
    "MemoryOperation",
    "Scan",
    "backward_of",
]

ATTENTION_OPERATIONS: Final[dict[str, str]] = {
    "attention": "query heads share key and value heads (GQA, MHA), all of one width; training and prefill",
    "mla": "multi-head latent attention with keys and values of every head (unabsorbed); training and prefill",
    "mla_decode": "multi-head latent attention over the latents themselves (absorbed), one new token of a sequence",
}
"""What a kernel of `Attention` computes, by name."""


class MemoryOperation(NamedTuple):
    """What a kernel of `Memory` does."""

    meaning: str
    """What is done to a row, for documents."""
    backward: float = 1.0
    """Bytes of the backward kernel over those of the forward kernel, where `Memory.backward_bytes` is not given."""


MEMORY_OPERATIONS: Final[dict[str, MemoryOperation]] = {
    "quantise": MemoryOperation("a tensor is cast to fp8, with its scales"),
    "amax": MemoryOperation("largest magnitude of a tensor, for its scale"),
    "norm": MemoryOperation("RMS norm or layer norm", 3 / 2),  # reads input and gradient, writes a gradient
    "swiglu": MemoryOperation("gated activation: two halves of a row become one", 5 / 3),  # reads 1 + 2, writes 2
    "gelu": MemoryOperation("activation of each element", 3 / 2),
    "clamp": MemoryOperation("elements are limited to an interval, by kernels of their own"),
    "gate": MemoryOperation("product of a row with its gate", 5 / 3),
    "residual_add": MemoryOperation("a block's output is added to the residual stream"),  # two gradients meet there
    "dropout_add": MemoryOperation("the same after dropout, in one kernel that also writes the mask"),
    "dropout": MemoryOperation("dropout, which writes its mask"),
    "bias_add": MemoryOperation("a bias is added; backward, the gradient is summed over the tokens"),
    "head_layout": MemoryOperation("results of heads are laid out by token; backward, gradients are joined", 3.0),
    "rotary": MemoryOperation("rotary embedding of queries and keys"),
    "convolution": MemoryOperation("short convolution over the tokens of a sequence", 3 / 2),
    "softmax": MemoryOperation("softmax of a row, with its scale and mask", 3 / 2),  # reads result and gradient
    "cross_entropy": MemoryOperation("softmax over the vocabulary, and the loss"),
    "router": MemoryOperation("softmax over experts, and the choice of the best"),
    "permute": MemoryOperation("copies of tokens are put in the order of their experts"),
    "unpermute": MemoryOperation("copies of a token are weighed and summed in the order of the tokens"),
    "sort_chunks": MemoryOperation("copies that arrived from each rank are put in the order of the local experts"),
    "relayout": MemoryOperation("parts of sequences are laid out for an exchange of CP, or sorted after it"),
    "merge": MemoryOperation("partial outputs or gradients of attention are scaled and summed"),
    "embedding": MemoryOperation("rows of the embedding are looked up, or their gradients are added", 3 / 2),
    "gradient_add": MemoryOperation("a gradient is added to the sum of the microbatches"),
    "gradient_norm": MemoryOperation("sum of the squares of gradients"),
    "unscale": MemoryOperation("gradients are divided by the scale of the loss (fp16)"),
    "optimizer": MemoryOperation("a step of the optimizer, by the parameter"),
    "copy": MemoryOperation("a tensor is written in another type"),
    "zero_fill": MemoryOperation("a tensor is set to zero"),
}
"""What a kernel of `Memory` does, by name."""


STREAMED_IN_TRAINING: Final = frozenset({"norm", "swiglu", "rotary", "embedding"})
"""Operations whose kernels differ between software that serves and software that trains.

vLLM's kernels (Vidur's profile) reach a third to a half of the memory bandwidth. Those of apex and Transformer Engine
keep a row in registers and stream: sequence parallelism, which leaves a rank an eighth of norms and dropouts, saves
0.5 ms of the forward pass of a layer (Korthikanti et al. 2022, table 4), of which norms at a third would take 0.5 ms
alone; SimuMax counts 0.67 of a B200's bandwidth for them, as for every streaming kernel.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cast:
    """What casts an operand of a product to fp8."""

    dtype: str
    """Type of the product."""
    num_bytes: float
    """Bytes that are read and written for an element."""
    reads_first: bool
    """Whether a kernel of its own finds the largest magnitude of the tensor before."""

    def kernels(
        self, kind: str, rows: "float | NDArray[np.float64]", width: int, *, is_backward: bool = False
    ) -> "list[Kernel]":
        """Return the kernels that cast `rows` of `width`; the gradient of a cast is none.

        >>> cast = Cast(dtype="fp8", num_bytes=4, reads_first=True)
        >>> [(kernel.operation, kernel.num_bytes) for kernel in cast.kernels("attention", 2.0, 8)]
        [('amax', 32.0), ('quantise', 64.0)]
        """
        moved = {"amax": 2 if self.reads_first else 0, "quantise": self.num_bytes}
        return [
            Memory(
                kind=kind,
                operation=operation,
                rows=rows,
                width=width,
                num_bytes=rows * (width * float(num_bytes)),
                backward_bytes=0.0,
                is_backward=is_backward,
            )
            for operation, num_bytes in moved.items()
            if num_bytes
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gemm:
    """A matrix product [m, k] x [k, n]."""

    kind: str
    """Category of the account of time."""
    m: int
    """Rows: tokens in a forward pass."""
    n: int
    """Columns of the result."""
    k: int
    """Inner dim, over which the product sums."""
    batch: int = 1
    """Products of this shape in one launch: one of each head and sequence where attention is not fused."""
    has_weight: bool = True
    """Whether the right factor is a weight; False: both factors are activations."""
    weight_gradient: bool = False
    """Whether the product is the gradient of a weight, which is added to the sum of the microbatches."""
    input_gradient: bool = False
    """Whether the product is the gradient of an input."""
    dtype: str | None = None
    """Type of the product: tf32 for an output head in 4 bytes; None: that of the model."""
    cast: Cast | None = None
    """What casts the gradient of the result, which both products of the backward pass read; None: nothing does."""

    @property
    def flops(self) -> float:
        """FLOPs of one rank.

        >>> Gemm(kind="attention", m=2, n=3, k=4).flops
        48.0
        """
        return 2.0 * self.m * self.n * self.k * self.batch

    def backward(self) -> "tuple[Kernel, ...]":
        """Return the gradient by the input [m, n] x [n, k] and by the weight [k, m] x [m, n], after a cast."""
        casts = () if self.cast is None else self.cast.kernels(self.kind, float(self.m), self.n, is_backward=True)
        return (
            *casts,
            replace(self, n=self.k, k=self.n, input_gradient=True),
            replace(self, m=self.k, k=self.m, weight_gradient=self.has_weight),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GroupedGemm:
    """A matrix product per local expert, in one launch, on each of several ranks."""

    kind: str
    """Category of the account of time."""
    tokens: NDArray[np.int64]
    """Tokens of each local expert on each rank. Shape [R, E]."""
    n: int
    """Columns of the result."""
    k: int
    """Inner dim, over which the product sums."""
    weight_gradient: bool = False
    """True where the tokens are the inner dim: [k, tokens] x [tokens, n]."""
    input_gradient: bool = False
    """Whether the product is the gradient of the inputs."""
    dtype: str | None = None
    """Type of the product; None: that of the model."""
    cast: Cast | None = None
    """What casts the gradient of the result; None: nothing does."""

    @property
    def flops(self) -> NDArray[np.float64]:
        """FLOPs of each rank. Shape [R]."""
        return np.asarray(2.0 * self.n * self.k * self.tokens.sum(axis=-1), dtype=float)

    def backward(self) -> "tuple[Kernel, ...]":
        """Return the gradients by the input and by the weight, after a cast of the gradient of the result."""
        casts: list[Kernel] = []
        if self.cast is not None:
            casts = self.cast.kernels(self.kind, self.tokens.sum(axis=-1).astype(float), self.n, is_backward=True)
        by_input = replace(self, n=self.k, k=self.n, input_gradient=True)
        return (*casts, by_input, replace(self, weight_gradient=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """A fused attention kernel (scores, softmax, values) of the heads of one rank."""

    kind: str
    """Category of the account of time."""
    operation: str
    """A key of `ATTENTION_OPERATIONS`."""
    flops: float
    """FLOPs that are executed, of one rank."""
    num_bytes: float
    """Bytes read and written, of one rank."""
    batch: float
    """Sequences; not whole where tokens fill no whole sequence."""
    query_length: int
    """Tokens of a sequence that attend."""
    kv_length: int
    """Tokens of a sequence that are attended to at most, before mask, window and chunks."""
    heads: int
    """Query heads."""
    kv_heads: int
    """Key and value heads; 1 where heads share the latents."""
    head_dim: int
    """Width of a query and key head."""
    value_dim: int
    """Width of a value head."""
    is_causal: bool = True
    """Whether a token attends to none after it; `flops` then count half of the scores."""
    window: int | None = None
    """Tokens of a window, or of a chunk, that a token attends to; None: all."""
    is_backward: bool = False
    """Backward kernels reach a lower fraction of the peak."""
    dtype: str | None = None
    """Type of queries, keys and values; None: that of the model."""

    def backward(self) -> "tuple[Attention]":
        """Return the kernel of all gradients, which computes the scores again: five products for two."""
        flops, num_bytes = ATTENTION_BACKWARD_FACTOR * self.flops, 2 * self.num_bytes
        return (replace(self, flops=flops, num_bytes=num_bytes, is_backward=True),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """A fused scan through the recurrent state of a state-space layer, priced like fused attention."""

    kind: str
    """Category of the account of time."""
    flops: float
    """FLOPs that are executed, of one rank."""
    num_bytes: float
    """Bytes read and written, of one rank."""
    is_backward: bool = False
    """Whether the kernel makes gradients."""

    def backward(self) -> "tuple[Scan]":
        """Return the kernel of all gradients, which computes again what is inside of a chunk."""
        flops, num_bytes = ATTENTION_BACKWARD_FACTOR * self.flops, 2 * self.num_bytes
        return (replace(self, flops=flops, num_bytes=num_bytes, is_backward=True),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """A kernel that is bound by memory bandwidth: norms, activations, permutations, optimizer."""

    kind: str
    """Category of the account of time."""
    operation: str
    """A key of `MEMORY_OPERATIONS`."""
    rows: float | NDArray[np.float64]
    """Tokens, copies of tokens, or parameters, of every rank alike or of each. A number or shape [R]."""
    width: int
    """Elements of a row that the kernel writes."""
    num_bytes: float | NDArray[np.float64]
    """Bytes read and written, of every rank alike or of each. A number or shape [R]."""
    backward_bytes: float | NDArray[np.float64] | None = None
    """Bytes of the backward kernel, 0 where there is none; None: as `MEMORY_OPERATIONS` says."""
    is_backward: bool = False
    """Whether the kernel makes gradients."""

    @property
    def flops(self) -> float:
        """FLOPs of elementwise kernels are not counted."""
        return 0.0

    def backward(self) -> "tuple[Memory, ...]":
        """Return the kernel of the gradient.

        >>> Memory(kind="attention", operation="norm", rows=2, width=4, num_bytes=32.0).backward()[0].num_bytes
        48.0
        """
        if isinstance(self.backward_bytes, float) and self.backward_bytes == 0:
            return ()
        num_bytes: float | NDArray[np.float64]
        num_bytes = MEMORY_OPERATIONS[self.operation].backward * self.num_bytes
        if self.backward_bytes is not None:
            num_bytes = self.backward_bytes
        return (replace(self, num_bytes=num_bytes, is_backward=True),)


Kernel = Gemm | GroupedGemm | Attention | Scan | Memory
"""The operations that a pass is made of."""

ATTENTION_BACKWARD_FACTOR: Final = 2.5
"""Executed FLOPs of the backward over the forward of fused attention (Dao, FlashAttention-2, 2023, section 3.1)."""


def backward_of(kernels: Sequence[Kernel]) -> list[Kernel]:
    """Return the backward kernels of `kernels`, last first.

    >>> [kernel.flops for kernel in backward_of([Gemm(kind="attention", m=2, n=3, k=4)])]
    [48.0, 48.0]
    """
    return [gradient for kernel in reversed(kernels) for gradient in kernel.backward()]
