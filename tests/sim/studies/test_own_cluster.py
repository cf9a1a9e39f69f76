"""Scenarios whose cluster is a file: the same results as the preset's, and what is refused where."""

from pathlib import Path

import pytest

from sim.build.build import build_scenario_cluster
from sim.errors import InvalidValueError
from sim.run.simulate import simulate_scenario
from sim.scenario.cluster_file import graph_to_yaml
from sim.scenario.load import load_scenario
from topology.fabric import build_graph
from topology.files.graphml import graph_to_graphml
from topology.presets.clusters import FABRICS

SCENARIO = """\
cluster: {CLUSTER}
model: {layers: 2, hidden: 1024, heads: 16, ffn: 4096, vocab: 32000, experts: 8, top_k: 2}
parallel: {strategy: EP8_TP4_PP2, convention: megatron, dp: 2}
workload: {kind: forward, sequences: 8, sequence_length: 512, microbatches: 2}
routing: {kind: balanced}
"""
MATRIX = "      GPU0  GPU1  NIC0\nGPU0   X   NV4  PIX\nGPU1  NV4   X   PIX\nNIC0  PIX  PIX   X\n"
XML = """<system><cpu>
<pci busid="a" class="0x030200" link_speed="16 GT/s" link_width="16"><gpu dev="0" sm="80"/></pci>
<pci busid="b" class="0x020000" link_speed="16 GT/s" link_width="16"><nic><net dev="0" speed="200000"/></nic></pci>
</cpu></system>"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a cluster in each format."""
    graph = build_graph(FABRICS["dgx-h100"], 2)
    (tmp_path / "c.graphml").write_text(graph_to_graphml(graph), encoding="utf-8")
    (tmp_path / "c.yaml").write_text(graph_to_yaml(graph), encoding="utf-8")
    (tmp_path / "c.txt").write_text(MATRIX, encoding="utf-8")
    (tmp_path / "c.xml").write_text(XML, encoding="utf-8")
    (tmp_path / "bad.graphml").write_text("<graphml/>", encoding="utf-8")
    (tmp_path / "bad.yaml").write_text("vertices:\n  - {name: a}\n", encoding="utf-8")
    return tmp_path


def scenario(folder: Path, cluster: str) -> Path:
    """Write a scenario with this cluster; return its path."""
    path = folder / "s.yaml"
    path.write_text(SCENARIO.replace("CLUSTER", cluster), encoding="utf-8")
    return path


@pytest.mark.parametrize("suffix", ["graphml", "yaml"])
def test_the_presets_graph_from_a_file_takes_the_presets_time(folder: Path, suffix: str) -> None:
    """A run on the file's cluster is a run on the preset's, to the nanosecond of rounding."""
    times = []
    for cluster in ("preset: dgx-h100, num_nodes: 2", f"file: c.{suffix}, device: h100-sxm"):
        trace = simulate_scenario(load_scenario(scenario(folder, cluster))).run.trace
        times.append(trace.step_ns)
    assert times[1] == pytest.approx(times[0], rel=1e-6)


def test_files_of_one_node_are_repeated(folder: Path) -> None:
    """`num_nodes` nodes, joined by the NIC's rate of the scenario or of the file."""
    for cluster, num_gpus, rate in (
        ("file: c.txt, num_nodes: 3, nic_bandwidth: 100 Gb/s, device: a100-sxm-80gb", 6, 12.5e9),
        ("file: c.xml, num_nodes: 2, device: a100-sxm-80gb", 2, 25e9),
    ):
        built = build_scenario_cluster(load_scenario(scenario(folder, cluster)))
        assert built.num_gpus == num_gpus
        assert built.graph.edges["nic1.0", "leaf0"]["bandwidth_bytes_per_s"] == rate


@pytest.mark.parametrize(
    ("cluster", "words"),
    [
        ("file: c.yaml", "s.yaml:1: cluster.device must be given with cluster.file"),
        ("file: c.yaml, preset: dgx-h100, device: h100-sxm", "cluster.file must be left out with cluster.preset"),
        ("device: h100-sxm", "cluster.preset must be given, got nothing"),
        ("preset: dgx-h100", "cluster.num_nodes must be given, got nothing"),
        ("file: ../c.yaml, device: h100-sxm", "cluster.file must be in the scenario's folder"),
        ("file: /etc/c.yaml, device: h100-sxm", "cluster.file must be in the scenario's folder"),
        ("file: none.yaml, device: h100-sxm", "s.yaml:1: cluster.file must exist, got none.yaml"),
        ("file: c.yaml, num_nodes: 3, device: h100-sxm", "cluster.num_nodes must be left out or 2"),
        ("file: c.yaml, nic_bandwidth: 1 GB/s, device: h100-sxm", "nic_bandwidth must be left out with a .yaml file"),
        ("file: c.txt, num_nodes: 2, device: h100-sxm", "s.yaml:1: cluster.nic_bandwidth must be given for nic0"),
        ("file: c.txt, device: mi300x", "cluster.device.preset must start with one of"),
        ("file: bad.graphml, device: h100-sxm", "bad.graphml: the GraphML: the text must hold one graph"),
        ("file: bad.yaml, device: h100-sxm", "bad.yaml:2: vertices.0.kind must be given"),
    ],
)
def test_what_cannot_be_is_refused_at_its_place(folder: Path, cluster: str, words: str) -> None:
    """The scenario's line for its keys, the cluster file's name and line for what stands there."""
    with pytest.raises(InvalidValueError) as refused:
        build_scenario_cluster(load_scenario(scenario(folder, cluster)))
    assert words in str(refused.value)


def test_a_link_out_of_the_folder_is_refused(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A symbolic link does not lead out."""
    outside = tmp_path_factory.mktemp("outside") / "c.yaml"
    outside.write_text((folder / "c.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    (folder / "link.yaml").symlink_to(outside)
    with pytest.raises(InvalidValueError, match="be in the scenario's folder"):
        build_scenario_cluster(load_scenario(scenario(folder, "file: link.yaml, device: h100-sxm")))
