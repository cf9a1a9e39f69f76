"""A transformer language model, dense or mixture-of-experts: its shape, parameters and FLOPs.

Model
-----
    layer     = attention + 2 * hidden (norms) + FFN, dense or of experts      see `workloads.blocks`
    model     = layers + hidden (last norm) + 2 * vocab * hidden               embedding and output head are not tied

    FLOPs of a token = 2 * parameters that it meets + attention scores

Assumptions
-----------
No biases, RMS norms. Norms, activations and softmax count no FLOPs (they cost time by their bytes).

References
----------
Narayanan et al., "Efficient large-scale language model training on GPU clusters", 2021, section 5.1 (FLOPs).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sim.errors import InvalidValueError
from workloads.blocks.attention import GroupedQueryAttention
from workloads.blocks.ffn import DenseFfn, MoeFfn
from workloads.blocks.layer import Layer
from workloads.blocks.recompute import Recompute

__all__ = ["DTYPE_BYTES", "ModelSpec"]

DTYPE_BYTES = {"bf16": 2, "fp16": 2, "fp8": 1}
"""Bytes of one element by dtype."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """The shape of a transformer, which is checked when it is built.

    Examples
    --------
    >>> small = ModelSpec(layers=1, hidden=8, heads=4, ffn=16, vocab=10)
    >>> small.kv_heads, small.head_dim, small.dense_ffn
    (4, 2, 16)
    """

    layers: int
    """Number of transformer layers."""
    hidden: int
    """Width of the residual stream."""
    heads: int
    """Number of query heads."""
    kv_heads: int = None  # type: ignore[assignment]  # filled in when the model is built
    """Number of key and value heads; fewer than `heads` is grouped-query attention. Default: `heads`."""
    head_dim: int = None  # type: ignore[assignment]  # filled in when the model is built
    """Width of one head. Default: `hidden` / `heads`."""
    ffn: int
    """Width of one expert, or of the FFN of a dense model."""
    dense_ffn: int = None  # type: ignore[assignment]  # filled in when the model is built
    """Width of the FFN of dense layers. Default: `ffn`."""
    gated: bool = False
    """Whether an FFN has three matrices (SwiGLU) instead of two."""
    experts: int = 0
    """Number of routed experts of a layer; 0 is a dense model."""
    shared_experts: int = 0
    """Number of experts that every token meets."""
    top_k: int = 0
    """Number of routed experts that a token meets."""
    dense_layers: int = 0
    """Number of first layers that have a dense FFN in a mixture-of-experts model."""
    vocab: int
    """Entries of the vocabulary."""
    dtype: str = "bf16"
    """Type of weights and activations: bf16, fp16 or fp8."""
    fused_attention: bool = True
    """Whether attention never keeps its scores for the backward pass; false costs memory, not time."""
    dropout: bool = False
    """Whether dropout keeps its masks, which costs memory, not time."""

    def __post_init__(self) -> None:
        require = self._require
        for key in ("layers", "hidden", "heads", "ffn", "vocab"):
            require(getattr(self, key) >= 1, key, "be at least 1", "Give a positive whole number.")
        if self.head_dim is None:
            hint = "Give model.head_dim, or change hidden or heads."
            require(self.hidden % self.heads == 0, "hidden", f"be a multiple of model.heads = {self.heads}", hint)
        derived = {"kv_heads": self.heads, "head_dim": self.hidden // self.heads, "dense_ffn": self.ffn}
        for key, value in derived.items():
            if getattr(self, key) is None:
                object.__setattr__(self, key, value)
            require(getattr(self, key) >= 1, key, "be at least 1", "Give a positive whole number.")
        for key in ("experts", "shared_experts", "top_k", "dense_layers"):
            require(getattr(self, key) >= 0, key, "not be negative", "Give 0 where there is none.")
        require(self.dtype in DTYPE_BYTES, "dtype", f"be one of {', '.join(DTYPE_BYTES)}", "Use bf16.")
        self._check_parts()

    def _check_parts(self) -> None:
        """Refuse parts that are more than their whole, or that a dense model does not have."""
        require = self._require
        if not self.experts:
            for key in ("top_k", "shared_experts"):
                hint = "Give model.experts, or remove this key."
                require(getattr(self, key) == 0, key, "be left out of a dense model", hint)
        else:
            require(self.top_k >= 1, "top_k", "be at least 1 with experts", "Give the experts that a token meets.")
            require(self.top_k <= self.experts, "top_k", f"be at most model.experts = {self.experts}", "Lower top_k.")
        for key, whole in (("dense_layers", "layers"), ("kv_heads", "heads")):
            limit = getattr(self, whole)
            require(getattr(self, key) <= limit, key, f"be at most model.{whole} = {limit}", f"Lower {key}.")
        hint = "Each key and value head serves equally many heads."
        require(self.heads % self.kv_heads == 0, "kv_heads", f"divide model.heads = {self.heads}", hint)

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

    # ---- blocks of layers ----------------------------------------------------------------------------------------

    @property
    def attention(self) -> GroupedQueryAttention:
        """The attention of every layer."""
        return GroupedQueryAttention(
            hidden=self.hidden,
            heads=self.heads,
            kv_heads=self.kv_heads,
            head_dim=self.head_dim,
            dtype_bytes=self.dtype_bytes,
            is_fused=self.fused_attention,
            has_dropout=self.dropout,
        )

    @property
    def plain_ffn(self) -> DenseFfn:
        """The FFN of dense layers."""
        return self._ffn_of_width(self.dense_ffn)

    @property
    def moe_ffn(self) -> MoeFfn:
        """The FFN of layers with routed experts."""
        return MoeFfn(
            expert=self._ffn_of_width(self.ffn),
            experts=self.experts,
            shared_experts=self.shared_experts,
            top_k=self.top_k,
        )

    def layer(self, number: int) -> Layer:
        """Return layer number `number` (from 0)."""
        return Layer(attention=self.attention, ffn=self.moe_ffn if self.is_moe_layer(number) else self.plain_ffn)

    def layer_kinds(self, numbers: Sequence[int]) -> list[tuple[Layer, int]]:
        """Return each kind of layer among the layers of some numbers, and how many are of that kind.

        >>> small = ModelSpec(layers=5, hidden=4, heads=2, ffn=8, experts=2, top_k=1, dense_layers=2, vocab=10)
        >>> [(layer.is_moe, count) for layer, count in small.layer_kinds(range(5))]
        [(False, 2), (True, 3)]
        """
        num_moe = sum(map(self.is_moe_layer, numbers))
        return self._counted_kinds(len(numbers) - num_moe, num_moe)

    # ---- parameters and FLOPs ------------------------------------------------------------------------------------

    @property
    def num_attention_params(self) -> int:
        """Parameters of the attention of one layer: Q, K, V and output projections."""
        return self.attention.num_params

    @property
    def num_expert_params(self) -> int:
        """Parameters of one expert of one layer.

        >>> ModelSpec(layers=1, hidden=4, heads=2, ffn=8, vocab=10).num_expert_params  # two matrices of 4 x 8
        64
        """
        return self._ffn_of_width(self.ffn).num_params

    @property
    def num_dense_ffn_params(self) -> int:
        """Parameters of the FFN of one dense layer."""
        return self.plain_ffn.num_params

    @property
    def num_embedding_params(self) -> int:
        """Parameters of the embedding; the output head has as many."""
        return self.vocab * self.hidden

    @property
    def num_params(self) -> int:
        """Parameters of the whole model."""
        return sum(count * layer.num_params for layer, count in self._layer_kinds) + self._num_params_outside_layers

    @property
    def num_active_params(self) -> int:
        """Parameters that one token meets: of the input embedding a single row, of the output head all.

        >>> ModelSpec(layers=1, hidden=4, heads=2, ffn=8, vocab=10).num_active_params  # 136 + 4 + 4 + 10 * 4
        184
        """
        active = sum(count * layer.num_active_params for layer, count in self._layer_kinds)
        return active + self._num_params_outside_layers - (self.vocab - 1) * self.hidden

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
        >>> small = ModelSpec(layers=1, hidden=4, heads=2, ffn=8, vocab=10)
        >>> small.flops_per_token(6, causal=False, with_head=False)  # 2 * (64 + 64) + 4 * 6 * 4
        352.0
        """
        layers = sum(
            count * layer.flops_per_token(sequence_length, causal=causal) for layer, count in self._layer_kinds
        )
        return layers + 2.0 * (self.num_embedding_params if with_head else 0)

    def recomputed_flops_per_token(self, recompute: Recompute, sequence_length: int) -> float:
        """Return the FLOPs that the backward passes of all layers recompute of one token."""
        return sum(
            count * layer.recomputed_flops_per_token(recompute, sequence_length) for layer, count in self._layer_kinds
        )

    def attention_score_flops_per_token(self, sequence_length: int, *, causal: bool) -> float:
        """Return the FLOPs of QK' and PV of one layer for one token, averaged over the sequence."""
        return self.attention.score_flops_per_token(sequence_length, causal=causal)

    @property
    def kv_cache_bytes_per_token_layer(self) -> int:
        """Bytes of keys and values that one token leaves in one layer."""
        return self.attention.kv_cache_bytes_per_token

    def spread_layers(self, num_stages: int) -> list[int] | None:
        """Return the layers of each of `num_stages` equal stages, or None where they do not divide."""
        if self.layers % num_stages:
            return None
        return [self.layers // num_stages] * num_stages

    # ---- private -------------------------------------------------------------------------------------------------

    def _ffn_of_width(self, width: int) -> DenseFfn:
        return DenseFfn(
            hidden=self.hidden,
            width=width,
            is_gated=self.gated,
            dtype_bytes=self.dtype_bytes,
            has_dropout=self.dropout,
        )

    def _counted_kinds(self, num_dense: int, num_moe: int) -> list[tuple[Layer, int]]:
        """Return the kinds of layers, with their counts where these are not 0."""
        attention = self.attention
        kinds = [(Layer(attention=attention, ffn=self.plain_ffn), num_dense)] if num_dense else []
        return [*kinds, (Layer(attention=attention, ffn=self.moe_ffn), num_moe)] if num_moe else kinds

    @property
    def _layer_kinds(self) -> list[tuple[Layer, int]]:
        """Kinds of all layers of the model."""
        return self._counted_kinds(self.layers - self.num_moe_layers, self.num_moe_layers)

    @property
    def _num_params_outside_layers(self) -> int:
        """Parameters of the last norm, embedding and output head."""
        return self.hidden + 2 * self.num_embedding_params
