"""A cluster: paths are shortest paths of its graph, and loads are what a slow walk over every path adds up to."""

from collections import Counter
from functools import cache
from itertools import pairwise

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topology.cluster import Cluster, build_cluster
from topology.fabric import FabricSpec
from topology.nodes import NvSwitchNode
from topology.presets.clusters import CLUSTERS, FABRICS
from topology.presets.devices import DEVICES

ROUNDING = 1e-12
"""Sums of fewer than 1,000 positive floats, in any order: 1,000 * 2^-53 = 1.1e-13."""
REGULAR = [name for name, preset in CLUSTERS.items() if isinstance(preset.fabric.node, NvSwitchNode)]
PRESETS = pytest.mark.parametrize("preset", REGULAR)
MEASURED_S = {
    "ib-hdr": (2.8e-6, 3.7e-6),
    "ib-ndr": (2.8e-6, 3.7e-6),
    "ib-xdr": (2.8e-6, 3.7e-6),
    "roce": (3.6e-6, 5.6e-6),
    "tcpxo": (3.6e-6, 5.6e-6),
}
"""End to end under one leaf and across leaves: DeepSeek-AI, "Insights into DeepSeek-V3", 2025; of TCPXO assumed."""
# Two units, the second not full, and a number of spines that does not divide the bytes evenly.
SMALL = FabricSpec(
    name="small",
    gpus_per_node=3,
    nvlink=FABRICS["dgx-h100"].nvlink,
    pcie=FABRICS["dgx-h100"].pcie,
    nic=FABRICS["dgx-h100"].nic,
    leaf_hop=FABRICS["dgx-h100"].leaf_hop,
    node=FABRICS["dgx-h100"].node,
    wiring=FABRICS["dgx-h100"].wiring,
    nodes_per_leaf=2,
    spines_per_unit=3,
)


@cache
def cluster_of(preset: str, num_nodes: int) -> Cluster:
    if preset == "small":
        return build_cluster(SMALL, num_nodes, DEVICES["h100-sxm"])
    return build_cluster(CLUSTERS[preset].fabric, num_nodes, DEVICES[CLUSTERS[preset].device])


def two_units(preset: str) -> Cluster:
    """Return a full unit and a quarter: 40 nodes of DGX H100."""
    spec = CLUSTERS[preset].fabric
    return cluster_of(preset, spec.nodes_per_leaf + spec.nodes_per_leaf // 4)


def sampled_pairs(cluster: Cluster, *, sources: int = 6, destinations: int = 60) -> list[tuple[int, int]]:
    """Return pairs of the corners of the cluster and of ranks at random."""
    rng = np.random.default_rng(7)
    corners = [0, cluster.links.spec.gpus_per_node - 1, cluster.num_gpus - 1]
    some = [*corners, *rng.choice(cluster.num_gpus, sources - len(corners), replace=False).tolist()]
    return [
        (src, dst)
        for src in some
        for dst in {src, *corners, *rng.choice(cluster.num_gpus, destinations, replace=False).tolist()}
    ]


def assert_paths_are_shortest(cluster: Cluster, pairs: list[tuple[int, int]]) -> None:
    distances = {src: nx.single_source_shortest_path_length(cluster.graph, f"gpu{src}") for src, _ in pairs}
    for src, dst in pairs:
        path = cluster.path(src, dst)
        assert (path[0], path[-1]) == (f"gpu{src}", f"gpu{dst}")
        assert nx.is_path(cluster.graph, path), path
        assert len(path) - 1 == distances[src][f"gpu{dst}"], path


def slow_load(cluster: Cluster, flows: list[tuple[int, int, float]]) -> dict[str, float]:
    """Walk every flow over its path, or an equal part of it over each spine's path."""
    num_spines = sum(kind == "spine" for _, kind in cluster.graph.nodes(data="kind"))
    total: Counter[str] = Counter()
    for src, dst, num_bytes in flows:
        parts = num_spines if cluster.paths.path_class(src, dst) == "spine" else 1
        for spine in range(parts):
            path = cluster.paths.path(src, dst, spine=spine)
            for a, b in pairwise(path):
                total[f"{a}->{b}"] += num_bytes / parts
    return dict(total)


def fast_load(cluster: Cluster, flows: list[tuple[int, int, float]]) -> dict[str, float]:
    src, dst, num_bytes = zip(*flows, strict=True) if flows else ((), (), ())
    load = cluster.load(src, dst, num_bytes)
    return dict(zip([cluster.link_names[link] for link in load.links], load.num_bytes.tolist(), strict=True))


@st.composite
def flows_on(draw: st.DrawFn, num_gpus: int) -> list[tuple[int, int, float]]:
    rank = st.integers(0, num_gpus - 1)
    return draw(st.lists(st.tuples(rank, rank, st.integers(1, 10**12).map(float)), max_size=40))


# --- paths ---------------------------------------------------------------------------------------------------------


@PRESETS
def test_every_path_between_two_nodes_is_a_shortest_path_of_the_graph(preset):
    cluster = cluster_of(preset, 2)
    sources = range(cluster.num_gpus) if cluster.num_gpus <= 16 else range(0, cluster.num_gpus, 7)
    assert_paths_are_shortest(cluster, [(src, dst) for src in sources for dst in range(cluster.num_gpus)])


@PRESETS
def test_paths_across_units_are_shortest_paths_of_the_graph(preset):
    cluster = two_units(preset)
    assert_paths_are_shortest(cluster, sampled_pairs(cluster))


@PRESETS
def test_the_class_of_a_pair_is_told_by_node_rail_and_unit(preset):
    cluster = two_units(preset)
    g = cluster.links.spec.gpus_per_node
    unit = g * cluster.links.spec.nodes_per_leaf
    expected = {0: "self", 1: "node", g: "rail", g + 1: "spine", unit: "spine", unit + 1: "spine"}
    assert {dst: cluster.paths.path_class(0, dst) for dst in expected} == expected


@PRESETS
def test_latency_is_the_sum_over_the_links_of_the_path(preset):
    cluster = two_units(preset)
    pairs = sampled_pairs(cluster)
    src, dst = np.array(pairs).T
    walked = [nx.path_weight(cluster.graph, cluster.path(a, b), "latency_s") for a, b in pairs]
    np.testing.assert_allclose(cluster.latency_s(src, dst), walked, rtol=ROUNDING, atol=0)


def test_latency_keeps_the_shape_of_the_ranks():
    cluster = cluster_of("dgx-h100", 2)
    ranks = np.arange(16).reshape(2, 8)
    assert cluster.latency_s(ranks[:, :, None], ranks[:, None, :]).shape == (2, 8, 8)


@PRESETS
@pytest.mark.parametrize(("node", "rail"), [(0, 1), (1, 0), (1, 1)])
def test_latency_end_to_end_is_what_deepseek_measured(preset, node, rail):
    """NVLink, the network under one leaf, across leaves."""
    cluster = cluster_of(preset, 2)
    dst = node * cluster.gpus_per_node + rail
    measured_s = MEASURED_S[cluster.between][rail] if node else 3.33e-6
    assert float(cluster.latency_s(0, dst)) == pytest.approx(measured_s, rel=ROUNDING)


# --- loads ---------------------------------------------------------------------------------------------------------


@PRESETS
def test_one_flow_puts_its_bytes_on_each_link_of_its_path(preset):
    cluster = two_units(preset)
    for src, dst in sampled_pairs(cluster, sources=4, destinations=8):
        load = fast_load(cluster, [(src, dst, 1e9)])
        assert load == pytest.approx(slow_load(cluster, [(src, dst, 1e9)]), rel=ROUNDING)
        if cluster.paths.path_class(src, dst) != "spine":
            assert set(load.values()) <= {1e9}


@PRESETS
def test_a_flow_across_leaves_is_spread_equally_over_all_spines(preset):
    cluster = two_units(preset)
    load = fast_load(cluster, [(0, cluster.num_gpus - 1, 1e9)])
    uplinks = [num_bytes for link, num_bytes in load.items() if "->spine" in link]
    assert len(uplinks) == 2 * cluster.links.spec.spines_per_unit
    assert set(uplinks) == {1e9 / len(uplinks)}


@pytest.mark.parametrize("num_nodes", [1, 2, 3])
@given(data=st.data())
def test_the_load_of_many_flows_is_the_sum_of_single_flow_loads(num_nodes, data):
    cluster = cluster_of("small", num_nodes)
    flows = data.draw(flows_on(cluster.num_gpus))
    assert fast_load(cluster, flows) == pytest.approx(slow_load(cluster, flows), rel=ROUNDING)


@given(flows_on(9))
def test_bytes_are_conserved_at_every_vertex(flows):
    cluster = cluster_of("small", 3)
    moving = [(src, dst, num_bytes) for src, dst, num_bytes in flows if src != dst]
    came, went = Counter(), Counter()
    for link, num_bytes in fast_load(cluster, flows).items():
        a, b = link.split("->")
        went[a] += num_bytes
        came[b] += num_bytes
    sent, received = Counter(), Counter()
    for src, dst, num_bytes in moving:
        sent[f"gpu{src}"] += num_bytes
        received[f"gpu{dst}"] += num_bytes
    for vertex, kind in cluster.graph.nodes(data="kind"):
        if kind == "gpu":
            assert went[vertex] == pytest.approx(sent[vertex], rel=ROUNDING)
            assert came[vertex] == pytest.approx(received[vertex], rel=ROUNDING)
        else:
            assert went[vertex] == pytest.approx(came[vertex], rel=ROUNDING)


@given(flows_on(9), st.permutations(range(3)))
def test_relabelling_the_rails_keeps_the_drain_time(flows, turned):
    """All rails are alike: the same permutation of the slots of every node changes names only."""
    cluster = cluster_of("small", 3)
    moved = [(3 * (a // 3) + turned[a % 3], 3 * (b // 3) + turned[b % 3], num_bytes) for a, b, num_bytes in flows]
    drain_s, moved_drain_s = (
        cluster.load(*np.array(each, dtype=float).reshape(-1, 3).T).drain_time_s(cluster.capacity_bytes_per_s)
        for each in (flows, moved)
    )
    assert moved_drain_s == pytest.approx(drain_s, rel=ROUNDING)


def test_a_flow_to_itself_loads_nothing():
    load = cluster_of("dgx-h100", 2).load([3, 9], [3, 9], [1e9, 1e9])
    assert load.links.size == load.num_bytes.size == 0


def test_loads_name_each_link_once_in_ascending_order():
    cluster = cluster_of("dgx-h100", 2)
    ranks = np.arange(16)
    load = cluster.load(ranks, (ranks + 9) % 16, 1.0)
    assert (np.diff(load.links) > 0).all()


# --- wiring --------------------------------------------------------------------------------------------------------


@PRESETS
def test_uplinks_of_a_leaf_carry_what_its_nics_carry(preset):
    cluster = two_units(preset)
    capacity = dict(zip(cluster.graph.edges, cluster.capacity_bytes_per_s.tolist(), strict=True))
    leaves = [name for name, kind in cluster.graph.nodes(data="kind") if kind == "leaf"]
    assert len(leaves) == 2 * cluster.links.spec.gpus_per_node
    for leaf in leaves:
        for edges in (cluster.graph.out_edges(leaf), cluster.graph.in_edges(leaf)):
            kinds = Counter()
            for edge in edges:
                kinds[cluster.graph.edges[edge]["kind"]] += capacity[edge]
            assert kinds["leaf-spine"] == pytest.approx(kinds["nic"], rel=ROUNDING)


@PRESETS
def test_every_gpu_has_one_nic_and_every_link_runs_both_ways(preset):
    cluster = two_units(preset)
    kinds = Counter(kind for _, kind in cluster.graph.nodes(data="kind"))
    assert kinds["gpu"] == kinds["nic"] == cluster.num_gpus
    assert kinds["nvswitch"] == cluster.num_nodes
    assert all(cluster.graph.edges[b, a] == data for a, b, data in cluster.graph.edges(data=True))


@PRESETS
def test_one_node_has_no_network_beyond_nvlink(preset):
    cluster = cluster_of(preset, 1)
    assert {kind for _, kind in cluster.graph.nodes(data="kind")} == {"gpu", "nvswitch"}
    assert set(cluster.link_kinds) == {"nvlink"}
    assert all(cluster.paths.path_class(0, dst) == "node" for dst in range(1, cluster.num_gpus))


@PRESETS
@pytest.mark.parametrize("num_nodes", [1, 2, 40])
def test_links_are_counted_without_the_graph(preset, num_nodes):
    """On one node, one unit and two; on any other graph the count is a bound."""
    cluster = cluster_of(preset, num_nodes)
    assert cluster.min_num_links == cluster.graph.number_of_edges()


@PRESETS
def test_links_as_arrays_repeat_the_graph(preset):
    cluster = cluster_of(preset, 2)
    for number, (a, b, data) in enumerate(cluster.graph.edges(data=True)):
        assert cluster.link_names[number] == f"{a}->{b}"
        assert cluster.link_kinds[number] == data["kind"]
        assert cluster.nominal_bytes_per_s[number] == data["bandwidth_bytes_per_s"]
        assert cluster.capacity_bytes_per_s[number] == data["bandwidth_bytes_per_s"] * data["efficiency"]


def test_gpu_r_hosts_rank_r_on_node_and_rail():
    cluster = cluster_of("dgx-h100", 3)
    for rank in range(cluster.num_gpus):
        data = cluster.graph.nodes[f"gpu{rank}"]
        assert (data["rank"], data["node"], data["rail"]) == (rank, cluster.node_of(rank), cluster.rail_of(rank))
