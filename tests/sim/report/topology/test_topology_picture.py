"""The picture of a cluster read back: what is drawn, what stands for many, and that nothing leaves the sheet."""

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import networkx as nx
import pytest

from sim.report.canvas import text_width_px
from sim.report.topology.groups import choose_shown
from sim.report.topology.layout import lay_out
from sim.report.topology.links import link_looks, use_colour
from sim.report.topology.picture import draw_topology
from topology.fabric import build_graph
from topology.files.one_node import repeat_node
from topology.files.topo_matrix import topo_matrix_to_node
from topology.link_groups import link_groups
from topology.presets.clusters import FABRICS

MATRIX = """
      GPU0  GPU1  GPU2  GPU3  NIC0  NIC1
GPU0   X    NV4   NODE  SYS   PIX   SYS
GPU1  NV4    X    SYS   SYS   PIX   SYS
GPU2  NODE  SYS    X    PXB   SYS   SYS
GPU3  SYS   SYS   PXB    X    SYS   SYS
NIC0  PIX   PIX   SYS   SYS    X    SYS
NIC1  SYS   SYS   SYS   SYS   SYS    X
"""
SVG = "{http://www.w3.org/2000/svg}"
SIZES = [("dgx-h100", 1), ("dgx-h100", 8), ("dgx-h100", 128), ("dgx-h100", 300), ("gb200-nvl72", 1), ("gb200-nvl72", 9)]


def torus() -> "nx.DiGraph[str]":
    """Return 3 x 3 switches in a torus, each with two GPUs that are joined directly."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    figures = {"efficiency": 0.9, "latency_s": 1e-6}

    def join(a: str, b: str, kind: str, bandwidth: float) -> None:
        for start, end in ((a, b), (b, a)):
            graph.add_edge(start, end, kind=kind, bandwidth_bytes_per_s=bandwidth, **figures)

    for n in range(9):
        graph.add_node(f"switch{n}", kind="switch")
        for rail in (0, 1):
            graph.add_node(f"gpu{2 * n + rail}", kind="gpu", rank=2 * n + rail, node=n, rail=rail)
            join(f"gpu{2 * n + rail}", f"switch{n}", "nic", 25e9)
        join(f"gpu{2 * n}", f"gpu{2 * n + 1}", "nvlink", 100e9)
    for n in range(9):
        join(f"switch{n}", f"switch{n // 3 * 3 + (n + 1) % 3}", "torus-x", 50e9)
        join(f"switch{n}", f"switch{(n + 3) % 9}", "torus-y", 50e9)
    return graph


def degraded() -> "nx.DiGraph[str]":
    """Return 40 nodes of which one has lost a NIC and one has a slow one."""
    graph = build_graph(FABRICS["dgx-h100"], 40)
    graph.remove_node("nic3.5")
    graph.edges["nic33.2", "leaf1.2"]["bandwidth_bytes_per_s"] = 25e9
    return graph


def clusters() -> Iterator[object]:
    """Yield graphs of many shapes as parameters."""
    for name, num_nodes in SIZES:
        yield pytest.param(build_graph(FABRICS[name], num_nodes), id=f"{name}-{num_nodes}")
    yield pytest.param(torus(), id="torus")
    yield pytest.param(degraded(), id="degraded")
    node = topo_matrix_to_node(MATRIX, sm=80)
    yield pytest.param(repeat_node(node, 3, name="own", nic_bytes_per_s=50e9), id="cpu-and-pcie")


def drawn(path: Path) -> dict[str, int]:
    """Return group -> how many shapes it draws, definitions left out."""
    counts: dict[str, int] = {}
    for group in ET.parse(path).getroot().iter(f"{SVG}g"):
        name = group.get("id", "")
        if name.startswith("moesim"):
            shapes = [item for tag in ("path", "use") for item in group.iter(f"{SVG}{tag}")]
            defined = {id(item) for defs in group.iter(f"{SVG}defs") for item in defs.iter()}
            counts[name] = counts.get(name, 0) + sum(id(item) not in defined for item in shapes)
    return counts


def test_each_cable_of_a_small_cluster_is_one_line(tmp_path: Path) -> None:
    """Two nodes of eight: a line for every two links, a box for every vertex."""
    draw_topology(build_graph(FABRICS["dgx-h100"], 2), tmp_path / "t.svg", title="t")
    counts = drawn(tmp_path / "t.svg")
    lines = {kind: counts[f"moesim-links:{kind}"] for kind in ("nvlink", "pcie", "nic", "leaf-spine")}
    assert lines == {"nvlink": 16, "pcie": 16, "nic": 16, "leaf-spine": 32}
    assert counts["moesim-vertices:gpu"] == 16


@pytest.mark.parametrize("graph", list(clusters()))
def test_boxes_are_apart_and_on_the_sheet(graph: "nx.DiGraph[str]") -> None:
    """No two boxes touch, no frame leaves the sheet, and every box of a node is in a frame."""
    sketch = lay_out(graph, choose_shown(graph), top_px=76)
    boxes = list(sketch.boxes.values())
    for i, box in enumerate(boxes):
        for other in boxes[:i]:
            apart = box.left_px >= other.left_px + other.width_px or other.left_px >= box.left_px + box.width_px
            above = box.top_px >= other.top_px + other.height_px or other.top_px >= box.top_px + box.height_px
            assert apart or above, (box, other)
    for box in boxes:
        around = [
            f for f in sketch.frames if f.left_px <= box.left_px <= f.left_px + f.width_px and f.top_px < box.top_px
        ]
        for frame in around if box.row.startswith("node") else ():
            assert box.left_px + box.width_px <= frame.left_px + frame.width_px
            assert box.top_px + box.height_px <= frame.top_px + frame.height_px
        assert around or not box.row.startswith("node")
    for frame in sketch.frames:
        assert frame.left_px >= 0
        assert frame.left_px + frame.width_px <= sketch.width_px
    for frame, after in zip(sketch.frames, sketch.frames[1:], strict=False):
        assert frame.left_px + frame.width_px <= after.left_px
    for note in sketch.notes:
        assert note.x_px + text_width_px(note.text, 9.0) <= sketch.width_px


@pytest.mark.parametrize("graph", list(clusters()))
def test_shown_and_hidden_nodes_are_all_nodes(graph: "nx.DiGraph[str]") -> None:
    """What a picture leaves out it counts."""
    shown = choose_shown(graph)
    here = [node for unit in shown.units for node in unit.nodes]
    hidden = sum(unit.num_hidden for unit in shown.units) + shown.num_hidden_nodes
    assert len(set(here)) == len(here)
    assert len(here) + hidden == len(shown.members)


def test_a_node_that_is_unlike_the_others_is_shown() -> None:
    """Of 20 nodes on the same leaves the one with a slow NIC has a place, and the rest are called alike."""
    graph = build_graph(FABRICS["dgx-h100"], 20)
    graph.edges["nic13.2", "leaf0.2"]["bandwidth_bytes_per_s"] = 25e9
    unit = choose_shown(graph).units[0]
    assert 13 in unit.nodes
    assert unit.are_alike


def test_a_node_that_lost_a_nic_stays_in_its_unit() -> None:
    """It hangs on all of its unit's leaves but one, and all eight nodes are shown."""
    graph = build_graph(FABRICS["dgx-h100"], 8)
    graph.remove_node("nic3.5")
    units = choose_shown(graph).units
    assert [unit.nodes for unit in units] == [tuple(range(8))]


def test_a_slower_link_is_dashed_and_has_its_own_line_in_the_legend() -> None:
    """The legend tells a degraded link from its kind."""
    graph = build_graph(FABRICS["dgx-h100"], 2)
    graph.edges["nic1.2", "leaf0.2"]["bandwidth_bytes_per_s"] = 25e9
    looks = link_looks(link_groups(graph))
    assert looks["nic", 25e9].dashed
    assert not looks["nic", 50e9].dashed
    assert looks["nic", 25e9].label.startswith("nic: 1 link of 25 GB/s")


def test_load_shows_the_hottest_nodes_and_colours_their_links(tmp_path: Path) -> None:
    """The busiest NIC's node is shown, and its line has the colour of its use."""
    graph = build_graph(FABRICS["dgx-h100"], 20)
    use = dict.fromkeys(graph.edges, 0.1) | {("nic17.0", "leaf0.0"): 1.0}
    assert 17 in choose_shown(graph, use).units[0].nodes
    draw_topology(graph, tmp_path / "t.svg", title="t", use=use)
    assert use_colour(1.0, 1.0) in (tmp_path / "t.svg").read_text(encoding="utf-8")


def test_the_same_cluster_gives_the_same_bytes(tmp_path: Path) -> None:
    """A picture has no date and no random name in it."""
    for name in ("a.svg", "b.svg"):
        draw_topology(torus(), tmp_path / name, title="t")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_every_format_is_written(tmp_path: Path, suffix: str) -> None:
    """The suffix is the format."""
    path = tmp_path / f"t{suffix}"
    draw_topology(torus(), path, title="t $x_1$")
    assert path.stat().st_size > 1000
