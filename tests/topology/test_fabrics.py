"""Wirings: what holds for all of them, and for each its paths and bandwidths by hand."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.errors import InvalidValueError
from topology.cluster import Cluster, build_cluster
from topology.fabrics import WIRINGS
from topology.fabrics.clos import FatTree, RailOptimised
from topology.fabrics.dragonfly import Dragonfly
from topology.fabrics.torus import Torus
from topology.presets.clusters import FABRICS
from topology.presets.devices import DEVICES

ROUNDING = 1e-12
NEEDED = {"torus": {"shape": (3, 2)}, "dragonfly": {"switches_per_group": 2}}
"""Options of wirings for six nodes."""
NODES = ["dgx-h100", "mi300x", "pcie-8x-l40s"]
NOT_WIRED = ("rail_only", "pcie-8x-l40s")
"""Refused: two GPUs share a NIC there."""


def wired(preset: str, wiring: object, num_nodes: int) -> Cluster:
    """Return nodes of a preset under a wiring."""
    return build_cluster(replace(FABRICS[preset], wiring=wiring), num_nodes, DEVICES["h100-sxm"])


def links_of(cluster: Cluster, src: int, dst: int) -> dict[str, float]:
    """Return what 1 byte puts on links, by name."""
    load = cluster.load([src], [dst], [1.0])
    return {cluster.link_names[i]: share for i, share in zip(load.links, load.num_bytes.tolist(), strict=True)}


def bandwidth_of(cluster: Cluster, link: str) -> float:
    """Return a link's datasheet bandwidth."""
    return float(cluster.nominal_bytes_per_s[cluster.link_names.index(link)])


# --- all wirings ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "preset"), [(k, p) for k in WIRINGS for p in NODES if (k, p) != NOT_WIRED])
def test_every_link_runs_both_ways_and_every_nic_is_attached_once(kind, preset):
    """Six nodes of each kind, under each wiring."""
    cluster = wired(preset, WIRINGS[kind](**NEEDED.get(kind, {})), 6)
    assert all(cluster.graph.edges[b, a] == data for a, b, data in cluster.graph.edges(data=True))
    nics = [name for name, vertex_kind in cluster.graph.nodes(data="kind") if vertex_kind == "nic"]
    assert len(nics) == 6 * FABRICS[preset].nics_per_node
    outside = [sum("node" not in cluster.graph.nodes[other] for other in cluster.graph.successors(n)) for n in nics]
    assert set(outside) == {1}


@given(
    kind=st.sampled_from(sorted(WIRINGS)),
    preset=st.sampled_from(NODES[:2]),
    src=st.integers(0, 47),
    dst=st.integers(0, 47),
)
def test_bytes_are_conserved_and_a_path_is_as_late_as_its_links(kind, preset, src, dst):
    """What enters a vertex leaves it, on all paths together."""
    cluster = wired(preset, WIRINGS[kind](**NEEDED.get(kind, {})), 6)
    net = Counter()
    for link, share in links_of(cluster, src, dst).items():
        a, b = link.split("->")
        net[a] -= share
        net[b] += share
    expected = Counter() if src == dst else {f"gpu{src}": -1.0, f"gpu{dst}": 1.0}
    assert {v: amount for v, amount in net.items() if abs(amount) > ROUNDING} == pytest.approx(expected)
    path = cluster.path(src, dst)
    assert nx.path_weight(cluster.graph, path, "latency_s") == pytest.approx(float(cluster.latency_s(src, dst)))


@pytest.mark.parametrize("kind", WIRINGS)
def test_inside_a_node_the_wiring_does_not_matter(kind):
    """NVLink as ever."""
    cluster = wired("dgx-h100", WIRINGS[kind](**NEEDED.get(kind, {})), 6)
    assert cluster.path(8, 15) == ["gpu8", "nvswitch1", "gpu15"]


# --- one by one ----------------------------------------------------------------------------------------------------


def test_an_oversubscribed_rail_fabric_has_half_the_uplinks():
    """Two units of 32 nodes: a leaf's 32 NICs over 8 spines, halved; rails themselves are as before."""
    full, half = (wired("dgx-h100", RailOptimised(oversubscription=o), 64) for o in (1, 2))
    assert bandwidth_of(full, "leaf0.0->spine0") == 32 * 50e9 / 8
    assert bandwidth_of(half, "leaf0.0->spine0") == 32 * 50e9 / 8 / 2
    assert bandwidth_of(half, "nic0.0->leaf0.0") == 50e9


def test_traffic_across_leaves_takes_as_much_longer_as_a_fat_tree_is_oversubscribed():
    """Two leaves of two nodes, each GPU to its like under the other leaf: 3 to 1 is three times as slow."""
    times = []
    for oversubscription in (1.0, 3.0):
        cluster = wired("dgx-h100", FatTree(oversubscription=oversubscription, nodes_per_leaf=2), 4)
        load = cluster.load(np.arange(16), np.arange(16) + 16, 1e9)
        times.append(load.drain_time_s(cluster.capacity_bytes_per_s))
    assert times[1] == pytest.approx(3 * times[0], rel=ROUNDING)


def test_under_one_leaf_of_a_fat_tree_all_rails_are_near():
    """GPU 0 to any GPU of the next node; four nodes have the ports that a leaf of 32 nodes has on one rail."""
    cluster = wired("dgx-h100", FatTree(), 8)
    assert cluster.path(0, 9) == ["gpu0", "nic0.0", "leaf0", "nic1.1", "gpu9"]
    assert "spine0" in cluster.path(0, 32)


def test_rail_only_crosses_rails_inside_the_senders_node():
    """NVLink to the peer on the receiver's rail, and its NIC."""
    cluster = wired("dgx-h100", WIRINGS["rail_only"](), 2)
    assert cluster.path(0, 11) == ["gpu0", "nvswitch0", "gpu3", "nic0.3", "leaf0.3", "nic1.3", "gpu11"]
    assert cluster.path(0, 8) == ["gpu0", "nic0.0", "leaf0.0", "nic1.0", "gpu8"]


def test_one_switch_is_one_hop_for_all():
    """Four links between any GPUs of two nodes."""
    cluster = wired("dgx-h100", WIRINGS["switch"](), 3)
    assert cluster.path(0, 23) == ["gpu0", "nic0.0", "switch0", "nic2.7", "gpu23"]


def test_a_dragonfly_goes_over_one_global_cable():
    """Three groups of two switches: local, global, and at most a local hop at either end."""
    cluster = wired("dgx-h100", Dragonfly(switches_per_group=2, global_links_per_switch=1), 6)
    assert cluster.path(0, 8)[1:-1] == ["nic0.0", "switch0.0", "switch0.1", "nic1.0"]
    for dst in range(16, 48):
        switches = [name for name in cluster.path(0, dst) if name.startswith("switch")]
        groups = [name.split(".")[0] for name in switches]
        assert sum(a != b for a, b in pairwise(groups)) == 1
        assert len(switches) <= 4


def test_a_dragonflys_cables_carry_what_its_nics_do():
    """Of every switch all global cables together the NICs' 400 GB/s, a local one twice that over 2 switches."""
    cluster = wired("dgx-h100", Dragonfly(switches_per_group=2, global_links_per_switch=1), 6)
    assert bandwidth_of(cluster, "switch0.0->switch0.1") == 2 * 400e9 / 2
    for switch in (name for name, kind in cluster.graph.nodes(data="kind") if kind == "switch"):
        away = [
            data["bandwidth_bytes_per_s"]
            for _, other, data in cluster.graph.out_edges(switch, data=True)
            if other.startswith("switch") and other.split(".")[0] != switch.split(".")[0]
        ]
        assert sum(away) == 400e9


def test_a_torus_goes_round_the_shorter_way_and_both_where_equal():
    """Four by four: the node opposite is four hops away over all minimal paths, the last of a row one hop."""
    cluster = wired("dgx-h100", Torus(shape=(4, 4)), 16)
    assert cluster.path(0, 3 * 8)[1:-1] == ["nic0.0", "switch0", "switch3", "nic3.0"]
    shares = links_of(cluster, 0, 10 * 8)  # place (2, 2)
    first = {link: share for link, share in shares.items() if link.startswith("switch0->")}
    assert first == {f"switch0->switch{n}": 0.25 for n in (1, 3, 4, 12)}
    assert bandwidth_of(cluster, "switch0->switch1") == 8 * 50e9 / 4


def test_a_torus_in_three_dimensions_has_six_neighbours():
    """Three in each; and in a dimension of two the neighbour has both cables."""
    cube = wired("dgx-h100", Torus(shape=(3, 3, 3), link_bandwidth_bytes_per_s=10e9), 27)
    assert sum(name.startswith("switch") for name in cube.graph.successors("switch13")) == 6
    flat = wired("dgx-h100", Torus(shape=(2, 3), link_bandwidth_bytes_per_s=10e9), 6)
    assert (bandwidth_of(flat, "switch0->switch3"), bandwidth_of(flat, "switch0->switch1")) == (20e9, 10e9)


# --- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wiring", "message"),
    [
        (RailOptimised(oversubscription=0.5), r"fabric.oversubscription must be at least 1, got 0\.5"),
        (FatTree(nodes_per_leaf=0), "fabric.nodes_per_leaf must be at least 1, got 0"),
        (Torus(shape=(2, 2)), r"whose product is cluster.num_nodes = 6, got \[2, 2\]"),
        (Dragonfly(switches_per_group=10**12), "fabric.switches_per_group must be from 1 to 256, got 1000000000000"),
        (Dragonfly(global_links_per_switch=0), "fabric.global_links_per_switch must be from 1 to 256, got 0"),
        (Dragonfly(switches_per_group=1, global_links_per_switch=1), "reach 5 other groups from 1 switches, got 1"),
    ],
)
def test_what_cannot_be_wired_is_refused(wiring, message):
    """Six nodes."""
    with pytest.raises(InvalidValueError, match=message):
        wired("dgx-h100", wiring, 6)


def test_rail_only_needs_a_nic_for_each_gpu():
    """Two GPUs of the PCIe server share one."""
    with pytest.raises(InvalidValueError, match="rail_only only where each GPU has a NIC"):
        wired("pcie-8x-l40s", WIRINGS["rail_only"](), 2)
