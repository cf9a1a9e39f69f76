"""The fluid network: shares and end times by hand, laws of conservation, and a slow simulation as oracle."""

import math
from unittest.mock import patch

import numpy as np
import pytest
from handmade import BYTE_PER_NS, make_transfer, run_network
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_network import PlainNetwork, max_min_rates, network_with
from properties import PATIENT
from works import make_cluster

from sim.engine.network import linkset
from sim.errors import SimulationError
from sim.plan.costs import Costs
from workloads.collectives import all_to_all

NOISE_NS = 1e-6  # what the clock takes away before it rounds up
FLOAT_REL = 1e-9  # sums of a few floats; what is looked for is a byte in a thousand or more


UNBOUNDED = st.just(math.inf)
SOME_BOUNDED = UNBOUNDED | st.floats(0.01, 50.0)
"""Bytes/ns at which a transfer's flows run at most."""


@st.composite
def traffic(draw, most=UNBOUNDED):
    """Draw capacities [bytes/ns] and batches of one transfer each: (start, [transfer])."""
    num_links = draw(st.integers(1, 4))
    capacity = draw(st.lists(st.floats(0.5, 100.0), min_size=num_links, max_size=num_links))
    loads = st.dictionaries(st.integers(0, num_links - 1), st.integers(1, 100_000), min_size=1)
    starts = draw(
        st.lists(
            st.tuples(st.integers(0, 3000), st.integers(0, 2000), loads, st.integers(1, 8), most),
            min_size=1,
            max_size=6,
        )
    )
    return capacity, [
        (
            start_ns,
            [make_transfer(load, capacity, latency_ns=wait_ns, flow_bytes=max(load.values()) / flows, most=bound)],
        )
        for start_ns, wait_ns, load, flows, bound in starts
    ]


def ends_of(batches):
    return [end_ns for batch in batches for end_ns in batch.end_ns]


# --- oracles by hand -----------------------------------------------------------------------------------------------


def test_two_transfers_share_a_link_by_their_flows():
    # 100 bytes/ns. Three flows of 100 kB and one of 200 kB run at 25 each: the three end at 4000 ns, when the one has
    # 100 kB left, which then has the link to itself for 1000 ns.
    three = make_transfer({0: 300_000}, [100], flow_bytes=100_000)
    one = make_transfer({0: 200_000}, [100])
    _, batches = run_network([100], [(0, [three]), (0, [one])])
    assert ends_of(batches) == [4000, 5000]


def test_transfers_that_come_and_go_end_when_worked_out_by_hand():
    # One link of 10 bytes/ns. A (60 kB) alone to 2000, with B (30 kB) to 6000 and C (10 kB) from 5000:
    #   0..2000 A at 10 -> 40 kB left; 2000..5000 A, B at 5 -> 25 and 15 kB left;
    #   5000..8000 A, B, C at 10/3 -> C ends at 8000, A 15 and B 5 kB left;
    #   8000..9000 A, B at 5 -> B ends at 9000, A 10 kB left; A at 10 ends at 10000.
    a, b, c = (make_transfer({0: size}, [10]) for size in (60_000, 30_000, 10_000))
    network, batches = run_network([10], [(0, [a]), (2000, [b]), (5000, [c])])
    assert ends_of(batches) == [10_000, 9000, 8000]
    use = network.link_use()
    assert use.busy_s.tolist() == [10_000 / 1e9]
    assert use.num_bytes.tolist() == pytest.approx([100_000], rel=FLOAT_REL)


def test_a_transfer_held_elsewhere_leaves_its_share_to_others():
    # Link 0 carries 10, link 1 carries 2 bytes/ns. A needs both and runs at 2; B on link 0 gets the other 8.
    a, b = make_transfer({0: 8000, 1: 8000}, [10, 2]), make_transfer({0: 8000}, [10, 2])
    _, batches = run_network([10, 2], [(0, [a]), (0, [b])])
    assert ends_of(batches) == [4000, 1000]


def test_a_transfer_that_waits_for_its_latency_uses_no_link():
    first = make_transfer({0: 10_000}, [10])
    late = make_transfer({0: 10_000}, [10], latency_ns=1000)
    _, batches = run_network([10], [(0, [late]), (0, [first])])
    assert ends_of(batches) == [2000, 1000]  # each as if alone: one flows while the other waits


def test_a_transfer_of_no_bytes_takes_its_latency():
    _, batches = run_network([1], [(5, [make_transfer({}, [1], latency_ns=30)])])
    assert ends_of(batches) == [35]


def test_an_empty_batch_is_done_at_once():
    network, (batch,) = run_network([1], [(7, [])])
    assert batch.done.processed
    assert (network.bytes_sent, batch.end_ns) == (0.0, [])


def test_an_end_is_rounded_up():
    _, batches = run_network([3], [(0, [make_transfer({0: 10}, [3])])])
    assert ends_of(batches) == [4]  # 3.33 ns


def test_transfers_with_less_than_a_nanosecond_left_end_in_the_same_event():
    # They meet on a link that has room for all; transfers that share none keep their own ends.
    sizes, capacity = (100.0, 100.4, 101.5), [1, 1, 1, 9]
    meeting = [make_transfer({i: size, 3: 1.0}, capacity, flow_bytes=size) for i, size in enumerate(sizes)]
    network, batches = run_network(capacity, [(0, meeting)])
    assert ends_of(batches) == [100, 100, 102]
    apart = [make_transfer({i: size}, capacity) for i, size in enumerate(sizes)]
    assert ends_of(run_network(capacity, [(0, apart)])[1]) == [100, 101, 102]
    assert network.bytes_received == network.bytes_sent


def test_a_batch_is_done_when_its_last_transfer_has_ended():
    short, long = make_transfer({0: 100}, [1, 1]), make_transfer({1: 300}, [1, 1], latency_ns=50)
    _, (batch,) = run_network([1, 1], [(10, [short, long])])
    assert (batch.start_ns, batch.end_ns, batch.waiting) == (10, [110, 360], 0)


def test_a_transfer_without_rate_names_the_dead_link():
    dead = make_transfer({0: 10}, [1])
    with pytest.raises(SimulationError, match="link0 has none"):
        run_network([0], [(0, [dead])])


def test_transfers_that_start_at_one_time_are_solved_once():
    calls = []

    def counting(weights, capacity):
        calls.append(len(weights))
        return max_min_rates(weights, capacity)

    equal = [make_transfer({0: 1000}, [10]) for _ in range(50)]
    network, batches = run_network([10], [(3, [transfer]) for transfer in equal], network=network_with(counting))
    assert calls == [50]
    assert network.link_use().time_ns.tolist() == [3, 3 + 5000]
    assert set(ends_of(batches)) == {3 + 5000}


def test_a_set_of_transfers_that_was_solved_before_is_looked_up():
    pair = [make_transfer({0: 500}, [10]), make_transfer({0: 500}, [10])]
    network, batches = run_network([10], [(0, pair), (500, pair), (1000, pair)])
    assert ends_of(batches) == [100, 100, 600, 600, 1100, 1100]
    assert network.num_solves == 1


def test_a_transfer_that_meets_nobody_is_never_solved():
    one, other = make_transfer({0: 500}, [10, 10], latency_ns=5), make_transfer({1: 500}, [10, 10])
    network, batches = run_network([10, 10], [(0, [one, other]), (55, [one])])
    assert ends_of(batches) == [55, 50, 110]
    assert network.num_solves == 0


def test_who_waits_for_its_latency_has_not_met_anybody():
    # The late one begins before the early one ends, and flows after: latency uses no link.
    early, late = make_transfer({0: 1000}, [10]), make_transfer({0: 1000}, [10], latency_ns=80)
    network, batches = run_network([10], [(0, [early]), (20, [late])])
    assert ends_of(batches) == [100, 200]
    assert network.num_solves == 0


def test_a_knot_falls_apart_when_its_middle_ends():
    # a and c meet over b alone; when b has ended they share nothing, and run at their own pace.
    capacity = [10, 10]
    a, b, c = (
        make_transfer({0: 1000}, capacity),
        make_transfer({0: 100, 1: 100}, capacity),
        make_transfer({1: 500}, capacity),
    )
    _, batches = run_network(capacity, [(0, [a]), (0, [b]), (0, [c])])
    assert ends_of(batches) == [110, 20, 60]


# --- properties ----------------------------------------------------------------------------------------------------


@PATIENT
@given(
    st.lists(st.tuples(st.floats(0.1, 500.0), st.integers(1, 10**7)), min_size=1, max_size=5),
    st.integers(0, 10**6),
    st.integers(1, 64),
)
def test_a_transfer_alone_ends_after_latency_and_its_time_alone_exactly(links, latency_ns, flows):
    capacity = [c for c, _ in links]
    load = {i: size for i, (_, size) in enumerate(links)}
    alone = make_transfer(load, capacity, latency_ns=latency_ns, flow_bytes=max(load.values()) / flows)
    _, (batch,) = run_network(capacity, [(11, [alone])])
    assert batch.end_ns == [11 + latency_ns + alone.alone_ns]


@PATIENT
@given(traffic(SOME_BOUNDED))
def test_no_transfer_is_faster_than_alone(case):
    capacity, starts = case
    _, batches = run_network(capacity, starts)
    for (start_ns, (transfer,)), end_ns in zip(starts, ends_of(batches), strict=True):
        # less than a nanosecond left ends at once, so at most one is gained
        assert end_ns - start_ns >= transfer.latency_ns + transfer.alone_ns - 1


@PATIENT
@given(traffic(SOME_BOUNDED))
def test_links_carry_the_bytes_of_their_transfers(case):
    capacity, starts = case
    network, _ = run_network(capacity, starts)
    wanted, ends = np.zeros(len(capacity)), np.zeros(len(capacity))
    for _, (transfer,) in starts:
        wanted[transfer.load.links] += transfer.load.num_bytes
        ends[transfer.load.links] += 1
    # Each end is rounded by less than 1 ns, up or down, at no more than the link's capacity.
    slack = ends * np.array(capacity) + FLOAT_REL * wanted
    assert (np.abs(network.link_use().num_bytes - wanted) <= slack).all()
    assert network.bytes_received == pytest.approx(network.bytes_sent, rel=FLOAT_REL)


@PATIENT
@given(traffic(SOME_BOUNDED))
def test_no_link_is_over_its_capacity(case):
    capacity, starts = case
    network, _ = run_network(capacity, starts)
    assert network.link_use().utilisation.max() <= 1 + FLOAT_REL


@PATIENT
@given(traffic(SOME_BOUNDED))
def test_rates_change_only_when_a_transfer_starts_or_ends(case):
    network, batches = run_network(*case)
    starts = {start_ns + transfer.latency_ns for start_ns, (transfer,) in case[1]}
    assert set(network.link_use().time_ns.tolist()) <= starts | set(ends_of(batches))


@PATIENT
@given(traffic(SOME_BOUNDED))
def test_links_are_quiet_when_all_is_done(case):
    network, _ = run_network(*case)
    assert network.link_use().utilisation[-1].tolist() == [0.0]
    assert not network._busy
    assert len(network._alone) == len(network._components) == 0


@PATIENT
@given(traffic(SOME_BOUNDED))
def test_links_in_blocks_give_the_ends_of_links_in_one_integer(case):
    """A large cluster's sets of links are blocks: here of two links each, so that transfers reach over several."""
    _, whole = run_network(*case)
    with patch.object(linkset, "_MOST_BITS", 0), patch.object(linkset, "_BLOCK", 2):
        network, blocks = run_network(*case)
    assert ends_of(blocks) == ends_of(whole)
    assert not network._busy
    assert not network._alone
    assert not network._components


@PATIENT
@given(traffic(), st.integers(-10, 10))
def test_scaling_all_bandwidths_and_sizes_changes_nothing(case, power):
    capacity, starts = case
    scale = 2.0**power  # exact in floats, so that times are equal to the nanosecond
    scaled = [
        (
            start_ns,
            [
                make_transfer(
                    dict(zip(t.load.links.tolist(), (t.load.num_bytes * scale).tolist(), strict=True)),
                    [c * scale for c in capacity],
                    latency_ns=t.latency_ns,
                    flow_bytes=t.flow_bytes * scale,
                )
            ],
        )
        for start_ns, (t,) in starts
    ]
    _, before = run_network(capacity, starts)
    _, after = run_network([c * scale for c in capacity], scaled)
    assert ends_of(after) == ends_of(before)


@PATIENT
@given(traffic())
def test_more_bandwidth_everywhere_never_delays_the_last_end_of_one_link(case):
    # A theorem for one link (it is busy whenever a transfer is there), not for networks of several.
    _, starts = case
    one_link = [
        (start_ns, [make_transfer({0: float(t.load.num_bytes[0])}, [4.0], latency_ns=t.latency_ns)])
        for start_ns, (t,) in starts
    ]
    ends = [max(ends_of(run_network([speed], one_link)[1])) for speed in (4.0, 8.0)]
    assert ends[1] <= ends[0] + len(starts)  # each end is rounded by less than 1 ns


# --- the slow simulation ---------------------------------------------------------------------------------------------


def slow_ends(capacity, starts):
    """Return the end of each transfer: no cache, no alarms, every step solved anew from lists.

    Ends lie on whole nanoseconds, rounded up, and what has less than one left ends with them: the law, not the engine.
    """
    transfers = [transfer for _, (transfer,) in starts]
    joins = [start_ns + transfer.latency_ns for start_ns, (transfer,) in starts]
    left = [transfer.flow_bytes for transfer in transfers]
    ends = [None] * len(starts)
    now = 0
    while None in ends:
        active = [i for i, end in enumerate(ends) if end is None and joins[i] <= now]
        next_join = min((joins[i] for i, end in enumerate(ends) if end is None and joins[i] > now), default=math.inf)
        weights = [(transfers[i].load.links, transfers[i].load.num_bytes / transfers[i].flow_bytes) for i in active]
        rates = max_min_rates(weights, np.array(capacity, dtype=float) * BYTE_PER_NS) / 1e9
        times = [left[i] / rate for i, rate in zip(active, rates, strict=True)]
        next_end = now + max(0, math.ceil(min(times) - NOISE_NS)) if times else math.inf
        then = min(next_join, next_end)
        for i, rate in zip(active, rates, strict=True):
            left[i] -= rate * (then - now)
            if then == next_end and left[i] < rate:
                ends[i] = then
        now = then
    return ends


@settings(PATIENT, max_examples=300)
@given(traffic())
def test_transfers_end_when_the_slow_simulation_says(case):
    capacity, starts = case
    _, batches = run_network(capacity, starts)
    difference = np.array(ends_of(batches)) - np.array(slow_ends(capacity, starts))
    assert np.abs(difference).max() <= 1  # float noise may round one end the other way


def test_the_slow_simulation_notices_a_network_that_does_not_share():
    def alone(weights, capacity):
        return np.array([max_min_rates([weight], capacity)[0] for weight in weights])

    starts = [(0, [make_transfer({0: 1000}, [1])]), (0, [make_transfer({0: 1000}, [1])])]
    _, batches = run_network([1], starts, network=network_with(alone))
    assert ends_of(batches) == [1000, 1000]
    assert slow_ends([1], starts) == [2000, 2000]


@settings(PATIENT, max_examples=200)
@given(traffic(SOME_BOUNDED))
def test_the_fast_network_ends_every_transfer_when_the_plain_one_does(case):
    # What joins at the very nanosecond at which another ends, with less than one left, may end with it or one later.
    fast, plain = (ends_of(run_network(*case, **network)[1]) for network in ({}, {"network": PlainNetwork}))
    assert np.abs(np.array(fast) - np.array(plain)).max() <= 1


def test_a_transfer_that_joins_as_another_ends_is_not_yet_due():
    """On links of their own: 1 ns each, the second from 1 ns on."""
    first, second = make_transfer({1: 1}, [1, 1]), make_transfer({0: 1}, [1, 1], latency_ns=1)
    for network in ({}, {"network": PlainNetwork}):
        assert ends_of(run_network([1, 1], [(0, [first]), (0, [second])], **network)[1]) == [1, 2]


@st.composite
def cluster_traffic(draw):
    """Draw a cluster, and exchanges of random groups on it with random bytes: (cluster, starts)."""
    cluster = make_cluster(8 * draw(st.sampled_from([1, 2, 4, 34])))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    starts = []
    for _ in range(draw(st.integers(1, 5))):
        ranks = rng.choice(cluster.num_gpus, int(rng.integers(2, 17)) if cluster.num_gpus > 8 else 8, replace=False)
        matrix = rng.exponential(1e4, (ranks.size, ranks.size)) * (rng.random((ranks.size, ranks.size)) < 0.5)
        matrix[0, 1] += 1e4
        exchange = all_to_all(ranks.tolist(), matrix)
        costs = Costs(cluster, dtype="bf16").transfers
        transfer = costs.transfer(exchange, costs.pricing.only_protocol("direct"), ranks=ranks, group=0)
        starts.append((int(rng.integers(0, 3000)), [transfer]))
    return cluster, starts


@settings(PATIENT, max_examples=200)
@given(cluster_traffic())
def test_on_clusters_transfers_end_when_the_slow_simulation_says(case):
    # The slow one shares all links, those that cannot be full as well. Each end may be rounded the other way.
    cluster, starts = case
    capacity = (cluster.capacity_bytes_per_s / BYTE_PER_NS).tolist()
    _, batches = run_network(capacity, starts, can_saturate=cluster.can_saturate)
    difference = np.array(ends_of(batches)) - np.array(slow_ends(capacity, starts))
    assert np.abs(difference).max() <= 1
