"""The schema of a scenario as JSON Schema (draft 2020-12), for editors and for the documentation.

It is made from the models, so it cannot fall behind them. Checks between keys are not in it: an editor accepts a little
more than `load_scenario` does.
"""

from typing import Any

from pydantic.json_schema import CoreModeRef, CoreRef, DefsRef, GenerateJsonSchema

from sim.scenario.fields import Section
from sim.scenario.schema import ScenarioSpec
from sim.scenario.sections import sections_at

__all__ = ["json_schema"]


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a scenario file.

    Examples
    --------
    >>> json_schema()["$defs"]["ParallelSpec"]["properties"]["convention"]["enum"]
    ['megatron', 'vllm', 'spanning']
    """
    schema = ScenarioSpec.model_json_schema(mode="validation", schema_generator=_NamedSections)
    _describe(schema, ScenarioSpec, schema["$defs"])
    for section in _sections(ScenarioSpec):
        _describe(schema["$defs"][section.model_config.get("title") or section.__name__], section, schema["$defs"])
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "moesim scenario"}


class _NamedSections(GenerateJsonSchema):
    """Gives the section of a model the name that its title has, by which other files may refer to it."""

    def get_defs_ref(self, core_mode_ref: CoreModeRef) -> DefsRef:
        """Return the name of a section in the schema."""
        reference, mode = core_mode_ref
        return super().get_defs_ref((CoreRef(reference.replace("ModelSection", "ModelSpec")), mode))


def _sections(root: type[Section]) -> set[type[Section]]:
    """Return all sections that may stand below a section."""
    below = {child for key in root.model_fields for child in sections_at(root, [key])}
    return below.union(*map(_sections, below))


def _describe(part: dict[str, Any], section: type[Section], sections: dict[str, Any]) -> None:
    """Add the docstrings of a section's fields to its part of the schema, unless the section below says the same."""
    for key, description in section.descriptions().items():
        name = section.model_fields[key].alias or key
        below = sections.get(part["properties"][name].get("$ref", "").rpartition("/")[2], {})
        if below.get("description") == description:
            continue
        described = {**part["properties"][name], "description": description}
        part["properties"][name] = {word: described[word] for word in sorted(described)}  # as pydantic orders words
