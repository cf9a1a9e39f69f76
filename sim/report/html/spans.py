"""The spans of a trace as a browser draws them: sorted by track and start, with what the picture needs of each.

Model
-----
A lane of a stage is a band; a band has strips, one for each stream that the trace has; a strip has tracks, in which
spans never overlap. Spans are numbered by track, then by start, so that the spans of a track between two times are a
range of numbers. `released_by` is renumbered with them.

Lanes that did not run, because they are equivalent to another lane, have no band of their own: the label of the band
says how many lanes it stands for.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sim.engine.trace import STREAMS, Trace
from sim.report.timeline.bars import first_free_slots, share_strip, stalls_ns
from sim.results.path import path_rows
from sim.results.quantities import format_ranges

__all__ = ["STRIP_OF_STREAM", "DrawnSpans", "draw_spans"]

STRIP_OF_STREAM: Final[Mapping[str, str]] = {
    "pass": "pass",
    "compute": "compute",
    "comm": "comm",
    "await": "comm",
    "async": "async",
    "p2p": "p2p",
    "foreign": "foreign",
}
"""Stream -> the strip in which its spans are drawn, in the order of the strips from the top."""

_STRIPS: Final = tuple(dict.fromkeys(STRIP_OF_STREAM.values()))
_COPIED: Final = ("kind", "stream", "microbatch", "chunk", "layer", "rank", "group", "bytes", "flops")
_COMPONENTS: Final = ("base_ns", "imbalance_ns", "contention_ns", "latency_ns")


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnSpans:
    """Spans in the order of their tracks."""

    bands: list[dict[str, Any]]
    """Of each band: stage, lane, label, and the lanes that it stands for."""
    tracks: dict[str, list[Any]]
    """Of each track: its band, its strip, and the number of its first span; the last number is that of all spans."""
    columns: dict[str, NDArray[Any]]
    """Columns of the spans, of the stalls and of the critical path."""
    number_of: NDArray[np.int64]
    """Row of the trace -> number of its span. Shape [N]."""


def draw_spans(trace: Trace) -> DrawnSpans:
    """Return the spans of a trace as they are drawn."""
    positions = [(stage, lane) for stage in range(trace.num_stages) for lane in trace.num_of]
    tracks: dict[str, list[Any]] = {"band": [], "strip": [], "first": []}
    ordered: list[NDArray[np.int64]] = []
    slot, slots = np.zeros(len(trace), dtype=np.int64), np.ones(len(trace), dtype=np.int64)
    num_spans = 0
    for band, (stage, lane) in enumerate(positions):
        for strip in _STRIPS:
            for rows in _tracks_of(trace, (stage, lane), strip, slot, slots):
                tracks["band"].append(band)
                tracks["strip"].append(strip)
                tracks["first"].append(num_spans)
                ordered.append(rows)
                num_spans += rows.size
    tracks["first"].append(num_spans)
    order = np.concatenate(ordered) if ordered else np.zeros(0, dtype=np.int64)
    number_of = np.full(len(trace), -1, dtype=np.int64)
    number_of[order] = np.arange(order.size)
    columns = _columns(trace, order, number_of) | {"slot": slot[order], "slots": slots[order]}
    columns |= _stalls(trace, positions) | _path(trace, number_of)
    bands = [_band(trace, stage, lane) for stage, lane in positions]
    return DrawnSpans(bands=bands, tracks=tracks, columns=columns, number_of=number_of)


# ---- private -----------------------------------------------------------------------------------------------------


def _tracks_of(
    trace: Trace, position: tuple[int, int], strip: str, slot: NDArray[np.int64], slots: NDArray[np.int64]
) -> list[NDArray[np.int64]]:
    """Return the rows of each track of a strip, by start; note the place of each row in `slot` of `slots`."""
    stage, lane = position
    streams = [stream for stream in STREAMS if STRIP_OF_STREAM[stream] == strip]
    rows = np.sort(np.concatenate([trace.rows(stream, stage=stage, lane=lane) for stream in streams]))
    if rows.size == 0:
        return []
    start, end = trace.ints("start_ns")[rows], trace.ints("end_ns")[rows]
    if strip == "foreign":  # a line for each rank of the lane
        members = np.sort(trace.lane_ranks[stage, lane])
        slot[rows] = np.searchsorted(members, trace.ints("rank")[rows])
        slots[rows] = members.size
    else:
        top, height = share_strip(start, end)
        slots[rows] = np.rint(1 / height).astype(np.int64)
        slot[rows] = np.rint(top / height).astype(np.int64)
    found = []
    for place in np.unique(slot[rows]).tolist():
        here = rows[slot[rows] == place]
        free = first_free_slots(trace.ints("start_ns")[here], trace.ints("end_ns")[here])
        for number in range(int(free.max()) + 1):
            track = here[free == number]
            found.append(track[np.lexsort((trace.ints("end_ns")[track], trace.ints("start_ns")[track]))])
    return found


def _columns(trace: Trace, order: NDArray[np.int64], number_of: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Return the columns of spans; `released` is the distance to the span that released a span, 0 for none."""
    start, end = trace.ints("start_ns")[order], trace.ints("end_ns")[order]
    by = trace.ints("released_by")[order]
    releaser = np.where(by >= 0, number_of[np.maximum(by, 0)], -1)
    released = np.where(releaser >= 0, np.arange(order.size) - releaser, 0)
    columns: dict[str, NDArray[Any]] = {
        "row": order,
        "start_ns": start,
        "duration_ns": end - start,
        "released": released,
    }
    columns |= {name: trace.columns[name][order] for name in _COPIED}
    return columns | {name: trace.ints(name)[order] for name in _COMPONENTS}


def _stalls(trace: Trace, positions: list[tuple[int, int]]) -> dict[str, NDArray[Any]]:
    """Return band, start and duration of the stalls of each lane; none for a trace without kernels."""
    has_kernels = trace.rows("compute").size > 0
    found = [stalls_ns(trace, stage, lane) for stage, lane in positions] if has_kernels else []
    empty = np.zeros(0, dtype=np.int64)
    start = np.concatenate([empty, *(start for start, _ in found)])
    end = np.concatenate([empty, *(end for _, end in found)])
    band = np.repeat(np.arange(len(found)), [start.size for start, _ in found])
    return {"stall_band": band, "stall_start_ns": start, "stall_duration_ns": end - start}


def _path(trace: Trace, number_of: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Return span, start and duration of each piece of the critical path, in the order of time."""
    row, begin, to = np.array(path_rows(trace)[::-1], dtype=np.int64).reshape(-1, 3).T
    return {"path_span": number_of[row], "path_start_ns": begin, "path_duration_ns": to - begin}


def _band(trace: Trace, stage: int, lane: int) -> dict[str, Any]:
    alike = trace.num_of[lane]
    ranks = trace.lane_ranks[stage, lane].tolist()
    label = f"stage {stage}" if trace.num_lanes == 1 else f"stage {stage}, lane {lane}"
    return {
        "stage": stage,
        "lane": lane,
        "label": label,
        "alike": alike,
        "ranks": f"{'rank' if len(ranks) == 1 else 'ranks'} {format_ranges(ranks)}",
    }
