"""`model:` of a scenario: the shape of the language model.

Fields of a kind of attention or FFN are named as in Hugging Face's configs. `workloads.model.ModelSpec` declares
the keys and `workloads.layer_kinds` checks that they fit; here stands what a file may leave out.
"""

from dataclasses import MISSING, fields
from typing import Annotated, Any, Final, Self

from pydantic import BeforeValidator, ConfigDict, SerializerFunctionWrapHandler, model_serializer, model_validator

from sim.errors import InvalidValueError
from sim.scenario.fields import MAX_SIZES, Text, count_of, name_of
from sim.scenario.places import key_path
from sim.scenario.sections import DerivedSection, keys_from
from workloads.layer_kinds import LAYER_TYPES, SCORING_FUNCS
from workloads.model import DTYPE_BYTES, ModelSpec

__all__ = ["REQUIRED_FIELDS", "ModelSection"]

_NO_KEYS: Final = ("formats", "fusions")
"""Fields that the runtime fills."""
_NAMES: Final = [field.name for field in fields(ModelSpec) if field.name not in _NO_KEYS]
_SHOWN_WHEN_GIVEN: Final = frozenset(_NAMES[_NAMES.index("q_lora_rank") :])
"""Fields of kinds of attention and FFN: the resolved scenario has those of them that are given."""
REQUIRED_FIELDS: Final = tuple(field.name for field in fields(ModelSpec) if field.default is MISSING)
"""Fields without a default."""
_DEFAULTS: Final = {
    field.name: field.default
    for field in fields(ModelSpec)
    if field.name not in {*_NO_KEYS, *REQUIRED_FIELDS, *_SHOWN_WHEN_GIVEN, "top_k"}
}
"""Fields that are filled in, and their defaults; None: the default follows from other fields."""


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


@keys_from(
    ModelSpec,
    section="model",
    leave_out=_NO_KEYS,
    all_optional=True,
    defaults={"top_k": None},  # with experts it has to be given
    top_k=count_of("model.top_k"),
    dtype=name_of(lambda: DTYPE_BYTES),
    layer_types=Annotated[tuple[LayerType, ...], BeforeValidator(_layer_types, json_schema_input_type=list[LayerType])],
    hybrid_override_pattern=Text,
    mtp_hybrid_override_pattern=Text,
    scoring_func=name_of(lambda: SCORING_FUNCS),
)
class ModelSection(DerivedSection):
    """The model: a preset with fields that differ, or all fields one by one.

    With a preset a field that is not given is None: the preset knows it. Without one, the defaults are filled in.
    """

    model_config = ConfigDict(title="ModelSpec")

    preset: Text | None = None
    """Name of a model, as `moesim list presets` shows them."""
    hf_config: str | None = None
    """The `config.json` of a model on Hugging Face, in the scenario's folder; fields given here override it."""

    @model_serializer(mode="wrap")
    def _without_kinds_not_given(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out the fields of kinds of attention and FFN that are not given."""
        return {key: value for key, value in dump(self).items() if key not in _SHOWN_WHEN_GIVEN or value is not None}

    def given(self) -> dict[str, Any]:
        """Return the fields of the model that are known here, without `preset` and `hf_config`.

        Examples
        --------
        >>> ModelSection(preset="mixtral-8x7b", top_k=1).given()
        {'top_k': 1}
        """
        return {key: value for key, value in self.values_of(ModelSpec).items() if value is not None}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        """Check the shape, and fill in what is not given; a collective needs a part of the fields alone."""
        if self.preset is not None and self.hf_config is not None:
            hint = "Fields of the section change those of the file: remove one of the two."
            raise InvalidValueError(("hf_config",), "be left out with model.preset", self.hf_config, hint)
        if self.preset is not None or self.hf_config is not None:
            return self
        given, filled = self.given(), {key: value for key, value in _DEFAULTS.items() if value is not None}
        if given.keys() >= set(REQUIRED_FIELDS) and ("top_k" in given or not given.get("experts")):
            try:
                model = ModelSpec(**given)
            except InvalidValueError as error:
                raise InvalidValueError(key_path(error.field)[1:], error.rule, error.value, error.hint) from None
            filled = {key: getattr(model, key) for key in _DEFAULTS}
        self.__dict__.update({key: value for key, value in filled.items() if getattr(self, key) is None})
        return self
