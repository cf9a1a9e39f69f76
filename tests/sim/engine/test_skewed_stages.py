"""What skew makes stages wait, derived by hand from how long passes take: idle between them, stalled where lanes meet.

Model
-----
1F1B on P stages, stage s begins with min(M, P - s - 1) forward passes, then takes one of each in turn. A pass begins
when the one before it on its stage has ended, and what it needs has come from the stage before or behind, `hop` later
than it was made there. After the last pass of a stage its lanes meet to sum gradients, which takes `tail`:

    T        = max over stages of (the latest last pass of its lanes + tail)
    stalled  = latest last pass - own last pass             mean over lanes; their meeting is open by then
    idle     = T - tail - stalled - own passes              mean over lanes
"""

from functools import cache

import numpy as np
import pytest
from works import make_model, make_work

from sim.engine.simulation import run_plan
from sim.plan.pipeline import PipelinePlan
from sim.results.stages import stages_ns
from workloads.routing import Skew

NUM_STAGES, NUM_MICROBATCHES = 3, 7


def order_of(stage, num_microbatches, *, trains):
    """Return the passes of a stage: (is it forward, microbatch)."""
    if not trains:
        return [(True, m) for m in range(num_microbatches)]
    first = min(num_microbatches, NUM_STAGES - stage - 1)
    passes = [(True, m) for m in range(first)]
    for m in range(num_microbatches):
        passes += [(True, first + m)] if first + m < num_microbatches else []
        passes.append((False, m))
    return passes


def last_ends_ns(forward_ns, backward_ns, hop_ns):
    """Return when the last pass of each stage ends. Times of passes [stages, M]; no backward ones in inference."""
    trains, num = backward_ns is not None, forward_ns.shape[1]
    orders = [order_of(stage, num, trains=trains) for stage in range(NUM_STAGES)]

    @cache
    def end(stage, forward, m):
        place = orders[stage].index((forward, m))
        begins = [0, *([end(stage, *orders[stage][place - 1])] if place else [])]
        source = stage - 1 if forward else stage + 1
        if 0 <= source < NUM_STAGES:
            begins.append(end(source, forward, m) + hop_ns)
        return max(begins) + (forward_ns if forward else backward_ns)[stage, m]

    return np.array([end(stage, *orders[stage][-1]) for stage in range(NUM_STAGES)])


def passes_of(trace, stage, lane):
    """Return start and end of the passes of a lane, in order. Shape [passes, 2]."""
    rows = trace.rows("pass", stage=stage, lane=lane)
    return np.stack([trace.ints("start_ns")[rows], trace.ints("end_ns")[rows]], axis=1)


def run_of(num_microbatches, *, replicas=1, **changes):
    """Return the trace of a model with a layer on each of three nodes, or of as many pairs of nodes."""
    settings = {"num_gpus": 24 * replicas, "model": make_model(experts=16, layers=3)} | changes
    sequences = 8 * replicas * num_microbatches
    strategy = f"EP8_TP1_PP3_DP{8 * replicas}"
    work = make_work(strategy, "megatron", microbatches=num_microbatches, sequences=sequences, **settings)
    return run_plan(PipelinePlan(work)).trace


@pytest.mark.parametrize("kind", ["forward", "training"])
def test_a_hot_middle_stage_idles_the_others_as_derived(kind):
    """All tokens on one rank of the middle stage, on two ranks of the others; passes alone say what seven need."""
    loads = np.zeros((1, NUM_STAGES, 16))
    for layer, experts in enumerate([(0, 8), (0, 1), (0, 8)]):
        loads[0, layer, list(experts)] = 1.0
    alone, several = (run_of(m, kind=kind, routing="trace", skew=Skew(loads=loads)) for m in (1, NUM_MICROBATCHES))
    passes = np.stack([passes_of(alone, stage, 0) for stage in range(NUM_STAGES)])
    took, hop_ns = np.diff(passes)[..., 0], int(passes[1, 0, 0] - passes[0, 0, 1])
    assert took[1, 0] > max(took[0, 0], took[2, 0])
    trains = kind == "training"
    tail = took[:, 2] if trains else np.zeros(NUM_STAGES, dtype=int)
    forward, *backward = (np.repeat(took[:, [i]], NUM_MICROBATCHES, axis=1) for i in range(1 + trains))
    ends = last_ends_ns(forward, backward[0] if trains else None, hop_ns)
    step = int((ends + tail).max())
    if not trains:
        assert step == took[0, 0] + NUM_MICROBATCHES * took[1, 0] + took[2, 0] + 2 * hop_ns  # the hot stage never waits
    assert several.step_ns == pytest.approx(step, abs=4 * NUM_MICROBATCHES)  # completions are rounded up
    for stage, account in enumerate(stages_ns(several)):
        own = NUM_MICROBATCHES * took[stage, : 1 + trains].sum() + tail[stage]
        assert account["idle"] == pytest.approx(step - own, abs=4 * NUM_MICROBATCHES)
        assert account["idle"] > NUM_MICROBATCHES * (took[1, 0] - took[stage, 0])
        assert account["stalled"] == 0


def test_a_lane_waits_for_the_one_with_the_hotter_ranks_as_derived():
    """Two lanes draw tokens of their own: each runs for itself, and the earlier stalls where gradients are summed."""
    trace = run_of(NUM_MICROBATCHES, replicas=2, kind="training", routing="zipf", skew=Skew(skew=1.5))
    found = np.array([[passes_of(trace, stage, lane) for lane in (0, 1)] for stage in range(NUM_STAGES)])
    took = np.diff(found)[..., 0]  # [stages, lanes, passes]
    hop_ns = int(found[1, 0, 0, 0] - found[0, 0, 0, 1])
    ends = np.zeros((NUM_STAGES, 2))
    for lane in (0, 1):
        forward, backward = np.zeros((2, NUM_STAGES, NUM_MICROBATCHES))
        for stage in range(NUM_STAGES):
            for (is_forward, m), pass_ns in zip(
                order_of(stage, NUM_MICROBATCHES, trains=True), took[stage, lane], strict=False
            ):
                (forward if is_forward else backward)[stage, m] = pass_ns
        ends[:, lane] = last_ends_ns(forward, backward, hop_ns)
    late = ends.max(axis=1)
    tail = found[:, 0, -1, 1] - found[:, :, -1, 0].max(axis=1)
    step = (late + tail).max()
    assert trace.step_ns == pytest.approx(step, abs=4 * NUM_MICROBATCHES)
    stalled = (late[:, None] - ends).mean(axis=1)
    assert stalled.min() > 100
    for stage, account in enumerate(stages_ns(trace)):
        own = took[stage, :, :-1].sum(axis=1).mean()
        assert account["stalled"] == pytest.approx(stalled[stage], abs=4 * NUM_MICROBATCHES)
        idle = step - tail[stage] - stalled[stage] - own
        assert account["idle"] == pytest.approx(idle, abs=4 * NUM_MICROBATCHES)
