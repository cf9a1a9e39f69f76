"""Exchanges of all pairs put on links what their flows put there one by one."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.errors import InvalidValueError
from topology.cluster import Cluster, build_cluster
from topology.presets.clusters import FABRICS
from topology.presets.devices import DEVICES


@cache
def make_cluster(num_nodes: int) -> Cluster:
    """Nodes of eight H100; beyond 32 of them, several units of leaves."""
    return build_cluster(FABRICS["dgx-h100"], num_nodes, DEVICES["h100-sxm"])


@st.composite
def exchanges(draw: st.DrawFn) -> tuple[Cluster, np.ndarray, np.ndarray, np.ndarray]:
    """Return a cluster, senders and receivers in any order, and whole bytes of which some are none."""
    cluster = make_cluster(draw(st.sampled_from([1, 2, 4, 40])))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    src, dst = (rng.permutation(cluster.num_gpus)[: draw(st.integers(1, 24))] for _ in range(2))
    amount = rng.integers(0, 1000, (src.size, dst.size)) * (rng.random((src.size, dst.size)) < draw(st.floats(0, 1)))
    return cluster, src, dst, amount.astype(float)


@given(exchange=exchanges(), turned=st.booleans())
def test_all_pairs_load_links_as_their_flows_do(exchange, turned):
    """The oracle lists every flow, and turns the matrix for the way back; sums of whole bytes are exact."""
    cluster, src, dst, amount = exchange
    i, j = np.indices(amount.shape).reshape(2, -1)
    ends = (dst[j], src[i]) if turned else (src[i], dst[j])
    wanted = cluster.load(*ends, amount.ravel())
    sums = cluster.pairs(src, dst).sums(np.stack([amount, amount[::-1], amount]))
    loads, drain_s = (sums.reverse if turned else sums.forward)(cluster.capacity_bytes_per_s)
    for i in (0, 2):
        np.testing.assert_array_equal(loads[i].links, wanted.links)
        np.testing.assert_array_equal(loads[i].num_bytes, wanted.num_bytes)
        assert drain_s[i] == wanted.drain_time_s(cluster.capacity_bytes_per_s)


def test_a_large_group_is_summed_one_class_at_a_time_to_the_same():
    """320 GPUs on 40 nodes: above the size up to which all classes are kept at once."""
    cluster, ranks = make_cluster(40), np.arange(320)
    amount = np.random.default_rng(1).integers(0, 3, (2, 320, 320)).astype(float)
    sums = cluster.pairs(ranks, ranks).sums(amount)
    i, j = np.indices(amount.shape[1:]).reshape(2, -1)
    for n, load in enumerate(sums.forward(cluster.capacity_bytes_per_s)[0]):
        wanted = cluster.load(i, j, amount[n].ravel())
        np.testing.assert_array_equal(load.links, wanted.links)
        np.testing.assert_array_equal(load.num_bytes, wanted.num_bytes)
        sends = (amount[n] > 0) & (ranks[:, None] != ranks)
        assert (sums.num_flows[n], sums.total_bytes[n]) == (sends.sum(), amount[n][sends].sum())


@given(exchange=exchanges())
def test_all_pairs_know_their_bytes_and_their_slowest_pair(exchange):
    """Pairs that send nothing have no latency; a rank's bytes to itself do not count."""
    cluster, src, dst, amount = exchange
    sends = (amount > 0) & (src[:, None] != dst)
    i, j = np.nonzero(sends)
    sums = cluster.pairs(src, dst).sums(np.stack([np.zeros(amount.shape), amount]))
    assert sums.total_bytes == [0.0, amount[sends].sum()]
    assert sums.num_flows == [0, sends.sum()]
    assert sums.latency_s == [0.0, cluster.latency_s(src[i], dst[j]).max(initial=0.0)]


@pytest.mark.parametrize("matrix", [np.ones((2, 3)), np.array([[0.0, -1.0], [0.0, 0.0]]), np.full((2, 2), np.nan)])
def test_bytes_that_are_none_are_refused(matrix):
    """A wrong shape, a negative entry and NaN."""
    with pytest.raises(InvalidValueError, match="byte_matrix must have shape"):
        make_cluster(1).pairs(np.arange(2), np.arange(2)).sums(matrix[None])
