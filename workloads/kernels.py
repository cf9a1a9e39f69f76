"""Kernels as values: the shape that a device turns into time, with its FLOPs and bytes.

Model
-----
    Gemm         [m, k] x [k, n]                         2 m n k FLOPs
    GroupedGemm  [tokens[r, e], k] x [k, n] per expert   2 n k * sum over experts
    Attention    fused scores, softmax and values        as given
    Scan         a recurrent state over a sequence       as given
    Memory       [rows, width], bound by memory          no FLOPs, time by its bytes

`kind` is the part of the account of time that the kernel belongs to. A kernel describes one rank; `GroupedGemm` holds
the ranks of a group along its first axis, for they receive different numbers of tokens. The shape of a kernel is all
that a device and its measured profile need to price the kernel.
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["ATTENTION_OPERATIONS", "MEMORY_OPERATIONS", "Attention", "Gemm", "GroupedGemm", "Kernel", "Memory", "Scan"]

ATTENTION_OPERATIONS: Final[dict[str, str]] = {
    "attention": "query heads share key and value heads (GQA, MHA), all of one width; training and prefill",
    "mla": "multi-head latent attention with keys and values of every head (unabsorbed); training and prefill",
    "mla_decode": "multi-head latent attention over the latents themselves (absorbed), one new token of a sequence",
}
"""What a kernel of `Attention` computes, by name."""

MEMORY_OPERATIONS: Final[dict[str, str]] = {
    "norm": "RMS norm or layer norm of rows",
    "swiglu": "gated activation: two halves of a row become one",
    "gelu": "activation of each element",
    "gate": "product of a row with its gate",
    "convolution": "short convolution over the tokens of a sequence",
    "permute": "copies of tokens are put in the order of their experts",
    "unpermute": "copies of a token are weighed and summed in the order of the tokens",
    "softmax": "softmax of a row and its loss, over the vocabulary",
    "embedding": "rows of the embedding are looked up, or their gradients are added",
    "optimizer": "a step of the optimizer, by the parameter",
}
"""What a kernel of `Memory` does, by name."""


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
    weight_gradient: bool = False
    """Whether the product is the gradient of a weight."""
    input_gradient: bool = False
    """Whether the product is the gradient of an input."""
    dtype: str | None = None
    """Type of the product: tf32 for an output head in 4 bytes; None: that of the model."""

    @property
    def flops(self) -> float:
        """FLOPs of one rank.

        >>> Gemm(kind="attention", m=2, n=3, k=4).flops
        48.0
        """
        return 2.0 * self.m * self.n * self.k

    def backward(self) -> "tuple[Gemm, Gemm]":
        """Return the gradient by the input [m, n] x [n, k] and by the weight [k, m] x [m, n]."""
        return (
            Gemm(kind=self.kind, m=self.m, n=self.k, k=self.n, input_gradient=True, dtype=self.dtype),
            Gemm(kind=self.kind, m=self.k, n=self.n, k=self.m, weight_gradient=True, dtype=self.dtype),
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

    @property
    def flops(self) -> NDArray[np.float64]:
        """FLOPs of each rank. Shape [R]."""
        return np.asarray(2.0 * self.n * self.k * self.tokens.sum(axis=-1), dtype=float)

    def backward(self) -> "tuple[GroupedGemm, GroupedGemm]":
        """Return the gradients by the input and by the weight."""
        return (
            GroupedGemm(kind=self.kind, tokens=self.tokens, n=self.k, k=self.n),
            GroupedGemm(kind=self.kind, tokens=self.tokens, n=self.n, k=self.k, weight_gradient=True),
        )


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
    is_backward: bool = False
    """Whether the kernel makes gradients."""

    @property
    def flops(self) -> float:
        """FLOPs of elementwise kernels are not counted."""
        return 0.0

    def backward(self) -> "tuple[Memory]":
        """Return the kernel of the gradient, which also reads an input of the forward pass."""
        return (replace(self, num_bytes=1.5 * self.num_bytes, is_backward=True),)


Kernel = Gemm | GroupedGemm | Attention | Scan | Memory
"""The operations that a pass is made of."""

ATTENTION_BACKWARD_FACTOR: Final = 2.5
"""Executed FLOPs of the backward over the forward of fused attention (Dao, FlashAttention-2, 2023, section 3.1)."""
