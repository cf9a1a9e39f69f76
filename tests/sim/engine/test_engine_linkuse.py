"""What links carried: bytes, time and load, also where transfers that do not meet use one link."""

from unittest.mock import patch

import numpy as np
import pytest
from handmade import make_transfer, run_network
from hypothesis import given
from hypothesis import strategies as st
from plain_links import plain_use
from properties import PATIENT

from sim.engine.network import link_account
from sim.engine.network.link_account import _raise_ranges
from sim.engine.network.linkuse import LinkLog

CAPACITY = [1.0, 1.0, 4.0]
"""Two narrow links and a wide one behind both, which never is full."""
CAN_FILL = np.array([True, True, False])


def two_over_a_wide_link(**kwargs):
    """Run a: 0 to 100 ns on links 0 and 2, b: 50 to 200 ns on links 1 and 2."""
    a, b = make_transfer({0: 100, 2: 100}, CAPACITY), make_transfer({1: 150, 2: 150}, CAPACITY)
    network, batches = run_network(CAPACITY, [(0, [a]), (50, [b])], **kwargs)
    return network, [batch.end_ns for batch in batches]


def test_transfers_that_share_a_link_that_cannot_be_full_do_not_meet():
    """Each ends as if alone, and nothing is solved."""
    network, ends = two_over_a_wide_link(can_saturate=CAN_FILL)
    assert ends == [[100], [200]]
    assert network.num_solves == 0
    assert two_over_a_wide_link()[1] == ends  # as where they do meet
    assert two_over_a_wide_link()[0].num_solves > 0


@pytest.mark.parametrize("kwargs", [{}, {"can_saturate": CAN_FILL}], ids=["all can fill", "one cannot"])
def test_a_link_is_busy_while_any_transfer_uses_it(kwargs):
    """The wide link: 250 bytes in 200 ns, a quarter full, half full from 50 to 100 ns, then a quarter."""
    use = two_over_a_wide_link(**kwargs)[0].link_use()
    assert use.num_bytes == pytest.approx([100, 150, 250])
    assert use.busy_s * 1e9 == pytest.approx([100, 150, 200])
    assert use.time_ns.tolist() == [0, 50, 100, 200]
    assert use.utilisation[:, 0] == pytest.approx([1.0, 1.0, 1.0, 0.0])  # the busiest of the kind


def test_the_load_of_a_link_is_the_sum_of_those_that_use_it():
    """The wide link's kind alone: narrow links are of another."""
    a, b = make_transfer({0: 100, 2: 100}, CAPACITY), make_transfer({1: 150, 2: 150}, CAPACITY)
    kinds = ["narrow", "narrow", "wide"]
    network, _ = run_network(CAPACITY, [(0, [a]), (50, [b])], kinds=kinds, can_saturate=CAN_FILL)
    use = network.link_use()
    assert use.kinds == ("narrow", "wide")
    assert use.utilisation[:, 1] == pytest.approx([0.25, 0.5, 0.25, 0.0])


def test_gaps_in_which_nothing_flows_are_not_busy():
    """Two transfers of 10 ns with 30 ns between them."""
    one = make_transfer({2: 40}, CAPACITY)
    network, _ = run_network(CAPACITY, [(0, [one]), (40, [one])], can_saturate=CAN_FILL)
    use = network.link_use()
    assert use.busy_s * 1e9 == pytest.approx([0, 0, 20])
    assert use.time_ns.tolist() == [0, 10, 40, 50]
    assert use.utilisation[:, 0] == pytest.approx([1.0, 0.0, 1.0, 0.0])


@PATIENT
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 40), st.floats(0, 1)), max_size=30))
def test_ranges_are_raised_as_one_by_one(ranges):
    """What is done in blocks of powers of two is what slices do."""
    low, num, values = (np.array(of) for of in zip(*ranges, (0, 1, 0.0), strict=True))
    first, last = low, low + num
    wanted, rows = np.zeros(80), np.zeros(80)
    for low, high, value in zip(first, last, values, strict=True):
        wanted[low:high] = np.maximum(wanted[low:high], value)
    _raise_ranges(rows, first, last, values)
    assert (rows == wanted).all()


LOADS = ({0: 40}, {1: 20, 2: 10}, {1: 30, 2: 5}, {0: 10, 3: 10, 4: 10}, {2: 1, 3: 7, 4: 7})
"""Transfers on five links; the last two carry the same in all of them, and the first never shares an interval."""


@PATIENT
@given(
    st.lists(
        st.tuples(st.integers(0, 60), st.integers(1, 30), st.lists(st.integers(0, 4), min_size=1, max_size=3)),
        min_size=1,
        max_size=14,
    ),
    st.sampled_from([1, 3, 1 << 20]),
)
def test_the_account_is_that_of_every_link_at_every_time(noted, piece):
    """Intervals that overlap in any way, of transfers that come again and of others, in pieces of any size."""
    capacity, kinds = np.array([2.0, 1.0, 1.0, 3.0, 3.0]) * 1e9, ["a", "a", "b", "c", "c"]
    transfers = [make_transfer(load, capacity / 1e9) for load in LOADS]
    log = LinkLog(capacity, list("vwxyz"), kinds, np.array([True, True, True, True, False]))
    plain = []
    for start, length, members in noted:
        flowing = [transfers[member] for member in dict.fromkeys(members)]
        rates = [1e9 / (3 + number) for number in range(len(flowing))]
        log.add(start, start + length, flowing, rates)
        plain.append((start, start + length, flowing, rates))
    for transfer in transfers:
        log.end(transfer)
    with patch.object(link_account, "_PIECE", piece):
        use = log.summary()
    wanted = plain_use(plain, capacity)
    assert use.time_ns.tolist() == wanted.time_ns
    assert (use.busy_s * 1e9).round().tolist() == wanted.busy_ns.tolist()
    of_kind = np.stack([wanted.utilisation[:, which].max(axis=1) for which in ([0, 1], [2], [3, 4])], axis=1)
    np.testing.assert_allclose(use.utilisation, of_kind, atol=1e-12)
    mean = (wanted.utilisation[:-1] * np.diff(wanted.time_ns)[:, None]).sum(axis=0) / wanted.time_ns[-1]
    course = (use.hot_utilisation * np.diff(use.hot_edges_ns)[:, None]).sum(axis=0) / wanted.time_ns[-1]
    if of_kind.max() <= 1.0:  # the course is cut at a full link
        np.testing.assert_allclose(course, mean[use.hottest], atol=1e-9)


def test_a_link_is_the_bottleneck_while_it_is_full():
    """a: 100 bytes on link 0, b: 150 on links 0 and 1 (twice as wide). Shared: 200 ns at 1/2, then b alone 50 more.

    Link 0 is full for all 250 ns, link 1 at a quarter, then at a half: never.
    """
    capacity = [1.0, 2.0]
    a, b = make_transfer({0: 100}, capacity), make_transfer({0: 150, 1: 150}, capacity)
    use = run_network(capacity, [(0, [a]), (0, [b])])[0].link_use()
    assert use.bottleneck_s * 1e9 == pytest.approx([250, 0])
    assert use.hottest.tolist() == [0, 1]


def test_each_of_several_links_is_the_bottleneck_of_its_own_transfers():
    """Three transfers on two links: a on 0 (weight 1), b on 0 and 1, c on 1 with a capacity of 3.

    a and b get 1/2 each on link 0, c the other 5/2 of link 1: both are full until a and b end at 20 ns; c has 10 left.
    """
    capacity = [1.0, 3.0]
    traffic = [make_transfer(load, capacity, flow_bytes=flow) for load, flow in (({0: 10}, 10), ({0: 10, 1: 10}, 10))]
    traffic.append(make_transfer({1: 60}, capacity, flow_bytes=60))
    use = run_network(capacity, [(0, traffic)])[0].link_use()
    assert use.bottleneck_s * 1e9 == pytest.approx([20, 24], abs=1)


def test_the_course_of_the_hottest_link_is_its_mean_load_in_each_bin():
    """The wide link of the first test: a quarter, half from 50 to 100 ns, then a quarter. The narrow ones are alike."""
    use = two_over_a_wide_link(can_saturate=CAN_FILL)[0].link_use()
    assert use.hottest.tolist() == [1, 2]
    assert use.hot_edges_ns[[0, -1]].tolist() == [0, 200]
    wide = use.hot_utilisation[:, 1]
    edges = use.hot_edges_ns[:-1]
    for low, high, load in ((0, 50, 0.25), (50, 100, 0.5), (100, 200, 0.25)):
        assert wide[(edges >= low) & (edges < high)] == pytest.approx(load)
    assert (wide * np.diff(use.hot_edges_ns)).sum() * CAPACITY[2] == pytest.approx(250)


def test_without_a_course_no_bottleneck_is_told():
    """It would take as long to find as the course."""
    use = two_over_a_wide_link()[0].link_use(with_timeline=False)
    assert use.bottleneck_s is None
    assert use.hottest.size == use.hot_utilisation.size == 0


@PATIENT
@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 2), st.integers(1, 400)), min_size=1, max_size=12))
def test_a_link_is_the_bottleneck_at_most_while_it_is_busy_and_at_least_for_its_bytes(traffic):
    """Bytes of the hottest links are the integral of their course; a link alone in the world is full while busy."""
    capacity = [1.0, 2.0, 4.0]
    starts = [(start_ns, [make_transfer({link: size}, capacity)]) for start_ns, link, size in traffic]
    use = run_network(capacity, sorted(starts, key=lambda start: start[0]))[0].link_use()
    assert use.bottleneck_s == pytest.approx(use.busy_s)
    carried = (use.hot_utilisation * np.diff(use.hot_edges_ns)[:, None]).sum(axis=0)
    # The end of a transfer is rounded up, and its load is noted to that end.
    slack = len(traffic) * np.array(capacity)[use.hottest]
    bytes_of_course = carried * np.array(capacity)[use.hottest]
    assert (np.abs(bytes_of_course - use.num_bytes[use.hottest]) <= slack).all()
