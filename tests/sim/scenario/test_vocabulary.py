"""A name that a user may write is entered in one table: the scenario's keys, schema and messages follow from it."""

from dataclasses import replace

import pytest

from sim.errors import InvalidValueError
from sim.scenario.json_schema import json_schema
from sim.scenario.load import load_scenario_text
from sim.scenario.scenario_files import STARTER
from sim.studies.claims import simulate
from topology.fabrics import WIRINGS
from topology.presets.clusters import CLUSTERS
from topology.presets.devices import DEVICES
from workloads.collectives import COLLECTIVES, OPERATIONS
from workloads.collectives.settings import ALL_TO_ALLS
from workloads.conventions import CONVENTIONS
from workloads.placement import PLACEMENTS
from workloads.presets import MODELS
from workloads.routing import ROUTINGS
from workloads.schedules import SCHEDULES

TABLES = {
    "schedule.kind": (SCHEDULES, "1f1b"),
    "routing.kind": (ROUTINGS, "multinomial"),
    "placement.kind": (PLACEMENTS, "contiguous"),
    "network.all_reduce": (COLLECTIVES, "ring"),
    "network.all_to_all": (ALL_TO_ALLS, "hierarchical"),
    "parallel.convention": (CONVENTIONS, "megatron"),
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
    section, _, name = key.partition(".")
    assert load_scenario_text(STARTER, overrides=[f"{key}=toy"]).resolved()[section][name] == "toy"
    with pytest.raises(InvalidValueError, match="Did you mean `toy`"):
        load_scenario_text(STARTER, overrides=[f"{key}=toyy"])


@pytest.mark.parametrize("key", [key for key in TABLES if key != "network.all_reduce"])
def test_a_scenario_runs_under_a_name_that_is_entered_in_its_table_alone(monkeypatch, key):
    """An algorithm of all-reduces is left out: protocols of its own are entered in a second table, of hardware."""
    table, entry = TABLES[key]
    monkeypatch.setitem(table, "toy", replace(table[entry]))
    times = [
        simulate(load_scenario_text(STARTER, overrides=[*SMALL, f"{key}={name}"])).metrics["step_time_s"]
        for name in ("toy", entry)
    ]
    assert times[0] == times[1]


PRESETS = {
    "cluster.preset": (CLUSTERS, "dgx-h100"),
    "cluster.device.preset": (DEVICES, "h100-sxm"),
    "model.preset": (MODELS, "mixtral-8x7b"),
}
"""Key of a preset -> the table that presets are entered in, and an entry of the table."""


@pytest.mark.parametrize("key", PRESETS)
def test_a_scenario_runs_under_a_preset_that_is_entered_in_its_table_alone(monkeypatch, key):
    table, entry = PRESETS[key]
    with pytest.raises(InvalidValueError):
        simulate(load_scenario_text(STARTER, overrides=[*SMALL, f"{key}=toy"]))
    monkeypatch.setitem(table, "toy", table[entry])
    times = [
        simulate(load_scenario_text(STARTER, overrides=[*SMALL, f"{key}={name}"])).metrics["step_time_s"]
        for name in ("toy", entry)
    ]
    assert times[0] == times[1]


def test_a_collective_runs_as_an_operation_that_is_entered_in_its_table_alone(monkeypatch):
    text = (
        "cluster: {preset: dgx-h100, num_nodes: 1}\nworkload: {kind: collective, num_ranks: 8, bytes: 1 MB, op: OP}\n"
    )
    monkeypatch.setitem(OPERATIONS, "toy", OPERATIONS["all_to_all"])
    simulated = [simulate(load_scenario_text(text.replace("OP", op))).metrics for op in ("toy", "all_to_all")]
    assert simulated[0] == simulated[1]


def test_a_wiring_that_is_entered_in_its_table_alone_is_built(monkeypatch):
    monkeypatch.setitem(WIRINGS, "toy", WIRINGS["fat_tree"])
    overrides = [*SMALL, "cluster.num_nodes=4", "parallel.strategy=EP8_TP1_PP1_DP32", "workload.sequences=64"]
    times = [
        simulate(load_scenario_text(STARTER, overrides=[*overrides, f"cluster.fabric.kind={name}"])).metrics[
            "step_time_s"
        ]
        for name in ("toy", "fat_tree")
    ]
    assert times[0] == times[1]
