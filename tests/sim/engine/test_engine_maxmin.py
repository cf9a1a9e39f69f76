"""Max-min fair rates: the certificate that makes a rate max-min fair, hand cases, and invariances."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_network import max_min_rates
from properties import PATIENT

from sim.engine.network.maxmin import few_max_min_rates

# Links within 1e-12 of the lowest level fill together; flows differ by up to 1,000 and up to 8 transfers meet, which
# can magnify that (and float noise) by 8,000 on a link: 8e-9. The faults looked for are far above it.
REL = 1e-8


@st.composite
def problems(draw):
    """Draw transfers [(links, flows)] and the capacity of each link."""
    num_links = draw(st.integers(1, 6))
    capacity = draw(st.lists(st.floats(1.0, 1000.0), min_size=num_links, max_size=num_links))
    flows = st.floats(0.01, 10.0)
    loads = draw(st.lists(st.dictionaries(st.integers(0, num_links - 1), flows, min_size=1), min_size=1, max_size=8))
    return [weights_of(load) for load in loads], np.array(capacity)


def weights_of(load):
    links = sorted(load)
    return np.array(links, dtype=np.intp), np.array([load[link] for link in links], dtype=float)


def assert_max_min_fair(weights, capacity, rates):
    """Check the certificate (Bertsekas & Gallager, section 6.5.2): it holds for max-min fair rates and no others."""
    used = np.zeros(capacity.size)
    highest = np.zeros(capacity.size)
    for (links, flows), rate in zip(weights, rates, strict=True):
        used[links] += flows * rate
        highest[links] = np.maximum(highest[links], rate)
    assert (used <= capacity * (1 + REL)).all(), "a link is over its capacity"
    for (links, _), rate in zip(weights, rates, strict=True):
        full = used[links] >= capacity[links] * (1 - REL)
        assert (full & (rate >= highest[links] * (1 - REL))).any(), (
            "a transfer has no full link where it is the fastest"
        )


@PATIENT
@given(problems())
def test_every_transfer_has_a_full_link_on_which_none_is_faster(problem):
    weights, capacity = problem
    assert_max_min_fair(weights, capacity, max_min_rates(weights, capacity))


@PATIENT
@given(problems())
def test_the_certificate_refuses_any_other_rates(problem):
    weights, capacity = problem
    rates = max_min_rates(weights, capacity)
    for position in range(len(weights)):
        for factor in (0.9, 1.1):
            other = rates.copy()
            other[position] *= factor
            with pytest.raises(AssertionError):
                assert_max_min_fair(weights, capacity, other)


@PATIENT
@given(problems(), st.integers(-20, 20))
def test_rates_scale_with_the_capacities(problem, power):
    weights, capacity = problem
    scale = 2.0**power  # exact in floats, so that equality is exact
    assert (max_min_rates(weights, capacity * scale) == max_min_rates(weights, capacity) * scale).all()


@PATIENT
@given(problems(), st.integers(-20, 20))
def test_rates_per_flow_fall_as_every_transfer_stands_for_more_flows(problem, power):
    weights, capacity = problem
    scale = 2.0**power
    more = [(links, flows * scale) for links, flows in weights]
    assert (max_min_rates(more, capacity) == max_min_rates(weights, capacity) / scale).all()


@PATIENT
@given(problems(), st.randoms(use_true_random=False))
def test_the_order_of_transfers_does_not_matter(problem, random):
    weights, capacity = problem
    turned = list(range(len(weights)))
    random.shuffle(turned)
    rates = max_min_rates([weights[i] for i in turned], capacity)
    assert rates == pytest.approx(max_min_rates(weights, capacity)[turned], rel=REL)


@pytest.mark.parametrize(
    ("loads", "capacity", "expected"),
    [
        pytest.param([{0: 1}], [8], [8], id="one transfer takes the link"),
        pytest.param([{0: 2, 1: 1}], [8, 3], [3], id="one transfer runs at its slowest link"),
        pytest.param([{0: 3}, {0: 1}], [100], [25, 25], id="four flows share equally"),
        pytest.param([{0: 1}, {0: 1}, {0: 2}], [12], [3, 3, 3], id="weights are numbers of flows"),
        pytest.param([{0: 1, 1: 1}, {0: 1}, {1: 1}], [10, 4], [2, 8, 2], id="what one leaves the other takes"),
        pytest.param([{0: 1, 1: 1}, {0: 1}, {1: 1}], [10, 30], [5, 5, 25], id="the parking lot"),
        pytest.param([{0: 1}, {1: 1}], [7, 9], [7, 9], id="strangers do not meet"),
        pytest.param([{0: 1, 1: 1}, {1: 1}], [0, 5], [0, 5], id="a dead link stops its transfer alone"),
        pytest.param([{0: 4, 1: 1}, {1: 1}], [4, 10], [1, 9], id="a wide transfer is held by its crowded link"),
    ],
)
def test_rates_are_those_worked_out_by_hand(loads, capacity, expected):
    assert max_min_rates([weights_of(load) for load in loads], np.array(capacity, dtype=float)).tolist() == expected


def test_no_transfers_have_no_rates():
    assert max_min_rates([], np.array([5.0])).size == 0


@settings(PATIENT, max_examples=200)
@given(problems())
def test_dense_rows_give_the_plain_solvers_rates(problem):
    weights, capacity = problem
    rows = np.zeros((len(weights), capacity.size))
    for row, (links, flows) in zip(rows, weights, strict=True):
        row[links] = flows / capacity[links]
    assert few_max_min_rates(list(rows)) == pytest.approx(max_min_rates(weights, capacity), rel=1e-9)
