"""Collectives: closed forms on one and two nodes, data-flow certificates, and the busiest port of an all-to-all."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.errors import InvalidValueError
from topology.cluster import Cluster, build_cluster
from topology.presets.clusters import FABRICS
from topology.presets.devices import DEVICES
from topology.presets.protocols import protocols_of
from workloads.collectives import (
    COLLECTIVES,
    OPERATIONS,
    CollectiveAlgorithm,
    Exchange,
    algorithm_names,
    algorithms_for,
    all_to_all,
    hierarchical_all_reduce,
    point_to_point,
)
from workloads.collectives.ring import ring_all_reduce, rings

ROUNDING = 1e-12
"""Sums of fewer than 1,000 positive floats, in any order: 1,000 * 2^-53 = 1.1e-13."""
ROUNDS = {"all_reduce": 2, "all_gather": 1, "reduce_scatter": 1}
"""Times that (n - 1) / n of the tensor leaves each rank, in the bandwidth-optimal algorithms."""
NVLINK, NIC = (
    link.bandwidth_bytes_per_s * link.efficiency for link in (FABRICS["dgx-h100"].nvlink, FABRICS["dgx-h100"].nic)
)
"""What the best protocol reaches."""
OPTIMAL = [(operation, algorithm) for operation in ROUNDS for algorithm in ("ring", "hierarchical")]
EVERY_OPTIMAL_ENTRY = pytest.mark.parametrize(("operation", "algorithm"), OPTIMAL)
ENTRIES = [(operation, algorithm) for algorithm, entry in COLLECTIVES.items() for operation in entry.exchanges]
EVERY_ENTRY = pytest.mark.parametrize(("operation", "algorithm"), ENTRIES)
NODES = st.lists(st.integers(1, 5), min_size=1, max_size=5)
EVEN_NODES = st.tuples(st.integers(2, 5), st.integers(2, 5)).map(lambda shape: [shape[1]] * shape[0])
BYTES = st.integers(1, 10**12).map(float)


def ranks_on(node_sizes: list[int]) -> tuple[list[int], list[int]]:
    """Ranks on nodes of 8, and the node of each."""
    places = [(8 * node + rail, node) for node, size in enumerate(node_sizes) for rail in range(size)]
    return [rank for rank, _ in places], [node for _, node in places]


def run_entry(operation: str, algorithm: str, node_sizes: list[int], num_bytes: float) -> Exchange:
    return COLLECTIVES[algorithm].exchanges[operation](*ranks_on(node_sizes), num_bytes)


def sent_and_received(exchange: Exchange) -> tuple[Counter[int], Counter[int]]:
    sent, received = Counter(), Counter()
    for src, dst, num_bytes in zip(exchange.src, exchange.dst, exchange.num_bytes, strict=True):
        sent[int(src)] += float(num_bytes)
        received[int(dst)] += float(num_bytes)
    return sent, received


def num_steps(exchange: Exchange) -> int:
    return sum(step.count for step in exchange.steps)


def h100s(num_nodes: int) -> Cluster:
    return build_cluster(FABRICS["dgx-h100"], num_nodes, DEVICES["h100-sxm"])


def latency_s(cluster: Cluster, exchange: Exchange) -> float:
    return sum(step.count * float(cluster.latency_s(step.src, step.dst).max()) for step in exchange.steps)


def drain_s(cluster: Cluster, exchange: Exchange) -> float:
    load = cluster.load(exchange.src, exchange.dst, exchange.num_bytes)
    return load.drain_time_s(cluster.capacity_bytes_per_s)


def bytes_by_kind(cluster: Cluster, exchange: Exchange) -> dict[str, set[float]]:
    """Which amounts the links of each kind carry."""
    load = cluster.load(exchange.src, exchange.dst, exchange.num_bytes)
    found: dict[str, set[float]] = {}
    for link, num_bytes in zip(load.links, load.num_bytes.tolist(), strict=True):
        found.setdefault(cluster.link_kinds[link], set()).add(num_bytes)
    return found


# --- every entry ---------------------------------------------------------------------------------------------------


@EVERY_OPTIMAL_ENTRY
@given(node_sizes=NODES, num_bytes=BYTES)
def test_a_collective_moves_the_least_bytes_that_any_can(operation, algorithm, node_sizes, num_bytes):
    """Patarasuk & Yuan 2009, theorem 1: (n - 1) S for each of reduce-scatter and all-gather."""
    exchange = run_entry(operation, algorithm, node_sizes, num_bytes)
    expected = ROUNDS[operation] * (sum(node_sizes) - 1) * num_bytes
    assert exchange.total_bytes == pytest.approx(expected, rel=ROUNDING)


@EVERY_OPTIMAL_ENTRY
@given(node_sizes=NODES, num_bytes=BYTES)
def test_each_rank_sends_and_receives_the_same_amount(operation, algorithm, node_sizes, num_bytes):
    sent, received = sent_and_received(run_entry(operation, algorithm, node_sizes, num_bytes))
    n = sum(node_sizes)
    share = ROUNDS[operation] * (n - 1) / n * num_bytes
    for rank in ranks_on(node_sizes)[0]:
        assert sent[rank] == pytest.approx(share, rel=ROUNDING)
        assert received[rank] == pytest.approx(share, rel=ROUNDING)


@EVERY_ENTRY
def test_a_group_of_one_costs_nothing(operation, algorithm):
    exchange = run_entry(operation, algorithm, [1], 1e9)
    assert (exchange.total_bytes, exchange.steps, exchange.src.size) == (0.0, (), 0)


@EVERY_ENTRY
@given(node_sizes=NODES, num_bytes=BYTES)
def test_messages_of_a_chain_are_between_ranks_that_have_a_flow(operation, algorithm, node_sizes, num_bytes):
    exchange = run_entry(operation, algorithm, node_sizes, num_bytes)
    flows = set(zip(exchange.src.tolist(), exchange.dst.tolist(), strict=True))
    for step in exchange.steps:
        assert step.count > 0
        assert set(zip(step.src.tolist(), step.dst.tolist(), strict=True)) <= flows


@pytest.mark.parametrize("operation", ["all_gather", "reduce_scatter"])
@pytest.mark.parametrize("algorithm", ["ring", "hierarchical"])
@given(node_sizes=NODES, num_bytes=BYTES)
def test_all_gather_and_reduce_scatter_are_half_an_all_reduce(operation, algorithm, node_sizes, num_bytes):
    half = run_entry(operation, algorithm, node_sizes, num_bytes)
    whole = run_entry("all_reduce", algorithm, node_sizes, num_bytes)
    np.testing.assert_allclose(2 * half.num_bytes, whole.num_bytes, rtol=ROUNDING)
    assert 2 * num_steps(half) == num_steps(whole)


@EVERY_ENTRY
@given(node_sizes=EVEN_NODES)
def test_twice_the_bytes_load_every_link_twice(operation, algorithm, node_sizes):
    one, two = (run_entry(operation, algorithm, node_sizes, num_bytes) for num_bytes in (1e9, 2e9))
    np.testing.assert_allclose(two.num_bytes, 2 * one.num_bytes, rtol=ROUNDING)
    assert num_steps(one) == num_steps(two)


def test_an_algorithm_that_is_entered_in_the_table_alone_can_be_named(monkeypatch):
    """`auto` considers the algorithm only where its entry says so; it is no choice for operations that it lacks."""
    for is_in_auto in (True, False):
        entry = CollectiveAlgorithm(exchanges={"all_reduce": ring_all_reduce}, is_in_auto=is_in_auto)
        monkeypatch.setitem(COLLECTIVES, "toy", entry)
        assert "toy" in algorithm_names()
        assert algorithms_for("all_reduce", "toy") == ["toy"]
        assert algorithms_for("all_gather", "toy") == []
        assert ("toy" in algorithms_for("all_reduce", "auto")) == is_in_auto


@pytest.mark.parametrize("algorithm", COLLECTIVES)
def test_no_algorithm_has_an_operation_that_the_ring_lacks(algorithm):
    """The ring runs what another algorithm does not have."""
    assert set(COLLECTIVES[algorithm].exchanges) <= set(COLLECTIVES["ring"].exchanges)


def test_the_ring_has_every_operation_whose_algorithm_is_chosen():
    with_algorithms = [name for name, operation in OPERATIONS.items() if operation.has_algorithms]
    assert with_algorithms == list(COLLECTIVES["ring"].exchanges)


@pytest.mark.parametrize("algorithm", COLLECTIVES)
def test_every_algorithm_has_protocols_on_links_that_are_known(algorithm):
    assert algorithm in {protocol.algorithm for protocol in protocols_of("nvlink4", "ib-ndr")}


# --- ring ----------------------------------------------------------------------------------------------------------


@given(node_sizes=NODES)
def test_each_ring_visits_each_rank_once(node_sizes):
    ranks, nodes = ranks_on(node_sizes)
    cycles = rings(ranks, nodes)
    assert len(cycles) == min(node_sizes)
    assert all(sorted(cycle) == ranks for cycle in cycles)


@given(node_sizes=EVEN_NODES)
def test_each_ring_enters_a_node_once(node_sizes):
    ranks, nodes = ranks_on(node_sizes)
    for cycle in rings(ranks, nodes):
        crossings = sum(a // 8 != b // 8 for a, b in pairwise([*cycle, cycle[0]]))
        assert crossings == len(node_sizes)


@pytest.mark.parametrize("num_nodes", [2, 4, 6])
@pytest.mark.parametrize("per_node", [1, 2, 5, 8])
def test_hops_between_an_even_number_of_nodes_use_each_nic_once_and_stay_on_its_rail(num_nodes, per_node):
    ranks, nodes = ranks_on([per_node] * num_nodes)
    hops = [(a, b) for cycle in rings(ranks, nodes) for a, b in pairwise([*cycle, cycle[0]]) if a // 8 != b // 8]
    assert all(a % 8 == b % 8 for a, b in hops)
    assert sorted(a for a, _ in hops) == sorted(b for _, b in hops) == ranks


EVERY_SECOND = [0, 2, 4, 6]
"""Positions of the GPUs next to a NIC on a node of eight GPUs and four NICs."""


def next_to_nics(ranks: list[int], positions: list[int]) -> list[int]:
    return [rank for rank in ranks if rank % 8 in positions]


def test_rings_of_eight_gpus_and_four_nics_enter_and_leave_at_the_nics():
    """Written by hand for three nodes: the closing hop goes from rail j - 1 to rail j."""
    ranks, nodes = ranks_on([8, 8, 8])
    first, second, third, fourth = rings(ranks, nodes, next_to_nics(ranks, EVERY_SECOND))
    assert first == [0, 1, 2, 3, 4, 5, 7, 6, 14, 15, 13, 12, 11, 10, 9, 8, 16, 17, 18, 19, 20, 21, 23, 22]
    assert second == [2, 3, 4, 5, 6, 7, 1, 0, 8, 9, 15, 14, 13, 12, 11, 10, 18, 19, 20, 21, 22, 23, 17, 16]
    assert [ring[0] for ring in (third, fourth)] == [4, 6]
    assert [ring[-1] for ring in (third, fourth)] == [18, 20]


@pytest.mark.parametrize("num_nodes", [2, 3, 4, 5])
@pytest.mark.parametrize("positions", [EVERY_SECOND, [3, 5], list(range(8))], ids=str)
def test_each_nic_sends_and_receives_one_ring_however_many_nodes(num_nodes, positions):
    """With k rings of n ranks a NIC carries 2 (n - 1) / n * S / k each way: S = 640 on 40 ranks, 4 rings: 312."""
    ranks, nodes = ranks_on([8] * num_nodes)
    exchange = ring_all_reduce(ranks, nodes, 640.0, next_to_nics(ranks, positions))
    crosses = exchange.src // 8 != exchange.dst // 8
    expected = 2 * (len(ranks) - 1) / len(ranks) * 640.0 / len(positions)
    sent, received = (
        {rank: float(exchange.num_bytes[crosses & (ends == rank)].sum()) for rank in np.unique(ends[crosses]).tolist()}
        for ends in (exchange.src, exchange.dst)
    )
    assert sent == received == {rank: pytest.approx(expected) for rank in next_to_nics(ranks, positions)}
    if (num_nodes, positions) == (5, EVERY_SECOND):
        assert expected == 312.0


@pytest.mark.parametrize("num_nodes", [2, 4])
def test_rings_over_ranks_next_to_nics_stay_on_their_rails_for_an_even_number_of_nodes(num_nodes):
    ranks, nodes = ranks_on([8] * num_nodes)
    for ring in rings(ranks, nodes, next_to_nics(ranks, EVERY_SECOND)):
        assert all(a % 8 == b % 8 for a, b in pairwise([*ring, ring[0]]) if a // 8 != b // 8)


@given(node_sizes=NODES, positions=st.sets(st.integers(0, 4)))
def test_no_rank_carries_two_rings_into_a_node_or_out_of_it(node_sizes, positions):
    """Also where nodes have unequally many ranks, and unequally many of them next to NICs."""
    ranks, nodes = ranks_on(node_sizes)
    cycles = rings(ranks, nodes, next_to_nics(ranks, sorted(positions)))
    assert all(sorted(ring) == ranks for ring in cycles)
    hops = [(a, b) for ring in cycles for a, b in pairwise([*ring, ring[0]]) if a // 8 != b // 8]
    assert len(hops) == (len(cycles) * len(node_sizes) if len(node_sizes) > 1 else 0)
    for ends in zip(*hops, strict=True):
        assert len(set(ends)) == len(ends)


@given(node_sizes=NODES)
def test_a_ring_brings_every_contribution_to_every_rank_in_twice_n_minus_1_steps(node_sizes):
    """The data flow itself: chunk c starts at place c; reduce-scatter, then all-gather."""
    n = sum(node_sizes)
    for cycle in rings(*ranks_on(node_sizes)):
        held = [[{rank} for _ in range(n)] for rank in cycle]  # held[place][chunk]: whose contributions are in
        for step in range(n - 1):
            messages = [(place, (place - step) % n, held[place][(place - step) % n]) for place in range(n)]
            for place, chunk, content in messages:
                held[(place + 1) % n][chunk] = held[(place + 1) % n][chunk] | content
        for step in range(n - 1):
            messages = [(place, (place + 1 - step) % n, held[place][(place + 1 - step) % n]) for place in range(n)]
            for place, chunk, content in messages:
                held[(place + 1) % n][chunk] = content
        assert all(chunk == set(cycle) for chunks in held for chunk in chunks)
    for operation, rounds in ROUNDS.items():
        assert num_steps(run_entry(operation, "ring", node_sizes, 1.0)) == rounds * (n - 1)


@given(node_sizes=NODES, num_bytes=BYTES)
def test_each_hop_of_each_ring_carries_an_equal_part(node_sizes, num_bytes):
    exchange = run_entry("all_reduce", "ring", node_sizes, num_bytes)
    n, k = sum(node_sizes), min(node_sizes)
    np.testing.assert_allclose(exchange.num_bytes, 2 * (n - 1) / n * num_bytes / k, rtol=ROUNDING)
    assert exchange.num_bytes.size == (n * k if n > 1 else 0)


@pytest.mark.parametrize("n", [2, 3, 8])
@pytest.mark.parametrize("num_bytes", [1e3, 1e9])
def test_ring_all_reduce_on_one_node_takes_its_alpha_beta_time(n, num_bytes):
    """2 (n - 1) alpha + 2 (n - 1) / n * S / B."""
    cluster = h100s(1)
    exchange = run_entry("all_reduce", "ring", [n], num_bytes)
    alpha_s, bytes_per_s = 3.33e-6, NVLINK
    assert latency_s(cluster, exchange) == pytest.approx(2 * (n - 1) * alpha_s, rel=ROUNDING)
    assert drain_s(cluster, exchange) == pytest.approx(2 * (n - 1) / n * num_bytes / bytes_per_s, rel=ROUNDING)


def test_steps_of_a_ring_cross_nodes_as_nccl_counts_them():
    """src/graph/tuning.cc: nInterSteps = 2 (nodes - 1) of 2 (n - 1) steps."""
    cluster = h100s(4)
    exchange = run_entry("all_reduce", "ring", [8] * 4, 1e9)
    assert latency_s(cluster, exchange) == pytest.approx(2 * 3 * 2.8e-6 + 2 * (31 - 3) * 3.33e-6, rel=ROUNDING)


# --- hierarchical --------------------------------------------------------------------------------------------------


def test_hierarchical_all_reduce_on_two_nodes_of_eight_by_hand():
    size = 16e9
    cluster = h100s(2)
    exchange = run_entry("all_reduce", "hierarchical", [8, 8], size)
    assert bytes_by_kind(cluster, exchange) == {
        "nvlink": {2 * 7 / 8 * size},
        "pcie": {2 * 1 / 2 * size / 8},
        "nic": {2 * 1 / 2 * size / 8},
    }
    assert [step.count for step in exchange.steps] == [2 * 7, 2 * 1]
    assert latency_s(cluster, exchange) == pytest.approx(14 * 3.33e-6 + 2 * 2.8e-6, rel=ROUNDING)
    assert drain_s(cluster, exchange) == pytest.approx(max(28e9 / (NVLINK), 2e9 / NIC), rel=ROUNDING)


@pytest.mark.parametrize(("algorithm", "expected_ms"), [("hierarchical", 27), ("ring", 50)])
def test_an_all_reduce_of_a_stages_activations_keeps_the_nics_busy_for(algorithm, expected_ms):
    """1.3 M tokens of 1,024 bf16 in 4 layers over 2 nodes of 8 NICs of 50 GB/s: S/8/B, and 15/8 of it as a ring.

    NVLink at 450 GB/s takes longer than the NICs under the hierarchical one: 7/4 S/B = 41 ms.
    """
    (nic_bytes,) = bytes_by_kind(h100s(2), run_entry("all_reduce", algorithm, [8, 8], 4 * 1.3e6 * 1024 * 2))["nic"]
    assert 1e3 * nic_bytes / 50e9 == pytest.approx(expected_ms, abs=0.5)


@pytest.mark.parametrize("operation", ROUNDS)
@given(node_sizes=EVEN_NODES)
def test_two_levels_tell_everybody_everything_and_save_no_step(operation, node_sizes):
    """Flood what each rank knows along the chain: complete after all steps, incomplete with one less of any level."""
    exchange = run_entry(operation, "hierarchical", node_sizes, 1.0)
    rounds = ROUNDS[operation]

    def everybody_knows(spare: int | None) -> bool:
        knows = {rank: {rank} for rank in ranks_on(node_sizes)[0]}
        for number, step in enumerate(exchange.steps):
            for _ in range(step.count // rounds - (number == spare)):
                news = {int(b): knows[int(a)] for a, b in zip(step.src, step.dst, strict=True)}
                knows = {rank: known | news[rank] for rank, known in knows.items()}
        return all(len(known) == len(knows) for known in knows.values())

    assert everybody_knows(None)
    assert not any(everybody_knows(level) for level in range(len(exchange.steps)))


@pytest.mark.parametrize("operation", ROUNDS)
@pytest.mark.parametrize("node_sizes", [[8], [8, 7], [1, 1, 1], [3, 1]])
def test_without_two_even_levels_hierarchical_is_the_ring(operation, node_sizes):
    two_level, ring = (run_entry(operation, algorithm, node_sizes, 1e9) for algorithm in ("hierarchical", "ring"))
    for field in ("src", "dst", "num_bytes"):
        np.testing.assert_array_equal(getattr(two_level, field), getattr(ring, field))
    assert [step.count for step in two_level.steps] == [step.count for step in ring.steps]


@given(node_sizes=EVEN_NODES)
def test_two_levels_never_put_more_on_a_nic_than_the_ring(node_sizes):
    """2 (k - 1) / k S / g against 2 (n - 1) / n S / g, and n >= k."""
    cluster = h100s(len(node_sizes))
    ranks, nodes = ranks_on(node_sizes)
    nic = [
        max(bytes_by_kind(cluster, algorithm(ranks, nodes, 1e9))["nic"])
        for algorithm in (hierarchical_all_reduce, ring_all_reduce)
    ]
    assert nic[0] <= nic[1]


# --- all-to-all ----------------------------------------------------------------------------------------------------


@st.composite
def matrices(draw: st.DrawFn, size: int) -> np.ndarray:
    entries = draw(st.lists(st.integers(0, 10**9), min_size=size * size, max_size=size * size))
    return np.array(entries, dtype=float).reshape(size, size)


@given(matrix=matrices(5))
def test_all_to_all_sends_what_is_off_the_diagonal(matrix):
    exchange = all_to_all(range(5), matrix)
    assert exchange.total_bytes == matrix.sum() - np.trace(matrix)
    assert (exchange.src != exchange.dst).all()
    sent, received = sent_and_received(exchange)
    for rank in range(5):
        assert sent[rank] == matrix[rank].sum() - matrix[rank, rank]
        assert received[rank] == matrix[:, rank].sum() - matrix[rank, rank]


@given(matrix=matrices(6))
def test_all_to_all_is_bound_by_its_busiest_port(matrix):
    """Two ranks on each of three nodes: NVLink carries what stays in the node, the NIC what leaves it."""
    cluster, ranks = h100s(3), [0, 1, 8, 9, 16, 17]
    exchange = all_to_all(ranks, matrix)
    np.fill_diagonal(matrix, 0.0)
    inside = np.kron(np.eye(3), np.ones((2, 2))) * matrix
    outside = matrix - inside
    nvlink_s = max(inside.sum(axis=0).max(), inside.sum(axis=1).max()) / (NVLINK)
    nic_s = max(outside.sum(axis=0).max(), outside.sum(axis=1).max()) / NIC
    assert drain_s(cluster, exchange) == pytest.approx(max(nvlink_s, nic_s), rel=ROUNDING)


@given(matrix=matrices(4))
def test_the_way_back_of_an_all_to_all_takes_as_long(matrix):
    cluster, ranks = h100s(2), [0, 3, 8, 13]
    there, back = (drain_s(cluster, all_to_all(ranks, each)) for each in (matrix, matrix.T))
    assert back == pytest.approx(there, rel=ROUNDING)


def test_bytes_to_oneself_are_free():
    exchange = all_to_all([4, 5], np.diag([7.0, 9.0]))
    assert (exchange.total_bytes, exchange.steps, exchange.flow_bytes) == (0.0, (), 0.0)


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        ([[0.0, 1.0]], r"have shape \[2, 2\], got shape \[1, 2\]"),
        (np.zeros((3, 3)), r"have shape \[2, 2\], got shape \[3, 3\]"),
        ([[0.0, -1.0], [0.0, 0.0]], r"hold finite entries that are not negative, got -1\.0"),
        ([[0.0, np.nan], [0.0, 0.0]], r"hold finite entries that are not negative, got nan"),
        ([[0.0, np.inf], [0.0, 0.0]], r"hold finite entries that are not negative, got inf"),
    ],
)
def test_a_bad_matrix_is_refused(matrix, message):
    with pytest.raises(InvalidValueError, match=f"all_to_all: byte_matrix must {message}"):
        all_to_all([0, 1], matrix)


# --- point to point ------------------------------------------------------------------------------------------------


def test_point_to_point_takes_latency_and_bytes_over_the_slowest_link():
    cluster = h100s(2)
    exchange = point_to_point([0, 1], [8, 9], NIC * 1e-3)
    assert latency_s(cluster, exchange) == pytest.approx(2.8e-6, rel=ROUNDING)
    assert drain_s(cluster, exchange) == pytest.approx(1e-3, rel=ROUNDING)


def test_two_senders_to_one_receiver_take_twice_as_long():
    cluster = h100s(2)
    assert drain_s(cluster, point_to_point([0, 1], [8, 8], NIC * 1e-3)) == pytest.approx(2e-3, rel=ROUNDING)


def test_point_to_point_without_a_receiver_for_each_sender_is_refused():
    with pytest.raises(InvalidValueError, match="dst must name one receiver for each of 2 senders, got 1"):
        point_to_point([0, 1], [8], 1.0)
