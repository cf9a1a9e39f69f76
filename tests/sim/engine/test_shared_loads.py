"""Loads that keep the bytes of groups of links that carry the same: every figure is that of loads link by link."""

from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
from works import make_work

from sim.engine.simulation import run_plan
from sim.plan.pipeline import PipelinePlan
from topology import pairs
from topology.cluster import build_cluster
from topology.links import SharedLoad
from topology.presets.clusters import FABRICS
from topology.presets.devices import DEVICES

SPREAD = replace(FABRICS["dgx-h100"], nodes_per_leaf=1, spines_per_unit=6)
"""A leaf for each rail and node, and spines between them."""


def spread_cluster():
    """Return four nodes whose traffic goes over spines."""
    return build_cluster(SPREAD, 4, DEVICES["h100-sxm"])


@pytest.mark.parametrize("with_zeros", [False, True])
@pytest.mark.parametrize("has_weights", [False, True])
def test_a_shared_load_is_the_load_link_by_link(with_zeros, has_weights):
    """Both ways, with every figure to the last digit, though some ranks send nothing."""
    rng = np.random.default_rng(3)
    matrices = rng.integers(1, 100, (3, 16, 16)).astype(float)
    if with_zeros:
        matrices[0, 3:9] = 0.0
        matrices[1, :, 8:] = 0.0
    found = {}
    for most in (0, 1 << 40):
        with patch.object(pairs, "_MANY_ALIKE", most):
            cluster = spread_cluster()
            weight = None
            if has_weights:
                weight = np.where(np.array(cluster.link_kinds) == "nic", 1.25, 1.0)
            sums = cluster.pairs(np.arange(16), np.arange(16)).sums(matrices)
            found[most] = [way(cluster.capacity_bytes_per_s, weight) for way in (sums.forward, sums.reverse)]
    for (shared, shared_s), (plain, plain_s) in zip(*found.values(), strict=True):
        np.testing.assert_array_equal(shared_s, plain_s)
        for one, other in zip(shared, plain, strict=True):
            assert isinstance(one, SharedLoad) > isinstance(other, SharedLoad)
            np.testing.assert_array_equal(one.links, other.links)
            np.testing.assert_array_equal(one.num_bytes, other.num_bytes)
            capacity = cluster.capacity_bytes_per_s
            assert one.drain_time_s(capacity) == other.drain_time_s(capacity)


def test_a_run_with_shared_loads_is_that_without():
    """Replicas on four nodes whose random exchanges share spines: the trace, and links but for the order of sums."""
    runs = []
    for most in (0, 1 << 40):
        with patch.object(pairs, "_MANY_ALIKE", most):
            work = make_work("EP16_TP4_PP1_DP8", "megatron", num_gpus=32, routing="multinomial", microbatches=2)
            runs.append(run_plan(PipelinePlan(replace(work, cluster=spread_cluster()))))
    shared, plain = runs
    for name, column in plain.trace.columns.items():
        np.testing.assert_array_equal(shared.trace.columns[name], column)
    one, other = shared.trace.link_use, plain.trace.link_use
    for name in ("busy_s", "time_ns", "bottleneck_s", "hottest"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    np.testing.assert_allclose(one.num_bytes, other.num_bytes, rtol=1e-12)
    np.testing.assert_allclose(one.utilisation, other.utilisation, atol=1e-12)
    np.testing.assert_allclose(one.hot_utilisation, other.hot_utilisation, atol=1e-9)
