"""Which kernels a layer runs on one rank, forward and backward.

Model
-----
A layer has an attention block and an FFN block, or one of the two. Each block answers for its own kernels
(`workloads.blocks`); the names in brackets are dims on one rank of a tensor-parallel group of t ranks::

    attention block   norm -> QKV [T, h] x [h, (heads + 2 kv) d / t] -> fused attention -> out [T, heads d / t] x [., h]
    dense FFN         norm -> up [T, h] x [h, w / t] -> activation -> down [T, w / t] x [w / t, h]
    expert block      norm -> router [T', h] x [h, E] -> permute | dispatch | experts | combine | unpermute
    MTP               two norms -> projection [T', 2 h] x [2 h, h] before the layer, and a norm after it

T are the tokens the rank's attention sees, T' the tokens that it owns in the expert block (T / t where the sequence or
the tokens' ownership is split over TP).

Backward runs each product twice, by input and by weight, in reverse order. Fused attention recomputes its scores, so
its backward executes 2.5 times the forward FLOPs (five products for two; Dao 2023, section 3.1).

Assumptions
-----------
Where KV heads are fewer than TP ranks, each rank holds one whole KV head (they are copied, as Megatron does).
Elementwise kernels read and write each tensor once. Rotary embedding and dropout are left out: optimistic by under
a percent.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from workloads.blocks.ffn import DenseFfn, MoeFfn
from workloads.blocks.layer import Layer, Mixer
from workloads.kernels import Gemm, Kernel, Memory
from workloads.model import ModelSpec

__all__ = [
    "attention_block",
    "backward_of",
    "dense_ffn_block",
    "embedding_block",
    "expert_block",
    "head_block",
    "mtp_projection_block",
    "optimizer_step",
    "permute",
    "router_block",
    "shared_expert_block",
]


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
    return [
        _norm(attention, tokens if norm_tokens is None else norm_tokens),
        *attention.kernels(tokens, sequence_length, tp=tp).all,
    ]


def dense_ffn_block(ffn: DenseFfn, tokens: int, *, tp: int = 1, norm_tokens: int | None = None) -> list[Kernel]:
    """Return the kernels of norm and dense FFN for `tokens` tokens on one of `tp` ranks."""
    return [
        _norm(ffn, tokens if norm_tokens is None else norm_tokens),
        *ffn.kernels(tokens, tp=tp),
    ]


def shared_expert_block(ffn: MoeFfn, tokens: int, *, tp: int = 1) -> list[Kernel]:
    """Return the kernels of the experts that all `tokens` meet, their width split over `tp` (none: no kernels)."""
    return ffn.shared_kernels(tokens, tp=tp)


def router_block(ffn: MoeFfn, tokens: int) -> list[Kernel]:
    """Return the kernels of norm and router for `tokens` tokens of one rank."""
    return [_norm(ffn, tokens), *ffn.router_kernels(tokens)]


def permute(model: ModelSpec, routed_tokens: float, *, is_inverse: bool = False) -> Memory:
    """Return the kernel that sorts `routed_tokens` copies of tokens by expert, or gathers them back."""
    return Memory(
        kind="other_compute",
        operation="unpermute" if is_inverse else "permute",
        rows=routed_tokens,
        width=model.expert_hidden,
        num_bytes=2.0 * routed_tokens * model.expert_hidden * model.dtype_bytes,
    )


def expert_block(ffn: MoeFfn, tokens: NDArray[np.int64]) -> list[Kernel]:
    """Return the grouped products of the local experts.

    Parameters
    ----------
    tokens
        Tokens that arrived for each local expert of each rank. Shape [R, E].
    """
    return ffn.expert_kernels(tokens)


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


def head_block(model: ModelSpec, tokens: int, *, tp: int = 1) -> list[Kernel]:
    """Return last norm, output head (vocabulary split over `tp`) and softmax for `tokens` tokens."""
    if tokens == 0:
        return []
    width = math.ceil(model.padded_vocab(tp) / tp)
    return [
        _norm(model, tokens),
        Gemm(kind="other_compute", m=tokens, n=width, k=model.hidden, dtype="tf32" if model.fp32_lm_head else None),
        Memory(
            kind="other_compute",
            operation="softmax",
            rows=tokens,
            width=width,
            num_bytes=2.0 * tokens * width * model.logit_bytes,
        ),
    ]


def optimizer_step(num_params: float, bytes_per_param: float) -> Memory:
    """Return Adam's update: moments, master weights, gradients and weights are read and written once."""
    return Memory(
        kind="optimizer", operation="optimizer", rows=num_params, width=1, num_bytes=num_params * bytes_per_param
    )


def backward_of(kernels: Sequence[Kernel]) -> list[Kernel]:
    """Return the backward kernels of `kernels`, last first.

    >>> [kernel.flops for kernel in backward_of([Gemm(kind="attention", m=2, n=3, k=4)])]
    [48.0, 48.0]
    """
    return [gradient for kernel in reversed(kernels) for gradient in kernel.backward()]


def _norm(block: Mixer | DenseFfn | MoeFfn | Layer | ModelSpec, tokens: int) -> Memory:
    """Read and write the residual stream once (residual addition fused with the norm)."""
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
