"""What can be said of a config whose `model_type` is not known: the section `model:` that comes nearest to it."""

from collections.abc import Mapping
from typing import Final

from sim.errors import InvalidValueError
from sim.scenario.hf_config.immaterial import IMMATERIAL, NEUTRAL
from sim.scenario.hf_config.names import our_name
from workloads.model import ModelSpec

__all__ = ["section_to_paste"]

_SAME_NAMES: Final = ("head_dim", "tie_word_embeddings", "q_lora_rank", "kv_lora_rank", "qk_nope_head_dim")
_MORE_SAME_NAMES: Final = ("qk_rope_head_dim", "v_head_dim", "sliding_window", "num_nextn_predict_layers")
_HF_ONLY: Final = frozenset({"model_type", "dtype", "torch_dtype", "quantization_config"})
_MOST_LISTED: Final = 8
"""So many of the keys that are left out are named."""


def section_to_paste(data: Mapping[str, object]) -> str | None:
    """Return the hint that has the keys of a config as a section `model:`; None where they do not give a model.

    >>> keys = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    >>> print(section_to_paste(keys | {"vocab_size": 100, "hidden_act": "silu", "attn_layer_period": 8}))
    The nearest architecture is llama. To take the model so, write in the scenario, in place of hf_config: model: \
{hidden: 64, layers: 2, heads: 4, ffn: 128, vocab: 100, gated: true}. It leaves out attn_layer_period.
    """
    fields, read = _fields(data)
    try:
        ModelSpec(**fields)  # type: ignore[arg-type]  # checked by the model
    except (InvalidValueError, TypeError):
        return None
    known = {key for keys in IMMATERIAL.values() for key in keys} | set(NEUTRAL) | _HF_ONLY
    rest = [key for key, value in data.items() if key not in known and key not in read and value is not None]
    section = ", ".join(f"{key}: {str(value).lower()}" for key, value in fields.items())
    more = f" and {len(rest) - _MOST_LISTED} more" if len(rest) > _MOST_LISTED else ""
    left_out = f" It leaves out {', '.join(rest[:_MOST_LISTED])}{more}." if rest else ""
    lead = f"The nearest architecture is {_nearest(fields)}. To take the model so, write in the scenario, in place of"
    return f"{lead} hf_config: model: {{{section}}}.{left_out}"


def _fields(data: Mapping[str, object]) -> tuple[dict[str, object], set[str]]:
    """Return the fields of the model that keys say by their names, and these keys."""
    fields: dict[str, object] = {}
    read = set()
    for key, value in data.items():
        field = key if key in {*_SAME_NAMES, *_MORE_SAME_NAMES} else our_name(key, data)
        if field is not None and isinstance(value, int) and field not in fields and field != "dtype":
            fields[field] = value
            read.add(key)
    if "dense_ffn" in fields and "experts" not in fields:
        fields["ffn"] = fields.pop("dense_ffn")
    if any("silu" in str(data.get(key)) or "swi" in str(data.get(key)) for key in ("hidden_act", "activation")):
        fields["gated"] = True
    return fields, read


def _nearest(fields: Mapping[str, object]) -> str:
    """Return the `model_type` whose models have the same kinds of fields."""
    if "kv_lora_rank" in fields:
        return "deepseek_v3"
    if "experts" not in fields:
        return "llama"
    return "qwen2_moe" if "dense_ffn" in fields else "mixtral"
