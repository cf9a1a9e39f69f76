"""Embedding, MTP and loss where a layout places them: what each stage runs, holds and exchanges."""

from dataclasses import replace

import pytest
from works import make_model, make_work

from sim.build.build import build
from sim.engine.simulation import run_plan
from sim.errors import InvalidValueError
from sim.plan.ops import Compute, LanePosition
from sim.plan.pipeline import PipelinePlan
from sim.run.stage_memory import stage_memory
from sim.scenario.load import load_scenario_text
from sim.studies.chunks import under_schedule
from workloads.memory import params_per_rank
from workloads.pipeline_layout import parse_layout
from workloads.schedules import SCHEDULES, Pass

SCENARIO = """
cluster: {preset: dgx-h100, num_nodes: 1}
model: {layers: 6, hidden: 256, heads: 8, ffn: 512, vocab: 4096, experts: 4, top_k: 2}
parallel: {strategy: EP2_TP1_PP4, layout: "Et|t*3|tt|L"}
workload: {kind: training, sequences: 16, sequence_length: 256, microbatches: 8}
routing: {kind: balanced}
"""


def placed(text, schedule="1f1b", *, strategy="EP4_TP1_PP4", **changes):
    """Return training of a model of as many layers as a layout has, whose chunks hold what it says."""
    layout = parse_layout(text)
    settings = {"kind": "training", "schedule": schedule, "routing": "balanced", "sequences": 64, "microbatches": 8}
    return make_work(
        strategy,
        "megatron",
        model=make_model(layers=sum(layout.layers)),
        chunk_layers=layout.layers,
        embedding_chunk=layout.embedding_chunk,
        head_chunk=layout.head_chunk,
        mtp_chunk=layout.mtp_chunk,
        **settings | changes,
    )


def text_for(schedule, num_stages=4):
    """Return a layout with a chunk for embedding alone and one for the loss alone, for any schedule."""
    kind = SCHEDULES[schedule]
    chunks = kind.layout_on(num_stages, 2 if kind.num_chunks is None else 1).num_model_chunks
    return f"E|{'t|' * (chunks - 3)}tt|L"


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_runs_with_embedding_and_loss_alone(schedule):
    vpp = "_VPP2" if SCHEDULES[schedule].num_chunks is None else ""
    work = placed(text_for(schedule), schedule, strategy=f"EP4_TP1_PP4{vpp}")
    run = run_plan(PipelinePlan(work))
    plain = run_plan(PipelinePlan(replace(work, embedding_chunk=0, head_chunk=len(work.chunk_layers) - 1)))
    assert run.trace.step_ns == plain.trace.step_ns > 0
    assert run.tokens_routed == run.tokens_computed


def test_stages_hold_the_parameters_that_the_layout_gives_them():
    work = placed("E|ttt|t|L")
    model, mesh = work.model, work.mesh
    dense = [params_per_rank(model, mesh, work.stage_parameters(stage))[0] for stage in range(4)]
    embedding = model.vocab * model.hidden
    layer = dense[2]
    assert dense == [embedding, 3 * layer, layer, embedding + model.hidden]
    assert [list(work.layers_of(stage)) for stage in range(4)] == [[], [0, 1, 2], [3], []]


def test_a_stage_of_embedding_or_loss_alone_keeps_no_activations_but_logits():
    work = placed("E|ttt|t|L")
    chunks = [stage_memory(work, stage).chunks[0] for stage in range(4)]
    assert [chunk.activations > 0 for chunk in chunks] == [False, True, True, False]
    assert [chunk.logits for chunk in chunks[:3]] == [0, 0, 0]
    # 8 sequences of 512 tokens over DP4 and 8 microbatches, 1,024 entries in bf16 and, of the softmax, in fp32
    assert chunks[3].logits == work.tokens * 1024 * (2 + 4)


def test_the_loss_on_an_earlier_chunk_moves_its_time_and_its_memory():
    late, early = placed("Ett|tt|tt|L"), placed("Ett|tt|ttL|")
    assert [early.stage_parameters(stage).has_head for stage in range(4)] == [False, False, True, False]
    assert stage_memory(early, 2).chunks[0].logits == stage_memory(late, 3).chunks[0].logits > 0
    assert stage_memory(early, 3).weights == 0
    other = [_own_compute_ns(work) for work in (late, early)]
    assert other[0][3] == other[1][2] - other[0][2] > 0 == other[1][3]


def _own_compute_ns(work):
    """Return the time of the kernels of one microbatch's F on each stage."""
    lowering = PipelinePlan(work).lowering
    ops = [lowering.chunk_ops(LanePosition(stage, 0), Pass("F", 0, 0), is_split=False) for stage in range(4)]
    return [sum(int(op.total_ns.max()) for op in of_stage if isinstance(op, Compute)) for of_stage in ops]


def test_vpp_follows_from_the_stages_of_the_layout():
    text = SCENARIO.replace('"Et|t*3|tt|L"', '"Et|(t|)*5,|L"') + "schedule: {kind: interleaved}\n"
    work = build(load_scenario_text(text)).work
    assert work.mesh.strategy.vpp == 2
    assert [list(work.layers_of(stage)) for stage in range(4)] == [[0, 4], [1, 5], [2], [3]]
    assert (work.embedding_chunk, work.head_chunk) == (0, 7)


@pytest.mark.parametrize(
    ("layout", "says"),
    [
        ('"Et|t*5|L"', r"parallel.layout must have 4 stages, one for each stage, separated by \|, got 3 in"),
        ('"Et|t*2|tt|L"', "parallel.layout must place model.layers = 6 layers t, got 5 in"),
        ('"Et|t*3|tt|mL"', "place model.num_nextn_predict_layers = 0 MTP layers m, got 1 in"),
        ('"Et|t*3|tx|L"', ":4: parallel.layout must have only E, t, m, L, .* got `x` at character 9"),
        ("[Et, ttt, tt, [loss, x]]", "parallel.layout must list for each stage"),
        ("7", "parallel.layout must be a layout string or a list of stages, got 7"),
        ('"Et|t*3|tt|L", stage_layers: [1, 3, 2, 0]', "parallel.stage_layers must be left out with parallel.layout"),
    ],
)
def test_a_layout_that_does_not_fit_is_refused_by_name(layout, says):
    with pytest.raises(InvalidValueError, match=says):
        build(load_scenario_text(SCENARIO.replace('"Et|t*3|tt|L"', layout), file="a.yaml"))


def test_a_list_of_stages_is_the_layout_string():
    listed = load_scenario_text(SCENARIO.replace('"Et|t*3|tt|L"', "[Et, t*3, [decoder, decoder], [loss]]"))
    assert build(listed).work.chunk_layers == build(load_scenario_text(SCENARIO)).work.chunk_layers == (1, 3, 2, 0)


def test_schedules_with_as_many_chunks_keep_the_layout():
    text = SCENARIO.replace('"Et|t*3|tt|L"', '"Et|(t|)*5,|L"') + "schedule: {kind: interleaved}\n"
    scenario = load_scenario_text(text)
    assert under_schedule(scenario, "breadth_first") == {"schedule.kind": "breadth_first"}
    changes = under_schedule(scenario, "1f1b")
    assert (changes["parallel.layout"], changes["parallel.stage_layers"]) == (None, [2, 2, 1, 1])
    assert build(scenario.variant(changes)).work.head_chunk == 3


def test_another_strategy_drops_the_layout():
    scenario = load_scenario_text(SCENARIO).variant({"parallel.strategy": "EP2_TP1_PP2"})
    assert scenario.spec.parallel.layout is None


def test_mtp_alone_sends_its_hidden_state_on_to_the_loss():
    text = SCENARIO.replace("Et|t*3|tt|L", "Et|t*5|m|L").replace("top_k: 2", "top_k: 2, num_nextn_predict_layers: 1")
    work = build(load_scenario_text(text)).work
    assert [list(work.layers_of(stage)) for stage in range(4)] == [[0], [1, 2, 3, 4, 5], [6], []]
    plan = PipelinePlan(work)
    hidden = work.tokens * 256 * 2
    forward = [plan.sends(stage, 0, Pass("F", 0, 0))[0].transfer.total_bytes for stage in range(3)]
    backward = [plan.sends(stage, 0, Pass("B", 0, 0))[0].transfer.total_bytes for stage in (1, 2, 3)]
    assert forward == backward
    assert [num_bytes / forward[0] for num_bytes in forward] == [1, 1, 2]
    assert forward[0] >= hidden
    assert stage_memory(work, 3).chunks[0].logits == work.tokens * 4096 * (2 + 2 * 4)  # the softmax of both losses
