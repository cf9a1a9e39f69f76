"""Prices that the runs of a process share are those that each would find on its own."""

from functools import partial

import numpy as np
import pytest

import sim.plan.exchange_costs as exchange_module
import sim.plan.kernel_costs as kernel_module
import sim.plan.transfer_costs as module
from sim.plan.exchange_costs import ExchangeCosts
from sim.plan.kernel_costs import KernelCosts
from sim.plan.logs import PairLog
from sim.plan.transfer_costs import TransferCosts
from topology.cluster import build_cluster
from topology.presets.clusters import FABRICS
from topology.presets.devices import DEVICES
from topology.profiles import bundled_profile
from topology.uncertainty import Factors
from workloads.collectives.settings import ALL_TO_ALLS
from workloads.kernels import Gemm, GroupedGemm

OPERATIONS = ("all_reduce", "all_gather", "reduce_scatter")
GROUPS = [np.arange(8), np.arange(8, 16), np.arange(0, 64, 8), np.arange(1, 64, 8), np.array([17, 16, 25, 24])]


def cluster(num_nodes=8):
    return build_cluster(FABRICS["dgx-h100"], num_nodes, DEVICES["h100-sxm"])


def priced(costs, operation, ranks, group):
    """Return all that a transfer says."""
    made = costs.collective(operation, ranks, 3e6, group=group)
    times = (made.latency_ns, made.alone_ns, made.flow_bytes, made.total_bytes, made.group, made.ranks.tolist())
    return (*times, made.load.links.tolist(), made.load.num_bytes.tolist())


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_group_costs_the_same_whichever_group_was_priced_first(operation):
    """Bit for bit: a group that is wired as another takes its price, links renamed, in whatever order they come."""
    alone = {i: priced(TransferCosts(cluster()), operation, ranks, i) for i, ranks in enumerate(GROUPS)}
    for order in (range(len(GROUPS)), reversed(range(len(GROUPS)))):
        shared = cluster()
        found = {i: priced(TransferCosts(shared), operation, GROUPS[i], i) for i in order}
        assert found == alone


def test_a_run_lists_the_choices_that_it_met_and_no_others():
    """The second run on a cluster prices nothing, and says how its own collectives run."""
    shared, num_priced = cluster(), []
    first, second = TransferCosts(shared), TransferCosts(shared)
    first._priced = lambda *of, price=first._priced: (num_priced.append(of), price(*of))[1]
    second._priced = lambda *_: pytest.fail("what is known is not priced again")
    for operation in OPERATIONS:
        priced(first, operation, GROUPS[0], 0)
    priced(second, "all_gather", GROUPS[0], 0)
    priced(second, "all_gather", GROUPS[1], 1)
    assert len(num_priced) == 3
    (choice,) = second.choices.values()
    assert choice in first.choices.values()
    assert choice.operation == "all_gather"


def test_a_run_that_notes_pairs_prices_what_it_notes():
    """The bytes between ranks are noted where a transfer is made, and none is known of a run that noted nothing."""
    shared, pairs = cluster(), PairLog()
    made = TransferCosts(shared).collective("all_gather", GROUPS[0], 3e6, group=0)
    pairs.is_on = True
    noted = TransferCosts(shared, pairs=pairs).collective("all_gather", GROUPS[0], 3e6, group=0)
    assert noted is not made
    assert pairs.total({noted: 1}, np.arange(64) // 8).num_bytes.sum() == pytest.approx(noted.total_bytes)


def test_very_many_prices_are_forgotten_and_found_again(monkeypatch):
    monkeypatch.setattr(module, "_MOST_KNOWN", 2)
    costs, fresh = TransferCosts(cluster()), TransferCosts(cluster())
    for i, ranks in enumerate(GROUPS):
        assert priced(costs, "all_gather", ranks, i) == priced(fresh, "all_gather", ranks, i)
    assert len(costs._shared._transfers) <= 2


def kernels_of(rng):
    """Return products, some of them outside of what was measured, and grouped products with one and four experts."""
    sizes = [int(size) for size in rng.integers(1, 2000, 4)]
    one, four = rng.integers(0, 3000, (4, 1)), rng.integers(0, 300, (4, 4))
    return [
        *(Gemm(kind="attention", m=size, n=size, k=64) for size in sizes),
        Gemm(kind="attention", m=10**6, n=3, k=3),
        *(GroupedGemm(kind="expert", tokens=tokens, n=1024, k=512) for tokens in (one, one // 9, four)),
    ]


def heard(costs, kernels):
    """Return the time of each kernel, twice, and what users should know of them."""
    times = [costs.kernel_ns(kernel, 4).tolist() for kernel in (*kernels, *kernels)]
    ops = [costs.compute(kernels[:5], 4, layer=layer).total_ns.tolist() for layer in (0, 1)]
    return times, ops, costs.warnings


def test_kernels_cost_and_warn_the_same_whatever_earlier_runs_have_priced():
    """Bit for bit; a count of kernels outside of the measured shapes is that of the run alone."""
    device, rng = DEVICES["h100-sxm"], np.random.default_rng(2)
    several = [kernels_of(rng) for _ in range(3)]

    def costs():
        return KernelCosts(device, dtype="bf16", profile=bundled_profile(device, ("pytorch",)))

    alone = []
    for kernels in several:
        kernel_module._known_prices.cache_clear()
        alone.append(heard(costs(), kernels))
    assert [heard(costs(), several[i]) for i in (2, 0, 1, 2)] == [alone[i] for i in (2, 0, 1, 2)]
    assert heard(costs(), [*several[1], *several[0]])[0][:8] == alone[1][0][:8]
    assert any(warnings for _, _, warnings in alone)


def tripped(costs, matrix):
    """Return all that a dispatch and a combine say."""
    trip = costs.round_trip(np.arange(16), np.arange(16), matrix, group=0)
    times = [(one.latency_ns, one.alone_ns, one.imbalance_ns, one.total_bytes) for one in trip]
    return times, [(one.load.links.tolist(), one.load.num_bytes.tolist()) for one in trip]


def test_exchanges_cost_the_same_whatever_earlier_runs_have_priced(monkeypatch):
    """Bit for bit; those with other factors are others, and a run that notes pairs has its own."""
    rng, shared, pairs = np.random.default_rng(4), cluster(), PairLog()
    matrices = [rng.integers(0, 9, (16, 16)) * 1e5 for _ in range(3)]
    monkeypatch.setattr(exchange_module, "_MOST_SHARED", 2)
    make = partial(ExchangeCosts, algorithm=ALL_TO_ALLS["direct"])
    alone = [tripped(make(cluster()), matrix) for matrix in matrices]
    assert [tripped(make(shared), matrices[i]) for i in (2, 0, 1, 2)] == [alone[i] for i in (2, 0, 1, 2)]
    slower = Factors(all_to_all=2.0)
    assert tripped(make(shared, factors=slower), matrices[2]) == tripped(make(cluster(), factors=slower), matrices[2])
    assert tripped(make(shared, factors=slower), matrices[2]) != alone[2]
    pairs.is_on = True
    noted, _ = make(shared, pairs=pairs).round_trip(np.arange(16), np.arange(16), matrices[2], group=0)
    assert pairs.total({noted: 1}, np.zeros(16, dtype=int)).num_bytes.sum() == pytest.approx(noted.total_bytes)
