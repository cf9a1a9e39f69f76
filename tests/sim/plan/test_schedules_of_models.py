"""A model under every schedule that it runs with: the same work and tokens, in another order."""

from collections import Counter
from dataclasses import replace

import pytest
from works import make_model, make_work

from sim.engine.simulation import run_plan
from sim.errors import InvalidValueError
from sim.plan.pipeline import PipelinePlan
from sim.results.stages import stages_ns
from workloads.memory import params_per_rank
from workloads.schedules import SCHEDULES

KINDS = tuple(SCHEDULES)
LAYOUTS = [("EP4_TP1_PP4", "megatron"), ("EP16_TP1_PP4", "spanning"), ("EP4_TP2_PP2", "megatron")]
WORK_PARTS = ("attention", "dense_ffn", "expert", "other_compute")


def work_of(strategy, convention, schedule, **changes):
    """Return training of 8 layers with 8 microbatches; interleaving schedules get two chunks per stage."""
    chunks = 2 if SCHEDULES[schedule].num_chunks is None else 1
    settings = {
        "kind": "training",
        "schedule": schedule,
        "routing": "balanced",
        "sequences": 64,
        "microbatches": 8,
        "model": make_model(layers=8),
    }
    name = strategy + (f"_VPP{chunks}" if chunks > 1 else "")
    return make_work(name, convention, num_gpus=16, **(settings | changes))


def run(*args, **changes):
    """Run a training step."""
    return run_plan(PipelinePlan(work_of(*args, **changes)))


def kernels_ns(trace, parts=WORK_PARTS):
    """Return the time of own kernels of all stages."""
    return sum(account[part] for account in stages_ns(trace) for part in parts)


@pytest.mark.parametrize(("strategy", "convention"), LAYOUTS)
@pytest.mark.parametrize("routing", ["balanced", "multinomial"])
def test_every_schedule_does_the_same_work(strategy, convention, routing):
    runs = {kind: run(strategy, convention, kind, routing=routing) for kind in KINDS}
    for one in runs.values():
        assert one.tokens_routed == one.tokens_computed == runs["1f1b"].tokens_computed
        assert one.bytes_sent == pytest.approx(one.bytes_received, rel=1e-12)
    for kind in [kind for kind in KINDS if SCHEDULES[kind].layout == "row"]:
        assert runs[kind].bytes_sent == pytest.approx(runs["1f1b"].bytes_sent, rel=1e-12)
    if convention == "megatron":  # under spanning, waiting for a GPU that serves others is part of the account
        # where ranks differ, which of them ends last hangs on what the other pass of a pair runs
        alike = [kind for kind in KINDS if routing == "balanced" or not SCHEDULES[kind].pairs]
        assert len({kernels_ns(runs[kind].trace) for kind in alike}) == 1
        updates = {kind: kernels_ns(one.trace, ["optimizer"]) for kind, one in runs.items()}
        whole = [kind for kind in KINDS if SCHEDULES[kind].layout_on(2).num_copies == 1]
        assert {updates[kind] for kind in whole} <= {updates["1f1b"] + extra for extra in (-1, 0, 1)}  # rounded up
        assert all(updates[kind] > 1.5 * updates["1f1b"] for kind in {*KINDS} - {*whole})


@pytest.mark.parametrize("kind", KINDS)
def test_each_layer_runs_once_a_pass_and_on_its_own_stage(kind):
    trace = run("EP4_TP1_PP4", "megatron", kind).trace
    rows = trace.rows("compute", lane=0)
    rows = rows[(trace["kind"][rows] == "attention")]
    seen = Counter(
        zip(trace["stage"][rows].tolist(), trace["chunk"][rows].tolist(), trace["layer"][rows].tolist(), strict=True)
    )
    by_placement = {
        "row": {(layer // 2, 0, layer) for layer in range(8)},
        "round_robin": {(layer % 4, layer // 4, layer) for layer in range(8)},
        "vee": {(min(layer, 7 - layer), layer // 4, layer) for layer in range(8)},
        "both_ways": {place for i in range(8) for place in ((i // 2, 0, i), (3 - i // 2, 1, i))},
    }
    assert set(seen) == by_placement[SCHEDULES[kind].layout]
    assert len(set(seen.values())) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_of_an_entry_takes_the_same_time_under_another_name(monkeypatch, kind):
    """Nothing of a schedule hangs on its name."""
    monkeypatch.setitem(SCHEDULES, "toy", replace(SCHEDULES[kind]))
    steps = [run("EP4_TP1_PP4", "megatron", name).trace.step_ns for name in (kind, "toy")]
    assert steps[0] == steps[1]


def test_hops_grow_with_the_number_of_chunks():
    runs = {kind: run("EP4_TP1_PP4", "megatron", kind).trace for kind in ("1f1b", "interleaved")}
    hops = {kind: len(trace.rows("p2p", lane=0)) for kind, trace in runs.items()}
    assert hops == {"1f1b": 8 * 2 * 3, "interleaved": 8 * 2 * 7}


@pytest.mark.parametrize("strategy", ["EP4_TP1_PP4", "EP4_TP2_PP2"])
@pytest.mark.parametrize("kind", ["zb_h1", "zb_2p"])
def test_w_is_compute_alone_and_b_is_the_shorter_for_it(kind, strategy):
    whole, split = (run(strategy, "megatron", name).trace for name in ("1f1b", kind))
    assert {split["stream"][row] for row in range(len(split)) if split["kind"][row] == "W"} == {"pass"}

    def took(trace, name):
        rows = trace.rows("pass", stage=0, lane=0)
        rows = rows[trace["kind"][rows] == name]
        return (trace["end_ns"][rows] - trace["start_ns"][rows]).tolist()

    # alone on the network, the two halves take what the whole did; over TP the whole hides a collective behind W
    halves = min(took(split, "B")) + min(took(split, "W"))
    assert halves == min(took(whole, "B")) if "TP1" in strategy else halves > min(took(whole, "B"))


def test_split_schedules_wait_less_than_1f1b():
    steps = {kind: run("EP4_TP1_PP4", "megatron", kind).trace.step_ns for kind in KINDS}
    assert steps["zb_h2"] < steps["zb_h1"] < steps["1f1b"]
    assert steps["zb_2p"] < steps["zb_h1"]
    assert steps["zb_2p"] < steps["zb_1p"]  # W holds 1.06 times B: within p M_B only p - 1 microbatches are ahead
    assert steps["interleaved"] < steps["1f1b"]


@pytest.mark.parametrize("kind", KINDS)
def test_forward_passes_alone_run_under_every_schedule(kind):
    one = run("EP4_TP1_PP4", "megatron", kind, kind="forward")
    assert one.tokens_routed == one.tokens_computed
    assert {one.trace["kind"][row] for row in one.trace.rows("pass")} == {"F"}


def test_uneven_chunks_run_the_layers_that_they_are_given():
    work = work_of("EP4_TP1_PP4", "megatron", "interleaved", chunk_layers=(1, 2, 1, 1, 0, 1, 2, 0))
    assert [list(work.layers_of(stage)) for stage in range(4)] == [[0], [1, 2, 5], [3, 6, 7], [4]]
    assert run_plan(PipelinePlan(work)).trace.step_ns > 0


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"chunk_layers": (2, 2, 2, 2)}, "parallel.stage_layers must give 8 counts, one per part of the model"),
    ],
)
def test_chunks_that_cannot_be_are_refused(changes, says):
    with pytest.raises(InvalidValueError, match=says):
        work_of("EP4_TP1_PP4", "megatron", "interleaved", **changes)


def test_chunks_under_a_schedule_that_has_none_are_refused():
    with pytest.raises(InvalidValueError, match="vpp must be 1 with schedule"):
        make_work("EP4_TP1_PP4_VPP2", "megatron")


@pytest.mark.parametrize(
    ("kind", "strategy", "microbatches", "says"),
    [
        ("dualpipe", "EP4_TP1_PP4", 4, "workload.microbatches must be even and at least 8"),
        ("dualpipe_v", "EP4_TP1_PP4", 4, "workload.microbatches must be at least 8"),
        ("dualpipe", "EP16_TP1_PP1", 8, "parallel.pp must be even for dualpipe"),
        ("chimera", "EP16_TP1_PP1", 8, "parallel.pp must be even for chimera"),
    ],
)
def test_a_pipeline_that_a_schedule_cannot_run_is_refused_before_it_is_planned(kind, strategy, microbatches, says):
    with pytest.raises(InvalidValueError, match=says):
        work_of(strategy, "megatron", kind, microbatches=microbatches, sequences=128)


@pytest.mark.parametrize("kind", ["chimera", "dualpipe"])
def test_two_copies_meet_at_the_end_and_not_in_every_pass(kind):
    with pytest.raises(InvalidValueError, match=r"parallel.zero must be 0 or 1 with schedule.kind"):
        work_of("EP4_TP1_PP4", "megatron", kind, zero=2)


def test_chunks_of_dense_and_expert_layers_hold_what_is_theirs():
    """Of 8 layers the first 3 are dense: part 0 is dense, part 1 half; stage i holds parts i and 4 + i of 8."""
    model = make_model(layers=8, dense_layers=3)
    work = work_of("EP4_TP1_PP4", "megatron", "interleaved", model=model)
    experts = [params_per_rank(model, work.mesh, work.stage_parameters(stage))[1] for stage in range(4)]
    one_layer = model.num_expert_params * model.experts // 4
    assert experts == [one_layer, one_layer, one_layer, 2 * one_layer]
    assert run_plan(PipelinePlan(work)).tokens_computed == 5 * work.batch_tokens * model.top_k


def sent_bytes(kind, of, strategy="EP1_TP1_PP4_DP4", **changes):
    """Return the bytes of all transfers of a kind, of a dense model."""
    trace = run(strategy, "megatron", kind, model=make_model(layers=8, experts=0), sequences=128, **changes).trace
    return sum(float(trace["bytes"][row]) for row in range(len(trace)) if trace["kind"][row] == of)


@pytest.mark.parametrize("zero", [2, 3])
@pytest.mark.parametrize("kind", ["interleaved", "zb_v", "dualpipe_v"])
def test_sharded_parameters_travel_once_in_a_pass_wherever_they_stand(kind, zero):
    """Embedding and head with their own chunks: in a V both are on stage 0, and neither travels with the other's."""
    assert sent_bytes(kind, "dp", zero=zero) == pytest.approx(sent_bytes("1f1b", "dp", zero=zero), rel=1e-12)


def test_what_comes_from_the_same_stage_is_not_gathered():
    """Stage 1 of 2 turns the V: of its two chunks one receives activations, and one gradients."""
    sizes = {"strategy": "EP1_TP2_PP2_DP4", "sp": False}
    turns = sent_bytes("zb_v", "tp", **sizes) - sent_bytes("interleaved", "tp", **sizes)
    hop = 4 * 512 * 256 * 2  # tokens x hidden x bytes of a microbatch of the replica that runs for all four
    assert turns == -2 * 8 * hop  # F and B of 8 microbatches, gathered over TP 2: each rank has the other's half
