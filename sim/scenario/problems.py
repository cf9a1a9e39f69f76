"""Validation of raw data: what pydantic refuses, as rule, value and hint.

The hint about an unknown key names the nearest key that is known; of a key that Hugging Face's configs have, our name.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from sim.errors import InvalidValueError, KeyPath, did_you_mean, dotted
from sim.scenario.schema import ScenarioSpec
from sim.scenario.sections import keys_of, sections_at
from sim.scenario.workload_section import WORKLOADS

__all__ = ["NOT_SAID", "OTHER_NAMES", "refusals_of", "unknown_key_hint", "valid_keys", "validate"]

Known = Callable[[KeyPath], list[str]]
"""Path of a section -> the keys that may stand in it."""

_TYPES: Final[Mapping[str, tuple[str, str]]] = {
    "model_type": ("be a mapping of keys", "Write `key: value` lines under it."),
    "model_attributes_type": ("be a mapping of keys", "Write `key: value` lines under it."),
    "dict_type": ("be a mapping of keys", "Write `key: value` lines under it."),
    "tuple_type": ("be a list", "Write [...] or lines that start with `- `."),
    "list_type": ("be a list", "Write [...] or lines that start with `- `."),
    "too_long": ("have at most 1000 items", "Split the scenario into several."),
    "string_type": ("be a text", "Put it in quotes."),
}
"""pydantic's type of error -> our rule and hint."""

_DECODE: Final = (
    "Decode with a context of earlier tokens belongs to `kind: serving` (docs/serving.md); a forward pass is a prefill."
)
NOT_SAID: Final[Mapping[str, str]] = dict.fromkeys(
    [
        f"workload.{key}"
        for key in ("context", "context_length", "kv_length", "past_tokens", "output_tokens", "output_length")
    ],
    _DECODE,
)
"""Dotted key that users write -> what cannot be said, or what says it. Whoever builds such a thing deletes its row."""

_KINDS: Final[Mapping[str, str]] = {
    "prefill": "A prefill is `kind: forward`.",
    **dict.fromkeys(["decode", "decoding", "generate", "generation"], _DECODE),
    "inference": f"Prefill is `kind: forward`. {_DECODE}",
}
"""Value of `workload.kind` that users write -> what to write."""

_MICROBATCH: Final = "`sequences` / (DP x `microbatches`)"
OTHER_NAMES: Final[Mapping[str, Mapping[str, str]]] = {
    "parallel": {
        **dict.fromkeys(["tensor_parallel_size", "tensor_model_parallel_size", "tensor_parallel", "tp_size"], "`tp`"),
        **dict.fromkeys(
            ["pipeline_parallel_size", "pipeline_model_parallel_size", "pipeline_parallel", "pp_size"], "`pp`"
        ),
        **dict.fromkeys(["data_parallel_size", "data_parallel", "dp_size"], "`dp`"),
        **dict.fromkeys(["expert_parallel_size", "expert_model_parallel_size", "expert_parallel", "ep_size"], "`ep`"),
        **dict.fromkeys(["expert_tensor_parallel_size", "etp_size"], "`etp`"),
        **dict.fromkeys(["context_parallel_size", "context_parallel", "cp_size"], "`cp`"),
        "cp_comm_type": "`cp_kind`",
        "hierarchical_context_parallel_sizes": "`cp_sizes`",
        "virtual_pipeline_model_parallel_size": "`vpp`",
        "sequence_parallel": "`sp`",
        "zero_stage": "`zero`",
        "pipeline_model_parallel_layout": "`layout`",
        "enable_expert_parallel": "`convention: vllm` with EP = TP x DP",
        "enable_dp_attention": "`convention: vllm` with SGLang's --tp / --dp as TP and --tp as EP",
    },
    "placement": {
        **dict.fromkeys(["redundant_experts", "num_redundant_experts", "ep_num_redundant_experts"], "`replicas`"),
        **dict.fromkeys(["physical_to_logical", "physical_to_logical_map"], "`experts`"),
    },
    "workload": {
        **dict.fromkeys(["micro_batch_size", "train_micro_batch_size_per_gpu"], _MICROBATCH),
        **dict.fromkeys(["global_batch_size", "train_batch_size"], "`sequences`"),
        **dict.fromkeys(["seq_length", "seq_len", "max_seq_len"], "`sequence_length`"),
        **dict.fromkeys(["gradient_accumulation_steps", "num_microbatches"], "`microbatches`"),
    },
}
"""Section -> key of vLLM, SGLang, Megatron-LM or DeepSpeed -> our key, or what it is here."""

_MAX_PROBLEMS: Final = 200
"""The most problems that are put into words. A message names the first problem alone, and more would only take time."""


def validate(
    data: Mapping[str, Any], *, checked: Mapping[str, BaseModel] | None = None
) -> ScenarioSpec | list[InvalidValueError]:
    """Return the scenario that raw data makes, or else everything that is wrong with it.

    `checked` are sections that the same data has made before: these are not read again.

    Examples
    --------
    >>> print(validate({"workload": {"kind": "forwrd"}})[0])
    workload.kind must be one of forward, training, passes, collective, serving, got forwrd. Did you mean `forward`?
    """
    try:
        return ScenarioSpec.model_validate({**data, **(checked or {})})
    except ValidationError as error:
        if checked:
            return validate(data)  # whose words are about the data
        return refusals_of(error, data, lambda path: valid_keys(path, data))


def refusals_of(error: ValidationError, data: Mapping[str, Any], known: Known) -> list[InvalidValueError]:
    """Return pydantic's errors about raw data as refusals; `known` returns the keys of a section."""
    return [_refusal(details, data, known) for details in error.errors(include_url=False)[:_MAX_PROBLEMS]]


def valid_keys(path: KeyPath, data: Mapping[str, Any]) -> list[str]:
    """Return the keys that may stand in the section at `path`; empty if it is no section.

    Examples
    --------
    >>> valid_keys(("placement",), {})
    ['kind', 'replicas', 'groups', 'window', 'stale', 'plan_seed', 'every', 'moves', 'experts']
    """
    kind = _kind(data)
    if path == ("workload",) and kind in WORKLOADS:
        return keys_of([WORKLOADS[kind]])
    return keys_of(sections_at(ScenarioSpec, path))


def _refusal(details: ErrorDetails, data: Mapping[str, Any], known: Known) -> InvalidValueError:
    """Return one of pydantic's errors as a refusal."""
    path, kind = _path(details["loc"], data), details["type"]
    cause = details.get("ctx", {}).get("error")
    if isinstance(cause, InvalidValueError):
        return cause.below(path)
    if kind == "missing":
        return _missing(path)
    if kind == "extra_forbidden":
        return _unknown_key(path, data, known)
    if kind == "literal_error":
        return _not_one_of(path, details)
    if kind in {"union_tag_invalid", "union_tag_not_found"}:
        return _no_workload_kind(data)
    rule, hint = _TYPES.get(
        kind, ("be a value that the key can have", "`moesim init FILE` writes an example to compare with.")
    )
    if kind == "model_type":
        hint = _section_hint(path, details["input"], known) or hint
    return InvalidValueError(field=path, rule=rule, value=details["input"], hint=hint)


def _section_hint(path: KeyPath, value: object, known: Known) -> str | None:
    """Return how to write a section of which only the name was given; None if nothing can be guessed."""
    keys = [key for key in ("preset", "kind", "strategy") if key in known(path)]
    if not keys or not isinstance(value, str) or re.fullmatch(r"[\w.-]{1,40}", value) is None:
        return None
    return f"Write it as a key, `{{{keys[0]}: {value}}}`."


def _missing(path: KeyPath) -> InvalidValueError:
    """Return the refusal of a section without a key it needs."""
    section, key = dotted(path[:-1]) or "the top level", str(path[-1])
    return InvalidValueError(field=path, rule="be given", value="nothing", hint=f"Add `{key}:` under {section}.")


def _unknown_key(path: KeyPath, data: Mapping[str, Any], known: Known) -> InvalidValueError:
    """Return the refusal of a key that does not exist, or not for this kind of workload."""
    kind, key = _kind(data), path[-1]
    owners = [owner for owner, section in WORKLOADS.items() if key in section.model_fields]
    if len(path) == 2 and path[0] == "workload" and owners:
        hint = f"It belongs to kind {' and '.join(owners)}; remove it."
        value = data["workload"][key]
        return InvalidValueError(field=path, rule=f"be left out with workload.kind {kind}", value=value, hint=hint)
    hint = unknown_key_hint(path, data, known(path[:-1]))
    return InvalidValueError(field=path, rule="be a known key", value=key, hint=hint)


def unknown_key_hint(path: KeyPath, data: Mapping[str, Any], known: Sequence[str]) -> str:
    """Return what to write instead of a key that does not exist: what cannot be said yet, our name, or a near name.

    >>> unknown_key_hint(("workload", "sequenc"), {}, ["sequences"])
    'Did you mean `sequences`?'
    >>> unknown_key_hint(("workload", "context"), {}, [])[:34]
    'Decode with a context of earlier t'
    """
    key = path[-1]
    of_file = _hugging_face_hint(data.get("model"), str(key)) if path[:-1] == ("model",) else None
    of_framework = _framework_hint(path, data)
    return NOT_SAID.get(dotted(path)) or of_file or of_framework or did_you_mean(key, known)


def _framework_hint(path: KeyPath, data: Mapping[str, Any]) -> str | None:
    """Return what the keys of a framework in the section of `path` are called here; None for another key.

    >>> section = {"tensor_parallel_size": 8, "data-parallel-size": 2, "pp": 1}
    >>> _framework_hint(("parallel", "tensor_parallel_size"), {"parallel": section})
    'Here tensor_parallel_size is `tp`, data-parallel-size is `dp`.'
    """
    if len(path) != 2:
        return None
    section, key = str(path[0]), str(path[1])
    given, names = data.get(section), OTHER_NAMES.get(section, {})
    if _spelt(key) not in names:
        return None
    keys = [key, *(str(other) for other in given if other != key)] if isinstance(given, Mapping) else [key]
    return f"Here {', '.join(f'{other} is {names[_spelt(other)]}' for other in keys if _spelt(other) in names)}."


def _spelt(key: str) -> str:
    """Return a key with underscores, as an option `--tensor-parallel-size` is spelt in a file."""
    return key.lower().lstrip("-").replace("-", "_")


def _hugging_face_hint(section: object, key: str) -> str | None:
    """Return what the names of Hugging Face's configs in a section `model:` are called here; None for another name."""
    from sim.scenario.hf_config.names import our_name  # noqa: PLC0415 - only a refusal needs it

    keys = [key, *(str(other) for other in section if other != key)] if isinstance(section, Mapping) else [key]
    names: dict[str, str | None] = {other: our_name(other, keys) for other in keys}
    if names[key] is None:
        return None
    said = ", ".join(f"{other} is `{name}`" for other, name in names.items() if name is not None and name != other)
    return f"Here {said}; or name the file: `hf_config: config.json`."


def _not_one_of(path: KeyPath, details: ErrorDetails) -> InvalidValueError:
    """Return the refusal of a value that is none of a fixed list."""
    expected = re.findall(r"'([^']*)'|([0-9]+)", str(details.get("ctx", {}).get("expected", "")))
    names = [word or digits for word, digits in expected]
    rule = f"be one of {', '.join(names)}" if len(names) > 1 else f"be {names[0]}"
    word = details["input"] if isinstance(details["input"], str) else ""
    hint = did_you_mean(word, names, otherwise="Write one of these.")
    return InvalidValueError(field=path, rule=rule, value=details["input"], hint=hint)


def _no_workload_kind(data: Mapping[str, Any]) -> InvalidValueError:
    """Return the refusal of a workload whose kind is missing or unknown."""
    kinds, kind = [*WORKLOADS], data["workload"].get("kind", "nothing")
    otherwise = "It decides which keys the workload has."
    hint = _KINDS.get(str(kind).lower()) or did_you_mean(kind, kinds, otherwise=otherwise)
    return InvalidValueError(field=("workload", "kind"), rule=f"be one of {', '.join(kinds)}", value=kind, hint=hint)


def _path(loc: tuple[int | str, ...], data: Mapping[str, Any]) -> KeyPath:
    """Return pydantic's location as a path of the file: without the kind of workload and positions of its own."""
    path: list[str | int] = []
    node: Any = data
    for i, part in enumerate(loc):
        if (i == 1 and loc[0] == "workload" and part in WORKLOADS) or (
            isinstance(part, int) and isinstance(node, dict)
        ):
            continue
        path.append(part)
        node = _child(node, part)
    return tuple(path)


def _child(node: object, part: str | int) -> object:
    """Return what stands under a key or position; None if nothing does."""
    if isinstance(node, Mapping):
        return node.get(part)
    return node[part] if isinstance(node, list) and isinstance(part, int) and part < len(node) else None


def _kind(data: Mapping[str, Any]) -> str:
    """Return the kind of the workload as it is written; empty if it is no text."""
    workload = data.get("workload")
    kind = workload.get("kind") if isinstance(workload, Mapping) else None
    return kind if isinstance(kind, str) else ""
