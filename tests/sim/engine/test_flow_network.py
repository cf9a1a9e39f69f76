"""Flows that end each on its own: shares by hand, the plain solver as oracle, conservation, and the bulk network."""

import math
from functools import partial

import numpy as np
import pytest
from handmade import BYTE_PER_NS, make_flows, make_transfer, run_network
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_network import max_min_rates
from properties import PATIENT
from works import make_cluster, make_work

from sim.engine.clock import Clock
from sim.engine.network.flows import kernel
from sim.engine.network.flows.kernel import choose_run, compiled_run
from sim.engine.network.flows.network import FlowNetwork
from sim.engine.network.flows.state import build_state, rates_of
from sim.engine.network.fluid import FluidNetwork
from sim.engine.simulation import run_plan
from sim.errors import SimulationError
from sim.plan.costs import Costs
from sim.plan.pipeline import PipelinePlan
from workloads.collectives import all_to_all
from workloads.collectives.settings import NetworkSettings

RATE_REL = 1e-9
FLOAT_REL = 1e-9
NOISE_NS = 1e-6  # what the clock takes away before it rounds up
NO_STOP = 2**62

run_flow_network = partial(run_network, network=FlowNetwork)


@st.composite
def flow_traffic(draw, num_transfers=3):
    """Draw capacities [bytes/ns] and batches of one transfer each: (start, [transfer of up to 8 flows])."""
    num_links = draw(st.integers(1, 5))
    capacity = draw(st.lists(st.floats(0.5, 100.0), min_size=num_links, max_size=num_links))
    shares = st.dictionaries(st.integers(0, num_links - 1), st.sampled_from([1.0, 0.5, 1 / 3]), min_size=1)
    flows = st.lists(st.tuples(shares, st.floats(1.0, 100_000.0)), min_size=1, max_size=8)
    one = st.tuples(st.integers(0, 3000), st.integers(0, 2000), flows)
    starts = draw(st.lists(one, min_size=1, max_size=num_transfers))
    return capacity, [(start, [make_flows(flows, capacity, latency_ns=latency)]) for start, latency, flows in starts]


def ends_of(batches):
    return [end_ns for batch in batches for end_ns in batch.end_ns]


def weights_of(transfer):
    """Return (links, shares) of each flow, as the plain solver takes them."""
    links = transfer.flows.links
    return [(links.links[a:b], links.share[a:b]) for a, b in zip(links.first, links.first[1:], strict=False)]


def state_of(transfer, capacity):
    owner = np.zeros(transfer.flows.num_bytes.size, dtype=np.int64)
    return build_state(transfer.flows.links, transfer.flows.num_bytes, owner, np.array(capacity) * BYTE_PER_NS)


def slow_ends(capacity, starts):
    """Return the end of each transfer: all rates solved anew at every end of a flow, from lists."""
    capacity = np.array(capacity, dtype=float) * BYTE_PER_NS
    transfers = [transfer for _, (transfer,) in starts]
    joins = [start_ns + transfer.latency_ns for start_ns, (transfer,) in starts]
    flows = [(i, weight) for i, transfer in enumerate(transfers) for weight in weights_of(transfer)]
    left = [size for transfer in transfers for size in transfer.flows.num_bytes.tolist()]
    ends = [None] * len(flows)
    now = 0
    while None in ends:
        active = [f for f, (i, _) in enumerate(flows) if ends[f] is None and joins[i] <= now]
        next_join = min((join for join in joins if join > now), default=math.inf)
        rates = max_min_rates([flows[f][1] for f in active], capacity) / 1e9
        times = [left[f] / rate for f, rate in zip(active, rates, strict=True)]
        next_end = now + max(0, math.ceil(min(times) - NOISE_NS)) if times else math.inf
        then = min(next_join, next_end)
        for f, rate in zip(active, rates, strict=True):
            left[f] -= rate * (then - now)
            if then == next_end and left[f] < rate:
                ends[f] = then
        now = then
    return [max(end for end, (i, _) in zip(ends, flows, strict=True) if i == one) for one in range(len(transfers))]


# --- oracles by hand -----------------------------------------------------------------------------------------------


def test_each_flow_ends_when_worked_out_by_hand():
    """Two flows share a link of 10 bytes/ns: 5 each to 2000 ns, when the short one ends; 10 for the other to 3000."""
    transfer = make_flows([({0: 1}, 10_000), ({0: 1}, 20_000)], [10])
    state = state_of(transfer, [10])
    assert rates_of(state).tolist() == [5e9, 5e9]
    assert kernel.run(state, 0, NO_STOP) == (3000, 2)
    assert state.end_ns.tolist() == [2000, 3000]


def test_a_flow_that_ends_elsewhere_frees_its_share_of_both_links():
    """The parking lot: the long flow holds both links; when a short one ends, the long one is held by the other."""
    flows = [({0: 1, 1: 1}, 10_000), ({0: 1}, 5000), ({1: 1}, 10_000)]
    state = state_of(make_flows(flows, [10, 10]), [10, 10])
    kernel.run(state, 0, NO_STOP)
    assert state.end_ns.tolist() == [2000, 1000, 2000]


def test_links_that_fill_together_may_exchange_their_flows_before_any_ends():
    """Both links fill at 2/3 byte/ns; the short flow ends at 1.5, seen at 2; the long one has 11/3 left, alone at 1."""
    flows = [({0: 0.5, 1: 1.0}, 1), ({1: 0.5, 0: 1.0}, 5)]
    state = state_of(make_flows(flows, [1, 1]), [1, 1])
    assert rates_of(state) == pytest.approx([2e9 / 3] * 2)
    assert kernel.run(state, 0, NO_STOP) == (6, 2)
    assert state.end_ns.tolist() == [2, 6]


@given(flow_traffic(num_transfers=1))
def test_the_next_mark_of_each_link_is_the_lowest_of_its_flows(case):
    """In the first state already, also where links fill together and exchange flows."""
    capacity, ((_, (transfer,)),) = case
    state = state_of(transfer, capacity)
    for link, mark in enumerate(state.next_mark):
        assert mark == state.mark[state.bottleneck == link].min(initial=np.inf)


def test_a_spread_flow_puts_its_share_on_each_path():
    """A flow over two spines of 3 bytes/ns each runs at 6."""
    _, batches = run_flow_network([100, 3, 3], [(0, [make_flows([({0: 1, 1: 0.5, 2: 0.5}, 600)], [100, 3, 3])])])
    assert ends_of(batches) == [100]


def test_one_that_joins_takes_its_share_from_then_on():
    """Alone to 500 ns at 10 bytes/ns, then thirds: of 2 x 10 kB flows each has 7.5 kB left, the new one has 5 kB."""
    pair, single = make_flows([({0: 1}, 10_000)] * 2, [10]), make_flows([({0: 1}, 5000)], [10])
    network, batches = run_flow_network([10], [(0, [pair]), (500, [single])])
    assert ends_of(batches) == [2500, 2000]
    use = network.link_use()
    assert use.num_bytes.tolist() == pytest.approx([25_000], rel=FLOAT_REL)
    assert use.busy_s.tolist() == [2500 / 1e9]
    assert use.time_ns.tolist() == [0, 500, 2000, 2500]
    assert use.utilisation[:, 0] == pytest.approx([1, 1, 1, 0], rel=FLOAT_REL)


def test_one_that_joins_when_another_ends_meets_nobody():
    """An end and a start at the same nanosecond do not delay each other, whichever comes first."""
    first, second = make_flows([({0: 1}, 1000)], [10]), make_flows([({0: 1}, 1000)], [10])
    _, batches = run_flow_network([10], [(0, [first]), (100, [second])])
    assert ends_of(batches) == [100, 200]


def test_an_empty_batch_and_a_transfer_of_no_bytes_take_no_link():
    """The first is done at once, the second after its latency."""
    _, (nothing, silent) = run_flow_network([1], [(7, []), (5, [make_transfer({}, [1], latency_ns=30)])])
    assert nothing.done.processed
    assert silent.end_ns == [35]


def test_a_transfer_over_a_dead_link_is_refused_by_name():
    """No rate: the error says which link."""
    with pytest.raises(SimulationError, match="link0 has none"):
        run_flow_network([0], [(0, [make_transfer({0: 10}, [1])])])


def test_a_transfer_takes_three_events_however_many_flows_it_has():
    """One to join, one to share, one to end (and one more to share what is left: nothing)."""
    clock = Clock()
    network = FlowNetwork(clock, np.array([BYTE_PER_NS]), ["link0"], ["wire"])
    network.begin([make_flows([({0: 1}, size) for size in range(100, 200)], [1])])
    clock.run()
    assert clock.num_events <= 4


def test_a_set_that_started_before_is_looked_up():
    """Equal transfers that start together again are not solved again."""
    pair = make_flows([({0: 1}, 100), ({0: 1}, 200)], [1])
    network, batches = run_flow_network([1], [(0, [pair]), (1000, [pair])])
    assert ends_of(batches) == [300, 1300]
    assert network.num_solves == 2


@pytest.mark.parametrize(("other", "times"), [([10, 10], 1), ([10, 9], 2)])
def test_the_same_on_links_that_reach_the_same_is_not_solved_again(other, times):
    """A transfer that another joins after 50 ns: on link 0, later on link 1. Ends are those of links of their own."""

    def batches_on(link, start):
        pair = make_flows([({link: 1}, 1000), ({link: 1}, 2000)], other)
        single = make_flows([({link: 1}, 700)], other)
        return [(start, [pair]), (start + 50, [single])]

    network, batches = run_flow_network(other, [*batches_on(0, 0), *batches_on(1, 1000)])
    on_one, alone = run_flow_network(other, batches_on(1, 1000))
    assert ends_of(batches)[2:] == ends_of(alone)
    assert network.num_solves == times * on_one.num_solves > 0
    assert network.link_use().num_bytes.tolist() == pytest.approx([3700, 3700], rel=FLOAT_REL)


def test_links_that_carry_the_same_have_an_account_each():
    """Nine spines that share a flow, and one that two flows share: bytes, time and load of each link."""
    spines = dict.fromkeys(range(1, 10), 1 / 9)
    flows = [({0: 1, **spines}, 9000), ({10: 1, **spines}, 18_000), ({11: 1, **spines}, 900)]
    network, _ = run_flow_network([10] * 12, [(0, [make_flows(flows, [10] * 12)])])
    use = network.link_use()
    assert use.num_bytes.tolist() == pytest.approx([9000, *[3100] * 9, 18_000, 900], rel=FLOAT_REL)
    assert use.busy_s.tolist() == [900e-9, *[1800e-9] * 9, 1800e-9, 90e-9]
    assert use.bottleneck_s.tolist() == pytest.approx([900e-9, *[0] * 9, 1800e-9, 90e-9])


# --- the plain solver as oracle ------------------------------------------------------------------------------------


@settings(PATIENT, max_examples=300)
@given(flow_traffic(num_transfers=1), st.floats(0.0, 1.0))
def test_rates_are_those_of_the_plain_solver_at_any_time(case, fraction):
    """At the start, and after some flows have ended: the kept order of links gives what solving anew gives."""
    capacity, ((_, (transfer,)),) = case
    end_ns = kernel.run(state_of(transfer, capacity), 0, NO_STOP)[0]
    state = state_of(transfer, capacity)
    kernel.run(state, 0, int(fraction * end_ns))
    active = np.flatnonzero(state.bottleneck >= 0)
    weights = [weights_of(transfer)[flow] for flow in active]
    wanted = max_min_rates(weights, np.array(capacity) * BYTE_PER_NS)
    assert rates_of(state)[active] == pytest.approx(wanted, rel=RATE_REL)


@settings(PATIENT, max_examples=300)
@given(flow_traffic(num_transfers=1))
def test_a_transfer_alone_ends_when_the_slow_simulation_says(case):
    """To the nanosecond; float noise may round one end the other way."""
    capacity, starts = case
    assert abs(ends_of(run_flow_network(capacity, starts)[1])[0] - slow_ends(capacity, starts)[0]) <= 1


@settings(PATIENT, max_examples=300)
@given(flow_traffic())
def test_transfers_that_meet_end_when_the_slow_simulation_says(case):
    """The slow one lets any flows with under 1 ns left end together, the network those of a component: 1 ns a flow."""
    capacity, starts = case
    num_flows = sum(transfer.flows.num_bytes.size for _, (transfer,) in starts)
    difference = np.array(ends_of(run_flow_network(capacity, starts)[1])) - np.array(slow_ends(capacity, starts))
    assert np.abs(difference).max() <= num_flows


class Unshared(FlowNetwork):
    """A network broken on purpose: transfers never meet."""

    def _merge(self, members, _):
        super()._merge(members, [])


def test_the_slow_simulation_notices_a_network_that_does_not_share():
    """Two transfers on one link, each as if alone: the oracle says otherwise."""
    starts = [(0, [make_flows([({0: 1}, 1000)], [1])])] * 2
    assert ends_of(run_network([1], starts, network=Unshared)[1]) == [1000, 1000]
    assert slow_ends([1], starts) == [2000, 2000]


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.6, 0.95])
def test_rates_on_a_cluster_are_those_of_the_plain_solver(fraction):
    """A random all-to-all of 16 ranks, on links of three kinds: NVLink, NICs, and leaves spread over spines."""
    cluster = make_cluster(16)
    exchange = all_to_all(range(16), np.random.default_rng(7).uniform(1e5, 2e6, (16, 16)))
    links, owner = cluster.flow_links(exchange.src, exchange.dst), np.zeros(exchange.src.size, dtype=np.int64)
    state = build_state(links, exchange.num_bytes, owner, cluster.capacity_bytes_per_s)
    kernel.run(state, 0, int(fraction * 280_000))
    active = np.flatnonzero(state.bottleneck >= 0)
    assert (active.size == 240) == (fraction == 0.0)
    rows = [slice(links.first[flow], links.first[flow + 1]) for flow in active]
    wanted = max_min_rates([(links.links[row], links.share[row]) for row in rows], cluster.capacity_bytes_per_s)
    assert rates_of(state)[active] == pytest.approx(wanted, rel=RATE_REL)


# --- certificates --------------------------------------------------------------------------------------------------


@PATIENT
@given(flow_traffic())
def test_links_carry_the_bytes_of_their_flows(case):
    """Each byte once, however often flows were let run again."""
    capacity, starts = case
    network, _ = run_flow_network(capacity, starts)
    wanted = np.zeros(len(capacity))
    for _, (transfer,) in starts:
        wanted[transfer.load.links] += transfer.load.num_bytes
    use = network.link_use()
    assert use.num_bytes == pytest.approx(wanted, rel=FLOAT_REL)
    assert network.bytes_received == pytest.approx(network.bytes_sent, rel=FLOAT_REL)
    assert use.utilisation.max() <= 1
    assert use.utilisation[-1].tolist() == [0.0]
    assert len(network._components) == 0


@PATIENT
@given(flow_traffic(num_transfers=1), st.floats(0.0, 1.0))
def test_no_link_is_over_its_capacity_at_any_time(case, fraction):
    """Rates of the flows that are left, added up on each link."""
    capacity, ((_, (transfer,)),) = case
    end_ns = kernel.run(state_of(transfer, capacity), 0, NO_STOP)[0]
    state = state_of(transfer, capacity)
    kernel.run(state, 0, int(fraction * end_ns))
    links = transfer.flows.links
    used = np.bincount(links.links, weights=links.share * rates_of(state)[links.flow_of_entry], minlength=len(capacity))
    assert (used <= np.array(capacity) * BYTE_PER_NS * (1 + FLOAT_REL)).all()


# --- bulk ------------------------------------------------------------------------------------------------------------


@PATIENT
@given(flow_traffic(num_transfers=1))
def test_a_transfer_alone_takes_at_least_as_long_as_its_busiest_link_drains(case):
    """The theorem on the direction: flow >= bulk. Flows end up to 1 ns early, one after another: at most 1 ns each."""
    capacity, ((start_ns, (transfer,)),) = case
    (end_ns,) = ends_of(run_flow_network(capacity, case[1])[1])
    assert end_ns - start_ns - transfer.latency_ns >= transfer.alone_ns - transfer.flows.num_bytes.size


@PATIENT
@given(st.data())
def test_transfers_in_bulk_end_when_the_fluid_network_ends_them(data):
    """Without flows of their own both networks say the same; ends rounded apart shift others by 1 ns each."""
    capacity, starts = data.draw(flow_traffic())
    bulk = [
        (start_ns, [make_transfer(dict(zip(t.load.links.tolist(), t.load.num_bytes.tolist(), strict=True)), capacity)])
        for start_ns, (t,) in starts
    ]
    flow = ends_of(run_flow_network(capacity, bulk)[1])
    fluid = ends_of(run_network(capacity, bulk, network=FluidNetwork)[1])
    assert all(abs(a - b) <= len(bulk) for a, b in zip(flow, fluid, strict=True))


@pytest.mark.parametrize("num_gpus", [8, 16, 64])
def test_equal_matrices_end_in_flow_when_they_end_in_bulk(num_gpus):
    """To the nanosecond: equal flows leave the busiest link together."""
    costs = Costs(make_cluster(num_gpus), dtype="bf16", network=NetworkSettings(fidelity="flow"))
    matrix = np.full((num_gpus, num_gpus), 1e6)
    transfer = costs.exchanges.round_trip(np.arange(num_gpus), np.arange(num_gpus), matrix, group=0)[0]
    assert _end_on(costs.cluster, transfer) == transfer.latency_ns + transfer.alone_ns


def test_random_matrices_end_no_earlier_in_flow():
    """On a cluster: sizes from 0.1 to 2 MB, a pair each."""
    costs = Costs(make_cluster(16), dtype="bf16", network=NetworkSettings(fidelity="flow"))
    matrix = np.random.default_rng(3).uniform(1e5, 2e6, (16, 16))
    transfer = costs.exchanges.round_trip(np.arange(16), np.arange(16), matrix, group=0)[0]
    assert _end_on(costs.cluster, transfer) >= transfer.latency_ns + transfer.alone_ns


@pytest.mark.parametrize("num_gpus", [8, 32])
def test_links_that_cannot_be_full_change_no_end(num_gpus):
    """Three exchanges of random bytes that meet: the ends are the same where only the others are shared."""
    costs = Costs(make_cluster(num_gpus), dtype="bf16", network=NetworkSettings(fidelity="flow"))
    rng, ranks = np.random.default_rng(4), np.arange(num_gpus)
    transfers = [
        costs.exchanges.round_trip(ranks, ranks, rng.exponential(1e5, (num_gpus,) * 2), group=0)[0] for _ in range(3)
    ]
    whole, fewer = (
        _ends_on(costs.cluster, transfers, can_saturate=chosen) for chosen in (None, costs.cluster.can_saturate)
    )
    assert max(abs(a - b) for a, b in zip(whole, fewer, strict=True)) <= 1  # float noise may round the other way


def _end_on(cluster, transfer):
    return _ends_on(cluster, [transfer])[0]


def _ends_on(cluster, transfers, **kwargs):
    clock = Clock()
    links = (cluster.capacity_bytes_per_s, cluster.link_names, cluster.link_kinds)
    batch = FlowNetwork(clock, *links, **kwargs).begin(transfers)
    clock.run()
    return batch.end_ns


def test_costs_attach_flows_to_exchanges_under_flow_only():
    """An all-to-all has a flow for each pair that sends; rings stay one transfer, and bulk has none."""
    ranks, matrix = np.arange(8), np.full((8, 8), 100.0)
    bulk, flow = (
        Costs(make_cluster(8), dtype="bf16", network=NetworkSettings(fidelity=fidelity))
        for fidelity in ("bulk", "flow")
    )
    assert bulk.exchanges.round_trip(ranks, ranks, matrix, group=0)[0].flows is None
    assert flow.exchanges.round_trip(ranks, ranks, matrix, group=0)[0].flows.num_bytes.tolist() == [100.0] * 56
    assert flow.transfers.collective("all_reduce", ranks, 100.0, group=0).flows is None


def test_a_run_is_the_same_in_both_fidelities_where_matrices_are_equal():
    """Balanced routing and one stage, so that no two transfers meet: every end is the same."""
    works = [make_work("EP16_TP16_PP1", "megatron", fidelity=fidelity) for fidelity in ("bulk", "flow")]
    bulk, flow = (run_plan(PipelinePlan(work)).trace["end_ns"].tolist() for work in works)
    assert bulk == flow


def test_a_random_run_conserves_bytes_and_repeats_itself():
    """Multinomial routing, twice: the same trace, and every byte that left has come."""
    runs = [
        run_plan(PipelinePlan(make_work("EP16_TP16_PP1", "megatron", fidelity="flow", routing="multinomial")))
        for _ in range(2)
    ]
    assert runs[0].bytes_received == pytest.approx(runs[0].bytes_sent, rel=FLOAT_REL)
    assert runs[0].trace["end_ns"].tolist() == runs[1].trace["end_ns"].tolist()


# --- compiled ------------------------------------------------------------------------------------------------------


def test_short_runs_do_not_pay_for_the_compiler():
    """Few steps are interpreted, whether numba is there or not."""
    assert choose_run(100) is kernel.run


def test_compiled_and_interpreted_give_the_same_bits():
    """A random all-to-all of 16 ranks: tallies and ends equal, not nearly equal."""
    pytest.importorskip("numba")
    cluster = make_cluster(16)
    exchange = all_to_all(range(16), np.random.default_rng(5).uniform(1e5, 2e6, (16, 16)))
    links, owner = cluster.flow_links(exchange.src, exchange.dst), np.zeros(exchange.src.size, dtype=np.int64)
    states = [build_state(links, exchange.num_bytes, owner, cluster.capacity_bytes_per_s) for _ in range(2)]
    results = [run(state, 0, NO_STOP) for run, state in zip((kernel.run, compiled_run()), states, strict=True)]
    assert results[0] == results[1]
    assert states[0].end_ns.tolist() == states[1].end_ns.tolist()
    assert states[0].tally.tolist() == states[1].tally.tolist()


def test_flow_by_flow_a_link_that_is_full_is_the_bottleneck():
    """Two flows of 100 bytes on links of 1 and 2 bytes/ns: full for 100 and for 50 ns."""
    capacity = [1, 2]
    exchange = make_flows([({0: 1}, 100_000), ({1: 1}, 200_000), ({1: 0.1}, 100)], capacity)
    network, _ = run_network(capacity, [(0, [exchange])], network=FlowNetwork)
    use = network.link_use()
    assert use.bottleneck_s[0] * 1e9 == pytest.approx(100_000, rel=1e-3)
    assert use.hottest.tolist()[:2] == [1, 0]
    assert use.hot_utilisation.max() <= 1
