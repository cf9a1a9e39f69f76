"""Traces of a few rows, written down by hand."""

import numpy as np

from sim.engine.recorder import Recorder
from sim.engine.trace import LinkUse, Trace

NO_LINKS = LinkUse(
    num_bytes=np.zeros(0),
    busy_s=np.zeros(0),
    time_ns=np.zeros(0, dtype=np.int64),
    utilisation=np.zeros((0, 0)),
    kinds=(),
    names=(),
    link_kinds=(),
    capacity_bytes_per_s=np.zeros(0),
)


def row(stream: str, kind: str, start_ns: int, end_ns: int, **more: float) -> dict[str, object]:
    """Return a row; by default on stage 0, lane 0, released by nothing."""
    given = {"stream": stream, "kind": kind, "start_ns": start_ns, "end_ns": end_ns}
    return {"stage": 0, "lane": 0, "released_by": -1, **given, **more}


def passes(text: str, **more: int) -> list[dict[str, object]]:
    """Return rows of passes from `F0 0-10, B0 10-30`."""
    rows = []
    for item in text.split(", "):
        name, span = item.split()
        start_ns, end_ns = (int(number) for number in span.split("-"))
        microbatch = int(name[1:]) if name[1:] else -1
        rows.append(row("pass", name[0], start_ns, end_ns, microbatch=microbatch, **more))
    return rows


def build_trace(*rows: dict[str, object], num_stages: int = 1, num_lanes: int = 1, lane_size: int = 1) -> Trace:
    """Record rows in the order given."""
    recorder = Recorder()
    for given in rows:
        recorder.add(**given)
    ranks = np.arange(num_stages * num_lanes * lane_size).reshape(num_stages, num_lanes, lane_size)
    return Trace(
        columns=recorder.columns(), num_stages=num_stages, num_lanes=num_lanes, lane_ranks=ranks, link_use=NO_LINKS
    )


def parts(account: dict[str, int]) -> dict[str, int]:
    """Return the parts of an account that are not 0."""
    return {part: ns for part, ns in account.items() if ns}
