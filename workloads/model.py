"""A transformer language model, dense or mixture-of-experts: its shape, parameters and FLOPs.

Model
-----
    attention = hidden * head_dim * (2 * heads + 2 * kv_heads)           parameters of one layer
    ffn(w)    = (3 if gated else 2) * hidden * w                         of a dense FFN or of one expert of width w
    layer     = attention + 2 * hidden + (dense ffn | router + (experts + shared_experts) * ffn)
    model     = layers + hidden (last norm) + 2 * vocab * hidden         embedding and output head are not tied

    FLOPs of a token = 2 * parameters it meets + attention scores
    attention scores = 4 * s * heads * head_dim per layer (QK' and PV), half of it where the causal mask is used

Assumptions
-----------
No biases, RMS norms. Norms, activations and softmax count no FLOPs (they cost time by their bytes).

References
----------
Narayanan et al., "Efficient large-scale language model training on GPU clusters", 2021, section 5.1 (FLOPs).
"""

from dataclasses import dataclass

from sim.errors import InvalidValueError

__all__ = ["DTYPE_BYTES", "ModelSpec"]

DTYPE_BYTES = {"bf16": 2, "fp16": 2, "fp8": 1}
"""Bytes of one element by dtype."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """Shape of a transformer."""

    layers: int
    """Transformer layers."""
    hidden: int
    """Width of the residual stream."""
    heads: int
    """Query heads."""
    kv_heads: int
    """Key and value heads; fewer than `heads` is grouped-query attention."""
    head_dim: int
    """Width of one head."""
    ffn: int
    """Width of one expert, or of the FFN of a dense model."""
    dense_ffn: int
    """Width of the FFN of dense layers."""
    gated: bool = False
    """True for a gated FFN (three matrices), false for two."""
    experts: int = 0
    """Routed experts of a layer; 0 is a dense model."""
    shared_experts: int = 0
    """Experts that every token meets."""
    top_k: int = 0
    """Routed experts that a token meets."""
    dense_layers: int = 0
    """The first layers that have a dense FFN in a mixture-of-experts model."""
    vocab: int
    """Vocabulary."""
    dtype: str = "bf16"
    """Type of weights and activations: bf16, fp16 or fp8."""
    fused_attention: bool = True
    """False where attention keeps its scores for the backward pass; its time is that of fused attention in any case."""
    dropout: bool = False
    """True where dropout keeps its masks."""

    def __post_init__(self) -> None:
        require = self._require
        for field in ("layers", "hidden", "heads", "kv_heads", "head_dim", "ffn", "dense_ffn", "vocab"):
            require(getattr(self, field) >= 1, field, "be at least 1", "Give a positive whole number.")
        for field in ("experts", "shared_experts", "top_k", "dense_layers"):
            require(getattr(self, field) >= 0, field, "not be negative", "Give 0 where there is none.")
        require(self.dtype in DTYPE_BYTES, "dtype", f"be one of {', '.join(DTYPE_BYTES)}", "Use bf16.")
        whole = self.heads % self.kv_heads == 0
        require(whole, "kv_heads", f"divide heads = {self.heads}", "Each KV head serves equally many.")
        require(self.dense_layers <= self.layers, "dense_layers", f"be at most layers = {self.layers}", "Lower it.")
        if self.experts:
            known = 1 <= self.top_k <= self.experts
            require(known, "top_k", f"lie in 1..experts = {self.experts}", "A token meets distinct experts.")
        else:
            require(self.top_k == 0, "top_k", "be 0 in a dense model", "Set model.experts, or leave model.top_k out.")
            require(self.shared_experts == 0, "shared_experts", "be 0 in a dense model", "Set model.experts.")

    def _require(self, ok: bool, field: str, rule: str, hint: str) -> None:
        if not ok:
            raise InvalidValueError(field=f"model.{field}", rule=rule, value=getattr(self, field), hint=hint)

    @property
    def dtype_bytes(self) -> int:
        """Bytes of one weight or activation."""
        return DTYPE_BYTES[self.dtype]

    def is_moe_layer(self, layer: int) -> bool:
        """Tell whether layer number `layer` (from 0) routes its tokens to experts."""
        return self.experts > 0 and layer >= self.dense_layers

    @property
    def num_moe_layers(self) -> int:
        """Layers with routed experts."""
        return self.layers - self.dense_layers if self.experts else 0

    @property
    def num_attention_params(self) -> int:
        """Parameters of the attention of one layer: Q, K, V and output projections."""
        return self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads)

    @property
    def num_expert_params(self) -> int:
        """Parameters of one expert of one layer.

        >>> small = ModelSpec(layers=1, hidden=4, heads=2, kv_heads=2, head_dim=2, ffn=8, dense_ffn=8, vocab=10)
        >>> small.num_expert_params  # two matrices of 4 x 8
        64
        """
        return self._ffn_matrices * self.hidden * self.ffn

    @property
    def num_dense_ffn_params(self) -> int:
        """Parameters of the FFN of one dense layer."""
        return self._ffn_matrices * self.hidden * self.dense_ffn

    @property
    def num_embedding_params(self) -> int:
        """Parameters of the embedding; the output head has as many."""
        return self.vocab * self.hidden

    @property
    def num_params(self) -> int:
        """Parameters of the whole model."""
        return self._count_params(self.experts)

    @property
    def num_active_params(self) -> int:
        """Parameters that one token meets."""
        return self._count_params(self.top_k)

    def flops_per_token(self, sequence_length: int, *, causal: bool, with_head: bool) -> float:
        """Return the forward FLOPs of one token, averaged over its place in the sequence.

        Parameters
        ----------
        sequence_length
            Tokens of the sequence that attention looks over.
        causal
            True counts the half of the scores that a causal mask leaves; false counts all, as Megatron does.
        with_head
            Whether the output head is computed for the token.

        Examples
        --------
        >>> small = ModelSpec(layers=1, hidden=4, heads=2, kv_heads=2, head_dim=2, ffn=8, dense_ffn=8, vocab=10)
        >>> small.flops_per_token(6, causal=False, with_head=False)  # 2 * (64 + 64) + 4 * 6 * 4
        352.0
        """
        scores = self.layers * self.attention_score_flops_per_token(sequence_length, causal=causal)
        matrices = self.layers * self.num_attention_params
        matrices += self.num_moe_layers * (
            (self.top_k + self.shared_experts) * self.num_expert_params + self.hidden * self.experts
        )
        matrices += (self.layers - self.num_moe_layers) * self.num_dense_ffn_params
        matrices += self.num_embedding_params if with_head else 0
        return 2.0 * matrices + scores

    def attention_score_flops_per_token(self, sequence_length: int, *, causal: bool) -> float:
        """Return the FLOPs of QK' and PV of one layer for one token, averaged over the sequence."""
        full = 4.0 * sequence_length * self.heads * self.head_dim
        return full / 2 if causal else full

    @property
    def kv_cache_bytes_per_token_layer(self) -> int:
        """Bytes of keys and values that one token leaves in one layer."""
        return 2 * self.kv_heads * self.head_dim * self.dtype_bytes

    @property
    def _ffn_matrices(self) -> int:
        return 3 if self.gated else 2

    def _count_params(self, routed: int) -> int:
        attention = self.layers * (self.num_attention_params + 2 * self.hidden)
        moe = self.num_moe_layers * (
            (routed + self.shared_experts) * self.num_expert_params + self.hidden * self.experts
        )
        dense = (self.layers - self.num_moe_layers) * self.num_dense_ffn_params
        return attention + moe + dense + self.hidden + 2 * self.num_embedding_params

    def spread_layers(self, num_stages: int) -> list[int] | None:
        """Return the layers of each of `num_stages` equal stages, or None where they do not divide."""
        if self.layers % num_stages:
            return None
        return [self.layers // num_stages] * num_stages
