"""Pairs of passes: two programs on one stage's ranks and links, by hand and of models."""

import numpy as np
import pytest
from handmade import HandPlan, exchange, kernel, make_transfer
from works import make_model, make_work

from sim.engine.simulation import run_plan
from sim.errors import SimulationError
from sim.plan.ops import ConcurrentPasses, RendezvousKey
from sim.plan.pipeline import PipelinePlan
from sim.results.path import path_ns
from sim.results.stages import stages_ns
from sim.run.stage_memory import stage_memory
from workloads.schedules import Pass

EVERY_COMPUTE = pytest.mark.parametrize("num_sms", [None, 100], ids=["known ends", "slowed"])


def pair_plan(forward, backward, *, capacity=(1.0, 1.0), num_sms=None, **more):
    """One stage that runs F1 with B0, nothing before and nothing after."""
    sides = ConcurrentPasses(sides=((Pass("F", 1), tuple(forward)), (Pass("B", 0), tuple(backward))))
    return HandPlan(["F1+B0"], lambda *_: sides, capacity=capacity, inputs=lambda *_: (), num_sms=num_sms, **more)


def passes(trace):
    """Return (kind, start, end) of the passes."""
    rows = trace.rows("pass")
    return list(zip(*(trace[name][rows].tolist() for name in ("kind", "start_ns", "end_ns")), strict=True))


def parts(account):
    """Return the parts of an account that are not 0."""
    return {part: ns for part, ns in account.items() if ns}


def program(link, num_bytes, *, compute=10):
    """Return a kernel, a transfer on a link, and a kernel again."""
    return [kernel(compute), exchange(make_transfer({link: num_bytes}, (1.0, 1.0))), kernel(compute)]


# --- by hand -------------------------------------------------------------------------------------------------------


@EVERY_COMPUTE
def test_kernels_of_one_pass_run_while_the_other_waits_for_its_transfer(num_sms):
    """F 0-10, B 10-20 while F sends, F 20-30 while B sends, B 30-40: 40 where one after the other takes 60."""
    trace = run_plan(pair_plan(program(0, 10), program(1, 10), num_sms=num_sms)).trace
    assert passes(trace) == [("F", 0, 30), ("B", 0, 40)]
    assert parts(stages_ns(trace)[0]) == {"other_compute": 40}  # both transfers are hidden
    assert sum(path_ns(trace).values()) == 40


@EVERY_COMPUTE
@pytest.mark.parametrize(
    ("link_of_b", "wanted", "tp"),
    [
        # own links: F sends 10-30 and computes 30-40, B sends 20-40 and computes 40-50
        (1, [("F", 0, 40), ("B", 0, 50)], 10),
        # one link: F sends 10 bytes until 20, both share it until F ends at 40 and B, alone from then, at 50
        (0, [("F", 0, 50), ("B", 0, 60)], 10),
    ],
)
def test_transfers_of_a_pair_contend_for_links(link_of_b, wanted, tp, num_sms):
    trace = run_plan(pair_plan(program(0, 20), program(link_of_b, 20), num_sms=num_sms)).trace
    assert passes(trace) == wanted
    account = stages_ns(trace)[0]
    assert account["other_compute"] == 40
    assert sum(account.values()) == wanted[-1][2]
    hidden = 40 - (account["tp"] + account["contention"])
    assert hidden >= tp


@EVERY_COMPUTE
def test_kernels_alone_take_turns(num_sms):
    trace = run_plan(pair_plan([kernel(10), kernel(5)], [kernel(20), kernel(1)], num_sms=num_sms)).trace
    assert passes(trace) == [("F", 0, 35), ("B", 0, 36)]  # F 10, B 20, F 5, B 1
    assert parts(stages_ns(trace)[0]) == {"other_compute": 36}


def test_an_output_leaves_when_its_own_pass_has_ended():
    """F1 of stage 0 ends at 10 and sets off stage 1, while B0 next to it runs until 60."""
    ops = {
        "F0": [kernel(1)],
        "B0": [kernel(1)],
        "F1": [kernel(9)],
        "FB": ConcurrentPasses(sides=((Pass("F", 1), (kernel(10),)), (Pass("B", 0), (kernel(50),)))),
        "B1": [kernel(1)],
    }
    plan = HandPlan(
        ["F0 F1+B0 B1", "F0 B0 F1 B1"],
        lambda stage, _, chosen: ops["FB" if chosen.kind == "FB" else f"{chosen.kind}{chosen.microbatch}"],
    )
    trace = run_plan(plan).trace
    rows = trace.rows("pass", stage=1)
    at = {(trace["kind"][row], int(trace["microbatch"][row])): int(trace["start_ns"][row]) for row in rows}
    opened = int(trace["start_ns"][trace.rows("pass", stage=0)[1]])
    assert at["F", 1] == opened + 10


def test_a_side_that_waits_for_a_meeting_nobody_enters_is_named():
    lonely = RendezvousKey(key=("never",), members=((0, 0), (1, 0)))
    plan = pair_plan([kernel(5), exchange(rendezvous=lonely)], [kernel(10)])
    with pytest.raises(SimulationError, match=r"stuck at .*stage 0 in F1 waits for tp of layer 0, which stages 1"):
        run_plan(plan)


# --- of models -----------------------------------------------------------------------------------------------------


def work_of(schedule, strategy="EP4_TP1_PP4", **changes):
    settings = {"kind": "training", "routing": "balanced", "sequences": 128, "microbatches": 16}
    model = changes.pop("model", None) or make_model(layers=8)
    return make_work(strategy, "megatron", model=model, schedule=schedule, **(settings | changes))


@pytest.mark.parametrize("schedule", ["dualpipe", "dualpipe_v"])
def test_without_communication_a_pair_takes_as_long_as_both_of_its_passes(schedule):
    trace = run_plan(PipelinePlan(work_of(schedule, "TP1_PP4_DP4", model=make_model(layers=8, experts=0)))).trace
    for stage in range(trace.num_stages):
        passes_, kernels = (trace.rows(stream, stage=stage, lane=0) for stream in ("pass", "compute"))
        start, end = (trace[name][passes_] for name in ("start_ns", "end_ns"))
        began, took = trace["start_ns"][kernels], (trace["end_ns"] - trace["start_ns"])[kernels]
        pairs = np.flatnonzero(start[1:] == start[:-1]) + 1
        assert pairs.size
        for i in pairs.tolist():
            assert took[(began >= start[i]) & (began < end[i])].sum() == end[i] - start[i]


@pytest.mark.parametrize("routing", ["balanced", "multinomial"])
def test_pairs_hide_the_exchange_of_experts(routing):
    """The same passes in the same places, one after the other: the account of dispatch and combine shrinks."""
    paired = work_of("dualpipe_v", routing=routing)
    plan = PipelinePlan(paired)
    apart = run_plan(_OneAfterTheOther(paired)).trace
    together = run_plan(plan).trace
    shares = [sum(a["ep_dispatch"] + a["ep_combine"] for a in stages_ns(trace)) for trace in (together, apart)]
    assert shares[0] < 0.7 * shares[1]
    assert together.step_ns < apart.step_ns


class _OneAfterTheOther(PipelinePlan):
    """The plan of a schedule with pairs, whose passes run one after the other."""

    def ops(self, stage, lane, chosen):
        """Return the ops of a pair as one list."""
        found = super().ops(stage, lane, chosen)
        return tuple(op for _, ops in found.sides for op in ops) if isinstance(found, ConcurrentPasses) else found


@pytest.mark.parametrize("schedule", ["chimera", "dualpipe"])
def test_two_copies_of_the_model_reduce_their_gradients_over_both_stages_that_hold_them(schedule):
    work = work_of(schedule, "EP4_TP1_PP4_DP4")
    for stage in range(4):
        assert sorted(work.layers_of(stage)) == sorted(work.layers_of(3 - stage))
        assert work.mesh.dp_groups(stage).tolist() == work.mesh.dp_groups(3 - stage).tolist()
        assert work.mesh.expert_dp_groups(stage).shape == (4, 2)
    trace = run_plan(PipelinePlan(work)).trace
    rows = [row for row in range(len(trace)) if trace["kind"][row] == "dp"]
    ends = {stage: {int(trace["end_ns"][row]) for row in rows if trace["stage"][row] == stage} for stage in range(4)}
    assert all(ends.values())
    assert ends[0] == ends[3]
    assert ends[1] == ends[2]


def test_two_passes_at_a_time_have_two_sets_of_buffers():
    """Tokens x hidden x 2 bytes: sent and received between stages, and top-2 copies to and from experts."""
    alone, paired = (work_of(schedule) for schedule in ("zb_v", "dualpipe_v"))
    of_one = alone.tokens * alone.model.hidden * 2 * (2 + 2 * alone.model.top_k)
    assert stage_memory(paired, 1).buffers - stage_memory(alone, 1).buffers == of_one
