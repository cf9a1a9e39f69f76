"""Single keys of a scenario, with values of their types, as the JSON Schema says: a new key is drawn as well."""

import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from sim.scenario.json_schema import json_schema
from topology.presets.clusters import CLUSTERS
from topology.presets.devices import DEVICES
from workloads.presets import MODELS

__all__ = ["ENTRIES", "SCHEMA", "Data", "drawn_keys", "schema_keys", "set_any_key", "value_of_key"]

Data = dict[str, Any]

_SIZES: Final[Mapping[str, Sequence[int]]] = {
    "cluster.num_nodes": (1, 2, 3, 4),
    "model.hidden": (16, 32, 64, 100, 128),
    "model.ffn": (1, 32, 64, 96),
    "model.vocab": (1, 100, 512, 1000),
    "model.hf_config": (),
    "workload.sequence_length": (1, 7, 16, 64, 128),
    "workload.sequences": (1, 3, 8, 16, 64),
    "seeds": (1, 2),
    "routing.max_nodes_per_token": (1, 1, 2, 3),
    "routing.dead_experts": (0, 1, 2, 3, 5, 8, 12),
}
"""Sizes that keep a scenario small and do not follow from the schema."""
_COUNTS: Final = (0, 1, 2, 3, 4, 5, 7, 8, 12, 16, 64)
"""Any other count."""
_RATIOS: Final = (0, 1e-9, 0.01, 0.1, 0.5, 0.9, 1, 1.25, 2, 3.7, 10, 1e3, 1e9)
_TEXTS: Final = ("x", "$x^$", "a\nb", "\x00", "\u202eabc", "\U0001f600", "0.1", "nic0.0->leaf0.0", "<&>", "EP8_TP2")
_QUANTITIES: Final[Mapping[str, Sequence[str]]] = {
    "GB": ("1 B", "64 kB", "1 MiB", "16 GB", "10 TB"),
    "Gb/s": ("1 B/s", "1 kb/s", "100 Gb/s", "400 GB/s", "1000 TB/s"),
    "TFLOP/s": ("1 FLOP/s", "1 GFLOP/s", "100 TFLOP/s", "1000 PFLOP/s"),
    "us": ("0 s", "1 ns", "3 us", "2 ms", "1 s"),
    "%": ("1 %", "80 %", "100 %"),
    "tokens": ("1 tokens", "100 tokens"),
}
"""A unit that a pattern of the schema takes -> values."""
_NOT_DRAWN: Final = frozenset(
    {
        "published",
        "published_table",
        "stress",
        "search",
        "assumed",
        "document",
        "model.hf_config",
        "cluster.file",
        "engine",
    }
)
"""Keys that `moesim run` does not use, keys whose files other tests draw, and the engine: it has tests of its own."""


def schema_keys() -> dict[str, Data]:
    """Return the schema of each key that `run` uses, by its dotted key; a key that two kinds have stands once.

    >>> "model.kv_lora_rank" in schema_keys() and "cluster.device.memory" in schema_keys()
    True
    """
    schema = json_schema()
    return dict(_keys_below("", schema, schema["$defs"]))


def drawn_keys() -> list[str]:
    """Return the keys that are drawn."""
    return [key for key in schema_keys() if key not in _NOT_DRAWN and key.partition(".")[0] not in _NOT_DRAWN]


def _keys_below(prefix: str, part: Data, sections: Data) -> Iterator[tuple[str, Data]]:
    for name, entry in part.get("properties", {}).items():
        key = f"{prefix}{name}"
        below = list(_sections_in(entry, sections))
        if not below:
            yield key, entry
        for section in below:
            yield from _keys_below(f"{key}.", section, sections)


def _sections_in(entry: Data, sections: Data) -> Iterator[Data]:
    """Yield the sections that a value may be; not those in lists."""
    choices = [entry, *entry.get("anyOf", ()), *entry.get("oneOf", ())]
    for choice in choices:
        section = sections.get(choice.get("$ref", "").rpartition("/")[2])
        if section and "properties" in section:
            yield section


SCHEMA: Final = json_schema()
ENTRIES: Final = {key: entry for key, entry in schema_keys().items() if key in set(drawn_keys())}
_KEYS: Final = list(ENTRIES)


def set_any_key(draw: random.Random, data: Data) -> None:
    """Give any key of a section that the scenario has, or at times of any section, a value of its type."""
    own = {f"workload.{key}" for key in _workload_of(data)}
    sections = {key.partition(".")[0] for key in _KEYS if "." not in key} | {*data}
    near = [
        key for key in _KEYS if key.partition(".")[0] in sections and (key in own or not key.startswith("workload."))
    ]
    keys = _KEYS if draw.random() < 0.1 else near
    key = draw.choice(keys)
    node, parts = data, key.split(".")
    for part in parts[:-1]:
        below = node.setdefault(part, {})
        if not isinstance(below, dict):
            below = node[part] = {"preset" if part == "device" else "kind": below}
        node = below
    node[parts[-1]] = value_of_key(draw, key, ENTRIES[key])


def _workload_of(data: Data) -> list[str]:
    """Return the keys of the scenario's kind of workload."""
    sections = (section["properties"] for section in SCHEMA["$defs"].values() if "properties" in section)
    return next([*keys] for keys in sections if keys.get("kind", {}).get("const") == data["workload"].get("kind"))


def value_of_key(draw: random.Random, key: str, entry: Data) -> Any:  # noqa: ANN401  # any value of a scenario
    """Return a value that an entry of the schema allows, or nearly."""
    if "$ref" in entry:
        return _section(draw, key, SCHEMA["$defs"][entry["$ref"].rpartition("/")[2]])
    for word in ("anyOf", "oneOf"):
        if word in entry:
            return value_of_key(draw, key, draw.choice(entry[word]))
    if "enum" in entry:
        return draw.choice(entry["enum"])
    if "const" in entry:
        return entry["const"]
    return _OF_TYPE[entry.get("type", "null")](draw, key, entry)


def _integer(draw: random.Random, key: str, entry: Data) -> int:
    allowed = [n for n in _SIZES.get(key, _COUNTS) if entry.get("minimum", 0) <= n <= entry.get("maximum", n)]
    return draw.choice(allowed or [entry.get("minimum", 0)])


def _number(draw: random.Random, _: str, entry: Data) -> float:
    allowed = [n for n in _RATIOS if entry.get("minimum", 0) <= n <= entry.get("maximum", n)]
    return draw.choice(allowed)


def _string(draw: random.Random, key: str, entry: Data) -> str:
    if key in {"cluster.device.preset", "cluster.preset", "model.preset"}:
        return draw.choice([*{"model": MODELS, "cluster": CLUSTERS}.get(key[:-7], DEVICES)])
    pattern = entry.get("pattern", "")
    fitting = [text for values in _QUANTITIES.values() for text in values if re.search(pattern, text)]
    if pattern and pattern != r"^\S+$" and fitting:
        return draw.choice(fitting)
    return draw.choice(_TEXTS)


def _list(draw: random.Random, key: str, entry: Data) -> list[Any]:
    items = entry.get("items", {"type": "integer"})
    if isinstance(entry.get("prefixItems"), list):
        return [value_of_key(draw, key, item) for item in entry["prefixItems"]]
    return [value_of_key(draw, key, items) for _ in range(draw.choice([0, 1, 1, 2, 4]))]


def _section(draw: random.Random, key: str, section: Data) -> Any:  # noqa: ANN401  # a mapping or a name
    if "properties" not in section:
        return value_of_key(draw, key, section)
    required = section.get("required", ())
    chosen = [name for name in section["properties"] if name in required or draw.random() < 0.3]
    return {name: value_of_key(draw, f"{key}.{name}", section["properties"][name]) for name in chosen}


def _mapping(draw: random.Random, _: str, __: Data) -> Data:
    return {draw.choice(_KEYS): draw.choice([1, 2, 4, "x"])}


_OF_TYPE: Final[Mapping[str, Callable[[random.Random, str, Data], Any]]] = {
    "integer": _integer,
    "number": _number,
    "boolean": lambda draw, _, __: draw.random() < 0.5,
    "string": _string,
    "array": _list,
    "object": _mapping,
    "null": lambda _, __, ___: None,
}
