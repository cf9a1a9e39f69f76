"""Two trees and NVLS: data-flow certificates, closed forms per node, and the broadcast."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloads.collectives import nvls_all_reduce, ring_broadcast, spread_inside, tree_all_reduce
from workloads.collectives.tree import two_trees

NODES = st.tuples(st.integers(1, 20), st.integers(1, 8))


def placed(num_nodes, per_node):
    """Ranks on nodes of 8, and the node of each."""
    places = [(8 * node + i, node) for node in range(num_nodes) for i in range(per_node)]
    return [rank for rank, _ in places], [node for _, node in places]


def between(exchange):
    """Return what each node sends to others, and gets from them."""
    crosses = exchange.src // 8 != exchange.dst // 8
    sent, received = Counter(), Counter()
    for a, b, num_bytes in zip(exchange.src[crosses], exchange.dst[crosses], exchange.num_bytes[crosses], strict=True):
        sent[int(a) // 8] += float(num_bytes)
        received[int(b) // 8] += float(num_bytes)
    return sent, received


@pytest.mark.parametrize("num_nodes", range(2, 40))
def test_each_tree_reaches_every_node_from_one_root(num_nodes):
    """Each has num_nodes - 1 edges, one parent for all but the root, at most two children, and no cycle."""
    edges = two_trees(num_nodes)
    for tree in (edges[: num_nodes - 1], edges[num_nodes - 1 :]):
        parent = dict(tree)
        assert len(parent) == num_nodes - 1
        assert max(Counter(parent.values()).values()) <= 2
        (root,) = set(range(num_nodes)) - set(parent)
        for node in range(num_nodes):
            seen = [node]
            while seen[-1] != root:
                seen.append(parent[seen[-1]])
                assert len(seen) <= num_nodes


@pytest.mark.parametrize("num_nodes", range(2, 40, 2))
def test_a_node_with_children_in_one_tree_has_none_in_the_other(num_nodes):
    """For an even number: which is what lets both trees use both ways of every link (Sanders et al. 2009)."""
    edges = two_trees(num_nodes)
    inner = [{parent for _, parent in tree} for tree in (edges[: num_nodes - 1], edges[num_nodes - 1 :])]
    assert len(inner[0] & inner[1]) <= 1 or num_nodes == 2
    assert not (inner[0] & inner[1]) - {0, num_nodes - 1}


@given(shape=NODES)
def test_no_node_sends_more_than_twice_the_tensor_over_the_network(shape):
    """Half of it on each edge of each tree; with two nodes once the tensor."""
    num_nodes, per_node = shape
    for algorithm in (tree_all_reduce, nvls_all_reduce):
        if algorithm is nvls_all_reduce and per_node == 1:
            continue
        sent, received = between(algorithm(*placed(num_nodes, per_node), 1.0))
        assert sent == pytest.approx(received)
        assert max(sent.values(), default=0.0) <= (1.0 if num_nodes == 2 else 2.0) * (1 + 1e-9)
        assert sum(sent.values()) == pytest.approx(2 * (num_nodes - 1))  # each node's part up, and the sum down


@given(shape=NODES)
def test_every_edge_of_the_trees_is_used_on_every_rail(shape):
    """All rails carry the same."""
    num_nodes, per_node = shape
    exchange = tree_all_reduce(*placed(num_nodes, per_node), 8.0)
    crosses = exchange.src // 8 != exchange.dst // 8
    assert (exchange.src[crosses] % 8 == exchange.dst[crosses] % 8).all()
    by_rail = np.bincount(exchange.src[crosses] % 8, weights=exchange.num_bytes[crosses], minlength=8)
    assert by_rail[:per_node] == pytest.approx(16.0 * (num_nodes - 1) / per_node)


def test_the_chain_of_a_tree_is_that_of_nccl():
    """src/graph/tuning.cc: 2 (ranks of a node - 1) inside, 2 log2(nodes) between."""
    steps = tree_all_reduce(*placed(8, 8), 1.0).steps
    assert [step.count for step in steps] == [2 * 7, 2 * 3]


def test_the_switch_reduces_in_one_message_and_six_fifths_of_the_tensor():
    """NCCL's cost model: 5/6 of the bandwidth, for any number of ranks."""
    exchange = nvls_all_reduce(*placed(1, 8), 5.0)
    assert np.bincount(exchange.src, weights=exchange.num_bytes).tolist() == pytest.approx([6.0] * 8)
    assert [step.count for step in exchange.steps] == [1]


@pytest.mark.parametrize("sizes", [(3, 1), (1, 8)])
def test_without_two_ranks_on_every_node_there_is_nothing_for_the_switch(sizes):
    """A ring then: the same bytes from every rank."""
    num_nodes, per_node = sizes if sizes[1] == 1 else (1, 1)
    exchange = nvls_all_reduce(*placed(num_nodes, per_node), 3.0)
    assert exchange.total_bytes == pytest.approx(2 * (num_nodes * per_node - 1) * 3.0)


@given(shape=NODES)
def test_a_broadcast_reaches_all_and_returns_nothing_to_the_root(shape):
    """Every other rank gets the tensor once."""
    ranks, nodes = placed(*shape)
    exchange = ring_broadcast(ranks, nodes, 6.0)
    got = np.bincount(exchange.dst, weights=exchange.num_bytes, minlength=8 * shape[0])
    assert got[ranks[0]] == 0
    assert got[ranks[1:]] == pytest.approx(6.0)


@given(shape=NODES)
def test_spreading_inside_changes_no_sum_of_a_node_and_nothing_between(shape):
    """Pairs of a node carry the same, and together what they carried before."""
    ranks, nodes = placed(*shape)
    exchange = tree_all_reduce(ranks, nodes, 4.0)
    spread = spread_inside(exchange, ranks, nodes)
    assert spread.total_bytes == pytest.approx(exchange.total_bytes)
    assert between(spread) == between(exchange)
    stays = spread.src // 8 == spread.dst // 8
    pairs = shape[1] * (shape[1] - 1)
    if pairs:
        assert spread.num_bytes[stays] == pytest.approx(2 * 4.0 * (shape[1] - 1) / pairs)
