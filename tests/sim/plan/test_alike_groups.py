"""Groups that are wired alike: the price of one is that of all, and of lanes whose reductions differ each runs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import PATIENT
from works import make_cluster

from sim.plan.costs import Costs
from topology.cluster import build_cluster
from topology.degraded import Change
from topology.presets.clusters import FABRICS
from topology.presets.devices import DEVICES
from workloads.collectives import COLLECTIVES
from workloads.collectives.settings import NetworkSettings
from workloads.collectives.tree import two_trees

CLUSTER = make_cluster(64)


def costs_of(cluster=CLUSTER, all_reduce="auto"):
    costs = Costs(cluster, dtype="bf16", network=NetworkSettings(all_reduce=all_reduce))
    costs.pairs.is_on = True
    return costs


def figures_of(costs, transfer):
    src, dst, num_bytes, num_by_switch = costs.pairs._pairs[transfer]
    return (
        transfer.latency_ns,
        transfer.alone_ns,
        transfer.flow_bytes,
        transfer.total_bytes,
        transfer.mask,
        transfer.load.links.tolist(),
        transfer.load.num_bytes.tolist(),
        transfer.ranks.tolist(),
        transfer.group,
        src.tolist(),
        dst.tolist(),
        num_bytes.tolist(),
        num_by_switch,
    )


@PATIENT
@given(
    operation=st.sampled_from(sorted(COLLECTIVES["ring"].exchanges)),
    all_reduce=st.sampled_from(["auto", "ring", "tree", "hierarchical"]),
    pattern=st.lists(st.integers(0, 31), min_size=2, max_size=8, unique=True),
    num_nodes=st.integers(1, 4),
    num_bytes=st.floats(1e3, 1e9),
)
def test_a_group_in_anothers_place_has_the_price_it_would_have_alone(
    operation, all_reduce, pattern, num_nodes, num_bytes
):
    """Any ranks of the first four nodes in any order, and the same some nodes on: every figure, to the last digit."""
    first, other = np.array(pattern), np.array(pattern) + 8 * num_nodes
    both, alone = costs_of(all_reduce=all_reduce), costs_of(all_reduce=all_reduce)
    both.transfers.collective(operation, first, num_bytes, group=0)
    moved = both.transfers.collective(operation, other, num_bytes, group=1)
    wanted = alone.transfers.collective(operation, other, num_bytes, group=1)
    assert len(both.transfers._own.cheapest) == 1  # the second was not priced
    assert figures_of(both, moved) == figures_of(alone, wanted)


@pytest.mark.parametrize("slow", ["nic3.2->leaf0.2", "leaf0.2->spine0"])
def test_a_slower_link_of_one_group_is_in_its_price(slow):
    """GPUs 17 and 26 are on rails 1 and 2 and use both links; 0 and 9, on rails 0 and 1, use neither."""
    change = Change(part="link", name=slow, factor=0.5)
    cluster = build_cluster(FABRICS["dgx-h100"], 4, DEVICES["h100-sxm"], [change])
    whole, hurt = np.array([0, 9]), np.array([17, 26])
    both, alone = costs_of(cluster, "ring"), costs_of(cluster, "ring")
    both.transfers.collective("all_gather", whole, 1e8, group=0)
    moved = both.transfers.collective("all_gather", hurt, 1e8, group=0)
    wanted = alone.transfers.collective("all_gather", hurt, 1e8, group=0)
    assert cluster.wiring_of(whole) != cluster.wiring_of(hurt)
    assert figures_of(both, moved) == figures_of(alone, wanted)


@pytest.mark.parametrize("num_nodes", range(4, 12))
def test_roots_of_two_trees_have_fewer_edges_than_all_others(num_nodes):
    """Why lanes of equal replicas may differ (`plan.alike`): the root of one tree has no parent there."""
    num_edges = np.bincount(np.array(two_trees(num_nodes)).ravel(), minlength=num_nodes)
    assert num_edges.sum() == 4 * (num_nodes - 1)
    assert num_edges[0] < num_edges.max()
