"""Attention whose query heads share key and value heads (grouped-query attention; multi-head where none is shared).

Model
-----
    parameters   hidden * head_dim * (2 * heads + 2 * kv_heads)             Q, K, V and output projections
    scores       4 * s * heads * head_dim FLOPs of a token (QK' and PV)     half of it where the causal mask is used
    kernels      QKV [T, h] x [h, (heads + 2 kv) d / t] -> fused attention -> out [T, heads d / t] x [heads d / t, h]

Assumptions
-----------
Where KV heads are fewer than TP ranks, each rank holds one whole KV head (they are copied, as Megatron does). No
biases. Rotary embedding is left out: optimistic by under a percent.
"""

from dataclasses import dataclass

from workloads.blocks.recompute import Recompute
from workloads.kernels import Attention, Gemm, Kernel

__all__ = ["GroupedQueryAttention"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupedQueryAttention:
    """The attention of one layer.

    >>> small = GroupedQueryAttention(
    ...     hidden=4, heads=2, kv_heads=2, head_dim=2, dtype_bytes=2, is_fused=True, has_dropout=False
    ... )
    >>> small.num_params, small.kv_cache_bytes_per_token  # 4 * 2 * 8; 2 * 2 heads * 2 * 2 bytes
    (64, 16)
    """

    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    dtype_bytes: int
    is_fused: bool
    """Whether the scores are never kept for the backward pass."""
    has_dropout: bool
    """Whether masks of dropout are kept."""

    @property
    def num_params(self) -> int:
        """Parameters of all ranks."""
        return self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads)

    def num_params_per_rank(self, tp: int) -> int:
        """Return the parameters of a rank, with its copy of a KV head where KV heads are fewer than ranks."""
        kv_copies = max(1, tp // self.kv_heads)
        kv_extra = (kv_copies - 1) * 2 * self.kv_heads * self.head_dim * self.hidden
        return (self.num_params + kv_extra) // tp

    @property
    def kv_cache_bytes_per_token(self) -> int:
        """Bytes of keys and values that one token leaves, over all ranks."""
        return 2 * self.kv_heads * self.head_dim * self.dtype_bytes

    def num_kv_shards(self, tp: int) -> int:
        """Return the number of ranks that the keys and values of a token are split over."""
        return min(tp, self.kv_heads)

    def score_flops_per_token(self, sequence_length: int, *, causal: bool) -> float:
        """Return the FLOPs of QK' and PV for one token, averaged over the sequence."""
        full = 4.0 * sequence_length * self.heads * self.head_dim
        return full / 2 if causal else full

    def kernels(self, tokens: int, sequence_length: int, *, tp: int = 1) -> list[Kernel]:
        """Return the forward kernels of QKV, attention and output projection on one rank."""
        kv_heads = max(1, self.kv_heads // tp)
        q_width = self.heads // tp * self.head_dim
        width = q_width + 2 * kv_heads * self.head_dim
        scores = tokens * self.score_flops_per_token(sequence_length, causal=True) / tp
        io_bytes = tokens * (width + q_width) * self.dtype_bytes
        return [
            Gemm(kind="attention", m=tokens, n=width, k=self.hidden),
            Attention(kind="attention", flops=scores, num_bytes=io_bytes),
            Gemm(kind="attention", m=tokens, n=self.hidden, k=q_width),
        ]

    # ---- memory of a token on a rank -----------------------------------------------------------------------------

    def projected_elements(self, tp: int) -> float:
        """Return the elements of queries, keys, values and of the output projection's input."""
        return (2 * self.heads + 2 * self.kv_heads) * self.head_dim / tp

    def kept_bytes(self, recompute: Recompute, *, tp: int, sequence_shards: int, sequence_length: int) -> float:
        """Return the bytes of norm and attention that are kept for the backward pass."""
        dtype, hidden = self.dtype_bytes, self.hidden / sequence_shards
        kept = hidden + (0 if recompute.recomputes("layernorm") else hidden)
        kept += self.projected_elements(tp)
        scores = 0.0
        if not self.is_fused and not recompute.recomputes("core_attn"):
            scores = sequence_length * self.heads / tp * (2 * dtype + 1 if self.has_dropout else dtype)
        return kept * dtype + scores + (hidden if self.has_dropout else 0)

    def weight_pass_elements(self, *, tp: int, sequence_shards: int) -> float:
        """Return the elements kept from B to W: inputs of products and gradients of their outputs."""
        return 2 * self.hidden / sequence_shards + self.projected_elements(tp)

    def gradient_elements(self, *, tp: int, sequence_length: int) -> float:
        """Return the largest gradients inside: of scores and probabilities where they are kept, or of projections."""
        scores = 0 if self.is_fused else 2 * sequence_length * self.heads / tp
        return max(scores, self.projected_elements(tp))
