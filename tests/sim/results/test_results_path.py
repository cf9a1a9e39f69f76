"""The path account on traces worked out by hand."""

import pytest
from handtraces import build_trace, parts, passes, row

from sim.results.path import exposed_communication_ns, path_ns, path_rows


def test_a_chain_of_rows_falls_into_the_parts_of_its_rows():
    trace = build_trace(
        row("compute", "attention", 0, 10),
        row("comm", "tp", 10, 30, released_by=0, imbalance_ns=4, contention_ns=6, latency_ns=2),
        row("compute", "expert", 30, 35, released_by=1),
        *passes("F0 0-35"),
    )
    expected = {"attention": 10, "tp": 8, "imbalance": 4, "contention": 6, "latency": 2, "expert": 5}
    assert parts(path_ns(trace)) == expected
    assert exposed_communication_ns(trace)["tp"] == 20  # with its latency, contention and imbalance


def test_the_wait_between_a_release_and_a_start_is_stalled():
    trace = build_trace(row("compute", "attention", 0, 10), row("compute", "expert", 15, 20, released_by=0))
    assert parts(path_ns(trace)) == {"attention": 10, "stalled": 5, "expert": 5}


def test_a_path_that_begins_late_was_stalled_before():
    trace = build_trace(row("compute", "attention", 3, 8), row("compute", "expert", 10, 20))
    assert parts(path_ns(trace)) == {"stalled": 7, "expert": 10}
    assert trace.step_ns == 17


def test_what_released_a_row_counts_up_to_its_start():
    # Ranks of a lane end at different times: the row that stands for them ends at 20, this rank was free at 12.
    trace = build_trace(
        row("compute", "expert", 0, 20, imbalance_ns=5), row("foreign", "expert", 12, 40, released_by=0)
    )
    assert path_rows(trace) == [(1, 12, 40), (0, 0, 12)]
    # 12 of the 20 ns, in proportion: 9 of the 15 of base, 3 of the 5 of imbalance.
    assert parts(path_ns(trace)) == {"expert": 28 + 9, "imbalance": 3}


def test_a_release_that_began_later_is_passed_through():
    trace = build_trace(
        row("compute", "attention", 0, 10),
        row("compute", "attention", 10, 30, released_by=0),
        row("foreign", "expert", 8, 40, released_by=1),
    )
    assert parts(path_ns(trace)) == {"attention": 8, "expert": 32}


@pytest.mark.parametrize("kinds", [("attention", "expert"), ("expert", "attention"), ("pp", "tp"), ("dp", "optimizer")])
def test_of_rows_that_end_last_together_the_first_kind_is_on_the_path(kinds):
    order = ("attention", "expert", "optimizer", "tp", "pp", "dp")
    trace = build_trace(*(row("compute", kind, 0, 10) for kind in kinds))
    assert parts(path_ns(trace)) == {min(kinds, key=order.index): 10}


def test_of_equal_rows_that_end_last_together_the_lowest_is_on_the_path():
    trace = build_trace(row("compute", "expert", 5, 10), row("compute", "expert", 0, 10))
    assert path_rows(trace) == [(0, 5, 10)]


def test_passes_are_not_on_the_path():
    assert parts(path_ns(build_trace(*passes("F0 0-7")))) == {"stalled": 7}


def test_hops_on_the_path_are_exposed_and_others_are_not():
    trace = build_trace(
        row("compute", "expert", 0, 10),
        row("p2p", "pp", 10, 14, released_by=0, latency_ns=4),
        row("p2p", "pp", 10, 13, released_by=0),
        row("compute", "expert", 14, 20, stage=1, released_by=1),
        num_stages=2,
    )
    assert exposed_communication_ns(trace)["pp"] == 4
    assert parts(path_ns(trace)) == {"expert": 16, "latency": 4}


def test_what_runs_on_the_path_while_the_lane_computes_is_not_exposed():
    # One pass sends from 10 to 30; the other pass of the pair computes from 5 to 12, from 11 to 14 and from 25 to 40.
    trace = build_trace(
        row("compute", "attention", 0, 10),
        row("comm", "ep_dispatch", 10, 30, released_by=0, latency_ns=2),
        row("compute", "expert", 30, 50, released_by=1),
        row("compute", "attention", 5, 12),
        row("compute", "attention", 11, 14),
        row("compute", "attention", 25, 40),
    )
    assert parts(path_ns(trace)) == {"attention": 10, "ep_dispatch": 18, "latency": 2, "expert": 20}
    assert exposed_communication_ns(trace)["ep_dispatch"] == 25 - 14


def test_what_another_stage_computes_hides_nothing():
    trace = build_trace(
        row("comm", "tp", 0, 10),
        row("compute", "expert", 10, 20, released_by=0),
        row("compute", "attention", 0, 10, stage=1),
        num_stages=2,
    )
    assert exposed_communication_ns(trace)["tp"] == 10


def test_an_empty_trace_has_an_empty_account():
    assert parts(path_ns(build_trace())) == {}
