"""A collective on its own: dispatch and combine by hand on one node and two, bandwidths, and the plan's run."""

from math import comb

import numpy as np
import pytest
from works import make_cluster

from sim.build.work import CollectiveWork
from sim.engine.simulation import run_plan
from sim.plan.collective import CollectivePlan
from sim.plan.transfer_costs import TransferSms, exchange_sms
from topology.cluster import build_cluster
from topology.presets.clusters import FABRICS
from topology.presets.devices import DEVICES
from topology.presets.fitted import FITTED
from workloads.collectives import OPERATIONS
from workloads.collectives.settings import NetworkSettings
from workloads.routing.settings import RoutingSettings

TOKENS, TOP_K, EXPERTS = 4096, 8, 256
DISPATCH, COMBINE = 7392.0, 14336.0
"""Bytes of a token of 7168 values: in fp8 with 56 scales of 4 bytes, in bf16."""
NVLINK, NIC = 370.8, 0.884 * 50.0
"""GB/s of an H100's NVLink under NCCL's Simple, and of a NIC under DeepEP."""
DIRECT_NVLINK, DIRECT_NIC = FITTED["nvlink4 direct rate"].value * 450.0, FITTED["ib direct rate"].value * 50.0
"""GB/s that NCCL's all-to-all reaches."""
DIRECT_CALL_NS, DIRECT_CALL_ACROSS_NS = (FITTED[f"{name} direct call"].value * 1e9 for name in ("nvlink4", "ib"))
OWN_COPY = FITTED["nvlink4 own copy"].value
"""Time of a byte that a rank keeps over one that it sends."""
INSIDE_NS, BETWEEN_NS, RAILS_NS = 3330, 2800, 3700
"""Paths: over the NVSwitch, under one leaf, across leaves."""


def plan_of(op, *, num_nodes=1, ranks=None, cluster=None, max_nodes_per_token=None, sms=None, **more):
    """Return a plan; tokens choose their experts evenly."""
    cluster = make_cluster(8 * num_nodes) if cluster is None else cluster
    ranks = np.arange(8 * num_nodes) if ranks is None else np.array(ranks)
    tokens = {"tokens": TOKENS, "top_k": TOP_K, "experts": EXPERTS} if op in ("dispatch", "combine") else {}
    network = NetworkSettings(**{key: more.pop(key) for key in ("all_to_all", "fidelity") if key in more})
    routing = RoutingSettings(max_nodes_per_token=max_nodes_per_token)
    work = CollectiveWork(cluster=cluster, op=op, ranks=ranks, network=network, routing=routing, **tokens, **more)
    return CollectivePlan(work, sms=sms)


def hit(num_owners, *, experts=EXPERTS):
    """Return how likely a token goes to one of as many equal owners: it misses with C(E - E / n, k) / C(E, k)."""
    return 1 - comb(experts - experts // num_owners, TOP_K) / comb(experts, TOP_K)


# --- dispatch and combine --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("op", "token_bytes"), [("dispatch", DISPATCH), ("combine", COMBINE)])
@pytest.mark.parametrize(
    ("algorithm", "call_ns", "reached"),
    [
        ("direct", (DIRECT_CALL_NS, DIRECT_CALL_ACROSS_NS), (DIRECT_NVLINK, DIRECT_NIC)),
        ("low_latency", (15_000, 15_000), (NVLINK, NIC)),
    ],
)
def test_a_direct_exchange_sends_every_copy(op, token_bytes, algorithm, call_ns, reached):
    """Of tokens x 8 copies 7/8 leave a rank over NVLink, NCCL's kernel copies 1/8; on two nodes half use its NIC."""
    copies = TOKENS * TOP_K * token_bytes
    own_ns = OWN_COPY * copies / 8 / reached[0] if algorithm == "direct" else 0.0
    one = plan_of(op, num_bytes=token_bytes, all_to_all=algorithm)
    assert one.transfer.alone_ns == pytest.approx(7 / 8 * copies / reached[0], abs=1)
    assert one.transfer.latency_ns == pytest.approx(call_ns[0] + own_ns + INSIDE_NS, abs=1)
    two = plan_of(op, num_nodes=2, num_bytes=token_bytes, all_to_all=algorithm)
    assert two.transfer.alone_ns == pytest.approx(8 / 16 * copies / reached[1], abs=1)
    assert two.transfer.latency_ns == pytest.approx(call_ns[1] + RAILS_NS, abs=1)
    assert one.logical_bytes == two.logical_bytes == copies


@pytest.mark.parametrize(("op", "token_bytes"), [("dispatch", DISPATCH), ("combine", COMBINE)])
def test_a_hierarchical_exchange_sends_a_token_to_a_rank_once(op, token_bytes):
    """On one node: tokens x hit(8) to each of 7 others; what counts as bandwidth is all 8."""
    plan = plan_of(op, num_bytes=token_bytes, all_to_all="hierarchical")
    to_one = TOKENS * hit(8) * token_bytes
    assert plan.transfer.alone_ns == pytest.approx(7 * to_one / NVLINK, abs=1)
    assert plan.logical_bytes == pytest.approx(8 * to_one)


@pytest.mark.parametrize(("op", "token_bytes"), [("dispatch", DISPATCH), ("combine", COMBINE)])
def test_a_hierarchical_exchange_crosses_to_a_node_once(op, token_bytes):
    """On two nodes nearly every token goes to both: tokens x hit(2) to the other over the NIC, on one rail."""
    plan = plan_of(op, num_nodes=2, num_bytes=token_bytes, all_to_all="hierarchical")
    to_other = TOKENS * hit(2) * token_bytes
    assert plan.transfer.alone_ns == pytest.approx(to_other / NIC, abs=1)
    assert plan.transfer.latency_ns == BETWEEN_NS + INSIDE_NS  # to the relay on its rail, and on from there
    assert plan.logical_bytes == pytest.approx(2 * to_other)


def test_where_nvlink_is_slow_handing_on_is_what_takes_long():
    """H800: each rank hands 7 ranks of its node their tokens of its own and of its peer's, at 0.684 of 200 GB/s."""
    cluster = build_cluster(FABRICS["h800"], 2, DEVICES["h800-sxm"])
    plan = plan_of("dispatch", num_nodes=2, cluster=cluster, num_bytes=DISPATCH, all_to_all="hierarchical")
    handed = 2 * 7 * TOKENS * hit(16) * DISPATCH
    reached = FITTED["nvlink4-h800 DeepEP rate"].value * 200
    assert plan.transfer.alone_ns == pytest.approx(handed / reached, abs=1)


def test_a_limit_of_nodes_is_what_crosses():
    """One of two nodes for each token: half of the tokens cross, and have all of their experts among 128."""
    plan = plan_of("dispatch", num_nodes=2, num_bytes=DISPATCH, all_to_all="hierarchical", max_nodes_per_token=1)
    to_rank = TOKENS / 2 * hit(8, experts=128) * DISPATCH
    crossed = TOKENS / 2 * DISPATCH
    assert plan.logical_bytes == pytest.approx(2 * crossed)
    assert plan.transfer.alone_ns == pytest.approx(max(2 * 7 * to_rank / NVLINK, crossed / NIC), abs=1)


def test_few_sms_hold_back_what_moves_inside_a_node():
    """4 SMs of 24.2 GB/s move 96.8 GB/s of the 7 / 8 of the copies that leave a rank."""
    few = TransferSms(num_sms=4, bytes_per_s=24.2e9)
    plan = plan_of("dispatch", num_bytes=DISPATCH, sms={"all_to_all": few})
    assert plan.transfer.alone_ns == pytest.approx(7 / 8 * TOKENS * TOP_K * DISPATCH / 96.8, abs=1)
    assert plan.transfer.num_sms == 4


def test_small_messages_take_the_protocol_that_answers_sooner():
    """8 ranks with 800 kB each: 700 kB to the others, and 8 kB each, at what messages of that size take."""
    for num_bytes, size in ((800e3, "small"), (8e3, "tiny")):
        plan = plan_of("all_to_all", num_bytes=num_bytes)
        alone_ns, own_ns = 7 / 8 * num_bytes / DIRECT_NVLINK, OWN_COPY * num_bytes / 8 / DIRECT_NVLINK
        call_ns = FITTED[f"nvlink4 {size} call"].value * 1e9
        slower_ns = (FITTED[f"nvlink4 {size} slowdown"].value - 1) * (alone_ns + own_ns)
        assert plan.transfer.alone_ns == pytest.approx(alone_ns, abs=1)
        assert plan.transfer.latency_ns == pytest.approx(call_ns + slower_ns + own_ns + INSIDE_NS, rel=0.02)


@pytest.mark.parametrize("num_sms", [8, 24])
def test_a_normal_kernel_of_deepep_has_a_start_and_its_sms(num_sms):
    """On one node SMs move 7 of 8 ranks' tokens, as far as NVLink carries them; a combine starts later."""
    network = NetworkSettings(all_to_all="deepep", num_sms=num_sms)
    bytes_per_s = {name: FITTED[f"DeepEP normal {name}"].value for name in ("SM rate", "SM rate across")}
    link = FITTED["nvlink4 DeepEP normal rate"].value * 450.0
    to_others = 7 * TOKENS * hit(8) * DISPATCH
    there, back = (
        plan_of(op, num_bytes=DISPATCH, all_to_all="deepep", sms=exchange_sms(network))
        for op in ("dispatch", "combine")
    )
    rate = min(num_sms * bytes_per_s["SM rate"] / 1e9, link)
    assert there.transfer.alone_ns == back.transfer.alone_ns == pytest.approx(to_others / rate, abs=1)
    call_ns, combine_ns = (FITTED[f"DeepEP normal {name}"].value * 1e9 for name in ("call", "combine"))
    assert there.transfer.latency_ns == pytest.approx(call_ns + INSIDE_NS, abs=1)
    assert back.transfer.latency_ns == pytest.approx(call_ns + combine_ns + INSIDE_NS, abs=1)
    two = plan_of("dispatch", num_nodes=2, num_bytes=DISPATCH, all_to_all="deepep", sms=exchange_sms(network))
    handed = 2 * 7 * TOKENS * hit(16) * DISPATCH
    slowest = num_sms * bytes_per_s["SM rate across"] / 1e9
    assert two.transfer.alone_ns == pytest.approx(max(handed / slowest, TOKENS * hit(2) * DISPATCH / NIC), abs=1)


def test_hybridep_starts_as_a_normal_kernel_and_fills_nvlink():
    """16 SMs of 45 GB/s are more than NVLink 4 carries."""
    plan = plan_of("dispatch", num_bytes=COMBINE, all_to_all="hybridep")
    reached = FITTED["nvlink4 copy rate"].value * 450.0
    assert plan.transfer.alone_ns == pytest.approx(7 * TOKENS * hit(8) * COMBINE / reached, abs=1)
    assert plan.transfer.num_sms == 16


# --- other operations ------------------------------------------------------------------------------------------------


def test_an_all_to_all_keeps_its_own_part():
    """16 ranks with 16 MB each: 8 MB to the other node over the NIC; by way of nodes the same, on the rails."""
    for algorithm, nic in (("direct", DIRECT_NIC), ("low_latency", NIC), ("hierarchical", NIC)):
        plan = plan_of("all_to_all", num_nodes=2, num_bytes=16e6, all_to_all=algorithm)
        assert plan.transfer.alone_ns == pytest.approx(8e6 / nic, abs=1)
    nodes = make_cluster(16).node_of(np.arange(16))
    relayed = plan_of("all_to_all", num_nodes=2, num_bytes=16e6, all_to_all="hierarchical")
    src, dst, num_bytes = relayed_pairs(relayed)
    crosses = nodes[src] != nodes[dst]
    assert (src[crosses] % 8 == dst[crosses] % 8).all()
    assert num_bytes[crosses] == pytest.approx(8e6)


def relayed_pairs(plan):
    """Return who sends what to whom."""
    run = run_plan(plan, keep_ended=True)
    use = plan.costs.pairs.total(run.num_ended, plan.work.cluster.node_of(np.arange(16)), None)
    src, dst = np.nonzero(use.num_bytes)
    return src, dst, use.num_bytes[src, dst]


def test_each_rank_sends_to_the_next_and_two_send_one_way():
    """The last of 16 sends to the first over the NICs; of two the second is silent."""
    ring = plan_of("send", num_nodes=2, num_bytes=1e6)
    assert ring.transfer.total_bytes == 16e6
    assert ring.transfer.alone_ns == pytest.approx(1e6 / (0.957 * 50), abs=1)
    assert plan_of("send", ranks=[3, 5], num_bytes=1e6).transfer.total_bytes == 1e6


def test_the_ranks_that_are_given_take_part():
    """Ranks 0 and 8 of two nodes meet under one leaf; 0 and 9 across rails."""
    same, other = (plan_of("send", num_nodes=2, ranks=[0, last], num_bytes=1.0) for last in (8, 9))
    assert (same.transfer.latency_ns, other.transfer.latency_ns) == (BETWEEN_NS, RAILS_NS)


@pytest.mark.parametrize(
    ("op", "of_8", "of_16"),
    [
        ("all_reduce", 1.75, 1.875),
        ("all_gather", 0.875, 0.9375),
        ("reduce_scatter", 0.875, 0.9375),
        ("all_to_all", 0.875, 0.9375),
        ("broadcast", 1.0, 1.0),
        ("send", 1.0, 1.0),
        ("dispatch", 1.0, 1.0),
    ],
)
def test_bus_bandwidth_is_that_of_nccl_tests(op, of_8, of_16):
    """doc/PERFORMANCE.md: 2 (n - 1) / n of an all-reduce, (n - 1) / n of what is sent once."""
    assert (OPERATIONS[op].bus_factor(8), OPERATIONS[op].bus_factor(16)) == (of_8, of_16)


@pytest.mark.parametrize("op", ["all_reduce", "all_gather", "reduce_scatter", "broadcast", "all_to_all", "send"])
@pytest.mark.parametrize("fidelity", ["bulk", "flow"])
def test_a_run_takes_latency_and_time_alone(op, fidelity):
    """Nothing else is on the network."""
    plan = plan_of(op, num_nodes=2, num_bytes=3e6, fidelity=fidelity)
    step_ns = run_plan(plan).trace.step_ns
    assert step_ns == pytest.approx(plan.transfer.latency_ns + plan.transfer.alone_ns, abs=1)
    assert plan.choice.time_ns == pytest.approx(step_ns, abs=1)


@pytest.mark.parametrize("algorithm", ["direct", "low_latency", "hierarchical"])
def test_combining_takes_the_way_back(algorithm):
    """With as many bytes of a token it puts the same on the links, the other way round."""
    there, back = (plan_of(op, num_nodes=2, num_bytes=DISPATCH, all_to_all=algorithm) for op in ("dispatch", "combine"))
    assert there.transfer.total_bytes == pytest.approx(back.transfer.total_bytes)
    assert there.transfer.alone_ns == back.transfer.alone_ns
