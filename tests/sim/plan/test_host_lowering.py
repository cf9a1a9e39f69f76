"""The host in the passes of a model: launches are counted, graphs remove them, waits stand where software waits."""

from dataclasses import replace

import pytest
from works import make_model, make_work

from sim.build.build import build
from sim.engine.simulation import run_plan
from sim.errors import InvalidValueError
from sim.plan.ops import Collective, Compute, HostWork
from sim.plan.pipeline import PipelinePlan
from sim.results.stages import stages_ns
from sim.scenario import load_scenario
from workloads.runtime import RUNTIMES, Runtime
from workloads.schedules import Pass

DENSE = make_model(experts=0, layers=4)
SLOW_S = 1e-3
"""A launch far longer than any kernel of these models."""
SLOW_NS = 1_000_000


def plan_of(strategy, runtime, *, model=DENSE, num_gpus=4, **changes):
    settings = {"kind": "training", **changes}
    return PipelinePlan(make_work(strategy, "megatron", num_gpus=num_gpus, model=model, runtime=runtime, **settings))


def issued(plan, pass_, kind):
    """Return the ops of a kind in a pass of stage 0."""
    return [op for op in plan.ops(0, 0, pass_) if isinstance(op, kind)]


def num_launches(plan, pass_):
    return sum(ns > 0 for op in issued(plan, pass_, Compute) for ns in op.issue_ns)


# --- launches --------------------------------------------------------------------------------------------------------


def test_a_step_bound_by_the_host_is_the_number_of_launches_times_their_time():
    plan = plan_of("TP1_PP1_DP1", Runtime(kernel_launch_s=SLOW_S), num_gpus=1)
    kernels = [sum(len(op.kernels) for op in issued(plan, Pass(kind, 0), Compute)) for kind in "FB"]
    after = [op for op in plan.after_passes(0, 0) if isinstance(op, Compute)]
    launches = 4 * sum(kernels) + sum(len(op.kernels) for op in after)
    trace = run_plan(plan).trace
    last = sum(kernel.duration_ns[0] for kernel in after[-1].kernels[-1:])
    # the host waits for the last backward kernel before the optimizer: once more the lane's time
    last_backward = issued(plan, Pass("B", 3), Compute)[-1].kernels[-1].duration_ns[0]
    assert trace.step_ns == launches * SLOW_NS + last + last_backward


def test_the_host_costs_nothing_where_it_takes_no_time():
    steps = [run_plan(plan_of("TP2_PP2_DP1", runtime)).trace for runtime in (Runtime(), Runtime(kernel_launch_s=0.0))]
    assert steps[0].step_ns == steps[1].step_ns
    assert not issued(plan_of("TP2_PP2_DP1", Runtime()), Pass("F", 0), HostWork)


def test_time_of_the_host_is_stalled():
    runtime = Runtime(pass_host_s=SLOW_S)
    with_host, without = (run_plan(plan_of("TP1_PP1_DP1", r, num_gpus=1)).trace for r in (runtime, Runtime()))
    lost_ns = with_host.step_ns - without.step_ns
    accounts = [stages_ns(trace)[0] for trace in (with_host, without)]
    assert accounts[0]["stalled"] - accounts[1]["stalled"] == lost_ns > 0
    assert {part for part in accounts[0] if accounts[0][part] != accounts[1][part]} == {"stalled"}


# --- graphs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["F", "B"])
def test_a_graph_of_whole_layers_takes_one_launch_for_a_pass_of_layers(kind):
    eager = Runtime(kernel_launch_s=SLOW_S, collective_launch_s=SLOW_S)
    graphs = replace(eager, launch="cuda_graphs", graph_scope=("layer",))
    plans = [plan_of("TP2_PP2_DP1", runtime) for runtime in (eager, graphs)]
    outside = sum(len(op.kernels) for op in issued(plans[0], Pass(kind, 0), Compute) if op.kernels[0].layer < 0)
    assert num_launches(plans[0], Pass(kind, 0)) > num_launches(plans[1], Pass(kind, 0)) == outside + 1
    collectives = issued(plans[1], Pass(kind, 0), Collective)
    assert all((not op.issue_ns) == (op.layer >= 0) for op in collectives)


@pytest.mark.parametrize(("scope", "removed"), [("attn", "attention"), ("mlp", "dense_ffn")])
@pytest.mark.parametrize("kind", ["F", "B"])
def test_a_graph_removes_launches_inside_its_scope_only(kind, scope, removed):
    runtime = Runtime(kernel_launch_s=SLOW_S, launch="cuda_graphs", graph_scope=(scope,))
    plan = plan_of("TP2_PP2_DP1", runtime, sp=True)
    for op in issued(plan, Pass(kind, 0), Compute):
        kinds = {kernel.kind for kernel in op.kernels}
        if removed in kinds:
            assert 0 in op.issue_ns or len(op.issue_ns) == 1
        elif kinds & {"attention", "dense_ffn"}:
            assert 0 not in op.issue_ns


def test_router_and_permutation_are_scopes_of_their_own():
    def launches(*scope):
        runtime = Runtime(kernel_launch_s=SLOW_S, launch="cuda_graphs", graph_scope=scope)
        return num_launches(plan_of("EP4_TP1_PP1_DP4", runtime, model=make_model()), Pass("F", 0))

    assert launches() > launches("moe_router") > launches("moe_router", "moe_preprocess")


def test_pieces_of_a_collective_and_of_its_product_are_issued_by_one_call():
    runtime = Runtime(kernel_launch_s=SLOW_S, collective_launch_s=SLOW_S)
    plans = [plan_of("TP2_PP2_DP1", replace(runtime, overlap_tp=overlaps), sp=True) for overlaps in (False, True)]
    for kind in "FB":
        launches = [num_launches(plan, Pass(kind, 0)) for plan in plans]
        issues = [sum(op.issue_ns or 0 for op in issued(plan, Pass(kind, 0), Collective)) for plan in plans]
        assert launches[0] == launches[1]
        assert issues[0] == issues[1]


# --- waits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("capacity_factor", "overflow", "waits"),
    [(None, "drop", 1), (1.5, "drop", 1), (1.5, "pad", 0)],
    ids=["dropless", "drop", "drop and pad"],
)
def test_the_host_waits_for_the_counts_of_tokens_unless_experts_are_padded(capacity_factor, overflow, waits):
    runtime = Runtime(kernel_launch_s=SLOW_S)
    model = make_model(layers=4)
    plan = plan_of("EP4_TP1_PP1_DP4", runtime, model=model, capacity_factor=capacity_factor, overflow=overflow)
    ops = plan.ops(0, 0, Pass("F", 0))
    before = [ops[at - 1] for at, op in enumerate(ops) if isinstance(op, Collective) and op.kind == "ep_dispatch"]
    assert [isinstance(op, HostWork) and op.waits for op in before] == [bool(waits)] * model.num_moe_layers
    backward = issued(plan, Pass("B", 0), HostWork)
    assert [op for op in backward if op.layer >= 0] == []


def test_the_host_works_after_each_wait_for_counts_while_the_gpu_has_nothing_to_do():
    model = make_model(layers=4)
    host = Runtime(kernel_launch_s=1e-9, collective_launch_s=1e-9)
    plans = [plan_of("EP4_TP1_PP1_DP4", replace(host, counts_host_s=time_s), model=model) for time_s in (0.0, SLOW_S)]
    plain, slow = (run_plan(plan).trace for plan in plans)
    num_waits = 4 * model.num_moe_layers  # of 4 microbatches, in the forward pass alone
    assert slow.step_ns - plain.step_ns == num_waits * SLOW_NS
    assert stages_ns(slow)[0]["stalled"] - stages_ns(plain)[0]["stalled"] == num_waits * SLOW_NS


@pytest.mark.parametrize("overlap_p2p", [True, False])
def test_sends_that_do_not_overlap_occupy_the_sender_and_its_host(overlap_p2p):
    runtime = Runtime(kernel_launch_s=1e-9, overlap_p2p=overlap_p2p)
    plan = plan_of("TP1_PP2_DP1", runtime, num_gpus=2)
    first = plan.ops(0, 0, Pass("F", 0))[0]
    assert isinstance(first, HostWork)
    assert first.waits != overlap_p2p
    trace = run_plan(plan).trace
    sends = {stream: (trace["kind"][trace.rows(stream)] == "pp").sum() for stream in ("comm", "p2p")}
    assert sends == ({"comm": 0, "p2p": 8} if overlap_p2p else {"comm": 8, "p2p": 0})


def test_a_blocking_send_is_charged_to_the_sender():
    plan = plan_of("TP1_PP2_DP1", Runtime(overlap_p2p=False), num_gpus=2)
    trace = run_plan(plan).trace
    rows = trace.rows("comm", stage=0)
    rows = rows[trace["kind"][rows] == "pp"]
    lasted = (trace.ints("end_ns") - trace.ints("start_ns"))[rows]
    account = stages_ns(trace)[0]
    assert account["pp"] + account["latency"] + account["contention"] == lasted.sum()  # nothing else is sent
    assert sum(account.values()) == trace.step_ns


def test_the_loss_is_waited_for_on_the_last_stage_alone():
    runtime = Runtime(kernel_launch_s=SLOW_S, checks_loss=True)
    plan = plan_of("TP1_PP2_DP1", runtime, num_gpus=2)
    last = [plan.ops(stage, 0, Pass("F", 0))[-1] for stage in (0, 1)]
    assert [isinstance(op, HostWork) and op.waits for op in last] == [False, True]


# --- the scenario ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", RUNTIMES)
def test_what_a_preset_says_is_among_the_assumptions(preset):
    built = build(load_scenario("ep16_tp16_pp4", overrides=[f"runtime.preset={preset}"]))
    assumed = {a.key: a.value for a in built.assumptions if a.key.startswith("runtime.")}
    differing = {name for name in Runtime.__slots__ if getattr(built.work.runtime, name) != getattr(Runtime(), name)}
    assert assumed.keys() == {f"runtime.{name.removesuffix('_s')}" for name in differing}
    again = [
        f"runtime.{key}={value}" for key, value in (("kernel_launch", assumed.get("runtime.kernel_launch")),) if value
    ]
    assert build(load_scenario("ep16_tp16_pp4", overrides=again)).work.runtime.kernel_launch_s == pytest.approx(
        built.work.runtime.kernel_launch_s
    )


def test_sends_of_a_preset_overlap_with_virtual_stages_alone_and_a_key_overrides_that():
    def overlaps(*settings):
        return build(load_scenario("ep16_tp16_pp4", overrides=settings)).work.runtime.overlap_p2p

    assert overlaps()
    assert not overlaps("runtime.preset=megatron-core-2025")
    assert overlaps("runtime.preset=megatron-core-2025", "runtime.overlap_p2p=true")


def test_times_of_the_host_have_units():
    built = build(load_scenario("ep16_tp16_pp4", overrides=["runtime.kernel_launch=7 us", "runtime.pass_host=2 ms"]))
    assert built.work.runtime == Runtime(kernel_launch_s=7e-6, pass_host_s=2e-3)


def test_a_scope_without_graphs_is_refused():
    with pytest.raises(InvalidValueError, match=r"runtime\.graph_scope must be left out with"):
        build(load_scenario("ep16_tp16_pp4", overrides=["runtime.launch=eager", "runtime.graph_scope=[attn]"]))
