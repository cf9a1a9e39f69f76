"""Scenarios drawn from the schema: each runs with every invariant, or is refused with all parts.

`tools/try_scenarios.py` tries any number of them, with any seed.
"""

import math
from pathlib import Path

import pytest
from scenario_draws import draw_scenario
from scenario_keys import drawn_keys
from try_scenarios import try_scenario

SEED = 20_24
"""Seed of the scenarios that belong to the suite."""
BLOCKS, PER_BLOCK = 8, 30
"""Blocks of scenarios, which may run at a time, and scenarios of a block."""


@pytest.mark.parametrize("block", range(BLOCKS))
def test_a_drawn_scenario_runs_with_every_invariant_or_is_refused_with_all_parts(block, tmp_path: Path):
    """A scenario that fails is shown by `python tools/try_scenarios.py 1 --seed SEED --first NUMBER --show`."""
    faults = {
        number: trial.faults
        for number in range(block * PER_BLOCK, (block + 1) * PER_BLOCK)
        if (trial := try_scenario(SEED, number, tmp_path, most_s=math.inf)).faults
    }
    assert not faults


def test_half_of_the_drawn_scenarios_run(tmp_path: Path):
    """Otherwise the draws would say little about runs."""
    outcomes = [try_scenario(SEED + 1, number, tmp_path).outcome for number in range(20)]
    assert outcomes.count("ran") >= 10


def test_every_key_of_the_schema_is_drawn():
    """Each key has a value in some scenario, so that a new key is tried as well."""
    missing = set(drawn_keys())
    for number in range(6000):
        data = draw_scenario(SEED, number).data
        missing -= {key for key in missing if has(data, key)}
    assert not missing


def has(data: object, key: str) -> bool:
    """Return whether data has a dotted key."""
    first, _, rest = key.partition(".")
    if not isinstance(data, dict) or first not in data:
        return False
    return not rest or has(data[first], rest)
