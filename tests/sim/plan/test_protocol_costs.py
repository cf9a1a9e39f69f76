"""What protocols cost: NCCL's tables by hand on H100, what `auto` picks, and the shortest path of a tier."""

from itertools import pairwise

import numpy as np
import pytest
from works import make_cluster, make_plain_cluster

from sim.plan.pricing import Pricing
from sim.plan.transfer_costs import TransferCosts
from sim.scenario.cluster_file import yaml_to_graph
from topology.cluster import build_cluster, build_graph_cluster
from topology.presets.clusters import CLUSTERS as PRESETS
from topology.presets.clusters import FABRICS
from topology.presets.devices import DEVICES
from topology.presets.fitted import FITTED
from topology.presets.nccl_tuner import TUNERS
from topology.presets.protocols import protocols_of
from workloads.collectives import COLLECTIVES, algorithms_for, ring_all_reduce, spread_inside

SIZE_BYTES = 64e6

# GB/s that NCCL credits 18 NVLinks of 20.6 GB/s with, and the fitted 95.7 % of 50 GB/s of a NIC.
NVLINK, NIC = 370.8, 47.85
LL_NODE, LL_NIC = 141.0, 45.0 / 8  # llMaxBws of Hopper on one node, and of two nodes over 8 NICs

# num_nodes, algorithm, protocol, latency in us, ns for each byte of the tensor: the slower of NVLink and NIC.
# Bytes on a GPU's NVLink and on its NIC for each byte of the tensor, 8 GPUs a node:
#   ring  one node   8 rings of 2 * 7/8 / 8                         1.75       -
#         two nodes  8 rings of 2 * 15/16 / 8: 7 stay, 1 leaves     1.640625   0.234375
#   tree             a chain each way, 2 * 7/8; S / 8 on each rail  1.75       0.125
#   NVLS             6/5, and the trees                             1.2        0.125
BY_HAND = [
    (1, "ring", "LL", 6.6 + 14 * 1.0, 1.75 / LL_NODE),
    (1, "ring", "LL128", 14.0 + 14 * 1.9, 1.75 / (0.92 * NVLINK)),
    (1, "ring", "Simple", 8.4 + 14 * 3.4, 1.75 / NVLINK),
    (1, "tree", "LL", 6.8 + 14 * 0.6, 1.75 / (0.92 * NVLINK / 3.8)),
    (1, "tree", "LL128", 14.0 + 14 * 1.25, 1.75 / (0.92 * NVLINK * 7 / 9)),
    (1, "tree", "Simple", 8.4 + 14 * 4.0, 1.75 / (0.92 * NVLINK)),
    (1, "nvls", "Simple", 25.0, 1.2 / (0.85 * NVLINK)),
    (2, "ring", "LL", 6.6 + 28 * 1.0 + 2 * 2.7, 0.234375 / LL_NIC),
    (2, "ring", "LL128", 14.0 + 28 * 1.9 + 2 * 4.0, 0.234375 / (0.92 * NIC)),
    (2, "ring", "Simple", 8.4 + 28 * 3.4 + 2 * 14.0, 0.234375 / NIC),
    (2, "tree", "LL", 6.8 + 14 * 0.6 + 2 * 5.0, 0.125 / LL_NIC),
    (2, "tree", "LL128", 14.0 + 14 * 1.25 + 2 * 8.5, 1.75 / (0.92 * NVLINK * 7 / 9)),
    (2, "tree", "Simple", 8.4 + 14 * 4.0 + 2 * 14.0, 1.75 / (0.92 * NVLINK)),
    (2, "nvls", "Simple", 25.0 + 2 * 20.9, 1.2 / (0.85 * NVLINK)),
]


def transfer_by(cluster, algorithm, protocol, num_bytes, operation="all_reduce", *, is_one_node=False):
    """Return an operation over all GPUs by one algorithm and protocol, of groups of several nodes or of one."""
    costs, ranks = TransferCosts(cluster), np.arange(cluster.num_gpus)
    exchange = COLLECTIVES[algorithm].exchanges[operation](ranks.tolist(), cluster.node_of(ranks).tolist(), num_bytes)
    known = costs.pricing.protocols_for(algorithm, is_one_node=is_one_node)
    (chosen,) = [one for one in known if one.name == protocol]
    return costs.transfer(exchange, chosen, ranks=ranks, group=0)


def time_ns(transfer):
    """Return latency and time alone."""
    return transfer.latency_ns + transfer.alone_ns


# --- by hand ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("num_nodes", "algorithm", "protocol", "latency_us", "ns_per_byte"), BY_HAND)
def test_an_all_reduce_costs_what_nccls_tables_say(num_nodes, algorithm, protocol, latency_us, ns_per_byte):
    """Base and hops of the chain; then the bytes of the busiest link at what the protocol reaches there."""
    transfer = transfer_by(make_cluster(8 * num_nodes), algorithm, protocol, SIZE_BYTES)
    first_loop = FITTED["nvlink4 NVLS loop"].value * 8 / SIZE_BYTES if algorithm == "nvls" else 0.0
    assert transfer.latency_ns == pytest.approx(latency_us * 1e3 + first_loop * SIZE_BYTES * ns_per_byte, abs=1)
    assert transfer.alone_ns == pytest.approx(SIZE_BYTES * ns_per_byte, abs=1)


@pytest.mark.parametrize(
    ("operation", "num_ranks", "steps"),
    [("all_gather", 2, 1), ("all_gather", 8, 7), ("reduce_scatter", 4, 3), ("all_reduce", 2, 2), ("all_reduce", 8, 14)],
)
@pytest.mark.parametrize("protocol", ["LL", "LL128", "Simple"])
def test_a_ring_in_one_node_costs_what_its_steps_and_its_ends_take(operation, num_ranks, steps, protocol):
    """Each step takes a chunk of 1 / n of the tensor; under Simple the two ends take as long as half of a step more."""
    figure = {key: FITTED[f"nvlink4 ring {protocol} {key}"].value for key in ("base", "rate")}
    hop_s = 1.9e-6 if protocol == "LL128" else FITTED[f"nvlink4 ring {protocol} hop"].value
    rate = figure["rate"] if protocol == "LL" else figure["rate"] * 450e9
    ends = FITTED["nvlink4 ring ends"].value if protocol == "Simple" else 0.0
    cluster = make_cluster(8)
    costs, ranks = TransferCosts(cluster), np.arange(num_ranks)
    exchange = COLLECTIVES["ring"].exchanges[operation](ranks.tolist(), [0] * num_ranks, SIZE_BYTES)
    (chosen,) = [one for one in costs.pricing.protocols_for("ring", is_one_node=True) if one.name == protocol]
    transfer = costs.transfer(exchange, chosen, ranks=ranks, group=0)
    assert transfer.latency_ns == pytest.approx((figure["base"] + steps * hop_s) * 1e9, abs=1)
    assert transfer.alone_ns == pytest.approx((steps + ends) * SIZE_BYTES / num_ranks / rate * 1e9, abs=1)
    assert transfer.link_bytes.num_bytes.max() == pytest.approx(steps * SIZE_BYTES / num_ranks, rel=1e-12)


def test_a_message_of_blackwell_hides_behind_half_of_a_chunk():
    """8 B200, all-gather: 7 messages of 9.9 us less half of the time alone, and nothing of them behind large chunks."""
    cluster = build_cluster(FABRICS["dgx-b200"], 1, DEVICES["b200-sxm"])
    base, hop = (FITTED[f"nvlink5 ring Simple {key}"].value for key in ("base", "hop"))
    small, large = (
        transfer_by(cluster, "ring", "Simple", num_bytes, "all_gather", is_one_node=True) for num_bytes in (16e6, 1e9)
    )
    assert small.latency_ns == pytest.approx((base + 7 * hop) * 1e9 - small.alone_ns / 2, abs=2)
    assert large.latency_ns == pytest.approx(base * 1e9, abs=1)


# preset, operation, GPUs; sizes in MiB between which the measured time jumps, and the choice on either side
SWITCHES = [
    ("dgx-a100", "all_gather", 2, 1, 2, "ring LL", "ring Simple"),  # 20.0 us, then 38.1 us
    ("dgx-a100", "all_gather", 4, 1, 2, "ring LL", "ring Simple"),  # 22.5, 52.9
    ("dgx-a100", "all_reduce", 2, 0.5, 1, "ring LL", "ring Simple"),  # 19.4, 40.8
    ("dgx-h100", "all_gather", 4, 2, 4, "ring LL", "ring Simple"),  # 19.1, 37.0
    ("dgx-h100", "all_reduce", 2, 1, 2, "ring LL", "ring Simple"),  # 14.7, 27.9
    ("dgx-h100", "all_reduce", 8, 1, 2, "ring LL", "nvls Simple"),  # 25.4, 38.2
    ("dgx-b200", "all_gather", 4, 4, 8, "ring LL", "ring Simple"),  # 25.3, 50.9
    ("dgx-b200", "all_gather", 8, 8, 16, "ring LL", "ring Simple"),  # 44.2, 103.9
    ("dgx-b200", "all_reduce", 4, 4, 8, "ring LL", "ring Simple"),  # 35.8, 84.9
    ("dgx-b200", "all_reduce", 8, 2, 4, "ring LL", "nvls Simple"),  # 32.1, 53.4
]


@pytest.mark.parametrize("switch", SWITCHES, ids=lambda switch: "-".join(str(part) for part in switch[:3]))
def test_nccl_changes_its_protocol_where_the_measured_time_jumps(switch):
    """By NCCL's own estimates, at which the time often jumps up: aic_collectives, whose times stand in the table."""
    preset, operation, num_ranks, below, above, before, after = switch
    cluster = build_cluster(FABRICS[preset], 1, DEVICES[PRESETS[preset].device])
    costs = TransferCosts(cluster)
    for mib in (below, above):
        costs.collective(operation, np.arange(num_ranks), mib * 2.0**20, group=0)
    assert [f"{one.algorithm} {one.protocol}" for one in costs.choices.values()] == [before, after]


def test_four_gpus_of_an_nvswitch_run_rings_and_eight_run_nvls():
    """A channel of NVLS has at most 60 GB/s on Hopper: four of them 0.85 * 3/4 * 2 * 240 = 306 GB/s, a ring 370.8."""
    call = {"num_bytes": 1e9, "bus_bytes_per_s": 370.8e9}
    time_s = {
        (algorithm, num_ranks): TUNERS["nvlink4"].expected_s(
            "all_reduce", algorithm, "Simple", num_ranks=num_ranks, **call
        )
        for algorithm in ("ring", "nvls")
        for num_ranks in (4, 8)
    }
    assert time_s["nvls", 4] == pytest.approx(25e-6 + 1.5 * 1e9 / 306e9, rel=1e-9)
    assert time_s["ring", 4] == pytest.approx(28.8e-6 + 1.5 * 1e9 / 370.8e9, rel=1e-9)
    assert time_s["ring", 4] < time_s["nvls", 4]
    assert time_s["nvls", 8] < time_s["ring", 8]


def test_a_node_without_an_nvswitch_takes_the_tables_of_nccl():
    """The figures of one node were measured behind NVSwitches."""
    cluster = build_cluster(FABRICS["mi300x"], 1, DEVICES["mi300x"])
    assert not any(one.on_one_node for one in cluster.protocols)
    assert Pricing(cluster).expected_s("all_reduce", cluster.protocols[0], num_ranks=8, num_bytes=1e6) is None


def test_every_protocol_of_nccl_is_worked_out_by_hand():
    """None is left out of the table above."""
    known = {
        (one.algorithm, one.name)
        for one in protocols_of("nvlink4", "ib-ndr")
        if one.algorithm in algorithms_for("all_reduce", "auto") and not one.on_one_node
    }
    assert known == {(algorithm, protocol) for _, algorithm, protocol, _, _ in BY_HAND}


@pytest.mark.parametrize(
    ("operation", "latency_us", "nvlink_bytes", "nic_bytes"),
    [
        # half an all-reduce: 15 steps, of which one crosses; on each hop of 8 rings 15/16 / 8
        ("all_gather", 8.4 + 14 * 3.4 + 14.0, 7 * 15 / 16 / 8, 15 / 16 / 8),
        ("reduce_scatter", 8.4 + 14 * 3.4 + 14.0, 7 * 15 / 16 / 8, 15 / 16 / 8),
        # on each hop of 8 rings 1/8 of the tensor, none into the root
        ("broadcast", 8.4 + 14 * 3.4 + 14.0, 7 / 8, 1 / 8),
    ],
)
def test_other_rings_have_half_the_steps(operation, latency_us, nvlink_bytes, nic_bytes):
    """Under Simple on two nodes, where the NICs hold them back."""
    transfer = transfer_by(make_cluster(16), "ring", "Simple", SIZE_BYTES, operation)
    assert transfer.latency_ns == pytest.approx(latency_us * 1e3, abs=1)
    assert transfer.alone_ns == pytest.approx(SIZE_BYTES * max(nvlink_bytes / NVLINK, nic_bytes / NIC), abs=1)


def test_a_link_carries_its_bytes_while_it_is_held_longer():
    """LL on two nodes: 0.234375 of the tensor on a NIC, which is held as by 47.85 / 5.625 = 8.5 times as many."""
    cluster = make_cluster(16)
    transfer = transfer_by(cluster, "ring", "LL", SIZE_BYTES)
    is_nic = np.array([cluster.link_kinds[link] == "nic" for link in transfer.load.links])
    carried, held = transfer.link_bytes.num_bytes[is_nic], transfer.load.num_bytes[is_nic]
    assert carried == pytest.approx(0.234375 * SIZE_BYTES, rel=1e-12)
    assert held / carried == pytest.approx(NIC / LL_NIC, rel=1e-12)


@pytest.mark.parametrize("protocol", ["LL", "LL128", "Simple"])
def test_the_way_from_a_gpu_to_its_nic_belongs_to_no_protocol(protocol):
    """PCIe carries at its own rate."""
    cluster = make_cluster(16)
    transfer = transfer_by(cluster, "ring", protocol, SIZE_BYTES)
    is_pcie = np.array([cluster.link_kinds[link] == "pcie" for link in transfer.load.links])
    assert transfer.load.num_bytes[is_pcie].tolist() == transfer.link_bytes.num_bytes[is_pcie].tolist()


def test_links_of_which_no_more_is_known_are_held_by_their_bytes():
    """Without a technology each algorithm has one protocol, whose messages take their paths' latencies."""
    cluster = make_plain_cluster(16)
    transfer = transfer_by(cluster, "ring", "plain", SIZE_BYTES)
    assert transfer.overhead is None
    assert transfer.latency_ns == pytest.approx(28 * 3330 + 2 * 2800, abs=1)  # NVLink 3.33 us, under one leaf 2.8 us


# --- auto ------------------------------------------------------------------------------------------------------------

SIZES = [2.0**power for power in range(3, 36)]
CLUSTERS = [("dgx-h100", 2), ("dgx-h100", 8), ("a3-mega", 2), ("mi300x", 1)]
"""Clusters of several nodes with NVLS, or without figures of one node: there `auto` takes the cheapest."""


def cluster_of(preset, num_nodes):
    """Return a preset's cluster; no price depends on the device."""
    return build_cluster(FABRICS[preset], num_nodes, DEVICES["h100-sxm"])


@pytest.mark.parametrize(("preset", "num_nodes"), CLUSTERS)
@pytest.mark.parametrize("operation", sorted(COLLECTIVES["ring"].exchanges))
def test_auto_picks_the_cheapest_of_all(preset, num_nodes, operation):
    """At every size it takes what the cheapest algorithm and protocol takes, and says which that is."""
    cluster = cluster_of(preset, num_nodes)
    ranks, costs = np.arange(cluster.num_gpus), TransferCosts(cluster)
    nodes, known = cluster.node_of(ranks).tolist(), costs.pricing.protocols
    for num_bytes in SIZES:
        times_ns = {}
        for algorithm in set(algorithms_for(operation, "auto")) & set(known):
            exchange = COLLECTIVES[algorithm].exchanges[operation](ranks.tolist(), nodes, num_bytes)
            if costs.pricing.has_mesh:
                exchange = spread_inside(exchange, ranks.tolist(), nodes)
            for one in costs.pricing.protocols_for(algorithm, is_one_node=num_nodes == 1):
                times_ns[algorithm, one.name] = time_ns(costs.transfer(exchange, one, ranks=ranks, group=0))
        picked = costs.collective(operation, ranks, num_bytes, group=0)
        *_, choice = costs.choices.values()
        assert time_ns(picked) == choice.time_ns == min(times_ns.values())
        assert times_ns[choice.algorithm, choice.protocol] == choice.time_ns


def test_rings_carry_large_all_reduces_between_two_nodes_where_trees_would_be_faster():
    """NCCL expects 92 us and 2 S / 0.92 B at best of a tree, and 2 * 15 / 16 S / B of a ring: less from 30 MB."""
    cluster = cluster_of("dgx-a100", 2)
    costs, ranks = TransferCosts(cluster), np.arange(16)
    sizes = [2.0**power for power in (10, 25, 28, 33)]
    picked = [costs.collective("all_reduce", ranks, num_bytes, group=0) for num_bytes in sizes]
    assert [choice.algorithm for choice in costs.choices.values()] == ["tree", "ring", "ring", "ring"]
    tree_ns = time_ns(TransferCosts(cluster, all_reduce="tree").collective("all_reduce", ranks, sizes[2], group=0))
    assert time_ns(picked[2]) > tree_ns  # a tree of two nodes sends S over the NICs, a ring 15/8 S


def test_nvls_runs_at_no_size_where_it_is_off():
    costs, ranks = TransferCosts(cluster_of("dgx-h100", 2), nvls=False), np.arange(16)
    for num_bytes in SIZES:
        costs.collective("all_reduce", ranks, num_bytes, group=0)
    assert {choice.algorithm for choice in costs.choices.values()} == {"ring", "tree"}


def test_a_named_algorithm_runs_where_nvls_is_off():
    """`nvls: false` is what NCCL may not choose; what the scenario names, it names."""
    costs = TransferCosts(cluster_of("dgx-h100", 1), all_reduce="nvls", nvls=False)
    costs.collective("all_reduce", np.arange(8), 1e8, group=0)
    assert [choice.algorithm for choice in costs.choices.values()] == ["nvls"]


@pytest.mark.parametrize(("preset", "num_nodes"), CLUSTERS)
def test_auto_never_goes_back_with_the_size(preset, num_nodes):
    """Costs are concave over the size, and so is the least of them.

    The time rises with the size, and the time per byte falls. Where no algorithm runs in loops the latency rises and
    the cost per byte falls with every other pick, and nothing is picked again after something else.
    """
    cluster = cluster_of(preset, num_nodes)
    ranks, costs = np.arange(cluster.num_gpus), TransferCosts(cluster)
    picked = [costs.collective("all_reduce", ranks, num_bytes, group=0) for num_bytes in SIZES]
    times_ns = [time_ns(transfer) for transfer in picked]
    ways = [(choice.algorithm, choice.protocol) for choice in costs.choices.values()]
    assert all(a <= b for a, b in pairwise(times_ns))
    assert all(b / 2 <= a + 1 for a, b in pairwise(times_ns))  # twice the bytes; a time is rounded up
    assert len(set(ways)) > 1
    if "nvls" in dict(ways):
        return
    latency_ns = [transfer.latency_ns for transfer in picked]
    assert latency_ns == sorted(latency_ns)
    per_byte = [transfer.alone_ns / num_bytes for transfer, num_bytes in zip(picked, SIZES, strict=True)]
    large = [ns for ns, num_bytes in zip(per_byte, SIZES, strict=True) if num_bytes >= 2**20]  # a ns is no matter there
    assert all(b <= a * (1 + 1e-3) for a, b in pairwise(large))
    runs = [way for before, way in zip([None, *ways], ways, strict=False) if way != before]
    assert len(runs) == len(set(runs))


def test_groups_of_a_size_may_pick_otherwise():
    """Two ranks of one node, and two of different nodes: both choices are kept."""
    costs = TransferCosts(make_cluster(16))
    for number, ranks in enumerate(([0, 1], [0, 8], [2, 3])):
        costs.collective("all_reduce", np.array(ranks), 2.0**20, group=number)
    ways = [(choice.algorithm, choice.protocol) for choice in costs.choices.values()]
    assert len(ways) == len(set(ways)) == 2


# --- the shortest path of a tier -------------------------------------------------------------------------------------

UNEVEN = """
name: uneven
inside: nvlink4
between: ib-ndr
kinds:
  nvlink: {bandwidth: 450 GB/s, latency: 1.7 us}
  nic: {bandwidth: 400 Gb/s, latency: 0.7 us}
vertices:
  - {name: lone, kind: gpu, node: "0", rank: 0}
  - {name: "gpu{i}", kind: gpu, node: "1", rank: "{i}", for: {i: [1, 2, 3]}}
  - {name: nvswitch, kind: nvswitch, node: "1"}
  - {name: "nic{node}", kind: nic, node: "{node}", rail: "0", for: {node: 2}}
  - {name: core, kind: switch}
links:
  - {from: "gpu{i}", to: nvswitch, kind: nvlink, for: {i: [1, 2, 3]}}
  - {from: "gpu{i}", to: nic1, kind: pcie, bandwidth: 63 GB/s, latency: 0.7 us, for: {i: [1, 2, 3]}}
  - {from: lone, to: nic0, kind: pcie, bandwidth: 63 GB/s, latency: 0.7 us}
  - {from: "nic{node}", to: core, kind: nic, for: {node: 2}}
"""


def test_a_node_of_one_gpu_in_front_tells_nothing_of_the_paths_inside_others():
    """Ranks 1 to 3 share the second node: LL takes 6.6 + 4 * 1.0 us there, as on any."""
    cluster = build_graph_cluster(yaml_to_graph(UNEVEN), DEVICES["h100-sxm"], name="uneven")
    pricing = Pricing(cluster)
    ring = ring_all_reduce([1, 2, 3], cluster.node_of(np.array([1, 2, 3])).tolist(), 8.0)
    protocol = pricing.protocols_for("ring", is_one_node=False)[0]
    assert pricing.latency_s(ring, protocol) == pytest.approx(10.6e-6, rel=1e-9)


def test_a_gpu_that_lost_its_nvlink_makes_nobody_else_faster():
    """GPU 0 goes round over the network; the messages of its peers take what they took."""
    cluster = make_cluster(16)
    graph = cluster.graph.copy()
    graph.remove_edges_from([("gpu0", "nvswitch0"), ("nvswitch0", "gpu0")])
    damaged = build_graph_cluster(graph, DEVICES["h100-sxm"], name="damaged")
    ring = ring_all_reduce(range(1, 8), [0] * 7, 8.0)
    latency_s = [Pricing(one).latency_s(ring, Pricing(one).protocols["ring"][0]) for one in (cluster, damaged)]
    assert latency_s[1] == pytest.approx(latency_s[0], rel=1e-9)
    whole = ring_all_reduce(range(8), [0] * 8, 8.0)
    slower = [Pricing(one).latency_s(whole, Pricing(one).protocols["ring"][0]) for one in (cluster, damaged)]
    assert slower[1] > slower[0]


def test_rings_of_a_dgx_v100_use_each_of_its_nvlinks_alike():
    """8 ranks send 2 * 7/8 of the tensor each over 48 links of 20 GB/s one way: 14 / 48 of it on each NVLink."""
    cluster = build_cluster(FABRICS["dgx-v100"], 1, DEVICES["v100-sxm2-32gb"])
    transfer = TransferCosts(cluster, all_reduce="ring").collective("all_reduce", np.arange(8), 48e9, group=0)
    assert transfer.alone_ns == pytest.approx(14e9 / 20e9 * 1e9, rel=1e-9)
    names = [cluster.link_names[link] for link in transfer.load.links]
    carried = dict(zip(names, transfer.load.num_bytes.tolist(), strict=True))
    assert len(carried) == 32
    assert carried["gpu0->gpu1"] == pytest.approx(14e9)
    assert carried["gpu0->gpu3"] == pytest.approx(28e9)


@pytest.mark.parametrize("ranks", [[0, 5], [0, 1, 4, 6], [0, 1, 2]])
def test_rings_of_gpus_without_a_ring_of_nvlinks_stay_as_they_are(ranks):
    """GPUs 0 and 5 have no NVLink; 1, 0, 4 and 6 are a chain; 0 has one NVLink each to 1 and 2, which have two."""
    cluster = build_cluster(FABRICS["dgx-v100"], 1, DEVICES["v100-sxm2-32gb"])
    shares = Pricing(cluster).cube_links(np.array(ranks))
    if ranks == [0, 1, 2]:  # 1/2 of the bytes on each of the six ways is all that rows and columns of three allow
        assert shares is not None
        assert [shares[pair] for pair in ((0, 1), (1, 2), (2, 0))] == pytest.approx([0.5] * 3, rel=1e-6)
    else:
        assert shares is None


def test_rings_of_half_a_dgx_v100_use_the_four_nvlinks_that_each_gpu_has():
    """GPUs 2 and 3 have five NVLinks to the others, 0 and 1 four: four rings are 80 GB/s; here it is 62."""
    cluster = build_cluster(FABRICS["dgx-v100"], 1, DEVICES["v100-sxm2-32gb"])
    transfer = TransferCosts(cluster, all_reduce="ring").collective("all_reduce", np.arange(4), 16e9, group=0)
    busbw = 2 * 3 / 4 * 16e9 / (transfer.alone_ns * 1e-9)
    assert 0.75 * 80e9 < busbw <= 80e9


@pytest.mark.parametrize("name", PRESETS)
def test_no_ring_of_a_preset_is_faster_than_the_nics_and_the_links_of_its_nodes(name):
    """Over two nodes each ring carries 2 (n - 1) / n of its part of the tensor over a NIC, and each GPU all of it."""
    preset = PRESETS[name]
    cluster = build_cluster(preset.fabric, 2, DEVICES[preset.device])
    ranks = np.arange(cluster.num_gpus)
    transfer = TransferCosts(cluster, all_reduce="ring").collective("all_reduce", ranks, 1e9, group=0)
    moved = 2 * (ranks.size - 1) / ranks.size * 1e9
    nics = preset.fabric.nics_per_node * preset.fabric.nic.bandwidth_bytes_per_s * preset.fabric.nic.efficiency
    assert transfer.alone_ns * 1e-9 >= moved / nics * (1 - 1e-6)
    assert transfer.alone_ns * 1e-9 >= moved / preset.fabric.in_node_bytes_per_s * (1 - 1 / preset.fabric.gpus_per_node)
    assert transfer.latency_ns > 0
