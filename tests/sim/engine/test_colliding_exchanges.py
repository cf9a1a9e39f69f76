"""Exchanges of 64 GPUs that meet on their NICs: who gets what, worked out by hand, and what each lost by it.

Model
-----
64 GPUs in 8 nodes, a NIC each of capacity C. An all-to-all of B bytes per pair sends 56 B through each NIC out of its
node and takes as much in: 56 flows. NVLink and PCIe carry the same flows and are wider, so the NICs decide:

    alone    56 B / C
"""

import numpy as np
import pytest
from handmade import BYTE_PER_NS, HandPlan, exchange, run_network
from plain_network import PlainNetwork
from works import make_cluster

from sim.engine.simulation import run_plan
from sim.plan.ops import Transfer
from sim.results.path import path_ns
from sim.results.stages import stages_ns
from sim.time import to_ns

CLUSTER = make_cluster(64)
RANKS = np.arange(64)
NIC = CLUSTER.link_names.index("nic0.0->leaf0.0")
CAPACITY = CLUSTER.capacity_bytes_per_s / BYTE_PER_NS  # bytes/ns
C = float(CAPACITY[NIC])
SIZE = 1e6
ALONE_NS = 56 * SIZE / C

NETWORKS = pytest.mark.parametrize("network", [{}, {"network": PlainNetwork}], ids=["fast", "plain"])


def flows(src, dst, num_bytes):
    """Return a transfer of equal flows, without latency."""
    load = CLUSTER.load(src, dst, np.full(len(src), num_bytes))
    return Transfer(
        load=load,
        latency_ns=0,
        alone_ns=to_ns(load.drain_time_s(CLUSTER.capacity_bytes_per_s)),
        flow_bytes=num_bytes,
        total_bytes=num_bytes * len(src),
        group=0,
        ranks=RANKS,
    )


def all_to_all(num_bytes):
    """Return a direct all-to-all of all GPUs."""
    src, dst = np.nonzero(~np.eye(64, dtype=bool))
    return flows(src, dst, num_bytes)


def ends_of(starts, network):
    """Return the end of each transfer in ns, and what the links carried."""
    made, batches = run_network(CAPACITY.tolist(), starts, **network)
    return [batch.end_ns[0] for batch in batches], made.link_use()


def test_alone_the_nics_decide():
    """56 B / C, with every NIC full both ways."""
    (end_ns,), use = ends_of([(0, [all_to_all(SIZE)])], {})
    assert end_ns == pytest.approx(ALONE_NS, abs=1)
    is_full = use.bottleneck_s * 1e9 > 0.99 * ALONE_NS
    assert is_full.tolist() == [kind == "nic" for kind in CLUSTER.link_kinds]


@NETWORKS
def test_two_colliding_all_to_alls_share_the_nics_by_flows(network):
    """One of B and one of 2 B bytes per pair, together: 56 flows each, so half of C each.

    The small one ends when 2 x 56 B have passed, at 2 T; the other has B left by then, has all of C, and ends at 3 T.
    """
    ends, _ = ends_of([(0, [all_to_all(SIZE)]), (0, [all_to_all(2 * SIZE)])], network)
    assert ends == pytest.approx([2 * ALONE_NS, 3 * ALONE_NS], abs=2)


@NETWORKS
def test_one_that_comes_later_takes_half_from_then_on(network):
    """Two of B, the second at T / 2: the first has T / 2 left, which takes T more; then the second has T / 2 left."""
    late_ns = round(ALONE_NS / 2)
    ends, _ = ends_of([(0, [all_to_all(SIZE)]), (late_ns, [all_to_all(SIZE)])], network)
    assert ends == pytest.approx([1.5 * ALONE_NS, 2 * ALONE_NS], abs=2)


@NETWORKS
def test_a_send_beside_an_all_to_all_on_one_nic_gets_its_share_by_flows(network):
    """56 flows of the all-to-all and one of the send: C / 57 for each of 57, and not half of C for the send.

    A send of S = B / 2 from GPU 0 to GPU 8, which is on another node and the same rail, ends at 57 S / C. The NIC is
    full throughout, so the all-to-all ends when all of 56 B + S have passed it.
    """
    send = flows(np.array([0]), np.array([8]), SIZE / 2)
    ends, use = ends_of([(0, [all_to_all(SIZE)]), (0, [send])], network)
    assert ends == pytest.approx([(56 * SIZE + SIZE / 2) / C, 57 * (SIZE / 2) / C], abs=2)
    assert use.num_bytes[NIC] == pytest.approx(56 * SIZE + SIZE / 2)


def test_on_its_own_the_send_has_the_whole_nic():
    """S / C, 57 times as fast."""
    send = flows(np.array([0]), np.array([8]), SIZE / 2)
    (end_ns,), _ = ends_of([(0, [send])], {})
    assert end_ns == pytest.approx(SIZE / 2 / C, abs=1)


def test_stages_whose_all_to_alls_collide_lose_what_they_take_beyond_their_time_alone():
    """B on stage 0 and 2 B on stage 1, as above: both lose T. It is the part `contention` of both accounts."""
    exchanges = [exchange(all_to_all(size), kind="ep_dispatch") for size in (SIZE, 2 * SIZE)]
    plan = HandPlan(
        ["F0", "F0"],
        lambda stage, *_: [exchanges[stage]],
        lane_ranks=[[list(range(32))], [list(range(32, 64))]],
        capacity=CAPACITY.tolist(),
        inputs=lambda *_: (),
    )
    trace = run_plan(plan).trace
    rows = trace.rows("comm")
    assert trace["contention_ns"][rows] == pytest.approx([ALONE_NS, ALONE_NS], abs=3)
    assert trace["base_ns"][rows] == pytest.approx([ALONE_NS, 2 * ALONE_NS], abs=3)
    first, second = stages_ns(trace)
    assert (first["ep_dispatch"], first["contention"]) == pytest.approx((ALONE_NS, ALONE_NS), abs=3)
    assert (second["ep_dispatch"], second["contention"]) == pytest.approx((2 * ALONE_NS, ALONE_NS), abs=3)
    path = path_ns(trace)
    assert (path["ep_dispatch"], path["contention"]) == pytest.approx((2 * ALONE_NS, ALONE_NS), abs=3)
