"""Scenario files: units, schema, overrides, and the place of every error.

======================  ==========================================================
`load_scenario`         read and validate a file or a bundled scenario
`Scenario`              the validated values, and variants of them
`ScenarioSpec`          the schema: every key the contract has
`parse_quantity`        `400 Gb/s` -> bytes/s
`parse_expectation`     `>= 26e6 tokens/s` -> what a claim expects
`STARTER`               a scenario to start from
======================  ==========================================================

Contents
--------
- `sim.scenario.load`: reads a scenario: `yaml_file` the text, `overrides` the changes by keys, `problems` the refusals.
- `sim.scenario.scenario`: a scenario, and its variants; `places`: where each of its values comes from.
- `sim.scenario.schema`: every key; `json_schema`: the same for editors; `sections`, `fields`: sections and values.
- `sim.scenario.cluster_section`, `model_section`, `parallel_section`, `workload_section`, `claims_section`,
  `runtime_section`, `search_section`, `serving_section`, `engine_names`: the keys.
- `sim.scenario.units`, `expectation`, `claim_units`: quantities, what claims expect, and the units of metrics.
- `sim.scenario.scenario_files`, `suite_file`: where scenarios are, and what a suite is; `published_table`: its tables.
- `sim.scenario.document`: whether a document says what a claim quotes.
- `sim.scenario.file_bytes`: the content of input files; `cluster_file`, `hf_config`, `recordings`: clusters as YAML,
  configs of models, and recorded routing.

Nothing is imported before it is used.
"""

import importlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sim.scenario.expectation import Expectation, parse_expectation
    from sim.scenario.load import load_scenario, load_scenario_text
    from sim.scenario.overrides import apply_overrides
    from sim.scenario.scenario import Scenario
    from sim.scenario.scenario_files import STARTER, bundled_folder, find_bundled, list_bundled
    from sim.scenario.schema import ScenarioSpec
    from sim.scenario.units import parse_quantity

__all__ = [
    "STARTER",
    "Expectation",
    "Scenario",
    "ScenarioSpec",
    "apply_overrides",
    "bundled_folder",
    "find_bundled",
    "list_bundled",
    "load_scenario",
    "load_scenario_text",
    "parse_expectation",
    "parse_quantity",
]

_MODULES: Final = {
    "STARTER": "scenario_files",
    "Expectation": "expectation",
    "Scenario": "scenario",
    "ScenarioSpec": "schema",
    "apply_overrides": "overrides",
    "bundled_folder": "scenario_files",
    "find_bundled": "scenario_files",
    "list_bundled": "scenario_files",
    "load_scenario": "load",
    "load_scenario_text": "load",
    "parse_expectation": "expectation",
    "parse_quantity": "units",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
