"""Stalls: open passes without the lane's own work, checked by hand and nanosecond by nanosecond."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from report_traces import record

from sim.report.timeline.bars import stalls_in, stalls_ns

SPANS = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 8)), max_size=6)


def test_the_stall_of_the_example_lies_between_transfer_and_next_pass(every_stream):
    """But for the time in which a rank computes for another stage, from 2.1 to 2.5 ms."""
    start, end = stalls_ns(every_stream, 0, 0)
    assert (start.tolist(), end.tolist()) == ([2_000_000, 2_500_000], [2_100_000, 3_000_000])


def test_stalls_are_cut_at_the_window(every_stream):
    stage, start, end = stalls_in(every_stream, (2_500_000, 3_500_000), [0, 1], lane=0)
    assert list(zip(stage.tolist(), start.tolist(), end.tolist(), strict=True)) == [
        (0, 2_500_000, 3_000_000),
        (1, 3_000_001, 3_100_001),
    ]


@settings(max_examples=60)
@given(passes=SPANS, work=SPANS)
def test_each_nanosecond_is_stalled_that_has_an_open_pass_and_no_work(passes, work):
    rows = [("pass", "F", s, s + n) for s, n in passes] + [("compute", "expert", s, s + n) for s, n in work]
    start, end = stalls_ns(record(rows), 0, 0)
    stalled = {t for a, b in zip(start.tolist(), end.tolist(), strict=True) for t in range(a, b)}
    is_open = {t for s, n in passes for t in range(s, s + n)}
    assert stalled == is_open - {t for s, n in work for t in range(s, s + n)}
    assert (np.diff(np.stack([start, end], axis=1).ravel()) > 0).all()
