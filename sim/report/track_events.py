"""The trace in Perfetto's own format, TrackEvent protobuf, which https://ui.perfetto.dev opens.

Mapping
-------
- track: a stage, with a child for each thread of it (`sim.report.thread_tracks`); counters in groups of their own
- slice: a row of the trace, begin and end in whole nanoseconds, with the numbers that the row has as arguments
- flow: from the row that released a row to that row; so from a send to what receives it. The number of the flow is the
  number of the released row + 1
- counter: memory of each stage, load of the busiest link of each kind, and tokens of each rank: those of the forward
  passes in progress

Names are interned: written once, and referred to by number. Equal traces give equal bytes.

Assumptions
-----------
Tokens are shown for the 64 ranks with the most tokens.

References
----------
Perfetto, protos/perfetto/trace (trace.proto, trace_packet.proto, track_event/*.proto): the numbers of the fields.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from sim.engine.trace import KINDS, STREAMS, Trace
from sim.report.protobuf import (
    Piece,
    constant,
    double_field,
    fixed64_field,
    interleaved,
    join,
    message,
    text_field,
    varint,
    varint_field,
)
from sim.report.thread_tracks import span_label, stage_label, thread_tracks

__all__ = ["write_track_events"]

_PACKET: Final = 1
"""Field of Trace."""
_TIMESTAMP: Final = 8
_SEQUENCE: Final = 10
_TRACK_EVENT: Final = 11
_INTERNED: Final = 12
_FLAGS: Final = 13
_DESCRIPTOR: Final = 60
"""Fields of TracePacket."""
_ANNOTATION: Final = 4
_CATEGORY: Final = 3
_TYPE: Final = 9
_NAME: Final = 10
_TRACK: Final = 11
_FLOW: Final = 47
_LAST_FLOW: Final = 48
_COUNTED: Final = 30
_COUNTED_DOUBLE: Final = 44
"""Fields of TrackEvent."""
_BEGIN: Final = 1
_END: Final = 2
_COUNTER: Final = 4
"""Types of TrackEvent."""
_CLEARED: Final = 1
_NEEDS_STATE: Final = 2
"""Flags of a packet."""
_EXPLICIT: Final = 3
"""Order of the children of a track: that of their ranks."""
_UNITS: Final = {"bytes": 3, "count": 2}

_INTS: Final = ("rank", "group", "microbatch", "chunk", "layer")
_COMPONENTS: Final = ("base_ns", "imbalance_ns", "contention_ns", "latency_ns")
_ARGUMENTS: Final = ("row", *_INTS, "bytes", "flops", *_COMPONENTS, "released_by")
"""Arguments of a slice, in order; each has its position + 1 as its interned number."""
_BLOCK: Final = 1 << 14
_MOST_RANKS: Final = 64


def write_track_events(
    trace: Trace,
    path: str | Path,
    *,
    name: str,
    memory: Mapping[str, Any] | None = None,
    rank_tokens: NDArray[np.int64] | None = None,
) -> None:
    """Write the trace as protobuf.

    Parameters
    ----------
    trace
        The run.
    path
        File to write.
    name
        Of the run; the name of the track that holds all others.
    memory
        The `memory` of the JSON object of the run, for its timeline.
    rank_tokens
        Tokens for experts by stage, microbatch and rank. Shape [S, M, R].

    Raises
    ------
    OSError
        The file could not be written (`sim.report.files` makes it an `OutputError`).
    """
    with Path(path).open("wb") as file:
        writer = _Writer(file)
        root = writer.track(name)
        _write_slices(writer, trace, root)
        _write_memory(writer, memory or {}, root)
        _write_links(writer, trace, root)
        if rank_tokens is not None:
            _write_tokens(writer, trace, rank_tokens, root)


# ---- private -----------------------------------------------------------------------------------------------------


class _Writer:
    """Packets of one sequence; tracks are numbered from 1 as they are described."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._num_tracks = 0
        self._flags = _CLEARED | _NEEDS_STATE

    def packet(self, content: bytes) -> None:
        """Write a packet with the sequence and its flags."""
        head = varint(_SEQUENCE * 8) + varint(1) + varint(_FLAGS * 8) + varint(self._flags)
        self._flags = _NEEDS_STATE
        self._file.write(text_field(_PACKET, head + content))

    def packets(self, data: bytes) -> None:
        """Write packets that are whole."""
        self._file.write(data)

    def track(self, name: str, parent: int = 0, *, unit: str | None = None) -> int:
        """Describe a track, a counter where it has a unit, after those before in its parent; return its number."""
        self._num_tracks += 1
        content = varint(1 * 8) + varint(self._num_tracks) + text_field(2, name)
        if parent:
            content += varint(5 * 8) + varint(parent)
        if unit is not None:
            known = varint(3 * 8) + varint(_UNITS[unit]) if unit in _UNITS else text_field(6, unit)
            content += text_field(8, known)
        content += varint(11 * 8) + varint(_EXPLICIT) + varint(12 * 8) + varint(self._num_tracks)
        self.packet(text_field(_DESCRIPTOR, content))
        return self._num_tracks

    def intern(self, field: int, names: Mapping[int, str]) -> None:
        """Write names that packets refer to: of categories (1), of events (2), of arguments (3)."""
        entries = b"".join(
            text_field(field, varint(8) + varint(at) + text_field(2, name)) for at, name in names.items()
        )
        self.packet(text_field(_INTERNED, entries))

    def counter(self, track: int, time_ns: NDArray[np.int64], values: NDArray[np.int64] | NDArray[np.float64]) -> None:
        """Write the values of a counter, each from its time on."""
        changed = np.concatenate([[True], values[1:] != values[:-1]]) if values.size else np.zeros(0, dtype=bool)
        time_ns, values = time_ns[changed], values[changed]
        if values.dtype.kind == "i":
            value = varint_field(_COUNTED, values.astype(np.int64))
        else:
            value = double_field(_COUNTED_DOUBLE, values.astype(np.float64))
        event = [_pair(_TYPE, _COUNTER, values.size), _pair(_TRACK, track, values.size), value]
        packet = message(_PACKET, [_head(time_ns), message(_TRACK_EVENT, event)])
        self.packets(packet.joined())


def _pair(field: int, value: int, count: int) -> Piece:
    return constant(varint(field * 8) + varint(value), count)


def _head(time_ns: NDArray[np.int64]) -> Piece:
    """Return time, sequence and flags of packets."""
    pairs = [_pair(_SEQUENCE, 1, time_ns.size), _pair(_FLAGS, _NEEDS_STATE, time_ns.size)]
    return join([varint_field(_TIMESTAMP, time_ns), *pairs])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Flows:
    """Rows that each row releases."""

    order: NDArray[np.int64]
    """Released rows, by their releaser."""
    first: NDArray[np.int64]
    """Position in `order` of the first row that each row releases. Shape [N + 1]."""

    @classmethod
    def of(cls, trace: Trace) -> "_Flows":
        by = trace.ints("released_by")
        released = np.flatnonzero(by >= 0)
        counts = np.bincount(by[released], minlength=by.size)
        order = released[np.argsort(by[released], kind="stable")]
        return cls(order=order, first=np.concatenate([[0], np.cumsum(counts)]))


def _write_slices(writer: _Writer, trace: Trace, root: int) -> None:
    """Write the tracks of stages, the names, and the slices track by track."""
    tracks: list[tuple[int, NDArray[np.intp]]] = []
    for stage in range(trace.num_stages):
        parent = writer.track(stage_label(trace, stage), root)
        tracks += [(writer.track(thread.label, parent), thread.rows) for thread in thread_tracks(trace, stage)]
    names, name_of = _names(trace)
    writer.intern(1, {code + 1: stream for code, stream in enumerate(STREAMS)})
    writer.intern(2, {at + 1: name for at, name in enumerate(names)})
    writer.intern(3, {at + 1: name for at, name in enumerate(_ARGUMENTS)})
    start, end, flows = trace.ints("start_ns"), trace.ints("end_ns"), _Flows.of(trace)
    ordered = [rows[np.lexsort((end[rows], start[rows]))] for _, rows in tracks]
    rows = np.concatenate(ordered) if ordered else np.zeros(0, dtype=np.intp)
    track = np.repeat(np.array([number for number, _ in tracks], dtype=np.int64), [one.size for one in ordered])
    for first in range(0, rows.size, _BLOCK):
        block = slice(first, first + _BLOCK)
        writer.packets(_slices(trace, rows[block], track[block], name_of, flows))


def _names(trace: Trace) -> tuple[list[str], NDArray[np.int64]]:
    """Return the different names of spans, and the interned number of each row's name. Shape [N]."""
    parts = [trace.ints(name) for name in ("stream", "kind", "microbatch", "layer")]
    unique, number = np.unique(np.stack(parts, axis=1), axis=0, return_inverse=True)
    texts = [span_label(STREAMS[s], KINDS[k], m, layer) for s, k, m, layer in unique.tolist()]
    different = {text: at for at, text in enumerate(dict.fromkeys(texts))}
    return list(different), np.array([different[text] + 1 for text in texts], dtype=np.int64)[number.ravel()]


def _slices(
    trace: Trace, rows: NDArray[np.intp], track: NDArray[np.int64], name_of: NDArray[np.int64], flows: _Flows
) -> bytes:
    """Return the packets of begin and end of some rows."""
    by = trace.ints("released_by")[rows]
    num_flows = flows.first[rows + 1] - flows.first[rows]
    more = num_flows * (len(varint(_FLOW * 8 + 1)) + 8)
    event = [
        _pair(_TYPE, _BEGIN, rows.size),
        varint_field(_CATEGORY, trace.ints("stream")[rows] + 1),
        varint_field(_NAME, name_of[rows]),
        varint_field(_TRACK, track),
        *_arguments(trace, rows, by),
        fixed64_field(_LAST_FLOW, rows.astype(np.int64) + 1, by >= 0),
    ]
    inner = message(_TRACK_EVENT, event, more=more)
    begin = message(_PACKET, [_head(trace.ints("start_ns")[rows]), inner], more=more)
    ended = [_pair(_TYPE, _END, rows.size), varint_field(_TRACK, track)]
    end = message(_PACKET, [_head(trace.ints("end_ns")[rows]), message(_TRACK_EVENT, ended)])
    released = flows.order[_ranges(flows.first[rows], num_flows)]
    tail = fixed64_field(_FLOW, released.astype(np.int64) + 1)
    parts = [(begin.data[begin.there], begin.lengths), (tail.data.ravel(), more), (end.data[end.there], end.lengths)]
    return interleaved(parts)


def _ranges(first: NDArray[np.int64], count: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return `count` numbers from each `first` on, one range after another."""
    return np.repeat(first - (np.cumsum(count) - count), count) + np.arange(int(count.sum()))


def _arguments(trace: Trace, rows: NDArray[np.intp], by: NDArray[np.int64]) -> Iterator[Piece]:
    """Yield the arguments of rows: numbers that a row does not have are left out, and components that are 0."""
    not_pass = trace.ints("stream")[rows] != STREAMS.index("pass")
    yield _argument("row", rows.astype(np.int64), np.ones(rows.size, dtype=bool), varint_field)
    for name in _INTS:
        values = trace.ints(name)[rows]
        yield _argument(name, values, values >= 0, varint_field)
    for name in ("bytes", "flops"):
        amounts = trace.columns[name][rows].astype(np.float64)
        yield _argument(name, amounts, (amounts != 0) & np.isfinite(amounts), double_field)
    for name in _COMPONENTS:
        values = trace.ints(name)[rows]
        yield _argument(name, values, (values > 0) & not_pass, varint_field)
    yield _argument("released_by", by, by >= 0, varint_field)


def _argument(
    name: str,
    values: NDArray[Any],
    present: NDArray[np.bool_],
    field: Callable[[int, NDArray[Any], NDArray[np.bool_]], Piece],
) -> Piece:
    """Return an argument: its name by number, and its value as uint (3) or double (5)."""
    number = constant(varint(1 * 8) + varint(_ARGUMENTS.index(name) + 1), values.size)
    return message(_ANNOTATION, [number, field(3 if field is varint_field else 5, values, present)], present)


# ---- counters ----------------------------------------------------------------------------------------------------


def _write_memory(writer: _Writer, memory: Mapping[str, Any], root: int) -> None:
    """Write the memory of each stage over time."""
    if not memory.get("timeline"):
        return
    parent = writer.track("memory of the fullest GPU", root)
    for timeline in memory["timeline"]:
        time_ns = np.rint(np.asarray(timeline["time_s"], dtype=np.float64) * 1e9).astype(np.int64)
        total = np.full(time_ns.size, float(sum(timeline["held_bytes"].values())))
        for series in timeline["varying_bytes"].values():
            total += np.asarray(series, dtype=np.float64)
        track = writer.track(f"stage {timeline['stage']}", parent, unit="bytes")
        writer.counter(track, time_ns, np.rint(total).astype(np.int64))


def _write_links(writer: _Writer, trace: Trace, root: int) -> None:
    """Write the load of the busiest link of each kind."""
    use = trace.link_use
    if use.time_ns.size == 0:
        return
    parent = writer.track("load of the busiest link", root)
    for column, kind in enumerate(use.kinds):
        percent = np.round(100 * use.utilisation[:, column], 3)
        known = np.isfinite(percent)
        writer.counter(writer.track(kind, parent, unit="%"), use.time_ns[known], percent[known])


def _write_tokens(writer: _Writer, trace: Trace, rank_tokens: NDArray[np.int64], root: int) -> None:
    """Write the tokens for experts that each rank has of the forward passes in progress."""
    time_ns, change = _token_changes(trace, rank_tokens)
    if not math.prod(change.shape):
        return
    totals = rank_tokens.sum(axis=(0, 1))
    shown = np.sort(np.argsort(-totals, kind="stable")[: min(_MOST_RANKS, np.count_nonzero(totals))])
    parent = writer.track("tokens for experts, of passes in progress", root)
    for rank in shown.tolist():
        writer.counter(
            writer.track(f"rank {rank}", parent, unit="count"), time_ns, np.cumsum(change[:, rank]).astype(np.int64)
        )


def _token_changes(trace: Trace, rank_tokens: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return when forward passes begin and end, and the tokens that each rank has more from then on [T], [T, R]."""
    rows = trace.rows("pass")
    rows = rows[trace["kind"][rows] == "F"]
    key = trace.ints("stage")[rows] * rank_tokens.shape[1] + trace.ints("microbatch")[rows]
    passes, inverse = np.unique(key, return_inverse=True)
    begin = np.full(passes.size, np.iinfo(np.int64).max)
    end = np.zeros(passes.size, dtype=np.int64)
    np.minimum.at(begin, inverse, trace.ints("start_ns")[rows])
    np.maximum.at(end, inverse, trace.ints("end_ns")[rows])
    tokens = rank_tokens.reshape(-1, rank_tokens.shape[2])[passes]
    times = np.concatenate([begin, end])
    at, position = np.unique(times, return_inverse=True)
    change = np.zeros((at.size, rank_tokens.shape[2]), dtype=np.int64)
    np.add.at(change, position, np.concatenate([tokens, -tokens]))
    return at, change
