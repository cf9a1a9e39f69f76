"""Protocols that hold links longer than their bytes would: by hand, and conservation on all three networks."""

from dataclasses import replace

import numpy as np
import pytest
from handmade import BYTE_PER_NS, make_flows, make_transfer, run_network
from hypothesis import given
from hypothesis import strategies as st
from plain_network import PlainNetwork
from properties import PATIENT
from works import make_cluster

from sim.engine.network.flows.network import FlowNetwork
from sim.engine.network.fluid import FluidNetwork
from sim.plan.costs import Costs
from topology.links import FlowLinks, LinkLoad
from workloads.collectives.settings import NetworkSettings

NETWORKS = [FluidNetwork, PlainNetwork, FlowNetwork]
FLOAT_REL = 1e-9


def held(transfer, overhead):
    """Return a transfer whose bytes hold each link `overhead` [L] times as long, as a protocol's do."""
    overhead = np.array(overhead, dtype=float)
    load = LinkLoad(links=transfer.load.links, num_bytes=transfer.load.num_bytes * overhead[transfer.load.links])
    if transfer.flows is None:
        return replace(transfer, load=load, overhead=overhead)
    links = transfer.flows.links
    longer = FlowLinks(first=links.first, links=links.links, share=links.share * overhead[links.links])
    return replace(transfer, load=load, overhead=overhead, flows=replace(transfer.flows, links=longer))


def alone_in(transfer, capacity):
    """Return a transfer with the time that it takes alone."""
    return replace(transfer, alone_ns=int(np.ceil(transfer.alone_s(np.array(capacity) * BYTE_PER_NS) * 1e9 - 1e-6)))


def make_held(num_bytes, capacity, overhead, **more):
    """Return a transfer in bulk with these bytes on links."""
    return alone_in(held(make_transfer(num_bytes, capacity, **more), overhead), capacity)


# --- by hand ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", NETWORKS)
def test_a_protocol_at_a_quarter_of_the_rate_takes_four_times_as_long(network):
    """1,000 bytes at 10 bytes/ns: 400 ns; the link carries 1,000 bytes, and is full all the while."""
    made, (batch,) = run_network([10], [(0, [make_held({0: 1000}, [10], [4.0])])], network=network)
    use = made.link_use()
    assert batch.end_ns == [400]
    assert use.num_bytes.tolist() == pytest.approx([1000.0])
    assert use.busy_s.tolist() == pytest.approx([400e-9])
    assert use.utilisation.max() == pytest.approx(1.0)


@pytest.mark.parametrize("network", NETWORKS)
def test_two_protocols_share_a_link_by_the_time_that_they_hold_it(network):
    """Of 10 bytes/ns, one of 1,000 bytes at half the rate holds as 2,000 do, next to 1,000 at the full rate.

    A byte of the one costs two, so equal flows run at r + 2 r = 10: r = 10/3 bytes/ns. Both have 1,000 bytes: 300 ns.
    """
    starts = [(0, [make_held({0: 1000}, [10], [2.0], flow_bytes=1000)]), (0, [make_transfer({0: 1000}, [10])])]
    made, (slow, fast) = run_network([10], starts, network=network)
    assert (slow.end_ns, fast.end_ns) == ([300], [300])
    assert made.link_use().num_bytes.tolist() == pytest.approx([2000.0])


@pytest.mark.parametrize("network", NETWORKS)
def test_what_one_link_costs_more_another_does_not(network):
    """Link 0 is held three times as long, link 1 as long: 300 ns for 1,000 bytes over both, link 1 a third loaded.

    A transfer next to it on link 1 gets the rest: 10 - 10/3 bytes/ns, 1,000 bytes in 150 ns.
    """
    first = make_held({0: 1000, 1: 1000}, [10, 10], [3.0, 1.0], flow_bytes=1000)
    starts = [(0, [first]), (0, [make_transfer({1: 1000}, [10, 10])])]
    made, (long, short) = run_network([10, 10], starts, network=network)
    assert (long.end_ns, short.end_ns) == ([300], [150])
    assert made.link_use().num_bytes.tolist() == pytest.approx([1000.0, 2000.0])


# --- certificates ----------------------------------------------------------------------------------------------------


@st.composite
def mixed_traffic(draw, with_flows=False):
    """Draw capacities and batches of transfers, each with an overhead of its own or none."""
    num_links = draw(st.integers(1, 4))
    capacity = draw(st.lists(st.floats(0.5, 100.0), min_size=num_links, max_size=num_links))
    overheads = st.none() | st.lists(st.floats(1.0, 10.0), min_size=num_links, max_size=num_links)
    loads = st.dictionaries(st.integers(0, num_links - 1), st.integers(1, 100_000), min_size=1)
    shares = st.dictionaries(st.integers(0, num_links - 1), st.sampled_from([1.0, 0.5]), min_size=1)
    flows = st.lists(st.tuples(shares, st.floats(1.0, 100_000.0)), min_size=1, max_size=5)
    starts = []
    for _ in range(draw(st.integers(1, 5))):
        start_ns, latency_ns, overhead = draw(st.integers(0, 3000)), draw(st.integers(0, 2000)), draw(overheads)
        if with_flows and draw(st.booleans()):
            transfer = make_flows(draw(flows), capacity, latency_ns=latency_ns)
        else:
            load = draw(loads)
            flow_bytes = max(load.values()) / draw(st.integers(1, 8))
            transfer = make_transfer(load, capacity, latency_ns=latency_ns, flow_bytes=flow_bytes)
        starts.append((start_ns, [transfer if overhead is None else alone_in(held(transfer, overhead), capacity)]))
    return capacity, starts


def check(network, capacity, starts):
    """Links carry the bytes of their transfers and are never held more than all the time."""
    wanted, kept, ends = (np.zeros(len(capacity)) for _ in range(3))
    for _, (transfer,) in starts:
        wanted[transfer.load.links] += transfer.link_bytes.num_bytes
        kept[transfer.load.links] += transfer.load.num_bytes
        ends[transfer.load.links] += 1
    use = network.link_use()
    # each end is rounded by less than 1 ns, up or down, at no more than the link's capacity
    slack = ends * np.array(capacity) + FLOAT_REL * wanted
    assert (np.abs(use.num_bytes - wanted) <= slack).all()
    assert network.bytes_received == pytest.approx(network.bytes_sent, rel=FLOAT_REL)
    assert use.utilisation.max() <= 1 + FLOAT_REL
    in_time = use.busy_s * 1e9 * np.array(capacity) * (1 + FLOAT_REL)
    assert (kept <= in_time + ends * np.array(capacity)).all()


@PATIENT
@given(mixed_traffic())
def test_bytes_are_kept_and_no_link_is_held_too_long_in_bulk(case):
    """On the fast network and the plain one, which end every transfer at the same time."""
    ends = []
    for kind in (FluidNetwork, PlainNetwork):
        network, batches = run_network(*case, network=kind)
        check(network, *case)
        ends.append([end_ns for batch in batches for end_ns in batch.end_ns])
    assert ends[0] == pytest.approx(ends[1], abs=1)


@PATIENT
@given(mixed_traffic(with_flows=True))
def test_bytes_are_kept_and_no_link_is_held_too_long_flow_by_flow(case):
    """Transfers of flows and transfers in bulk next to each other."""
    network, _ = run_network(*case, network=FlowNetwork)
    check(network, *case)


@PATIENT
@given(mixed_traffic())
def test_no_protocol_is_faster_than_its_links(case):
    """Nor than its bytes at the links' capacity."""
    capacity, starts = case
    _, batches = run_network(capacity, starts)
    for (start_ns, (transfer,)), batch in zip(starts, batches, strict=True):
        least_ns = (transfer.link_bytes.num_bytes / np.array(capacity)[transfer.load.links]).max()
        assert batch.end_ns[0] - start_ns >= transfer.latency_ns + transfer.alone_ns - 1
        assert transfer.alone_ns >= least_ns * (1 - FLOAT_REL) - 1


@pytest.mark.parametrize("fidelity", ["bulk", "flow"])
def test_collectives_of_different_protocols_keep_their_bytes_on_a_cluster(fidelity):
    """LL, LL128 and NVLS all-reduces, a send and a hierarchical all-to-all at a time on two nodes of H100."""
    cluster = make_cluster(16)
    costs = Costs(cluster, dtype="bf16", network=NetworkSettings(all_to_all="hierarchical", fidelity=fidelity), sms={})
    ranks, transfers = np.arange(16), costs.transfers
    matrix = np.random.default_rng(3).uniform(1e4, 1e6, (16, 16))
    all_to_all, _ = costs.exchanges.round_trip(ranks, ranks, matrix, group=0)
    together = [
        *(transfers.collective("all_reduce", ranks, num_bytes, group=0) for num_bytes in (1e3, 4e6, 1e8)),
        transfers.send(ranks[:8], ranks[8:], 3e6, group=0),
        all_to_all,
    ]
    assert len({(choice.algorithm, choice.protocol) for choice in transfers.choices.values()}) == 3
    assert all(one.overhead is not None for one in together[:3])
    capacity = cluster.capacity_bytes_per_s / BYTE_PER_NS
    starts = [(100 * i, [transfer]) for i, transfer in enumerate(together)]
    kind = FlowNetwork if fidelity == "flow" else FluidNetwork
    network, _ = run_network(capacity, starts, network=kind, can_saturate=cluster.can_saturate)
    check(network, capacity, starts)
