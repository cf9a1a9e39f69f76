"""The schema as a whole: its table of what is not supported yet, its JSON Schema, and what importing it costs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from sim.scenario.json_schema import json_schema
from sim.scenario.load import load_scenario_text
from sim.scenario.problems import valid_keys
from sim.scenario.schema import ScenarioSpec
from workloads.schedules import SCHEDULES

KEYS = [
    "name",
    "cluster",
    "model",
    "parallel",
    "workload",
    "schedule",
    "routing",
    "placement",
    "network",
    "runtime",
    "profile",
    "factors",
    "what_if",
    "jitter",
    "engine",
    "seed",
    "seeds",
    "assumed",
    "document",
    "claims",
    "alternatives",
    "rivals",
    "stress",
    "search",
    "published",
    "published_table",
]
"""The contract's top-level keys."""


def _objects(schema):
    """Yield every part of a JSON Schema."""
    if isinstance(schema, dict):
        yield schema
        for value in schema.values():
            yield from _objects(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _objects(value)


def test_the_schema_has_the_contracts_keys():
    assert list(ScenarioSpec.model_fields) == KEYS
    assert valid_keys((), {}) == KEYS


def test_names_that_are_supported_are_accepted(contract_text):
    for section, key, names in [
        ("schedule", "kind", ["gpipe", "1f1b", "zb_h1", "zb_2p"]),
        ("routing", "kind", ["balanced", "multinomial", "zipf", "drift", "stride"]),
        ("placement", "kind", ["contiguous", "random", "greedy", "eplb"]),
        ("network", "all_reduce", ["auto", "ring", "hierarchical"]),
        ("parallel", "convention", ["megatron", "vllm", "spanning"]),
        ("cluster", "preset", ["dgx-h100", "dgx-b200", "mi300x"]),
        ("cluster", "fabric", ["fat_tree", "rail_only", "switch"]),
        ("parallel", "exchange", ["one_sided", "blocking"]),
    ]:
        for name in names:
            assert load_scenario_text(contract_text, overrides=[f"{section}.{key}={name}"])


def test_zero_1_is_accepted_in_training(contract_text):
    text = contract_text.replace("kind: forward", "kind: training").replace("  batches: 4", "  #")
    assert load_scenario_text(text, overrides=["parallel.zero=1"]).spec.parallel.zero == 1


def test_the_json_schema_of_assumed_values_is_a_map_of_texts():
    assumed = json_schema()["properties"]["assumed"]
    assert (assumed["type"], assumed["maxProperties"], assumed["additionalProperties"]["type"]) == (
        "object",
        100,
        "string",
    )


def test_every_field_is_described():
    schema = json_schema()
    for part in _objects(schema):
        for name, field in part.get("properties", {}).items():
            target = schema["$defs"].get(field.get("$ref", "").removeprefix("#/$defs/"), {})
            assert {**target, **field}.get("description", "").endswith((".", "]")), name


def test_the_json_schema_is_closed_and_its_references_resolve():
    schema = json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["required"] == ["workload"]
    for part in _objects(schema):
        if "properties" in part and "type" in part:
            assert part["additionalProperties"] is False
        if isinstance(part.get("$ref"), str):
            assert part["$ref"].removeprefix("#/$defs/") in schema["$defs"]


def test_quantities_are_texts_with_a_pattern_for_editors():
    memory = json_schema()["$defs"]["DeviceSpec"]["properties"]["memory"]["anyOf"][0]
    assert memory["type"] == "string"
    assert re.fullmatch(memory["pattern"], "64 GB")
    assert not re.fullmatch(memory["pattern"], "64 gb")
    assert not re.fullmatch(memory["pattern"], "64 Gb/s")


def test_editors_offer_only_what_is_supported():
    definitions = json_schema()["$defs"]
    assert set(SCHEDULES) <= set(definitions["ScheduleSpec"]["properties"]["kind"]["enum"])
    assert definitions["ParallelSpec"]["properties"]["zero"]["enum"] == [0, 1, 2, 3]
    schema = json_schema()
    kinds = {"forward", "training", "passes", "collective", "serving"}
    assert set(schema["properties"]["workload"]["discriminator"]["mapping"]) == kinds


def test_importing_the_package_imports_nothing_heavy():
    code = (
        "import sys, sim.scenario, sim.scenario.units, sim.scenario.expectation, sim.scenario.scenario_files\n"
        "print([m for m in ('pydantic', 'ruamel', 'numpy', 'simpy', 'matplotlib', 'networkx') if m in sys.modules])"
    )
    root = Path(__file__).parents[3]
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert result.stdout.strip() == "[]"


def test_public_names_are_found_and_others_are_not():
    import sim.scenario

    for name in sim.scenario.__all__:
        assert getattr(sim.scenario, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = sim.scenario.nothing
