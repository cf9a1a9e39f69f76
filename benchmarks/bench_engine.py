"""What an operation of a stage costs in the engine: a collective, or the kernels between two synchronisation points.

The cost is engine time alone; planning stands apart. It is per operation as lanes ran them and not per span, so that
recording more spans of the same operations makes it worse, never better.
"""

from collections.abc import Callable
from unittest.mock import patch

import pytest
from measuring import Cost, Row, bare_timeout_s, note, pipeline_plan, run_rounds, time_plan, work_of
from pytest_benchmark.fixture import BenchmarkFixture

import sim.engine.simulation
from sim.engine.plain_network import FluidNetwork as PlainNetwork
from sim.engine.world import Plan

# name -> scenario, most timeouts for an operation, most of the plain network's time (None: no bar)
CASES: dict[str, tuple[str, float | None, float | None]] = {
    "transfers share no link": ("ep16_tp16_pp4", 12, None),
    "all-to-alls of four stages collide, equal bytes": ("ep64_tp16_pp4", 20, None),
    "all-to-alls of four stages collide, random bytes": ("ep64_tp16_pp4_multinomial", 20, 0.5),
}


def test_bare_timeout(benchmark: BenchmarkFixture) -> None:
    """A SimPy timeout, of 4 processes with 50,000 each."""
    (found,) = run_rounds(benchmark, bare_timeout_s)
    note(
        benchmark, Row(case="a bare SimPy timeout", figure=min(found) * 1e6, unit="us", time_s=min(found)), bare_s=found
    )


def plainly(make: Callable[[], Plan]) -> Cost:
    """Time a plan on the network that solves everything at every change."""
    with patch.object(sim.engine.simulation, "FluidNetwork", lambda *links, **_: PlainNetwork(*links)):
        return time_plan(make)


@pytest.mark.parametrize("name", CASES)
def test_stage_operation(benchmark: BenchmarkFixture, name: str) -> None:
    """Engine time of one operation, beside the plain network and the planning of the same run."""
    scenario, most_timeouts, most_of_plain = CASES[name]
    make = pipeline_plan(work_of(scenario, "workload.batches=1"))
    fast, plain, bare = run_rounds(benchmark, lambda: time_plan(make), lambda: plainly(make), bare_timeout_s)
    engine_s = min(cost.engine_s for cost in fast)
    plan_s, plain_s = min(cost.plan_s for cost in fast), min(cost.engine_s for cost in plain)
    num_ops = fast[0].stats.num_stage_ops
    note(
        benchmark,
        Row(
            case=f"stage operation: {name}",
            figure=engine_s / num_ops * 1e6,
            unit="us",
            time_s=engine_s / num_ops,
            bar=most_timeouts,
            bar_on_timeouts=True,
        ),
        Row(case="... engine over plain network", figure=engine_s / plain_s, unit="", bar=most_of_plain),
        Row(case="... planning over engine", figure=plan_s / engine_s, unit="", bar=1.0),
        bare_s=bare,
    )
