"""A transformer language model, dense or mixture-of-experts: its shape, parameters and FLOPs.

Model
-----
    layer     = attention + FFN, dense or of experts, each with a norm         see `workloads.blocks`
    model     = layers + hidden (last norm) + 2 * vocab * hidden               embedding and output head
                one vocab * hidden where they are tied; n_positions * hidden where positions are learned

    FLOPs of a token = 2 * parameters that it meets + attention scores

Layers that predict further tokens (MTP) are numbered after the others. Training runs and holds them; they are not part
of the published size of a model, nor of `num_params`.

Assumptions
-----------
No biases, RMS norms. Norms, activations and softmax count no FLOPs (they cost time by their bytes).

References
----------
Narayanan et al., "Efficient large-scale language model training on GPU clusters", 2021, section 5.1 (FLOPs).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from sim.errors import InvalidValueError
from workloads.blocks.ffn import DenseFfn, MoeFfn
from workloads.blocks.layer import Layer, Mixer
from workloads.blocks.recompute import Recompute
from workloads.formats import BF16, Formats
from workloads.fusions import ALL_FUSED, Fusions
from workloads.layer_kinds import PATTERN_LETTERS, attention_of_kind, check_kinds, kinds_of_parts

__all__ = ["DTYPE_BYTES", "ModelSpec"]

DTYPE_BYTES = {"bf16": 2, "fp16": 2, "fp8": 1}
"""Bytes of one weight by dtype, where the model is served."""
_ACTIVATION_BYTES = 2
"""Bytes of one element of the residual stream, and of keys and values: bf16 or fp16 whatever the products run in."""


# No slots: layers and counts of parameters are kept on the model from their first use on.
@dataclass(frozen=True, kw_only=True)
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
    """Width of the hidden state."""
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
    """Type of weights and activations: bf16 or fp16; fp8: products and served weights in fp8, all else in bf16."""
    fused_attention: bool = True
    """Whether scores stay inside of a kernel; false: they pass through memory and are kept for the backward pass."""
    dropout: bool = False
    """Whether dropout runs, and keeps its masks."""
    add_bias_linear: bool = False
    """Whether linears of attention and of dense FFNs have biases, as in GPT-2 and GPT-3; their kernels are counted, and
    not their parameters, a few thousandths."""
    q_lora_rank: int | None = None
    """Width of the latent of the queries of MLA; None: queries are projected from the hidden state."""
    kv_lora_rank: int | None = None
    """Width of the latent of keys and values; given, attention is multi-head latent attention (MLA)."""
    qk_nope_head_dim: int | None = None
    """Width of the part of an MLA query or key head without rotary embedding."""
    qk_rope_head_dim: int | None = None
    """Width of the part of an MLA query or key head with rotary embedding."""
    v_head_dim: int | None = None
    """Width of an MLA value head."""
    sliding_window: int | None = None
    """Tokens that a token attends to in layers with a sliding window."""
    sliding_window_every: int | None = None
    """The first of every so many layers has the sliding window. Default: 1, all layers."""
    attention_chunk_size: int | None = None
    """Tokens of the chunks that layers of chunked attention do not look beyond."""
    layer_types: tuple[str, ...] | None = None
    """Kind of attention of each layer; a shorter list is repeated."""
    hybrid_override_pattern: str | None = None
    """Layers of a hybrid model, a letter for each: `*` attention, `M` Mamba-2, `-` dense FFN, `E` experts; repeated."""
    mtp_hybrid_override_pattern: str | None = None
    """Parts of each MTP layer of a hybrid model, in the same letters, such as `*E`. Default: as the last layer."""
    attention_sinks: bool = False
    """Whether each head has a learned sink."""
    attn_output_gate: bool = False
    """Whether the output of softmax attention is multiplied by a gate."""
    unfused_rotary_embedding: bool = False
    """Whether a kernel of its own rotates queries and keys and keeps both and the projection: memory alone."""
    linear_num_key_heads: int | None = None
    """Key heads of linear attention (gated delta net)."""
    linear_num_value_heads: int | None = None
    """Value heads of linear attention."""
    linear_key_head_dim: int | None = None
    """Width of a key head of linear attention."""
    linear_value_head_dim: int | None = None
    """Width of a value head of linear attention."""
    linear_conv_kernel_dim: int | None = None
    """Tokens of the short convolution of linear attention."""
    mamba_num_heads: int | None = None
    """Heads of a Mamba-2 layer."""
    mamba_head_dim: int | None = None
    """Width of a head of a Mamba-2 layer."""
    ssm_state_size: int | None = None
    """Values of the state of each channel of a Mamba-2 layer."""
    n_groups: int | None = None
    """Groups of heads of a Mamba-2 layer."""
    conv_kernel: int | None = None
    """Tokens of the short convolution of a Mamba-2 layer."""
    chunk_size: int | None = None
    """Tokens of a chunk of the scan of a Mamba-2 layer."""
    moe_every: int = 1
    """The last of every so many layers has experts, and the others a dense FFN."""
    shared_expert_intermediate_size: int | None = None
    """Width of one shared expert. Default: `ffn`."""
    moe_latent_size: int | None = None
    """Width of a latent that tokens are projected to before routed experts, and from after them; null: no latent."""
    shared_expert_gate: bool = False
    """Whether the output of the shared experts is multiplied by a gate of each token."""
    scoring_func: str = "softmax"
    """How the router weighs experts (softmax or sigmoid), which costs no time."""
    use_routing_bias: bool = False
    """Whether a bias of each expert takes part in the choice of experts."""
    num_nextn_predict_layers: int = 0
    """Layers after the last that predict a further token each (MTP); training alone runs and holds them."""
    tie_word_embeddings: bool = False
    """Whether the output head is the embedding."""
    n_positions: int = 0
    """Learned embeddings of positions; 0: rotary embedding, or none."""
    make_vocab_size_divisible_by: int | None = None
    """The vocabulary is padded to a multiple of this x TP, as Megatron does; None: it is not padded."""
    fp32_lm_head: bool = False
    """Whether the output head is computed in 4 bytes, at the rate of TF32."""
    formats: Formats = BF16
    """Types of operands, which the runtime says: no key of the model."""
    fusions: Fusions = ALL_FUSED
    """What software fuses, which the runtime says: no key of the model."""

    def __post_init__(self) -> None:
        require = self.require
        for key in ("layers", "hidden", "heads", "ffn", "vocab"):
            require(getattr(self, key) >= 1, key, "be at least 1", "Give a positive whole number.")
        if self.head_dim is None and self.kv_lora_rank is None:
            hint = "Give model.head_dim, or change hidden or heads."
            require(self.hidden % self.heads == 0, "hidden", f"be a multiple of model.heads = {self.heads}", hint)
        derived = {"kv_heads": self.heads, "head_dim": max(1, self.hidden // self.heads), "dense_ffn": self.ffn}
        for key, value in derived.items():
            if getattr(self, key) is None:
                object.__setattr__(self, key, value)
            require(getattr(self, key) >= 1, key, "be at least 1", "Give a positive whole number.")
        for key in ("experts", "shared_experts", "top_k", "dense_layers", "num_nextn_predict_layers", "n_positions"):
            require(getattr(self, key) >= 0, key, "not be negative", "Give 0 where there is none.")
        require(self.dtype in DTYPE_BYTES, "dtype", f"be one of {', '.join(DTYPE_BYTES)}", "Use bf16.")
        self._check_parts()
        check_kinds(self)

    def _check_parts(self) -> None:
        """Refuse parts that are more than their whole, or that a dense model does not have."""
        require = self.require
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

    def require(self, ok: bool, field: str, rule: str, hint: str) -> None:
        """Refuse a field unless a rule holds."""
        if not ok:
            value = getattr(self, field)
            shown = "nothing" if value is None else value
            raise InvalidValueError(field=f"model.{field}", rule=rule, value=shown, hint=hint)

    @property
    def dtype_bytes(self) -> int:
        """Bytes of one activation, and of one weight that is trained."""
        return _ACTIVATION_BYTES

    @property
    def weight_bytes(self) -> int:
        """Bytes of one weight, where the model is served."""
        return DTYPE_BYTES[self.dtype]

    @property
    def base_dtype(self) -> str:
        """Type of all that no recipe casts: bf16 or fp16."""
        return "bf16" if self.dtype == "fp8" else self.dtype

    @property
    def product_dtype(self) -> str:
        """Type of the products of linear layers, of whose peak a run uses a part."""
        return self.base_dtype if self.formats.recipe is None else "fp8"

    @property
    def logit_bytes(self) -> int:
        """Bytes of one output of the head."""
        return 4 if self.fp32_lm_head else self.dtype_bytes

    # ---- layers --------------------------------------------------------------------------------------------------

    @property
    def expert_hidden(self) -> int:
        """Width of the inputs of routed experts, which are sent to them."""
        return self.moe_latent_size or self.hidden

    @property
    def has_latent_attention(self) -> bool:
        """Whether softmax attention is multi-head latent attention."""
        return self.kv_lora_rank is not None

    @property
    def num_all_layers(self) -> int:
        """Number of layers, those that predict further tokens (MTP) among them."""
        return self.layers + self.num_nextn_predict_layers

    def is_mtp_layer(self, layer: int) -> bool:
        """Tell whether layer number `layer` (from 0) predicts a further token."""
        return layer >= self.layers

    def attention_kind(self, layer: int) -> str | None:
        """Return the kind of attention of layer number `layer`, of `LAYER_TYPES`; None where it has none.

        >>> ModelSpec(layers=2, hidden=4, heads=2, ffn=8, vocab=10, sliding_window=4).attention_kind(1)
        'sliding_attention'
        """
        if self.hybrid_override_pattern is not None:
            return PATTERN_LETTERS[self.hybrid_override_pattern[layer % len(self.hybrid_override_pattern)]][0]
        if self.layer_types is not None:
            return self.layer_types[layer % len(self.layer_types)]
        has_window = self.sliding_window is not None and layer % (self.sliding_window_every or 1) == 0
        return "sliding_attention" if has_window else "full_attention"

    def ffn_kind(self, layer: int) -> str | None:
        """Return `dense` or `experts`, the FFN of layer number `layer`; None where it has none."""
        if self.hybrid_override_pattern is not None:
            return PATTERN_LETTERS[self.hybrid_override_pattern[layer % len(self.hybrid_override_pattern)]][1]
        has_experts = self.experts > 0 and layer >= self.dense_layers and (layer + 1) % self.moe_every == 0
        return "experts" if has_experts else "dense"

    def layer(self, number: int) -> Layer:
        """Return layer number `number` (from 0); layers of one kind are one object."""
        return self._layers[number]

    def is_moe_layer(self, layer: int) -> bool:
        """Tell whether layer number `layer` (from 0) routes its tokens to experts."""
        return self._layers[layer].is_moe

    @cached_property
    def num_moe_layers(self) -> int:
        """Layers with routed experts, without those of MTP."""
        return sum(map(self.is_moe_layer, range(self.layers)))

    def layer_kinds(self, numbers: Sequence[int]) -> list[tuple[Layer, int]]:
        """Return each kind of layer among the layers of some numbers, and how many are of that kind.

        >>> small = ModelSpec(layers=5, hidden=4, heads=2, ffn=8, experts=2, top_k=1, dense_layers=2, vocab=10)
        >>> [(layer.is_moe, count) for layer, count in small.layer_kinds(range(5))]
        [(False, 2), (True, 3)]
        """
        counts: dict[int, int] = {}
        for number in numbers:
            first = self._first_of_kind[number]
            counts[first] = counts.get(first, 0) + 1
        return [(self._layers[first], counts[first]) for first in sorted(counts)]

    @cached_property
    def attention(self) -> Mixer:
        """The attention of the first layer that has one."""
        return next(layer.attention for layer in self._layers if layer.attention is not None)

    @cached_property
    def plain_ffn(self) -> DenseFfn:
        """The FFN of dense layers."""
        return self._ffn_of_width(self.dense_ffn)

    @cached_property
    def moe_ffn(self) -> MoeFfn:
        """The FFN of layers with routed experts."""
        width = self.shared_experts * (self.shared_expert_intermediate_size or self.ffn)
        return MoeFfn(
            hidden=self.hidden,
            expert=replace(self._ffn_of_width(self.ffn), hidden=self.expert_hidden),
            experts=self.experts,
            shared=self._ffn_of_width(width) if width else None,
            top_k=self.top_k,
            has_shared_gate=self.shared_expert_gate,
            has_router_bias=self.use_routing_bias,
        )

    # ---- parameters and FLOPs ------------------------------------------------------------------------------------

    @property
    def num_attention_params(self) -> int:
        """Parameters of the attention of the first layer that has one."""
        return self.attention.num_params

    @cached_property
    def num_expert_params(self) -> int:
        """Parameters of one expert of one layer.

        >>> ModelSpec(layers=1, hidden=4, heads=2, ffn=8, vocab=10).num_expert_params  # two matrices of 4 x 8
        64
        """
        return self.moe_ffn.expert.num_params

    @property
    def num_dense_ffn_params(self) -> int:
        """Parameters of the FFN of one dense layer."""
        return self.plain_ffn.num_params

    @property
    def num_embedding_params(self) -> int:
        """Parameters of the embedding; the output head has as many."""
        return self.vocab * self.hidden

    def padded_vocab(self, tp: int) -> int:
        """Return the entries of the vocabulary with those that pad it, for `tp` ranks.

        >>> ModelSpec(layers=1, hidden=4, heads=2, ffn=8, vocab=1000, make_vocab_size_divisible_by=128).padded_vocab(2)
        1024
        """
        multiple = (self.make_vocab_size_divisible_by or 0) * tp
        return -(-self.vocab // multiple) * multiple if multiple else self.vocab

    @cached_property
    def num_params(self) -> int:
        """Parameters of the whole model, without those of MTP."""
        return sum(count * layer.num_params for layer, count in self._kinds) + self._num_params_outside_layers

    @cached_property
    def num_mtp_params(self) -> int:
        """Parameters of the layers that predict further tokens, which share embedding and output head."""
        mtp = self.layer_kinds(range(self.layers, self.num_all_layers))
        return sum(count * layer.num_params for layer, count in mtp)

    @cached_property
    def num_active_params(self) -> int:
        """Parameters that one token meets: of the input embedding a single row, of the output head all.

        >>> ModelSpec(layers=1, hidden=4, heads=2, ffn=8, vocab=10).num_active_params  # 136 + 4 + 4 + 10 * 4
        184
        """
        active = sum(count * layer.num_active_params for layer, count in self._kinds)
        rows = self.num_embedding_params - self.hidden + (self.n_positions - 1) * self.hidden * bool(self.n_positions)
        active += self._num_params_outside_layers - rows
        return active + (self.num_embedding_params if self.tie_word_embeddings else 0)

    def flops_per_token(self, sequence_length: int, *, causal: bool, with_head: bool, with_mtp: bool = False) -> float:
        """Return the forward FLOPs of one token, averaged over its place in the sequence.

        Parameters
        ----------
        sequence_length
            Tokens of the sequence that attention looks over.
        causal
            True counts the half of the scores that a causal mask leaves; false counts all, as Megatron does.
        with_head
            Whether the output head is computed for the token.
        with_mtp
            Whether the layers that predict further tokens are computed (with the head once for each of them).

        Examples
        --------
        >>> small = ModelSpec(layers=1, hidden=4, heads=2, ffn=8, vocab=10)
        >>> small.flops_per_token(6, causal=False, with_head=False)  # 2 * (64 + 64) + 4 * 6 * 4
        352.0
        """
        kinds = self.layer_kinds(range(self.num_all_layers)) if with_mtp else self._kinds
        layers = sum(count * layer.flops_per_token(sequence_length, causal=causal) for layer, count in kinds)
        num_heads = 1 + (self.num_nextn_predict_layers if with_mtp else 0)
        return layers + 2.0 * (num_heads * self.num_embedding_params if with_head else 0)

    def recomputed_flops_per_token(
        self, recompute: Recompute, sequence_length: int, *, with_mtp: bool = False
    ) -> float:
        """Return the FLOPs that the backward passes of all layers recompute of one token."""
        kinds = self.layer_kinds(range(self.num_all_layers)) if with_mtp else self._kinds
        return sum(count * layer.recomputed_flops_per_token(recompute, sequence_length) for layer, count in kinds)

    def attention_score_flops_per_token(self, sequence_length: int, *, causal: bool) -> float:
        """Return the FLOPs of QK' and PV of a token in the first layer with attention, averaged over the sequence."""
        return self.attention.score_flops_per_token(sequence_length, causal=causal)

    @property
    def kv_cache_bytes_per_token_layer(self) -> int:
        """Bytes that one token leaves in the cache of the first layer with attention."""
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
            has_bias=self.add_bias_linear,
            formats=self.formats,
            fusions=self.fusions,
        )

    @cached_property
    def _layers(self) -> tuple[Layer, ...]:
        """All layers, of which those of one kind are one object; the layers of MTP are like the last one with them."""
        known: dict[tuple[str | None, str | None, bool], Layer] = {}
        layers = []
        for number in range(self.num_all_layers):
            like = min(number, self.layers - 1)
            is_mtp = self.is_mtp_layer(number)
            kind = (self.attention_kind(like), self.ffn_kind(like), is_mtp)
            if is_mtp and self.mtp_hybrid_override_pattern is not None:
                kind = (*kinds_of_parts(self.mtp_hybrid_override_pattern), is_mtp)
            if kind not in known:
                ffn = {"dense": self.plain_ffn, "experts": self.moe_ffn, None: None}[kind[1]]
                attention = attention_of_kind(self, kind[0])
                known[kind] = Layer(
                    hidden=self.hidden, dtype_bytes=self.dtype_bytes, attention=attention, ffn=ffn, is_mtp=kind[2]
                )
            layers.append(known[kind])
        return tuple(layers)

    @cached_property
    def _first_of_kind(self) -> tuple[int, ...]:
        """For each layer the first layer of its kind."""
        first: dict[int, int] = {}
        return tuple(first.setdefault(id(layer), number) for number, layer in enumerate(self._layers))

    @cached_property
    def _kinds(self) -> list[tuple[Layer, int]]:
        """Kinds of all layers of the model, without MTP."""
        return self.layer_kinds(range(self.layers))

    @cached_property
    def _num_params_outside_layers(self) -> int:
        """Parameters of the last norm, embeddings and output head."""
        num_matrices = 1 if self.tie_word_embeddings else 2
        return (1 + self.n_positions) * self.hidden + num_matrices * self.num_embedding_params
