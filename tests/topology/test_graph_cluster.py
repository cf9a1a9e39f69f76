"""A cluster on any graph: on a regular graph it says what the regular cluster does, and elsewhere what a walk does."""

from functools import cache

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.errors import InvalidValueError
from topology.cluster import Cluster, build_cluster, build_graph_cluster
from topology.nodes import NvSwitchNode
from topology.presets.clusters import FABRICS
from topology.presets.devices import DEVICES

H100 = DEVICES["h100-sxm"]
ROUNDING = 1e-12
"""Sums of fewer than 1,000 positive floats, in any order: 1,000 * 2^-53 = 1.1e-13."""
REGULAR = [name for name, fabric in FABRICS.items() if isinstance(fabric.node, NvSwitchNode)]
WIRE = {"kind": "nvlink", "bandwidth_bytes_per_s": 100.0, "efficiency": 1.0, "latency_s": 1.0}


@cache
def both(preset: str, num_nodes: int) -> tuple[Cluster, Cluster]:
    """Return a preset, and the same on its own graph."""
    regular = build_cluster(FABRICS[preset], num_nodes, H100)
    return regular, build_graph_cluster(regular.graph, H100, name=preset)


def graph_of(vertices: dict[str, dict], links: list[str], **figures: float) -> nx.DiGraph:
    """Return a graph of vertices and of links `a b`, both ways."""
    graph = nx.DiGraph()
    graph.add_nodes_from(vertices.items())
    for link in links:
        a, b = link.split()
        graph.add_edge(a, b, **{**WIRE, **figures})
        graph.add_edge(b, a, **{**WIRE, **figures})
    return graph


def gpus(num: int, per_node: int = 8) -> dict[str, dict]:
    """Return GPUs, so many to a node."""
    return {f"gpu{r}": {"kind": "gpu", "rank": r, "node": r // per_node} for r in range(num)}


def loads(cluster: Cluster, src: int, dst: int) -> dict[str, float]:
    """Return what 1 byte puts on links, by name."""
    load = cluster.load([src], [dst], [1.0])
    return {cluster.link_names[i]: share for i, share in zip(load.links, load.num_bytes.tolist(), strict=True)}


# --- oracle: regular clusters --------------------------------------------------------------------------------------


@given(
    preset=st.sampled_from(REGULAR),
    num_nodes=st.sampled_from([1, 2, 3, 34]),
    seed=st.integers(0, 10**6),
    num_flows=st.integers(0, 80),
)
def test_on_a_regular_graph_flows_load_what_they_load_by_class(preset, num_nodes, seed, num_flows):
    """Loads, latencies and drain times of any flows, on one unit of leaves and on two."""
    num_nodes = min(num_nodes, 9) if FABRICS[preset].gpus_per_node > 8 else num_nodes
    regular, found = both(preset, num_nodes)
    rng = np.random.default_rng(seed)
    some = rng.choice(regular.num_gpus, min(12, regular.num_gpus), replace=False)
    src, dst = rng.choice(some, (2, num_flows))
    num_bytes = rng.uniform(1.0, 1e9, num_flows)
    wanted, load = (each.load(src, dst, num_bytes) for each in (regular, found))
    assert load.links.tolist() == wanted.links.tolist()
    np.testing.assert_allclose(load.num_bytes, wanted.num_bytes, rtol=ROUNDING)
    np.testing.assert_allclose(found.latency_s(src, dst), regular.latency_s(src, dst), rtol=ROUNDING)
    assert found.longest_latency_s(src, dst) == pytest.approx(regular.longest_latency_s(src, dst), rel=ROUNDING)
    capacity = regular.capacity_bytes_per_s
    assert load.drain_time_s(capacity) == pytest.approx(wanted.drain_time_s(capacity), rel=ROUNDING)


@given(
    preset=st.sampled_from(REGULAR),
    num_nodes=st.sampled_from([1, 2, 3]),
    seed=st.integers(0, 10**6),
    some_are_silent=st.booleans(),
)
def test_on_a_regular_graph_byte_matrices_load_what_they_load_by_class(preset, num_nodes, seed, some_are_silent):
    """Any S x D matrix, there and back."""
    regular, found = both(preset, num_nodes)
    rng = np.random.default_rng(seed)
    src, dst = (rng.permutation(regular.num_gpus)[: rng.integers(1, 9)] for _ in range(2))
    matrices = rng.integers(0, 1000, (2, src.size, dst.size)).astype(float)
    matrices *= (rng.random(matrices.shape) < 0.5) if some_are_silent else 1
    wanted, sums = (each.pairs(src, dst).sums(matrices) for each in (regular, found))
    assert (sums.total_bytes, sums.num_flows) == (wanted.total_bytes, wanted.num_flows)
    np.testing.assert_allclose(sums.latency_s, wanted.latency_s, rtol=ROUNDING)
    for way in ("forward", "reverse"):
        (loads_, drain_s), (wanted_loads, wanted_s) = (
            getattr(each, way)(regular.capacity_bytes_per_s) for each in (sums, wanted)
        )
        np.testing.assert_allclose(drain_s, wanted_s, rtol=ROUNDING)
        for load, expected in zip(loads_, wanted_loads, strict=True):
            assert load.links.tolist() == expected.links.tolist()
            np.testing.assert_allclose(load.num_bytes, expected.num_bytes, rtol=ROUNDING)


@pytest.mark.parametrize("preset", REGULAR)
def test_on_a_regular_graph_each_flow_has_the_same_links(preset):
    """Link by link and share by share, from the first GPU and the last to all of the next node."""
    regular, found = both(preset, 2)
    src = np.repeat([0, regular.num_gpus - 1], regular.num_gpus)
    dst = np.tile(np.arange(regular.num_gpus), 2)
    rows = []
    for cluster in (regular, found):
        flows = cluster.flow_links(src, dst)
        bounds = zip(flows.first[:-1], flows.first[1:], strict=True)
        rows.append([sorted(zip(flows.links[a:b].tolist(), flows.share[a:b].tolist(), strict=True)) for a, b in bounds])
    assert rows[1] == rows[0]


@pytest.mark.parametrize("preset", REGULAR)
def test_on_a_regular_graph_figures_of_nodes_are_the_fabrics(preset):
    """GPUs of a node, nodes, and what leaves a GPU and a node."""
    regular, found = both(preset, 2)
    for name in ("num_nodes", "num_gpus", "gpus_per_node", "in_node_bytes_per_s", "exit_bytes_per_s"):
        assert getattr(found, name) == getattr(regular, name)
    ranks = np.arange(regular.num_gpus)
    assert found.node_of(ranks).tolist() == regular.node_of(ranks).tolist()
    assert found.rail_of(ranks).tolist() == regular.rail_of(ranks).tolist()
    assert found.path(0, 1) == regular.path(0, 1)
    assert found.path(0, regular.gpus_per_node) == regular.path(0, regular.gpus_per_node)


# --- paths on other graphs -----------------------------------------------------------------------------------------


def test_gpus_of_a_node_talk_over_their_own_link():
    """A direct link, though PCIe has as few hops as the NVSwitch."""
    parts = {"nvs": {"kind": "nvswitch", "node": 0}, "pcie": {"kind": "pcie", "node": 0}}
    graph = graph_of({**gpus(2), **parts}, ["gpu0 pcie", "gpu1 pcie", "gpu0 nvs", "gpu1 nvs"])
    assert loads(build_graph_cluster(graph, H100, name="x"), 0, 1) == {"gpu0->nvs": 1.0, "nvs->gpu1": 1.0}


def test_no_third_gpu_forwards_where_there_is_another_way():
    """Point to point NVLink: the GPU without a link of its own takes PCIe, though a third one is nearer."""
    parts = {"a": {"kind": "pcie", "node": 0}, "b": {"kind": "cpu", "node": 0}}
    links = ["gpu0 gpu1", "gpu1 gpu2", "gpu0 a", "a b", "b gpu2"]
    cluster = build_graph_cluster(graph_of({**gpus(3), **parts}, links), H100, name="x")
    assert cluster.path(0, 2) == ["gpu0", "a", "b", "gpu2"]


def test_a_third_gpu_forwards_where_there_is_no_other_way():
    """A ring of four GPUs: both ways round share the bytes."""
    graph = graph_of(gpus(4), [f"gpu{r} gpu{(r + 1) % 4}" for r in range(4)])
    cluster = build_graph_cluster(graph, H100, name="x")
    assert loads(cluster, 0, 2) == {"gpu0->gpu1": 0.5, "gpu0->gpu3": 0.5, "gpu1->gpu2": 0.5, "gpu3->gpu2": 0.5}
    assert float(cluster.latency_s(0, 2)) == 2.0


def test_a_gpu_uses_the_nic_that_is_nearest_to_it():
    """Its own NIC is under another leaf, and the other NIC, behind the CPU, would save the spine."""
    parts = {
        "sw0": {"kind": "pcie", "node": 0},
        "cpu": {"kind": "cpu", "node": 0},
        "near": {"kind": "nic", "node": 0},
        "far": {"kind": "nic", "node": 0},
        "nic": {"kind": "nic", "node": 1},
        **{name: {"kind": "leaf"} for name in ("leaf0", "leaf1")},
        "spine": {"kind": "spine"},
    }
    links = ["gpu0 sw0", "sw0 near", "sw0 cpu", "cpu far", "near leaf0", "far leaf1"]
    links += ["leaf0 spine", "leaf1 spine", "leaf1 nic", "nic gpu1"]
    cluster = build_graph_cluster(graph_of({**gpus(2, 1), **parts}, links), H100, name="x")
    assert cluster.path(0, 1) == ["gpu0", "sw0", "near", "leaf0", "spine", "leaf1", "nic", "gpu1"]


def test_nics_that_are_equally_near_share_the_bytes():
    """Two NICs on the GPU's PCIe switch, one switch for all."""
    parts = {
        "sw": {"kind": "pcie", "node": 0},
        "nic0": {"kind": "nic", "node": 0},
        "nic1": {"kind": "nic", "node": 0},
        "nic2": {"kind": "nic", "node": 1},
        "big": {"kind": "switch"},
    }
    links = ["gpu0 sw", "sw nic0", "sw nic1", "nic0 big", "nic1 big", "big nic2", "nic2 gpu1"]
    cluster = build_graph_cluster(graph_of({**gpus(2, 1), **parts}, links), H100, name="x")
    shares = loads(cluster, 0, 1)
    assert (shares["nic0->big"], shares["nic1->big"], shares["big->nic2"]) == (0.5, 0.5, 1.0)


def test_equal_paths_share_path_by_path_and_not_hop_by_hop():
    """Three paths, two of them over the first switch and two over the last: each carries two thirds."""
    switches = {name: {"kind": "switch"} for name in ("in", "a", "b", "c", "d", "out")}
    links = ["gpu0 in", "in a", "in b", "a c", "a d", "b d", "c out", "d out", "out gpu1"]
    shares = loads(build_graph_cluster(graph_of({**gpus(2, 1), **switches}, links), H100, name="x"), 0, 1)
    assert [shares[link] for link in ("in->a", "d->out")] == pytest.approx([2 / 3] * 2)
    assert [shares[link] for link in ("a->c", "a->d", "b->d")] == pytest.approx([1 / 3] * 3)


def test_another_node_does_not_forward():
    """Three nodes, of which the middle one has a NIC on both switches; one more hop goes round it."""
    parts = {f"nic{n}": {"kind": "nic", "node": n} for n in range(3)} | {f"s{i}": {"kind": "switch"} for i in range(4)}
    links = [
        "gpu0 nic0",
        "gpu1 nic1",
        "gpu2 nic2",
        "nic0 s0",
        "s0 nic1",
        "nic1 s1",
        "s1 nic2",
        "s0 s2",
        "s2 s3",
        "s3 s1",
    ]
    cluster = build_graph_cluster(graph_of({**gpus(3, 1), **parts}, links), H100, name="x")
    assert cluster.path(0, 2) == ["gpu0", "nic0", "s0", "s2", "s3", "s1", "nic2", "gpu2"]


def test_a_gpu_without_nic_sends_over_its_peers_nic():
    """Of two GPUs behind an NVSwitch only one has a NIC: the sender's and the receiver's peer forwards."""
    parts = {f"nvs{n}": {"kind": "nvswitch", "node": n} for n in range(2)}
    parts |= {f"nic{n}": {"kind": "nic", "node": n} for n in range(2)} | {"big": {"kind": "switch"}}
    links = ["gpu0 nvs0", "gpu1 nvs0", "gpu2 nvs1", "gpu3 nvs1", "gpu1 nic0", "nic0 big", "big nic1", "nic1 gpu3"]
    cluster = build_graph_cluster(graph_of({**gpus(4, 2), **parts}, links), H100, name="x")
    assert cluster.path(0, 3) == ["gpu0", "nvs0", "gpu1", "nic0", "big", "nic1", "gpu3"]
    assert cluster.path(0, 2)[-3:] == ["gpu3", "nvs1", "gpu2"]


def test_nodes_may_have_different_numbers_of_gpus():
    """Two and one: the largest counts, and nodes are those of the vertices."""
    graph = graph_of({**gpus(3, 2), "big": {"kind": "switch"}}, ["gpu0 big", "gpu1 big", "gpu2 big"])
    cluster = build_graph_cluster(graph, H100, name="x")
    assert (cluster.num_nodes, cluster.gpus_per_node, cluster.num_gpus) == (2, 2, 3)
    assert cluster.node_of([0, 1, 2]).tolist() == [0, 0, 1]
    assert cluster.rail_of([0, 1, 2]).tolist() == [0, 1, 0]


@given(seed=st.integers(0, 10**6), num_bytes=st.integers(1, 10**9))
def test_on_any_graph_bytes_are_conserved_at_every_vertex(seed, num_bytes):
    """What a random graph's vertices receive they send on, but for the two ends."""
    rng = np.random.default_rng(seed)
    switches = {f"s{i}": {"kind": "switch"} for i in range(6)}
    links = [f"gpu{r} s{rng.integers(6)}" for r in range(5)] + [f"s{i} s{rng.integers(i)}" for i in range(1, 6)]
    links += [f"s{a} s{b}" for a, b in rng.integers(0, 6, (6, 2)) if a != b]
    cluster = build_graph_cluster(graph_of({**gpus(5, 1), **switches}, links), H100, name="x")
    src, dst = rng.choice(5, 2, replace=False)
    load = cluster.load([src], [dst], [float(num_bytes)])
    net = dict.fromkeys(cluster.graph, 0.0)
    for link, amount in zip(load.links, load.num_bytes, strict=True):
        a, b = cluster.link_names[link].split("->")
        net[a] -= amount
        net[b] += amount
    expected = {**dict.fromkeys(net, 0.0), f"gpu{src}": -float(num_bytes), f"gpu{dst}": float(num_bytes)}
    assert net == pytest.approx(expected, abs=num_bytes * ROUNDING)


# --- refusals ------------------------------------------------------------------------------------------------------


def test_a_graph_in_two_is_refused_with_both_sides_named():
    """Two pairs without a link between them."""
    graph = graph_of(gpus(4, 2), ["gpu0 gpu1", "gpu2 gpu3"])
    with pytest.raises(InvalidValueError, match="got GPUs 0 to 1 without a way to GPUs 2 to 3"):
        build_graph_cluster(graph, H100, name="x")


def test_a_link_one_way_is_refused_where_there_is_no_way_back():
    """The second GPU cannot answer."""
    graph = graph_of(gpus(2), ["gpu0 gpu1"])
    graph.remove_edge("gpu1", "gpu0")
    with pytest.raises(InvalidValueError, match="got GPU 1 without a way to GPU 0"):
        build_graph_cluster(graph, H100, name="x")


@pytest.mark.parametrize(
    ("vertex", "change", "message"),
    [
        ("gpu0", {"kind": None}, "vertex gpu0 must have a kind"),
        ("gpu0", {"rank": "0"}, "rank of gpu0 must be an integer of at least 0, got 0"),
        ("gpu0", {"rank": 1}, "graph must have 1 to 65,536 GPUs with ranks 0, 1, 2 ... each once"),
        ("gpu0", {"node": None}, "node of gpu0 must be an integer"),
        ("gpu0", {"speed": 0.0}, "speed of gpu0 must be finite and above 0"),
    ],
)
def test_a_vertex_with_impossible_data_is_refused(vertex, change, message):
    """Each datum that the engine relies on."""
    graph = graph_of(gpus(2), ["gpu0 gpu1"])
    graph.nodes[vertex].update(change)
    with pytest.raises(InvalidValueError, match=message.replace("(", r"\(")):
        build_graph_cluster(graph, H100, name="x")


@pytest.mark.parametrize(
    ("figures", "message"),
    [
        ({"bandwidth_bytes_per_s": 0.0}, "bandwidth_bytes_per_s of gpu0->gpu1 must be finite and above 0, got 0.0"),
        ({"bandwidth_bytes_per_s": float("nan")}, "bandwidth_bytes_per_s of gpu0->gpu1 must be finite"),
        ({"efficiency": 1.5}, r"efficiency of gpu0->gpu1 must lie in \(0, 1\], got 1.5"),
        ({"latency_s": None}, "latency_s of gpu0->gpu1 must be finite and not negative, got null"),
    ],
)
def test_a_link_with_impossible_figures_is_refused(figures, message):
    """Each figure of a link."""
    with pytest.raises(InvalidValueError, match=message):
        build_graph_cluster(graph_of(gpus(2), ["gpu0 gpu1"], **figures), H100, name="x")


# --- ranks next to NICs --------------------------------------------------------------------------------------------


def on_cpus(nics: dict[int, str], num: int = 4, num_nodes: int = 2) -> Cluster:
    """Return nodes of GPUs on one CPU each; a NIC hangs on the PCIe switch of a GPU, or on the CPU (`cpu`)."""
    vertices, links = gpus(num * num_nodes, num), list[str]()
    vertices["leaf"] = {"kind": "leaf"}
    for node in range(num_nodes):
        vertices[f"cpu{node}"] = {"kind": "cpu", "node": node}
        for rank in range(node * num, (node + 1) * num):
            vertices[f"pcie{rank}"] = {"kind": "pcie", "node": node}
            links += [f"gpu{rank} pcie{rank}", f"pcie{rank} cpu{node}"]
        for nic, place in nics.items():
            vertices[f"nic{node}.{nic}"] = {"kind": "nic", "node": node}
            at = f"cpu{node}" if place == "cpu" else f"pcie{node * num + int(place)}"
            links += [f"nic{node}.{nic} {at}", f"nic{node}.{nic} leaf"]
    return build_graph_cluster(graph_of(vertices, links), H100, name="x")


@pytest.mark.parametrize(
    ("nics", "expected"),
    [
        ({0: "0", 1: "2"}, [0, 2, 4, 6]),  # the two other GPUs reach either NIC over the CPU
        ({0: "1"}, [1, 5]),
        ({0: "cpu"}, [0, 1, 2, 3, 4, 5, 6, 7]),  # all are as near
        ({0: "0", 1: "0"}, [0, 4]),  # two NICs next to one GPU
    ],
)
def test_rings_leave_a_node_over_the_gpus_that_are_nearest_to_its_nics(nics, expected):
    assert on_cpus(nics).nic_ranks(np.arange(8)).tolist() == expected


def test_a_group_without_gpus_beside_a_nic_leaves_over_those_that_it_has():
    """Ranks 1 and 3 of either node are equally far from the NICs of 0 and 2."""
    assert on_cpus({0: "0", 1: "2"}).nic_ranks(np.array([1, 3, 5, 7])).tolist() == [1, 3, 5, 7]


@pytest.mark.parametrize("preset", ["dgx-h100", "mi300x", "pcie-8x-l40s"])
def test_every_gpu_of_a_preset_is_next_to_a_nic(preset):
    ranks = np.arange(FABRICS[preset].gpus_per_node * 2)
    cluster = build_graph_cluster(build_cluster(FABRICS[preset], 2, H100).graph, H100, name=preset)
    assert cluster.nic_ranks(ranks).tolist() == ranks.tolist()
    alone = build_graph_cluster(build_cluster(FABRICS[preset], 1, H100).graph, H100, name=preset)
    assert alone.nic_ranks(ranks[: ranks.size // 2]).tolist() == ranks[: ranks.size // 2].tolist()
