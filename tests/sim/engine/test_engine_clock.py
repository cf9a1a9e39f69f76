"""The clock: whole nanoseconds rounded up, refusals, order of ties, and guards against running for ever."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import PATIENT

from sim.engine.clock import SOLVE_PRIORITY, Alarm, Clock
from sim.errors import SimulationError
from sim.time import to_ns, to_ns_array

NOISE_NS = 1e-6  # the clock takes this much above a whole nanosecond for float noise
DELAYS_S = st.floats(min_value=0.0, max_value=1e4)
BAD_DELAYS_S = pytest.mark.parametrize("delay_s", [math.nan, math.inf, -math.inf, -1e-12, -1.0, 1e12])


@PATIENT
@given(DELAYS_S)
def test_a_delay_is_rounded_up_to_the_next_whole_nanosecond(delay_s):
    exact_ns = delay_s * 1e9
    assert exact_ns - NOISE_NS <= to_ns(delay_s) < exact_ns + 1


@PATIENT
@given(st.integers(min_value=0, max_value=10**9))
def test_a_whole_number_of_nanoseconds_stays_as_it_is(delay_ns):
    # n * 1e-9 * 1e9 is off by at most two roundings: n * 2.2e-16 <= 2.2e-7 ns, below the noise taken away.
    assert to_ns(delay_ns * 1e-9) == delay_ns


@PATIENT
@given(st.lists(DELAYS_S, min_size=1, max_size=5))
def test_an_array_of_delays_is_rounded_as_each_delay_alone(delays_s):
    assert to_ns_array(np.array(delays_s)).tolist() == [to_ns(delay_s) for delay_s in delays_s]


@BAD_DELAYS_S
@pytest.mark.parametrize(
    "convert", [to_ns, lambda delay_s: to_ns_array(np.array([0.0, delay_s]))], ids=["one", "array"]
)
def test_a_delay_that_is_no_time_is_refused(convert, delay_s):
    with pytest.raises(SimulationError, match="finite, not negative and at most"):
        convert(delay_s)


def tick(clock, delay_ns, times=None):
    """Run for ever in steps of `delay_ns`, or a number of times."""
    while times is None or times > 0:
        yield clock.env.timeout(delay_ns)
        times = None if times is None else times - 1


def test_a_run_that_an_event_ends_has_counted_the_events_before():
    clock, times = Clock(), 5

    def fail(_):
        raise SimulationError("refused")

    clock.env.process(tick(clock, 1, times))
    Alarm(clock.env, 100, fail)
    with pytest.raises(SimulationError, match="refused"):
        clock.run()
    assert clock.num_events == times + 2  # the process begins and ends


def test_a_run_over_its_event_budget_ends_with_a_message():
    clock = Clock(max_events=100)
    clock.env.process(tick(clock, 1))
    with pytest.raises(SimulationError, match="within 100 events"):
        clock.run()
    assert clock.num_events == 101


def test_time_that_stands_still_ends_with_a_message():
    clock = Clock(max_events_at_one_time=50)
    clock.env.process(tick(clock, 0))
    with pytest.raises(SimulationError, match="time must move on, and 51 events happened at 0 ns"):
        clock.run()


def test_a_run_within_its_budgets_ends_at_its_last_event():
    clock = Clock(max_events=102, max_events_at_one_time=3)  # start and end of the process are events too
    clock.env.process(tick(clock, 7, times=100))
    clock.run()
    assert (clock.now_ns, clock.num_events) == (700, 102)


def test_events_at_one_time_happen_in_the_order_in_which_they_were_entered():
    clock, seen = Clock(), []
    for number in range(20):
        Alarm(clock.env, 5, lambda _, number=number: seen.append(number))
    clock.run()
    assert seen == list(range(20))


def test_the_network_solves_after_all_lanes_of_that_time():
    clock, seen = Clock(), []
    Alarm(clock.env, 5, lambda _: seen.append("solve"), SOLVE_PRIORITY)
    Alarm(clock.env, 5, lambda _: seen.append("lane"))
    Alarm(clock.env, 4, lambda _: seen.append("before"), SOLVE_PRIORITY)
    clock.run()
    assert seen == ["before", "lane", "solve"]


def test_time_beyond_what_64_bits_hold_is_refused_with_a_likely_cause():
    clock = Clock()

    def wait():
        for _ in range(10):
            yield clock.env.timeout(10**18)

    clock.env.process(wait())
    with pytest.raises(SimulationError, match="simulated time must stay below 146 years"):
        clock.run()
