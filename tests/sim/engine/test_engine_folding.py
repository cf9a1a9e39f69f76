"""Lanes that are alike are run once: every figure is that of the run of all of them."""

from dataclasses import replace

import numpy as np
import pytest
from works import make_model, make_work

from sim.engine.simulation import Run, run_plan
from sim.engine.trace import COLUMNS
from sim.plan.pipeline import PipelinePlan
from sim.results.path import path_ns
from sim.results.stages import stages_ns
from topology.cluster import build_cluster
from topology.presets.clusters import FABRICS
from topology.presets.devices import DEVICES

ALIKE = [
    ("EP4_TP2_PP2_DP4", "megatron", 16, {}),  # two lanes in each node
    ("EP1_TP1_PP1_DP16", "megatron", 16, {"microbatches": 2}),
    ("EP8_TP8_PP2_DP4", "megatron", 64, {"microbatches": 2}),  # a lane is a node
    ("EP16_TP16_PP2_DP2", "megatron", 64, {}),  # two nodes
]
TRAINED = [
    {"kind": "forward", "batches": 2},
    {"kind": "training"},
    {"kind": "training", "zero": 1},
    {"kind": "training", "zero": 3},
]


def both(work) -> tuple[Run, Run]:
    """Run a work folded, and all lanes of it."""
    return run_plan(PipelinePlan(work)), run_plan(PipelinePlan(work, folds=False))


@pytest.mark.parametrize("changes", TRAINED, ids=["forward", "training", "zero 1", "zero 3"])
@pytest.mark.parametrize(("strategy", "convention", "num_gpus", "more"), ALIKE, ids=[case[0] for case in ALIKE])
def test_a_folded_run_gives_the_figures_of_all_lanes(strategy, convention, num_gpus, more, changes) -> None:
    """Times and accounts to the nanosecond, tokens to the last, bytes and links but for the order of sums."""
    assert_alike(*both(make_work(strategy, convention, num_gpus=num_gpus, **more, **changes)))


@pytest.mark.parametrize("schedule", ["zb_v", "chimera", "dualpipe", "dualpipe_v"])
def test_pairs_and_copies_fold_alike(schedule) -> None:
    """Replicas of a copy lie on two stages, whose lanes meet at the end."""
    settings = {"kind": "training", "zero": 1, "sequences": 256, "microbatches": 8, "schedule": schedule}
    assert_alike(*both(make_work("EP8_TP1_PP4_DP16", "megatron", num_gpus=64, model=make_model(layers=8), **settings)))


def assert_alike(folded: Run, whole: Run) -> None:
    """Compare a folded run with that of all lanes."""
    trace = folded.trace
    assert trace.num_folded == trace.num_stages * (trace.num_lanes - 1) > 0
    assert whole.trace.num_folded == 0
    assert folded.stats.num_spans * trace.num_lanes == whole.stats.num_spans
    assert trace.step_ns == whole.trace.step_ns
    assert stages_ns(trace) == stages_ns(whole.trace)
    assert path_ns(trace) == path_ns(whole.trace)
    assert (folded.tokens_routed, folded.tokens_computed) == (whole.tokens_routed, whole.tokens_computed)
    assert folded.imbalance_max_over_mean == pytest.approx(whole.imbalance_max_over_mean, rel=1e-12)
    assert folded.bytes_sent == pytest.approx(whole.bytes_sent, rel=1e-12)
    assert folded.bytes_received == pytest.approx(whole.bytes_received, rel=1e-12)
    mine, theirs = trace.link_use, whole.trace.link_use
    np.testing.assert_allclose(mine.num_bytes, theirs.num_bytes, rtol=1e-12)
    np.testing.assert_array_equal(mine.busy_s, theirs.busy_s)
    np.testing.assert_array_equal(mine.time_ns, theirs.time_ns)
    np.testing.assert_allclose(mine.utilisation, theirs.utilisation, atol=1e-12)


@pytest.mark.parametrize("changes", TRAINED, ids=["forward", "training", "zero 1", "zero 3"])
def test_an_unfolded_trace_has_the_rows_of_all_lanes(changes) -> None:
    """Row for row, but for their order and the numbers of groups; what released a row ends when that row's does."""
    folded, whole = both(make_work("EP4_TP2_PP2_DP4", "megatron", **changes))
    ours, theirs = folded.trace.unfolded(), whole.trace
    assert ours.unfolded() is ours
    names = [name for name in COLUMNS if name not in {"released_by", "group"}]
    rows = [sorted(zip(*(trace.columns[name].tolist() for name in names), strict=True)) for trace in (ours, theirs)]
    assert rows[0] == rows[1]
    for trace in (ours, theirs):
        by = trace.columns["released_by"]
        assert (by < np.arange(by.size)).all()
    freed = [np.sort(trace.columns["end_ns"][trace.columns["released_by"]]).tolist() for trace in (ours, theirs)]
    assert freed[0] == freed[1]
    own = np.flatnonzero((ours["kind"] != "dp") & (ours.columns["released_by"] >= 0))  # all but what lanes do together
    by = ours.columns["released_by"][own]
    assert (ours.columns["lane"][by] == ours.columns["lane"][own]).all()


def test_rows_of_a_folded_lane_are_those_of_the_one_that_ran() -> None:
    """Ask for any lane: the row numbers are of the lane that stands for it."""
    trace = run_plan(PipelinePlan(make_work("EP4_TP2_PP2_DP4", "megatron"))).trace
    assert trace.num_of == {0: 2}
    assert trace.rows("compute", stage=1, lane=1).tolist() == trace.rows("compute", stage=1, lane=0).tolist() != []


@pytest.mark.parametrize(
    ("strategy", "convention", "num_gpus", "changes"),
    [
        ("EP4_TP2_PP2_DP4", "megatron", 16, {"routing": "multinomial"}),  # other draws
        ("EP16_TP2_PP4_DP2", "spanning", 16, {}),  # lanes serve each other
        ("EP4_TP2_PP2_DP4", "megatron", 16, {"fidelity": "flow"}),
    ],
    ids=["draws differ", "lanes meet", "flow"],
)
def test_lanes_that_differ_all_run(strategy, convention, num_gpus, changes) -> None:
    """Nothing is folded."""
    assert PipelinePlan(make_work(strategy, convention, num_gpus=num_gpus, **changes)).folding is None


def test_draws_that_happen_to_be_equal_fold() -> None:
    """With one expert every draw is the same: what is compared is the counts, not the name of the routing."""
    work = make_work("EP1_TP1_PP2_DP8", "megatron", model=make_model(experts=1, top_k=1), routing="multinomial")
    folding = PipelinePlan(work).folding
    assert folding is not None
    assert folding.lane_of.tolist() == [0] * 8


@pytest.mark.parametrize("kind", ["forward", "training"])
def test_lanes_fold_class_by_class(kind) -> None:
    """Lanes of 12 GPUs on nodes of 8: every other one begins in the middle of a node."""
    model = replace(make_model(experts=12, hidden=192), heads=12, kv_heads=12, head_dim=16)
    sizes = {"model": model, "sequence_length": 384, "num_gpus": 48, "kind": kind}
    work = make_work("EP12_TP12_PP1_DP4", "megatron", **sizes)
    folding = PipelinePlan(work).folding
    assert folding is not None
    assert folding.lane_of.tolist() == [0, 1, 0, 1]
    assert folding.running == [0, 1]
    folded, whole = both(work)
    assert folded.trace.step_ns == whole.trace.step_ns
    assert stages_ns(folded.trace) == stages_ns(whole.trace)
    assert folded.bytes_sent == pytest.approx(whole.bytes_sent, rel=1e-12)
    np.testing.assert_allclose(folded.trace.link_use.num_bytes, whole.trace.link_use.num_bytes, rtol=1e-12)
    assert folded.trace.unfolded().columns["bytes"].sum() == pytest.approx(whole.trace.columns["bytes"].sum())


@pytest.mark.parametrize("kind", ["forward", "training"])
def test_a_slow_node_keeps_its_lane_apart(kind) -> None:
    """Lanes of a node each, the last with NVLink at a quarter: three run as one, and the stage is the mean of four."""
    cluster = build_cluster(FABRICS["dgx-h100"], 4, DEVICES["h100-sxm"])
    for ends in cluster.graph.edges:
        if "nvswitch3" in ends:
            cluster.graph.edges[ends]["bandwidth_bytes_per_s"] /= 4
    work = replace(make_work("EP8_TP8_PP1_DP4", "megatron", num_gpus=32, kind=kind), cluster=cluster)
    folding = PipelinePlan(work).folding
    assert folding is not None
    assert folding.lane_of.tolist() == [0, 0, 0, 3]
    folded, whole = both(work)
    assert folded.trace.step_ns == whole.trace.step_ns
    assert stages_ns(folded.trace) == stages_ns(whole.trace)
    assert path_ns(folded.trace) == path_ns(whole.trace)


def test_lanes_whose_gradients_take_other_links_all_run() -> None:
    """Three lanes of four GPUs in one stage, two to a node: the ring leaves the node from one of the two alone."""
    model = replace(make_model(experts=0, hidden=2048), head_dim=128)
    sizes = {"num_gpus": 48, "model": model, "zero": 1, "microbatches": 2, "sequences": 6, "sequence_length": 1024}
    forward, training = (make_work("TP4_PP4_DP3", "megatron", kind=kind, **sizes) for kind in ("forward", "training"))
    folding = PipelinePlan(forward).folding
    assert folding is not None
    assert folding.lane_of.tolist() == [0, 0, 0]
    assert PipelinePlan(training).folding is None


TREES = [
    ("EP8_TP8_PP1_DP8", 64, {}),  # one stage sends nothing
    ("TP8_PP1_DP16", 128, {"model": make_model(experts=0)}),
    ("EP8_TP8_PP2_DP8", 128, {"overlap_p2p": False}),  # a stage waits for its sends
    ("TP8_PP2_DP8", 128, {"overlap_p2p": False, "schedule": "gpipe", "model": make_model(experts=0)}),
]


@pytest.mark.parametrize(
    ("strategy", "num_gpus", "changes"), TREES, ids=[f"{case[0]} {len(case[2])}" for case in TREES]
)
def test_replicas_that_reduce_other_bytes_fold_where_these_meet_nothing(strategy, num_gpus, changes) -> None:
    """The roots of NCCL's trees send less than other replicas; each figure is that of all lanes all the same."""
    changes = dict(changes)
    overlaps = changes.pop("overlap_p2p", True)
    work = make_work(strategy, "megatron", num_gpus=num_gpus, kind="training", microbatches=2, **changes)
    work = replace(work, runtime=replace(work.runtime, overlap_p2p=overlaps))
    sent = np.zeros(len(work.cluster.link_names))
    for transfer in PipelinePlan(work).lowering.gradients.transfers(0):
        sent[transfer.load.links] += transfer.load.num_bytes
    of_lanes = [sent[work.cluster.own_links(ranks)].sum() for ranks in PipelinePlan(work).lane_ranks[0]]
    assert max(of_lanes) > 1.001 * min(of_lanes)
    assert_alike(*both(work))


def test_replicas_whose_last_sends_meet_a_reduction_of_other_bytes_all_run_apart() -> None:
    """A send under way shares the NIC with the reduction, and arrives earlier at the root of a tree."""
    work = make_work("EP8_TP8_PP2_DP8", "megatron", num_gpus=128, kind="training", microbatches=2)
    assert work.runtime.overlap_p2p
    folding = PipelinePlan(work).folding
    assert folding is not None
    assert folding.running == [0, 1]


def test_links_to_spines_go_with_their_leaves() -> None:
    """Two units of two nodes, a lane each: what crosses leaves loads the uplinks of its own unit."""
    cluster = build_cluster(replace(FABRICS["dgx-h100"], nodes_per_leaf=2), 4, DEVICES["h100-sxm"])
    work = replace(make_work("EP16_TP16_PP1_DP2", "megatron", num_gpus=32), cluster=cluster)
    assert PipelinePlan(work).folding is not None
    folded, whole = both(work)
    np.testing.assert_allclose(folded.trace.link_use.num_bytes, whole.trace.link_use.num_bytes, rtol=1e-12)


def test_lanes_that_share_a_spine_that_can_be_full_all_run() -> None:
    """A fabric with a quarter of the uplinks: what crosses leaves meets what other lanes send there."""
    work = make_work("EP16_TP16_PP2_DP2", "megatron", num_gpus=64)
    cluster = build_cluster(FABRICS["dgx-h100"], 8, DEVICES["h100-sxm"])
    for _, _, data in cluster.graph.edges(data=True):
        if data["kind"] == "leaf-spine":
            data["bandwidth_bytes_per_s"] /= 4
    assert PipelinePlan(work).folding is not None
    assert PipelinePlan(replace(work, cluster=cluster)).folding is None
