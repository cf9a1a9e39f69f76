"""What a run says of its own cost: operations are counted as lanes ran them, whatever the record shows of each."""

import gc

import numpy as np
import pytest
from handmade import HandPlan, exchange, make_transfer

from sim.engine.simulation import Simulation, run_plan
from sim.errors import SimulationError
from sim.plan.ops import NO_LAYER, Compute, TimedKernel


def compute(num_kernels):
    """Return one op of 12 ns, cut into kernels of equal length."""
    duration_ns = np.array([12 // num_kernels], dtype=np.int64)
    timed = TimedKernel(kind="other_compute", layer=NO_LAYER, duration_ns=duration_ns, flops=0.0)
    return Compute(kernels=(timed,) * num_kernels)


def run_with(num_kernels):
    """Run two stages of two passes; each pass computes, sends over two groups, and computes."""
    groups = [make_transfer({link: 10}, [1, 1], group=link) for link in (0, 1)]
    ops = (compute(num_kernels), exchange(*groups), compute(num_kernels))
    return run_plan(HandPlan(["F0 F1", "F0 F1"], lambda *_: ops, capacity=[1, 1], inputs=lambda *_: ()))


@pytest.mark.parametrize("num_kernels", [1, 2, 3, 6])
def test_stage_operations_do_not_depend_on_the_kernels_of_each(num_kernels):
    run, plain = run_with(num_kernels), run_with(1)
    assert run.trace.step_ns == plain.trace.step_ns
    assert run.stats.num_stage_ops == plain.stats.num_stage_ops == 2 * 2 * 3
    # Only the record grows: 2 stages * 2 passes * 2 ops of so many kernels more.
    assert run.stats.num_spans - plain.stats.num_spans == 8 * (num_kernels - 1)


def test_a_collective_of_several_groups_is_one_stage_operation():
    run = run_with(1)
    assert run.trace.rows("comm").size == 2 * 2 * 2
    assert run.stats.num_stage_ops == 2 * 2 * 3


@pytest.mark.parametrize("was_on", [True, False])
def test_the_collector_of_cycles_is_as_it_was_after_a_run_that_fails(was_on):
    (gc.enable if was_on else gc.disable)()
    try:
        with pytest.raises(SimulationError):  # the second stage waits for a microbatch that never comes
            run_plan(HandPlan(["F0", "F1"], lambda *_: (compute(1),)))
        assert gc.isenabled() is was_on
    finally:
        gc.enable()


def cycles_left_by(num_passes):
    """Return the objects in cycles that a run of two stages leaves while its simulation is still referenced."""
    order = " ".join(f"F{number}" for number in range(num_passes))
    ops = (compute(2), exchange(make_transfer({0: 10}, [1])))
    gc.collect()
    simulation = Simulation(HandPlan([order] * 2, lambda *_: ops, capacity=[1]))
    gc.disable()
    try:
        simulation.run()
        return gc.collect()
    finally:
        gc.enable()


def test_the_cycles_that_a_run_leaves_do_not_grow_with_it():
    """So that pausing the collector costs no memory that grows: what is done with is freed at once."""
    cycles_left_by(1)
    assert cycles_left_by(40) <= cycles_left_by(4) + 8
