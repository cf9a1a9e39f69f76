"""Steps priced by measured times of layers inside of a serving framework.

Model
-----
    own work   = layers * (dense layers by tokens + attention) + embedding, last norm, output head, sampler
    attention  = measured at chunk, context of the chunk, decodes and their mean context; linear between
    experts    = measured at tokens and activated experts; a rank with a part of the experts has as many tokens as give
                 its copies, and the activated ones among its own; the slowest rank counts
    exchange   = all-gather and reduce-scatter of all data-parallel ranks' tokens::

        2 * (latency + (ranks - 1) * tokens of a rank * hidden * bytes / link)        with a given link

Several chunks stand for one that has as many tokens and attends to as much; where even a chunk without context would
attend to more, for the shorter one that does not.

Assumptions
-----------
Attention of requests with different contexts takes as long as with their mean. Beyond the measured tokens, contexts and
requests, times go on along the last slope. A layer that `LAYERS` does not name is refused.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sim.build.serving import LayerTimes, ServingWork
from sim.errors import InvalidValueError
from sim.plan.serving_costs import RankBatch, StepTime, interpolated, rank_batches, sample_tokens
from sim.plan.serving_experts import ExpertLoads
from sim.time import to_ns
from workloads.serving.requests import Batch, Chunk

__all__ = ["LAYERS", "MeasuredSteps"]

Floats = NDArray[np.float64]
LAYERS: Final[dict[str, int | None]] = {
    "embedding": None,
    "final_layernorm": None,
    "layernorm": 2,
    "qkv_proj": 1,
    "qk_norm": 1,
    "rotary_emb": 1,
    "o_proj": 1,
    "gate_up_proj": 1,
    "act_fn": 1,
    "down_proj": 1,
}
"""Measured layers by name -> how often a layer of the model has them; None: once in the model."""
_US: Final = 1e-6


class MeasuredSteps:
    """Prices steps by tables."""

    def __init__(self, work: ServingWork, times: LayerTimes) -> None:
        self._work, self._times = work, times
        unknown = [name for name in times.dense if name not in LAYERS]
        if unknown:
            hint = f"Known are {', '.join(LAYERS)}."
            raise InvalidValueError("workload.layer_times.dense", "name known layers", unknown[0], hint)
        if work.mesh.num_stages > 1 or work.mesh.strategy.tp > 1:
            rule, hint = "be left out with TP or PP above 1", "Measured layers are those of one rank of a stage."
            raise InvalidValueError("workload.layer_times", rule, "a section", hint)
        self._loads = ExpertLoads(work) if work.model.experts else None
        self._decode = _Grid(times.attention[times.attention[:, 0] == 0][:, 2:])
        self._prefill = _Grid(times.attention[times.attention[:, 2] == 0][:, [0, 1, 4]])
        has_both = (times.attention[:, 0] > 0) & (times.attention[:, 2] > 0)
        self._mixed = _Grid(times.attention[has_both]) if has_both.any() else None
        self._experts = None if times.moe is None else _Grid(times.moe)
        self._dense_s: dict[int, float] = {}
        self._moe_s: dict[int, float] = {}

    def step(self, batches: Sequence[Batch]) -> StepTime:
        """Return the time of a step of the ranks of a group, one batch of each."""
        work, layers = self._work, self._work.model.layers
        ranks = rank_batches(work, batches)
        own = [(layers * self._attention_s(rank), self._dense(rank.tokens), self._sampling_s(rank)) for rank in ranks]
        totals = [sum(parts) for parts in own]
        slowest = own[totals.index(max(totals))]
        mean_s = sum(totals) / len(totals)
        attention_s, dense_s, sampling_s = slowest
        expert_s = exchange_s = 0.0
        if self._loads is not None:
            expert_s = layers * self._moe(sum(rank.tokens for rank in ranks))
            exchange_s = layers * self._exchange_s(max(rank.tokens for rank in ranks))
        excess_s = max(totals) - mean_s
        parts = {
            "attention": max(0.0, attention_s - excess_s),
            "other_compute": dense_s + sampling_s - max(0.0, excess_s - attention_s),
            "expert": expert_s,
            "ep_dispatch": exchange_s / 2,
            "ep_combine": exchange_s / 2,
            "imbalance": excess_s,
            "stalled": work.limits.host_s,
        }
        parts_ns = tuple((kind, to_ns(time_s)) for kind, time_s in parts.items() if time_s > 0)
        return StepTime((sum(ns for _, ns in parts_ns),), parts_ns)

    # ---- private -------------------------------------------------------------------------------------------------

    def _attention_s(self, rank: RankBatch) -> float:
        """Return the time of the attention of one layer."""
        chunk = _one_chunk(rank.chunks)
        mean_context = rank.decode_context / rank.num_decodes if rank.num_decodes else 0.0
        if chunk is None:
            return _US * self._decode.at(rank.num_decodes, mean_context) if rank.num_decodes else 0.0
        if not rank.num_decodes:
            return _US * self._prefill.at(*chunk)
        if self._mixed is not None:
            return _US * self._mixed.at(*chunk, rank.num_decodes, mean_context)
        return _US * (self._prefill.at(*chunk) + self._decode.at(rank.num_decodes, mean_context))

    def _dense(self, tokens: int) -> float:
        """Return the time of all that follows tokens."""
        if tokens not in self._dense_s:
            total = 0.0
            for name, rows in self._times.dense.items():
                each = LAYERS[name]
                total += (1 if each is None else each * self._work.model.layers) * _line(rows, tokens)
            self._dense_s[tokens] = _US * total
        return self._dense_s[tokens]

    def _sampling_s(self, rank: RankBatch) -> float:
        num = max(1, rank.num_sampled)
        return _US * sum(_line(rows, num) for rows in self._times.per_sequence.values())

    def _moe(self, tokens: int) -> float:
        """Return the time of the experts of one layer on the slowest rank."""
        low, high = sample_tokens(tokens)
        return interpolated(tokens, low, high, self._moe_of_class(low), self._moe_of_class(high))

    def _moe_of_class(self, tokens: int) -> float:
        if tokens not in self._moe_s:
            assert self._loads is not None
            assert self._experts is not None
            counts = self._loads.counts(tokens)
            local = counts.reshape(len(counts), self._work.mesh.strategy.ep, -1)
            top_k = self._work.model.top_k
            times = [
                max(self._experts.at(rank.sum() / top_k, float(np.count_nonzero(rank))) for rank in layer)
                for layer in local
            ]
            self._moe_s[tokens] = _US * float(np.mean(times))
        return self._moe_s[tokens]

    def _exchange_s(self, tokens: int) -> float:
        """Return the time of the exchanges of one layer."""
        work, link = self._work, self._times.link_bytes_per_s
        if not work.ranks_meet or link is None:
            return 0.0
        sent = (work.mesh.dp - 1) * tokens * work.model.hidden * work.model.dtype_bytes
        return 2 * (self._times.link_latency_s + sent / link)


def _one_chunk(chunks: Sequence[Chunk]) -> tuple[float, float] | None:
    """Return tokens and context of the chunk that stands for several; None without any.

    >>> _one_chunk([Chunk(10, 5)]), _one_chunk([Chunk(8, 0), Chunk(8, 0)])
    ((10, 5), (11.313708498984761, 0.0))
    """
    if not chunks:
        return None
    if len(chunks) == 1:
        return chunks[0].tokens, chunks[0].context
    tokens = sum(chunk.tokens for chunk in chunks)
    attended = sum(chunk.tokens * (chunk.context + chunk.tokens / 2) for chunk in chunks)
    context = attended / tokens - tokens / 2
    return (tokens, context) if context >= 0 else ((2 * attended) ** 0.5, 0.0)


def _line(rows: Floats, x: float) -> float:
    """Return the value at x of rows (x, value), linear between them and along the last slope beyond."""
    xs, values = rows[:, 0], rows[:, 1]
    if x > xs[-1] and len(xs) > 1:
        return float(values[-1] + (values[-1] - values[-2]) / (xs[-1] - xs[-2]) * (x - xs[-1]))
    return float(np.interp(x, xs, values))


class _Grid:
    """Values at points, linear between them along one coordinate after the other; points need not fill a grid."""

    def __init__(self, rows: Floats) -> None:
        """`rows` hold coordinates, and the value last. Shape [N, D + 1]."""
        order = np.argsort(rows[:, 0], kind="stable")
        rows = rows[order]
        self._xs = np.unique(rows[:, 0]).tolist()
        if rows.shape[1] == 2:
            self._values = [float(rows[rows[:, 0] == x][:, 1].mean()) for x in self._xs]
            self._below: list[_Grid] = []
        else:
            self._below = [_Grid(rows[rows[:, 0] == x][:, 1:]) for x in self._xs]

    def at(self, x: float, *rest: float) -> float:
        """Return the value at a point; below the least coordinate that of the least one."""
        xs = self._xs
        if x <= xs[0] or len(xs) == 1:
            return self._value(0, rest)
        high = next((position for position, known in enumerate(xs) if known >= x), len(xs) - 1)
        if xs[high] == x:
            return self._value(high, rest)
        low = high - 1
        share = (x - xs[low]) / (xs[high] - xs[low])
        at_low = self._value(low, rest)
        return float(max(0.0, at_low + (self._value(high, rest) - at_low) * share))

    def _value(self, position: int, rest: tuple[float, ...]) -> float:
        return self._below[position].at(*rest) if self._below else self._values[position]
