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
        ("file: c.txt, device: mi300x", "cluster.device.preset must be one of NVIDIA"),
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


COLLECTIVE = """\
cluster: {CLUSTER}
workload: {kind: collective, op: all_reduce, num_ranks: 4, bytes: 64 MiB}
"""
PAIRS = """\
      GPU0 GPU1 GPU2 GPU3 NIC0 NIC1 NIC2 CPU Affinity NUMA Affinity
GPU0   X   NV4  SYS  SYS  PIX  SYS  SYS  0-31 0
GPU1  NV4   X   SYS  SYS  SYS  SYS  SYS  0-31 0
GPU2  SYS  SYS   X   NV4  SYS  PIX  SYS  0-31 1
GPU3  SYS  SYS  NV4   X   SYS  SYS  SYS  0-31 1
NIC0  PIX  SYS  SYS  SYS   X   SYS  SYS
NIC1  SYS  SYS  PIX  SYS  SYS   X   SYS
NIC2  SYS  SYS  SYS  SYS  SYS  SYS   X

NIC Legend:
  NIC0: mlx5_0
  NIC1: mlx5_1
  NIC2: mlx5_2
"""


def collective(tmp_path: Path, cluster: str, text: str = PAIRS) -> Path:
    """Write a scenario of an all-reduce over a machine's file; return its path."""
    (tmp_path / "topo.txt").write_text(text, encoding="utf-8")
    path = tmp_path / "s.yaml"
    path.write_text(COLLECTIVE.replace("CLUSTER", f"file: topo.txt, {cluster}"), encoding="utf-8")
    return path


def test_warnings_of_a_file_are_those_of_the_run(tmp_path: Path) -> None:
    """A device of another generation and a NIC without traffic: in the result, and from Python."""
    path = collective(tmp_path, "num_nodes: 2, nic_bandwidth: 100 Gb/s, device: h100-sxm")
    warnings = simulate_scenario(load_scenario(path)).warnings
    assert len(warnings) == 2
    assert "have 4 NVLinks each and h100-sxm has 18" in warnings[0]
    assert "nic2 (mlx5_2) carries no compute traffic" in warnings[1]
    assert build_scenario_cluster(load_scenario(path)).warnings == tuple(warnings)


def test_named_nics_carry_the_traffic(tmp_path: Path) -> None:
    """`cluster.nics` as a scenario gives it; a name that is none is refused at its line."""
    cluster = "num_nodes: 2, nic_bandwidth: 100 Gb/s, device: h100-sxm, nics: [NICS]"
    built = build_scenario_cluster(load_scenario(collective(tmp_path, cluster.replace("NICS", "mlx5_2, mlx5_0"))))
    assert [name for name in built.graph if name.startswith("leaf")] == ["leaf0", "leaf1"]
    assert built.graph.has_edge("nic0.2", "leaf1")
    assert built.warnings[1:] == ("The file does not tell the NUMA node of nic2 (mlx5_2): taken to be that of GPU0.",)
    with pytest.raises(InvalidValueError, match=r"s.yaml:1: cluster.nics.0 must name a NIC of the file, got mlx5_7"):
        build_scenario_cluster(load_scenario(collective(tmp_path, cluster.replace("NICS", "mlx5_7"))))


def test_nvls_is_refused_and_not_picked_without_an_nvswitch(tmp_path: Path) -> None:
    """Bridged pairs: the automatic choice is a ring or a tree, and naming NVLS is refused with what to write."""
    path = collective(tmp_path, "num_nodes: 2, nic_bandwidth: 100 Gb/s, device: h100-sxm")
    choice = simulate_scenario(load_scenario(path)).choices[0]
    assert choice.algorithm in {"ring", "tree"}
    with pytest.raises(InvalidValueError, match=r"network.all_reduce must be an algorithm that topo can run, got nvls"):
        simulate_scenario(load_scenario(path, overrides=["network.all_reduce=nvls"]))


@pytest.mark.parametrize(
    ("cluster", "words"),
    [
        ("preset: dgx-h100, num_nodes: 2, nics: [mlx5_0]", "cluster.nics must be left out with cluster.preset"),
        ("file: c.yaml, device: h100-sxm, nics: [nic0]", "cluster.nics must be left out with a .yaml file"),
        ("file: c.graphml, device: h100-sxm, gpus_per_node_used: 4", "must be left out with a .graphml file"),
        (
            "preset: dgx-h100, num_nodes: 2, gpus_per_node_used: 9",
            "must be from 1 to 8, the GPUs of a node of dgx-h100",
        ),
        (
            "file: c.txt, device: a100-sxm-80gb, gpus_per_node_used: 3",
            "s.yaml:1: cluster.gpus_per_node_used must be from",
        ),
    ],
)
def test_keys_of_nodes_are_refused_where_they_mean_nothing(folder: Path, cluster: str, words: str) -> None:
    """NICs of a preset or of a whole cluster, and more GPUs than a node has."""
    with pytest.raises(InvalidValueError) as refused:
        build_scenario_cluster(load_scenario(scenario(folder, cluster)))
    assert words in str(refused.value)


def test_a_part_of_a_rack_is_used(folder: Path) -> None:
    """64 of the 72 GPUs of each of two racks."""
    cluster = "preset: gb200-nvl72, num_nodes: 2, gpus_per_node_used: 64"
    built = build_scenario_cluster(load_scenario(scenario(folder, cluster)))
    assert (built.num_gpus, built.gpus_per_node, built.node_of([63, 64]).tolist()) == (128, 64, [0, 1])
