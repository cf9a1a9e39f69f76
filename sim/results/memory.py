"""The peak of memory per GPU: when, where and from what.

Model
-----
What stays (weights, gradients, optimizer, buffers) is given; what comes and goes is added up along the trace:

    activations   of a microbatch, from the opening of its F on a stage to the close of its B (forward: while F is open)
    logits        of a microbatch on the last stage, likewise
    kv_cache      of a microbatch, from the opening of its F on a stage until its batch has left the pipeline (forward)

The peak is the largest sum over all stages and times; its parts are those of that stage at that time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sim.engine.trace import Trace

__all__ = ["MEMORY_PARTS", "StageMemory", "memory_of"]

MEMORY_PARTS = ("weights", "gradients", "optimizer", "activations", "kv_cache", "logits", "buffers")
"""Parts of the peak."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageMemory:
    """Bytes on each GPU of one stage."""

    weights: float
    """Weights."""
    gradients: float
    """Gradients (training)."""
    optimizer: float
    """Optimizer state (training)."""
    buffers: float
    """Send and receive buffers of one microbatch."""
    activations_per_microbatch: float
    """What one microbatch in flight keeps."""
    logits_per_microbatch: float
    """Output of the head for one microbatch (last stage)."""
    kv_cache_per_microbatch: float
    """Keys and values of one microbatch (forward)."""


def memory_of(
    trace: Trace, stages: Sequence[StageMemory], *, capacity_bytes: float, microbatches: int
) -> dict[str, Any]:
    """Return the contract's `memory`: peak by part, capacity, whether it fits, and where and when the peak is.

    Parameters
    ----------
    trace
        The run.
    stages
        Bytes of each stage. Length [stages].
    capacity_bytes
        Memory of the device.
    microbatches
        Microbatches of a batch, to tell batches apart.
    """
    peaks = [_peak_of_stage(trace, stage, sizes, microbatches) for stage, sizes in enumerate(stages)]
    stage = max(range(len(peaks)), key=lambda i: (sum(peaks[i][1].values()), -i))
    time_ns, parts = peaks[stage]
    total = sum(parts.values())
    return {
        "peak_bytes_per_gpu": {**{part: round(parts[part]) for part in MEMORY_PARTS}, "total": round(total)},
        "capacity_bytes": round(capacity_bytes),
        "fits": total <= capacity_bytes,
        "peak_fraction": total / capacity_bytes,
        "peak_stage": stage,
        "peak_time_s": time_ns / 1e9,
    }


def _peak_of_stage(trace: Trace, stage: int, sizes: StageMemory, microbatches: int) -> tuple[int, dict[str, float]]:
    opened, closed = _first_and_last(trace, stage)
    lives = {
        "activations": (sizes.activations_per_microbatch, opened, closed),
        "logits": (sizes.logits_per_microbatch, opened, closed),
        "kv_cache": (sizes.kv_cache_per_microbatch, opened, _batch_ends(trace, len(opened), microbatches)),
    }
    times = np.unique(np.concatenate([opened, [trace.start_ns]]))
    alive = {part: size * _num_alive(times, start, end) for part, (size, start, end) in lives.items()}
    best = int(np.argmax(sum(alive.values())))
    parts = {part: float(values[best]) for part, values in alive.items()}
    for part in ("weights", "gradients", "optimizer", "buffers"):
        parts[part] = getattr(sizes, part)
    return int(times[best]), parts


def _num_alive(times: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Count the intervals [start, end) that hold each time."""
    return np.searchsorted(np.sort(start), times, "right") - np.searchsorted(np.sort(end), times, "right")


def _first_and_last(trace: Trace, stage: int) -> tuple[np.ndarray, np.ndarray]:
    """Return when each microbatch first opens and last closes on a stage (lane 0). Each of shape [microbatches]."""
    rows = trace.rows("pass", stage=stage, lane=0)
    microbatch = trace.ints("microbatch")[rows]
    rows, microbatch = rows[microbatch >= 0], microbatch[microbatch >= 0]
    count = int(microbatch.max(initial=-1)) + 1
    opened = np.full(count, np.iinfo(np.int64).max)
    closed = np.zeros(count, dtype=np.int64)
    np.minimum.at(opened, microbatch, trace.ints("start_ns")[rows])
    np.maximum.at(closed, microbatch, trace.ints("end_ns")[rows])
    return opened, closed


def _batch_ends(trace: Trace, num_microbatches: int, microbatches: int) -> np.ndarray:
    """Return, for each microbatch, when its batch has left the last stage. Shape [microbatches]."""
    _, closed = _first_and_last(trace, trace.num_stages - 1)
    batch = np.arange(num_microbatches) // microbatches
    ends = np.zeros(int(batch.max(initial=0)) + 1, dtype=np.int64)
    np.maximum.at(ends, batch, closed[:num_microbatches])
    return ends[batch]
