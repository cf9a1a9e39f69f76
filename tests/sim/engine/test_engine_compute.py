"""Ranks as resources: first come first served by hand, and against simpy's own resource of capacity 1."""

import numpy as np
import simpy
from hypothesis import given
from hypothesis import strategies as st
from properties import PATIENT

from sim.engine.run_state import RankCompute

NUM_RANKS = 4
CLAIMS = st.lists(
    st.tuples(
        st.integers(0, 50),
        st.dictionaries(st.integers(0, NUM_RANKS - 1), st.integers(0, 30), min_size=1),
    ),
    min_size=1,
    max_size=12,
)


def claim_all(claims, compute=None):
    """Return {(claim, rank): (start, end)} of claims in the order of time."""
    compute = RankCompute(NUM_RANKS) if compute is None else compute
    spans = {}
    for number, (now_ns, durations) in enumerate(claims):
        ranks = np.array(sorted(durations), dtype=np.intp)
        took = np.array([durations[rank] for rank in ranks.tolist()], dtype=np.int64)
        start, end, _ = compute.claim(ranks, took, now_ns=now_ns)
        starts = np.broadcast_to(start, end.shape)  # one start where all ranks are free
        for rank, a, b in zip(ranks.tolist(), starts.tolist(), end.tolist(), strict=True):
            spans[number, rank] = (a, b)
    return spans


def resource_spans(claims):
    """Return the same from one `simpy.Resource` per rank."""
    env, spans = simpy.Environment(), {}
    resources = [simpy.Resource(env, capacity=1) for _ in range(NUM_RANKS)]

    def work(number, rank, now_ns, took_ns):
        yield env.timeout(now_ns)
        with resources[rank].request() as request:
            yield request
            started = env.now
            yield env.timeout(took_ns)
            spans[number, rank] = (started, env.now)

    for number, (now_ns, durations) in enumerate(claims):
        for rank in sorted(durations):
            env.process(work(number, rank, now_ns, durations[rank]))
    env.run()
    return spans


def test_kernels_queue_in_the_order_in_which_they_come():
    spans = claim_all([(0, {0: 10, 1: 4}), (5, {0: 3, 1: 2}), (6, {0: 1}), (20, {0: 2})])
    assert spans == {
        (0, 0): (0, 10),
        (0, 1): (0, 4),
        (1, 0): (10, 13),
        (1, 1): (5, 7),
        (2, 0): (13, 14),
        (3, 0): (20, 22),
    }


def test_a_claim_hears_who_held_the_rank():
    compute = RankCompute(2)
    compute.claim(np.array([0, 1]), np.array([5, 5]), now_ns=0)
    compute.hold(np.array([0]), 7)
    assert compute.claim(np.array([0, 1]), np.array([1, 1]), now_ns=1)[2].tolist() == [7, -1]


@PATIENT
@given(CLAIMS)
def test_a_rank_serves_as_a_simpy_resource_of_capacity_one(claims):
    claims = sorted(claims, key=lambda claim: claim[0])
    assert claim_all(claims) == resource_spans(claims)


def test_the_resource_notices_claims_that_do_not_queue():
    class Overlapping(RankCompute):
        def claim(self, ranks, duration_ns, *, now_ns):
            start = np.full(ranks.size, now_ns)
            return start, start + duration_ns, np.full(ranks.size, -1)

    claims = [(0, {0: 10}), (5, {0: 3})]
    assert claim_all(claims, Overlapping(NUM_RANKS)) != resource_spans(claims)
