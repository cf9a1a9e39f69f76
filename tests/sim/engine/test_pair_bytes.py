"""Bytes between every two ranks: by hand, and conserved over collectives, routing and folded lanes."""

import numpy as np
import pytest
from handmade import make_transfer

from sim.plan.logs import PairLog
from sim.run.simulate import simulate_scenario
from sim.scenario.load import load_scenario
from workloads.collectives import nvls_all_reduce


def test_bytes_count_as_often_as_a_transfer_ended_and_not_from_a_rank_to_itself():
    """Two transfers: one of 0 to 1 and 1 to 1, ended three times; one of a matrix, ended once; one never."""
    log, (a, b, c) = PairLog(), (make_transfer({0: 1}, [1]) for _ in range(3))
    log.is_on = True
    log.note(a, np.array([0, 1]), np.array([1, 1]), np.array([10.0, 99.0]))
    log.note(b, np.array([[1], [2]]), np.array([0, 2]), np.array([[1.0, 2.0], [3.0, 4.0]]))
    log.note(c, np.array([0]), np.array([2]), np.array([77.0]))
    use = log.total({a: 3, b: 1}, node_of=np.array([0, 0, 1]))
    assert use.num_bytes.tolist() == [[0, 30, 0], [1, 0, 2], [3, 0, 0]]
    assert (use.ranks_per_row, use.node_of.tolist()) == (1, [0, 0, 1])


def test_bytes_that_a_switch_reduces_are_listed_apart():
    """An all-reduce of 100 bytes over four GPUs of a node by NVLS: 120 to the switch from each, none between two."""
    exchange = nvls_all_reduce([0, 1, 2, 3], [0, 0, 0, 0], 100.0)
    log, transfer = PairLog(), make_transfer({0: 1}, [1])
    log.is_on = True
    log.note(transfer, exchange.src, exchange.dst, exchange.num_bytes, num_by_switch=exchange.num_by_switch)
    use = log.total({transfer: 2}, node_of=np.zeros(4, dtype=np.intp))
    assert use.by_switch.sum(axis=1).tolist() == use.by_switch.sum(axis=0).tolist() == [240] * 4
    assert (use.num_bytes == use.by_switch).all()
    two_nodes = nvls_all_reduce([0, 1, 8, 9], [0, 0, 1, 1], 100.0)
    nodes = two_nodes.src // 8 == two_nodes.dst // 8
    assert (nodes == (np.arange(nodes.size) < two_nodes.num_by_switch)).all()  # what crosses nodes is between two GPUs


def test_nothing_is_noted_unless_it_is_asked_for():
    """It would keep the matrices of all draws."""
    log, transfer = PairLog(), make_transfer({0: 1}, [1])
    log.note(transfer, np.array([0]), np.array([1]), np.array([1.0]))
    assert log.total({transfer: 1}, node_of=np.array([0, 0])).num_bytes.sum() == 0


def test_more_than_a_thousand_ranks_share_rows():
    """1,500 ranks: rows of two."""
    log, transfer = PairLog(), make_transfer({0: 1}, [1])
    log.is_on = True
    log.note(transfer, np.array([1, 1499]), np.array([1498, 0]), np.array([5.0, 7.0]))
    use = log.total({transfer: 1}, node_of=np.arange(1500) // 8)
    assert use.num_bytes.shape == (750, 750)
    assert (use.num_bytes[0, 749], use.num_bytes[749, 0], use.ranks_per_row) == (5, 7, 2)
    assert use.node_of[749] == 1498 // 8


@pytest.mark.parametrize(
    "changes",
    [
        ["workload.microbatches=4"],
        ["workload.microbatches=4", "routing.kind=multinomial"],
        ["workload.microbatches=4", "parallel.strategy=EP8_TP2_PP2"],  # replicas, of which one is run
        ["workload.microbatches=2", "network.fidelity=flow"],
    ],
    ids=["balanced", "random", "folded", "flow by flow"],
)
def test_all_bytes_that_are_sent_are_between_two_ranks(changes):
    """The sum over pairs is what the network counted."""
    small = ["claims=[]", "alternatives=[]", "rivals=[]", "workload.batches=1"]
    seen = simulate_scenario(load_scenario("ep16_tp16_pp4", overrides=[*small, *changes]), pairs=True)
    assert seen.pairs.num_bytes.sum() == pytest.approx(seen.run.bytes_sent, rel=1e-9)
    assert (np.diag(seen.pairs.num_bytes) == 0).all()
    assert (seen.run.trace.num_folded > 0) == ("parallel.strategy=EP8_TP2_PP2" in changes)


def test_replicas_have_the_pairs_of_the_one_that_ran_in_their_places():
    """Each node pair block of a replica equals that of the first."""
    changes = ["claims=[]", "alternatives=[]", "rivals=[]", "workload.microbatches=4", "parallel.strategy=EP8_TP2_PP2"]
    seen = simulate_scenario(load_scenario("ep16_tp16_pp4", overrides=changes), pairs=True)
    lanes = seen.run.trace.lane_ranks
    first, other = (lanes[:, lane].ravel() for lane in (0, lanes.shape[1] - 1))
    blocks = [seen.pairs.num_bytes[np.ix_(ranks, ranks)] for ranks in (first, other)]
    assert blocks[0].sum() > 0
    assert blocks[0] == pytest.approx(blocks[1])
