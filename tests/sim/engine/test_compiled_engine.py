"""The kernel of `sim.engine.compiled`, interpreted, against SimPy's processes: equal to the nanosecond, row by row."""

import itertools
import re
import subprocess
import sys
from pathlib import Path

import conformance
import numpy as np
import pytest
from conformance import (
    CheckedArray,
    bundled_files,
    checked_run,
    compare_drawn,
    differences,
    differences_of_scenario,
    shortened_file,
)
from flat_switch import FlatSwitchPlan, FlatSwitchStep
from handmade import HandPlan, exchange, kernel, make_flows, make_transfer, serve
from works import make_model, make_work

from sim.build.build import build
from sim.engine.compiled import compiler, loop
from sim.engine.compiled import layout as at
from sim.engine.compiled import run as compiled
from sim.engine.compiled.arrays import KeptPlan, NotLoweredError, lower_plan
from sim.engine.compiled.run import STOPPED, run_compiled, run_kernel
from sim.engine.optional_numba import has_numba
from sim.engine.simulation import run_plan
from sim.errors import DeadlockError, MoesimError, SimulationError
from sim.plan.ops import AwaitStream, Collective, RendezvousKey
from sim.plan.passes import PassesPlan
from sim.plan.pipeline import PipelinePlan
from sim.run import engines
from sim.run.simulate import build_run
from sim.scenario.load import load_scenario, load_scenario_text
from sim.scenario.scenario import Scenario

WORKS = {
    "dense, TP": ("TP4_PP2_DP2", "megatron", {"model": make_model(experts=0)}),
    "experts, lanes that fold": ("EP4_TP4_PP2_DP2", "megatron", {}),
    "experts, drawn": ("EP4_TP2_PP2_DP4", "megatron", {"routing": "multinomial"}),
    "experts that serve all stages, drawn": ("EP16_TP4_PP4", "spanning", {"routing": "multinomial"}),
    "tokens that are dropped": ("EP4_TP2_PP2_DP4", "megatron", {"routing": "multinomial", "capacity_factor": 1.0}),
    "training, gradients over replicas": ("EP4_TP2_PP2_DP4", "megatron", {"kind": "training"}),
    "training in pairs of passes": (
        "EP4_TP2_PP2_DP4",
        "megatron",
        {"kind": "training", "schedule": "dualpipe", "routing": "multinomial"},
    ),
    "flow by flow": ("EP4_TP4_PP2_DP2", "megatron", {"fidelity": "flow"}),
    "flow by flow, training in pairs, drawn": (
        "EP4_TP2_PP2_DP4",
        "megatron",
        {"kind": "training", "schedule": "dualpipe", "routing": "multinomial", "fidelity": "flow"},
    ),
    "flow by flow, experts that serve all stages, drawn": (
        "EP16_TP4_PP4",
        "spanning",
        {"routing": "multinomial", "fidelity": "flow"},
    ),
    "zero bubble": ("TP2_PP4_DP2", "megatron", {"kind": "training", "schedule": "zb_h1"}),
}


@pytest.mark.parametrize("name", WORKS)
def test_works_of_all_kinds_run_alike_and_use_no_index_out_of_range(name):
    strategy, convention, changes = WORKS[name]
    assert differences(PipelinePlan(make_work(strategy, convention, **changes)), checked_run) == []


SCENARIOS = [
    "ep16_tp16_pp4 workload.batches=2 workload.microbatches=2",
    "ep64_tp16_pp4_training workload.microbatches=2 parallel.convention=megatron parallel.strategy=EP16_TP16_PP4"
    " parallel.sp=true runtime.overlap_tp=true",
    "ep64_tp16_pp4_training workload.microbatches=2 parallel.convention=megatron parallel.strategy=EP16_TP4_PP2_DP8"
    " parallel.sp=true runtime.overlap_grad_reduce=false routing.kind=zipf routing.skew=0.6 runtime.collective_sms=20"
    " runtime.dispatcher=deepep",
]


@pytest.mark.parametrize("text", SCENARIOS)
def test_bundled_scenarios_run_alike(text):
    """With the host, streams, transfers that take SMs, and slower kernels next to them."""
    name, *changes = text.split()
    assert differences(PipelinePlan(build(load_scenario(name, overrides=changes)).work)) == []


LONG_FILES = {"validation/memory/korthikanti_175b", "validation/ranking/qwen3_235b_h800"}
"""Bundled files that take seconds: their indices are not checked."""


@pytest.mark.parametrize("name", bundled_files())
def test_bundled_files_run_alike_and_use_no_index_out_of_range(name):
    """All but those that serve requests, each in a short form. `conform_engines.py --files` runs them whole."""
    kernel = loop.run if name in LONG_FILES else checked_run
    assert differences_of_scenario(shortened_file(name), kernel) == []


def test_a_kernel_that_stops_where_the_reference_goes_on_is_found():
    """`run_compiled` would leave such a run to SimPy's processes, whose trace equals itself."""
    scenario = load_scenario("ep16_tp16_pp4", overrides=["workload.batches=1"])
    assert differences_of_scenario(scenario, lambda *_: at.GAVE_UP) == ["the kernel stopped"]


def test_a_kernel_that_goes_on_where_the_reference_fails_is_found(monkeypatch: pytest.MonkeyPatch):
    """`run_compiled` would return such a run, and no message."""

    def fail(*_: object, **__: object):
        raise SimulationError("the reference fails")

    monkeypatch.setattr(conformance, "run_plan", fail)
    scenario = load_scenario("ep16_tp16_pp4", overrides=["workload.batches=1"])
    found = differences_of_scenario(scenario)
    assert found == ["the kernel ends a run that must fail: the reference fails"]


def compare_drawn_alike(first: int, num_compared: int, folder: Path, kernel=loop.run):
    """Compare scenarios with numbers from `first` to `first` + 99, of which at least `num_compared` can be compared."""
    drawn = dict(itertools.islice(compare_drawn(24, first, num_compared, folder, kernel), 100))
    assert sum(found is not None for found in drawn.values()) == num_compared
    assert not any(drawn.values()), drawn


@pytest.mark.parametrize("first", range(0, 400, 100))
def test_drawn_scenarios_run_alike_and_use_no_index_out_of_range(first, tmp_path: Path):
    """24 scenarios. Wrong indices are refused, which the compiled kernel would follow: its arrays are bare pointers."""
    compare_drawn_alike(first, 6, tmp_path, checked_run)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1000, 3500, 100))
def test_many_drawn_scenarios_run_alike(first, tmp_path: Path):
    """500 scenarios in 25 parts; about every other one that is drawn can be compared."""
    compare_drawn_alike(first, 20, tmp_path)


@pytest.mark.parametrize("index", [-1, 3])
def test_a_checked_array_refuses_what_a_pointer_would_not_notice(index):
    array = CheckedArray(np.zeros(3))
    with pytest.raises(IndexError):
        _ = array[index]
    with pytest.raises(IndexError):
        array[index] = 1.0


def test_colliding_exchanges_share_links_alike():
    step = FlatSwitchStep(num_stages=3, lane_size=4, layers_per_stage=2, num_microbatches=3, exchange_seed=5)
    assert differences(FlatSwitchPlan(step)) == []


def test_long_records_find_room(monkeypatch: pytest.MonkeyPatch):
    """Columns that begin short are made longer between two events."""
    step = FlatSwitchStep(num_stages=2, lane_size=2, layers_per_stage=8, num_microbatches=16)
    sizes_of, num_grown = compiled._sizes, []

    def short_sizes(arrays, **options):
        sizes = sizes_of(arrays, **options)
        for names in (slice(at.HEAP_TIME, at.STARTED_OP), slice(at.INTERVAL_START, at.SPEED_ENTRY), at.SHARE_RATE):
            sizes[names] = compiled._margin(arrays) + 8
        return sizes

    with_more = compiled._with_more
    monkeypatch.setattr(compiled, "_sizes", short_sizes)
    monkeypatch.setattr(compiled, "_with_more", lambda memory: num_grown.append(1) or with_more(memory))
    assert differences(FlatSwitchPlan(step)) == []
    assert num_grown


@pytest.mark.parametrize(
    "name", ["training in pairs of passes", "experts that serve all stages, drawn", "flow by flow", "zero bubble"]
)
def test_what_nobody_clears_is_written_before_it_is_read(name, monkeypatch: pytest.MonkeyPatch):
    build = compiled.build_memory

    def dirty_memory(sizes):
        memory = build(sizes)
        memory.m[memory.m[at.HEAP_TIME] :], memory.f[memory.m[at.SHARE_RATE] :] = 2**40 + 3, np.nan
        return memory

    monkeypatch.setattr(compiled, "build_memory", dirty_memory)
    strategy, convention, changes = WORKS[name]
    assert differences(PipelinePlan(make_work(strategy, convention, **changes))) == []


def test_the_time_of_a_step_needs_no_record():
    plans = [
        FlatSwitchPlan(FlatSwitchStep(num_stages=2, lane_size=4, layers_per_stage=2, num_microbatches=2)),
        PipelinePlan(make_work("EP16_TP4_PP4", "spanning", routing="multinomial")),
        PipelinePlan(make_work("EP4_TP2_PP2_DP4", "megatron", kind="training")),
    ]
    for plan in plans:
        kept = KeptPlan(plan)
        assert compiled.step_time_ns(kept, loop.run) == run_plan(kept).trace.step_ns


def test_bounds_on_rates_are_links_of_their_own():
    """Two transfers on one link, of which one may run at a quarter of it: 25 to 75."""
    slow, fast = (make_transfer({0: 1000.0}, [1.0], most=most, group=i) for i, most in enumerate((0.25, 9.0)))
    plan = HandPlan(["F0"], lambda *_: (exchange(slow, fast),), capacity=[1.0])
    assert run_plan(plan).trace["end_ns"].max() == 4000
    assert differences(plan) == []


def test_links_that_the_same_transfers_use_are_one_class():
    """Of links 0 to 7 the pairs 0, 1 and 5, 6 are alike; three stages meet on links 2 and 4, the fourth is alone."""
    capacity = [1.0] * 8
    uses = ({0: 30, 1: 20, 2: 90}, {2: 50, 3: 9, 4: 70}, {4: 40, 5: 40, 6: 40}, {7: 60})
    transfers = [make_transfer(num_bytes, capacity, group=i) for i, num_bytes in enumerate(uses)]

    def ops(stage: int, *_: object):
        return (kernel(7 * stage), exchange(transfers[stage]), kernel(5))

    plan = HandPlan(["F0 F1 F2"] * 4, ops, capacity=capacity, inputs=lambda *_: ())
    ints = lower_plan(KeptPlan(plan)).ints
    assert (ints[at.END_CLASS] - ints[at.FIRST_CLASS]).tolist() == [2, 3, 2, 1, 0]  # the hop between stages uses none
    assert len(set(ints[at.CLASS].tolist())) == 6
    assert run_plan(plan).trace["contention_ns"].max() > 0
    assert differences(plan) == []


def test_services_wait_for_ranks_in_turn():
    """Two stages let rank 0 serve at the same time: the second kernel waits for the first."""
    plan = HandPlan(["F0", "F0"], lambda *_: (serve([0, 1], [50, 0]),), inputs=lambda *_: ())
    assert sorted(run_plan(plan).trace["end_ns"])[-1] == 100
    assert differences(plan) == []


@pytest.mark.parametrize("fidelity", ["bulk", "flow"])
@pytest.mark.parametrize("num_sms", [40, 99])
def test_transfers_that_take_sms_slow_kernels_alike(num_sms, fidelity):
    """A transfer on a stream begins and ends within a kernel; the unequal ranks of the lane change their order."""
    transfer = make_transfer({0: 300.0}, [1.0], ranks=[0], num_sms=num_sms, latency_ns=20)

    def ops(*_: object):
        return (
            Collective(kind="tp", layer=0, transfers=(transfer,), stream="tp"),
            kernel(500, 510),
            AwaitStream(stream="tp", layer=0),
            kernel(7, 3),
        )

    plan = HandPlan(["F0 F1"], ops, lane_ranks=[[[0, 1]]], capacity=[1.0], num_sms=100, fidelity=fidelity)
    assert run_plan(plan).trace["contention_ns"].max() > 0
    assert differences(plan) == []


def test_flows_of_a_batch_start_after_their_latencies_alike():
    """Two latencies, three transfers that share links in part, one over no link; the other stage joins later."""
    capacity = [1.0, 3.0]
    first = make_flows([({0: 1}, 500), ({0: 0.5, 1: 1}, 900)], capacity, latency_ns=20)
    second = make_flows([({1: 1}, 700)], capacity, latency_ns=300)
    third, silent = make_flows([({1: 1}, 80)], capacity, latency_ns=20), make_transfer({}, capacity, latency_ns=20)

    def ops(stage: int, *_: object):
        return (kernel(70 * stage), exchange(silent, first, second, third), kernel(9), exchange(silent))

    plan = HandPlan(["F0 F1", "F0 F1"], ops, capacity=capacity, inputs=lambda *_: (), fidelity="flow")
    assert run_plan(plan).trace["contention_ns"].max() > 0
    assert differences(plan) == []
    assert compiled.step_time_ns(plan, loop.run) == run_plan(plan).trace.step_ns


# ---- what does not end well ---------------------------------------------------------------------------------------


def meet_each_other(stage: int, *_: object):
    """Two lanes enter two rendezvous, each in the other's order."""
    keys = [RendezvousKey(key=(i,), members=((0, 0), (1, 0))) for i in (0, 1)]
    return tuple(exchange(rendezvous=key) for key in (keys if stage else keys[::-1]))


ENDINGS = {
    "a deadlock": (lambda: HandPlan(["F0", "F0"], meet_each_other, inputs=lambda *_: ()), {}, DeadlockError),
    "an exchange that all stages enter together": (
        lambda: PipelinePlan(make_work("EP16_TP4_PP4", "spanning", exchange="blocking")),
        {},
        DeadlockError,
    ),
    "a dead link": (
        lambda: HandPlan(["F0"], lambda *_: (exchange(make_transfer({0: 1.0}, [1.0])),), capacity=[0.0]),
        {},
        SimulationError,
    ),
    "a dead link, flow by flow": (
        lambda: HandPlan(
            ["F0"], lambda *_: (exchange(make_transfer({0: 1.0}, [1.0])),), capacity=[0.0], fidelity="flow"
        ),
        {},
        SimulationError,
    ),
    "a label that nobody starts": (
        lambda: HandPlan(["F0"], lambda *_: (AwaitStream(stream="tp", layer=0, label="x"),)),
        {},
        SimulationError,
    ),
    "an event budget": (
        lambda: FlatSwitchPlan(FlatSwitchStep(layers_per_stage=1)),
        {"max_events": 100},
        SimulationError,
    ),
    "no SM left": (
        lambda: HandPlan(
            ["F0"], lambda *_: (exchange(make_transfer({0: 9.0}, [1.0], num_sms=4)),), capacity=[1.0], num_sms=4
        ),
        {},
        SimulationError,
    ),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_the_kernel_fails_where_the_reference_fails(name):
    """The kernel only stops. `run_compiled` then runs SimPy's processes, whose message the user reads."""
    make, options, error = ENDINGS[name]
    with pytest.raises(error) as reference:
        run_plan(make(), **options)
    with pytest.raises((NotLoweredError, error)):
        run_kernel(KeptPlan(make()), checked_run, **options)
    with pytest.raises(error, match=re.escape(str(reference.value))):
        run_compiled(make(), kernel=loop.run, **options)


@pytest.mark.parametrize("name", WORKS)
def test_an_event_budget_is_counted_alike(name):
    """Both engines end a run of N events under a budget of N, and neither does under a budget of N - 1."""
    strategy, convention, changes = WORKS[name]
    plan = KeptPlan(PipelinePlan(make_work(strategy, convention, **changes)))
    num_events = run_plan(plan).stats.num_events
    assert run_plan(plan, max_events=num_events).stats.num_events == num_events
    assert run_kernel(plan, loop.run, max_events=num_events).stats.num_events == num_events
    with pytest.raises(SimulationError, match="events"):
        run_plan(plan, max_events=num_events - 1)
    with pytest.raises(NotLoweredError, match=STOPPED):
        run_kernel(plan, loop.run, max_events=num_events - 1)


# ---- which engine runs --------------------------------------------------------------------------------------------


def test_what_the_kernel_cannot_run_simpy_runs_and_says_why():
    """A schedule of the user's own, which may decide by the time."""

    class Own:
        def __init__(self, order):
            self.next_pass = order.next_pass

    plan = PipelinePlan(make_work("TP4_PP2_DP2", "megatron", model=make_model(experts=0)))
    order_of = plan.schedule
    plan.schedule = lambda lane: Own(order_of(lane))
    run = run_compiled(plan, kernel=loop.run)
    assert "decides while it runs" in (run.stats.why_not_compiled or "")
    assert run.trace.step_ns > 0


@pytest.mark.parametrize(("start_s", "pays"), [(0.0, True), (1.0, True), (2.0, False), (60.0, False)])
def test_auto_compiles_only_where_it_saves_more_than_it_takes_to_begin(start_s, pays, monkeypatch):
    monkeypatch.setattr(engines, "start_s", lambda: start_s)
    monkeypatch.setattr(engines, "has_numba", lambda: True)
    assert engines.pays_to_compile(300_000) == pays
    assert engines.pays_to_compile(75_000, 20e-6) == pays


def test_a_single_run_whose_passes_all_differ_is_left_to_simpy():
    drawn, balanced = (
        build_run(load_scenario("ep16_tp16_pp4", overrides=[f"routing.kind={kind}"]))
        for kind in ("multinomial", "balanced")
    )
    assert drawn.num_ops_alike(1) == 0
    assert drawn.num_ops_alike(2) == 2 * balanced.num_ops_alike(1) > 0


def test_an_unknown_engine_is_refused():
    with pytest.raises(MoesimError, match="engine"):
        load_scenario("ep16_tp16_pp4", overrides=["engine=fast"])


def test_passes_of_given_length_run_alike():
    text = """
parallel: {pp: 4}
schedule: {kind: zb_v}
workload: {kind: passes, microbatches: 6, pass_times: {F: 1 ms, B: 2 ms, W: 1 ms}, p2p: 20 us}
"""
    work = build_passes_of(load_scenario_text(text))
    assert differences(PassesPlan(work)) == []


def build_passes_of(scenario: Scenario):
    """Return the passes of a scenario."""
    from sim.build.build import build_passes

    return build_passes(scenario)


def test_auto_says_that_no_kernel_is_kept(monkeypatch: pytest.MonkeyPatch):
    """Where it would pay to load one, and does not pay to make one."""
    monkeypatch.setattr(engines, "start_s", lambda: compiler.START_S["compiled"])
    monkeypatch.setattr(engines, "has_numba", lambda: True)
    work = PipelinePlan(make_work("TP4_PP2_DP2", "megatron", model=make_model(experts=0)))
    options = {"max_events": 10**6, "link_timeline": False}
    runs = [engines.run_on("auto", work, num_ops=lambda num=num: num, **options) for num in (100, 500_000)]
    assert [run.stats.why_not_compiled is None for run in runs] == [True, False]
    assert not any(run.stats.is_compiled for run in runs)


@pytest.mark.parametrize(
    ("fidelity", "why_not_kept", "why"),
    [
        ("bulk", None, "`--set engine=compiled` makes one"),
        ("bulk", "no folder", "can be kept: no folder"),
        ("flow", None, None),
    ],
)
def test_auto_says_of_a_kernel_what_holds(fidelity, why_not_kept, why, monkeypatch: pytest.MonkeyPatch):
    """Flow by flow no kernel pays; a kernel that can be kept nowhere is not worth making."""
    monkeypatch.setattr(engines, "has_numba", lambda: True)
    monkeypatch.setattr(engines, "why_not_kept", lambda: why_not_kept)
    plan = PipelinePlan(make_work("TP4_PP2_DP2", "megatron", model=make_model(experts=0), fidelity=fidelity))
    said = engines._why_not(plan, 500_000)
    assert said is None if why is None else why in said


def test_a_single_run_never_imports_numba():
    """It takes half a second, which a bundled scenario does not."""
    code = (
        "import sys; from sim.scenario.load import load_scenario; from sim.run.simulate import simulate_scenario;"
        "simulate_scenario(load_scenario('ep16_tp16_pp4', overrides=['workload.batches=1']));"
        "sys.exit('numba' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(
    not (has_numba() and compiler.is_kept()),
    reason="compiling takes a minute: `python benchmarks/conform_engines.py` does, and keeps the kernel",
)
def test_the_compiled_kernel_says_what_the_interpreted_says():
    step = FlatSwitchStep()
    assert differences(FlatSwitchPlan(step), compiler.compiled_run()) == []
    work = make_work("EP16_TP4_PP4", "spanning", routing="multinomial")
    assert differences(PipelinePlan(work), compiler.compiled_run()) == []
    assert np.issubdtype(type(compiled.step_time_ns(FlatSwitchPlan(step))), np.integer)
