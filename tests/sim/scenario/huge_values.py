"""Gives each integer key of a scenario huge values, and prints what came of it: a program for `test_huge_values.py`."""

import json
import sys
import time
from collections.abc import Iterator
from typing import Any

from sim.errors import MoesimError
from sim.run.resources import Limits
from sim.scenario.fields import MAX_SIZES
from sim.scenario.json_schema import json_schema
from sim.scenario.load import load_scenario_text
from sim.studies.claims import simulate

MODEL = """
cluster: {preset: dgx-h100, num_nodes: 1}
model: {layers: 8, hidden: 2048, heads: 16, ffn: 5632, experts: 8, top_k: 2, vocab: 32000}
parallel: {strategy: EP8_TP1_PP1_DP8}
"""
SCENARIOS = {
    "forward": MODEL + "workload: {kind: forward, sequences: 64, sequence_length: 2048, microbatches: 2}\n",
    "training": MODEL + "workload: {kind: training, sequences: 64, sequence_length: 2048, microbatches: 2}\n",
    "passes": "parallel: {pp: 4}\nworkload: {kind: passes, microbatches: 8, pass_times: {F: 1 ms, B: 2 ms}}\n",
}
"""Kind of workload -> a scenario that takes a tenth of a second."""
CLAIM = "claims=[{id: fast, says: fast, source: here, metric: step_time_s, superlative: least}]"
"""What makes alternatives and rivals run."""
HUGE = (10**9, 8 * 10**9, 10**18)


def integer_keys(kind: str) -> list[str]:
    """Return the dotted keys that take an integer, in a scenario of a kind."""
    schema = json_schema()
    named = {"cluster": "ClusterSpec", "model": "ModelSpec", "parallel": "ParallelSpec", "routing": "RoutingSpec"}
    sections = named | {"workload": f"{kind.capitalize()}Workload"}
    found = [key for key, entry in schema["properties"].items() if _is_integer(entry)]
    for section, name in sections.items():
        properties = schema["$defs"][name]["properties"]
        found += [f"{section}.{key}" for key, entry in properties.items() if _is_integer(entry)]
    return found


def _is_integer(entry: dict[str, Any]) -> bool:
    """Tell whether a key takes an integer out of a range, or a list of them."""
    parts = [part for part in (entry, *entry.get("anyOf", ())) if "enum" not in part]
    return any(part.get("type") == "integer" or part.get("items", {}).get("type") == "integer" for part in parts)


def cases(kind: str) -> Iterator[list[str]]:
    """Yield the changes of each case: every key with huge values and its largest, in the scenario and in variants."""
    for key in integer_keys(kind):
        for value in (*HUGE, *([MAX_SIZES[key]] if key in MAX_SIZES else [])):
            written = f"[{value}]" if key.endswith("stage_layers") else value
            yield [f"{key}={written}"]
            if kind == "forward":
                yield [f"alternatives=[{{{key}: {written}}}]", CLAIM]
    if kind == "forward":
        yield [f"{key}={MAX_SIZES[key]}" for key in ("workload.sequences", "workload.sequence_length")]
        yield [f"{key}={MAX_SIZES[key]}" for key in ("workload.sequences", "workload.microbatches")]
        yield [f"rivals=[EP8_TP1_PP1_DP8, {{workload.microbatches: {MAX_SIZES['workload.microbatches']}}}]", CLAIM]


def outcome(kind: str, changes: list[str]) -> dict[str, object]:
    """Return what came of a case, and the seconds that it took."""
    began, said, code = time.perf_counter(), "", 0
    try:
        scenario = load_scenario_text(SCENARIOS[kind], file="huge.yaml", overrides=changes)
        simulate(scenario, limits=Limits(max_events=50_000))
    except MoesimError as error:
        said, code = str(error), error.exit_code
    return {"changes": changes, "code": code, "said": said, "seconds": time.perf_counter() - began}


if __name__ == "__main__":
    for changes in cases(sys.argv[1]):
        sys.stdout.write(json.dumps(outcome(sys.argv[1], changes)) + "\n")
        sys.stdout.flush()
