"""A name that a user may write is entered in one table: the scenario's keys, schema and messages follow from it."""

from dataclasses import replace

import pytest

from sim.errors import InvalidValueError
from sim.scenario.json_schema import json_schema
from sim.scenario.load import load_scenario_text
from sim.scenario.scenario_files import STARTER
from sim.studies.claims import simulate
from workloads.collectives import COLLECTIVES
from workloads.collectives.settings import ALL_TO_ALLS
from workloads.placement import PLACEMENTS
from workloads.routing import ROUTINGS
from workloads.schedules import SCHEDULES

TABLES = {
    "schedule.kind": (SCHEDULES, "1f1b"),
    "routing.kind": (ROUTINGS, "multinomial"),
    "placement.kind": (PLACEMENTS, "contiguous"),
    "network.all_reduce": (COLLECTIVES, "ring"),
    "network.all_to_all": (ALL_TO_ALLS, "hierarchical"),
}
"""Key of a scenario -> the table that its names are entered in, and an entry of the table."""

SMALL = ["model.layers=2", "workload.sequences=16", "claims=[]", "alternatives=[]", "rivals=[]"]


def names_in_schema(key):
    """Return the names that the JSON Schema lists for a key."""
    section, _, name = key.partition(".")
    entry = json_schema()["properties"][section]
    reference = entry["$ref"] if "$ref" in entry else entry["allOf"][0]["$ref"]
    return json_schema()["$defs"][reference.rpartition("/")[2]]["properties"][name]["enum"]


@pytest.mark.parametrize("key", TABLES)
def test_a_name_that_is_entered_in_its_table_alone_is_in_the_schema_and_in_messages(monkeypatch, key):
    table, entry = TABLES[key]
    with pytest.raises(InvalidValueError) as refused:
        load_scenario_text(STARTER, overrides=[f"{key}=toy"])
    assert refused.value.rule.startswith("be one of ")
    monkeypatch.setitem(table, "toy", table[entry])
    assert "toy" in names_in_schema(key)
    assert load_scenario_text(STARTER, overrides=[f"{key}=toy"]).resolved()[key.partition(".")[0]]
    with pytest.raises(InvalidValueError, match="Did you mean `toy`"):
        load_scenario_text(STARTER, overrides=[f"{key}=toyy"])


@pytest.mark.parametrize("key", [key for key in TABLES if key != "network.all_reduce"])
def test_a_scenario_runs_under_a_name_that_is_entered_in_its_table_alone(monkeypatch, key):
    table, entry = TABLES[key]
    monkeypatch.setitem(table, "toy", replace(table[entry]))
    times = [
        simulate(load_scenario_text(STARTER, overrides=[*SMALL, f"{key}={name}"])).metrics["step_time_s"]
        for name in ("toy", entry)
    ]
    assert times[0] == times[1]
