"""Steps priced by the kernels of a device and the collectives of a cluster.

Model
-----
Of each kind of layer, on one rank of a tensor-parallel group::

    by tokens        norms, projections, dense FFN, router, shared experts, permutation; collectives over TP
    by decodes       attention of one token of each request to its context: keys and values are read once
    by chunks        attention of chunks to their contexts: 4 * tokens * (context + tokens / 2) * heads * head_dim FLOPs
    by sampled       output head, softmax, gather of the logits over TP
    by all tokens    experts, by the copies of tokens that each expert of each rank has: its busiest rank counts
    exchange         all-gather and reduce-scatter over data-parallel ranks, or dispatch and combine

Latent attention is absorbed for decodes and not for chunks. Numbers of tokens, requests and contexts have classes:
prices of classes are kept, and what lies between two classes is interpolated. A collective is priced once for a class:
latency, and what its busiest link needs.

Assumptions
-----------
Requests that are decoded have the mean of their contexts. Exchanges of tokens run alone, with every rank's tokens as
many as those of the rank with the most.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sim.build.serving import ServingWork
from sim.plan.costs import Costs
from sim.plan.ops import Transfer
from sim.plan.serving_costs import ExpertLoads, RankBatch, StepTime, rank_batches, sample_tokens
from sim.time import to_ns
from workloads.blocks.attention import GroupedQueryAttention
from workloads.blocks.ffn import DenseFfn, MoeFfn
from workloads.blocks.latent_attention import LatentAttention
from workloads.blocks.layer import Layer
from workloads.kernels import Attention, Kernel
from workloads.layers import (
    add_and_norm,
    dense_ffn_block,
    embedding_block,
    expert_block,
    head_block,
    router_block,
    shared_expert_block,
)
from workloads.serving.requests import Batch, Chunk

__all__ = ["PARTS", "KernelSteps"]

Floats = NDArray[np.float64]
PARTS: Final = ("attention", "dense_ffn", "expert", "other_compute", "tp", "ep_dispatch", "ep_combine", "pp")
"""Parts of the account of time that a step has."""
_INDEX: Final = {part: position for position, part in enumerate(PARTS)}
_NS: Final = 1e-9


class KernelSteps:
    """Prices steps of one work; `exact` prices are for the composition as it is, not for its class."""

    def __init__(self, work: ServingWork) -> None:
        self.work = work
        self.costs = Costs(
            work.cluster,
            dtype=work.model.product_dtype,
            network=work.network,
            profile=work.profile,
            factors=work.factors,
        )
        self.loads = ExpertLoads(work) if work.model.experts else None
        s = work.mesh.strategy
        self._tp = s.tp
        first = 0
        self.stage_kinds: list[list[tuple[Layer, int]]] = []
        """Kinds of layers of each stage, with their numbers."""
        for count in work.stage_layers:
            self.stage_kinds.append(work.model.layer_kinds(range(first, first + count)))
            first += count
        self._known: dict[tuple[object, ...], Floats] = {}
        self._sums: dict[tuple[int, int, int], float] = {}
        self._decode_sums: dict[tuple[int, int, int], tuple[float, float]] = {}
        self._expert_slice = work.model.moe_ffn.sliced(s.etp) if work.model.experts else None

    @property
    def warnings(self) -> list[str]:
        """What users should know of the prices so far."""
        return self.costs.kernels.warnings

    def step(self, batches: Sequence[Batch]) -> StepTime:
        """Return the time of a step of the ranks of a group, one batch of each."""
        ranks, work = rank_batches(self.work, batches), self.work
        stage_ns, parts = [], np.zeros(len(PARTS))
        imbalance_s = 0.0
        for stage in range(work.mesh.num_stages):
            totals = [self._total_s(stage, rank) for rank in ranks]
            most_s, mean_s = max(totals), sum(totals) / len(totals)
            met = self._met_s(stage, ranks)
            if most_s > 0:
                parts += self.own_s(stage, ranks[totals.index(most_s)]) * (mean_s / most_s) + met
            imbalance_s += most_s - mean_s
            host_s = work.limits.host_s if stage == 0 else 0.0
            stage_ns.append(to_ns(most_s + float(met.sum()) + host_s))
        parts_ns = [(part, round(time_s / _NS)) for part, time_s in zip(PARTS, parts.tolist(), strict=True) if time_s]
        parts_ns += [("imbalance", round(imbalance_s / _NS))] if imbalance_s else []
        rest = sum(stage_ns) - sum(ns for _, ns in parts_ns)
        if rest < 0:  # parts that were rounded up: the largest gives back what is too much
            largest = max(range(len(parts_ns)), key=lambda i: parts_ns[i][1])
            parts_ns[largest] = (parts_ns[largest][0], parts_ns[largest][1] + rest)
            rest = 0
        return StepTime(tuple(stage_ns), (*parts_ns, ("stalled", rest)))

    # ---- what a rank does on its own -------------------------------------------------------------------------------

    def own_s(self, stage: int, rank: RankBatch) -> Floats:
        """Return the time of a rank's own work on a stage, by part. Shape [PARTS]."""
        total = self._by_tokens(stage, rank.tokens, rank.num_decodes if rank.chunks else -1)
        total = total + self._at_ends(stage, rank.tokens, rank.num_sampled)
        if rank.num_decodes:
            context = rank.decode_context / rank.num_decodes
            low, high = sample_tokens(int(context))
            at_low, at_high = (self._decodes_of_stage(stage, rank.num_decodes, at) for at in (low, high))
            total = total + _line(context, low, high, at_low, at_high)
        if rank.chunks:
            for kind, (_, count) in enumerate(self.stage_kinds[stage]):
                total = total + count * self._chunks_by_class(stage, kind, rank)
        return total

    def ends_s(self, stage: int, rank: RankBatch) -> tuple[Floats, Floats]:
        """Return the exact time of what a stage does before its first layer, and after its last one. [PARTS]."""
        before = self._embedding(rank.tokens) if stage == 0 else np.zeros(len(PARTS))
        if stage == self.work.mesh.num_stages - 1:
            return before, self._head(max(1, rank.num_sampled))
        return before, self._send(stage, rank.tokens)

    def _total_s(self, stage: int, rank: RankBatch) -> float:
        """Return the sum of `own_s`; of ranks that decode alone the sums of classes are kept."""
        if rank.chunks:
            return float(self.own_s(stage, rank).sum())
        key = (stage, rank.tokens, rank.num_sampled)
        total = self._sums.get(key)
        if total is None:
            bare = rank._replace(num_decodes=0, decode_context=0)
            total = self._sums[key] = float(self.own_s(stage, bare).sum())
        if not rank.num_decodes:
            return total
        context = rank.decode_context / rank.num_decodes
        low, high = sample_tokens(int(context))
        of_class = (stage, rank.num_decodes, low)
        ends = self._decode_sums.get(of_class)
        if ends is None:
            prices = [self._decodes_of_stage(stage, rank.num_decodes, at) for at in (low, high)]
            ends = self._decode_sums[of_class] = (float(prices[0].sum()), float(prices[1].sum()))
        if low != high:
            return total + ends[0] + (ends[1] - ends[0]) * (context - low) / (high - low)
        return total + ends[0]

    def _by_tokens(self, stage: int, tokens: int, num_decodes: int) -> Floats:
        """Return what all layers of a stage do with each token; `num_decodes` of them are decoded, -1: all."""
        latent = [self._is_latent(layer) for layer, _ in self.stage_kinds[stage]]
        decodes = sample_tokens(num_decodes)[0] if any(latent) and num_decodes >= 0 else -1

        def at(size: int) -> Floats:
            def price() -> Floats:
                total = np.zeros(len(PARTS))
                for layer, count in self.stage_kinds[stage]:
                    priced = self._tokens_of_layer(layer, size, size if decodes < 0 else min(decodes, size))
                    total += count * (priced + self._over_tp(stage, layer, size))
                return total

            return self._keep(("tokens", stage, size, decodes), price)

        return self._between(tokens, at)

    def _at_ends(self, stage: int, tokens: int, num_sampled: int) -> Floats:
        """Return what a stage does before its first layer and after its last one."""
        total = self._between(tokens, self._embedding) if stage == 0 else np.zeros(len(PARTS))
        if stage == self.work.mesh.num_stages - 1:
            return total + self._between(max(1, num_sampled), self._head)
        return total + self._between(tokens, lambda size: self._send(stage, size))

    def _decodes_of_stage(self, stage: int, num: int, context: int) -> Floats:
        """Return attention of `num` decodes to `context` tokens each, in all layers of a stage."""

        def price() -> Floats:
            total = np.zeros(len(PARTS))
            for layer, count in self.stage_kinds[stage]:
                total += count * self._decodes(layer, num, context)
            return total

        return self._keep(("decodes", stage, num, context), price)

    def layer_s(self, stage: int, kind: int, rank: RankBatch) -> Floats:
        """Return the exact time of a rank's own work in a layer of a kind, without collectives over TP. [PARTS]."""
        layer = self.stage_kinds[stage][kind][0]
        total = self._tokens_of_layer(layer, rank.tokens, rank.num_decodes if rank.chunks else rank.tokens)
        if rank.num_decodes:
            total = total + self._decodes(layer, rank.num_decodes, round(rank.decode_context / rank.num_decodes))
        if rank.chunks:
            total = total + self._chunks(layer, *_mean_chunk(rank.chunks))
        return total

    def _chunks_by_class(self, stage: int, kind: int, rank: RankBatch) -> Floats:
        layer = self.stage_kinds[stage][kind][0]
        number, tokens, context = _mean_chunk(rank.chunks)

        def at(size: int) -> Floats:
            low, high = sample_tokens(int(context))
            return _line(
                context,
                low,
                high,
                self._keep(("chunk", stage, kind, number, size, low), lambda: self._chunks(layer, number, size, low)),
                self._keep(("chunk", stage, kind, number, size, high), lambda: self._chunks(layer, number, size, high)),
            )

        low, high = sample_tokens(max(1, int(tokens)))
        return _line(tokens, low, high, at(low), at(high))

    # ---- kernels ---------------------------------------------------------------------------------------------------

    def _price(self, kernels: Sequence[Kernel]) -> Floats:
        """Return the time of kernels on one rank, by part."""
        total = np.zeros(len(PARTS))
        for kernel in kernels:
            total[_INDEX[kernel.kind]] += float(self.costs.kernels.kernel_ns(kernel, 1)[0]) * _NS
        return total

    def _tokens_of_layer(self, layer: Layer, tokens: int, num_decodes: int) -> Floats:
        """Return what a layer does with each token: `num_decodes` of `tokens` are decoded."""
        kernels: list[Kernel] = []
        attention, ffn, tp = layer.attention, layer.ffn, self._tp
        if attention is not None:
            kernels += add_and_norm(attention, tokens)
        if isinstance(attention, LatentAttention):
            if num_decodes:
                kernels += [k for k in attention.decode_kernels(num_decodes, 1, tp=tp) if not isinstance(k, Attention)]
            if tokens > num_decodes:
                prompt = attention.kernels(tokens - num_decodes, 1, tp=tp)
                kernels += [*prompt.before, *prompt.after]
        elif attention is not None:
            of_tokens = attention.kernels(tokens, 1, tp=tp)
            kernels += [*of_tokens.before, *of_tokens.after]
        if isinstance(ffn, DenseFfn):
            kernels += dense_ffn_block(ffn, tokens, tp=tp)
        elif isinstance(ffn, MoeFfn):
            replicated = self.work.mesh.replicates_tokens_over_tp
            owned = tokens if replicated else -(-tokens // tp)
            kernels += router_block(ffn, owned)
            kernels += shared_expert_block(ffn, owned, tp=tp if replicated else 1)
        return self._price(kernels)

    def _decodes(self, layer: Layer, num: int, context: int) -> Floats:
        """Return attention of `num` decodes to `context` tokens each."""
        attention, tp, context = layer.attention, self._tp, max(1, context)
        if isinstance(attention, LatentAttention):
            return self._price([k for k in attention.decode_kernels(num, context, tp=tp) if isinstance(k, Attention)])
        assert isinstance(attention, GroupedQueryAttention)
        heads, kv_heads = attention.heads // tp, max(1, attention.kv_heads // tp)
        attended = min(context, attention.window or context, attention.chunk or context)
        width = attention.head_dim * attention.dtype_bytes
        kernel = Attention(
            kind="attention",
            operation="attention",
            flops=4.0 * num * attended * heads * attention.head_dim,
            num_bytes=float(2 * num * (attended * kv_heads + heads) * width),
            batch=num,
            query_length=1,
            kv_length=attended,
            heads=heads,
            kv_heads=kv_heads,
            head_dim=attention.head_dim,
            value_dim=attention.head_dim,
            is_causal=False,
        )
        return self._price([kernel])

    def _chunks(self, layer: Layer, number: int, tokens: float, context: float) -> Floats:
        """Return attention of `number` chunks of `tokens` each to `context` tokens before them and to themselves."""
        attention, tp = layer.attention, self._tp
        assert attention is not None
        if isinstance(attention, LatentAttention):
            heads = kv_heads = attention.heads // tp
            width, value = attention.head_width, attention.v_head_dim
            window = attention.window
        else:
            assert isinstance(attention, GroupedQueryAttention)
            heads, kv_heads = attention.heads // tp, max(1, attention.kv_heads // tp)
            width = value = attention.head_dim
            window = attention.window or attention.chunk
        attended = context + tokens / 2
        if window is not None:
            attended = min(attended, float(window))
        kept = min(context + tokens, window + tokens) if window is not None else context + tokens
        moved = tokens * heads * (width + value) + kept * kv_heads * (width + value)
        kernel = Attention(
            kind="attention",
            operation="mla" if isinstance(attention, LatentAttention) else "attention",
            flops=2.0 * number * tokens * attended * heads * (width + value),
            num_bytes=number * moved * attention.dtype_bytes,
            batch=number,
            query_length=max(2, round(tokens)),
            kv_length=round(context + tokens),
            heads=heads,
            kv_heads=kv_heads,
            head_dim=width,
            value_dim=value,
            window=window,
        )
        return self._price([kernel])

    def _embedding(self, tokens: int) -> Floats:
        def price() -> Floats:
            return self._price(embedding_block(self.work.model, tokens)) + self._all_reduce(0, tokens, "tp")

        return self._keep(("embedding", tokens), price)

    def _head(self, sampled: int) -> Floats:
        def price() -> Floats:
            total = self._price(head_block(self.work.model, sampled, tp=self._tp))
            if self._tp > 1:
                model = self.work.model
                stage = self.work.mesh.num_stages - 1
                num_bytes = float(sampled * model.padded_vocab(self._tp) * model.logit_bytes)
                total[_INDEX["tp"]] += self.collective_s("all_gather", self._tp_groups(stage), num_bytes)
            return total

        return self._keep(("head", sampled), price)

    # ---- collectives -----------------------------------------------------------------------------------------------

    def transfers(self, operation: str, groups: NDArray[np.intp], num_bytes: float) -> tuple[Transfer, ...]:
        """Return the transfers of a collective of each of some groups."""
        return self.costs.transfers.collectives(operation, groups, num_bytes)

    def collective_s(self, operation: str, groups: NDArray[np.intp], num_bytes: float) -> float:
        """Return the time of a collective of some groups at a time, each alone on its links."""
        return _alone_s(self.transfers(operation, groups, num_bytes))

    def tp_bytes(self, tokens: int) -> float:
        """Return the bytes of the hidden states of so many tokens."""
        return float(tokens * self.work.model.hidden * self.work.model.dtype_bytes)

    def _tp_groups(self, stage: int) -> NDArray[np.intp]:
        return self.work.mesh.tp_groups(stage)[: self.work.ranks_per_group]

    def _all_reduce(self, stage: int, tokens: int, part: str) -> Floats:
        total = np.zeros(len(PARTS))
        if self._tp > 1:
            total[_INDEX[part]] = self.collective_s("all_reduce", self._tp_groups(stage), self.tp_bytes(tokens))
        return total

    def layer_collectives(self, layer: Layer) -> tuple[str, ...]:
        """Return the parts of the all-reduces over TP of a layer: after attention, and after the FFN."""
        if self._tp == 1:
            return ()
        return (
            ("tp",)
            if isinstance(layer.ffn, MoeFfn) and self.work.ranks_meet
            else (
                "tp",
                "ep_combine" if isinstance(layer.ffn, MoeFfn) else "tp",
            )
        )

    def _over_tp(self, stage: int, layer: Layer, tokens: int) -> Floats:
        total = np.zeros(len(PARTS))
        for part in self.layer_collectives(layer):
            total += self._all_reduce(stage, tokens, part)
        return total

    def _send(self, stage: int, tokens: int) -> Floats:
        def price() -> Floats:
            total = np.zeros(len(PARTS))
            sources, targets = (self.work.mesh.tp_groups(at)[0] for at in (stage, stage + 1))
            transfer = self.costs.transfers.send(sources, targets, self.tp_bytes(tokens) / self._tp, group=0)
            total[_INDEX["pp"]] = _alone_s((transfer,))
            return total

        return self._keep(("send", stage, tokens), price)

    # ---- what ranks do together ------------------------------------------------------------------------------------

    def _met_s(self, stage: int, ranks: Sequence[RankBatch]) -> Floats:
        """Return the time of experts and exchanges of a stage, by part."""
        total = np.zeros(len(PARTS))
        num_layers = sum(count for layer, count in self.stage_kinds[stage] if isinstance(layer.ffn, MoeFfn))
        if not num_layers:
            return total
        tokens, most = sum(rank.tokens for rank in ranks), max(rank.tokens for rank in ranks)
        total += self._between(tokens, lambda at: self._keep(("experts", at), lambda: self._experts_mean(at)))
        if self.work.ranks_meet:
            total += self._between(
                most, lambda at: self._keep(("exchange", stage, at), lambda: self._exchange_mean(stage, at))
            )
        return num_layers * total

    def expert_times(self, counts: NDArray[np.int64]) -> Floats:
        """Return the time of the experts of each rank, of the copies of tokens for each expert [L, E]. [L, ranks]."""
        assert self._expert_slice is not None
        work = self.work
        ep, gathers = work.mesh.strategy.ep, work.limits.exchange == "all_gather" or not work.ranks_meet
        arrival = "experts" if gathers or work.mesh.gathers_tokens else work.network.all_to_all_algorithm.arrival
        by_rank = counts.reshape(-1, ep, counts.shape[-1] // ep)
        flat = by_rank.reshape(-1, by_rank.shape[-1])
        times = np.zeros(len(flat))
        for kernel in expert_block(self._expert_slice, flat, arrival=arrival):
            times += self.costs.kernels.kernel_ns(kernel, len(flat))
        return times.reshape(by_rank.shape[:2]) * _NS

    def _experts_mean(self, tokens: int) -> Floats:
        assert self.loads is not None
        total = np.zeros(len(PARTS))
        total[_INDEX["expert"]] = float(self.expert_times(self.loads.counts(tokens)).max(axis=1).mean())
        return total

    def exchanges(
        self, stage: int, tokens: Sequence[int], counts: NDArray[np.int64]
    ) -> list[tuple[str, tuple[Transfer, ...]]]:
        """Return the transfers of one layer's exchanges, by part: of each data-parallel rank's tokens.

        `counts` are the copies of all tokens for each expert. Shape [E].
        """
        work, mesh, model = self.work, self.work.mesh, self.work.model
        groups = mesh.dp_groups(stage)
        if work.limits.exchange == "all_gather" or mesh.gathers_tokens:
            num_bytes = self.tp_bytes(max(tokens)) * len(tokens)
            made = [
                ("ep_dispatch", self.transfers("all_gather", groups, num_bytes)),
                ("ep_combine", self.transfers("reduce_scatter", groups, num_bytes)),
            ]
        else:
            lane = mesh.ep_groups(stage)[0]
            share = counts.reshape(mesh.strategy.ep, -1).sum(axis=1) / max(1, counts.sum())
            owned = np.repeat(np.asarray(tokens, dtype=float), self._tp) / self._tp
            copies = owned[:, None] * model.top_k * share
            of_token = model.expert_hidden * float(model.formats.dispatch_bytes(model.dtype_bytes))
            back = float(model.expert_hidden * model.dtype_bytes)
            there = self.costs.exchanges.round_trip(lane, lane, copies * of_token, group=0)[0]
            again = self.costs.exchanges.round_trip(lane, lane, copies * back, group=0)[1]
            made = [("ep_dispatch", (there,)), ("ep_combine", (again,))]
        if self._tp > 1:
            made.append(("tp", self.transfers("all_gather", self._tp_groups(stage), self.tp_bytes(max(tokens)))))
        return made

    def _exchange_mean(self, stage: int, tokens: int) -> Floats:
        assert self.loads is not None
        total = np.zeros(len(PARTS))
        num_ranks = self.work.ranks_per_group
        counts = self.loads.counts(tokens * num_ranks)
        for of_layer in counts:
            for part, transfers in self.exchanges(stage, [tokens] * num_ranks, of_layer):
                total[_INDEX[part]] += _alone_s(transfers) / len(counts)
        return total

    # ---- classes ---------------------------------------------------------------------------------------------------

    def _keep(self, key: tuple[object, ...], price: Callable[[], Floats]) -> Floats:
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = price()
        return known

    def _between(self, tokens: int, price: Callable[[int], Floats]) -> Floats:
        """Return a price between those of the two classes next to a number."""
        low, high = sample_tokens(tokens)
        return price(low) if low == high else _line(tokens, low, high, price(low), price(high))

    @staticmethod
    def _is_latent(layer: Layer) -> bool:
        return isinstance(layer.attention, LatentAttention)


def _line(x: float, low: int, high: int, at_low: Floats, at_high: Floats) -> Floats:
    """Return the value at x, on the line between two classes, or that of the only one."""
    return at_low if low == high else at_low + (at_high - at_low) * ((x - low) / (high - low))


def _alone_s(transfers: Sequence[Transfer]) -> float:
    """Return the time of transfers that start together, each alone on its links."""
    return max((t.latency_ns + t.alone_ns for t in transfers if t.total_bytes), default=0) * _NS


@lru_cache(maxsize=4096)
def _mean_chunk(chunks: tuple[Chunk, ...]) -> tuple[int, float, float]:
    """Return number, tokens and context of equal chunks that compute as much attention as some chunks do.

    >>> _mean_chunk((Chunk(10, 4), Chunk(10, 8)))
    (2, 10.0, 6.0)
    """
    number = len(chunks)
    tokens = sum(chunk.tokens for chunk in chunks) / number
    attended = sum(chunk.tokens * (chunk.context + chunk.tokens / 2) for chunk in chunks) / number
    context = attended / tokens - tokens / 2
    return (number, tokens, context) if context >= 0 else (number, (2 * attended) ** 0.5, 0.0)
