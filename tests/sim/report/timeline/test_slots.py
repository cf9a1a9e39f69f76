"""Rows of overlapping spans: certificates over random spans."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sim.report.timeline.bars import first_free_slots, share_strip

SPANS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 8)), max_size=25)


def as_arrays(spans):
    start = np.array([start for start, _ in spans], dtype=np.int64)
    return start, start + np.array([length for _, length in spans], dtype=np.int64)


def overlap(start, end, i, j):
    return max(start[i], start[j]) < min(end[i], end[j])


@given(SPANS)
def test_spans_of_one_row_never_overlap(spans):
    start, end = as_arrays(spans)
    slots = first_free_slots(start, end)
    for i in range(len(spans)):
        for j in range(i):
            assert slots[i] != slots[j] or not overlap(start, end, i, j)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 8)), max_size=25))
def test_there_are_as_many_rows_as_spans_open_at_once(spans):
    start, end = as_arrays(spans)
    most = max((int(((start <= t) & (t < end)).sum()) for t in range(40)), default=0)
    assert int(first_free_slots(start, end).max(initial=-1)) + 1 == most


@given(SPANS)
def test_shares_of_a_strip_stay_inside_it_and_apart(spans):
    start, end = as_arrays(spans)
    top, height = share_strip(start, end)
    assert ((top >= 0) & (height > 0) & (top + height <= 1 + 1e-12)).all()
    for i in range(len(spans)):
        for j in range(i):
            if overlap(start, end, i, j):
                assert min(top[i] + height[i], top[j] + height[j]) <= max(top[i], top[j]) + 1e-12


def test_a_span_alone_has_the_whole_strip():
    top, height = share_strip(np.array([0, 10]), np.array([10, 20]))
    assert top.tolist() == [0, 0]
    assert height.tolist() == [1, 1]
