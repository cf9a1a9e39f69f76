"""A section whose keys are the fields of a dataclass."""

from dataclasses import dataclass
from typing import Annotated

import pytest
from pydantic import TypeAdapter, ValidationError

from sim.scenario import fields
from sim.scenario.fields import name_of
from sim.scenario.schema import ScenarioSpec
from sim.scenario.sections import DerivedSection, ParsedBy, keys_from, keys_of, sections_at
from workloads.collectives.settings import DEFAULT_NETWORK, NetworkSettings
from workloads.model import ModelSpec
from workloads.placement import PlacementRule


@dataclass(frozen=True, kw_only=True)
class Engine:
    """A value with a field of each type that needs no check of its own."""

    cylinders: int = 4
    """Number of cylinders."""
    is_turbo: bool = False
    """Whether there is a turbocharger."""
    load: float | None = None
    """Share of the power."""
    fuel: str = "petrol"
    """What is burnt."""


@pytest.fixture
def section(monkeypatch):
    """Return a section with the keys of an engine."""
    monkeypatch.setitem(fields.MAX_SIZES, "engine.cylinders", 16)

    @keys_from(Engine, section="engine", fuel=name_of(lambda: ["petrol", "diesel"]))
    class EngineSection(DerivedSection):
        """An engine."""

    return EngineSection


def test_a_field_of_a_dataclass_is_a_key_with_its_default(section):
    assert section().values_of(Engine) == {"cylinders": 4, "is_turbo": False, "load": None, "fuel": "petrol"}
    assert keys_of([section]) == ["cylinders", "is_turbo", "load", "fuel"]


@pytest.mark.parametrize(
    "wrong", [{"cylinders": 0}, {"cylinders": 17}, {"is_turbo": 1}, {"load": -1}, {"fuel": "water"}, {"wheels": 4}]
)
def test_the_type_of_a_field_gives_the_check_of_its_key(section, wrong):
    with pytest.raises(ValidationError):
        section(**wrong)


def test_a_section_becomes_the_value_whose_fields_are_its_keys(section):
    adapter = TypeAdapter(Annotated[Engine, ParsedBy(section)])
    engine = adapter.validate_python({"fuel": "diesel"})
    assert engine == Engine(fuel="diesel")
    assert adapter.dump_python(engine) == {"cylinders": 4, "is_turbo": False, "load": None, "fuel": "diesel"}


def test_a_field_of_a_type_without_a_check_is_refused_when_the_section_is_made():
    with pytest.raises(TypeError, match="fuel"):
        keys_from(Engine, section="network", leave_out=("cylinders",))(DerivedSection)


def test_sections_of_a_scenario_are_values_of_the_domain():
    spec = ScenarioSpec.model_validate(
        {"cluster": {"preset": "dgx-h100", "num_nodes": 1}, "workload": {"kind": "collective", "op": "all_reduce",
         "num_ranks": 2, "bytes": "1 MB"}, "network": {"all_reduce": "ring"}}
    )  # fmt: skip
    assert spec.network == NetworkSettings(all_reduce="ring")
    assert spec.placement == PlacementRule()
    assert ScenarioSpec.model_fields["network"].default == DEFAULT_NETWORK


@pytest.mark.parametrize(("key", "value"), [("network", NetworkSettings), ("model", ModelSpec)])
def test_every_field_of_a_value_is_a_key_with_a_description(key, value):
    (section,) = sections_at(ScenarioSpec, [key])
    derived = {
        "formats",
        "fusions",
    }  # of a model: `runtime.fp8_recipe`, `runtime.unfused_ops` and their neighbours decide
    assert set(value.__dataclass_fields__) - derived <= set(keys_of([section]))
    assert set(section.descriptions()) == set(section.model_fields)
    assert all("None" not in text for text in section.descriptions().values())
