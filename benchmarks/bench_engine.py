"""What an operation of a stage costs in the engine: a collective, or the kernels between two synchronisation points.

The cost is engine time alone; planning stands apart. It is per operation as lanes ran them and not per span, so that
recording more spans of the same operations makes it worse, never better.
"""

from collections.abc import Callable
from unittest.mock import patch

import pytest
from flat_switch import FlatSwitchPlan, FlatSwitchStep
from measuring import Cost, Row, bare_timeout_s, note, pipeline_plan, run_rounds, time_plan, work_of
from plain_network import PlainNetwork
from pytest_benchmark.fixture import BenchmarkFixture

import sim.engine.simulation
from sim.engine.run_state import Plan

# name -> scenario (None: flat switch), most timeouts for an operation, most of the plain network's time (None: no bar)
CASES: dict[str, tuple[str | None, float | None, float | None]] = {
    "transfers share no link": ("ep16_tp16_pp4", 12, None),
    "all-to-alls of four stages over 64 GPUs collide, random bytes": (None, 20, 0.5),
    "ep64_tp16_pp4, experts serve all stages, equal bytes": ("ep64_tp16_pp4", 20, None),
    "ep64_tp16_pp4, experts serve all stages, random bytes": ("ep64_tp16_pp4_multinomial", 20, 0.5),
}


def test_bare_timeout(benchmark: BenchmarkFixture) -> None:
    """A SimPy timeout, of 4 processes with 50,000 each."""
    (found,) = run_rounds(benchmark, bare_timeout_s)
    note(
        benchmark, Row(case="a bare SimPy timeout", figure=min(found) * 1e6, unit="us", time_s=min(found)), bare_s=found
    )


def plainly(make: Callable[[], Plan]) -> Cost:
    """Time a plan on the network that solves everything at every change."""
    with (
        patch.object(sim.engine.simulation, "FluidNetwork", lambda *links, **_: PlainNetwork(*links)),
        patch.object(PlainNetwork, "_note_use", lambda *_: None),  # the engine's time is without the course of loads
    ):
        return time_plan(make)


def plan_maker(scenario: str | None) -> Callable[[], Plan]:
    """Return what makes the plan of a case; None: all-to-alls over all ports of the flat switch, of random bytes."""
    if scenario is None:
        return lambda: FlatSwitchPlan(FlatSwitchStep(exchange_seed=1, num_microbatches=4))
    return pipeline_plan(work_of(scenario, "workload.batches=1"))


@pytest.mark.parametrize("name", CASES)
def test_stage_operation(benchmark: BenchmarkFixture, name: str) -> None:
    """Engine time of one operation, next to the plain network and the planning of the same run."""
    scenario, most_timeouts, most_of_plain = CASES[name]
    make = plan_maker(scenario)
    fast, plain, bare = run_rounds(benchmark, lambda: time_plan(make), lambda: plainly(make), bare_timeout_s)
    engine_s = min(cost.engine_s for cost in fast)
    plan_s, plain_s = min(cost.plan_s for cost in fast), min(cost.engine_s for cost in plain)
    run_s = min(cost.run_s for cost in fast)
    planning = "planning" if scenario else "the benchmark's own planning"
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
        Row(
            case="... with the account of links' load", figure=run_s / num_ops * 1e6, unit="us", time_s=run_s / num_ops
        ),
        Row(case=f"... {planning} over engine", figure=plan_s / engine_s, unit="", bar=1.0 if scenario else None),
        bare_s=bare,
    )


# name -> scenario and changes of one replica of 64 GPUs
REPLICAS: dict[str, tuple[str, list[str]]] = {
    "forward": ("ep16_tp16_pp4", ["workload.batches=1"]),
    "training": ("ep64_tp16_pp4_training", ["parallel.convention=megatron", "parallel.sp=true"]),
}


@pytest.mark.parametrize("kind", REPLICAS)
def test_identical_replicas(benchmark: BenchmarkFixture, kind: str) -> None:
    """16 data-parallel replicas that do the same, on 1,024 GPUs, over one of them."""
    scenario, changes = REPLICAS[kind]
    works = [
        work_of(
            scenario,
            *changes,
            f"parallel.strategy=EP16_TP16_PP4_DP{count}",
            f"cluster.num_nodes={8 * count}",
            f"workload.sequences={128 * count}",
        )
        for count in (16, 1)
    ]
    many, one = run_rounds(benchmark, *(lambda work=work: time_plan(pipeline_plan(work)) for work in works))
    engine, rest, planning = (
        min(getattr(cost, name) for cost in many) / min(getattr(cost, name) for cost in one)
        for name in ("engine_s", "run_s", "plan_s")
    )
    note(
        benchmark,
        Row(case=f"16 identical replicas over one, {kind}", figure=engine, unit="times", bar=1.3),
        Row(case="... with the account of 16 times as many links", figure=rest, unit="times"),
        Row(case="... planning, with finding out that they are identical", figure=planning, unit="times"),
    )
