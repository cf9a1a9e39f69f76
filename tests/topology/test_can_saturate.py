"""Which links can be full at all: leaving the others out changes no time."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topology.cluster import build_cluster
from topology.presets.clusters import FABRICS
from topology.presets.devices import DEVICES

CLUSTERS = [("dgx-h100", 1), ("dgx-h100", 3), ("dgx-h100", 40), ("gb200-nvl72", 2), ("dgx-a100", 4)]


def make_cluster(preset, num_nodes, **changes):
    """Build a cluster whose fabric has some other links."""
    return build_cluster(replace(FABRICS[preset], **changes), num_nodes, DEVICES["h100-sxm"])


def kinds_that_fill(cluster):
    """Return how many links of each kind can be full."""
    return Counter(np.array(cluster.link_kinds)[cluster.can_saturate].tolist())


def test_of_two_nodes_the_links_of_gpus_and_nics_can_be_full():
    """16 GPUs, two directions; PCIe is wider than the NIC and the spines carry what the NICs do."""
    cluster = make_cluster("dgx-h100", 2)
    assert kinds_that_fill(cluster) == {"nvlink": 32, cluster.links.spec.nic.name: 32}


def test_a_narrow_pcie_link_keeps_its_nic_from_being_full():
    """At half the NIC's bandwidth it is the one that can be."""
    nic, pcie = FABRICS["dgx-h100"].nic, FABRICS["dgx-h100"].pcie
    narrow = replace(pcie, bandwidth_bytes_per_s=nic.bandwidth_bytes_per_s / 2, efficiency=nic.efficiency)
    assert kinds_that_fill(make_cluster("dgx-h100", 2, pcie=narrow)) == {"nvlink": 32, pcie.name: 32}


def test_a_fabric_with_few_uplinks_has_spines_that_can_be_full():
    """Half the uplinks: every one of them can be."""
    cluster = make_cluster("dgx-h100", 2)
    for _, _, data in cluster.graph.edges(data=True):
        if data["kind"] == "leaf-spine":
            data["bandwidth_bytes_per_s"] /= 2
    links = np.concatenate([links.ravel() for links in cluster.links.of_spines])
    assert cluster.can_saturate[links].all()


@given(number=st.integers(0, len(CLUSTERS) - 1), seed=st.integers(0, 10**6), num_flows=st.integers(1, 300))
def test_the_busiest_link_is_among_those_that_can_be_full(number, seed, num_flows):
    """For any traffic: no other takes longer for its bytes (but for rounding)."""
    cluster = make_cluster(*CLUSTERS[number])
    rng = np.random.default_rng(seed)
    some = rng.choice(cluster.num_gpus, int(rng.integers(2, cluster.num_gpus + 1)), replace=False)  # few meet more
    src, dst = rng.choice(some, (2, num_flows))
    load = cluster.load(src, dst, rng.exponential(1e6, num_flows))
    took_s = load.num_bytes / cluster.capacity_bytes_per_s[load.links]
    can_saturate = cluster.can_saturate[load.links]
    if took_s.size:
        assert took_s[can_saturate].max() >= took_s.max() * (1 - 1e-8)


@pytest.mark.parametrize(("preset", "num_nodes"), CLUSTERS)
def test_every_pair_of_gpus_uses_a_link_that_can_be_full(preset, num_nodes):
    """No traffic is left without a limit."""
    cluster = make_cluster(preset, num_nodes)
    for dst in (1, cluster.num_gpus - 1):
        assert cluster.can_saturate[cluster.load([0], [dst], [1.0]).links].any()
