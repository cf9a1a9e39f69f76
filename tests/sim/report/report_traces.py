"""Traces from rows written by hand."""

import numpy as np

from sim.engine.recorder import Recorder
from sim.engine.trace import LinkUse, Trace


def link_use():
    """Two kinds of links, of which one changes at two times."""
    return LinkUse(
        num_bytes=np.array([10.0, 0.0]),
        busy_s=np.array([1e-3, 0.0]),
        time_ns=np.array([0, 1_000_500], dtype=np.int64),
        utilisation=np.array([[0.5, 0.0], [0.0, 0.0]]),
        kinds=("nvlink", "nic"),
        names=("n0", "n1"),
        link_kinds=("nvlink", "nic"),
        capacity_bytes_per_s=np.array([1e9, 1e9]),
    )


def make_trace(recorder, *, num_stages, num_lanes=1, lane_size=2):
    """Return the trace of what was recorded."""
    num_ranks = num_stages * num_lanes * lane_size
    return Trace(
        columns=recorder.columns(),
        num_stages=num_stages,
        num_lanes=num_lanes,
        lane_ranks=np.arange(num_ranks).reshape(num_stages, num_lanes, lane_size),
        link_use=link_use(),
    )


def record(rows):
    """Return the trace of one stage with rows of (stream, kind, start, end)."""
    recorder = Recorder()
    for stream, kind, start_ns, end_ns in rows:
        recorder.add(stage=0, lane=0, stream=stream, kind=kind, start_ns=start_ns, end_ns=end_ns, released_by=-1)
    return make_trace(recorder, num_stages=1)
