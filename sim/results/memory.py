"""Memory per GPU over time, and its peak: when, where and from what.

Model
-----
Components that stay (weights, gradients, optimizer, buffers) are given; components that come and go are added up along
the trace:

    activations         of a microbatch and chunk, from the opening of its F on a stage to the close of its B; where W
                        is a pass of its own, what W needs stays until W closes (forward: while F is open)
    expert_activations  likewise, of tokens that arrived for the routed experts of the hottest rank
    logits              of a microbatch on the last stage, from F to B
    kv_cache            of a microbatch, from the opening of its F on a stage until its batch has left it (forward)

    hottest rank   mean bytes of the ranks * most rows that tokens in flight hold on a rank / mean copies of the ranks,
                   rows with padding and without what is dropped, copies as they were routed

The peak is the largest sum over all stages and times; its components are those of that stage at that time. Where
experts serve all stages, the experts of a GPU hold copies of the tokens of all of them, and the hottest rank of a stage
is the one among its own GPUs.

Assumptions
-----------
A microbatch's memory is taken when its F opens and freed when its B closes, not layer by layer: pessimistic by less
than one microbatch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.engine.trace import KINDS, Trace

__all__ = ["MEMORY_COMPONENTS", "ChunkMemory", "StageMemory", "memory_of", "most_in_flight"]

MEMORY_COMPONENTS = (
    "weights",
    "gradients",
    "optimizer",
    "activations",
    "expert_activations",
    "kv_cache",
    "logits",
    "buffers",
)
"""Components of the peak."""
_VARYING = ("activations", "expert_activations", "kv_cache", "logits")
_MOST_POINTS = 200  # of the timeline of a stage
_W = KINDS.index("W")

Times = NDArray[np.int64]
Bytes = NDArray[np.float64]
_Tokens = tuple[
    Mapping[tuple[int, int], Mapping[tuple[int, int], NDArray[np.int64]]],
    Mapping[tuple[int, int], Mapping[tuple[int, int], int]],
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkMemory:
    """Bytes that one microbatch adds to each GPU of a stage in one chunk of its layers."""

    activations: float = 0.0
    """What its backward pass needs."""
    expert_activations: float = 0.0
    """What it keeps of tokens that arrived for experts, mean of the ranks."""
    weight_pass: float = 0.0
    """What stays between B and W, where W is a pass of its own, without what experts hold."""
    expert_weight_pass: float = 0.0
    """What experts hold between B and W, mean of the ranks."""
    logits: float = 0.0
    """Output of the head."""
    kv_cache: float = 0.0
    """Keys and values (forward)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageMemory:
    """Bytes on each GPU of one stage."""

    weights: float = 0.0
    """Parameters of the layers of the stage, in the type of the kernels."""
    gradients: float = 0.0
    """Gradients of these parameters; 0 without training."""
    optimizer: float = 0.0
    """State of the optimizer for these parameters; 0 without training."""
    buffers: float = 0.0
    """Send and receive buffers of one microbatch, and what a layer needs while it is computed."""
    chunks: tuple[ChunkMemory, ...] = (ChunkMemory(),)
    """What a microbatch adds in each chunk; of fewer than the run has, chunks share what is given evenly."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Units:
    """Microbatches in chunks of one stage, and when they come and go. Each array of shape [units]."""

    microbatch: Times
    chunk: Times
    opened: Times
    backward: Times
    closed: Times


def memory_of(
    trace: Trace,
    stages: Sequence[StageMemory],
    *,
    capacity_bytes: float,
    reserved_bytes: Mapping[str, int] | None = None,
    microbatches: int,
    expert_tokens: Mapping[tuple[int, int], Mapping[tuple[int, int], NDArray[np.int64]]] | None = None,
    sent_tokens: Mapping[tuple[int, int], Mapping[tuple[int, int], int]] | None = None,
    experts_span_stages: bool = False,
) -> dict[str, Any]:
    """Return the contract's `memory`: the peak by component, the capacity, whether the peak fits, and memory over time.

    Parameters
    ----------
    trace
        The run.
    stages
        Bytes of each stage. Length [stages].
    capacity_bytes
        Memory of the device that a framework can allocate.
    reserved_bytes
        What is taken of it and is no tensor's, by what takes it; it is no part of the peak.
    microbatches
        Microbatches of a batch, to tell batches apart.
    expert_tokens
        (stage, lane) -> (microbatch, chunk) -> rows of tokens that its experts' hosts hold. Each of shape [R].
    sent_tokens
        (stage, lane) -> (microbatch, chunk) -> copies of tokens that its sources have: what a rank holds on average if
        none is dropped and nothing padded; None: the mean of what ranks hold.
    experts_span_stages
        Whether the hosts of `expert_tokens` are the ranks of all stages, stage by stage, and serve all stages.
    """
    tokens = (expert_tokens or {}, sent_tokens or {})
    all_units = [_units(trace, stage) for stage in range(len(stages))]
    served = [range(len(stages)) if experts_span_stages else (stage,) for stage in range(len(stages))]
    timelines = [
        _components_over_time(
            trace, stage, stages, microbatches=microbatches, tokens=tokens, all_units=all_units, served=served[stage]
        )
        for stage in range(len(stages))
    ]
    peaks = [_peak(times, components, stages[i]) for i, (times, components) in enumerate(timelines)]
    stage = max(range(len(peaks)), key=lambda i: (sum(peaks[i][1].values()), -i))
    time_ns, components = peaks[stage]
    total, reserved = sum(components.values()), sum((reserved_bytes or {}).values())
    return {
        "peak_bytes_per_gpu": {
            **{component: round(components[component]) for component in MEMORY_COMPONENTS},
            "total": round(total),
        },
        "reserved_bytes": {**(reserved_bytes or {}), "total": reserved},
        "capacity_bytes": round(capacity_bytes),
        "fits": total + reserved <= capacity_bytes,
        "peak_fraction": total / capacity_bytes,
        "peak_stage": stage,
        "peak_rank": _peak_rank(
            trace,
            stage,
            time_ns,
            expert_tokens or {},
            _share_waiting(stages[stage]),
            all_units=all_units,
            served=served[stage],
        ),
        "peak_time_s": time_ns / 1e9,
        "peak_of_stages_bytes": [round(sum(peak.values())) for _, peak in peaks],
        "timeline": [_timeline(i, *timeline, stages[i]) for i, timeline in enumerate(timelines)],
    }


def most_in_flight(trace: Trace) -> float:
    """Return the most microbatches that a stage has in flight, from F to B; a chunk of v counts as 1 / v.

    A microbatch that visits a stage once, in one of two pipelines, counts as a whole.
    """
    most = 0.0
    for stage in range(trace.num_stages):
        units = _units(trace, stage)
        visits = np.bincount(units.microbatch, minlength=1)
        per_visit = int(visits.max(initial=1)) or 1
        times = np.unique(np.concatenate([units.opened, units.backward]))
        alive = _sum_alive(times, units.opened, units.backward, np.ones(units.opened.size))
        most = max(most, float(alive.max(initial=0)) / per_visit)
    return most


# ---- private -----------------------------------------------------------------------------------------------------


def _peak(times: Times, varying: Mapping[str, Bytes], sizes: StageMemory) -> tuple[int, dict[str, float]]:
    best = int(np.argmax(sum(varying.values())))
    constant = {
        component: float(getattr(sizes, component)) for component in MEMORY_COMPONENTS if component not in _VARYING
    }
    return int(times[best]), constant | {component: float(values[best]) for component, values in varying.items()}


def _timeline(stage: int, times: Times, varying: Mapping[str, Bytes], sizes: StageMemory) -> dict[str, Any]:
    """Return the memory of a stage over time; of a long timeline the highest point of each piece."""
    total = np.sum(list(varying.values()), axis=0)
    starts = np.unique(np.linspace(0, times.size, min(times.size, _MOST_POINTS), endpoint=False).astype(np.intp))
    ends = [*starts[1:].tolist(), times.size]
    highest = [first + int(total[first:end].argmax()) for first, end in zip(starts.tolist(), ends, strict=True)]
    constant = {component: getattr(sizes, component) for component in MEMORY_COMPONENTS if component not in _VARYING}
    return {
        "stage": stage,
        "time_s": [time / 1e9 for time in times[highest].tolist()],
        "held_bytes": {component: round(size) for component, size in constant.items() if size},
        "varying_bytes": {
            component: np.rint(size[highest]).astype(int).tolist() for component, size in varying.items() if size.any()
        },
    }


def _components_over_time(
    trace: Trace,
    stage: int,
    stages: Sequence[StageMemory],
    *,
    microbatches: int,
    tokens: _Tokens,
    all_units: Sequence[_Units],
    served: Sequence[int],
) -> tuple[Times, dict[str, Bytes]]:
    """Return when a stage's memory changes, and the bytes of each varying component from then on. Each of shape [T].

    `served` are the stages whose tokens the experts of this stage's ranks compute.
    """
    units = all_units[stage]
    batch_end = _batch_ends(units, all_units[-1], microbatches)
    changes = [change for guest in served for change in _changes(all_units[guest])]
    times = np.unique(np.concatenate([[trace.start_ns], *changes, batch_end]))

    def kept(component: str, start: Times, end: Times, of: int = stage) -> Bytes:
        chunks, chunk = stages[of].chunks, all_units[of].chunk
        if not any(getattr(known, component) for known in chunks):
            return np.zeros(times.size)
        share = min(1.0, len(chunks) / (int(chunk.max(initial=0)) + 1))
        each = share * np.array([getattr(known, component) for known in chunks])[chunk % len(chunks)]
        return _sum_alive(times, start, end, each)

    experts = np.zeros(times.size)
    for guest in served:
        opened, backward, closed = _changes(all_units[guest])
        experts += kept("expert_activations", opened, backward, guest)
        experts += kept("expert_weight_pass", backward, closed, guest)
    waiting = _share_waiting(stages[stage])
    hottest = _hottest(times, stage, tokens, waiting, all_units=all_units, served=served) if experts.any() else 1.0
    return times, {
        "activations": kept("activations", units.opened, units.backward)
        + kept("weight_pass", units.backward, units.closed),
        "expert_activations": experts * hottest,
        "kv_cache": kept("kv_cache", units.opened, batch_end),
        "logits": kept("logits", units.opened, units.backward),
    }


def _sum_alive(times: Times, start: Times, end: Times, each: NDArray[np.float64]) -> Bytes:
    """Add up at each time what the intervals [start, end) hold; `each` of shape [units] or [units, R]."""
    whole = np.rint(each).astype(np.int64)  # whole bytes: sums that come and go end at 0, and equal peaks are equal
    change = np.zeros((times.size, *whole.shape[1:]), dtype=np.int64)
    np.add.at(change, np.searchsorted(times, start), whole)
    np.subtract.at(change, np.searchsorted(times, end), whole)
    return np.cumsum(change, axis=0).astype(np.float64)


def _share_waiting(sizes: StageMemory) -> float:
    """Return what a token holds of experts from B to W, over that and what it holds from F to B."""
    kept = sum(chunk.expert_activations for chunk in sizes.chunks)
    waiting = sum(chunk.expert_weight_pass for chunk in sizes.chunks)
    return waiting / (kept + waiting) if waiting else 0.0


def _hottest(
    times: Times,
    stage: int,
    tokens_of: _Tokens,
    waiting: float,
    *,
    all_units: Sequence[_Units],
    served: Sequence[int],
) -> Bytes:
    """Return the most that tokens of experts hold on a rank over the mean, 1 without any. Shape [T].

    Ranks that serve their own stage alone are compared with those of their lane, and ranks that serve all stages with
    those of all stages.
    """
    worst, on_rank, on_average = np.zeros(times.size), np.zeros(times.size), np.zeros(times.size)
    expert_tokens, sent_tokens = tokens_of
    for (of_stage, lane), tokens in expert_tokens.items():
        if of_stage not in served or not tokens:
            continue
        units = all_units[of_stage]
        unit_keys = list(zip(units.microbatch.tolist(), units.chunk.tolist(), strict=True))
        none = np.zeros_like(next(iter(tokens.values())))
        each = np.array([tokens.get(key, none) for key in unit_keys], dtype=np.float64)
        alive = _sum_of_copies(times, units, each, waiting)
        mean = alive.mean(axis=1)
        if (of_stage, lane) in sent_tokens:
            sent = sent_tokens[of_stage, lane]
            copies = np.array([sent.get(key, 0) for key in unit_keys], dtype=np.float64)
            mean = _sum_of_copies(times, units, copies, waiting) / none.size
        if len(served) > 1:
            on_rank = on_rank + alive.T  # [R, T]: a rank holds the copies of all stages and lanes
            on_average += mean
        else:
            worst = np.maximum(worst, _ratio(alive.max(axis=1), mean))
    if on_rank.ndim > 1:
        worst = _ratio(on_rank.reshape(len(served), -1, times.size)[stage].max(axis=0), on_average)
    return np.where(worst > 0, worst, 1.0)


def _sum_of_copies(times: Times, units: _Units, each: NDArray[np.float64], waiting: float) -> Bytes:
    """Add up the copies of tokens in flight, those from B to W by the share of bytes that they hold."""
    alive = (1 - waiting) * _sum_alive(times, units.opened, units.backward, each)
    if waiting:
        alive += waiting * _sum_alive(times, units.backward, units.closed, each)
    return alive


def _ratio(most: Bytes, mean: Bytes) -> Bytes:
    return np.divide(most, mean, out=np.ones(mean.size), where=mean > 0)


def _peak_rank(
    trace: Trace,
    stage: int,
    time_ns: int,
    expert_tokens: Mapping[tuple[int, int], Mapping[tuple[int, int], NDArray[np.int64]]],
    waiting: float,
    *,
    all_units: Sequence[_Units],
    served: Sequence[int],
) -> int:
    """Return the rank of a stage whose experts hold most at a time; its first where all are alike."""
    most, rank, on_rank = -1.0, int(trace.lane_ranks[stage, 0, 0]), np.zeros(0)
    for (of_stage, lane), tokens in expert_tokens.items():
        if of_stage not in served:
            continue
        units = all_units[of_stage]
        until_b = (units.opened <= time_ns) & (units.backward > time_ns)
        until_w = (units.backward <= time_ns) & (units.closed > time_ns)
        weights = ((1 - waiting) * until_b + waiting * until_w).tolist()
        weighted_units = zip(units.microbatch.tolist(), units.chunk.tolist(), weights, strict=True)
        rows = np.sum([weight * tokens[i, c] for i, c, weight in weighted_units if weight and (i, c) in tokens], axis=0)
        if len(served) > 1:
            on_rank = on_rank + rows if on_rank.size and np.size(rows) > 1 else rows if np.size(rows) > 1 else on_rank
        elif np.size(rows) == trace.lane_ranks.shape[2] and rows.max() > most:
            most, rank = float(rows.max()), int(trace.lane_ranks[stage, lane, int(rows.argmax())])
    if on_rank.size:
        rank = int(trace.lane_ranks[stage].ravel()[int(on_rank.reshape(len(served), -1)[stage].argmax())])
    return rank


def _units(trace: Trace, stage: int) -> _Units:
    """Return what passes through a stage (its first lane), microbatch by microbatch and chunk by chunk."""
    rows = trace.rows("pass", stage=stage, lane=0)
    rows = rows[trace.ints("microbatch")[rows] >= 0]
    microbatch, chunk = trace.ints("microbatch")[rows], trace.ints("chunk")[rows].clip(min=0)
    num_chunks = int(chunk.max(initial=0)) + 1
    unit, unit_of_row = np.unique(microbatch * num_chunks + chunk, return_inverse=True)
    start, end, waits = trace.ints("start_ns")[rows], trace.ints("end_ns")[rows], trace.ints("kind")[rows] == _W
    opened, backward, closed = np.full(unit.size, np.iinfo(np.int64).max), *np.zeros((2, unit.size), dtype=np.int64)
    np.minimum.at(opened, unit_of_row, start)
    np.maximum.at(backward, unit_of_row[~waits], end[~waits])
    np.maximum.at(closed, unit_of_row, end)
    return _Units(
        microbatch=unit // num_chunks, chunk=unit % num_chunks, opened=opened, backward=backward, closed=closed
    )


def _changes(units: _Units) -> tuple[Times, Times, Times]:
    """Return when units open, when B closes, and when W closes."""
    return units.opened, units.backward, units.closed


def _batch_ends(units: _Units, last: _Units, microbatches: int) -> Times:
    """Return, for each unit, when its batch has left the `last` stage. Shape [units]."""
    num_batches = int(max(units.microbatch.max(initial=0), last.microbatch.max(initial=0))) // microbatches + 1
    ends = np.zeros(num_batches, dtype=np.int64)
    np.maximum.at(ends, last.microbatch // microbatches, last.closed)
    return ends[units.microbatch // microbatches]
