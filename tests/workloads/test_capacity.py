"""Capacity of experts: what is computed, dropped and padded."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloads.errors import WorkloadError
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
        assert (kept.carried == capacity).all()


def test_rerouting_drops_nothing_while_there_is_room():
    kept = keep_capacity(drawn(), factor=1.0, overflow="reroute", tokens=100, top_k=2)
    assert kept.computed.sum() == drawn().sum()
    assert kept.computed.max() == 13  # of 12.5 on average


def test_rerouting_goes_to_the_next_expert_with_room():
    kept = keep_capacity(np.array([[0, 6, 2, 0]]), factor=1.5, overflow="reroute", tokens=8, top_k=1)
    assert kept.computed.tolist() == [[0, 3, 3, 2]]


@EVERY_OVERFLOW
@pytest.mark.parametrize("factor", [None, 8.0])
def test_enough_capacity_is_dropless(overflow, factor):
    """A token takes an expert once, so that experts / top_k is as good as infinite."""
    kept = keep_capacity(drawn(), factor=factor, overflow=overflow, tokens=100, top_k=2)
    np.testing.assert_array_equal(kept.computed, drawn())


def test_an_unknown_overflow_is_refused():
    with pytest.raises(WorkloadError, match="overflow must be one of drop, pad, reroute"):
        keep_capacity(drawn(), factor=1.0, overflow="spill", tokens=100, top_k=2)
