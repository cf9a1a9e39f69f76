"""Which tensor has which type: bf16 throughout, or products in fp8 by a recipe of Transformer Engine.

Model
-----
Under a recipe the operands of linear layers are fp8, and all else stays as it is (docs/formats.md has the table)::

    product     [m, k] x [k, n] in fp8, result in 2 bytes; twice more in the backward pass, gradients in fp8 too
    cast        of each operand: a kernel reads 2 bytes and writes 1 byte and its scales, and in training once more by
                columns, for the gradient of a weight sums over the tokens
    amax        a scale of the whole tensor needs its largest magnitude first: a kernel reads 2 bytes (tensorwise)
    weights     cast once a step
    gathers     sequence parallelism gathers operands in fp8, with their scales (Transformer Engine 2)

Attention, norms, activations, residual stream, router, output head and loss stay in 2 or 4 bytes, and so do sends
between stages, reduce-scatters and gradients.

Blackwell's tensor cores take operands by rows and by columns, so that a tensor with one scale needs no second copy; a
recipe whose scales follow the rows does.

Assumptions
-----------
Transformer Engine casts the output of a norm in the norm itself under mxfp8, and in kernels of their own under
tensorwise and blockwise. The output of an activation has a cast of its own (Megatron-LM's fused SwiGLU). Padding of
experts' tokens to a multiple of 16 or 32 rows is left out: optimistic by a percent at 1,000 tokens of an expert.

References
----------
Transformer Engine 2.x, `pytorch/module/layernorm_linear.py` (casts in the norm, gathers), `pytorch/tensor/` (recipes,
copies by columns). Micikevicius et al., "FP8 formats for deep learning", 2022. DeepSeek-AI, "DeepSeek-V3 technical
report", 2024, section 3.3 (blocks of 1 x 128 and 128 x 128). OCP, "Microscaling formats (MX)", 2023 (blocks of 32).
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from workloads.kernels import Cast, Gemm, GroupedGemm, Kernel

__all__ = ["BF16", "DISPATCH_DTYPES", "FP8_RECIPES", "GATHER_DTYPES", "Formats", "Fp8Recipe"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fp8Recipe:
    """How tensors are scaled to fp8."""

    product: str
    """Type of the products, as devices and their profiles name it."""
    scale_bytes: float
    """Bytes of the scales of an element."""
    reads_first: bool
    """Whether a kernel finds the largest magnitude of a tensor before it is cast."""
    casts_in_norm: bool
    """Whether a norm writes its output in fp8."""
    scales_by_row: bool
    """Whether scales belong to parts of rows, so that a copy by columns has scales of its own."""
    meaning: str
    """What the recipe is, for documents."""


FP8_RECIPES: Final[dict[str, Fp8Recipe | None]] = {
    "none": None,
    "tensorwise": Fp8Recipe(
        product="fp8",
        scale_bytes=0.0,
        reads_first=True,
        casts_in_norm=False,
        scales_by_row=False,
        meaning="one scale of the tensor as it is now (Float8CurrentScaling)",
    ),
    "blockwise": Fp8Recipe(
        product="fp8_block",
        scale_bytes=4 / 128,
        reads_first=False,
        casts_in_norm=False,
        scales_by_row=True,
        meaning="a scale of 4 bytes for 1 x 128 activations or 128 x 128 weights (Float8BlockScaling)",
    ),
    "mxfp8": Fp8Recipe(
        product="mxfp8",
        scale_bytes=1 / 32,
        reads_first=False,
        casts_in_norm=True,
        scales_by_row=True,
        meaning="a scale of 1 byte for 32 elements (MXFP8BlockScaling), on Blackwell alone",
    ),
}
"""Recipes by name."""
GATHER_DTYPES: Final = ("bf16", "fp8")
"""Types in which sequence parallelism gathers operands of fp8 products."""
DISPATCH_DTYPES: Final = ("bf16", "fp8")
"""Types in which tokens are sent to their experts."""
_DISPATCH_SCALE_BYTES: Final = 4 / 128
"""Scales of a token that is sent in fp8: 4 bytes for 128 elements (DeepEP)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Formats:
    """Types of the tensors of a model.

    >>> blockwise = Formats(recipe=FP8_RECIPES["blockwise"], trains=True)
    >>> blockwise.operand_bytes, blockwise.cast_bytes  # 1 + 4 / 128; 2 + 2 (1 + 4 / 128)
    (1.03125, 4.0625)
    """

    recipe: Fp8Recipe | None = None
    """How products run in fp8; None: they run in the type of the model."""
    trains: bool = False
    """Whether there is a backward pass, which needs operands by columns."""
    has_any_layout: bool = False
    """Whether products take operands by rows and by columns (Blackwell)."""
    gather_dtype: str = "fp8"
    """Type in which operands of fp8 products are gathered over TP."""
    has_fp8_weights: bool = False
    """Whether weights of layers that are trained are kept in fp8 alone, without a copy in 2 bytes."""
    dispatch_dtype: str = "bf16"
    """Type in which tokens, and gradients on their way back, are sent to experts; results come back in 2 bytes."""

    @property
    def operand_bytes(self) -> float:
        """Bytes of an element of an operand, its scales among them."""
        return 2.0 if self.recipe is None else 1 + self.recipe.scale_bytes

    @property
    def num_copies(self) -> int:
        """Copies in fp8 of a tensor that a cast writes: by rows, and where that differs by columns."""
        if self.recipe is None:
            return 0
        needs_columns = self.trains and (self.recipe.scales_by_row or not self.has_any_layout)
        return 2 if needs_columns else 1

    @property
    def cast_bytes(self) -> float:
        """Bytes that the cast of an element moves."""
        return 2 + self.num_copies * self.operand_bytes

    @property
    def gather_bytes(self) -> float:
        """Bytes of an element of an operand that is gathered over TP."""
        return self.operand_bytes if self.gather_dtype == "fp8" else 2.0

    def dispatch_bytes(self, dtype_bytes: int) -> float:
        """Return the bytes of an element of a token on its way to an expert."""
        return 1 + _DISPATCH_SCALE_BYTES if self.dispatch_dtype == "fp8" else float(dtype_bytes)

    @property
    def cast(self) -> Cast | None:
        """What casts the operands of a product; None: nothing does."""
        if self.recipe is None:
            return None
        return Cast(dtype=self.recipe.product, num_bytes=self.cast_bytes, reads_first=self.recipe.reads_first)

    def linear(self, *, kind: str, m: int, n: int, k: int, follows_norm: bool = False) -> list[Kernel]:
        """Return a linear layer [m, k] x [k, n]: the cast of its input, and the product.

        >>> [type(kernel).__name__ for kernel in BF16.linear(kind="attention", m=2, n=3, k=4)]
        ['Gemm']
        """
        cast = self.cast
        if cast is None:
            return [Gemm(kind=kind, m=m, n=n, k=k)]
        is_cast = follows_norm and self.recipe is not None and self.recipe.casts_in_norm
        before = [] if is_cast else cast.kernels(kind, float(m), k)
        return [*before, Gemm(kind=kind, m=m, n=n, k=k, dtype=cast.dtype, cast=cast)]

    def grouped(
        self, *, kind: str, tokens: NDArray[np.int64], n: int, k: int, follows_dispatch: bool = False
    ) -> list[Kernel]:
        """Return the linear layer of each local expert, of `tokens` [R, E].

        Tokens that were sent in fp8 need no cast by rows; in training they are cast again by columns.
        """
        cast = self.cast
        if cast is None:
            return [GroupedGemm(kind=kind, tokens=tokens, n=n, k=k)]
        product = GroupedGemm(kind=kind, tokens=tokens, n=n, k=k, dtype=cast.dtype, cast=cast)
        if follows_dispatch and self.dispatch_dtype == "fp8":
            by_columns = 2 * self.operand_bytes if self.num_copies > 1 else 0.0
            cast = replace(cast, num_bytes=by_columns, reads_first=False)
        return [*cast.kernels(kind, tokens.sum(axis=-1).astype(float), k), product]

    def dispatch_casts(self, kind: str, tokens: int, width: int) -> list[Kernel]:
        """Return what casts the rows that are sent to experts, by rows; none where they are sent in 2 bytes."""
        if self.dispatch_dtype != "fp8":
            return []
        cast = Cast(dtype="fp8_block", num_bytes=2 + 1 + _DISPATCH_SCALE_BYTES, reads_first=False)
        return cast.kernels(kind, float(tokens), width)

    def weight_casts(self, num_params: float) -> list[Kernel]:
        """Return what casts weights after a step of the optimizer."""
        return [] if self.cast is None else self.cast.kernels("optimizer", num_params, 1)

    @property
    def weight_copy_bytes(self) -> float:
        """Bytes of the copies in fp8 of a weight that is trained, next to the weight in 2 bytes."""
        return self.num_copies * self.operand_bytes

    def gathered_weight_bytes(self, dtype_bytes: int) -> float:
        """Return the bytes in which replicas gather a weight: fp8 where nothing else is kept of it.

        Under mxfp8 weights are gathered in 2 bytes, and cast by rows and by columns where they arrive.
        """
        if self.recipe is None or not self.has_fp8_weights or self.recipe.product == "mxfp8":
            return dtype_bytes
        return self.operand_bytes

    def kept_bytes(self, inputs: float, *, extra: float = 0.0) -> float:
        """Return the bytes that keeping operands in fp8 adds to what is counted in 2 bytes; negative where it saves.

        Parameters
        ----------
        inputs
            Elements kept as inputs of linear layers alone, which the gradient of the weight needs in fp8.
        extra
            Elements of inputs that another kernel keeps in 2 bytes as well.
        """
        if self.recipe is None:
            return 0.0
        return (self.operand_bytes - 2) * inputs + self.operand_bytes * extra


BF16: Final = Formats()
"""All tensors in the type of the model."""
