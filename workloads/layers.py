"""Which kernels a layer runs on one rank, forward and backward.

Model
-----
A layer has an attention block and an FFN block, or one of the two. Each block answers for its own kernels
(`workloads.blocks`); the names in brackets are dims on one rank of a tensor-parallel group of t ranks::

    attention block   add, norm -> QKV [T, h] x [h, (heads + 2 kv) d / t] -> attention -> out [T, heads d / t] x [., h]
    dense FFN         add, norm -> up [T, h] x [h, w / t] -> activation -> down [T, w / t] x [w / t, h]
    expert block      add, norm -> router [T', h] x [h, E] -> permute | dispatch | experts | combine | unpermute
    MTP               two norms -> projection [T', 2 h] x [2 h, h] before the layer, and a norm after it

T are the tokens the rank's attention sees, T' the tokens that it owns in the expert block (T / t where the sequence or
the tokens' ownership is split over TP).

Backward runs each product twice, by input and by weight, in reverse order. Fused attention recomputes its scores, so
its backward executes 2.5 times the forward FLOPs (five products for two; Dao 2023, section 3.1).

Assumptions
-----------
Where KV heads are fewer than TP ranks, each rank holds one whole KV head (they are copied, as Megatron does).
Elementwise kernels read and write each tensor once. A block begins by adding the output of the block before to the
residual stream, with dropout in one kernel (Megatron-LM, `fused_bias_dropout.py`); the first block adds in place of the
last norm. Dropout of the embedding is left out.

Unless it is fused (`workloads.fusions`), the loss is computed as in Megatron-LM's `tensor_parallel/cross_entropy.py`:
of each logit, in 4 bytes, a copy, the maximum, the difference, its exponential, their sum and the quotient, 38 bytes in
all; its gradient is scaled and copied back, 14 bytes. The gradient of an embedding is a tensor as large as the
embedding: filled with zeros, summed up by token, and added to the sum of the microbatches.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from workloads.blocks.ffn import DenseFfn, MoeFfn
from workloads.blocks.layer import Layer, Mixer
from workloads.fusions import FUSED_LOSS_ACCESSES
from workloads.kernels import Gemm, Kernel, Memory
from workloads.memory.precision import Precision
from workloads.model import DTYPE_BYTES, ModelSpec

__all__ = [
    "add_and_norm",
    "attention_block",
    "dense_ffn_block",
    "embedding_backward",
    "embedding_block",
    "expert_block",
    "head_block",
    "mtp_projection_block",
    "norm_of",
    "optimizer_step",
    "permute",
    "router_block",
    "shared_expert_block",
]

_LOSS_BYTES = 4
"""Bytes of a logit in the loss."""
_MASTER_BYTES = 4
"""Bytes of a master weight."""


def attention_block(
    attention: Mixer, tokens: int, sequence_length: int, *, tp: int = 1, norm_tokens: int | None = None
) -> list[Kernel]:
    """Return the kernels of norm, projections and attention on one of `tp` ranks.

    Parameters
    ----------
    tokens, sequence_length
        Tokens that attention sees, and the length of the sequences they form.
    norm_tokens
        Tokens that the norm sees, where sequence parallelism splits them; None for all.

    Examples
    --------
    >>> small = ModelSpec(layers=1, hidden=4, heads=2, ffn=8, vocab=10)
    >>> sum(kernel.flops for kernel in attention_block(small.attention, 6, 6))  # 2*6*64 and scores 2*6*6*4
    1056.0
    """
    first = tokens if norm_tokens is None else norm_tokens
    return [*add_and_norm(attention, first), *attention.kernels(tokens, sequence_length, tp=tp).all]


def dense_ffn_block(ffn: DenseFfn, tokens: int, *, tp: int = 1, norm_tokens: int | None = None) -> list[Kernel]:
    """Return the kernels of norm and dense FFN for `tokens` tokens on one of `tp` ranks."""
    return [*add_and_norm(ffn, tokens if norm_tokens is None else norm_tokens), *ffn.kernels(tokens, tp=tp)]


def shared_expert_block(ffn: MoeFfn, tokens: int, *, tp: int = 1) -> list[Kernel]:
    """Return the kernels of the experts that all `tokens` meet, their width split over `tp` (none: no kernels)."""
    return ffn.shared_kernels(tokens, tp=tp)


def router_block(ffn: MoeFfn, tokens: int) -> list[Kernel]:
    """Return the kernels of norm and router for `tokens` tokens of one rank."""
    return [*add_and_norm(ffn, tokens), *ffn.router_kernels(tokens)]


def permute(model: ModelSpec, routed_tokens: float, *, is_inverse: bool = False) -> Memory:
    """Return the kernel that sorts `routed_tokens` copies of tokens by expert, or gathers them back.

    Copies are sorted in the type in which they are sent, and come back in that of the model.
    """
    of_element = float(model.dtype_bytes) if is_inverse else model.formats.dispatch_bytes(model.dtype_bytes)
    return Memory(
        kind="other_compute",
        operation="unpermute" if is_inverse else "permute",
        rows=routed_tokens,
        width=model.expert_hidden,
        num_bytes=2.0 * routed_tokens * model.expert_hidden * of_element,
    )


def expert_block(ffn: MoeFfn, tokens: NDArray[np.int64], *, arrival: str = "chunks") -> list[Kernel]:
    """Return the grouped products of the local experts.

    Parameters
    ----------
    tokens
        Tokens that arrived for each local expert of each rank. Shape [R, E].
    arrival
        How the copies of tokens lie: a key of `ARRIVALS` (`workloads.collectives.settings`).
    """
    return ffn.expert_kernels(tokens, arrival=arrival)


def mtp_projection_block(layer: Layer, tokens: int, *, tp: int = 1) -> list[Kernel]:
    """Return the two norms and the projection that begin a layer of MTP, of `tokens` tokens on one of `tp` ranks."""
    return [
        _norm(layer, tokens),
        _norm(layer, tokens),
        Gemm(kind="other_compute", m=tokens, n=math.ceil(layer.hidden / tp), k=2 * layer.hidden),
    ]


def embedding_block(model: ModelSpec, tokens: int) -> list[Kernel]:
    """Return the look-up of `tokens` embeddings: a row read and written per token."""
    return [_rows("embedding", model, tokens)]


def embedding_backward(model: ModelSpec, tokens: int, *, tp: int = 1, gradient_bytes: int = 4) -> list[Kernel]:
    """Return the kernels of the gradient of an embedding, its vocabulary split over `tp` ranks.

    `gradient_bytes` are those of a gradient in the sum of the microbatches.
    """
    rows = math.ceil(model.padded_vocab(tp) / tp)

    def whole(operation: str, bytes_per_element: int) -> Memory:
        """Return a kernel that works on the whole tensor."""
        num_bytes = float(rows * model.hidden * bytes_per_element)
        return Memory(
            kind="other_compute",
            operation=operation,
            rows=rows,
            width=model.hidden,
            num_bytes=num_bytes,
            is_backward=True,
        )

    return [
        whole("zero_fill", model.dtype_bytes),
        *_rows("embedding", model, tokens).backward(),
        whole("gradient_add", model.dtype_bytes + 2 * gradient_bytes),
    ]


def head_block(model: ModelSpec, tokens: int, *, tp: int = 1, has_loss: bool = False) -> list[Kernel]:
    """Return last norm, output head (vocabulary split over `tp`) and softmax or loss for `tokens` tokens."""
    if tokens == 0:
        return []
    width = math.ceil(model.padded_vocab(tp) / tp)
    logits = float(tokens * width)
    num_bytes, backward_bytes = 2 * logits * model.logit_bytes, None
    if has_loss:  # a head in 4 bytes needs no copy
        by_logit = (32, 8) if model.logit_bytes == _LOSS_BYTES else (38, 14)
        if model.fusions.has_fused_loss:
            by_logit = (FUSED_LOSS_ACCESSES[0] * model.logit_bytes, FUSED_LOSS_ACCESSES[1] * model.logit_bytes)
        num_bytes, backward_bytes = by_logit[0] * logits, by_logit[1] * logits
    return [
        _norm(model, tokens),
        Gemm(kind="other_compute", m=tokens, n=width, k=model.hidden, dtype="tf32" if model.fp32_lm_head else None),
        Memory(
            kind="other_compute",
            operation="cross_entropy" if has_loss else "softmax",
            rows=tokens,
            width=width,
            num_bytes=num_bytes,
            backward_bytes=backward_bytes,
        ),
    ]


def optimizer_step(
    num_params: float, precision: Precision, *, num_gradients: float | None = None, dtype: str = "bf16"
) -> list[Memory]:
    """Return the kernels of a step of Adam.

    Parameters
    ----------
    num_params
        Parameters that a rank updates.
    precision
        Types of gradients and moments.
    num_gradients
        Gradients that a rank holds, which are set to zero for the next step; None: as many as parameters.
    dtype
        Type of the weights that the model computes with; with fp16 gradients carry the scale of the loss.

    Examples
    --------
    >>> [kernel.num_bytes for kernel in optimizer_step(10, Precision())]
    [40.0, 280.0, 60.0, 40.0]
    """
    gradient = precision.gradient_bytes
    by_operation: dict[str, float] = {
        "gradient_norm": gradient * num_params,
        "unscale": 2 * gradient * num_params if dtype == "fp16" else 0,
        "optimizer": (gradient + 2 * precision.optimizer_bytes) * num_params,
        "copy": (_MASTER_BYTES + DTYPE_BYTES[dtype]) * num_params,
        "zero_fill": gradient * (num_params if num_gradients is None else num_gradients),
    }
    return [
        Memory(kind="optimizer", operation=operation, rows=num_params, width=1, num_bytes=float(num_bytes))
        for operation, num_bytes in by_operation.items()
        if num_bytes
    ]


def add_and_norm(block: Mixer | DenseFfn | MoeFfn, tokens: int) -> list[Kernel]:
    """Return the residual addition (with dropout, where the model has it) and the norm that begin a block."""
    stream = float(tokens * block.hidden)
    add = Memory(
        kind="other_compute",
        operation="residual_add",
        rows=tokens,
        width=block.hidden,
        num_bytes=3 * block.dtype_bytes * stream,
    )
    if getattr(block, "has_dropout", False):
        # reads output and stream, writes stream and mask; backward reads and writes gradients and reads the mask,
        # after the two gradients of the stream have been added
        num_bytes, backward_bytes = ((count * block.dtype_bytes + 1) * stream for count in (3, 5))
        add = replace(add, operation="dropout_add", num_bytes=num_bytes, backward_bytes=backward_bytes)
    if getattr(block, "has_bias", False):  # of the linear before: its gradient is summed over the tokens
        (backward,) = add.backward()
        add = replace(add, backward_bytes=backward.num_bytes + block.dtype_bytes * stream)
    return [add, _norm(block, tokens)]


def norm_of(kernels: Sequence[Kernel]) -> list[Kernel]:
    """Return the first norm of a block, as a list of one kernel."""
    norms: list[Kernel] = [kernel for kernel in kernels if isinstance(kernel, Memory) and kernel.operation == "norm"]
    return norms[:1]


def _norm(block: Mixer | DenseFfn | MoeFfn | Layer | ModelSpec, tokens: int) -> Memory:
    """Read and write the residual stream once."""
    return _rows("norm", block, tokens)


def _rows(operation: str, block: Mixer | DenseFfn | MoeFfn | Layer | ModelSpec, tokens: int) -> Memory:
    """Return a kernel that reads and writes a row of the hidden state of each token."""
    return Memory(
        kind="other_compute",
        operation=operation,
        rows=tokens,
        width=block.hidden,
        num_bytes=2.0 * tokens * block.hidden * block.dtype_bytes,
    )
