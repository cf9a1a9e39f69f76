"""Deadlocks built on purpose: the message names who waits for whom."""

from functools import partial

import networkx as nx
import numpy as np
import pytest
from handmade import HandPlan, exchange, kernel, make_transfer
from works import make_work

import sim.engine.simulation
from sim.engine.clock import Clock
from sim.engine.deadlock import Wait, describe_deadlock, find_cycle
from sim.engine.simulation import run_plan
from sim.errors import SimulationError
from sim.plan.ops import Input, RendezvousKey
from sim.plan.pipeline import PipelinePlan
from workloads.schedules import Pass


def message_of(plan):
    with pytest.raises(SimulationError) as caught:
        run_plan(plan)
    return str(caught.value)


def test_a_schedule_that_asks_for_b_before_f_waits_for_itself():
    message = message_of(HandPlan(["B0 F0"], lambda *_: [kernel(10)]))
    assert message.startswith("deadlock at 0.000 ms: stage 0 -> stage 0. stage 0 in B0 waits for F0 of stage 0")


def test_orders_of_two_stages_that_do_not_fit_are_named_as_a_cycle():
    message = message_of(HandPlan(["F0 B0 F1 B1", "F0 F1 B0 B1"], lambda *_: [kernel(10)]))
    assert "stage 0 -> stage 1 -> stage 0" in message
    assert "stage 0 in B0 waits for B0 of stage 1" in message
    assert "stage 1 in F1 waits for F1 of stage 0" in message


def test_two_stages_that_wait_for_each_other_are_named_as_a_cycle():
    plan = HandPlan(
        ["F0", "F0"],
        lambda *_: [kernel(10)],
        inputs=lambda stage, chosen: (Input(1 - stage, "F", chosen.microbatch, 0),),
    )
    assert "stage 0 -> stage 1 -> stage 0" in message_of(plan)


def test_a_lane_that_waits_for_what_nobody_makes_is_named():
    plan = HandPlan(
        ["F0", "F0 F1"],
        lambda *_: [kernel(10)],
        inputs=lambda stage, chosen: (Input(0, "F", chosen.microbatch, 0),) if stage else (),
    )
    message = message_of(plan)
    assert "a lane waits for what nobody makes" in message
    assert "stage 1 in F1 waits for F1 of stage 0" in message


def test_a_collective_that_a_lane_never_enters_names_who_is_missing():
    rendezvous = RendezvousKey(key=("reduce",), members=((0, 0), (1, 0)))
    transfer = make_transfer({0: 1}, [1])
    plan = HandPlan(
        ["F0", "F0"],
        lambda stage, *_: [kernel(10), *([exchange(transfer, rendezvous=rendezvous)] if stage == 0 else [])],
        inputs=lambda *_: (),
        capacity=[1],
    )
    assert "stage 0 in F0 waits for tp of layer 0, which stages 1 have not entered" in message_of(plan)


def test_an_exchange_that_blocks_over_all_stages_deadlocks_the_pipeline():
    work = make_work("EP16_TP4_PP4", "spanning", exchange="blocking")
    message = message_of(PipelinePlan(work))
    assert "stage 0 -> stage 1 -> stage 0" in message
    assert "ep_dispatch of layer 0, which stages 1, 2, 3 have not entered" in message
    assert "stage 1 in F0 waits for F0 of stage 0" in message


def test_an_exchange_of_a_single_stage_may_block():
    assert run_plan(PipelinePlan(make_work("EP16_TP16_PP1", "spanning", exchange="blocking"))).trace.step_ns > 0


class Repeating:
    """A schedule that never comes to an end."""

    def next_pass(self, stage, now_ns):
        """Ask for the same pass again."""
        return Pass("F", 0)


def repeating_plan(duration_ns):
    plan = HandPlan(["F0"], lambda *_: [kernel(duration_ns)])
    plan.schedule = lambda lane: Repeating()
    return plan


def test_a_schedule_without_end_meets_the_event_budget():
    with pytest.raises(SimulationError, match="must end within 1,000 events"):
        run_plan(repeating_plan(5), max_events=1000)


def test_a_schedule_that_repeats_passes_of_no_length_is_stopped(monkeypatch):
    monkeypatch.setattr(sim.engine.simulation, "Clock", partial(Clock, max_events_at_one_time=100))
    with pytest.raises(SimulationError, match="time must move on"):
        run_plan(repeating_plan(0))


@pytest.mark.parametrize("start", range(3))
def test_a_cycle_is_named_whole_and_those_outside_are_left_out(start):
    # 0 -> 1 -> 2 -> 0, and 3 waits for it from outside.
    waits = [
        Wait(lane=(stage, 0), during="F0", what=f"F0 of stage {needs}", needs=((needs, 0),))
        for stage, needs in ((3, 0), (0, 1), (1, 2), (2, 0))
    ]
    message = describe_deadlock(waits[start:] + waits[:start], 2_000_000)
    assert message.startswith("deadlock at 2.000 ms")
    assert all(f"stage {stage} in F0 waits" in message for stage in (0, 1, 2))
    assert "stage 3" not in message


def test_lanes_are_named_where_a_stage_has_several():
    waits = [
        Wait(lane=(0, 1), during="B0", what="B0 of stage 1", needs=((1, 1),)),
        Wait(lane=(1, 1), during="F0", what="F0 of stage 0", needs=((0, 1),)),
        Wait(lane=(1, 0), during="F0", what="F0 of stage 0", needs=((0, 0),)),
    ]
    assert "stage 0 lane 1 -> stage 1 lane 1 -> stage 0 lane 1" in describe_deadlock(waits, 0)


def test_a_cycle_is_the_one_that_networkx_finds():
    """The search in depth takes the same ways, on random graphs; some have no cycle."""
    rng, num_cycles = np.random.default_rng(5), 0
    for _ in range(300):
        edges = [((int(a), 0), (int(b), 0)) for a, b in rng.integers(0, 8, (int(rng.integers(1, 12)), 2))]
        graph = nx.DiGraph(edges)
        try:
            expected = [a for a, _ in nx.find_cycle(graph)]
        except nx.NetworkXNoCycle:
            expected = []
        num_cycles += bool(expected)
        assert find_cycle({lane: list(graph.successors(lane)) for lane in graph}) == expected
    assert 50 < num_cycles < 250
