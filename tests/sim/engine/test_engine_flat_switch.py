"""The reference workload of the engine's speed: its step time by hand, in whole nanoseconds.

A pass of one stage takes T forward and U backward, the sum of its operations. A hop takes a latency a and then d at
full bandwidth. With m microbatches on p stages the pipeline's fill gives (m + p - 1)(T + U) + 2 (p - 1)(a + d), if
hops meet nothing. They do meet: a hop arrives while its receiver ends the pass before, whose last all-reduce uses the
same links down. They share, and each ends d later than alone.

- On the first stage that receives, all passes but the last are delayed so: the last one opens (m - 1) d later.
- The last pass is not, so it leaves T after the one before and not T + d. Its hop then meets the pass before on every
  further stage, d each.

Forward and backward are alike, hence, where m and p are at least 2,

    step = (m + p - 1)(T + U) + 2 (p - 1)(a + d) + 2 (m - 1 + p - 2) d
"""

from dataclasses import replace

import pytest
from flat_switch import FlatSwitchPlan, FlatSwitchStep

from sim.engine.simulation import run_plan

REFERENCE = FlatSwitchStep()

# Two ports a stage, 1 byte/ns, whole nanoseconds everywhere.
SMALL = FlatSwitchStep(
    num_stages=2,
    lane_size=2,
    layers_per_stage=1,
    num_microbatches=2,
    bandwidth_bytes_per_s=1e9,
    latency_s=5e-9,
    attention_s=100e-9,
    ffn_s=50e-9,
    all_reduce_bytes=40,
    all_to_all_bytes=20,
    hop_bytes=8,
)


def fill_ns(p, m, *, forward_ns, backward_ns, latency_ns, hop_ns):
    """Return the step time that the module's text derives."""
    shared = 2 * (m - 1 + p - 2) if min(m, p) > 1 else 0
    return (m + p - 1) * (forward_ns + backward_ns) + 2 * (p - 1) * (latency_ns + hop_ns) + shared * hop_ns


def test_a_small_step_is_the_one_drawn_by_hand():
    # all-reduce 2 * 5 + 40 = 50, all-to-all 5 + 10 = 15, hop 5 + 8 = 13
    # F = 100 + 50 + 15 + 50 + 15 + 50 = 280, B = 200 + 50 + 15 + 100 + 15 + 50 = 430
    #   stage 0   F0 0-280     F1 280-560   B0 1304-1742   B1 1742-2172
    #   stage 1   F0 293-581   F1 581-861   B0 861-1291    B1 1291-1721
    # Hop of F1: flows from 565, when stage 1's all-reduce has 8 of 40 bytes left; at half speed both end at 581.
    # Hop of B1: flows from 1726, when stage 0's all-reduce has 8 left until 1734; both end at 1742.
    trace = run_plan(FlatSwitchPlan(SMALL)).trace
    passes = [trace.rows("pass", stage=stage) for stage in (0, 1)]
    assert trace["start_ns"][passes[0]].tolist() == [0, 280, 1304, 1742]
    assert trace["end_ns"][passes[0]].tolist() == [280, 560, 1742, 2172]
    assert trace["start_ns"][passes[1]].tolist() == [293, 581, 861, 1291]
    assert trace["end_ns"][passes[1]].tolist() == [581, 861, 1291, 1721]


def test_the_operations_of_the_reference_step_take_their_alpha_beta_times():
    # all-reduce  30 * 500 ns + 30/16 * 58.7 MB / 50 GB/s = 15,000 + 2,201,250 ns
    # all-to-all       500 ns + 15/16 * 29.4 MB / 50 GB/s =    500 +   551,250 ns
    # hop              500 ns +          3.7 MB / 50 GB/s =    500 +    74,000 ns
    trace = run_plan(FlatSwitchPlan(replace(REFERENCE, num_microbatches=1))).trace
    assert trace["contention_ns"].sum() == 0
    took_ns = {"attention": set(), "expert": set(), "tp": set(), "ep_dispatch": set(), "ep_combine": set(), "pp": set()}
    for kind, start, end in zip(trace["kind"], trace["start_ns"], trace["end_ns"], strict=True):
        took_ns.get(str(kind), set()).add(int(end - start))
    assert took_ns == {
        "attention": {400_000, 800_000},
        "expert": {300_000, 600_000},
        "tp": {2_216_250},
        "ep_dispatch": {551_750},
        "ep_combine": {551_750},
        "pp": {74_500},
    }


def test_the_reference_step_takes_the_time_worked_out_by_hand():
    # A layer sends for 2 * 2,216,250 + 2 * 551,750 = 5,536,000 ns and computes for 700,000 or 1,400,000 ns:
    # T = 15 * 6,236,000 = 93,540,000 and U = 15 * 6,936,000 = 104,040,000.
    # (8 + 4 - 1) * 197,580,000 + 2 * 3 * 74,500 + 2 * (7 + 2) * 74,000
    #   = 2,173,380,000 + 447,000 + 1,332,000
    trace = run_plan(FlatSwitchPlan(REFERENCE)).trace
    assert trace.step_ns == 2_175_159_000
    # Each of the 2 * 9 meetings delays two transfers by 74,000 ns.
    assert trace["contention_ns"].sum() == 2 * 9 * 2 * 74_000


@pytest.mark.parametrize("p", [1, 2, 3, 5])
@pytest.mark.parametrize("m", [1, 2, 3, 6])
def test_the_step_time_is_that_of_the_pipelines_fill(p, m):
    # The shared hops must stay within the last all-reduce, of 40 bytes: (m - 1) * 8 <= 40.
    step = replace(SMALL, num_stages=p, num_microbatches=m, layers_per_stage=2)
    expected_ns = fill_ns(p, m, forward_ns=2 * 280, backward_ns=2 * 430, latency_ns=5, hop_ns=8)
    assert run_plan(FlatSwitchPlan(step)).trace.step_ns == expected_ns


def test_the_reference_step_is_5760_stage_operations():
    run = run_plan(FlatSwitchPlan(REFERENCE))
    # 4 stages * 8 microbatches * 2 passes * 15 layers * 6
    assert run.stats.num_stage_ops == REFERENCE.num_stage_ops == 5760
    assert run.trace.rows("compute").size + run.trace.rows("comm").size == 5760
    assert run.trace.rows("p2p").size == 2 * 3 * 8


def test_replicas_do_not_meet_and_each_takes_its_own_time():
    step = replace(SMALL, slowness=(1.0, 1.5, 1.0))
    trace = run_plan(FlatSwitchPlan(step)).trace
    ends = [int(trace["end_ns"][trace.rows("pass", lane=lane)].max()) for lane in range(3)]
    # Compute of 150 and 300 ns becomes 225 and 450: T + U grows from 710 to 935, and 3 of them count.
    assert ends == [2172, 2172 + 3 * 225, 2172]
