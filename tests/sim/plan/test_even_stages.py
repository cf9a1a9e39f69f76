"""Stages that compute equally long: by hand on given passes, and identities on a model."""

import numpy as np
import pytest

from sim.run.simulate import simulate_scenario
from sim.scenario.scenario import Scenario

SLOW_LAST = [{"F": "1 ms", "B": "2 ms", "W": "1 ms"}, {"F": "3 ms", "B": "4 ms", "W": "3 ms"}]


def passes(times, schedule="1f1b", **sections):
    """Return three microbatches on two stages, whose hops take no time."""
    workload = {"kind": "passes", "microbatches": 3, "pass_times": times, "p2p": "0 s"}
    return Scenario.validated({"parallel": {"pp": 2}, "workload": workload, "schedule": {"kind": schedule}, **sections})


def step_ns(scenario):
    return simulate_scenario(scenario).run.trace.step_ns


@pytest.mark.parametrize("schedule", ["1f1b", "gpipe", "zb_h1"])
@pytest.mark.parametrize(
    ("what_if", "mended"),
    [
        # F (1 + 3) / 2; B with W (3 + 7) / 2 = 5, shared as before: 2 to 1, and 4 to 3
        ("even_stages", [{"F": 2.0, "B": 10 / 3, "W": 5 / 3}, {"F": 2.0, "B": 20 / 7, "W": 15 / 7}]),
        ("even_last_stage", [{"F": 1.0, "B": 2.0, "W": 1.0}, {"F": 2.0, "B": 20 / 7, "W": 15 / 7}]),
    ],
)
def test_given_passes_by_hand(schedule, what_if, mended):
    times = [{kind: f"{ms * 1e3} us" for kind, ms in stage.items()} for stage in mended]
    expected_ns = step_ns(passes(times, schedule))
    assert step_ns(passes(SLOW_LAST, schedule, what_if=[what_if])) == pytest.approx(expected_ns, abs=20)
    assert expected_ns < step_ns(passes(SLOW_LAST, schedule))


def test_1f1b_of_even_stages_is_its_closed_form():
    """(m + p - 1) (F + B) with the mean of the stages' times."""
    assert step_ns(passes(SLOW_LAST, what_if=["even_stages"])) == pytest.approx((3 + 2 - 1) * (2 + 5) * 1e6, abs=8)


def model(**sections):
    """Return a dense model whose last stage also has the output head."""
    return Scenario.validated(
        {
            "cluster": {"preset": "dgx-a100", "num_nodes": 1},
            "model": {"layers": 4, "hidden": 1024, "heads": 8, "ffn": 4096, "vocab": 64000},
            "parallel": {"strategy": "TP2_PP4", "convention": "megatron"},
            "workload": {"kind": "training", "sequences": 8, "sequence_length": 512, "microbatches": 4},
            **sections,
        }
    )


def computed_ns(scenario):
    """Return how long the passes of each stage compute."""
    trace = simulate_scenario(scenario).run.trace
    rows = trace.rows("compute")
    rows = rows[trace["kind"][rows] != "optimizer"]
    took_ns = (trace.ints("end_ns") - trace.ints("start_ns"))[rows]
    return np.bincount(trace.ints("stage")[rows], weights=took_ns, minlength=trace.num_stages)


def test_kernels_of_a_model_move_and_none_is_lost():
    before, after = computed_ns(model()), computed_ns(model(what_if=["even_stages"]))
    assert before[-1] > 1.5 * before[1]
    assert after == pytest.approx(np.full(4, before.mean()), rel=1e-4)
    last = computed_ns(model(what_if=["even_last_stage"]))
    assert last[:-1].tolist() == before[:-1].tolist()
    assert last[-1] == pytest.approx(before.mean(), rel=1e-4)


def test_both_are_even_stages():
    both = computed_ns(model(what_if=["even_last_stage", "even_stages"]))
    assert both.tolist() == computed_ns(model(what_if=["even_stages"])).tolist()
