"""Cluster presets beside their datasheets, and clusters and links that cannot be."""

import math
from dataclasses import replace

import numpy as np
import pytest

from topology.cluster import build_cluster
from topology.errors import TopologyError
from topology.fabric import build_graph
from topology.links import LinkKind, LinkLoad
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
}
H100 = FABRICS["dgx-h100"]
LINK = LinkKind(name="wire", bandwidth_bytes_per_s=100.0, latency_s=0.5, efficiency=0.5, source="test")


# --- presets -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_preset_has_the_published_counts_and_bandwidths(name):
    fabric = FABRICS[name]
    found = (
        fabric.gpus_per_node,
        fabric.nic.bandwidth_bytes_per_s,
        fabric.nvlink.bandwidth_bytes_per_s,
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


@pytest.mark.parametrize("name", FABRICS)
def test_a_node_is_one_nvlink_domain(name):
    graph = build_graph(FABRICS[name], 1)
    assert graph.in_degree("nvswitch0") == FABRICS[name].gpus_per_node


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
    with pytest.raises(TopologyError) as refusal:
        replace(LINK, **{field: value})
    assert str(refusal.value) == f"link 'wire': {field} must {rule}, got {value}. Give a physical figure."


@pytest.mark.parametrize("num_nodes", [0, -1])
def test_a_cluster_without_nodes_is_refused(num_nodes):
    with pytest.raises(TopologyError, match=rf"cluster 'dgx-h100': num_nodes must be at least 1, got {num_nodes}\."):
        build_cluster(H100, num_nodes, DEVICES["h100-sxm"])


def test_a_cluster_too_large_to_draw_is_refused_before_it_is_wired():
    with pytest.raises(TopologyError, match=r"num_nodes must give at most 65,536 GPUs, got 10000000\."):
        build_cluster(H100, 10_000_000, DEVICES["h100-sxm"])


@pytest.mark.parametrize("field", ["gpus_per_node", "nodes_per_leaf", "spines_per_unit"])
def test_a_fabric_with_a_count_of_zero_is_refused(field):
    with pytest.raises(TopologyError, match=rf"fabric 'dgx-h100': {field} must be at least 1, got 0\. Count from 1\."):
        replace(H100, **{field: 0})


@pytest.mark.parametrize(("name", "near"), [("dgx-h10", "dgx-h100"), ("gb200-nvl", "gb200-nvl72"), ("H800", "h800")])
def test_an_unknown_cluster_names_the_nearest(name, near):
    with pytest.raises(TopologyError) as refusal:
        get_cluster_preset(name)
    assert str(refusal.value).startswith(f"cluster: preset must name a known cluster, got {name!r}. ")
    assert f"Did you mean {near!r}?" in str(refusal.value)
    assert all(known in str(refusal.value) for known in CLUSTERS)
