"""What a run is expected to take, against what it takes in a process of its own; no time is asserted."""

import json
import sys
from dataclasses import fields

import numpy as np
import pytest
from fit_estimates import fit
from measured_runs import measure

from sim.run.estimates import COSTS, Counts
from sim.run.resources import PROCESS_BYTES
from sim.scenario.load import load_scenario
from sim.scenario.scenario_files import find_bundled

RUNS = {
    "many events": ("ep16_tp16_pp4", "engine=simpy workload.batches=32"),
    "random routing on 1,024 GPUs": (
        "ep16_tp16_pp4",
        "parallel.strategy=EP16_TP16_PP4_DP16 cluster.num_nodes=128 workload.sequences=2048 workload.batches=1"
        " routing.kind=multinomial",
    ),
    "flow by flow": ("ep64_tp16_pp4", "network.fidelity=flow workload.batches=2"),
    "kernels that the host issues and transfers slow": ("validation/memory/korthikanti_175b", "published"),
}
"""What costs memory -> a bundled scenario, and changes under which it runs for a second or two."""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is read as Linux writes it")
@pytest.mark.parametrize("name", RUNS)
def test_memory_is_within_a_factor_of_two_of_what_was_expected(name):
    """The whole, and what the run adds to the process; the minimum, over which a run is refused, is not more."""
    file, changes = RUNS[name]
    if changes == "published":
        scenario = load_scenario(find_bundled(file)).case(0)
    else:
        scenario = load_scenario(file, overrides=["claims=[]", "alternatives=[]", "rivals=[]", *changes.split()])
    run = measure(name, json.dumps(scenario.raw), str(scenario.path), most_s=60)
    assert not isinstance(run, str), run
    assert run.least_bytes <= run.peak_bytes
    assert run.peak_bytes / 2 <= run.expected_bytes <= 2 * run.peak_bytes
    added, expected = run.peak_bytes - PROCESS_BYTES, run.expected_bytes - PROCESS_BYTES
    assert added / 2.5 <= expected <= 2.5 * added
    assert run.num_events / 2 <= run.expected_events <= 2 * run.num_events


def test_every_count_has_a_cost():
    """Operations and events are results: what they take is in other counts."""
    assert {*COSTS, "num_ops", "num_events"} == {field.name for field in fields(Counts)}
    assert all(min(cost) >= 0 < max(cost) for cost in COSTS.values())


def test_the_fit_finds_costs_that_made_the_figures():
    """Within the noise of the figures; a count that takes nothing gets nothing."""
    draw = np.random.default_rng(1)
    counts = draw.lognormal(3, 2, size=(80, 3))
    measured = counts @ np.array([5.0, 0.0, 0.2]) * draw.lognormal(0, 0.05, size=80)
    costs = fit(counts, measured)
    assert costs == pytest.approx([5.0, 0.0, 0.2], rel=0.1, abs=0.02)
