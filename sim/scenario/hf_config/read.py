"""Reading a `config.json` into fields of the model.

The type of weights is that of `dtype` or `torch_dtype`. Weights that are stored quantised are taken in that type too:
with `model.dtype: fp8` products run in fp8 as well, and who runs a quantised checkpoint may do without that.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from sim.errors import InvalidValueError, nearest_name
from sim.scenario.file_bytes import parse_json, read_input_text
from sim.scenario.hf_config.architectures import ARCHITECTURES, Architecture
from sim.scenario.hf_config.keys import ConfigKeys
from sim.scenario.hf_config.unknown import section_to_paste

__all__ = ["HfModel", "TakenValue", "read_hf_config"]

_MAX_BYTES: Final = 1 << 20
"""Configs have a few kilobytes; those with a scale for each quantised layer have some hundred."""
_DTYPES: Final[Mapping[str, str]] = {"bfloat16": "bf16", "float16": "fp16"}
_STORED: Final = ("quantization_config", "compression_config")
_TOP: Final = ("model_type", "dtype", "torch_dtype", *_STORED)
_VISION: Final = ("vision_config", "projector_hidden_act", "projector_type", "audio_config")


class TakenValue(NamedTuple):
    """Something that the file leaves open, or that is taken otherwise than it says."""

    key: str
    """Key of the scenario that would say it."""
    value: object
    """What is taken."""
    why: str
    """Reason for the value, in one sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HfModel:
    """What a `config.json` says of a model."""

    fields: Mapping[str, object]
    """Fields of `workloads.model.ModelSpec`."""
    origins: Mapping[str, str]
    """Field -> key of the file that gives it."""
    taken: tuple[TakenValue, ...]
    """What had to be chosen."""


def read_hf_config(path: Path) -> HfModel:
    """Return what a `config.json` says.

    Raises
    ------
    InvalidValueError
        With the file and the key: the file cannot be read, is of a model that is not known, or has a value or a key
        that is not understood.
    """
    too_large = "Name the model's config.json, not its weights or its tokenizer."
    text = read_input_text(path, _MAX_BYTES, hint="Name the config.json of a model.", too_large=too_large)
    try:
        return _model(_parsed(text))
    except InvalidValueError as error:
        raise error.at(file=str(path)) from None


# ---- private -----------------------------------------------------------------------------------------------------


def _parsed(text: str) -> Mapping[str, object]:
    try:
        data = parse_json(text, finite=False)  # Nemotron-H's configs have an `Infinity`
    except ValueError as error:
        raise InvalidValueError("the file", "be JSON", str(error), "Copy the model's config.json again.") from None
    if not isinstance(data, dict):
        raise InvalidValueError("the file", "be a JSON object", data, "Name the config.json of a model.")
    return data


def _model(data: Mapping[str, object]) -> HfModel:
    whole = ConfigKeys(data)
    architecture = _architecture(whole)
    keys = whole if architecture.part is None else whole.part(architecture.part)
    taken: list[TakenValue] = []
    if keys is not whole:
        keys.value("model_type")
        if any(whole.value(key) is not None for key in _VISION):
            taken.append(TakenValue("model.hf_config", architecture.part, "the language model alone, without vision"))
    architecture.read(keys)
    if keys is not whole and keys.value("tie_word_embeddings") is None:
        keys.flag_field("tie_word_embeddings", "tie_word_embeddings", default=whole.flag("tie_word_embeddings"))
    taken += _dtype(whole, keys)
    taken += _node_limit(keys)
    num_mtp = keys.fields.get("num_nextn_predict_layers")
    if num_mtp and "hybrid_override_pattern" in keys.fields and "mtp_hybrid_override_pattern" not in keys.fields:
        why = "layers that predict further tokens are taken to be like the last layer, whatever the file says of them"
        taken.append(TakenValue("model.num_nextn_predict_layers", num_mtp, why))
    for part in dict.fromkeys((whole, keys)):
        for key in (*_TOP, "tie_word_embeddings"):
            part.value(key)
        part.refuse_unread()
    return HfModel(fields=keys.fields, origins=keys.origins, taken=tuple(taken))


def _architecture(keys: ConfigKeys) -> Architecture:
    name = keys.text("model_type")
    if name is not None and name in ARCHITECTURES:
        return ARCHITECTURES[name]
    if name is None:
        raise keys.error("model_type", "be given", "nothing", "Copy the whole config.json of the model.")
    near = nearest_name(name, ARCHITECTURES, cutoff=0.75)
    hint = section_to_paste(keys.data) or "Give the model's fields in the scenario: `moesim list models` shows presets."
    hint = hint if near is None else f"Did you mean `{near}`? {hint}"
    raise keys.error("model_type", "be one of those that `moesim list models` shows", name, hint)


def _dtype(whole: ConfigKeys, keys: ConfigKeys) -> list[TakenValue]:
    """Take the type, and say what is taken where weights are quantised or of a type that is not modelled."""
    places = [(part, key) for part in (keys, whole) for key in ("dtype", "torch_dtype") if part.value(key) is not None]
    name = places[0][0].text(places[0][1]) if places else None
    name = None if name is None else name.removeprefix("torch.")
    if name is not None and name in _DTYPES:
        keys.set("dtype", _DTYPES[name], places[0][1])
    dtype = str(keys.fields.get("dtype", "bf16"))
    methods = [_quantisation(part, key) for part in dict.fromkeys((whole, keys)) for key in _STORED]
    method = next((found for found in methods if found is not None), None)
    if method is not None:
        why = (
            f"the weights of the file are quantised ({method}), and model.dtype is the type of the products and of the "
            "weights: write model.dtype: fp8 to take both in fp8 (docs/formats.md has what stays in 2 bytes)"
        )
        return [TakenValue("model.dtype", dtype, why)]
    if name is not None and name not in _DTYPES:
        return [TakenValue("model.dtype", dtype, f"the type of the file, {name[:40]}, is not modelled")]
    return []


def _quantisation(keys: ConfigKeys, key: str) -> str | None:
    """Return how weights are quantised; None where they are not."""
    value = keys.value(key)
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise keys.error(key, "be an object", value, "Copy the whole config.json of the model.")
    method = value.get("quant_method", value.get("format"))
    return method[:40] if isinstance(method, str) else "a method without name"


def _node_limit(keys: ConfigKeys) -> list[TakenValue]:
    """Say that experts are chosen out of some groups, which is a fact of the routing."""
    groups, chosen = keys.fields.get("experts") and keys.value("n_group"), keys.value("topk_group")
    if not isinstance(groups, int) or not isinstance(chosen, int) or groups <= 1:
        return []
    why = (
        f"the router takes experts out of {chosen} of {groups} groups: write routing.max_nodes_per_token: {chosen} "
        "where each group is on a node of its own"
    )
    return [TakenValue("routing.max_nodes_per_token", "as the scenario says", why)]
