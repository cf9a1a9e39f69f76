"""Clusters with something slower or gone: paths avoid it, its bytes take longer, and two sides are named."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.errors import InvalidValueError
from topology.cluster import Cluster, build_cluster, build_graph_cluster
from topology.degraded import Change, degrade
from topology.fabric import build_graph
from topology.presets.clusters import FABRICS
from topology.presets.devices import DEVICES

H100 = DEVICES["h100-sxm"]
ROUNDING = 1e-12


def degraded(*changes: Change, preset: str = "dgx-h100", num_nodes: int = 2) -> Cluster:
    """Return two nodes of H100 with some changes."""
    return build_cluster(FABRICS[preset], num_nodes, H100, changes)


def link(name: str, factor: float | None = None) -> Change:
    """Return a change of a link; gone unless a factor is given."""
    return Change(part="link", name=name, factor=factor)


def drain_s(cluster: Cluster, src: int, dst: int) -> float:
    """Return the time that 1 GB takes alone."""
    return cluster.load([src], [dst], [1e9]).drain_time_s(cluster.capacity_bytes_per_s)


def test_half_a_link_takes_twice_as_long_one_way():
    """The NIC's way out; the way in is as before."""
    whole, cluster = degraded(), degraded(link("nic0.3->leaf0.3", 0.5))
    assert drain_s(cluster, 3, 11) == pytest.approx(2 * drain_s(whole, 3, 11), rel=ROUNDING)
    assert drain_s(cluster, 11, 3) == drain_s(whole, 11, 3)


def test_half_a_cable_takes_twice_as_long_both_ways():
    """`<->` is both directions; two changes of one link add up."""
    whole, cluster = degraded(), degraded(link("nic0.3<->leaf0.3", 0.5), link("nic0.3->leaf0.3", 0.5))
    assert drain_s(cluster, 3, 11) == pytest.approx(4 * drain_s(whole, 3, 11), rel=ROUNDING)
    assert drain_s(cluster, 11, 3) == pytest.approx(2 * drain_s(whole, 11, 3), rel=ROUNDING)


def test_a_slow_nic_is_slow_in_all_its_links():
    """NIC 3 of node 0, at a fifth."""
    cluster = degraded(Change(part="nic", name="0.3", factor=0.2))
    assert drain_s(cluster, 3, 11) == pytest.approx(5 * drain_s(degraded(), 3, 11), rel=ROUNDING)
    assert drain_s(cluster, 2, 10) == drain_s(degraded(), 2, 10)


@given(seed=st.integers(0, 10**6), factor=st.sampled_from([0.9, 0.5, 0.1]))
def test_a_slower_link_is_the_same_on_the_regular_cluster_and_on_its_graph(seed, factor):
    """Any link, any flows: loads, and the time in which they drain."""
    rng = np.random.default_rng(seed)
    name = str(rng.choice(degraded().link_names))
    regular = degraded(link(name, factor))
    found = build_graph_cluster(regular.graph, H100, name="x")
    flows = (*rng.integers(0, 16, (2, 20)), rng.uniform(1, 1e9, 20))
    wanted, load = (each.load(*flows) for each in (regular, found))
    assert load.links.tolist() == wanted.links.tolist()
    np.testing.assert_allclose(load.num_bytes, wanted.num_bytes, rtol=ROUNDING)
    fills = regular.can_saturate[wanted.links]
    took_s = wanted.num_bytes / regular.capacity_bytes_per_s[wanted.links]
    assert took_s[fills].max(initial=0) >= load.drain_time_s(found.capacity_bytes_per_s) * (1 - 1e-8)


def test_traffic_across_leaves_leaves_out_a_link_that_is_gone():
    """Three spines of four share the bytes of that leaf, upwards."""
    cluster = degraded(link("leaf0.0->spine1"))
    load = cluster.load([0], [9], [1.0])
    up = [cluster.link_names[i] for i in load.links if cluster.link_names[i].startswith("leaf0.0->spine")]
    assert up == ["leaf0.0->spine0", "leaf0.0->spine2", "leaf0.0->spine3"]
    assert load.num_bytes[[cluster.link_names[i] in up for i in load.links]] == pytest.approx([1 / 3] * 3)


def test_where_a_nic_is_gone_its_nodes_other_nics_take_over():
    """GPU 3 sends over the peer on the receiver's rail, and receives over it; other GPUs do not notice."""
    cluster = degraded(Change(part="nic", name="0.3"))
    assert cluster.path(3, 13) == ["gpu3", "nvswitch0", "gpu5", "nic0.5", "leaf0.5", "nic1.5", "gpu13"]
    assert cluster.path(13, 3) == ["gpu13", "nic1.5", "leaf0.5", "nic0.5", "gpu5", "nvswitch0", "gpu3"]
    assert cluster.path(2, 10) == degraded().path(2, 10)
    load = cluster.load(np.repeat(np.arange(16), 16), np.tile(np.arange(16), 16), 1.0)
    assert not any("nic0.3" in cluster.link_names[i] for i in load.links)


def test_a_slow_gpu_is_slow_and_nothing_else_changes():
    """Speeds by rank; paths by class as before."""
    cluster = degraded(Change(part="gpu", name="5", factor=0.8))
    assert cluster.speeds.tolist() == [1.0] * 5 + [0.8] + [1.0] * 10
    assert cluster.paths.path_class(0, 9) == "spine"
    first, other, slow = (np.array(ranks) for ranks in ([0, 1], [2, 3], [4, 5]))
    assert cluster.wiring_of(first) == cluster.wiring_of(other) != cluster.wiring_of(slow)


def test_a_cluster_in_two_is_refused_with_the_two_sides_named():
    """All NICs of the second of three nodes."""
    changes = [Change(part="nic", name=f"1.{i}") for i in range(8)]
    with pytest.raises(InvalidValueError) as refusal:
        degraded(*changes, num_nodes=3)
    assert str(refusal.value) == (
        "cluster 'dgx-h100': cluster.degraded must leave every GPU a way to every other, got GPUs 0 to 7, 16 to 23 "
        "without a way to GPUs 8 to 15. Leave a way between the two sides."
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (link("nic0.3->leaf0.33"), "degraded.0.link must name a link of the cluster, .* mean `nic0.3->leaf0.3`"),
        (link("nic0.3<->leaf0.33"), "mean `nic0.3<->leaf0.3`"),
        (Change(part="nic", name="0.9"), "degraded.0.nic must name a NIC as node.number .* Known are 0.0, 0.1"),
        (Change(part="gpu", name="16", factor=0.5), "degraded.0.gpu must name a GPU by its rank, got 16. .* 0 to 15"),
        (Change(part="gpu", name="5"), "degraded.0.gpu must have a speed: no rank is without GPU"),
    ],
)
def test_what_is_not_there_is_refused_with_the_nearest(change, message):
    """Of two nodes."""
    with pytest.raises(InvalidValueError, match=message):
        degraded(change)


def test_one_node_has_no_nics_to_lose():
    """Said so, instead of a far-fetched name."""
    with pytest.raises(InvalidValueError, match="A single node has no network"):
        degraded(Change(part="nic", name="0.3"), num_nodes=1)


def test_a_part_is_changed_once():
    """Slower and gone at a time, or slower twice, is a slip."""
    changes = [Change(part="nic", name="0.3"), Change(part="nic", name="0.3", factor=0.5)]
    with pytest.raises(
        InvalidValueError, match=r"degraded\.1\.nic must be changed by a single entry, got 0\.3\. degraded\.0 changes"
    ):
        degrade(build_graph(FABRICS["dgx-h100"], 2), changes, name="x")
