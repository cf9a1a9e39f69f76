"""Collectives on every preset and wiring, on odd groups and broken clusters: they run, within what wires can carry."""

import pytest

from sim.errors import InvalidValueError, SimulationError
from sim.run.resources import Limits
from sim.scenario.load import load_scenario_text
from sim.studies.claims import simulate
from topology.cluster import build_cluster
from topology.files.graphml import graph_to_graphml
from topology.presets.clusters import CLUSTERS, FABRICS
from topology.presets.devices import DEVICES

OPERATIONS = ("all_reduce", "all_gather", "reduce_scatter", "broadcast", "all_to_all", "send", "dispatch", "combine")
SIZED = OPERATIONS[:6]
RINGS = ("network.all_reduce=ring", "network.all_reduce=hierarchical")
WAYS = ("network.all_to_all=hierarchical", "network.all_to_all=low_latency")
ALGORITHMS = {
    "all_reduce": ("network.all_reduce=tree", "network.all_reduce=nvls", *RINGS),
    **dict.fromkeys(("all_gather", "reduce_scatter"), RINGS),
    "broadcast": ("network.all_reduce=ring",),
    **dict.fromkeys(("all_to_all", "dispatch", "combine"), WAYS),
}
"""What each operation can do."""
WIRINGS = [
    "{kind: torus, shape: [2, 2, 1]}",
    "{kind: dragonfly}",
    "{kind: fat_tree, oversubscription: 2}",
    "{kind: rail_only}",
    "{kind: switch}",
]
BROKEN = [
    '{nic: "0.3", gone: true}',
    '{link: "nic0.3->leaf0.3", bandwidth: 50 %}',
    '{link: "gpu0<->nvswitch0", gone: true}',
    "{gpu: 3, speed: 50 %}",
]


def text_of(operation, *, preset="dgx-h100", num_nodes=2, ranks=16, more="", cluster=""):
    """Return a scenario of a collective over some ranks: how many, or which."""
    members = ranks if isinstance(ranks, int) else f"{len(ranks)}, ranks: {list(ranks)}"
    size = "bytes: 4 MiB" if operation in SIZED else "tokens: 128"
    count = ranks if isinstance(ranks, int) else len(ranks)
    model = "" if operation in SIZED else f"model: {{hidden: 1024, top_k: 4, experts: {16 * count}}}\n"
    return (
        f"name: one\ncluster: {cluster or f'{{preset: {preset}, num_nodes: {num_nodes}{more}}}'}\n"
        f"workload: {{kind: collective, op: {operation}, num_ranks: {members}, {size}}}\n{model}"
    )


def run(text, *changes):
    """Return what a scenario gives, after what holds of any."""
    result = simulate(load_scenario_text(text, overrides=list(changes)))
    metrics = result.metrics
    assert metrics["collective_time_s"] > 0
    assert 0 < metrics["busbw_bytes_per_s"] <= metrics["algbw_bytes_per_s"] * 2
    assert result.trace.link_use.utilisation.max() <= 1 + 1e-9
    assert len(result.to_dict()["collectives"]) == 1
    assert sum(result.path_ns.values()) == pytest.approx(metrics["collective_time_s"] * 1e9)
    return metrics


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("preset", CLUSTERS)
def test_every_operation_runs_on_two_nodes_of_every_preset(preset, operation):
    """As many ranks as GPUs."""
    run(text_of(operation, preset=preset, ranks=2 * FABRICS[preset].gpus_per_node))


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("wiring", WIRINGS)
def test_every_operation_runs_on_every_wiring(wiring, operation):
    """Four nodes of H100."""
    run(text_of(operation, num_nodes=4, ranks=32, more=f", fabric: {wiring}"))


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("part", BROKEN)
def test_a_broken_part_makes_nothing_faster(part, operation):
    """Two nodes with something slower or gone, next to two whole ones."""
    whole, broken = (run(text_of(operation, more=more)) for more in ("", f", degraded: [{part}]"))
    assert broken["collective_time_s"] >= whole["collective_time_s"] * (1 - 1e-9)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("ranks", [2, 3, 9, 12, (9, 1, 0), (0, 8), (15, 0)])
def test_groups_need_not_fill_nodes(ranks, operation):
    """Few ranks, unequal nodes, any order; by every algorithm that there is."""
    for change in ([], *([change] for change in ALGORITHMS.get(operation, ()))):
        run(text_of(operation, ranks=ranks), *change)


@pytest.mark.parametrize("operation", SIZED)
def test_a_cluster_from_a_file_costs_what_its_preset_does(tmp_path, monkeypatch, operation):
    """GraphML keeps the technologies, by which protocols are chosen."""
    monkeypatch.chdir(tmp_path)
    cluster = build_cluster(FABRICS["dgx-h100"], 2, DEVICES["h100-sxm"])
    (tmp_path / "fabric.graphml").write_text(graph_to_graphml(cluster.graph), encoding="utf-8")
    text = text_of(operation, cluster="{file: fabric.graphml, device: h100-sxm}")
    assert run(text) == run(text_of(operation))


def test_who_chooses_more_nodes_than_there_are_chooses_from_all():
    """A limit of 4 nodes on 2."""
    text = text_of("dispatch")
    wide = run(text, "network.all_to_all=hierarchical", "routing.max_nodes_per_token=4")
    assert wide == run(text, "network.all_to_all=hierarchical")


def test_a_lone_node_in_front_of_others_does_not_matter(tmp_path, monkeypatch):
    """One GPU alone, then a node of three: collectives inside that node run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lab.yaml").write_text(
        """\
name: lab
inside: nvlink4
between: ib-ndr
kinds: {nvlink: {bandwidth: 450 GB/s, latency: 1.7 us}, nic: {bandwidth: 400 Gb/s, latency: 0.7 us}}
vertices:
  - {name: lone, kind: gpu, node: "0", rank: 0}
  - {name: "gpu{i}", kind: gpu, node: "1", rank: "{i}", for: {i: [1, 2, 3]}}
  - {name: nvswitch, kind: nvswitch, node: "1"}
  - {name: "nic{node}", kind: nic, node: "{node}", rail: "0", for: {node: 2}}
  - {name: core, kind: switch}
links:
  - {from: "gpu{i}", to: nvswitch, kind: nvlink, for: {i: [1, 2, 3]}}
  - {from: "gpu{i}", to: nic1, kind: pcie, bandwidth: 63 GB/s, latency: 0.7 us, for: {i: [1, 2, 3]}}
  - {from: lone, to: nic0, kind: pcie, bandwidth: 63 GB/s, latency: 0.7 us}
  - {from: "nic{node}", to: core, kind: nic, for: {node: 2}}
""",
        encoding="utf-8",
    )
    for operation in OPERATIONS:
        for ranks in (4, (1, 2, 3)):
            run(text_of(operation, ranks=ranks, cluster="{file: lab.yaml, device: h100-sxm}"))


@pytest.mark.parametrize(
    ("operation", "change", "message"),
    [
        ("all_reduce", "network.all_to_all=hierarchical", "network.all_to_all must be left out of op all_reduce"),
        ("send", "network.num_sms=8", "network.num_sms must be left out of op send, got 8"),
        (
            "all_gather",
            "network.all_reduce=tree",
            "network.all_reduce must be one of auto, ring, hierarchical with op all_gather, got tree",
        ),
        ("dispatch", "network.all_reduce=ring", "network.all_reduce must be auto with op dispatch, got ring"),
        ("dispatch", "network.num_sms=132", "network.num_sms must be below the 132 SMs of h100-sxm, got 132"),
    ],
)
def test_what_would_mean_nothing_is_refused(operation, change, message):
    """Nothing is silently ignored."""
    with pytest.raises(InvalidValueError, match=message):
        run(text_of(operation), change)


@pytest.mark.parametrize("preset", ["dgx-a100", "mi300x", "pcie-8x-l40s"])
def test_switches_that_do_not_reduce_run_no_nvls(preset):
    """It would be a ring."""
    with pytest.raises(
        InvalidValueError, match=f"network.all_reduce must be an algorithm that {preset} can run, got nvls"
    ):
        run(text_of("all_reduce", preset=preset), "network.all_reduce=nvls")


def test_a_collective_is_held_to_limits_before_it_is_priced():
    """16 ranks with 256 experts: 256 pairs and 20,480 choices, which count as 20 events, and the transfer's own."""
    scenario = load_scenario_text(text_of("dispatch"))
    with pytest.raises(SimulationError, match=r"at most 10 events, got at least 24 \(1 operations\)"):
        simulate(scenario, limits=Limits(max_events=10))
