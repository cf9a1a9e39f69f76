"""SimGrid as referee: its max-min ends of flows, kept as data and run live where its driver is built."""

import numpy as np
import pytest
from plain_network import max_min_rates
from referee_cases import DRIVER, NAMES, ask_simgrid, load_kept
from referee_filling import fill, filled_ends_s
from referee_ours import judged_in, largest_difference, our_ends_s

REL = 1e-6  # of each end; whole nanoseconds are below 1e-7 of every end here
SAME = 1e-9  # two runs of SimGrid: other versions may sum in another order

CASES = [
    pytest.param(name, judged, marks=[pytest.mark.slow] if name.endswith("random_64") else [])
    for name in NAMES
    for judged in judged_in(name)
]
SMALL = [name for name in NAMES if not name.endswith("_64")]
LIVE = pytest.mark.skipif(
    not DRIVER.exists(),
    reason="SimGrid's driver is not built: install libsimgrid-dev and g++, then run `make test` or `make driver`",
)


@pytest.mark.parametrize(("name", "judged"), CASES)
def test_every_flow_ends_when_simgrid_said(name, judged):
    """Each flow's end is SimGrid's, as kept."""
    _, end_s = load_kept(name)
    np.testing.assert_allclose(our_ends_s(name, judged), end_s, rtol=REL)


@LIVE
@pytest.mark.parametrize("name", NAMES)
def test_simgrid_says_what_it_said(name):
    """SimGrid, run again now, gives the ends that were recorded."""
    case, kept_s = load_kept(name)
    np.testing.assert_allclose(ask_simgrid(case).end_s, kept_s, rtol=SAME)


@LIVE
@pytest.mark.parametrize(("name", "judged"), CASES)
def test_every_flow_ends_when_simgrid_says(name, judged):
    """Each flow's end is of SimGrid, run now."""
    case, _ = load_kept(name)
    np.testing.assert_allclose(our_ends_s(name, judged), ask_simgrid(case).end_s, rtol=REL)


@pytest.mark.parametrize("name", SMALL)
def test_water_filling_ends_flows_when_simgrid_said(name):
    """Without the engine and its clock: to float noise."""
    case, end_s = load_kept(name)
    assert largest_difference(filled_ends_s(case), end_s) < 1e-12


@pytest.mark.parametrize("name", SMALL)
def test_water_filling_in_rounds_gives_the_rates_of_one_link_at_a_time(name):
    """Filling all links that are lowest to their own flows at once is the engine's plain solver."""
    case, _ = load_kept(name)
    never = case.capacity_bytes_per_s.size
    longest = max(map(len, case.paths))
    padded = np.array([[*path, *[never] * (longest - len(path))] for path in case.paths])
    rates = fill(padded, np.append(case.capacity_bytes_per_s, np.inf))
    weights = [(np.array(path), np.ones(len(path))) for path in case.paths]
    np.testing.assert_allclose(rates, max_min_rates(weights, case.capacity_bytes_per_s), rtol=1e-9)


@pytest.mark.parametrize("name", SMALL)
def test_a_link_that_is_slower_by_a_thousandth_is_found(name):
    """The comparison can fail: with one link of 1 / 1000 less, some flow ends elsewhere by far more than REL."""
    case, end_s = load_kept(name)
    case.capacity_bytes_per_s[case.paths[0][0]] *= 0.999
    assert largest_difference(filled_ends_s(case), end_s) > 100 * REL
