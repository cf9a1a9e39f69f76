"""Multi-head latent attention (MLA): keys and values are projected from one small latent vector of each token.

Model
-----
With n = qk_nope_head_dim, r = qk_rope_head_dim, v = v_head_dim, and latents of q_lora_rank and kv_lora_rank::

    parameters   queries   hidden * q_lora + q_lora * heads (n + r)          or hidden * heads (n + r) without q_lora
                 KV        hidden * (kv_lora + r) + kv_lora * heads (n + v)
                 output    heads * v * hidden
                 norms     q_lora + kv_lora
    scores       2 * a(s) * heads * (n + r + v) FLOPs of a token             a(s): see `workloads.blocks.attention`
    KV cache     kv_lora + r values of a token, whole on every TP rank
    kernels      down projections -> norms -> up projections [T, q_lora] x [., heads (n + r) / t] and
                 [T, kv_lora] x [., heads (n + v) / t] -> fused attention -> out

Prefill and training project keys and values of every head up (unabsorbed).  Decode never does: `W_UK` is absorbed into
the queries and `W_UV` into the output, so that each head attends over the latent vectors themselves::

    decode       q_up, absorb [B, n] x [n, kv_lora] of each head, scores 2 c (kv_lora + r) and values 2 c kv_lora FLOPs
                 of a head over c cached tokens, read once for all heads, absorb [B, kv_lora] x [kv_lora, v], out

Assumptions
-----------
The down projections and the norms of the latents are computed whole by every TP rank, of all tokens (Megatron-LM
computes them of a rank's own tokens under sequence parallelism: pessimistic). No biases.

References
----------
DeepSeek-AI, "DeepSeek-V2: a strong, economical, and efficient mixture-of-experts language model", 2024, section 2.1 and
appendix C (the equations), section 2.1.2 (absorption). Megatron-LM, `multi_latent_attention.py` (what TP splits).
"""

from dataclasses import dataclass

from workloads.blocks.attention import mean_attended, unfused_kernels
from workloads.blocks.core import CoreTensors, MixerKernels
from workloads.blocks.recompute import Recompute
from workloads.formats import BF16, Formats
from workloads.kernels import Attention, Gemm, Kernel, Memory

__all__ = ["LatentAttention"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentAttention:
    """The latent attention of one layer.

    >>> v3 = LatentAttention(hidden=7168, heads=128, q_lora_rank=1536, kv_lora_rank=512, qk_nope_head_dim=128,
    ...     qk_rope_head_dim=64, v_head_dim=128, dtype_bytes=2, is_fused=True, has_dropout=False)
    >>> v3.num_params, v3.kv_cache_bytes_per_token  # (512 + 64) * 2 bytes
    (187107328, 1152)
    """

    hidden: int
    heads: int
    q_lora_rank: int | None
    """Width of the latent of the queries; None: queries are projected from the hidden state."""
    kv_lora_rank: int
    """Width of the latent of keys and values."""
    qk_nope_head_dim: int
    """Width of the part of a query or key head without rotary embedding."""
    qk_rope_head_dim: int
    """Width of the part with rotary embedding; all heads share that of the keys."""
    v_head_dim: int
    """Width of a value head."""
    dtype_bytes: int
    is_fused: bool
    """Whether the scores are never kept for the backward pass."""
    has_dropout: bool
    """Whether masks of dropout are kept."""
    window: int | None = None
    """Tokens that a token attends to, itself among them; None: all tokens before it."""
    formats: Formats = BF16
    """Types of operands."""

    @property
    def head_width(self) -> int:
        """Width of a query or key head."""
        return self.qk_nope_head_dim + self.qk_rope_head_dim

    @property
    def latent_width(self) -> int:
        """Values of a token in the cache: the latent and the shared rotary part of the key."""
        return self.kv_lora_rank + self.qk_rope_head_dim

    @property
    def num_matrix_params(self) -> int:
        """Parameters of matrix products, of all ranks."""
        return self._num_down_params + self._num_split_params

    @property
    def num_params(self) -> int:
        """Parameters of all ranks."""
        return self.num_matrix_params + self._num_norm_params

    def num_params_per_rank(self, tp: int) -> int:
        """Return the parameters of a rank, which has the down projections and the norms whole."""
        return self._num_down_params + self._num_norm_params + self._num_split_params // tp

    def why_not_split(self, tp: int) -> tuple[str, int] | None:
        """Return the field and number of heads that `tp` ranks cannot share, or None."""
        return ("heads", self.heads) if self.heads % tp else None

    @property
    def kv_cache_bytes_per_token(self) -> int:
        """Bytes of the latent that one token leaves."""
        return self.latent_width * self.dtype_bytes

    def cache_bytes(self, sequence_length: int) -> int:
        """Return the bytes that a sequence leaves in the cache of each rank: of the tokens still attended to."""
        return min(sequence_length, self.window or sequence_length) * self.kv_cache_bytes_per_token

    def num_kv_shards(self, tp: int) -> int:
        """Return the number of ranks that the latent of a token is split over: one, for every TP rank has it whole."""
        del tp
        return 1

    def score_flops_per_token(self, sequence_length: int, *, causal: bool) -> float:
        """Return the FLOPs of QK' and PV for one token, averaged over the sequence."""
        attended = mean_attended(sequence_length, causal=causal, window=self.window)
        return 2.0 * attended * self.heads * (self.head_width + self.v_head_dim)

    def core(self, tokens: int, sequence_length: int, *, tp: int = 1) -> Attention:
        """Return the fused kernel of scores, softmax and values on one rank, in prefill and training."""
        heads = self.heads // tp
        widths = heads * 2 * (self.head_width + self.v_head_dim)
        return Attention(
            kind="attention",
            operation="mla",
            flops=tokens * self.score_flops_per_token(sequence_length, causal=True) / tp,
            num_bytes=float(tokens * widths * self.dtype_bytes),
            batch=tokens / sequence_length,
            query_length=sequence_length,
            kv_length=sequence_length,
            heads=heads,
            kv_heads=heads,
            head_dim=self.head_width,
            value_dim=self.v_head_dim,
            window=self.window,
        )

    def kernels(self, tokens: int, sequence_length: int, *, tp: int = 1) -> MixerKernels:
        """Return the forward kernels of projections and attention on one rank, in prefill and training."""
        core, width = self.core(tokens, sequence_length, tp=tp), self.heads // tp * self.v_head_dim
        return MixerKernels(
            before=[
                *self._down_kernels(tokens),
                self._latent_norms(tokens),
                *self._up_kernels(tokens, tp=tp),
                self._rotary(tokens, tp=tp),
            ],
            core=[core]
            if self.is_fused
            else unfused_kernels(core, dtype_bytes=self.dtype_bytes, has_dropout=self.has_dropout),
            after=self.formats.linear(kind="attention", m=tokens, n=self.hidden, k=width),
        )

    def decode_kernels(self, sequences: int, context: int, *, tp: int = 1) -> list[Kernel]:
        """Return the kernels of one new token of each of some sequences on one rank, with absorbed projections.

        Parameters
        ----------
        sequences
            Sequences that each have one new token.
        context
            Tokens of a sequence that the new token attends to.
        """
        heads, attended = self.heads // tp, min(context, self.window or context)
        q_rank = self.q_lora_rank or self.hidden
        per_head = self.latent_width + self.kv_lora_rank  # query or score's side, and the result
        flops = 2.0 * sequences * attended * heads * per_head
        moved = sequences * (attended * self.latent_width + heads * per_head)
        absorbed = [  # one product of each head
            Gemm(kind="attention", m=sequences, n=heads * width, k=self.kv_lora_rank)
            for width in (self.qk_nope_head_dim, self.v_head_dim)
        ]
        down = (self.q_lora_rank or 0) + self.latent_width  # one product, as in vLLM and SGLang
        return [
            *self.formats.linear(kind="attention", m=sequences, n=down, k=self.hidden, follows_norm=True),
            *self.formats.linear(kind="attention", m=sequences, n=heads * self.head_width, k=q_rank),
            absorbed[0],
            Attention(
                kind="attention",
                operation="mla_decode",
                flops=flops,
                num_bytes=float(moved * self.dtype_bytes),
                batch=sequences,
                query_length=1,
                kv_length=attended,
                heads=heads,
                kv_heads=1,
                head_dim=self.latent_width,
                value_dim=self.kv_lora_rank,
                is_causal=False,
            ),
            absorbed[1],
            *self.formats.linear(kind="attention", m=sequences, n=self.hidden, k=heads * self.v_head_dim),
        ]

    # ---- context parallelism -------------------------------------------------------------------------------------

    @property
    def mask_features(self) -> tuple[str, ...]:
        """What sets the scores apart from those of all earlier tokens: a window."""
        return () if self.window is None else ("window",)

    def core_tensors(self, tp: int, cp: int = 1) -> CoreTensors:
        """Return queries, keys, values and output of a token on one of `tp` ranks: of every head, projected up."""
        del cp
        heads = self.heads // tp
        queries, values = heads * self.head_width, heads * self.v_head_dim
        return CoreTensors(inputs=(queries, queries, values), output=values, is_attention=True)

    def why_not_split_over_context(self, tp: int, cp: int) -> tuple[str, int] | None:
        """Return the heads of one of `tp` ranks, by name and number, that `cp` ranks cannot share, or None."""
        heads = self.heads // tp
        return ("heads", heads) if heads % cp else None

    # ---- recomputation -------------------------------------------------------------------------------------------

    def recomputed_kernels(self, recompute: Recompute, kernels: MixerKernels) -> list[Kernel]:
        """Return those of the forward `kernels` that the backward pass runs again."""
        recomputed: list[Kernel] = []
        if recompute.recomputes("mla_up_proj"):  # norms of the latents, projections up, rotary embedding
            is_norm = (isinstance(kernel, Memory) and kernel.operation == "norm" for kernel in kernels.before)
            norm = list(is_norm).index(True)
            recomputed += kernels.before[norm:]
        if recompute.recomputes("core_attn"):
            recomputed += kernels.core
        return recomputed

    def recomputed_flops_per_token(self, recompute: Recompute, sequence_length: int) -> float:
        """Return the FLOPs that the backward pass recomputes of one token, all scores among them."""
        flops = 2.0 * self._num_up_params if recompute.recomputes("mla_up_proj") else 0.0
        scores = self.score_flops_per_token(sequence_length, causal=False)
        return flops + (scores if recompute.recomputes("core_attn") else 0.0)

    # ---- memory of a token on a rank -----------------------------------------------------------------------------

    @property
    def _latent_elements(self) -> int:
        """Elements of the latents before their norms, the rotary part of the key among them."""
        return (self.q_lora_rank or 0) + self.latent_width

    def _projected_up_elements(self, tp: int) -> float:
        """Elements of queries, keys and values of the heads of a rank."""
        return self.heads * (2 * self.head_width + self.v_head_dim) / tp

    def projected_elements(self, tp: int) -> float:
        """Return the elements of latents, queries, keys, values and of the output projection's input."""
        return self._latent_elements + self._projected_up_elements(tp) + self.heads * self.v_head_dim / tp

    def kept_bytes(self, recompute: Recompute, *, tp: int, sequence_shards: int, sequence_length: int) -> float:
        """Return the bytes of norm and attention that are kept for the backward pass."""
        dtype, hidden = self.dtype_bytes, self.hidden / sequence_shards
        kept = hidden + (0 if recompute.recomputes("layernorm") else hidden)
        kept += self._latent_elements / sequence_shards + self.heads * self.v_head_dim / tp
        if not recompute.recomputes("mla_up_proj"):
            kept += self._num_norm_params + self._projected_up_elements(tp)
        scores = 0.0
        if not self.is_fused and not recompute.recomputes("core_attn"):
            attended = mean_attended(sequence_length, causal=False, window=self.window)
            scores = attended * self.heads / tp * (2 * dtype + 1 if self.has_dropout else dtype)
        # outputs of norms are the projections' operands; that of attention is kept by attention, and as an operand
        operands = 0.0 if recompute.recomputes("layernorm") else hidden
        operands += 0.0 if recompute.recomputes("mla_up_proj") else self._num_norm_params
        in_fp8 = self.formats.kept_bytes(operands, extra=self.heads * self.v_head_dim / tp)
        return kept * dtype + scores + (hidden if self.has_dropout else 0) + in_fp8

    def weight_pass_elements(self, *, tp: int, sequence_shards: int) -> float:
        """Return the elements kept from B to W: inputs of products and gradients of their outputs."""
        latents = self._latent_elements + self._num_norm_params
        return 2 * self.hidden / sequence_shards + latents + self._up_width / tp + self.heads * self.v_head_dim / tp

    def gradient_elements(self, *, tp: int, sequence_length: int) -> float:
        """Return the largest gradients inside: of scores and probabilities where they are kept, or of projections."""
        scores = 0 if self.is_fused else 2 * sequence_length * self.heads / tp
        return max(scores, self.projected_elements(tp))

    # ---- private -------------------------------------------------------------------------------------------------

    @property
    def _up_width(self) -> int:
        """Outputs of the up projections: queries, and keys without rotary part and values."""
        return self.heads * (self.head_width + self.qk_nope_head_dim + self.v_head_dim)

    @property
    def _num_norm_params(self) -> int:
        """Parameters of the norms of the latents, as many as elements that the norms put out."""
        return (self.q_lora_rank or 0) + self.kv_lora_rank

    @property
    def _num_down_params(self) -> int:
        return self.hidden * self._latent_elements

    @property
    def _num_up_params(self) -> int:
        queries = (self.q_lora_rank or self.hidden) * self.heads * self.head_width
        return queries + self.kv_lora_rank * self.heads * (self.qk_nope_head_dim + self.v_head_dim)

    @property
    def _num_split_params(self) -> int:
        """Parameters that TP splits by heads: up projections and output."""
        return self._num_up_params + self.heads * self.v_head_dim * self.hidden

    def _latent_norms(self, tokens: int) -> Memory:
        width = self._num_norm_params
        num_bytes = 2.0 * tokens * width * self.dtype_bytes
        return Memory(kind="attention", operation="norm", rows=tokens, width=width, num_bytes=num_bytes)

    def _rotary(self, tokens: int, *, tp: int) -> Memory:
        """Return the rotation of queries in place, and of keys, which the kernel puts together for every head.

        Keys and values of a head leave the projection side by side: the kernel reads both and writes both apart
        (Megatron-LM, `fused_mla_yarn_rope_apply.py`).
        """
        read = self.qk_rope_head_dim + self.qk_nope_head_dim + self.v_head_dim
        written = self.qk_rope_head_dim + self.head_width + self.v_head_dim
        width = self.heads // tp * written
        num_bytes = float(tokens * (width + self.heads // tp * read) * self.dtype_bytes)
        return Memory(kind="attention", operation="rotary", rows=tokens, width=width, num_bytes=num_bytes)

    def _down_kernels(self, tokens: int) -> list[Kernel]:
        widths = [self.q_lora_rank, self.latent_width] if self.q_lora_rank else [self.latent_width]
        linear = self.formats.linear
        return [
            kernel
            for width in widths
            for kernel in linear(kind="attention", m=tokens, n=width, k=self.hidden, follows_norm=True)
        ]

    def _up_kernels(self, tokens: int, *, tp: int) -> list[Kernel]:
        heads = self.heads // tp
        kv_width = heads * (self.qk_nope_head_dim + self.v_head_dim)
        shapes = ((heads * self.head_width, self.q_lora_rank or self.hidden), (kv_width, self.kv_lora_rank))
        linear = self.formats.linear
        return [kernel for n, k in shapes for kernel in linear(kind="attention", m=tokens, n=n, k=k, follows_norm=True)]
