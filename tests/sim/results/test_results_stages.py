"""The stages account on traces worked out by hand."""

from handtraces import build_trace, parts, passes, row
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.results.stages import stages_ns


def account_of(*rows, **shape):
    return [parts(account) for account in stages_ns(build_trace(*rows, **shape))]


def test_gaps_are_stalled_while_a_pass_is_open_and_idle_otherwise():
    (account,) = account_of(
        *passes("F0 0-30, F1 50-60"), row("compute", "attention", 0, 10), row("compute", "expert", 55, 60)
    )
    # 10..30 in F0 and 50..55 in F1 are stalled, 30..50 is idle.
    assert account == {"attention": 10, "expert": 5, "stalled": 25, "idle": 20}


def test_a_stage_that_does_nothing_is_idle():
    assert account_of(row("compute", "attention", 0, 10), num_stages=2) == [{"attention": 10}, {"idle": 10}]


def test_idle_reaches_from_the_first_start_to_the_last_end_of_all_stages():
    rows = [row("compute", "attention", 5, 10), row("compute", "attention", 10, 25, stage=1)]
    assert account_of(*rows, num_stages=2) == [{"attention": 5, "idle": 15}, {"attention": 15, "idle": 5}]


def test_transfers_fall_into_their_parts():
    (account,) = account_of(row("comm", "ep_dispatch", 0, 20, imbalance_ns=3, contention_ns=5, latency_ns=2))
    assert account == {"ep_dispatch": 10, "imbalance": 3, "contention": 5, "latency": 2}


def test_rows_at_one_time_count_once():
    # Groups of a lane: the longest counts whole, what it covers not at all.
    (account,) = account_of(row("comm", "tp", 0, 10), row("comm", "tp", 0, 30, latency_ns=6), row("comm", "tp", 5, 30))
    assert account == {"tp": 24, "latency": 6}


def test_what_a_later_row_adds_is_split_as_the_whole_row():
    # The second row adds 10 of its 20 ns: half of its parts.
    (account,) = account_of(row("compute", "expert", 0, 20), row("compute", "expert", 10, 30, imbalance_ns=8))
    assert account == {"expert": 20 + 6, "imbalance": 4}


def test_hops_are_nobodys_time():
    assert account_of(*passes("F0 0-10"), row("compute", "expert", 0, 10), row("p2p", "pp", 10, 20)) == [
        {"expert": 10, "idle": 10}
    ]


def test_work_for_others_in_a_gap_is_foreign():
    (account,) = account_of(
        *passes("F0 0-20"),
        row("compute", "expert", 0, 5),
        row("foreign", "expert", 8, 12),
        row("compute", "expert", 15, 20),
    )
    assert account == {"expert": 10, "foreign": 4, "stalled": 6}


def test_work_for_others_is_the_mean_over_the_ranks_of_a_lane():
    # One of four ranks works for others during 8 of 20 ns of a transfer: 2 ns.
    (account,) = account_of(row("comm", "tp", 0, 20), row("foreign", "expert", 4, 12, rank=2), lane_size=4)
    assert account == {"foreign": 2, "tp": 18}


def test_work_for_others_while_no_pass_is_open_is_not_idle():
    first, _ = account_of(
        row("foreign", "expert", 4, 12),
        row("compute", "expert", 0, 4, stage=1),
        row("compute", "expert", 12, 20, stage=1),
        num_stages=2,
    )
    assert first == {"foreign": 8, "idle": 12}


def test_own_kernels_are_not_foreign_whatever_other_ranks_do():
    (account,) = account_of(
        row("compute", "expert", 0, 20, rank=0), row("foreign", "expert", 0, 20, rank=1), lane_size=2
    )
    assert account == {"expert": 20}


def test_a_stage_is_the_mean_of_its_lanes():
    assert account_of(row("compute", "expert", 0, 10), row("compute", "expert", 0, 20, lane=1), num_lanes=2) == [
        {"expert": 15, "idle": 5}
    ]


def test_the_mean_of_lanes_is_rounded_so_that_it_keeps_the_step_time():
    accounts = stages_ns(
        build_trace(row("compute", "expert", 0, 5), row("compute", "attention", 0, 4, lane=1), num_lanes=2)
    )
    assert sum(accounts[0].values()) == 5


SPANS = st.tuples(st.integers(0, 100), st.integers(0, 50))


@settings(deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(st.sampled_from(["compute", "comm", "foreign", "pass"]), SPANS, st.integers(0, 1)), min_size=1)
)
def test_every_account_sums_to_the_step_time_and_has_no_negative_part(items):
    rows = [
        row(stream, "F" if stream == "pass" else "expert", start, start + took, lane=lane)
        for stream, (start, took), lane in items
    ]
    trace = build_trace(*rows, num_stages=2, num_lanes=2, lane_size=2)
    for account in stages_ns(trace):
        assert sum(account.values()) == trace.step_ns
        assert min(account.values()) >= 0
