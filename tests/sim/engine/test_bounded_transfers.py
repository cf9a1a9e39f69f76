"""Transfers that run at no more than their SMs move: by hand, and as if each had a link of its own."""

import math
from dataclasses import replace

import numpy as np
import pytest
from handmade import BYTE_PER_NS, make_flows, make_transfer, run_network
from hypothesis import given
from hypothesis import strategies as st
from plain_network import PlainNetwork, max_min_rates, network_with
from properties import PATIENT

from sim.engine.network.flows.network import FlowNetwork
from sim.engine.network.fluid import FluidNetwork
from sim.errors import SimulationError

NETWORKS = {"fluid": FluidNetwork, "plain": PlainNetwork, "flow": FlowNetwork}
EVERY_NETWORK = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS.keys())
FLOAT_REL = 1e-9


def ends_of(batches):
    return [end_ns for batch in batches for end_ns in batch.end_ns]


@EVERY_NETWORK
def test_a_bounded_transfer_alone_runs_at_its_bound(network):
    """300 bytes at 2 bytes/ns on a link of 10: 150 ns after the latency of 5."""
    bounded = make_transfer({0: 300}, [10], latency_ns=5, most=2)
    assert bounded.alone_ns == 150
    made, batches = run_network([10], [(0, [bounded])], network=network)
    assert ends_of(batches) == [155]
    assert made.link_use().num_bytes.tolist() == pytest.approx([300], rel=FLOAT_REL)
    assert made.link_use().utilisation.max() == pytest.approx(0.2, rel=FLOAT_REL)


@EVERY_NETWORK
def test_a_bound_is_for_each_flow(network):
    """Four flows of 100 bytes at 2 bytes/ns each put 8 on a link of 10: 50 ns."""
    _, batches = run_network([10], [(0, [make_transfer({0: 400}, [10], flow_bytes=100, most=2)])], network=network)
    assert ends_of(batches) == [50]


@EVERY_NETWORK
def test_a_bound_above_the_links_changes_nothing(network):
    """Two of 1,000 bytes share 10 bytes/ns at 5 each, below the bound of 6: 200 ns."""
    pair = [make_transfer({0: 1000}, [10], most=6) for _ in range(2)]
    assert ends_of(run_network([10], [(0, pair)], network=network)[1]) == [200, 200]


@EVERY_NETWORK
def test_what_a_bounded_transfer_leaves_of_a_link_goes_to_the_other(network):
    """On 10 bytes/ns the bounded one runs at 2 and the other at 8, not at 5 each.

    The other's 800 bytes end at 100 ns. The bounded one has 300 - 200 = 100 left, and goes on at 2 to 150 ns.
    """
    bounded, other = make_transfer({0: 300}, [10], most=2), make_transfer({0: 800}, [10])
    made, batches = run_network([10], [(0, [bounded]), (0, [other])], network=network)
    assert ends_of(batches) == [150, 100]
    assert made.link_use().num_bytes.tolist() == pytest.approx([1100], rel=FLOAT_REL)


@EVERY_NETWORK
def test_one_that_joins_a_bounded_transfer_shares_what_the_bound_leaves(network):
    """A alone at its bound of 6 to 50 ns: 300 of 600 left. B (200 bytes) halves the link: 5 each to 90 ns, A 100 left.

    Then A alone at its bound again: 100 / 6 = 16.7 ns, to 107 ns.
    """
    first, second = make_transfer({0: 600}, [10], most=6), make_transfer({0: 200}, [10])
    _, batches = run_network([10], [(0, [first]), (50, [second])], network=network)
    assert ends_of(batches) == [107, 90]


@st.composite
def bounded_cases(draw):
    """Draw the same traffic twice: with bounds, and with a link for each bound that nobody else uses."""
    num_links = draw(st.integers(1, 3))
    capacity = draw(st.lists(st.floats(0.5, 100.0), min_size=num_links, max_size=num_links))
    loads = st.dictionaries(st.integers(0, num_links - 1), st.integers(1, 100_000), min_size=1)
    one = st.tuples(st.integers(0, 3000), loads, st.integers(1, 8), st.floats(0.01, 50.0))
    cases = draw(st.lists(one, min_size=1, max_size=5))
    with_links = [*capacity, *(most for *_, most in cases)]
    bounded, linked = [], []
    for place, (start_ns, load, flows, most) in enumerate(cases):
        flow_bytes = max(load.values()) / flows
        bounded.append((start_ns, [make_transfer(load, capacity, flow_bytes=flow_bytes, most=most)]))
        own = {**load, num_links + place: flow_bytes}
        linked.append((start_ns, [make_transfer(own, with_links, flow_bytes=flow_bytes)]))
    return (capacity, bounded), (with_links, linked)


@PATIENT
@EVERY_NETWORK
@given(bounded_cases())
def test_a_bound_is_a_link_that_nobody_else_uses(network, cases):
    """The same ends with each bound written out as a link."""
    ours, linked = (ends_of(run_network(*case, network=network)[1]) for case in cases)
    # Float noise may round an end the other way, which moves those who share with it.
    assert np.abs(np.array(ours) - np.array(linked)).max() <= len(ours)


def test_a_solver_of_ones_own_hears_of_bounds():
    """As links after the others: 2 and 8 of 10 bytes/ns, as above."""
    bounded, other = make_transfer({0: 300}, [10], most=2), make_transfer({0: 800}, [10])
    _, batches = run_network([10], [(0, [bounded]), (0, [other])], network=network_with(max_min_rates))
    assert ends_of(batches) == [150, 100]


def test_a_bound_that_flows_which_end_each_on_their_own_would_ignore_is_refused():
    """Unless they have links of their own: a bound for each flow knows nothing of the others of a rank."""
    pairs = make_flows([({0: 1}, 100)], [10])
    with pytest.raises(SimulationError, match="must be infinite where flows that end each on their own have no links"):
        replace(pairs, most_bytes_per_s=2 * BYTE_PER_NS)


@pytest.mark.parametrize(("num_sms", "most"), [(-1, math.inf), (0, 0.0), (0, -1.0), (0, math.nan)])
def test_impossible_figures_are_refused(num_sms, most):
    """When the transfer is made."""
    with pytest.raises(SimulationError, match="num_sms must be at least 0 and most_bytes_per_s above 0"):
        make_transfer({0: 100}, [10], num_sms=num_sms, most=most)
