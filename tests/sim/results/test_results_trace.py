"""The trace: rows become columns, and the base of a row is what its other parts leave."""

import numpy as np
import pytest
from handtraces import build_trace, passes, row

from sim.engine.recorder import Recorder
from sim.engine.trace import COLUMNS, KINDS, PASS_KINDS, STREAMS
from sim.results.accounts import CATEGORIES, empty_account


def test_base_is_what_the_other_parts_leave():
    trace = build_trace(row("comm", "tp", 5, 30, imbalance_ns=3, contention_ns=4, latency_ns=6))
    assert trace["base_ns"].tolist() == [12]


def test_a_trace_begins_with_its_first_start_and_ends_with_its_last_end():
    trace = build_trace(row("compute", "expert", 7, 9), row("p2p", "pp", 4, 30), row("compute", "expert", 8, 12))
    assert (trace.start_ns, trace.end_ns, trace.step_ns, len(trace)) == (4, 30, 26, 3)


def test_rows_are_chosen_by_stream_stage_and_lane():
    trace = build_trace(
        *passes("F0 0-1"), *passes("F0 1-2", stage=1), *passes("F0 2-3", stage=1, lane=1), num_stages=2, num_lanes=2
    )
    assert trace.rows("pass").tolist() == [0, 1, 2]
    assert trace.rows("pass", stage=1).tolist() == [1, 2]
    assert trace.rows("pass", stage=1, lane=1).tolist() == [2]
    assert trace.rows("compute").tolist() == []


def test_streams_and_kinds_are_given_as_text():
    trace = build_trace(row("foreign", "expert", 0, 1))
    assert (trace["stream"].tolist(), trace["kind"].tolist()) == (["foreign"], ["expert"])


def test_saved_arrays_are_all_columns_of_equal_length():
    arrays = build_trace(*passes("F0 0-1, B0 1-2")).arrays()
    assert tuple(arrays) == COLUMNS
    assert {values.shape for values in arrays.values()} == {(2,)}


def test_an_empty_trace_has_empty_columns():
    trace = build_trace()
    assert (len(trace), trace.step_ns) == (0, 0)
    assert all(values.size == 0 for values in trace.arrays().values())


def test_only_bytes_and_flops_are_floats():
    trace = build_trace(row("compute", "expert", 0, 1, flops=1.5, num_bytes=2.5))
    floats = {name for name in COLUMNS if trace.columns[name].dtype == np.float64}
    assert floats == {"bytes", "flops"}


@pytest.mark.parametrize(
    ("rows", "latest"),
    [
        ([("expert", 5), ("expert", 9)], 1),
        ([("expert", 9), ("expert", 9)], 0),
        ([("tp", 9), ("expert", 9)], 1),  # kinds in their fixed order
        ([], -1),
    ],
)
def test_the_latest_row_is_the_last_to_end_then_the_first_kind_then_the_lowest(rows, latest):
    recorder = Recorder()
    noted = [recorder.add(**row("compute", kind, 0, end_ns)) for kind, end_ns in rows]
    assert recorder.latest([-1, *noted]) == (noted[latest] if latest >= 0 else -1)


def test_every_kind_of_row_has_its_part_of_the_account():
    assert set(KINDS) - set(PASS_KINDS) <= set(CATEGORIES)
    assert set(CATEGORIES) - set(KINDS) == {"imbalance", "contention", "latency", "stalled", "foreign", "idle"}
    assert len(STREAMS) == 7
    assert empty_account() == dict.fromkeys(CATEGORIES, 0)


def test_a_trace_becomes_a_table_of_pandas():
    pandas = pytest.importorskip("pandas")
    table = build_trace(*passes("F0 0-1, B0 1-2")).to_pandas()
    assert isinstance(table, pandas.DataFrame)
    assert tuple(table.columns) == COLUMNS
    assert table["kind"].tolist() == ["F", "B"]
