"""Attention whose query heads share key and value heads (grouped-query attention; multi-head where none is shared).

Model
-----
    parameters   hidden * head_dim * (2 * heads + 2 * kv_heads)             Q, K, V and output projections
                 + hidden * head_dim * heads                                gate of the output, where it has a gate
                 + heads                                                    sinks, where it has sinks
    attended     a(s) tokens of a sequence of s, on average::

        causal mask      s / 2                           all scores (as Megatron counts)   s
        window of W      W - W^2 / (2 s)   (s > W)                                         min(s, W)
        chunks of C      C / 2, the last chunk shorter                                     C, the last chunk shorter

    scores       4 * a(s) * heads * head_dim FLOPs of a token (QK' and PV)
    KV cache     2 * kv_heads * head_dim values of each token that is still attended: all, or the last W or C
    kernels      QKV [T, h] x [h, (heads + 2 kv) d / t] -> rotary embedding -> fused attention
                 -> out [T, heads d / t] x [heads d / t, h]
    unfused      scores -> scale, mask, softmax -> dropout -> values -> layout    see `unfused_kernels`

Assumptions
-----------
Where KV heads are fewer than TP ranks, each rank holds one whole KV head (they are copied, as Megatron does). The norm
of queries and keys takes no time: optimistic by under a percent. With an unfused rotary embedding, rotated queries and
keys are kept like the whole QKV projection, of which the values are a view (docs/models.md has measured memory).

Attention that is not fused computes and moves all scores, for its kernels know no mask but that of the softmax
(Korthikanti et al. 2022; Megatron-LM, `fused_softmax.py`: scale, mask and softmax are one kernel).

References
----------
Ainslie et al., "GQA: training generalized multi-query transformer models from multi-head checkpoints", 2023.
Beltagy et al., "Longformer: the long-document transformer", 2020 (window). OpenAI, "gpt-oss-120b & gpt-oss-20b model
card", 2025, section 2.3 (window on every second layer, sinks). Qwen team, "Qwen3-Next", 2025 (gate of the output).
"""

from dataclasses import dataclass, replace

from workloads.blocks.core import CoreTensors, MixerKernels
from workloads.blocks.recompute import Recompute
from workloads.formats import BF16, Formats
from workloads.fusions import ALL_FUSED, Fusions
from workloads.kernels import Attention, Gemm, Kernel, Memory

__all__ = ["GroupedQueryAttention", "mean_attended", "unfused_kernels"]


def mean_attended(sequence_length: int, *, causal: bool, window: int | None = None, chunk: int | None = None) -> float:
    """Return how many tokens a token of a sequence attends to, on average.

    >>> mean_attended(8, causal=True), mean_attended(8, causal=True, window=4), mean_attended(8, causal=True, chunk=4)
    (4.0, 3.0, 2.0)
    """
    length = sequence_length
    if window is not None and window < length:
        return window - window * window / (2.0 * length) if causal else float(window)
    if chunk is not None and chunk < length:
        chunks, rest = divmod(length, chunk)
        attended = (chunks * chunk * chunk + rest * rest) / length
        return attended / 2 if causal else attended
    return length / 2 if causal else float(length)


def unfused_kernels(core: Attention, *, dtype_bytes: int, has_dropout: bool) -> list[Kernel]:
    """Return the kernels of an attention whose scores pass through memory.

    All scores are computed, whatever the mask: a product writes them, a kernel scales, masks and normalises each row,
    another drops some, and a product with the values reads them. Of bf16 scores with dropout these are 2 + 4 + 5 + 2 =
    13 bytes of a score, and in the backward pass 2 + 2 + 5 + 6 + 2 + 2 = 19. Then results of heads are copied into the
    order of tokens, and backward the gradients of queries, keys and values into one tensor.

    >>> core = GroupedQueryAttention(
    ...     hidden=4, heads=2, kv_heads=2, head_dim=2, dtype_bytes=2, is_fused=True, has_dropout=False
    ... ).core(tokens=16, sequence_length=8)
    >>> [kernel.num_bytes for kernel in unfused_kernels(core, dtype_bytes=2, has_dropout=True)[1:3]]  # 4 x 64 scores
    [1024.0, 1280.0]
    """
    batch = max(1, round(core.batch * core.heads))
    rows, width = batch * core.query_length, core.kv_length
    scores = float(rows * width)
    kernels: list[Kernel] = [
        Gemm(kind=core.kind, m=core.query_length, n=width, k=core.head_dim, batch=batch, has_weight=False),
        Memory(kind=core.kind, operation="softmax", rows=rows, width=width, num_bytes=2 * dtype_bytes * scores),
    ]
    if has_dropout:
        num_bytes = (2 * dtype_bytes + 1) * scores
        kernels.append(Memory(kind=core.kind, operation="dropout", rows=rows, width=width, num_bytes=num_bytes))
    values = Gemm(kind=core.kind, m=core.query_length, n=core.value_dim, k=width, batch=batch, has_weight=False)
    tokens, row = core.batch * core.query_length, core.heads * core.value_dim
    moved = 2.0 * dtype_bytes * tokens * row
    layout = Memory(kind=core.kind, operation="head_layout", rows=tokens, width=row, num_bytes=moved)
    return [*kernels, values, layout]


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
    has_bias: bool = False
    """Whether both projections have biases: that of QKV is added by a kernel of its own, that of the output with the
    residual stream."""
    window: int | None = None
    """Tokens that a token attends to, itself among them; None: all tokens before it."""
    chunk: int | None = None
    """Tokens of the chunks of a sequence outside of which a token attends to none; None: no chunks."""
    has_sinks: bool = False
    """Whether each head has a learned sink, a score that takes part in the softmax."""
    has_gate: bool = False
    """Whether the output is multiplied by a gate, which is projected like the queries."""
    is_rotary: bool = False
    """Whether a kernel of its own rotates queries and keys, and keeps both them and the QKV projection."""
    has_rotary: bool = False
    """Whether queries and keys are rotated at all."""
    fusions: Fusions = ALL_FUSED
    """What software fuses."""
    formats: Formats = BF16
    """Types of operands."""

    @property
    def num_matrix_params(self) -> int:
        """Parameters of matrix products, of all ranks."""
        num_q = (3 if self.has_gate else 2) * self.heads
        return self.hidden * self.head_dim * (num_q + 2 * self.kv_heads)

    @property
    def num_params(self) -> int:
        """Parameters of all ranks."""
        return self.num_matrix_params + (self.heads if self.has_sinks else 0)

    def num_params_per_rank(self, tp: int) -> int:
        """Return the parameters of a rank, with its copy of a KV head where KV heads are fewer than ranks."""
        kv_copies = max(1, tp // self.kv_heads)
        kv_extra = (kv_copies - 1) * 2 * self.kv_heads * self.head_dim * self.hidden
        return (self.num_params + kv_extra) // tp

    def why_not_split(self, tp: int) -> tuple[str, int] | None:
        """Return the field and number of heads that `tp` ranks cannot share, or None."""
        if self.heads % tp:
            return "heads", self.heads
        return None if self.kv_heads % tp == 0 or tp % self.kv_heads == 0 else ("kv_heads", self.kv_heads)

    @property
    def kv_cache_bytes_per_token(self) -> int:
        """Bytes of keys and values that one token leaves, over all ranks."""
        return 2 * self.kv_heads * self.head_dim * self.dtype_bytes

    def cache_bytes(self, sequence_length: int) -> int:
        """Return the bytes that a sequence leaves in the cache, over all ranks: of the tokens still attended to."""
        limits = (limit for limit in (self.window, self.chunk) if limit is not None)
        return min(sequence_length, *limits, sequence_length) * self.kv_cache_bytes_per_token

    def num_kv_shards(self, tp: int) -> int:
        """Return the number of ranks that the keys and values of a token are split over."""
        return min(tp, self.kv_heads)

    def score_flops_per_token(self, sequence_length: int, *, causal: bool) -> float:
        """Return the FLOPs of QK' and PV for one token, averaged over the sequence."""
        attended = mean_attended(sequence_length, causal=causal, window=self.window, chunk=self.chunk)
        return 4.0 * attended * self.heads * self.head_dim

    def core(self, tokens: int, sequence_length: int, *, tp: int = 1) -> Attention:
        """Return the fused kernel of scores, softmax and values on one rank."""
        kv_heads = max(1, self.kv_heads // tp)
        width = (2 * self.heads // tp + 2 * kv_heads) * self.head_dim
        scores = tokens * self.score_flops_per_token(sequence_length, causal=True) / tp
        io_bytes = tokens * width * self.dtype_bytes
        return Attention(
            kind="attention",
            operation="attention",
            flops=scores,
            num_bytes=io_bytes,
            batch=tokens / sequence_length,
            query_length=sequence_length,
            kv_length=sequence_length,
            heads=self.heads // tp,
            kv_heads=kv_heads,
            head_dim=self.head_dim,
            value_dim=self.head_dim,
            window=self.window or self.chunk,
        )

    def kernels(self, tokens: int, sequence_length: int, *, tp: int = 1) -> MixerKernels:
        """Return the forward kernels of QKV, attention and output projection on one rank."""
        kv_width = max(1, self.kv_heads // tp) * self.head_dim
        q_width = self.heads // tp * self.head_dim
        num_q = 2 if self.has_gate else 1
        width, linear = num_q * q_width + 2 * kv_width, self.formats.linear
        before = linear(kind="attention", m=tokens, n=width, k=self.hidden, follows_norm=True)
        if self.has_bias:  # backward, the gradient is read and summed over the tokens
            add = self._elementwise("bias_add", tokens, width, num_tensors=2)
            before.append(replace(add, backward_bytes=float(tokens * width * self.dtype_bytes)))
        if self.has_rotary:
            before.append(self._rotation(tokens, q_width + kv_width))
        core = self.core(tokens, sequence_length, tp=tp)
        after = linear(kind="attention", m=tokens, n=self.hidden, k=q_width)
        if self.has_gate:
            after.insert(0, self._elementwise("gate", tokens, q_width, num_tensors=3))
        return MixerKernels(
            before=before,
            core=[core]
            if self.is_fused
            else unfused_kernels(core, dtype_bytes=self.dtype_bytes, has_dropout=self.has_dropout),
            after=after,
        )

    # ---- context parallelism -------------------------------------------------------------------------------------

    @property
    def mask_features(self) -> tuple[str, ...]:
        """What sets the scores apart from those of all earlier tokens: window, chunks, sinks."""
        has = {"window": self.window is not None, "chunks": self.chunk is not None, "sinks": self.has_sinks}
        return tuple(feature for feature, is_there in has.items() if is_there)

    def core_tensors(self, tp: int, cp: int = 1) -> CoreTensors:
        """Return queries, keys, values and output of a token on one of `tp` ranks."""
        del cp
        keys, queries = max(1, self.kv_heads // tp) * self.head_dim, self.heads // tp * self.head_dim
        return CoreTensors(inputs=(queries, keys, keys), output=queries, is_attention=True)

    def why_not_split_over_context(self, tp: int, cp: int) -> tuple[str, int] | None:
        """Return the heads of one of `tp` ranks, by name and number, that `cp` ranks cannot share, or None."""
        heads, kv_heads = self.heads // tp, max(1, self.kv_heads // tp)
        if heads % cp:
            return "heads", heads
        return ("KV heads", kv_heads) if kv_heads % cp else None

    def _rotation(self, tokens: int, width: int) -> Memory:
        """Return the rotary embedding of queries and keys, one kernel or several as one."""
        fused = self._elementwise("rotary", tokens, width, num_tensors=2)
        moved = self.fusions.moved_bytes("rotary", float(tokens * width), dtype_bytes=self.dtype_bytes)
        return fused if moved is None else replace(fused, num_bytes=moved[0], backward_bytes=moved[1])

    def _elementwise(self, operation: str, tokens: int, width: int, *, num_tensors: int) -> Memory:
        """Return a kernel that reads and writes `num_tensors` tensors of [tokens, width]."""
        num_bytes = float(num_tensors * tokens * width * self.dtype_bytes)
        return Memory(kind="attention", operation=operation, rows=tokens, width=width, num_bytes=num_bytes)

    # ---- recomputation -------------------------------------------------------------------------------------------

    def recomputed_kernels(self, recompute: Recompute, kernels: MixerKernels) -> list[Kernel]:
        """Return those of the forward `kernels` that the backward pass runs again."""
        return kernels.core if recompute.recomputes("core_attn") else []

    def recomputed_flops_per_token(self, recompute: Recompute, sequence_length: int) -> float:
        """Return the FLOPs that the backward pass recomputes of one token, all scores among them."""
        scores = self.score_flops_per_token(sequence_length, causal=False)
        return scores if recompute.recomputes("core_attn") else 0.0

    # ---- memory of a token on a rank -----------------------------------------------------------------------------

    def projected_elements(self, tp: int) -> float:
        """Return the elements of queries, keys, values, gate and of the output projection's input."""
        num_q = (4 if self.has_gate else 2) * self.heads
        return (num_q + 2 * self.kv_heads) * self.head_dim / tp

    def kept_bytes(self, recompute: Recompute, *, tp: int, sequence_shards: int, sequence_length: int) -> float:
        """Return the bytes of norm and attention that are kept for the backward pass."""
        dtype, hidden = self.dtype_bytes, self.hidden / sequence_shards
        kept = hidden + (0 if recompute.recomputes("layernorm") else hidden)
        kept += self.projected_elements(tp)
        if self.is_rotary:
            kept += (self.heads + self.kv_heads) * self.head_dim / tp
        scores = 0.0
        if not self.is_fused and not recompute.recomputes("core_attn"):
            attended = mean_attended(sequence_length, causal=False, window=self.window, chunk=self.chunk)
            scores = attended * self.heads / tp * (2 * dtype + 1 if self.has_dropout else dtype)
        # the norm's output is the projection's operand; that of attention is kept by attention, and as an operand
        operand = 0.0 if recompute.recomputes("layernorm") else hidden
        in_fp8 = self.formats.kept_bytes(operand, extra=self.heads * self.head_dim / tp)
        return kept * dtype + scores + (hidden if self.has_dropout else 0) + in_fp8

    def weight_pass_elements(self, *, tp: int, sequence_shards: int) -> float:
        """Return the elements kept from B to W: inputs of products and gradients of their outputs."""
        return 2 * self.hidden / sequence_shards + self.projected_elements(tp)

    def gradient_elements(self, *, tp: int, sequence_length: int) -> float:
        """Return the largest gradients inside: of scores and probabilities where they are kept, or of projections."""
        scores = 0 if self.is_fused else 2 * sequence_length * self.heads / tp
        return max(scores, self.projected_elements(tp))
