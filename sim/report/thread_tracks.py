"""The threads of a trace for Perfetto: a stream of a lane, in as many threads as let no two spans overlap.

Perfetto draws a span that begins within another of its thread as a part of it. Spans that overlap in a stream go to
further threads ("foreign 2", "foreign 3", ...), so that no span seems to lie within another span.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.engine.trace import STREAMS, Trace
from sim.report.timeline.bars import first_free_slots
from sim.results.quantities import format_ranges

__all__ = ["ThreadTrack", "span_label", "stage_label", "thread_tracks"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadTrack:
    """Spans of a stream that do not overlap."""

    number: int
    """Number within the stage, from 1."""
    label: str
    rows: NDArray[np.intp]
    """Rows of the trace, ascending."""


def stage_label(trace: Trace, stage: int) -> str:
    """Return the name of a stage with its ranks."""
    ranks = format_ranges(trace.lane_ranks[stage].ravel().tolist())
    return f"stage {stage} ({'rank' if ranks.isdigit() else 'ranks'} {ranks})"


def thread_tracks(trace: Trace, stage: int) -> Iterator[ThreadTrack]:
    """Yield the threads of a stage, lane by lane and stream by stream."""
    number = 1
    for lane, count in trace.num_of.items():
        for stream in STREAMS:
            rows = trace.rows(stream, stage=stage, lane=lane)
            slots = first_free_slots(trace.ints("start_ns")[rows], trace.ints("end_ns")[rows])
            num_slots = int(slots.max(initial=-1)) + 1
            alike = f" (and {count - 1} alike)" if count > 1 else ""
            label = stream if trace.num_lanes == 1 else f"lane {lane}{alike} {stream}"
            for slot in range(num_slots):
                name = label if num_slots == 1 else f"{label} {slot + 1}"
                yield ThreadTrack(number=number + slot, label=name, rows=rows[slots == slot])
            number += num_slots


def span_label(stream: str, kind: str, microbatch: int, layer: int) -> str:
    """Return the name of a span.

    >>> span_label("pass", "F", 3, -1), span_label("comm", "tp", 3, 2), span_label("p2p", "pp", 3, -1)
    ('F3', 'tp L2', 'pp mb3')
    """
    if stream == "pass":
        return f"{kind}{microbatch}" if microbatch >= 0 else kind
    if layer >= 0:
        return f"{kind} L{layer}"
    return f"{kind} mb{microbatch}" if microbatch >= 0 else kind
