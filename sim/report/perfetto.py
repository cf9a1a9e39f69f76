"""The trace as Chrome JSON, which https://ui.perfetto.dev and chrome://tracing open.

Mapping
-------
- process: a stage; a further process for the links
- thread: a stream of a lane, or a part of it whose spans do not overlap (`sim.report.thread_tracks`)
- complete event (`X`): a row of the trace. Times are microseconds with all three decimals: whole nanoseconds
- counter (`C`): the load of the busiest link of each kind, in percent, where it changes

Assumptions
-----------
Numbers that a row does not have are left out, and so are components of its duration that are 0.

References
----------
Trace Event Format, Google, 2016 (docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU).
"""

import json
import math
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sim.engine.trace import Trace
from sim.report.thread_tracks import span_label, stage_label, thread_tracks

__all__ = ["write_perfetto"]

_INTS = ("rank", "group", "microbatch", "chunk", "layer")
_COMPONENTS_NS = ("base_ns", "imbalance_ns", "contention_ns", "latency_ns")
_BLOCK = 4096


def write_perfetto(trace: Trace, path: str | Path, *, name: str) -> None:
    """Write the trace as Chrome JSON, an event per line.

    Parameters
    ----------
    trace
        The run.
    path
        File to write.
    name
        Of the run; stands in `otherData`.

    Raises
    ------
    OSError
        The file could not be written (`sim.report.files` makes it an `OutputError`).
    """
    other = json.dumps({"name": name, "moesim": _version()}, ensure_ascii=False)
    with Path(path).open("w", encoding="utf-8", newline="\n") as file:
        file.write(f'{{"displayTimeUnit": "ms",\n"otherData": {other},\n"traceEvents": [')
        between = "\n"
        for event in _events(trace):
            file.write(between + event)
            between = ",\n"
        file.write("\n]}\n")


# ---- private -----------------------------------------------------------------------------------------------------


def _version() -> str:
    try:
        return version("moesim")
    except PackageNotFoundError:
        return "not installed"


def _events(trace: Trace) -> Iterator[str]:
    thread = np.zeros(len(trace), dtype=np.int64)
    for stage in range(trace.num_stages):
        yield from _process(stage, stage_label(trace, stage))
        for track in thread_tracks(trace, stage):
            thread[track.rows] = track.number
            yield from _thread(stage, track.number, track.label)
    for first in range(0, len(trace), _BLOCK):
        yield from _spans(trace, thread, first, min(len(trace), first + _BLOCK))
    yield from _counters(trace)


def _process(pid: int, label: str) -> Iterator[str]:
    yield f'{{"ph": "M", "pid": {pid}, "name": "process_name", "args": {{"name": {json.dumps(label)}}}}}'
    yield f'{{"ph": "M", "pid": {pid}, "name": "process_sort_index", "args": {{"sort_index": {pid}}}}}'


def _thread(pid: int, tid: int, label: str) -> Iterator[str]:
    start = f'{{"ph": "M", "pid": {pid}, "tid": {tid}, "name": '
    yield f'{start}"thread_name", "args": {{"name": {json.dumps(label)}}}}}'
    yield f'{start}"thread_sort_index", "args": {{"sort_index": {tid}}}}}'


def _spans(trace: Trace, thread: NDArray[np.int64], first: int, end: int) -> Iterator[str]:
    """Yield the complete events of the rows from `first` to before `end`."""
    block = {name: column[first:end].tolist() for name, column in trace.columns.items()}
    streams, kinds = (trace[name][first:end].tolist() for name in ("stream", "kind"))
    threads = thread[first:end].tolist()
    for i in range(end - first):
        start_ns, end_ns = block["start_ns"][i], block["end_ns"][i]
        args = {"row": first + i, **{name: block[name][i] for name in _INTS if block[name][i] >= 0}}
        args |= {
            name: block[name][i] for name in ("bytes", "flops") if block[name][i] and math.isfinite(block[name][i])
        }
        if streams[i] != "pass":
            args |= {name: block[name][i] for name in _COMPONENTS_NS if block[name][i]}
        if block["released_by"][i] >= 0:
            args["released_by"] = block["released_by"][i]
        label = span_label(streams[i], kinds[i], block["microbatch"][i], block["layer"][i])
        yield (
            f'{{"ph": "X", "pid": {block["stage"][i]}, "tid": {threads[i]}, "ts": {_us(start_ns)}, '
            f'"dur": {_us(end_ns - start_ns)}, "name": "{label}", "cat": "{streams[i]}", "args": {json.dumps(args)}}}'
        )


def _us(time_ns: int) -> str:
    """Return microseconds with three decimals: 1234567 -> 1234.567."""
    whole, rest = divmod(abs(time_ns), 1000)
    return f"{'-' if time_ns < 0 else ''}{whole}.{rest:03d}"


def _counters(trace: Trace) -> Iterator[str]:
    """Yield the load of the links of each kind, where it changes."""
    use, pid = trace.link_use, trace.num_stages
    if use.time_ns.size == 0:
        return
    yield from _process(pid, "links")
    for column, kind in enumerate(use.kinds):
        percent = np.round(100 * use.utilisation[:, column], 3)
        changes = np.concatenate([[True], percent[1:] != percent[:-1]]) & np.isfinite(percent)
        label = json.dumps(f"link use {kind} %")
        for time_ns, value in zip(use.time_ns[changes].tolist(), percent[changes].tolist(), strict=True):
            yield f'{{"ph": "C", "pid": {pid}, "ts": {_us(time_ns)}, "name": {label}, "args": {{"busiest": {value}}}}}'
