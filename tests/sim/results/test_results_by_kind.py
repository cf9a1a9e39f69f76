"""What imbalance, contention and latency were of, on traces worked out by hand."""

import pytest
from handtraces import build_trace, row

from sim.results.accounts import categories_by_kind
from sim.results.stages import stages_ns


def parts_of(*rows, **shape):
    trace = build_trace(*rows, **shape)
    return {part: round(value * 1e9, 6) for part, value in categories_by_kind(trace, stages_ns(trace)).items() if value}


def test_contention_is_of_the_transfer_that_suffered_it():
    """Each row is whole in the account, so each part is exact."""
    rows = [
        row("comm", "ep_dispatch", 0, 20, imbalance_ns=3, contention_ns=5, latency_ns=2),
        row("compute", "expert", 20, 30, imbalance_ns=4),
        row("comm", "tp", 30, 50, contention_ns=7, latency_ns=1),
    ]
    assert parts_of(*rows) == {
        "ep_dispatch": 10, "imbalance_ep_dispatch": 3, "contention_ep_dispatch": 5, "latency_ep_dispatch": 2,
        "expert": 6, "imbalance_expert": 4, "tp": 12, "contention_tp": 7, "latency_tp": 1,
    }  # fmt: skip


def test_each_stage_has_its_own():
    """Stage 0 waits for a dispatch, stage 1 for a combine; a part is their mean."""
    rows = [
        row("comm", "ep_dispatch", 0, 20, contention_ns=8),
        row("comm", "ep_combine", 0, 20, contention_ns=4, stage=1),
    ]
    found = parts_of(*rows, num_stages=2)
    assert (found["contention_ep_dispatch"], found["contention_ep_combine"]) == (4, 2)


def test_what_nobody_waits_for_takes_no_part():
    rows = [
        row("comm", "tp", 0, 20, contention_ns=6),
        row("p2p", "pp", 0, 20, contention_ns=9),
        row("foreign", "expert", 30, 40, imbalance_ns=5),
        row("compute", "attention", 40, 50),
    ]
    found = parts_of(*rows)
    assert found["contention_tp"] == 6
    assert not {"contention_pp", "imbalance_expert"} & set(found)


def test_rows_at_one_time_share_the_stage_s_contention():
    """The second adds 10 of its 20 ns with half of its 8: 4 + 4 of the account, divided as 4 to 8."""
    rows = [
        row("comm", "ep_dispatch", 0, 20, contention_ns=4),
        row("comm", "tp", 10, 30, contention_ns=8),
    ]
    found = parts_of(*rows)
    assert found["contention_ep_dispatch"] == pytest.approx(8 / 3, abs=1e-6)
    assert sum(found.values()) == pytest.approx(30, abs=1e-5)
