"""Spans as they are drawn: every row once, none over another in its track, links between rows kept."""

from itertools import pairwise

import numpy as np
import pytest
from report_traces import make_trace

from sim.engine.recorder import Recorder
from sim.report.html.spans import draw_spans
from sim.results.path import path_rows
from sim.run.simulate import simulate_scenario
from sim.scenario.load import load_scenario


@pytest.fixture(scope="module")
def trace():
    """Return the trace of a small training step with every stream but those of replicas."""
    changes = ["workload.sequences=16", "workload.microbatches=4", "workload.sequence_length=1024"]
    return simulate_scenario(load_scenario("ep64_tp16_pp4_training", overrides=changes)).run.trace


def test_every_row_is_drawn_once(trace):
    drawn = draw_spans(trace)
    assert sorted(drawn.columns["row"].tolist()) == list(range(len(trace)))
    assert (drawn.columns["row"][drawn.number_of] == np.arange(len(trace))).all()


def test_no_span_of_a_track_begins_before_the_last_has_ended(trace):
    drawn = draw_spans(trace)
    start, end = drawn.columns["start_ns"], drawn.columns["start_ns"] + drawn.columns["duration_ns"]
    first = drawn.tracks["first"]
    for low, high in pairwise(first):
        assert (start[low + 1 : high] >= end[low : high - 1]).all()


def test_the_span_that_released_a_span_is_the_row_that_released_its_row(trace):
    drawn = draw_spans(trace)
    released = drawn.columns["released"]
    spans = np.flatnonzero(released)
    rows, by = drawn.columns["row"][spans], drawn.columns["row"][spans - released[spans]]
    assert (trace.ints("released_by")[rows] == by).all()
    assert spans.size == (trace.ints("released_by") >= 0).sum()


def test_the_pieces_of_the_path_are_those_of_the_account(trace):
    drawn = draw_spans(trace)
    pieces = zip(
        drawn.columns["row"][drawn.columns["path_span"]].tolist(),
        drawn.columns["path_start_ns"].tolist(),
        (drawn.columns["path_start_ns"] + drawn.columns["path_duration_ns"]).tolist(),
        strict=True,
    )
    assert list(pieces) == path_rows(trace)[::-1]


def test_a_trace_without_spans_is_drawn_as_nothing():
    drawn = draw_spans(make_trace(Recorder(), num_stages=1))
    assert drawn.columns["row"].size == 0
    assert drawn.tracks["first"] == [0]
