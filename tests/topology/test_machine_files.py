"""Real machines' own descriptions: GPUs, NVLinks, NICs, who is near to whom, and the bandwidths are that machine's."""

import networkx as nx
import pytest
from machines import DGX1_V100, HGX_H100, NCCL_H100, NCCL_NDV4, PCIE_L40S

from sim.errors import InvalidValueError
from topology.cluster import build_graph_cluster
from topology.device import Device
from topology.files.nccl_xml import nccl_xml_to_node
from topology.files.one_node import OneNode, repeat_node
from topology.files.topo_matrix import topo_matrix_to_node
from topology.presets.devices import DEVICES

H100: Device = DEVICES["h100-sxm"]


def kinds(graph: "nx.DiGraph[str]") -> dict[str, int]:
    """Return how many vertices there are of each kind."""
    found = [str(data["kind"]) for _, data in graph.nodes(data=True)]
    return {kind: found.count(kind) for kind in dict.fromkeys(found)}


def nearest_nics(graph: "nx.DiGraph[str]", gpu: str) -> list[str]:
    """Return what the machine calls the NICs with the fewest PCIe links to a GPU."""
    pcie = graph.edge_subgraph([(a, b) for a, b, data in graph.edges(data=True) if data["kind"] in {"pcie", "cpu"}])
    far = nx.single_source_shortest_path_length(pcie, gpu)
    nics = {vertex: hops for vertex, hops in far.items() if graph.nodes[vertex]["kind"] == "nic"}
    least = min(nics.values())
    return [str(graph.nodes[nic]["label"]) for nic, hops in nics.items() if hops == least]


def rates(graph: "nx.DiGraph[str]", kind: str) -> set[float]:
    """Return the bandwidths of the links of a kind, in GB/s."""
    return {data["bandwidth_bytes_per_s"] / 1e9 for *_, data in graph.edges(data=True) if data["kind"] == kind}


def test_an_hgx_h100_has_an_nvswitch_and_a_nic_beside_each_gpu() -> None:
    """18 NVLinks of 25 GB/s to the switch; GPU 0 is nearest to NIC 8, GPU 7 to NIC 1; NIC 0 is alone."""
    graph = topo_matrix_to_node(HGX_H100, sm=90).graph
    assert kinds(graph) == {"gpu": 8, "nic": 9, "cpu": 3, "pcie": 8, "nvswitch": 1}
    assert rates(graph, "nvlink") == {450.0}
    assert rates(graph, "pcie") == {63.0}
    assert [nearest_nics(graph, f"gpu{i}") for i in range(8)] == [[f"NIC{i}"] for i in (8, 7, 6, 5, 4, 3, 2, 1)]


def test_a_dgx1_is_a_mesh_of_single_and_double_nvlinks() -> None:
    """Six NVLinks of each V100 go to four others; two GPUs share a PCIe switch with a NIC, two such a CPU."""
    graph = topo_matrix_to_node(DGX1_V100, sm=70).graph
    assert kinds(graph) == {"gpu": 8, "nic": 4, "cpu": 2, "pcie": 4}
    assert rates(graph, "nvlink") == {25.0, 50.0}
    for gpu in (f"gpu{i}" for i in range(8)):
        nvlinks = [d["bandwidth_bytes_per_s"] for *_, d in graph.out_edges(gpu, data=True) if d["kind"] == "nvlink"]
        assert (len(nvlinks), sum(nvlinks)) == (4, 150e9)
    assert graph.edges["gpu0", "gpu4"]["bandwidth_bytes_per_s"] == 50e9
    assert not graph.has_edge("gpu0", "gpu5")
    near = ["mlx5_0"] * 2 + ["mlx5_1"] * 2 + ["mlx5_2"] * 2 + ["mlx5_3"] * 2
    assert [nearest_nics(graph, f"gpu{i}") for i in range(8)] == [[name] for name in near]


def test_a_server_without_nvlink_has_pcie_and_cpus_alone() -> None:
    """Four L40S on two CPUs; both NICs are on the second, on one switch."""
    graph = topo_matrix_to_node(PCIE_L40S, sm=89).graph
    assert kinds(graph) == {"gpu": 4, "nic": 2, "cpu": 2, "pcie": 1}
    assert rates(graph, "nvlink") == set()
    assert nx.shortest_path(graph, "gpu0", "gpu2") == ["gpu0", "cpu0", "cpu1", "gpu2"]
    assert nearest_nics(graph, "gpu2") == ["mlx5_0", "mlx5_1"]
    assert nx.shortest_path_length(graph, "gpu0", "nic0") == nx.shortest_path_length(graph, "gpu2", "nic0") + 1


def test_a_dump_of_an_h100_instance_gives_that_instance() -> None:
    """The dump numbers NICs against GPUs: GPU 0 is next to mlx5_7. Ports have 200 Gb/s, NVLinks 5 + 5 + 4 + 4."""
    node = nccl_xml_to_node(NCCL_H100)
    assert kinds(node.graph) == {"gpu": 8, "nic": 8, "cpu": 2, "pcie": 8, "nvswitch": 1}
    assert rates(node.graph, "nvlink") == {450.0}
    assert {nic.bytes_per_s for nic in node.nics.values()} == {25e9}
    assert [nearest_nics(node.graph, f"gpu{i}") for i in range(8)] == [[f"mlx5_{7 - i}"] for i in range(8)]
    assert rates(node.graph, "pcie") == {63.0, 0.25}  # the virtual bridges claim 2.5 GT/s x1 towards the CPU
    assert rates(node.graph, "cpu") == {22.0}


def test_a_file_that_names_devices_by_class_alone_is_understood() -> None:
    """Azure's file has no GPU and no net elements: eight of each by class, two pairs on a switch, rates not given."""
    node = nccl_xml_to_node(NCCL_NDV4, sm=80)
    assert kinds(node.graph) == {"gpu": 8, "nic": 8, "cpu": 4, "pcie": 4}
    assert {nic.bytes_per_s for nic in node.nics.values()} == {None}
    assert nx.shortest_path_length(node.graph, "gpu0", "nic1") == 2
    with pytest.raises(InvalidValueError, match="nic_bandwidth must be given"):
        repeat_node(node, 2, name="ndv4")
    assert rates(repeat_node(node, 2, name="ndv4", nic_bytes_per_s=25e9), "nic") == {25.0}


@pytest.mark.parametrize(
    ("node", "hops"),
    [
        (topo_matrix_to_node(HGX_H100, sm=90), ["gpu0", "pcie0.0", "nic0.8", "leaf7", "nic1.8", "pcie1.0", "gpu8"]),
        (nccl_xml_to_node(NCCL_H100), ["gpu0", "pcie0.0", "nic0.7", "leaf7", "nic1.7", "pcie1.0", "gpu8"]),
    ],
    ids=["topo -m", "xml"],
)
def test_two_nodes_are_joined_by_rails(node: OneNode, hops: list[str]) -> None:
    """GPU 0 of both nodes meet over the NIC next to them and its leaf; NIC 0 of the matrix serves no GPU."""
    graph = repeat_node(node, 2, name="two", nic_bytes_per_s=50e9)
    cluster = build_graph_cluster(graph, H100, name="two")
    assert (cluster.num_nodes, cluster.num_gpus) == (2, 16)
    assert cluster.path(0, 8) == hops
    assert cluster.path(0, 1) == ["gpu0", "nvswitch0.0", "gpu1"]
    out = sum(d["bandwidth_bytes_per_s"] for *_, d in graph.out_edges("leaf1", data=True) if d["kind"] == "leaf-spine")
    assert out == 100e9


def test_one_node_needs_no_nic_rate() -> None:
    """A single server without NIC rates is a cluster; several are refused."""
    node = topo_matrix_to_node(PCIE_L40S, sm=89)
    assert build_graph_cluster(repeat_node(node, 1, name="one"), H100, name="one").num_gpus == 4
    with pytest.raises(InvalidValueError, match="nic_bandwidth must be given for nic0, nic1"):
        repeat_node(node, 2, name="two")


SMALL = "      GPU0  GPU1\nGPU0   X   NV4\nGPU1  NV4   X\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "have a head with GPU0"),
        (SMALL.replace("GPU1  NV4   X\n", ""), "row GPU1 must be there"),
        (SMALL.replace("GPU0   X   NV4", "GPU0   X"), "row GPU0, column 2 must be X, NV#"),
        (SMALL.replace("GPU1  NV4", "GPU1  PIX"), "say the same in both rows, got NV4 and PIX"),
        (SMALL.replace("NV4", "NV99"), "have at most 12 NVLinks"),
        (SMALL.replace("GPU1", "NIC0"), "be GPUs to have NVLinks"),
        (SMALL.replace("NV4", "FOO"), "got FOO"),
    ],
)
def test_a_matrix_that_cannot_be_is_refused(text: str, words: str) -> None:
    """The row and the column are named."""
    with pytest.raises(InvalidValueError) as refused:
        topo_matrix_to_node(text, sm=80)
    assert words in str(refused.value)


GPU = '<pci busid="b" class="0x030200" link_speed="16 GT/s" link_width="16"><gpu dev="0" sm="80">NVLINK</gpu></pci>'
SYSTEM = f"<system><cpu>{GPU}</cpu></system>"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<system", "be XML"),
        ("<!DOCTYPE system><system/>", "have no document type"),
        ("<graphs/>", "be a `system` element"),
        ("<system/>", "hold a GPU"),
        (f"<system><cpu>{'<pci/>' * 2048}</cpu></system>", "hold at most 2048 devices, got 2049"),
        (f"<system><cpu>{'<pci>' * 99}{'</pci>' * 99}</cpu></system>", "be nested at most 32 deep"),
        (f"<system>{GPU}</system>", "stand in a `cpu` or `pci` element"),
        (SYSTEM.replace("16 GT/s", "7 GT/s"), "be one of 2.5, 5, 8"),
        (SYSTEM.replace('dev="0"', 'dev="x"'), "dev of `gpu`"),
        (SYSTEM.replace("NVLINK", '<nvlink target="b" count="2"/>'), "lead to another GPU"),
        (SYSTEM.replace("NVLINK", '<nvlink target="c" tclass="0x068000"/>'), "count of `nvlink`"),
    ],
)
def test_a_topology_that_cannot_be_is_refused(text: str, words: str) -> None:
    """The element is named."""
    with pytest.raises(InvalidValueError) as refused:
        nccl_xml_to_node(text)
    assert words in str(refused.value)
