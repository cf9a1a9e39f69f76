"""Ranks whose speed changes while they work: ends by hand, and the certificate that makes an end the right one."""

import numpy as np
import pytest
from handmade import make_transfer
from hypothesis import given, settings
from hypothesis import strategies as st
from properties import PATIENT

from sim.engine.clock import Alarm, Clock
from sim.engine.slowed_compute import SlowedCompute
from sim.errors import SimulationError

NUM_SMS = 100
NUM_RANKS = 3
RANKS = st.lists(st.integers(0, NUM_RANKS - 1), min_size=1, unique=True)
KERNELS = st.lists(st.integers(0, 20), min_size=1, max_size=3)
CLAIMS = st.lists(
    st.tuples(st.integers(0, 60), st.dictionaries(st.integers(0, NUM_RANKS - 1), KERNELS, min_size=1)),
    min_size=1,
    max_size=8,
)
OCCUPATIONS = st.lists(st.tuples(st.integers(0, 80), st.integers(0, 40), RANKS, st.integers(1, 16)), max_size=6)
"""Start, length, ranks and SMs of transfers that never take all SMs together."""


def occupy(*ranks, num_sms):
    """Return a transfer of which only the SMs matter."""
    return make_transfer({}, [], ranks=ranks, num_sms=num_sms)


def work(claims, occupations=(), kind=SlowedCompute):
    """Return the claims, each {rank: [time of each kernel]}, when all have ended."""
    clock = Clock()
    compute = kind(clock.env, NUM_RANKS, NUM_SMS)
    made = [None] * len(claims)

    def claim(number):
        ranks = np.array(list(claims[number][1]), dtype=np.intp)
        made[number] = compute.claim(ranks, np.array([sum(claims[number][1][rank]) for rank in ranks.tolist()]))

    for start_ns, length_ns, ranks, num_sms in occupations:
        transfer = occupy(*ranks, num_sms=num_sms)
        Alarm(clock.env, start_ns, lambda _, transfer=transfer: compute.begin(transfer))
        Alarm(clock.env, start_ns + length_ns, lambda _, transfer=transfer: compute.end(transfer))
    for number, (at_ns, _) in enumerate(claims):
        Alarm(clock.env, at_ns, lambda _, number=number: claim(number))
    clock.run()
    assert not any(one.is_open for one in made)
    assert not compute._running
    assert (compute._left == NUM_SMS).all()
    return made


def spans(claims, occupations=()):
    """Return {(claim, rank): (start, end)}."""
    return {
        (number, rank): (int(claim.start_ns[place]), int(claim.end_ns[place]))
        for number, claim in enumerate(work(claims, occupations))
        for place, rank in enumerate(claim.ranks.tolist())
    }


# --- by hand ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("occupations", "end_ns"),
    [
        ([], 100),
        ([(0, 400, [0], 20)], 125),  # 100 / 0.8
        ([(40, 400, [0], 20)], 115),  # 40 by 40, 60 / 0.8 = 75
        ([(0, 60, [0], 20)], 112),  # 48 by 60, 52
        ([(20, 30, [0], 50)], 115),  # 20 by 20, 15 by 50, 65
        ([(0, 60, [0], 20), (40, 60, [0], 30)], 130),  # 32 by 40, 10 by 60 at 0.5, 28 by 100 at 0.7, 30
        ([(0, 400, [1], 20)], 100),  # another rank's
        ([(10, 0, [0], 90)], 100),  # no time
        ([(99, 50, [0], 99)], 150),  # 99 by 99, 0.5 by 149 at 0.01, 0.5: rounded up
    ],
)
def test_a_kernel_of_100_ns_ends_when_worked_out_by_hand(occupations, end_ns):
    """What is done by when stands next to each case."""
    assert spans([(0, {0: [100]})], occupations) == {(0, 0): (0, end_ns)}


def test_who_waits_for_a_slowed_rank_begins_when_that_has_ended():
    """50 of 100 SMs taken from 0 to 30: 15 of 25 done by 30, 10 more to 40; then 20 to 60; the last comes at 70."""
    claims = [(0, {0: [25]}), (10, {0: [20], 1: [5]}), (70, {0: [1]})]
    assert spans(claims, [(0, 30, [0], 50)]) == {(0, 0): (0, 40), (1, 0): (40, 60), (1, 1): (10, 15), (2, 0): (70, 71)}


def test_one_that_waits_is_slowed_only_from_its_start_on():
    """Rank 0 at half speed from 5 to 15: 10 done by 15 of which 5 by 5, so 10 ends at 15, and what waits at 25."""
    assert spans([(0, {0: [10]}), (0, {0: [10]})], [(5, 10, [0], 50)]) == {(0, 0): (0, 15), (1, 0): (15, 25)}


def test_kernels_of_one_claim_do_not_add_up_their_rounding():
    """At 67 of 100 SMs, 1, 2 and 3 ns take 1.49, 2.99 and 4.48: ends at 2, 3 and 5; requested one by one 2, 4, 6."""
    (claim,) = work([(0, {0: [1, 1, 1]})], [(0, 400, [0], 33)])
    assert claim.took_ns(0, (1, 1, 1), NUM_SMS) == (2, 1, 2)
    apart = spans([(0, {0: [1]})] * 3, [(0, 400, [0], 33)])
    assert list(apart.values()) == [(0, 2), (2, 4), (4, 6)]


def test_work_that_asks_for_no_time_has_ended_when_it_comes():
    """No event for it."""
    clock = Clock()
    compute = SlowedCompute(clock.env, 1, NUM_SMS)
    assert not compute.claim(np.array([0]), np.array([0])).is_open
    assert compute.claim(np.array([0]), np.array([3])).is_open


def test_a_claim_hears_who_held_the_rank():
    """The span of the last claim, where one was noted."""
    compute = SlowedCompute(Clock().env, 2, NUM_SMS)
    compute.claim(np.array([0, 1]), np.array([5, 5]))
    compute.hold(np.array([0]), 7)
    assert compute.claim(np.array([0, 1]), np.array([1, 1])).holder.tolist() == [7, -1]


def test_work_that_64_bits_would_not_hold_is_refused():
    """2**62 SM * ns are 4.6e7 s of 100 SMs."""
    compute = SlowedCompute(Clock().env, 1, NUM_SMS)
    assert compute.claim(np.array([0]), np.array([2**62 // NUM_SMS])).is_open
    with pytest.raises(SimulationError, match=r"must be at most 4.61e\+07 s where transfers take SMs"):
        compute.claim(np.array([0]), np.array([2**62 // NUM_SMS + 1]))


# --- the certificate -------------------------------------------------------------------------------------------------


def speeds(occupations, rank, until_ns):
    """Return the SMs that `rank` has for kernels in each nanosecond. Shape [T]."""
    left = np.full(until_ns, NUM_SMS)
    for start_ns, length_ns, ranks, num_sms in occupations:
        if rank in ranks:
            left[start_ns : start_ns + length_ns] -= num_sms
    return left


def assert_worked(speed, start_ns, end_ns, work_ns):
    """Check that an end is the first whole nanosecond by which the work is done."""
    assert speed[start_ns:end_ns].sum() >= work_ns * NUM_SMS
    assert work_ns == 0 or speed[start_ns : end_ns - 1].sum() < work_ns * NUM_SMS


def assert_right(claims, occupations, made):
    """Check work, order and sign of contention of all claims; this leaves no other ends."""
    speed = {rank: speeds(occupations, rank, 5000) for rank in range(NUM_RANKS)}
    free_ns = dict.fromkeys(range(NUM_RANKS), 0)
    for number in sorted(range(len(claims)), key=lambda number: claims[number][0]):  # stable: first come first served
        at_ns, requested = claims[number]
        for place, (rank, kernels_ns) in enumerate(requested.items()):
            start_ns, end_ns = int(made[number].start_ns[place]), int(made[number].end_ns[place])
            assert start_ns == max(at_ns, free_ns[rank])
            assert_worked(speed[rank], start_ns, end_ns, sum(kernels_ns))
            free_ns[rank] = end_ns
            took_ns = made[number].took_ns(place, kernels_ns, NUM_SMS)
            assert all(took >= full for took, full in zip(took_ns, kernels_ns, strict=True))
            for upto in range(1, len(kernels_ns) + 1):
                if any(kernels_ns[:upto]):
                    last_work = sum(kernels_ns[:upto])
                    assert_worked(speed[rank], start_ns, start_ns + sum(took_ns[:upto]), last_work)


@settings(PATIENT, max_examples=400)
@given(CLAIMS, OCCUPATIONS)
def test_every_piece_of_work_is_done_in_turn_and_neither_more_nor_less_of_it(claims, occupations):
    """Ends are the first whole nanoseconds by which the speed has summed up to the work."""
    assert_right(claims, occupations, work(claims, occupations))


def test_the_certificate_notices_speeds_that_are_not_heard_of():
    """A kernel that goes on at full speed has done too little."""

    class Deaf(SlowedCompute):
        def _change(self, ranks, num_sms):
            del ranks, num_sms

    claims, occupations = [(0, {0: [100]})], [(40, 400, [0], 20)]
    with pytest.raises(AssertionError):
        assert_right(claims, occupations, work(claims, occupations, Deaf))
