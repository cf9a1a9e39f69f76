"""Small traces made by hand, one for each thing that a picture must show."""

import pytest
from report_traces import make_trace

from sim.engine.recorder import Recorder


@pytest.fixture
def every_stream():
    """Return two stages with passes of all kinds, overlapping transfers, foreign work, a stall and idle time."""
    recorder, at = Recorder(), {"lane": 0, "released_by": -1}
    for stage, shift in ((0, 0), (1, 1_000_001)):
        rank = 2 * stage
        spans = [
            ("pass", "F", 0, 3_000_000, {"microbatch": 0, "chunk": 0}),
            ("pass", "B", 3_000_000, 5_000_000, {"microbatch": 0, "chunk": 0}),
            ("pass", "W", 5_000_000, 6_000_000, {"microbatch": 0, "chunk": 0}),
            ("pass", "O", 6_000_000, 6_500_000, {}),
            ("compute", "attention", 0, 1_000_000, {"rank": rank, "layer": 0, "microbatch": 0, "flops": 1e9}),
            ("compute", "expert", 3_000_000, 5_000_000, {"rank": rank, "layer": 0, "microbatch": 0}),
            ("compute", "other_compute", 5_000_000, 6_000_000, {"rank": rank, "microbatch": 0}),
            ("compute", "optimizer", 6_000_000, 6_500_000, {"rank": rank}),
            ("comm", "tp", 1_000_000, 2_000_000, {"group": 0, "layer": 0, "num_bytes": 64.0, "latency_ns": 700}),
            ("comm", "tp", 1_000_000, 1_900_000, {"group": 1, "layer": 0, "num_bytes": 64.0}),
            ("p2p", "pp", 3_000_000, 3_400_000, {"microbatch": 0, "num_bytes": 8.0}),
            ("foreign", "expert", 2_100_000, 2_400_000, {"rank": rank, "layer": 3, "microbatch": 1}),
            ("foreign", "expert", 2_200_000, 2_500_000, {"rank": rank + 1, "layer": 3, "microbatch": 1}),
        ]
        for stream, kind, start, end, more in spans:
            place = {"stage": stage, "start_ns": start + shift, "end_ns": end + shift}
            recorder.add(stream=stream, kind=kind, **place, **at, **more)
    return make_trace(recorder, num_stages=2)


@pytest.fixture
def one_pass():
    """Return one stage with one pass and nothing else."""
    recorder = Recorder()
    recorder.add(stage=0, lane=0, stream="pass", kind="F", microbatch=0, start_ns=0, end_ns=1, released_by=-1)
    return make_trace(recorder, num_stages=1)


@pytest.fixture
def long_run():
    """Return two stages of 100 passes of 1 ms, the second one millisecond later, in two lanes."""
    recorder = Recorder()
    for lane in (0, 1):
        for stage in (0, 1):
            for microbatch in range(100):
                start_ns = (microbatch + stage) * 1_000_000
                place = {"stage": stage, "lane": lane, "start_ns": start_ns, "end_ns": start_ns + 1_000_000}
                recorder.add(stream="pass", kind="F", microbatch=microbatch, chunk=0, released_by=-1, **place)
    return make_trace(recorder, num_stages=2, num_lanes=2)


@pytest.fixture
def empty():
    """Return a run in which nothing happened."""
    return make_trace(Recorder(), num_stages=1)
