"""Capacity of experts: what is computed, dropped and padded."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.errors import InvalidValueError
from workloads.routing import Skew, draw_counts
from workloads.routing.capacity import OVERFLOWS, keep_capacity

EVERY_OVERFLOW = pytest.mark.parametrize("overflow", OVERFLOWS)


def drawn(skew: float = 1.0, top_k: int = 2) -> np.ndarray:
    """Return counts [1, 8, 16] of 100 tokens of each source."""
    shape = {"num_sources": 8, "tokens": 100, "num_experts": 16, "top_k": top_k, "seed": 1}
    return draw_counts("zipf", **shape, layers=[0], microbatches=[0], skew=Skew(skew=skew))[0]


@EVERY_OVERFLOW
@given(factor=st.floats(0.1, 4.0), top_k=st.integers(1, 4))
def test_no_expert_computes_more_than_its_capacity(overflow, factor, top_k):
    """And none is made up: with the dropped ones, computed copies are those routed; padding fills up to capacity."""
    counts = drawn(top_k=top_k)
    kept = keep_capacity(counts, factor=factor, overflow=overflow, tokens=100, top_k=top_k)
    capacity = np.ceil(factor * 100 * top_k / 16 - 1e-9)
    assert (kept.computed >= 0).all()
    assert (kept.computed <= max(capacity, 0)).all() or factor * top_k / 16 >= 1
    assert (kept.computed.sum(axis=2) <= counts.sum(axis=2)).all()
    assert (kept.carried >= kept.computed).all()
    if overflow != "reroute":
        assert (kept.computed <= counts).all()
    if overflow == "pad":
        assert (kept.carried == min(capacity, 100)).all()


def test_top_1_rerouting_drops_nothing_while_there_is_room():
    """A copy can repeat none, so that it finds the room there is: of 6.25 on average, 7 on each expert."""
    counts = drawn(top_k=1)
    kept = keep_capacity(counts, factor=1.0, overflow="reroute", tokens=100, top_k=1)
    assert kept.computed.sum() == counts.sum()
    assert kept.computed.max() == 7
    beyond = np.maximum(counts - 7, 0).sum(axis=2)
    np.testing.assert_array_equal(kept.rerouted, beyond)


@EVERY_OVERFLOW
@given(factor=st.floats(0.1, 4.0), top_k=st.integers(1, 8), skew=st.floats(0.0, 2.0))
def test_rerouted_copies_are_those_that_others_than_their_own_experts_compute(overflow, factor, top_k, skew):
    """More computed than without, by what was rerouted; and only where they are rerouted."""
    counts = drawn(skew, top_k)
    keys = {"factor": factor, "tokens": 100, "top_k": top_k}
    kept, dropped = (keep_capacity(counts, overflow=name, **keys) for name in (overflow, "drop"))
    np.testing.assert_array_equal((kept.computed - dropped.computed).sum(axis=2), kept.rerouted)
    assert (kept.computed >= dropped.computed).all()
    assert (kept.rerouted > 0).any() <= (overflow == "reroute")
    assert kept.computed.max() <= 100


def rerouted_one_by_one(chosen, capacity, rng):
    """Send tokens [T, E] on one by one, to the next expert that they have not; return copies computed, and sent on."""
    has, pool, num_sent = chosen.astype(bool), [], 0
    kept = np.minimum(chosen.sum(axis=0), capacity)
    for step in range(2 * chosen.shape[1]):
        expert = step % chosen.shape[1]
        if step < chosen.shape[1]:
            pool += rng.permutation(np.flatnonzero(chosen[:, expert]))[capacity:].tolist()
        free = [i for i, token in enumerate(pool) if not has[token, expert]][: capacity - kept[expert]]
        has[[pool[i] for i in free], expert] = True
        kept[expert] += len(free)
        num_sent += len(free)
        pool = [token for i, token in enumerate(pool) if i not in set(free)]
    return kept, num_sent


@pytest.mark.parametrize(("skew", "factor"), [(0.5, 1.0), (1.0, 1.0), (1.0, 1.25)])
@pytest.mark.parametrize("top_k", [2, 4])
def test_rerouting_by_counts_is_as_token_by_token(top_k, skew, factor):
    """Within 2 % of the copies, for the counts of experts and for what is sent on: repeats are avoided as by name."""
    tokens = 2000
    shape = {"num_sources": tokens, "tokens": 1, "num_experts": 16, "top_k": top_k, "seed": 2}
    chosen = draw_counts("zipf", **shape, layers=[0], microbatches=[0], skew=Skew(skew=skew))[0, 0]
    capacity = int(np.ceil(factor * tokens * top_k / 16))
    wanted, num_sent = rerouted_one_by_one(chosen, capacity, np.random.default_rng(1))
    kept = keep_capacity(chosen.sum(axis=0)[None], factor=factor, overflow="reroute", tokens=tokens, top_k=top_k)
    assert np.abs(kept.computed[0] - wanted).sum() <= 0.02 * tokens * top_k
    assert kept.rerouted[0] == pytest.approx(num_sent, abs=0.02 * tokens * top_k)
    if num_sent < chosen.sum() - np.minimum(chosen.sum(axis=0), capacity).sum():
        assert kept.computed.sum() < chosen.sum()


def test_rerouted_copies_stay_on_their_nodes():
    """Two groups of two experts: what the first pair cannot take, the second does not get."""
    kept = keep_capacity(np.array([[6, 0, 1, 1]]), factor=1.0, overflow="reroute", tokens=8, top_k=1, groups=2)
    assert (kept.computed.tolist(), kept.rerouted.tolist()) == ([[2, 2, 1, 1]], [2])


def test_rerouting_goes_to_the_next_expert_with_room():
    kept = keep_capacity(np.array([[0, 6, 2, 0]]), factor=1.5, overflow="reroute", tokens=8, top_k=1)
    assert kept.computed.tolist() == [[0, 3, 3, 2]]


@EVERY_OVERFLOW
@given(
    beyond=st.one_of(st.none(), st.floats(1.0, 1e300), st.just(float("inf"))),
    top_k=st.integers(1, 16),
    skew=st.floats(0.0, 2.0),
)
def test_enough_capacity_is_dropless(overflow, beyond, top_k, skew):
    """A token takes an expert once, so that experts / top_k is as good as infinite: nothing is dropped or sent on.

    Padded, an expert has room for each token once.
    """
    counts = drawn(skew, top_k)
    factor = None if beyond is None else 16 / top_k * beyond
    kept = keep_capacity(counts, factor=factor, overflow=overflow, tokens=100, top_k=top_k)
    np.testing.assert_array_equal(kept.computed, counts)
    assert not kept.rerouted.any()
    is_padded = overflow == "pad" and factor is not None
    np.testing.assert_array_equal(kept.carried, np.full_like(counts, 100) if is_padded else counts)


def test_an_unknown_overflow_is_refused():
    with pytest.raises(InvalidValueError, match="overflow must be one of drop, pad, reroute"):
        keep_capacity(drawn(), factor=1.0, overflow="spill", tokens=100, top_k=2)
