"""Clusters in YAML: what `for` gives, what is read back equal, and the line of what is refused."""

import networkx as nx
import pytest

from sim.errors import InvalidValueError
from sim.scenario.cluster_file import graph_to_yaml, yaml_to_graph
from topology.check_graph import check_graph
from topology.fabric import build_graph
from topology.presets.clusters import FABRICS

LAB = """\
name: lab
kinds:
  nvlink: {bandwidth: 450 GB/s, latency: 1.7 us, efficiency: 82 %, source: datasheet}
  nic: {bandwidth: 400 Gb/s, latency: 0.7 us}
vertices:
  - {name: "gpu{node}.{i}", kind: gpu, node: "{node}", for: {node: 2, i: 4}}
  - {name: "nvswitch{node}", kind: nvswitch, node: "{node}", for: {node: 2}}
  - {name: switch, kind: switch}
links:
  - {from: "gpu{node}.{i}", to: "nvswitch{node}", kind: nvlink, for: {node: 2, i: 4}}
  - {from: "gpu{node}.{i}", to: switch, kind: nic, for: {node: 2, i: [0, 2]}}
  - {from: nvswitch0, to: nvswitch1, kind: bridge, bandwidth: 10 GB/s, latency: 0 s, both_ways: false}
"""


def test_one_entry_makes_many_vertices_and_links() -> None:
    """Two nodes of four GPUs, of which every second has a NIC, and a bridge one way."""
    graph = yaml_to_graph(LAB)
    check_graph(graph, "lab")
    ranks = {name: (data["rank"], data["rail"]) for name, data in graph.nodes(data=True) if data["kind"] == "gpu"}
    assert ranks["gpu0.0"] == (0, 0)
    assert ranks["gpu1.3"] == (7, 3)
    assert sorted(graph.successors("switch")) == ["gpu0.0", "gpu0.2", "gpu1.0", "gpu1.2"]
    assert graph.edges["gpu0.0", "nvswitch0"] == {
        "kind": "nvlink",
        "bandwidth_bytes_per_s": 450e9,
        "efficiency": 0.82,
        "latency_s": 1.7e-6,
    }
    assert graph.has_edge("nvswitch0", "nvswitch1")
    assert not graph.has_edge("nvswitch1", "nvswitch0")
    assert graph.graph == {"name": "lab", "source.nvlink": "datasheet"}


@pytest.mark.parametrize(
    "graph",
    [yaml_to_graph(LAB), *(build_graph(spec, 3) for spec in FABRICS.values()), build_graph(FABRICS["dgx-h100"], 8)],
)
def test_what_is_written_is_read_back_equal(graph: "nx.DiGraph[str]") -> None:
    """Graph -> YAML -> graph is equal, and YAML -> graph -> YAML is the same text."""
    text = graph_to_yaml(graph)
    again = yaml_to_graph(text)
    assert nx.utils.graphs_equal(again, graph)
    kinds = {data["kind"] for *_, data in graph.edges(data=True)}
    written = {
        key: value
        for key, value in graph.graph.items()
        if key.removeprefix("source.") in kinds | {"name", "inside", "between"}
    }
    assert again.graph == written
    assert graph_to_yaml(again) == graph_to_yaml(yaml_to_graph(graph_to_yaml(again)))


def test_figures_that_no_handy_unit_holds_are_the_same_floats_again() -> None:
    """A third of a bandwidth and an odd latency survive."""
    graph = yaml_to_graph(LAB)
    figures = {"bandwidth_bytes_per_s": 1e11 / 3, "latency_s": 1e-6 / 7, "efficiency": 1 / 3}
    graph.edges["nvswitch0", "nvswitch1"].update(figures)
    assert nx.utils.graphs_equal(yaml_to_graph(graph_to_yaml(graph)), graph)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("latency: 0.7 us", "delay: 0.7 us", "lab.yaml:4: kinds.nic.delay must be a known key, got delay."),
        ("450 GB/s", "450", "lab.yaml:3: kinds.nvlink.bandwidth must have a unit, got 450."),
        ("450 GB/s", "3 us", "lab.yaml:3: kinds.nvlink.bandwidth must be a bandwidth, got 3 us."),
        ("to: switch,", "to: core,", "lab.yaml:11: links.1.to must be a vertex, got core."),
        ("kind: nic,", "kind: roce,", "lab.yaml:11: links.1.bandwidth must be given, got nothing."),
        ('"gpu{node}.{i}", kind', '"gpu{i}", kind', "lab.yaml:6: vertices.0.name must be given once, got gpu0."),
        ('name: "gpu{node}.{i}"', 'name: "gpu{n}.{i}"', "lab.yaml:6: vertices.0.name must name what `for` gives"),
        (', node: "{node}", for: {node: 2, i: 4}', ", for: {node: 2, i: 4}", "vertices.0.node must be given for a GPU"),
        ("for: {node: 2}", "for: {node: 0}", "lab.yaml:7: vertices.1.for.node must be a count from 1"),
        (
            'i: 4}}\n  - {name: "nv',
            'i: 1000000}}\n  - {name: "nv',
            "give at most 1,000,000 vertices and",
        ),
        ("from: nvswitch0, to: nvswitch1", "from: nvswitch0, to: nvswitch0", "links.2 must join two vertices"),
        ("from: nvswitch0, to: nvswitch1", "form: nvswitch0, to: nvswitch1", "links.2.form must be a known key"),
        ("links:", "cables:", "lab.yaml:9: cables must be a known key, got cables."),
        ("vertices:", "nodes:", "lab.yaml:5: nodes must be a known key"),
        ('node: "{node}", for: {node: 2}', 'node: "x{node}", for: {node: 2}', "be an integer of at least 0, got x0"),
    ],
)
def test_what_is_wrong_is_refused_with_its_line(old: str, new: str, words: str) -> None:
    """File, line, key, rule and value stand in the message."""
    assert old in LAB
    with pytest.raises(InvalidValueError) as refused:
        yaml_to_graph(LAB.replace(old, new), file="lab.yaml")
    assert words in str(refused.value)
