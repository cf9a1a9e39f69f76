"""`model:` of a scenario: the shape of the language model.

Fields of a kind of attention or FFN are named as in Hugging Face's configs. `workloads.model` checks that they fit.
"""

from typing import Annotated, Any, Final, Self

from pydantic import BeforeValidator, SerializerFunctionWrapHandler, model_serializer, model_validator

from sim.errors import InvalidValueError
from sim.scenario.fields import MAX_SIZES, Flag, Section, Text, count_of, name_of
from workloads.model import DTYPE_BYTES, LAYER_TYPES, SCORING_FUNCS

__all__ = ["ModelSpec"]

_SHOWN_WHEN_GIVEN_FROM: Final = "q_lora_rank"
"""The first of the fields of kinds of attention and FFN: the resolved scenario has those that are given."""


def _layer_types(value: object) -> object:
    """Return a list of kinds of layers, or refuse it."""
    words = "be a list of kinds of layers"
    if not isinstance(value, list | tuple) or not value:
        hint = f"Write a list of {', '.join(LAYER_TYPES)}."
        raise InvalidValueError(rule=words, value=value, hint=hint)
    if len(value) > (most := MAX_SIZES["model.layer_types"]):
        raise InvalidValueError(rule=f"have at most {most:,} layers", value=len(value), hint="Write a shorter list.")
    return tuple(value)


LayerType = Annotated[str, name_of(lambda: LAYER_TYPES)]


class ModelSpec(Section):
    """The model: a preset with fields that differ, or all fields one by one.

    With a preset a field that is not given is None: the preset knows it. Without one, the defaults are filled in.
    """

    preset: Text | None = None
    """Name of a model, as `moesim list presets` shows them."""
    hf_config: str | None = None
    """The `config.json` of a model on Hugging Face, in the scenario's folder; fields given here override it."""
    layers: Annotated[int, count_of("model.layers")] | None = None
    """Number of transformer layers."""
    hidden: Annotated[int, count_of("model.hidden")] | None = None
    """Width of the hidden state."""
    heads: Annotated[int, count_of("model.heads")] | None = None
    """Number of attention heads."""
    kv_heads: Annotated[int, count_of("model.kv_heads")] | None = None
    """Number of key and value heads; default: `heads`."""
    head_dim: Annotated[int, count_of("model.head_dim")] | None = None
    """Width of one head; default: `hidden` / `heads`."""
    ffn: Annotated[int, count_of("model.ffn")] | None = None
    """Width of a dense FFN or of one expert."""
    dense_ffn: Annotated[int, count_of("model.dense_ffn")] | None = None
    """Width of the FFN of a dense layer where it differs; default: `ffn`."""
    gated: Flag | None = None
    """Whether an FFN has three matrices (SwiGLU) instead of two; default: false."""
    experts: Annotated[int, count_of("model.experts", least=0)] | None = None
    """Number of routed experts of a layer; default 0: a dense model."""
    shared_experts: Annotated[int, count_of("model.shared_experts", least=0)] | None = None
    """Number of experts every token passes; default: 0."""
    top_k: Annotated[int, count_of("model.top_k")] | None = None
    """Number of routed experts a token is sent to."""
    dense_layers: Annotated[int, count_of("model.dense_layers", least=0)] | None = None
    """The first so many layers have a dense FFN; default: 0."""
    vocab: Annotated[int, count_of("model.vocab")] | None = None
    """Number of entries of the vocabulary."""
    dtype: Annotated[str, name_of(lambda: DTYPE_BYTES)] | None = None
    """Type of weights and activations in matrix products; default: bf16."""
    fused_attention: Flag | None = None
    """Whether attention keeps no scores for its backward pass; false costs memory, not time; default: true."""
    dropout: Flag | None = None
    """Whether dropout keeps its masks, which costs memory, not time; default: false."""
    q_lora_rank: Annotated[int, count_of("model.q_lora_rank")] | None = None
    """Width of the latent of MLA queries; default: queries are projected from the hidden state."""
    kv_lora_rank: Annotated[int, count_of("model.kv_lora_rank")] | None = None
    """Width of the latent of keys and values; given, attention is multi-head latent attention (MLA)."""
    qk_nope_head_dim: Annotated[int, count_of("model.qk_nope_head_dim")] | None = None
    """Width of the part of an MLA query or key head without rotary embedding."""
    qk_rope_head_dim: Annotated[int, count_of("model.qk_rope_head_dim")] | None = None
    """Width of the part of an MLA query or key head with rotary embedding."""
    v_head_dim: Annotated[int, count_of("model.v_head_dim")] | None = None
    """Width of an MLA value head."""
    sliding_window: Annotated[int, count_of("model.sliding_window")] | None = None
    """Tokens that a token attends to in layers with a sliding window."""
    sliding_window_every: Annotated[int, count_of("model.sliding_window_every")] | None = None
    """The first of every so many layers has the sliding window; default: 1, all layers."""
    attention_chunk_size: Annotated[int, count_of("model.attention_chunk_size")] | None = None
    """Tokens of the chunks that layers of `chunked_attention` do not look beyond."""
    layer_types: (
        Annotated[tuple[LayerType, ...], BeforeValidator(_layer_types, json_schema_input_type=list[LayerType])] | None
    ) = None
    """Kind of attention of each layer: a list, which is repeated where it is shorter than `layers`."""
    hybrid_override_pattern: Text | None = None
    """Layers of a hybrid model, a letter for each: `*` attention, `M` Mamba-2, `-` dense FFN, `E` experts."""
    attention_sinks: Flag | None = None
    """Whether each head has a learned sink; default: false."""
    attn_output_gate: Flag | None = None
    """Whether the output of attention is multiplied by a gate; default: false."""
    linear_num_key_heads: Annotated[int, count_of("model.linear_num_key_heads")] | None = None
    """Key heads of layers of `linear_attention` (gated delta net)."""
    linear_num_value_heads: Annotated[int, count_of("model.linear_num_value_heads")] | None = None
    """Value heads of layers of `linear_attention`."""
    linear_key_head_dim: Annotated[int, count_of("model.linear_key_head_dim")] | None = None
    """Width of a key head of layers of `linear_attention`."""
    linear_value_head_dim: Annotated[int, count_of("model.linear_value_head_dim")] | None = None
    """Width of a value head of layers of `linear_attention`."""
    linear_conv_kernel_dim: Annotated[int, count_of("model.linear_conv_kernel_dim")] | None = None
    """Tokens of the short convolution of layers of `linear_attention`."""
    mamba_num_heads: Annotated[int, count_of("model.mamba_num_heads")] | None = None
    """Heads of `mamba` layers (Mamba-2)."""
    mamba_head_dim: Annotated[int, count_of("model.mamba_head_dim")] | None = None
    """Width of a head of `mamba` layers."""
    ssm_state_size: Annotated[int, count_of("model.ssm_state_size")] | None = None
    """Values of the state of each channel of `mamba` layers."""
    n_groups: Annotated[int, count_of("model.n_groups")] | None = None
    """Groups of heads of `mamba` layers."""
    conv_kernel: Annotated[int, count_of("model.conv_kernel")] | None = None
    """Tokens of the short convolution of `mamba` layers."""
    chunk_size: Annotated[int, count_of("model.chunk_size")] | None = None
    """Tokens of a chunk of the scan of `mamba` layers."""
    moe_every: Annotated[int, count_of("model.moe_every")] | None = None
    """The last of every so many layers has experts, the others a dense FFN; default: 1."""
    shared_expert_intermediate_size: Annotated[int, count_of("model.shared_expert_intermediate_size")] | None = None
    """Width of one shared expert where it differs; default: `ffn`."""
    shared_expert_gate: Flag | None = None
    """Whether the output of the shared experts is multiplied by a gate of each token; default: false."""
    scoring_func: Annotated[str, name_of(lambda: SCORING_FUNCS)] | None = None
    """How the router weighs experts, which costs no time; default: softmax."""
    use_routing_bias: Flag | None = None
    """Whether a bias of each expert takes part in the choice of experts; default: false."""
    num_nextn_predict_layers: Annotated[int, count_of("model.num_nextn_predict_layers", least=0)] | None = None
    """Layers that predict a further token each (MTP), in training; default: 0."""
    tie_word_embeddings: Flag | None = None
    """Whether the output head is the embedding; default: false."""
    n_positions: Annotated[int, count_of("model.n_positions", least=0)] | None = None
    """Learned embeddings of positions; default 0: none."""
    make_vocab_size_divisible_by: Annotated[int, count_of("model.make_vocab_size_divisible_by")] | None = None
    """The vocabulary is padded to a multiple of this x TP, as Megatron does; default: it is not padded."""
    fp32_lm_head: Flag | None = None
    """Whether the output head is computed in 4 bytes; default: false."""

    @model_serializer(mode="wrap")
    def _without_kinds_not_given(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out the fields of kinds of attention and FFN that are not given."""
        found, is_kind = {}, False
        for key, value in dump(self).items():
            is_kind = is_kind or key == _SHOWN_WHEN_GIVEN_FROM
            if not is_kind or value is not None:
                found[key] = value
        return found

    def given(self) -> dict[str, Any]:
        """Return the fields of the model that are known here, without `preset` and `hf_config`.

        Examples
        --------
        >>> ModelSpec(preset="mixtral-8x7b", top_k=1).given()
        {'top_k': 1}
        """
        return self.model_dump(exclude={"preset", "hf_config"}, exclude_none=True)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        """Check the shape and fill in what follows from it."""
        self._check_limits()
        if self.preset is not None and self.hf_config is not None:
            hint = "Fields of the section change those of the file: remove one of the two."
            raise InvalidValueError(("hf_config",), "be left out with model.preset", self.hf_config, hint)
        if self.preset is None and self.hf_config is None:
            self._check_head_dim()
            self.__dict__.update({key: value for key, value in self._defaults().items() if getattr(self, key) is None})
        return self

    def _defaults(self) -> dict[str, object]:
        """Return what a field is when it is not given."""
        head_dim = self.hidden // self.heads if self.hidden and self.heads else None
        derived = {"kv_heads": self.heads, "head_dim": head_dim, "dense_ffn": self.ffn}
        return {
            **derived,
            "gated": False,
            "experts": 0,
            "shared_experts": 0,
            "dense_layers": 0,
            "dtype": "bf16",
            "fused_attention": True,
            "dropout": False,
        }

    def _check_limits(self) -> None:
        """Refuse parts that are more than their whole."""
        for key, whole in (("top_k", "experts"), ("dense_layers", "layers"), ("kv_heads", "heads")):
            part, limit = getattr(self, key), getattr(self, whole)
            if part is not None and limit is not None and part > limit and not (key == "top_k" and limit == 0):
                raise InvalidValueError(
                    (key,), rule=f"be at most model.{whole} = {limit}", value=part, hint=f"Lower {key}."
                )
        if self.experts == 0 and (self.top_k or self.shared_experts):
            key = "top_k" if self.top_k else "shared_experts"
            hint = "Give model.experts, or remove this key."
            raise InvalidValueError((key,), rule="be left out of a dense model", value=getattr(self, key), hint=hint)
        if self.heads and self.kv_heads and self.heads % self.kv_heads:
            hint = "Each key and value head serves equally many heads."
            raise InvalidValueError(
                ("kv_heads",), rule=f"divide model.heads = {self.heads}", value=self.kv_heads, hint=hint
            )

    def _check_head_dim(self) -> None:
        """Refuse a width that the heads do not divide, unless `head_dim` is given."""
        has_head_dim = self.head_dim is not None or self.kv_lora_rank is not None
        if self.hidden and self.heads and not has_head_dim and self.hidden % self.heads:
            hint = "Give model.head_dim, or change hidden or heads."
            raise InvalidValueError(
                ("hidden",), rule=f"be a multiple of model.heads = {self.heads}", value=self.hidden, hint=hint
            )
