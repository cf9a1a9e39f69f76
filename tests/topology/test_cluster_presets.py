"""Cluster presets next to their datasheets, and clusters and links that cannot be."""

import math
from dataclasses import replace

import numpy as np
import pytest

from sim.errors import InvalidValueError
from topology.cluster import build_cluster
from topology.fabric import build_graph
from topology.links import LinkKind, LinkLoad
from topology.nodes import NvSwitchNode
from topology.presets.clusters import CLUSTERS, FABRICS, get_cluster_preset
from topology.presets.devices import DEVICES

# GPUs per NVLink domain, NIC and NVLink bytes/s one way, nodes per unit: datasheets and SuperPOD reference designs.
PUBLISHED = {
    "dgx-a100": (8, 25e9, 300e9, 20),
    "dgx-h100": (8, 50e9, 450e9, 32),
    "dgx-h200": (8, 50e9, 450e9, 32),
    "h800": (8, 50e9, 200e9, 32),
    "dgx-b200": (8, 50e9, 900e9, 32),
    "gb200-nvl72": (72, 50e9, 900e9, 8),
    "hgx-h100-roce": (8, 50e9, 450e9, 32),
    "a3-mega": (8, 25e9, 450e9, 32),
    "mi300x": (8, 50e9, 7 * 64e9, 32),
    "pcie-8x-l40s": (8, 25e9, 31.5e9, 32),
    "mi325x": (8, 50e9, 7 * 64e9, 32),
    "mi355x": (8, 50e9, 7 * 76.8e9, 32),
    "dgx-v100": (8, 12.5e9, 150e9, 32),
    "hgx-h20": (8, 50e9, 450e9, 32),
    "hgx-b300": (8, 100e9, 900e9, 32),
    "gb300-nvl72": (72, 100e9, 900e9, 8),
    "vr200-nvl144": (72, 200e9, 1800e9, 8),
    "pcie-8x-a100": (8, 25e9, 31.5e9, 32),
    "pcie-8x-rtx-4090": (8, 12.5e9, 31.5e9, 32),
    "pcie-4x-rtx-4090": (4, 12.5e9, 31.5e9, 32),
    "pcie-8x-rtx-pro-6000": (8, 50e9, 63e9, 32),
}
H100 = FABRICS["dgx-h100"]
LINK = LinkKind(name="wire", bandwidth_bytes_per_s=100.0, latency_s=0.5, efficiency=0.5, source="test")


# --- presets -------------------------------------------------------------------------------------------------------


def test_every_preset_is_beside_its_published_figures():
    assert set(PUBLISHED) == set(FABRICS)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_preset_has_the_published_counts_and_bandwidths(name):
    fabric = FABRICS[name]
    found = (
        fabric.gpus_per_node,
        fabric.nic.bandwidth_bytes_per_s,
        fabric.in_node_bytes_per_s,
        fabric.nodes_per_leaf,
    )
    assert found == PUBLISHED[name]


@pytest.mark.parametrize("name", CLUSTERS)
def test_a_cluster_preset_is_complete(name):
    preset = get_cluster_preset(name)
    fabric = preset.fabric
    assert fabric.name in FABRICS
    assert preset.device in DEVICES
    assert all(link.source for link in (fabric.nvlink, fabric.pcie, fabric.nic, fabric.leaf_hop))


@pytest.mark.parametrize("name", FABRICS)
def test_a_gpus_slot_carries_what_its_nic_carries(name):
    fabric = FABRICS[name]
    assert fabric.pcie.bandwidth_bytes_per_s >= fabric.nic.bandwidth_bytes_per_s * fabric.nic.efficiency


@pytest.mark.parametrize("name", [name for name, spec in FABRICS.items() if isinstance(spec.node, NvSwitchNode)])
def test_a_node_is_one_nvlink_domain(name):
    graph = build_graph(FABRICS[name], 1)
    assert graph.in_degree("nvswitch0") == FABRICS[name].gpus_per_node


def test_every_preset_says_which_technologies_it_has():
    """The words that protocols are distinguished by."""
    found = {name: (fabric.inside, fabric.between) for name, fabric in FABRICS.items()}
    assert found == {
        "dgx-a100": ("nvlink3", "ib-hdr"),
        "dgx-h100": ("nvlink4", "ib-ndr"),
        "hgx-h100-roce": ("nvlink4", "roce"),
        "dgx-h200": ("nvlink4", "ib-ndr"),
        "a3-mega": ("nvlink4", "tcpxo"),
        "h800": ("nvlink4-h800", "ib-ndr"),
        "dgx-b200": ("nvlink5", "ib-ndr"),
        "gb200-nvl72": ("nvlink5-nvl72", "ib-ndr"),
        "mi300x": ("xgmi3", "ib-ndr"),
        "pcie-8x-l40s": ("pcie4", "roce"),
        "mi325x": ("xgmi3", "ib-ndr"),
        "mi355x": ("xgmi4", "ib-ndr"),
        "dgx-v100": ("nvlink2", "ib-edr"),
        "hgx-h20": ("nvlink4", "ib-ndr"),
        "hgx-b300": ("nvlink5", "ib-xdr"),
        "gb300-nvl72": ("nvlink5-nvl72", "ib-xdr"),
        "vr200-nvl144": ("nvlink6", "ib-xdr"),
        "pcie-8x-a100": ("pcie4", "roce"),
        "pcie-8x-rtx-4090": ("pcie4", "roce"),
        "pcie-4x-rtx-4090": ("pcie4", "roce"),
        "pcie-8x-rtx-pro-6000": ("pcie5", "roce"),
    }


def test_gpus_of_an_mi300x_have_a_link_of_their_own_for_each_pair():
    """Each of the seven carries its own bytes at once: 64 GB/s by the datasheet, of which the fit has 0.722."""
    cluster = build_cluster(FABRICS["mi300x"], 1, DEVICES["mi300x"])
    assert cluster.path(0, 7) == ["gpu0", "gpu7"]
    drain_s = cluster.load([0], [7], [0.722 * 64e9]).drain_time_s(cluster.capacity_bytes_per_s)
    assert drain_s == pytest.approx(1.0)
    drain_s = cluster.load([0] * 7, range(1, 8), [0.722 * 64e9] * 7).drain_time_s(cluster.capacity_bytes_per_s)
    assert drain_s == pytest.approx(1.0)


def test_gpus_of_a_pcie_server_share_switches_a_cpu_link_and_nics():
    """GPUs 0 and 1 have one PCIe switch and one NIC; 7 is under the other CPU."""
    cluster = build_cluster(FABRICS["pcie-8x-l40s"], 2, DEVICES["l40s"])
    assert cluster.path(0, 1) == ["gpu0", "pcie0.0", "gpu1"]
    assert cluster.path(0, 7) == ["gpu0", "pcie0.0", "cpu0.0", "cpu0.1", "pcie0.3", "gpu7"]
    assert cluster.path(1, 8) == ["gpu1", "pcie0.0", "nic0.0", "leaf0.0", "nic1.0", "pcie1.0", "gpu8"]
    assert float(cluster.latency_s(1, 8)) == pytest.approx(3.6e-6)
    assert float(cluster.latency_s(1, 10)) == pytest.approx(5.6e-6)
    assert cluster.exit_bytes_per_s == 4 * 25e9 / 8


def test_gpus_of_a_dgx_v100_have_two_nvlinks_one_or_a_way_over_a_third_gpu():
    """The rows of `nvidia-smi topo -m` of a DGX-1: GPU 0 has NV1 to 1 and 2, NV2 to 3 and 4."""
    cluster = build_cluster(FABRICS["dgx-v100"], 2, DEVICES["v100-sxm2-32gb"])
    rates = {}
    for name, kind, rate in zip(cluster.link_names, cluster.link_kinds, cluster.nominal_bytes_per_s, strict=True):
        if kind == "nvlink":
            rates.setdefault(name.partition("->")[0], []).append(float(rate))
    assert sorted(rates["gpu0"]) == [25e9, 25e9, 50e9, 50e9]
    assert {sum(links) for links in rates.values()} == {150e9}
    assert cluster.path(0, 3) == ["gpu0", "gpu3"]
    assert cluster.path(0, 5) in (["gpu0", "gpu1", "gpu5"], ["gpu0", "gpu4", "gpu5"])
    assert cluster.path(1, 9) == ["gpu1", "pcie0.0", "nic0.0", "leaf0.0", "nic1.0", "pcie1.0", "gpu9"]
    assert cluster.nic_ranks(np.arange(16)).tolist() == list(range(16))


def test_two_racks_of_nvl72_are_nodes_of_72():
    """Inside a rack NVLink, between racks the NIC of each GPU."""
    cluster = build_cluster(FABRICS["gb200-nvl72"], 2, DEVICES["gb200"])
    assert (cluster.num_gpus, cluster.gpus_per_node) == (144, 72)
    assert [cluster.paths.path_class(0, dst) for dst in (71, 72, 73)] == ["node", "rail", "spine"]


# --- links ---------------------------------------------------------------------------------------------------------


def test_a_transfer_takes_latency_and_bytes_over_reachable_bandwidth():
    assert LINK.transfer_time_s(200) == 0.5 + 200 / (100 * 0.5)


def test_splitting_a_message_costs_one_extra_latency():
    assert 2 * LINK.transfer_time_s(100) - LINK.transfer_time_s(200) == LINK.latency_s


def test_a_load_drains_when_its_busiest_link_has():
    load = LinkLoad(links=np.array([0, 1]), num_bytes=np.array([30.0, 10.0]))
    assert load.drain_time_s(np.array([10.0, 2.0])) == 5.0


def test_nothing_drains_at_once():
    assert LinkLoad(links=np.array([], dtype=np.intp), num_bytes=np.array([])).drain_time_s(np.array([1.0])) == 0.0


# --- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("bandwidth_bytes_per_s", math.nan, "be finite and above 0"),
        ("bandwidth_bytes_per_s", math.inf, "be finite and above 0"),
        ("bandwidth_bytes_per_s", 0.0, "be finite and above 0"),
        ("latency_s", math.nan, "be finite and not negative"),
        ("latency_s", math.inf, "be finite and not negative"),
        ("latency_s", -1e-9, "be finite and not negative"),
        ("efficiency", math.nan, "lie in (0, 1]"),
        ("efficiency", 0.0, "lie in (0, 1]"),
        ("efficiency", 1.1, "lie in (0, 1]"),
    ],
)
def test_an_unphysical_link_is_refused(field, value, rule):
    with pytest.raises(InvalidValueError) as refusal:
        replace(LINK, **{field: value})
    assert str(refusal.value) == f"link 'wire': {field} must {rule}, got {value}. Give a physical figure."


@pytest.mark.parametrize("num_nodes", [0, -1])
def test_a_cluster_without_nodes_is_refused(num_nodes):
    with pytest.raises(InvalidValueError, match=rf"cluster.num_nodes must be at least 1, got {num_nodes}\."):
        build_cluster(H100, num_nodes, DEVICES["h100-sxm"])


def test_a_cluster_too_large_to_draw_is_refused_before_it_is_wired():
    with pytest.raises(InvalidValueError, match=r"num_nodes must give at most 65,536 GPUs, got 10000000\."):
        build_cluster(H100, 10_000_000, DEVICES["h100-sxm"])


@pytest.mark.parametrize("field", ["gpus_per_node", "nodes_per_leaf", "spines_per_unit"])
def test_a_fabric_with_a_count_of_zero_is_refused(field):
    with pytest.raises(
        InvalidValueError, match=rf"fabric 'dgx-h100': {field} must be at least 1, got 0\. Count from 1\."
    ):
        replace(H100, **{field: 0})


@pytest.mark.parametrize(("name", "near"), [("dgx-h10", "dgx-h100"), ("gb200-nvl", "gb200-nvl72"), ("H800", "h800")])
def test_an_unknown_cluster_names_the_nearest(name, near):
    with pytest.raises(InvalidValueError) as refusal:
        get_cluster_preset(name)
    assert str(refusal.value).startswith(f"cluster.preset must name a known cluster, got {name}. ")
    assert f"Did you mean `{near}`?" in str(refusal.value)
