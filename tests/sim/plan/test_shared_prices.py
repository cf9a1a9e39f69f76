"""Prices that the runs of a process share are those that each would find on its own."""

import numpy as np
import pytest

import sim.plan.transfer_costs as module
from sim.plan.logs import PairLog
from sim.plan.transfer_costs import TransferCosts
from topology.cluster import build_cluster
from topology.presets.clusters import FABRICS
from topology.presets.devices import DEVICES

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
