"""Exchanges of tokens next to kernels: by hand on one layer and one pair of passes, and in whole steps of a model."""

from dataclasses import replace
from itertools import takewhile

import numpy as np
import pytest
from handmade import HandPlan, exchange, make_transfer
from works import make_model, make_work

from sim.engine.simulation import run_plan
from sim.plan.expert_overlap import EXPERT_STREAM, delay_weight_gradients, on_expert_stream, run_next_to
from sim.plan.ops import AwaitStream, Collective, Compute, ConcurrentPasses, HostWork, TimedKernel
from sim.plan.pipeline import PipelinePlan
from sim.results.path import exposed_communication_ns
from sim.results.stages import stages_ns
from sim.run.stage_memory import stage_memory
from workloads.runtime import Runtime
from workloads.schedules import Pass

MODEL = replace(make_model(layers=4), shared_experts=1)
STEPS = [("EP4_TP1_PP1_DP4", 4, "1f1b"), ("EP4_TP1_PP2_DP4_VPP2", 8, "interleaved")]


def kernels(*times, kind="other_compute", layer=0):
    """Return kernels of given times; a negative one makes gradients of weights."""
    return Compute(
        kernels=tuple(
            TimedKernel(kind=kind, layer=layer, duration_ns=np.array([abs(ns)]), flops=0.0, is_weight_gradient=ns < 0)
            for ns in times
        )
    )


def sent(ns, kind="ep_dispatch"):
    """Return an exchange that takes `ns` alone."""
    return exchange(make_transfer({0: ns}, [1.0]), kind=kind)


def run(ops):
    return run_plan(HandPlan(["F0"], lambda *_: ops, capacity=[1.0])).trace


# --- shared experts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("up", "down", "step_ns"),
    [(0, 0, 5 + 20 + 10 + 30), (15, 15, 5 + 20 + 10 + 30), (20, 30, 5 + 20 + 10 + 30), (25, 50, 5 + 25 + 10 + 50)],
)
def test_shared_experts_hide_exchanges_of_known_times(up, down, step_ns):
    """Router 5, dispatch 20, experts 10, combine 30: what of an exchange shared experts do not cover is exposed."""
    ops = [kernels(5), *run_next_to([sent(20)], [kernels(up)] if up else []), kernels(10, kind="expert")]
    ops += run_next_to([sent(30, "ep_combine")], [kernels(down)] if down else [])
    trace = run(ops)
    assert trace.step_ns == step_ns
    account = stages_ns(trace)[0]
    assert (account["ep_dispatch"], account["ep_combine"]) == (max(0, 20 - up), max(0, 30 - down))


def test_nothing_changes_without_an_exchange_or_without_kernels():
    assert run_next_to([], [shared := kernels(3)]) == [shared]
    assert run_next_to([combine := sent(3)], []) == [combine]


@pytest.mark.parametrize(("strategy", "num_gpus", "schedule"), STEPS)
def test_shared_experts_of_a_model_move_from_before_the_exchanges_to_next_to_them(strategy, num_gpus, schedule):
    plain, overlapped = (
        _trace(strategy, num_gpus, schedule, Runtime(overlap_shared_experts=on)) for on in (False, True)
    )
    _assert_same_work(plain, overlapped)
    accounts = [stages_ns(trace)[0] for trace in (plain, overlapped)]
    assert overlapped.step_ns < plain.step_ns
    assert _exposed(accounts[1]) < _exposed(accounts[0])


def test_halves_of_shared_experts_stand_next_to_their_exchanges():
    """Forward: up and activation with the dispatch, down with the combine; backward the other way round."""
    plan = _plan(*STEPS[0], Runtime(overlap_shared_experts=True))
    for kind, halves in (("F", (2, 1)), ("B", (2, 3))):  # B: 2 products of down; 2 of up and the activation
        ops = plan.ops(0, 0, Pass(kind, 0))
        started = [at for at, op in enumerate(ops) if isinstance(op, Collective) and op.stream == EXPERT_STREAM]
        next_to = [len(ops[at + 1].kernels) for at in started]
        assert next_to == [*halves] * MODEL.layers
        assert {kernel.kind for at in started for kernel in ops[at + 1].kernels} == {"dense_ffn"}
        assert all(isinstance(ops[at + 2], AwaitStream) for at in started)


# --- gradients of weights --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("of_experts_only", "step_ns"), [(False, 72), (True, 77)])
def test_gradients_of_weights_fill_the_next_exchange(of_experts_only, step_ns):
    """Attention 5 and 5 (W), combine 20, experts 10 and 30 (W), dispatch 20, router 4 and 3 (W): 97 as it stands.

    All: 5, the combine over W of attention 20, 10, W of experts over the dispatch 30, 4, 3 at the end: 72. Of experts
    alone W of attention stays where it is.
    """
    ops = [
        kernels(5, -5, kind="attention", layer=1),
        sent(20, "ep_combine"),
        kernels(10, -30, kind="expert"),
        sent(20),
        kernels(4, -3),
    ]
    assert run(ops).step_ns == 97
    assert run(delay_weight_gradients(ops, of_experts_only=of_experts_only)).step_ns == step_ns


def test_exchanges_in_a_row_run_over_the_same_gradients():
    """Of sliced experts: reduce-scatter 10, then all-to-all 10, over gradients of 15."""
    delayed = delay_weight_gradients([kernels(1, -15, kind="expert"), sent(10), sent(10)], of_experts_only=True)
    assert run(delayed).step_ns == 1 + 20
    assert [type(op) for op in delayed] == [Compute, Collective, Collective, Compute, AwaitStream]


def test_without_gradients_of_weights_a_pass_stays_as_it_is():
    ops = [kernels(1), sent(10), kernels(2, kind="expert")]
    assert delay_weight_gradients(ops, of_experts_only=False) == ops


def test_gradients_wait_behind_shared_experts_that_overlap():
    """Dispatch 20 over gradients of 10 and then shared experts of 5."""
    ops = [kernels(1, -10, kind="expert"), *run_next_to([sent(20)], [kernels(5)])]
    delayed = delay_weight_gradients(ops, of_experts_only=True)
    assert run(delayed).step_ns == 21
    assert sum(isinstance(op, AwaitStream) for op in delayed) == 1


# --- pairs of passes -------------------------------------------------------------------------------------------------


def test_a_pair_hides_the_exchanges_of_both_passes():
    """One after the other the passes take 180, their kernels alone 100; only 60 to 70 is exposed.

    B: combine 0-20, experts 30-50, dispatch 50-70, attention 70-110. F: attention 0-30, dispatch 30-50, experts 50-60,
    combine 70-90.
    """
    forward = on_expert_stream([kernels(30), sent(20), kernels(10, kind="expert"), sent(20, "ep_combine")])
    backward = on_expert_stream([sent(20, "ep_combine"), kernels(20, kind="expert"), sent(20), kernels(40)])
    sides = ConcurrentPasses(sides=((Pass("B", 0), tuple(backward)), (Pass("F", 1), tuple(forward))))
    trace = run_plan(HandPlan(["F1+B0"], lambda *_: sides, capacity=[1.0], inputs=lambda *_: ())).trace
    closes = dict(zip(*(trace[name][trace.rows("pass")].tolist() for name in ("kind", "end_ns")), strict=True))
    assert closes == {"F": 90, "B": 110}
    assert _exposed(stages_ns(trace)[0]) == 10


def test_a_step_in_pairs_by_hand_from_the_times_of_its_ops():
    """Two microbatches of one layer: F0, then B0 with F1, then B1; the pair takes at least its kernels."""
    plan = _plan("EP4_TP1_PP1_DP4", 4, "1f1b", Runtime(overlap_moe=True), layers=1, microbatches=2)
    trace = run_plan(plan).trace
    alone = {kind: _alone_ns(plan.ops(0, 0, Pass(kind, 0))) for kind in "FB"}
    of_kernels = {kind: _alone_ns(plan.ops(0, 0, Pass(kind, 0)), kernels_only=True) for kind in "FB"}
    rows = trace.rows("pass")
    names = ("kind", "microbatch", "start_ns", "end_ns")
    spans = {(k, m): (s, e) for k, m, s, e in zip(*(trace[n][rows].tolist() for n in names), strict=True)}
    assert spans["F", 0] == (0, alone["F"])
    assert spans["F", 1][0] == spans["B", 0][0] == alone["F"]
    pair_ns = max(spans["F", 1][1], spans["B", 0][1]) - alone["F"]
    assert max(*alone.values(), sum(of_kernels.values())) <= pair_ns < sum(alone.values())
    assert spans["B", 1] == (alone["F"] + pair_ns, alone["F"] + pair_ns + alone["B"])


@pytest.mark.parametrize(("strategy", "num_gpus", "schedule"), STEPS)
@pytest.mark.parametrize("delay", [False, True])
def test_pairs_do_the_same_work_and_expose_less(strategy, num_gpus, schedule, delay):
    traces = [
        _trace(strategy, num_gpus, schedule, runtime)
        for runtime in (Runtime(), Runtime(overlap_moe=True, delay_wgrad=delay))
    ]
    _assert_same_work(*traces)
    plain, paired = (stages_ns(trace)[0] for trace in traces)
    assert traces[1].step_ns < traces[0].step_ns
    assert _exposed(paired) < _exposed(plain)


@pytest.mark.parametrize(("strategy", "num_gpus", "schedule"), STEPS)
def test_delayed_gradients_shorten_a_step_without_pairs_and_with_them(strategy, num_gpus, schedule):
    steps = [
        [
            _trace(strategy, num_gpus, schedule, Runtime(overlap_moe=pairs, delay_wgrad=delay)).step_ns
            for delay in (0, 1)
        ]
        for pairs in (False, True)
    ]
    assert all(delayed < plain for plain, delayed in steps)


@pytest.mark.parametrize(
    ("pairs", "delayed"), [(False, {"expert"}), (True, {"expert", "attention", "dense_ffn", "other_compute"})]
)
def test_without_pairs_gradients_of_experts_alone_are_delayed(pairs, delayed):
    plan = _plan(*STEPS[0], Runtime(overlap_moe=pairs, delay_wgrad=True))
    kinds = {kernel.kind for op in _next_to_exchanges(plan.ops(0, 0, Pass("B", 0))) for kernel in op.kernels}
    assert "expert" in kinds
    assert ("attention" in kinds) is pairs
    assert kinds <= delayed


def test_dualpipe_delays_gradients_of_whole_backward_passes():
    strategy = ("EP4_TP1_PP2_DP4", 8, "dualpipe")
    traces = [_trace(*strategy, Runtime(delay_wgrad=delay)) for delay in (False, True)]
    _assert_same_work(*traces)
    assert sum(exposed_communication_ns(traces[1]).values()) < sum(exposed_communication_ns(traces[0]).values())
    plan = _plan(*strategy, Runtime(delay_wgrad=True))
    kinds = {kernel.kind for op in _next_to_exchanges(plan.ops(0, 0, Pass("B", 3))) for kernel in op.kernels}
    assert kinds >= {"expert", "attention"}


def _next_to_exchanges(ops):
    """Return the kernels that stand between the start of an exchange and the wait for it."""
    starts = [at for at, op in enumerate(ops) if isinstance(op, Collective) and op.stream == EXPERT_STREAM]
    return [op for at in starts for op in takewhile(lambda op: isinstance(op, Compute), ops[at + 1 :])]


def test_pairs_have_two_sets_of_buffers():
    plain, paired = (_plan(*STEPS[0], Runtime(overlap_moe=on)).work for on in (False, True))
    assert stage_memory(paired, 0).buffers > stage_memory(plain, 0).buffers


def test_gradients_are_reduced_behind_the_layers_that_made_them():
    """With `overlap_grad_reduce` no bucket starts before the delayed gradients of its layers."""
    runtime = Runtime(overlap_moe=True, delay_wgrad=True, overlap_grad_reduce=True)
    plan = _plan("EP4_TP1_PP1_DP4", 4, "1f1b", runtime)
    ops = plan.ops(0, 0, Pass("B", 3))
    starts = [at for at, op in enumerate(ops) if isinstance(op, Collective) and op.kind == "dp"]
    makers = [
        at for at, op in enumerate(ops) if isinstance(op, Compute) and any(k.is_weight_gradient for k in op.kernels)
    ]
    assert starts
    assert max(makers) < max(starts)


@pytest.mark.parametrize(("all_to_all", "num_sms"), [("direct", 16), ("deepep", 20), ("low_latency", 0)])
def test_exchanges_of_nccl_take_the_multiprocessors_of_its_collectives(all_to_all, num_sms):
    """Next to kernels; DeepEP has its own number, and low-latency kernels are taken to need none."""
    plan = _plan(*STEPS[0], Runtime(overlap_moe=True, collective_sms=16), all_to_all=all_to_all)
    exchanges = [op for op in plan.ops(0, 0, Pass("F", 0)) if isinstance(op, Collective) and op.stream == EXPERT_STREAM]
    assert len(exchanges) == 2 * MODEL.layers
    assert {transfer.num_sms for op in exchanges for transfer in op.transfers} == {num_sms}


# --- the host --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("all_to_all", "waits"), [("direct", 4), ("deepep", 4), ("hybridep", 4), ("low_latency", 0)])
@pytest.mark.parametrize("overlap", ["overlap_moe", "overlap_shared_experts"])
def test_the_host_waits_for_the_counts_of_dispatchers_that_return_them(all_to_all, waits, overlap):
    runtime = Runtime(kernel_launch_s=1e-9, **{overlap: True})
    plan = _plan(*STEPS[0], runtime, all_to_all=all_to_all)
    assert sum(isinstance(op, HostWork) and op.waits for op in plan.ops(0, 0, Pass("F", 0))) == waits
    assert sum(isinstance(op, HostWork) and op.waits for op in plan.ops(0, 0, Pass("B", 0))) == 0


# --- helpers ---------------------------------------------------------------------------------------------------------


def _plan(strategy, num_gpus, schedule, runtime, *, layers=4, **changes):
    model = replace(MODEL, layers=layers)
    settings = {"kind": "training", "schedule": schedule, "runtime": runtime, "routing": "balanced", **changes}
    return PipelinePlan(make_work(strategy, "megatron", num_gpus=num_gpus, model=model, **settings))


def _trace(*args):
    return run_plan(_plan(*args)).trace


def _exposed(account):
    return account["ep_dispatch"] + account["ep_combine"] + account["latency"]


def _assert_same_work(first, second):
    """Hold bytes and kernels of two traces against each other."""
    for column in ("flops", "base_ns"):
        sums = [trace.columns[column][trace.rows("compute")].sum() for trace in (first, second)]
        assert sums[1] == pytest.approx(sums[0], rel=1e-9)
    sums = [trace.columns["bytes"].sum() for trace in (first, second)]
    assert sums[1] == pytest.approx(sums[0], rel=1e-9)


def _alone_ns(ops, *, kernels_only=False):
    """Return the time of ops one after another."""
    total = 0
    for op in ops:
        if isinstance(op, Compute):
            total += int(op.total_ns.max())
        elif isinstance(op, Collective) and not kernels_only:
            total += max(transfer.latency_ns + transfer.alone_ns for transfer in op.transfers)
    return total
