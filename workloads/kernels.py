"""Kernels as values: the shape that a device turns into time, with its FLOPs and bytes.

Model
-----
    Gemm         [m, k] x [k, n]                         2 m n k FLOPs
    GroupedGemm  [tokens[r, e], k] x [k, n] per expert   2 n k * sum over experts
    Attention    fused scores, softmax and values        as given
    Memory       an elementwise kernel                   no FLOPs, time by its bytes

`kind` is the part of the account of time that the kernel belongs to. A kernel describes one rank; `GroupedGemm` holds
the ranks of a group along its first axis, for they receive different numbers of tokens.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Attention", "Gemm", "GroupedGemm", "Kernel", "Memory"]


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
            Gemm(kind=self.kind, m=self.m, n=self.k, k=self.n, dtype=self.dtype),
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
    """A fused attention kernel (scores, softmax, values)."""

    kind: str
    """Category of the account of time."""
    flops: float
    """FLOPs that are executed, of one rank."""
    num_bytes: float
    """Bytes read and written, of one rank."""
    is_backward: bool = False
    """Backward kernels reach a lower fraction of the peak."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """A kernel that is bound by memory bandwidth: norms, activations, permutations, optimizer."""

    kind: str
    """Category of the account of time."""
    num_bytes: float | NDArray[np.float64]
    """Bytes read and written, of every rank alike or of each. A number or shape [R]."""

    @property
    def flops(self) -> float:
        """FLOPs of elementwise kernels are not counted."""
        return 0.0


Kernel = Gemm | GroupedGemm | Attention | Memory
"""The operations that a pass is made of."""
