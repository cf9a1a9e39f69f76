"""The Perfetto file read back: every row an event, no overlap in a thread, times to the nanosecond."""

import itertools
import json
import math
from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest

from sim.engine.trace import STREAMS
from sim.report.perfetto import write_perfetto


def refuse(constant):
    raise AssertionError(f"{constant} is no JSON")


def read(trace, path):
    write_perfetto(trace, path, name="a run")
    return json.loads(path.read_text(), parse_float=Decimal, parse_constant=refuse)


def spans_of(data):
    return [event for event in data["traceEvents"] if event["ph"] == "X"]


def names_of(data, what):
    return [e["args"]["name"] for e in data["traceEvents"] if e["ph"] == "M" and e["name"] == what]


def ns(microseconds):
    value = Decimal(microseconds) * 1000
    assert value == int(value)
    return int(value)


def test_each_row_is_a_complete_event_with_its_times(every_stream, tmp_path):
    spans = spans_of(read(every_stream, tmp_path / "t.json"))
    assert [span["args"]["row"] for span in spans] == list(range(len(every_stream)))
    start, end = every_stream.ints("start_ns").tolist(), every_stream.ints("end_ns").tolist()
    assert [ns(span["ts"]) for span in spans] == start
    assert [ns(span["dur"]) for span in spans] == [b - a for a, b in zip(start, end, strict=True)]


def test_durations_sum_per_stream_to_those_of_the_trace(every_stream, tmp_path):
    spans = spans_of(read(every_stream, tmp_path / "t.json"))
    took = every_stream.ints("end_ns") - every_stream.ints("start_ns")
    for stream in STREAMS:
        total = sum(ns(span["dur"]) for span in spans if span["cat"] == stream)
        assert total == int(took[every_stream["stream"] == stream].sum())


@pytest.mark.parametrize("fixture", ["every_stream", "long_run"])
def test_spans_of_a_thread_never_overlap(request, tmp_path, fixture):
    data = read(request.getfixturevalue(fixture), tmp_path / "t.json")
    key = lambda span: (span["pid"], span["tid"])  # noqa: E731  # the sort key and the group key are one
    for _, thread in itertools.groupby(sorted(spans_of(data), key=key), key):
        times = sorted((ns(span["ts"]), ns(span["ts"]) + ns(span["dur"])) for span in thread)
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(times))


def test_processes_are_stages_and_threads_are_streams(every_stream, tmp_path):
    data = read(every_stream, tmp_path / "t.json")
    assert names_of(data, "process_name") == ["stage 0 (ranks 0-1)", "stage 1 (ranks 2-3)", "links"]
    one_stage = ["pass", "compute", "comm 1", "comm 2", "p2p", "foreign 1", "foreign 2"]
    assert names_of(data, "thread_name") == one_stage * 2


def test_lanes_have_their_own_threads(long_run, tmp_path):
    names = names_of(read(long_run, tmp_path / "t.json"), "thread_name")
    assert names == ["lane 0 pass", "lane 1 pass"] * 2


def test_names_say_what_and_where(every_stream, tmp_path):
    names = [span["name"] for span in spans_of(read(every_stream, tmp_path / "t.json"))[:13]]
    passes = ["F0", "B0", "W0", "O"]
    kernels = ["attention L0", "expert L0", "other_compute mb0", "optimizer"]
    assert names == [*passes, *kernels, "tp L0", "tp L0", "pp mb0", "expert L3", "expert L3"]


def test_arguments_carry_numbers_that_the_row_has(every_stream, tmp_path):
    spans = spans_of(read(every_stream, tmp_path / "t.json"))
    expected = {"row": 8, "group": 0, "layer": 0, "bytes": 64, "base_ns": 999_300, "latency_ns": 700}
    assert spans[8]["args"] == expected
    assert "bytes" not in spans[4]["args"]


def test_counters_show_the_load_where_it_changes(every_stream, tmp_path):
    counters = [event for event in read(every_stream, tmp_path / "t.json")["traceEvents"] if event["ph"] == "C"]
    found = [(event["name"], ns(event["ts"]), float(event["args"]["busiest"])) for event in counters]
    nvlink = [("link use nvlink %", 0, 50.0), ("link use nvlink %", 1_000_500, 0.0)]
    assert found == [*nvlink, ("link use nic %", 0, 0.0)]


def test_no_number_is_nan(every_stream, tmp_path):
    columns = every_stream.columns | {"flops": np.full(len(every_stream), math.nan)}
    use = replace(every_stream.link_use, utilisation=np.full((2, 2), math.nan))
    spans = spans_of(read(replace(every_stream, columns=columns, link_use=use), tmp_path / "t.json"))
    assert all("flops" not in span["args"] for span in spans)


def test_an_empty_run_and_a_strange_name_are_valid_json(empty, tmp_path):
    write_perfetto(empty, tmp_path / "t.json", name='a "quoted"\n名')
    data = json.loads((tmp_path / "t.json").read_text(encoding="utf-8"))
    assert data["otherData"]["name"] == 'a "quoted"\n名'
    assert data["displayTimeUnit"] == "ms"


def test_the_same_run_gives_the_same_bytes(every_stream, tmp_path):
    for name in ("a", "b"):
        write_perfetto(every_stream, tmp_path / name, name="run")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
