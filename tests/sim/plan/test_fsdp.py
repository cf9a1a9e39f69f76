"""FSDP: which weights are gathered when, what is sent, and what a rank keeps."""

from dataclasses import replace

import pytest
from works import make_model, make_work

from sim.build.build import build
from sim.engine.simulation import run_plan
from sim.errors import InvalidValueError
from sim.plan.ops import NO_LAYER, AwaitStream, Collective, Compute, LanePosition
from sim.plan.pipeline import PipelinePlan
from sim.run.stage_memory import stage_memory
from sim.scenario import load_scenario, load_scenario_text
from workloads.formats import FP8_RECIPES, Formats
from workloads.memory import Fsdp, StageParameters, params_per_rank, state_bytes
from workloads.mesh import build_mesh
from workloads.schedules import Pass
from workloads.strategy import Strategy

DENSE = make_model(experts=0)
TEXT = """
cluster: {preset: dgx-h100, num_nodes: 2}
model: {layers: 4, hidden: 256, heads: 8, ffn: 512, experts: 16, top_k: 2, vocab: 1024}
parallel: {strategy: EP4_TP1_PP1_DP16, fsdp: full}
workload: {kind: training, sequences: 32, sequence_length: 128, microbatches: 2}
"""


def _work(fsdp: Fsdp | None, strategy: str = "EP1_TP1_PP1_DP8", **changes: object):
    work = make_work(strategy, "megatron", num_gpus=8, model=DENSE, kind="training", all_reduce="ring", **changes)
    return replace(work, fsdp=fsdp)


def _order(work, pass_: Pass) -> list[str]:
    """Return what a pass does, in short: gathers, waits, reductions, and layers that compute."""
    lowering = PipelinePlan(work, folds=False).lowering
    words: list[str] = []
    for op in lowering.lower(LanePosition(0, 0), pass_, is_split=False):
        if isinstance(op, AwaitStream):
            words.append("wait")
        elif isinstance(op, Collective):
            words.append(f"{'gather' if op.stream == 'fsdp_gather' else 'reduce'} {op.layer}")
        elif isinstance(op, Compute) and words[-1:] != [f"compute {op.kernels[0].layer}"]:
            words.append(f"compute {op.kernels[0].layer}")
    return words


def test_the_weights_of_the_next_layer_are_gathered_next_to_a_layer() -> None:
    """A layer waits for its own gather, which was started before the layer in front of it; the root comes first."""
    work = _work(Fsdp())
    assert DENSE.layers == 4
    assert _order(work, Pass("F", 0)) == [
        f"gather {NO_LAYER}",
        *("wait", "gather 0", f"compute {NO_LAYER}"),
        *("wait", "gather 1", "compute 0"),
        *("wait", "gather 2", "compute 1"),
        *("wait", "gather 3", "compute 2"),
        *("wait", "compute 3", f"compute {NO_LAYER}"),
    ]
    assert _order(work, Pass("B", 0)) == [
        *("gather 3", f"compute {NO_LAYER}", "wait", "gather 2", "compute 3", "reduce 3"),
        *("wait", "gather 1", "compute 2", "reduce 2"),
        *("wait", "gather 0", "compute 1", "reduce 1"),
        *("wait", "compute 0", "reduce 0", f"compute {NO_LAYER}", f"reduce {NO_LAYER}"),
    ]


def test_weights_that_stay_are_not_gathered_again() -> None:
    """Without resharding a backward pass reduces gradients and gathers nothing."""
    words = _order(_work(Fsdp(reshards_after_forward=False)), Pass("B", 0))
    assert not any(word.startswith("gather") for word in words)


def test_gradients_of_the_last_microbatch_alone_are_reduced_where_all_are_kept() -> None:
    """The first microbatches reduce nothing; the last one reduces every unit."""
    work = _work(Fsdp(reduces_every_microbatch=False))
    reductions = [
        [word for word in _order(work, Pass("B", microbatch)) if word.startswith("reduce")]
        for microbatch in (0, work.num_microbatches - 1)
    ]
    assert [len(words) for words in reductions] == [0, 1 + DENSE.layers]


@pytest.mark.parametrize(
    ("fsdp", "per_param"),
    [
        # DP - 1 = 7 peers: 2 bytes of weights in F, and of layers in B; 4 bytes of gradients in each microbatch
        (Fsdp(), lambda m, all_, layers: 7 * m * (2 * all_ + 2 * layers + 4 * all_)),
        (Fsdp(reshards_after_forward=False), lambda m, all_, _: 7 * m * (2 * all_ + 4 * all_)),
        (Fsdp(reduces_every_microbatch=False), lambda m, all_, layers: 7 * (m * (2 * all_ + 2 * layers) + 4 * all_)),
        # two instances of four: 3 peers each; the shares of the last microbatch are summed over 2 ranks by a ring
        (Fsdp(num_instances=2), lambda m, all_, layers: 2 * 3 * m * (6 * all_ + 2 * layers) + 2 * 4 * all_),
    ],
)
def test_fsdp_sends_weights_and_gradients_as_often_as_it_says(fsdp, per_param) -> None:
    """Bytes of the trace against the model's parameters, with embedding and head gathered by F alone."""
    work = _work(fsdp)
    trace = run_plan(PipelinePlan(work, folds=False)).trace
    whole = params_per_rank(DENSE, work.mesh, work.stage_parameters(0))[0]
    ends = 2 * DENSE.padded_vocab(1) * DENSE.hidden + DENSE.hidden
    sent = float(trace["bytes"][trace["kind"] == "dp"].sum())
    assert sent == pytest.approx(per_param(work.microbatches, whole, whole - ends), rel=1e-9)


def test_what_hides_behind_layers_costs_no_time() -> None:
    """FSDP sends what ZeRO 3 sends but one gather of the ends, and never takes longer."""
    fsdp, zero3 = (run_plan(PipelinePlan(work)).trace for work in (_work(Fsdp()), replace(_work(None), zero=3)))
    assert fsdp.step_ns < zero3.step_ns


@pytest.mark.parametrize(
    ("fsdp", "states", "working"),
    [
        (Fsdp(), lambda p: 18 * p / 8, lambda _, layer, ends, head: 2 * (2 * layer + ends) + 4 * (layer + head)),
        (
            Fsdp(num_instances=2),
            lambda p: 18 * p / 4,
            lambda _, layer, ends, head: 2 * (2 * layer + ends) + 4 * (layer + head),
        ),
        (
            Fsdp(reshards_after_forward=False),
            lambda p: 18 * p / 8,
            lambda p, layer, _, head: 2 * p + 4 * (layer + head),
        ),
        (
            Fsdp(reduces_every_microbatch=False),
            lambda p: 14 * p / 8 + 4 * p,
            lambda _, layer, ends, head: 2 * (2 * layer + ends),
        ),
    ],
)
def test_a_rank_keeps_its_share_and_what_is_gathered(fsdp, states, working) -> None:
    """2 + 4 + 12 bytes of each parameter in an instance's shards; whole: two layers, ends, gradients of the head."""
    work, plain = _work(fsdp), _work(None)
    found, without = stage_memory(work, 0), stage_memory(plain, 0)
    whole = params_per_rank(DENSE, work.mesh, work.stage_parameters(0))[0]
    ends = 2 * DENSE.padded_vocab(1) * DENSE.hidden + DENSE.hidden
    layer, head = (whole - ends) / DENSE.layers, (ends + DENSE.hidden) / 2  # the last norm with the head
    assert found.weights + found.gradients + found.optimizer == pytest.approx(states(whole), rel=1e-12)
    assert found.buffers - without.buffers == pytest.approx(working(whole, layer, ends, head), rel=1e-12)


@pytest.mark.parametrize("name", [None, "tensorwise", "mxfp8"])
def test_experts_that_no_other_rank_holds_count_once(name) -> None:
    """EP covers the ranks: weights of experts, and their copies in fp8, are those of a run without FSDP."""
    model = make_model()
    if name is not None:
        model = replace(model, formats=Formats(recipe=FP8_RECIPES[name], trains=True))
    mesh = build_mesh(Strategy.parse("EP8_DP8"), "megatron", num_gpus=8)
    stage = StageParameters(layers=range(model.layers), has_embedding=True, has_head=True)
    dense, expert = params_per_rank(model, mesh, stage)
    ends = 2 * model.padded_vocab(1) * model.hidden + model.hidden
    plain = state_bytes(model, mesh, stage, 0)
    kept = state_bytes(model, mesh, stage, 0, sharding=Fsdp(reshards_after_forward=False).sharding)
    split = plain.weights - 2 * dense * 7 / 8 - model.formats.weight_copy_bytes * (dense - ends)
    assert kept.weights == pytest.approx(split)
    layer_and_head = (dense - ends) / model.layers + ends / 2 + model.hidden / 2
    gathered = 2 * dense + model.formats.weight_copy_bytes * (dense - ends)
    assert kept.working == pytest.approx(gathered + 4 * layer_and_head)
    assert expert > dense - ends


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (["parallel.zero=1"], r"parallel\.zero must be left out with parallel\.fsdp full, got 1"),
        (["parallel.fsdp=none", "parallel.fsdp_reshard_after_forward=false"], "be left out with parallel.fsdp none"),
        (["parallel.fsdp_shards=4"], "be left out with parallel.fsdp full"),
        (["parallel.fsdp=hybrid", "parallel.fsdp_shards=3"], "must divide the 16 replicas"),
        (["parallel.fsdp=hybrid", "parallel.fsdp_shards=2"], "16 / shards instances that divide the 4 replicas"),
        (["workload.kind=forward"], "parallel.fsdp must be none with workload.kind forward"),
    ],
)
def test_fsdp_that_cannot_be_is_refused(changes, says) -> None:
    """The message names the key, the rule and the value."""
    with pytest.raises(InvalidValueError, match=says.replace("parallel.fsdp ", r"parallel\.fsdp ")):
        build(load_scenario_text(TEXT, overrides=changes))


def test_hybrid_splits_inside_of_nodes_by_default() -> None:
    """Two nodes of 8 ranks are two instances; 4 replicas of experts are 2 in each. An assumption says so."""
    built = build(load_scenario_text(TEXT, overrides=["parallel.fsdp=hybrid"]))
    assert built.work.fsdp == Fsdp(num_instances=2)
    (assumed,) = (found for found in built.assumptions if found.key == "parallel.fsdp_shards")
    assert (assumed.value, assumed.why) == (8, "the replicas of a node; states of experts are split over 2")


def test_the_last_pass_is_the_last_of_the_order(tmp_path) -> None:
    """A schedule of one's own that runs B from the last microbatch to the first reduces after microbatch 0."""
    (tmp_path / "backwards.txt").write_text("F0 F1 B1 B0\n")
    (tmp_path / "scenario.yaml").write_text(TEXT)
    overrides = ["schedule.kind=custom", "schedule.file=backwards.txt", "parallel.fsdp_reduce_every_microbatch=false"]
    work = build(load_scenario(tmp_path / "scenario.yaml", overrides=overrides)).work
    lowering = PipelinePlan(work).lowering
    num_reductions = [
        sum(
            isinstance(op, Collective) and op.stream == "fsdp_reduce"
            for op in lowering.lower(LanePosition(0, 0), Pass("B", microbatch), is_split=False)
        )
        for microbatch in (1, 0)
    ]
    assert num_reductions == [0, 1 + 4]
