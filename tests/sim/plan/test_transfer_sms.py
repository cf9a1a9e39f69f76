"""SMs of real collectives: how they bound a transfer, whom they occupy, and every certificate on runs with them."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from certificates import CERTIFICATES, links_carry_the_bytes_of_all_transfers, observe
from handmade import BYTE_PER_NS, run_network
from works import make_cluster, make_work

from sim.engine.network.flows.interval import join, run_flows
from sim.engine.network.flows.kernel import choose_run
from sim.engine.network.flows.network import FlowNetwork
from sim.engine.network.fluid import FluidNetwork
from sim.engine.simulation import run_plan
from sim.errors import SimulationError
from sim.plan.costs import Costs
from sim.plan.pipeline import PipelinePlan
from sim.plan.transfer_costs import TransferSms
from sim.results.path import path_ns
from sim.results.stages import stages_ns
from workloads.collectives.settings import NetworkSettings

FIRST_NODE = np.arange(8)
SLOW = TransferSms(num_sms=10, bytes_per_s=1e9)
"""10 GB/s of a rank, far below an NVLink's hundreds."""


def costs_with(fidelity="bulk", **sms):
    """Return the prices of two nodes of eight H100 whose collectives take SMs."""
    return Costs(make_cluster(16), dtype="bf16", network=NetworkSettings(all_reduce="ring", fidelity=fidelity), sms=sms)


def test_a_collective_runs_at_what_its_sms_move():
    """A ring all-reduce of 8 MB over 8 ranks sends 2 * 7/8 * 8 MB = 14 MB from each: 1.4 ms at 10 GB/s."""
    transfer = costs_with(all_reduce=SLOW).transfers.collective("all_reduce", FIRST_NODE, 8e6, group=0)
    assert transfer.alone_ns == 1_400_000
    assert transfer.num_sms == 10
    assert transfer.flow_bytes / transfer.most_bytes_per_s == pytest.approx(1.4e-3, rel=1e-12)


def test_sms_that_move_more_than_the_wires_change_no_time():
    """20 SMs of 100 GB/s are no bound on an NVLink's 450 GB/s."""
    fast = TransferSms(num_sms=20, bytes_per_s=100e9)
    free, bounded = (
        costs.transfers.collective("all_reduce", FIRST_NODE, 8e6, group=0)
        for costs in (costs_with(), costs_with(all_reduce=fast))
    )
    assert (bounded.alone_ns, bounded.latency_ns) == (free.alone_ns, free.latency_ns)
    assert (free.num_sms, bounded.num_sms) == (0, 20)


def test_other_collectives_keep_their_price():
    """An all-gather takes no SMs where only the all-reduce does."""
    free, other = (
        costs.transfers.collective("all_gather", FIRST_NODE, 8e6, group=0)
        for costs in (costs_with(), costs_with(all_reduce=SLOW))
    )
    assert (other.num_sms, other.alone_ns, other.most_bytes_per_s) == (0, free.alone_ns, np.inf)


def test_a_send_takes_sms_of_senders_and_receivers():
    """1 MB from each of two ranks at 10 GB/s: 0.1 ms."""
    transfer = costs_with(send=SLOW).transfers.send(np.array([0, 1]), np.array([8, 9]), 1e6, group=0)
    assert transfer.ranks.tolist() == [0, 1, 8, 9]
    assert (transfer.num_sms, transfer.alone_ns) == (10, 100_000)


def test_an_all_to_all_is_bound_by_the_rank_that_sends_or_receives_most():
    """Rank 1 receives 3 + 4 MB, more than any sends: 0.7 ms at 10 GB/s there, and as much back, where it sends them.

    Evenly spread, with a third for each rank, rank 0 sends 2 of its 3 MB, rank 2 sends 8/3 of its 4, and rank 1
    receives 7/3: 8/3 MB take 0.267 ms. The rest is imbalance.
    """
    ranks = np.array([0, 1, 2])
    matrix = np.array([[0, 3e6, 0], [0, 0, 0], [0, 4e6, 0]])
    there, back = costs_with(all_to_all=SLOW).exchanges.round_trip(ranks, ranks, matrix, group=0)
    assert (there.alone_ns, back.alone_ns) == (700_000, 700_000)
    assert there.num_sms == back.num_sms == 10
    assert there.imbalance_ns == back.imbalance_ns == 700_000 - 266_667


def test_an_exchange_of_nothing_takes_no_sms():
    """Of a rank with itself."""
    there, _ = costs_with(all_to_all=SLOW).exchanges.round_trip(
        FIRST_NODE[:1], FIRST_NODE[:1], np.array([[5e6]]), group=0
    )
    assert (there.num_sms, there.alone_ns) == (0, 0)


def test_in_flow_sms_bound_all_pairs_of_a_rank_together():
    """Rank 1 receives 3 MB and 4 MB at 5 GB/s each, to 0.6 ms; then 1 MB at 10 GB/s, to 0.7 ms. Back, it sends so."""
    ranks = np.array([0, 1, 2])
    matrix = np.array([[0, 3e6, 0], [0, 0, 0], [0, 4e6, 0]])
    costs = costs_with(fidelity="flow", all_to_all=SLOW)
    for transfer in costs.exchanges.round_trip(ranks, ranks, matrix, group=0):
        num_links = costs.cluster.capacity_bytes_per_s.size
        course = run_flows(
            join([transfer], costs.cluster.capacity_bytes_per_s), [transfer.flows.num_bytes], choose_run(1)
        )
        assert course.elapsed_ns == transfer.alone_ns == 700_000
        assert course.num_solves == 2
        assert course.groups.links.max() < num_links


@pytest.mark.parametrize("sms", [{}, {"all_to_all": SLOW}, {"all_to_all": TransferSms(num_sms=20, bytes_per_s=12e9)}])
def test_equal_matrices_take_as_long_in_flow_as_in_bulk(sms):
    """Two all-to-alls of 16 ranks that meet, 1 MB for each pair of the one and 0.7 MB of the other."""
    ranks = np.arange(16)
    ends = []
    for fidelity, network in (("bulk", FluidNetwork), ("flow", FlowNetwork)):
        costs = costs_with(fidelity=fidelity, **sms)
        transfers = [
            costs.exchanges.round_trip(ranks, ranks, np.full((16, 16), size), group=0)[0] for size in (1e6, 0.7e6)
        ]
        transfers = [replace(transfer, num_sms=0) for transfer in transfers]  # whoever counts them
        capacity = (costs.cluster.capacity_bytes_per_s / BYTE_PER_NS).tolist()
        ends.append(run_network(capacity, [(0, transfers)], network=network)[1][0].end_ns)
    assert np.abs(np.subtract(*ends)).max() <= 1


@pytest.mark.parametrize(("num_sms", "bytes_per_s"), [(0, 1e9), (-1, 1e9), (4, 0.0), (4, np.nan)])
def test_impossible_sms_are_refused(num_sms, bytes_per_s):
    """When they are given."""
    with pytest.raises(SimulationError, match="num_sms must be at least 1 and bytes_per_s above 0"):
        TransferSms(num_sms=num_sms, bytes_per_s=bytes_per_s)


# --- runs ------------------------------------------------------------------------------------------------------------

SMS = {
    "all_reduce": TransferSms(num_sms=20, bytes_per_s=10e9),
    "all_gather": TransferSms(num_sms=16),
    "reduce_scatter": TransferSms(num_sms=16, bytes_per_s=20e9),
    "all_to_all": TransferSms(num_sms=8, bytes_per_s=15e9),
    "send": TransferSms(num_sms=2, bytes_per_s=5e9),
}
RUNS = {
    "megatron": ("EP8_TP2_PP2_DP4", "megatron", {"kind": "training", "routing": "multinomial", "sp": True}),
    "lanes that reduce together": ("EP4_TP2_PP2_DP4", "megatron", {"kind": "training", "sp": True}),
    "vllm": ("EP8_TP8_PP2", "vllm", {"routing": "multinomial", "sp": False}),
    "spanning": ("EP16_TP2_PP4_DP2", "spanning", {"kind": "training", "routing": "multinomial", "sp": False}),
    "flow": ("EP16_TP4_PP4", "spanning", {"routing": "multinomial", "sp": False, "fidelity": "flow"}),
}


def plan_with_sms(work, sms, folds=False):
    """Return the plan of a work whose collectives take SMs."""
    plan = PipelinePlan(work, folds=folds)
    plan.costs = Costs(
        work.cluster,
        dtype=work.model.dtype,
        network=work.network,
        is_random=not work.has_balanced_routing,
        sms=sms,
    )
    plan.num_sms = plan.costs.num_sms
    return plan


@cache
def observe_run(name):
    """Run a case once for all certificates."""
    strategy, convention, changes = RUNS[name]
    work = make_work(strategy, convention, **changes)
    return observe(work, plan_with_sms(work, SMS))


@pytest.mark.parametrize(
    ("name", "certificate"),
    [
        pytest.param(name, certificate, id=f"{name}-{certificate.__name__}")
        for name in RUNS
        for certificate in CERTIFICATES.values()
        if name != "flow" or certificate is not links_carry_the_bytes_of_all_transfers  # witnessed in bulk only
    ],
)
def test_every_run_with_sms_keeps(name, certificate):
    """What every run keeps."""
    certificate(observe_run(name))


@pytest.mark.parametrize("name", RUNS)
def test_kernels_beside_sends_and_foreign_exchanges_have_contention(name):
    """And the step is longer than where transfers take none and are bound by wires alone."""
    seen = observe_run(name)
    is_kernel = np.isin(seen.column("stream"), ("compute", "foreign"))
    assert seen.column("contention_ns")[is_kernel].sum() > 0
    free = run_plan(PipelinePlan(seen.work)).trace
    assert seen.run.trace.step_ns > free.step_ns


@pytest.mark.parametrize("kind", ["forward", "training"])
def test_a_folded_run_with_sms_gives_the_figures_of_all_lanes(kind):
    """Lanes that are alike slow their own ranks alike, and joint transfers take SMs of those that run."""
    work = make_work("EP4_TP2_PP2_DP4", "megatron", kind=kind, sp=True)
    folded, whole = (run_plan(plan_with_sms(work, SMS, folds=folds)).trace for folds in (True, False))
    assert folded.num_folded > 0
    assert stages_ns(folded) == stages_ns(whole)
    assert path_ns(folded) == path_ns(whole)
    is_kernel = whole["stream"] == "compute"
    assert (
        whole["contention_ns"][is_kernel].sum()
        == folded.unfolded()["contention_ns"][folded.unfolded()["stream"] == "compute"].sum()
        > 0
    )


def test_a_plan_says_how_many_sms_a_rank_has_where_transfers_take_some():
    """132 of an H100; none where none does."""
    work = make_work("EP8_TP8_PP2", "vllm", sp=False)
    assert PipelinePlan(work).num_sms is None
    assert plan_with_sms(work, SMS).num_sms == 132
