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

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sim.plan.exchange_costs import Tokens
from sim.plan.ops import Transfer
from sim.plan.serving_costs import RankBatch, StepTime, cuts_in_two, rank_batches, sample_tokens
from sim.plan.serving_layers import INDEX, PARTS, LayerPrices, alone_s, line, mean_chunk
from sim.plan.two_batches import overlapped_layers_s
from sim.time import to_ns
from workloads.blocks.ffn import MoeFfn
from workloads.layers import expert_block, permute
from workloads.serving.requests import Batch, Chunk

__all__ = ["KernelSteps"]

Floats = NDArray[np.float64]
_NS: Final = 1e-9


class KernelSteps(LayerPrices):
    """Prices steps of one work; `exact` prices are for the composition as it is, not for its class."""

    _num_steps = _microbatch = 0

    @property
    def warnings(self) -> list[str]:
        """What users should know of the prices so far."""
        return self.costs.kernels.warnings

    def step(self, batches: Sequence[Batch]) -> StepTime:
        """Return the time of a step of the ranks of a group, one batch of each."""
        work = self.work
        ranks, in_two = rank_batches(work, batches), cuts_in_two(work, batches)
        if self.loads is not None:
            self._microbatch = self.loads.microbatch_of(self._num_steps // work.num_groups)
        self._num_steps += 1
        stage_s, parts = [work.limits.host_s, *[0.0] * (work.mesh.num_stages - 1)], np.zeros(len(PARTS))
        imbalance_s = 0.0
        for priced, of_ranks, times in self._passes(ranks):
            totals = [self._total_s(priced, rank) for rank in of_ranks]
            most_s, mean_s = max(totals), sum(totals) / len(totals)
            slowest = of_ranks[totals.index(most_s)]
            own, met = self.own_s(priced, slowest), self._met_s(priced, of_ranks)
            if in_two and met.any():
                own, met = self._in_two(priced, of_ranks, slowest)
                most_s, mean_s = float(own.sum()), float(own.sum()) * (mean_s / most_s)
            if most_s > 0:
                parts += times * (own * (mean_s / most_s) + met)
            imbalance_s += times * (most_s - mean_s)
            stage_s[self.on_stage(priced)] += times * (most_s + float(met.sum()))
        stage_ns = [to_ns(time_s) for time_s in stage_s]
        parts_ns = [(part, round(time_s / _NS)) for part, time_s in zip(PARTS, parts.tolist(), strict=True) if time_s]
        parts_ns += [("imbalance", round(imbalance_s / _NS))] if imbalance_s else []
        rest = sum(stage_ns) - sum(ns for _, ns in parts_ns)
        if rest < 0:  # parts that were rounded up: the largest gives back what is too much
            largest = max(range(len(parts_ns)), key=lambda i: parts_ns[i][1])
            parts_ns[largest] = (parts_ns[largest][0], parts_ns[largest][1] + rest)
            rest = 0
        return StepTime(tuple(stage_ns), (*parts_ns, ("stalled", rest)))

    def _passes(self, ranks: list[RankBatch]) -> Iterator[tuple[int, list[RankBatch], int]]:
        """Yield the stages that a step prices, with the batches there, and how often.

        The draft model runs over all tokens of the step once, and then over one token of each request for each further
        draft.
        """
        num_stages, num_drafts = self.work.mesh.num_stages, self.work.limits.num_drafts
        for stage in range(num_stages):
            yield stage, ranks, 1
        if self.work.limits.draft_layers:
            yield num_stages, [rank._replace(num_sampled=max(1, rank.num_decodes)) for rank in ranks], 1
            if num_drafts > 1:
                decodes = [rank._replace(chunks=(), num_decode_tokens=rank.num_decodes) for rank in ranks]
                tokens = self.work.limits.padded(max(1, *(rank.num_decodes for rank in ranks)))
                yield num_stages, [rank._replace(tokens=tokens, num_sampled=tokens) for rank in decodes], num_drafts - 1

    def _in_two(self, stage: int, ranks: Sequence[RankBatch], slowest: RankBatch) -> tuple[Floats, Floats]:
        """Return own work, and experts and exchanges as far as they show, where all batches are cut in two."""
        num_layers = self._num_expert_layers(stage)
        layers, met = self._layers_s(stage, _half(slowest)), self._met_s(stage, [_half(rank) for rank in ranks])
        slowdown = self._slowdown_by_exchanges
        attention_s, experts_s = (slowdown * float(time_s) for time_s in (layers.sum(), met[INDEX["expert"]]))
        dispatch_s, all_s = float(met[INDEX["ep_dispatch"]]), float(met.sum() - met[INDEX["expert"]])
        in_all_s = overlapped_layers_s(
            num_layers,
            attention_s=attention_s / num_layers,
            dispatch_s=dispatch_s / num_layers,
            experts_s=experts_s / num_layers,
            combine_s=(all_s - dispatch_s) / num_layers,
        )
        shown = max(0.0, in_all_s - 2 * (attention_s + experts_s)) / all_s if all_s else 0.0
        of_experts = np.zeros(len(PARTS))
        of_experts[INDEX["expert"]] = met[INDEX["expert"]]
        own = 2 * slowdown * layers + self._at_ends(stage, slowest.tokens, slowest.num_sampled)
        return own, 2 * slowdown * of_experts + shown * (met - of_experts)

    @property
    def _slowdown_by_exchanges(self) -> float:
        """What exchanges slow kernels by that run at the same time: the SMs that they take."""
        taken, num_sms = self.work.network.exchange_num_sms, self.work.cluster.device.num_sms
        return num_sms / (num_sms - taken) if taken and num_sms else 1.0

    # ---- what a rank does on its own -------------------------------------------------------------------------------

    def own_s(self, stage: int, rank: RankBatch) -> Floats:
        """Return the time of a rank's own work on a stage, by part. Shape [PARTS]."""
        return self._layers_s(stage, rank) + self._at_ends(stage, rank.tokens, rank.num_sampled)

    def _layers_s(self, stage: int, rank: RankBatch) -> Floats:
        """Return the time of a rank's own work in the layers of a stage, by part. Shape [PARTS]."""
        total = self._by_tokens(stage, rank.tokens, rank.num_decode_tokens if rank.chunks else -1)
        if rank.num_decodes:
            context, queries = rank.decode_context / rank.num_decodes, _queries(rank)
            low, high = sample_tokens(int(context))
            at_low, at_high = (self._decodes_of_stage(stage, rank.num_decodes, at, queries) for at in (low, high))
            total = total + line(context, low, high, at_low, at_high)
        if rank.chunks:
            for kind, (_, count) in enumerate(self.stage_kinds[stage]):
                total = total + count * self._chunks_by_class(stage, kind, rank)
        return total

    def ends_s(self, stage: int, rank: RankBatch) -> tuple[Floats, Floats]:
        """Return the exact time of what a stage does before its first layer, and after its last one. [PARTS]."""
        in_graph = self.in_graph(rank.tokens)
        before = self._embedding(rank.tokens, in_graph) if stage == 0 else np.zeros(len(PARTS))
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
            bare = rank._replace(num_decodes=0, num_decode_tokens=0, decode_context=0)
            total = self._sums[key] = float(self.own_s(stage, bare).sum())
        if not rank.num_decodes:
            return total
        context, queries = rank.decode_context / rank.num_decodes, _queries(rank)
        low, high = sample_tokens(int(context))
        of_class = (stage, rank.num_decodes, low, queries)
        ends = self._decode_sums.get(of_class)
        if ends is None:
            prices = [self._decodes_of_stage(stage, rank.num_decodes, at, queries) for at in (low, high)]
            ends = self._decode_sums[of_class] = (float(prices[0].sum()), float(prices[1].sum()))
        if low != high:
            return total + ends[0] + (ends[1] - ends[0]) * (context - low) / (high - low)
        return total + ends[0]

    def _by_tokens(self, stage: int, tokens: int, num_decodes: int) -> Floats:
        """Return what all layers of a stage do with each token; `num_decodes` of them are decoded, -1: all."""
        in_graph = self.in_graph(tokens)
        latent = [self._is_latent(layer) for layer, _ in self.stage_kinds[stage]]
        decodes = sample_tokens(num_decodes)[0] if any(latent) and num_decodes >= 0 else -1

        def at(size: int) -> Floats:
            def price() -> Floats:
                total = np.zeros(len(PARTS))
                for layer, count in self.stage_kinds[stage]:
                    priced = self._tokens_of_layer(layer, size, size if decodes < 0 else min(decodes, size))
                    total += count * (priced + self._over_tp(stage, layer, size, in_graph))
                return total

            return self._keep(("tokens", stage, size, decodes, in_graph), price)

        return self._between(tokens, at)

    def _at_ends(self, stage: int, tokens: int, num_sampled: int) -> Floats:
        """Return what a stage does before its first layer and after its last one."""
        in_graph, total = self.in_graph(tokens), np.zeros(len(PARTS))
        if stage == 0:
            total = self._between(tokens, lambda size: self._embedding(size, in_graph))
        if stage >= self.work.mesh.num_stages - 1:
            return total + self._between(max(1, num_sampled), self._head)
        return total + self._between(tokens, lambda size: self._send(stage, size))

    def _decodes_of_stage(self, stage: int, num: int, context: int, queries: int) -> Floats:
        """Return attention of `num` decodes of `queries` tokens to `context` tokens each, in all layers of a stage."""

        def price() -> Floats:
            total = np.zeros(len(PARTS))
            for layer, count in self.stage_kinds[stage]:
                total += count * self._decodes(layer, num, context, queries)
            return total

        return self._keep(("decodes", stage, num, context, queries), price)

    def layer_s(self, stage: int, kind: int, rank: RankBatch) -> Floats:
        """Return the exact time of a rank's own work in a layer of a kind, without collectives over TP. [PARTS]."""
        layer = self.stage_kinds[stage][kind][0]
        total = self._tokens_of_layer(layer, rank.tokens, rank.num_decode_tokens if rank.chunks else rank.tokens)
        if rank.num_decodes:
            context = round(rank.decode_context / rank.num_decodes)
            total = total + self._decodes(layer, rank.num_decodes, context, _queries(rank))
        if rank.chunks:
            total = total + self._chunks(layer, *mean_chunk(rank.chunks))
        return total

    def _chunks_by_class(self, stage: int, kind: int, rank: RankBatch) -> Floats:
        layer = self.stage_kinds[stage][kind][0]
        number, tokens, context = mean_chunk(rank.chunks)

        def at(size: int) -> Floats:
            low, high = sample_tokens(int(context))
            return line(
                context,
                low,
                high,
                self._keep(("chunk", stage, kind, number, size, low), lambda: self._chunks(layer, number, size, low)),
                self._keep(("chunk", stage, kind, number, size, high), lambda: self._chunks(layer, number, size, high)),
            )

        low, high = sample_tokens(max(1, int(tokens)))
        return line(tokens, low, high, at(low), at(high))

    # ---- what ranks do together ------------------------------------------------------------------------------------

    def _met_s(self, stage: int, ranks: Sequence[RankBatch]) -> Floats:
        """Return the time of experts and exchanges of a stage, by part."""
        total = np.zeros(len(PARTS))
        num_layers, microbatch = self._num_expert_layers(stage), self._microbatch
        if not num_layers:
            return total
        tokens, most = sum(rank.tokens for rank in ranks), max(rank.tokens for rank in ranks)
        total += self._between(
            tokens, lambda at: self._keep(("experts", microbatch, at), lambda: self._experts_mean(at))
        )
        if self.work.ranks_meet:
            total += self._between(
                most, lambda at: self._keep(("exchange", stage, microbatch, at), lambda: self._exchange_mean(stage, at))
            )
        return num_layers * total

    def _num_expert_layers(self, stage: int) -> int:
        return sum(count for layer, count in self.stage_kinds[stage] if isinstance(layer.ffn, MoeFfn))

    def expert_times(self, counts: NDArray[np.int64]) -> Floats:
        """Return the time of the experts of each rank, of the copies of tokens for each expert [L, E]. [L, ranks]."""
        assert self._expert_slice is not None
        work, ep = self.work, self.work.mesh.strategy.ep
        arrival = "experts" if self.sorts_at_experts else work.network.all_to_all_algorithm.arrival
        by_rank = counts.reshape(-1, ep, counts.shape[-1] // ep)
        flat = by_rank.reshape(-1, by_rank.shape[-1])
        times = np.zeros(len(flat))
        kernels = expert_block(self._expert_slice, flat, arrival=arrival)
        if self.sorts_at_experts:
            copies = float(flat.sum(axis=1).mean())
            kernels = [permute(work.model, copies), *kernels, permute(work.model, copies, is_inverse=True)]
        for kernel in kernels:
            times += self.costs.kernels.kernel_ns(kernel, len(flat))
        return times.reshape(by_rank.shape[:2]) * _NS

    def _experts_mean(self, tokens: int) -> Floats:
        assert self.loads is not None
        total = np.zeros(len(PARTS))
        total[INDEX["expert"]] = float(
            self.expert_times(self.loads.counts(tokens, self._microbatch)).max(axis=1).mean()
        )
        return total

    def exchanges(
        self, stage: int, tokens: Sequence[int], counts: NDArray[np.int64]
    ) -> list[tuple[str, tuple[Transfer, ...]]]:
        """Return the transfers of one layer's exchanges, by part: of each data-parallel rank's tokens.

        `counts` are the copies of all tokens for each expert. Shape [E].
        """
        work, mesh, model = self.work, self.work.mesh, self.work.model
        groups = mesh.dp_groups(self.on_stage(stage))
        if work.limits.exchange == "all_gather" or mesh.gathers_tokens:
            num_bytes = self.tp_bytes(max(tokens)) * len(tokens)
            made = [
                ("ep_dispatch", self.transfers("all_gather", groups, num_bytes)),
                ("ep_combine", self.transfers("reduce_scatter", groups, num_bytes)),
            ]
        else:
            of_token = model.expert_hidden * float(model.formats.dispatch_bytes(model.dtype_bytes))
            there = self._all_to_all(stage, tokens, counts, of_token)[0]
            again = self._all_to_all(stage, tokens, counts, float(model.expert_hidden * model.dtype_bytes))[1]
            made = [("ep_dispatch", (there,)), ("ep_combine", (again,))]
        if self._tp > 1:
            made.append(("tp", self.transfers("all_gather", self._tp_groups(stage), self.tp_bytes(max(tokens)))))
        return made

    def _all_to_all(
        self, stage: int, tokens: Sequence[int], counts: NDArray[np.int64], token_bytes: float
    ) -> tuple[Transfer, Transfer]:
        """Return the all-to-all of tokens to their experts' ranks, and back, of `token_bytes` for each token.

        By way of nodes a token is sent once to a node and once to a rank, whose shares of the copies are as `counts`.
        """
        mesh, top_k, exchanges = self.work.mesh, self.work.model.top_k, self.costs.exchanges
        lane = mesh.ep_groups(self.on_stage(stage))[0]
        share = counts.reshape(mesh.strategy.ep, -1).sum(axis=1) / max(1, counts.sum())
        owned = np.repeat(np.asarray(tokens, dtype=float), self._tp)[:, None] / self._tp
        if not self.work.network.all_to_all_algorithm.relays_by_node:
            return exchanges.round_trip(lane, lane, owned * (top_k * share * token_bytes), group=0)
        node, _ = self.work.cluster.node_positions(lane)
        of_node = np.bincount(node, share)
        to_ranks, to_nodes = (token_bytes * owned * (1 - (1 - part) ** top_k) for part in (share, of_node))
        return exchanges.relayed_trips(lane, lane, Tokens(to_ranks=to_ranks[None], to_nodes=to_nodes[None]), group=0)[0]

    def _exchange_mean(self, stage: int, tokens: int) -> Floats:
        assert self.loads is not None
        total = np.zeros(len(PARTS))
        num_ranks = self.work.ranks_per_group
        counts = self.loads.counts(tokens * num_ranks, self._microbatch)
        for of_layer in counts:
            for part, transfers in self.exchanges(stage, [tokens] * num_ranks, of_layer):
                total[INDEX[part]] += alone_s(transfers) / len(counts)
        return total


def _queries(rank: RankBatch) -> int:
    """Return the tokens of each request that is decoded, rounded: the last drafts of a request may be fewer."""
    return round(rank.num_decode_tokens / rank.num_decodes)


def _half(rank: RankBatch) -> RankBatch:
    """Return half of a batch: half of the requests, or of a single chunk half of its tokens.

    >>> _half(RankBatch(7, (Chunk(6, 0),), 1, 1, 8, 2))
    RankBatch(tokens=4, chunks=(Chunk(tokens=3, context=1),), num_decodes=1, num_decode_tokens=1, decode_context=8, \
num_sampled=1)
    """
    chunks = rank.chunks
    if len(chunks) > 1:
        _, tokens, context = mean_chunk(chunks)
        chunks = (Chunk(round(tokens), round(context)),) * -(-len(chunks) // 2)
    elif chunks:
        chunks = (Chunk(-(-chunks[0].tokens // 2), chunks[0].context + chunks[0].tokens // 4),)
    num = -(-rank.num_decodes // 2)
    share = num / rank.num_decodes if num else 0.0
    return RankBatch(
        -(-rank.tokens // 2),
        chunks,
        num,
        round(share * rank.num_decode_tokens),
        round(share * rank.decode_context),
        -(-rank.num_sampled // 2),
    )
