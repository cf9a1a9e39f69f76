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

The peak is the largest sum over all stages and times; its components are those of that stage at that time.

Assumptions
-----------
A microbatch's memory is taken when its F opens and freed when its B closes, not layer by layer: pessimistic by less
than one microbatch. Under `spanning` the hottest rank is that of the tokens of one stage.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.engine.trace import Trace

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
    """Weights."""
    gradients: float = 0.0
    """Gradients (training)."""
    optimizer: float = 0.0
    """Optimizer state (training)."""
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
    microbatches: int,
    expert_tokens: Mapping[tuple[int, int], Mapping[tuple[int, int], NDArray[np.int64]]] | None = None,
    sent_tokens: Mapping[tuple[int, int], Mapping[tuple[int, int], int]] | None = None,
) -> dict[str, Any]:
    """Return the contract's `memory`: the peak by component, the capacity, whether the peak fits, and memory over time.

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
    expert_tokens
        (stage, lane) -> (microbatch, chunk) -> rows of tokens that its experts' hosts hold. Each of shape [R].
    sent_tokens
        (stage, lane) -> (microbatch, chunk) -> copies of tokens that its sources have: what a rank holds on average if
        none is dropped and nothing padded; None: the mean of what ranks hold.
    """
    tokens = (expert_tokens or {}, sent_tokens or {})
    timelines = [_components_over_time(trace, i, sizes, microbatches, tokens) for i, sizes in enumerate(stages)]
    peaks = [_peak(times, components, stages[i]) for i, (times, components) in enumerate(timelines)]
    stage = max(range(len(peaks)), key=lambda i: (sum(peaks[i][1].values()), -i))
    time_ns, components = peaks[stage]
    total = sum(components.values())
    return {
        "peak_bytes_per_gpu": {
            **{component: round(components[component]) for component in MEMORY_COMPONENTS},
            "total": round(total),
        },
        "capacity_bytes": round(capacity_bytes),
        "fits": total <= capacity_bytes,
        "peak_fraction": total / capacity_bytes,
        "peak_stage": stage,
        "peak_rank": _peak_rank(trace, stage, time_ns, expert_tokens or {}, _share_waiting(stages[stage])),
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
    sizes: StageMemory,
    microbatches: int,
    tokens: _Tokens,
) -> tuple[Times, dict[str, Bytes]]:
    """Return when a stage's memory changes, and the bytes of each varying component from then on. Each of shape [T]."""
    units = _units(trace, stage)
    batch_end = _batch_ends(trace, units, microbatches)
    times = np.unique(np.concatenate([[trace.start_ns], units.opened, units.backward, units.closed, batch_end]))

    num_known = len(sizes.chunks)
    share = min(1.0, num_known / (int(units.chunk.max(initial=0)) + 1))

    def kept(component: str, start: Times, end: Times) -> Bytes:
        each = share * np.array([getattr(chunk, component) for chunk in sizes.chunks])[units.chunk % num_known]
        return _sum_alive(times, start, end, each)

    experts = kept("expert_activations", units.opened, units.backward) + kept(
        "expert_weight_pass", units.backward, units.closed
    )
    hottest = _hottest(times, units, stage, tokens, _share_waiting(sizes)) if experts.any() else 1.0
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
    units: _Units,
    stage: int,
    tokens_of: _Tokens,
    waiting: float,
) -> Bytes:
    """Return the most that tokens of experts hold on a rank over the mean, 1 without any. Shape [T]."""
    worst = np.zeros(times.size)
    expert_tokens, sent_tokens = tokens_of
    unit_keys = list(zip(units.microbatch.tolist(), units.chunk.tolist(), strict=True))
    for (of_stage, lane), tokens in expert_tokens.items():
        if of_stage != stage or not tokens:
            continue
        none = np.zeros_like(next(iter(tokens.values())))
        each = np.array([tokens.get(key, none) for key in unit_keys], dtype=np.float64)
        alive = (1 - waiting) * _sum_alive(times, units.opened, units.backward, each)
        if waiting:
            alive += waiting * _sum_alive(times, units.backward, units.closed, each)
        mean = alive.mean(axis=1)
        if (of_stage, lane) in sent_tokens:
            sent = sent_tokens[of_stage, lane]
            copies = np.array([sent.get(key, 0) for key in unit_keys], dtype=np.float64)
            mean = (1 - waiting) * _sum_alive(times, units.opened, units.backward, copies) / none.size
            mean += waiting * _sum_alive(times, units.backward, units.closed, copies) / none.size
        worst = np.maximum(worst, np.divide(alive.max(axis=1), mean, out=np.ones(times.size), where=mean > 0))
    return np.where(worst > 0, worst, 1.0)


def _peak_rank(
    trace: Trace,
    stage: int,
    time_ns: int,
    expert_tokens: Mapping[tuple[int, int], Mapping[tuple[int, int], NDArray[np.int64]]],
    waiting: float,
) -> int:
    """Return the rank of a stage whose experts hold most at a time; its first where all are alike."""
    units = _units(trace, stage)
    until_b = (units.opened <= time_ns) & (units.backward > time_ns)
    until_w = (units.backward <= time_ns) & (units.closed > time_ns)
    weights = ((1 - waiting) * until_b + waiting * until_w).tolist()
    weighted_units = list(zip(units.microbatch.tolist(), units.chunk.tolist(), weights, strict=True))
    most, rank = -1.0, int(trace.lane_ranks[stage, 0, 0])
    for (of_stage, lane), tokens in expert_tokens.items():
        rows = np.sum([weight * tokens[i, c] for i, c, weight in weighted_units if weight and (i, c) in tokens], axis=0)
        if of_stage == stage and np.size(rows) == trace.lane_ranks.shape[2] and rows.max() > most:
            most, rank = float(rows.max()), int(trace.lane_ranks[stage, lane, int(rows.argmax())])
    return rank


def _units(trace: Trace, stage: int) -> _Units:
    """Return what passes through a stage (its first lane), microbatch by microbatch and chunk by chunk."""
    rows = trace.rows("pass", stage=stage, lane=0)
    rows = rows[trace.ints("microbatch")[rows] >= 0]
    microbatch, chunk = trace.ints("microbatch")[rows], trace.ints("chunk")[rows].clip(min=0)
    num_chunks = int(chunk.max(initial=0)) + 1
    unit, place = np.unique(microbatch * num_chunks + chunk, return_inverse=True)
    start, end, kind = trace.ints("start_ns")[rows], trace.ints("end_ns")[rows], trace["kind"][rows].astype(np.str_)
    opened, backward, closed = np.full(unit.size, np.iinfo(np.int64).max), *np.zeros((2, unit.size), dtype=np.int64)
    np.minimum.at(opened, place, start)
    np.maximum.at(backward, place[kind != "W"], end[kind != "W"])
    np.maximum.at(closed, place, end)
    return _Units(
        microbatch=unit // num_chunks, chunk=unit % num_chunks, opened=opened, backward=backward, closed=closed
    )


def _batch_ends(trace: Trace, units: _Units, microbatches: int) -> Times:
    """Return, for each unit, when its batch has left the last stage. Shape [units]."""
    last = _units(trace, trace.num_stages - 1)
    num_batches = int(max(units.microbatch.max(initial=0), last.microbatch.max(initial=0))) // microbatches + 1
    ends = np.zeros(num_batches, dtype=np.int64)
    np.maximum.at(ends, last.microbatch // microbatches, last.closed)
    return ends[units.microbatch // microbatches]
