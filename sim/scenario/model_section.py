"""`model:` of a scenario: the shape of the language model."""

from typing import Annotated, Self

from pydantic import model_validator

from sim.errors import InvalidValueError
from sim.scenario.fields import Flag, Section, Text, count_of, name_of
from workloads.model import DTYPE_BYTES

__all__ = ["ModelSpec"]


class ModelSpec(Section):
    """The model: a preset with fields that differ, or all fields one by one.

    With a preset a field that is not given is None: the preset knows it. Without one, the defaults are filled in.
    """

    preset: Text | None = None
    """Name of a model, as `moesim list presets` shows them."""
    hf_config: str | None = None
    """A Hugging Face `config.json`."""
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

    def given(self) -> dict[str, int | bool | str]:
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
        if self.hidden and self.heads and self.head_dim is None and self.hidden % self.heads:
            hint = "Give model.head_dim, or change hidden or heads."
            raise InvalidValueError(
                ("hidden",), rule=f"be a multiple of model.heads = {self.heads}", value=self.hidden, hint=hint
            )
