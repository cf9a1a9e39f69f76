"""Gradients reduced next to backward passes and parameters gathered next to forward passes, read off traces."""

from itertools import pairwise

import numpy as np
import pytest
from works import make_model, make_work

import sim.plan.gradient_overlap
from sim.build.build import build
from sim.engine.simulation import run_plan
from sim.errors import InvalidValueError
from sim.plan.gradient_overlap import Bucket, buckets_of
from sim.plan.ops import NO_LAYER
from sim.plan.pipeline import PipelinePlan
from sim.results.path import path_ns
from sim.results.stages import stages_ns
from sim.scenario import load_scenario
from workloads.runtime import Runtime

DENSE = make_model(experts=0, layers=4)
OVERLAPS = Runtime(overlap_grad_reduce=True, overlap_param_gather=True)


def run(strategy, runtime, *, model=DENSE, num_gpus=4, **changes):
    settings = {"zero": 1, "kind": "training", "all_reduce": "ring", **changes}
    return run_plan(
        PipelinePlan(make_work(strategy, "megatron", num_gpus=num_gpus, model=model, runtime=runtime, **settings))
    )


def spans(trace, stream, kind, stage=0):
    """Return starts and ends of the rows of a stream and a kind, in the order of their starts."""
    rows = trace.rows(stream, stage=stage, lane=0)
    rows = rows[trace["kind"][rows] == kind]
    found = np.stack([trace.ints("start_ns")[rows], trace.ints("end_ns")[rows]])
    return found[:, np.argsort(found[0], kind="stable")].T.tolist()


@pytest.fixture
def every_layer(monkeypatch):
    """Let every layer be a bucket on the first stage."""
    monkeypatch.setattr(sim.plan.gradient_overlap, "_LEAST_BUCKET", 1)
    monkeypatch.setattr(sim.plan.gradient_overlap, "_BUCKET_PER_REPLICA", 0)


# --- buckets ---------------------------------------------------------------------------------------------------------


def test_a_bucket_is_closed_when_it_has_as_many_parameters():
    units = [(5, 0), (20, 100), (20, 100), (20, 100), (7, 0)]
    assert buckets_of(units, 40) == [
        Bucket(0, 0, 45, (0, 1, 2)),
        Bucket(0, 1, 27, (3, 4)),
        Bucket(1, 0, 100, (1,)),
        Bucket(1, 1, 100, (2,)),
        Bucket(1, 2, 100, (3,)),
    ]


def test_buckets_hold_all_parameters_of_a_stage_and_only_the_first_stage_has_several(every_layer):
    work = make_work("TP1_PP2_DP2", "megatron", num_gpus=4, model=DENSE, zero=1, kind="training", runtime=OVERLAPS)
    lowering = PipelinePlan(work).lowering
    for stage, num_buckets in ((0, 3), (1, 1)):
        buckets = lowering.overlap._buckets(stage, 0)
        assert len(buckets) == num_buckets  # two layers and the embedding, or all of them with the head
        assert sum(bucket.num_params for bucket in buckets) == lowering.gradients._stage_params(stage)[0]


# --- reduction -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zero", [0, 1])
@pytest.mark.parametrize("model", [DENSE, make_model(layers=4)], ids=["dense", "experts"])
@pytest.mark.parametrize("strategy", ["EP1_TP2_PP2_DP2", "EP1_TP1_PP1_DP8", "EP1_TP1_PP2_DP4"])
def test_replicas_exchange_the_same_bytes_next_to_passes(every_layer, strategy, model, zero):
    runs = [run(strategy, runtime, num_gpus=8, model=model, zero=zero).trace for runtime in (Runtime(), OVERLAPS)]
    sent = [trace.columns["bytes"][trace["kind"] == "dp"].sum() for trace in runs]
    assert sent[1] == pytest.approx(sent[0], rel=1e-9)


def test_each_bucket_is_reduced_when_the_last_backward_pass_has_left_its_layers(every_layer):
    trace = run("TP1_PP1_DP4", Runtime(overlap_grad_reduce=True)).trace
    opened, closed = spans(trace, "pass", "B")[-1]
    reduced = spans(trace, "async", "dp")
    assert len(reduced) == 5 + 1  # head, four layers, embedding
    rows = trace.rows("compute", lane=0)
    last = rows[(trace.ints("start_ns")[rows] >= opened) & (trace.ints("end_ns")[rows] <= closed)]
    before = opened
    for layer, (start, end) in zip((NO_LAYER, 3, 2, 1, 0), reduced, strict=False):
        of_layer = last[trace.ints("layer")[last] == layer]
        if layer == NO_LAYER:
            of_layer = of_layer[
                trace.ints("start_ns")[of_layer] < trace.ints("start_ns")[last[trace.ints("layer")[last] == 3]].min()
            ]
        assert start == max(before, trace.ints("end_ns")[of_layer].max())
        before = end
    step = spans(trace, "compute", "optimizer")[0]
    assert step[0] == max(closed, reduced[-1][1])


def test_what_is_hidden_behind_a_backward_pass_is_in_no_account(every_layer):
    trace = run("TP1_PP1_DP4", Runtime(overlap_grad_reduce=True)).trace
    account = stages_ns(trace)[0]
    exposed = sum(end - start for start, end in spans(trace, "await", "dp"))
    gathered = sum(end - start for start, end in spans(trace, "comm", "dp"))
    components = sum(account[part] for part in ("dp", "latency", "contention"))
    assert components == exposed + gathered  # with TP 1 and one stage nothing else is sent
    assert sum(account.values()) == sum(path_ns(trace).values()) == trace.step_ns


def test_a_later_stage_reduces_one_bucket_after_its_last_backward_pass(every_layer):
    trace = run("TP1_PP2_DP2", Runtime(overlap_grad_reduce=True)).trace
    for stage, num_buckets in ((0, 3), (1, 1)):
        assert len(spans(trace, "async", "dp", stage)) == num_buckets
    assert spans(trace, "async", "dp", 1)[0][0] == spans(trace, "pass", "B", 1)[-1][1]
    assert spans(trace, "async", "dp", 0)[0][0] < spans(trace, "pass", "B", 0)[-1][1]


def test_where_w_is_a_pass_of_its_own_the_last_w_starts_the_reduction(every_layer):
    trace = run("TP1_PP2_DP2", Runtime(overlap_grad_reduce=True), schedule="zb_h1").trace
    opened, _ = spans(trace, "pass", "W", 0)[-1]
    assert spans(trace, "async", "dp", 0)[0][0] > opened


def test_with_virtual_stages_all_stages_reduce_a_chunk_after_as_many_passes():
    trace = run("TP1_PP2_VPP2_DP2", Runtime(overlap_grad_reduce=True), schedule="interleaved").trace
    for stage in (0, 1):
        backward = [end for _, end in spans(trace, "pass", "B", stage)]
        chunks = trace["chunk"][[r for r in trace.rows("pass", stage=stage, lane=0) if trace["kind"][r] == "B"]]
        (upper,) = np.flatnonzero(np.diff(np.append(chunks == 1, False).astype(int)) == -1)[-1:]
        starts = [start for start, _ in spans(trace, "async", "dp", stage)]
        assert starts[0] == backward[upper + stage]


# --- gathering -------------------------------------------------------------------------------------------------------


def test_each_layer_waits_for_its_bucket_in_the_first_forward_pass(every_layer):
    trace = run("TP1_PP1_DP4", Runtime(overlap_param_gather=True)).trace
    gathered = spans(trace, "async", "dp")
    assert gathered[0][0] == 0
    assert all(start == end for (_, end), (start, _) in pairwise(gathered))
    rows = trace.rows("compute", lane=0)
    layers, starts = trace.ints("layer")[rows], trace.ints("start_ns")[rows]
    for layer, (_, end) in zip((NO_LAYER, 0, 1, 2, 3), gathered, strict=False):
        assert starts[layers == layer].min() >= end
    assert starts[layers == 0].min() < gathered[-1][1]  # the first layer does not wait for the last
    assert spans(trace, "comm", "dp") == spans(trace, "comm", "dp")[:1]  # the reduction alone is left at the end
    assert spans(trace, "pass", "O")[0][1] == spans(trace, "compute", "optimizer")[-1][1]


def test_with_virtual_stages_later_chunks_are_gathered_in_time():
    trace = run("TP1_PP2_VPP2_DP2", OVERLAPS, schedule="interleaved").trace
    for stage in (0, 1):
        gathered = spans(trace, "async", "dp", stage)[:2]
        first = dict(_first_forwards(trace, stage))
        assert gathered[0][0] == 0
        assert gathered[1][0] == gathered[0][1]
        assert first[1] > first[0]


def _first_forwards(trace, stage):
    """Yield chunk and start of the first forward pass of each chunk."""
    rows = [r for r in trace.rows("pass", stage=stage, lane=0) if trace["kind"][r] == "F"]
    for row in sorted(rows, key=lambda r: -trace.ints("start_ns")[r]):
        yield int(trace["chunk"][row]), int(trace.ints("start_ns")[row])


# --- the scenario ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        (["workload.kind=forward"], "in a forward pass, which has no gradients"),
        (["parallel.zero=2"], "with parallel.zero 2, which exchanges in every pass"),
        ([], "under the convention spanning"),
    ],
)
def test_overlap_that_cannot_be_is_refused_by_name(settings, why):
    name = "ep64_tp16_pp4" if "workload.kind=forward" in settings else "ep64_tp16_pp4_training"
    with pytest.raises(InvalidValueError, match=f"runtime.overlap_grad_reduce must be false {why}"):
        build(load_scenario(name, overrides=["runtime.overlap_grad_reduce=true", *settings]))


def test_collectives_next_to_kernels_take_sms_where_the_runtime_says_so(every_layer):
    traces = [run("TP1_PP1_DP4", Runtime(overlap_grad_reduce=True, collective_sms=sms)).trace for sms in (0, 66)]
    lost = [trace.ints("contention_ns")[trace.rows("compute")] for trace in traces]
    assert lost[0].sum() == 0
    # half of the 132 SMs are gone while buckets are reduced: kernels next to them take at most twice their time
    rows = traces[1].rows("compute")
    lasted = (traces[1].ints("end_ns") - traces[1].ints("start_ns"))[rows]
    assert lost[1].sum() > 0
    assert (2 * lost[1] <= lasted + 1).all()


def test_collectives_cannot_take_all_sms():
    with pytest.raises(InvalidValueError, match=r"runtime\.collective_sms must be below the 132 SMs"):
        build(load_scenario("ep64_tp16_pp4_training", overrides=["runtime.collective_sms=132"]))
