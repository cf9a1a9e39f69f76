"""The compiled kernel next to SimPy's engine, on plans that are planned already: ratios of CPU time in one process.

The kernel is loaded, or compiled, before anything is timed. *Engine alone* is the clock's loop with the entries of its
record; *with rows* adds the columns of the trace; *with planning and lowering* begins with nothing planned.
"""

import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from flat_switch import FlatSwitchPlan, FlatSwitchStep
from measuring import Row, note, pipeline_plan, run_rounds, work_of
from pytest_benchmark.fixture import BenchmarkFixture

from sim.engine.compiled.arrays import KeptPlan, lower_plan
from sim.engine.compiled.compiler import compiled_run
from sim.engine.compiled.run import run_kernel, run_lowered, step_time_ns
from sim.engine.optional_numba import has_numba
from sim.engine.run_state import Plan
from sim.engine.simulation import run_plan

pytestmark = pytest.mark.skipif(not has_numba(), reason="numba is not installed")
STEP = FlatSwitchStep()
FACTORS = tuple(1 + i / 100 for i in range(64))
CASES: dict[str, Callable[[], Plan]] = {
    "reference step": lambda: FlatSwitchPlan(STEP),
    "reference step, 64 microbatches": lambda: FlatSwitchPlan(replace(STEP, num_microbatches=64)),
    "16 different pipelines": lambda: FlatSwitchPlan(replace(STEP, slowness=FACTORS[:16])),
    "64 different lanes": lambda: FlatSwitchPlan(replace(STEP, num_stages=1, slowness=FACTORS)),
    "ep16_tp16_pp4, one batch": pipeline_plan(work_of("ep16_tp16_pp4", "workload.batches=1")),
    "ep64_tp16_pp4, one batch": pipeline_plan(work_of("ep64_tp16_pp4", "workload.batches=1")),
    "ep64_tp16_pp4, one batch, flow by flow": pipeline_plan(
        work_of("ep64_tp16_pp4", "workload.batches=1", "network.fidelity=flow")
    ),
}


GROWTH: dict[str, tuple[Callable[[], Plan], Callable[[], Plan]]] = {
    "64 different lanes of 16 GPUs over one such lane": (
        CASES["64 different lanes"],
        lambda: FlatSwitchPlan(replace(STEP, num_stages=1)),
    ),
    "16 different pipelines of 4 stages over one": (CASES["16 different pipelines"], CASES["reference step"]),
}


def cpu_s(run: Callable[[], object]) -> float:
    """Return the CPU time of a call."""
    began = time.process_time()
    run()
    return time.process_time() - began


@pytest.mark.parametrize("name", CASES)
def test_compiled_kernel(benchmark: BenchmarkFixture, name: str) -> None:
    """SimPy's time over the kernel's: planned, and from nothing."""
    make = CASES[name]
    kernel, kept = compiled_run(), KeptPlan(make())
    arrays = lower_plan(kept)
    run_lowered(arrays, kernel)
    alone, rows, step, planned, whole, simpy = run_rounds(
        benchmark,
        lambda: cpu_s(lambda: run_lowered(arrays, kernel)),
        lambda: cpu_s(lambda: run_kernel(kept, kernel, links=False)),
        lambda: cpu_s(lambda: step_time_ns(make(), kernel)),
        lambda: cpu_s(lambda: run_plan(kept, links=False)),
        lambda: cpu_s(lambda: run_kernel(KeptPlan(make()), kernel, links=False)),
        lambda: cpu_s(lambda: run_plan(make(), links=False)),
    )
    least = min(planned)
    note(
        benchmark,
        Row(case=f"SimPy over compiled: {name}, engine alone", figure=least / min(alone), unit="times"),
        Row(case="... with lowering and rows", figure=least / min(rows), unit="times"),
        Row(case="... with planning, lowering and rows", figure=min(simpy) / min(whole), unit="times"),
        Row(case="... time of the step alone, with planning and lowering", figure=min(simpy) / min(step), unit="times"),
    )


@pytest.mark.parametrize("name", GROWTH)
def test_growth(benchmark: BenchmarkFixture, name: str) -> None:
    """Time of the kernel on a large plan over that on a small one: lowered, and planned."""
    kernel, kept = compiled_run(), [KeptPlan(make()) for make in GROWTH[name]]
    large, small = (lower_plan(plan) for plan in kept)
    run_lowered(small, kernel)
    alone, alone_small, rows, rows_small = run_rounds(
        benchmark,
        lambda: cpu_s(lambda: run_lowered(large, kernel)),
        lambda: cpu_s(lambda: run_lowered(small, kernel)),
        lambda: cpu_s(lambda: run_kernel(kept[0], kernel, links=False)),
        lambda: cpu_s(lambda: run_kernel(kept[1], kernel, links=False)),
    )
    note(
        benchmark,
        Row(case=f"compiled: {name}, engine alone", figure=min(alone) / min(alone_small), unit="times", bar=20),
        Row(case="... with lowering and rows", figure=min(rows) / min(rows_small), unit="times", bar=20),
    )
