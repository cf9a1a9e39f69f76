"""What the layers of a model cost a rank that serves: kernels by tokens, decodes and chunks, and collectives.

`sim.plan.serving_kernels` makes steps of these prices, and has the model.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sim.build.serving import ServingWork
from sim.plan.costs import Costs
from sim.plan.custom_all_reduce import custom_all_reduce_s
from sim.plan.ops import Transfer
from sim.plan.serving_costs import sample_tokens
from sim.plan.serving_experts import ExpertLoads
from sim.time import to_ns
from workloads.blocks.attention import GroupedQueryAttention
from workloads.blocks.ffn import DenseFfn, MoeFfn
from workloads.blocks.latent_attention import LatentAttention
from workloads.blocks.layer import Layer
from workloads.kernels import Attention, Kernel, Memory
from workloads.layers import (
    add_and_norm,
    dense_ffn_block,
    embedding_block,
    head_block,
    permute,
    router_block,
    shared_expert_block,
)
from workloads.serving.requests import Chunk

__all__ = ["INDEX", "PARTS", "LayerPrices", "alone_s", "line", "mean_chunk"]

Floats = NDArray[np.float64]
PARTS: Final = ("attention", "dense_ffn", "expert", "other_compute", "tp", "ep_dispatch", "ep_combine", "pp")
"""Parts of the account of time that a step has."""
INDEX: Final = {part: position for position, part in enumerate(PARTS)}
_NS: Final = 1e-9
_ADD_WITH_NORM: Final = 2 / 3
"""Bytes that an addition to the residual stream moves as part of a norm, which reads the sum: one row is read less."""


class LayerPrices:
    """Prices of layers of one work, kept by what they depend on."""

    def __init__(self, work: ServingWork) -> None:
        self.work = work
        self.costs = Costs(
            work.cluster,
            dtype=work.model.base_dtype,
            network=work.network,
            profile=work.profile,
            factors=work.factors,
        )
        self.loads = ExpertLoads(work) if work.model.experts else None
        s = work.mesh.strategy
        self._tp, self._kv_share = s.tp, work.limits.kv_share
        first = 0
        self.stage_kinds: list[list[tuple[Layer, int]]] = []
        """Kinds of layers of each stage, with their numbers."""
        for count in work.stage_layers:
            self.stage_kinds.append(work.model.layer_kinds(range(first, first + count)))
            first += count
        drafts = [work.model.layer(work.model.layers - 1)] * bool(work.limits.draft_layers)
        self.stage_kinds.append([(layer, work.limits.draft_layers) for layer in drafts])
        """Last: the layers of the draft model, on the last stage."""
        self._known: dict[tuple[object, ...], Floats] = {}
        self._sums: dict[tuple[int, int, int], float] = {}
        self._decode_sums: dict[tuple[int, int, int, int], tuple[float, float]] = {}
        self._expert_slice = work.model.moe_ffn.sliced(s.etp) if work.model.experts else None

    # ---- classes ---------------------------------------------------------------------------------------------------

    def _keep(self, key: tuple[object, ...], price: Callable[[], Floats]) -> Floats:
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = price()
        return known

    def _between(self, tokens: int, price: Callable[[int], Floats]) -> Floats:
        """Return a price between those of the two classes next to a number."""
        low, high = sample_tokens(tokens)
        return price(low) if low == high else line(tokens, low, high, price(low), price(high))

    @staticmethod
    def _is_latent(layer: Layer) -> bool:
        return isinstance(layer.attention, LatentAttention)

    # ---- kernels ---------------------------------------------------------------------------------------------------

    @property
    def sorts_at_experts(self) -> bool:
        """Whether a rank has all tokens, and sorts those for its own experts."""
        gathers = self.work.limits.exchange == "all_gather" or self.work.mesh.gathers_tokens
        return gathers or not self.work.ranks_meet

    def _price(self, kernels: Sequence[Kernel]) -> Floats:
        """Return the time of kernels on one rank, by part."""
        total = np.zeros(len(PARTS))
        for kernel in _with_fused_norms(kernels):
            total[INDEX[kernel.kind]] += float(self.costs.kernels.kernel_ns(kernel, 1)[0]) * _NS
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
            if not self.sorts_at_experts and self.work.network.all_to_all_algorithm.arrival == "chunks":
                copies = float(owned * self.work.model.top_k)
                kernels += [permute(self.work.model, copies), permute(self.work.model, copies, is_inverse=True)]
        return self._price(kernels)

    def _decodes(self, layer: Layer, num: int, context: int, queries: int) -> Floats:
        """Return attention of `num` decodes of `queries` tokens each to `context` tokens, which all of them read."""
        attention, tp, context = layer.attention, self._tp, max(1, context)
        if isinstance(attention, LatentAttention):
            kernels = [k for k in attention.decode_kernels(num, context, tp=tp) if isinstance(k, Attention)]
            return self._price([self._verifying(k, queries) for k in kernels])
        assert isinstance(attention, GroupedQueryAttention)
        heads, kv_heads = attention.heads // tp, max(1, attention.kv_heads // tp)
        attended = min(context, attention.window or context, attention.chunk or context)
        width = attention.head_dim * attention.dtype_bytes
        kernel = Attention(
            kind="attention",
            operation="attention",
            flops=4.0 * num * attended * heads * attention.head_dim,
            num_bytes=float(2 * num * (self._kv_share * attended * kv_heads + queries * heads) * width),
            batch=num,
            query_length=1,
            kv_length=attended,
            heads=heads,
            kv_heads=kv_heads,
            head_dim=attention.head_dim,
            value_dim=attention.head_dim,
            is_causal=False,
        )
        return self._price([replace(kernel, flops=queries * kernel.flops)])

    def _verifying(self, kernel: Attention, queries: int) -> Attention:
        """Return attention of several tokens of each request, which read its keys and values once."""
        return replace(kernel, flops=queries * kernel.flops, num_bytes=self._kv_share * kernel.num_bytes)

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

    def _embedding(self, tokens: int, in_graph: bool) -> Floats:
        def price() -> Floats:
            return self._price(embedding_block(self.work.model, tokens)) + self._all_reduce(0, tokens, "tp", in_graph)

        return self._keep(("embedding", tokens, in_graph), price)

    def _head(self, sampled: int) -> Floats:
        def price() -> Floats:
            total = self._price(head_block(self.work.model, sampled, tp=self._tp))
            if self._tp > 1:
                model = self.work.model
                stage = self.work.mesh.num_stages - 1
                num_bytes = float(sampled * model.padded_vocab(self._tp) * model.logit_bytes)
                total[INDEX["tp"]] += self.collective_s("all_gather", self._tp_groups(stage), num_bytes)
            return total

        return self._keep(("head", sampled), price)

    # ---- collectives -----------------------------------------------------------------------------------------------

    def transfers(self, operation: str, groups: NDArray[np.intp], num_bytes: float) -> tuple[Transfer, ...]:
        """Return the transfers of a collective of each of some groups."""
        return self.costs.transfers.collectives(operation, groups, num_bytes)

    def collective_s(self, operation: str, groups: NDArray[np.intp], num_bytes: float) -> float:
        """Return the time of a collective of some groups at a time, each alone on its links."""
        return alone_s(self.transfers(operation, groups, num_bytes))

    def tp_bytes(self, tokens: int) -> float:
        """Return the bytes of the hidden states of so many tokens."""
        return float(tokens * self.work.model.hidden * self.work.model.dtype_bytes)

    def _tp_groups(self, stage: int) -> NDArray[np.intp]:
        return self.work.mesh.tp_groups(self.on_stage(stage))[: self.work.ranks_per_group]

    def on_stage(self, stage: int) -> int:
        """Return the stage that computes a stage: the last one for the draft model, which is numbered after it."""
        return min(stage, self.work.mesh.num_stages - 1)

    def in_graph(self, tokens: int) -> bool:
        """Return whether a step of so many tokens runs in CUDA graphs, whole or piece by piece."""
        return tokens <= max(self.work.limits.graph_sizes, default=0)

    def _all_reduce(self, stage: int, tokens: int, part: str, in_graph: bool) -> Floats:
        total = np.zeros(len(PARTS))
        if self._tp > 1:
            total[INDEX[part]] = alone_s(self.all_reduces(self._tp_groups(stage), tokens, in_graph=in_graph))
        return total

    def all_reduces(self, groups: NDArray[np.intp], tokens: int, *, in_graph: bool) -> tuple[Transfer, ...]:
        """Return the all-reduces of the hidden states of tokens, by kernels of the framework where it has them."""
        transfers, work = self.transfers("all_reduce", groups, self.tp_bytes(tokens)), self.work
        nodes, _ = work.cluster.node_positions(groups[0])
        if work.network.all_reduce != "auto" or np.ptp(nodes):
            return transfers
        time_s = custom_all_reduce_s(work.cluster.device.name, self._tp, self.tp_bytes(tokens), in_graph=in_graph)
        if time_s is None:
            return transfers
        return tuple(replace(t, latency_ns=max(0, to_ns(time_s) - t.alone_ns)) for t in transfers)

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

    def _over_tp(self, stage: int, layer: Layer, tokens: int, in_graph: bool) -> Floats:
        total = np.zeros(len(PARTS))
        for part in self.layer_collectives(layer):
            total += self._all_reduce(stage, tokens, part, in_graph)
        return total

    def _send(self, stage: int, tokens: int) -> Floats:
        def price() -> Floats:
            total = np.zeros(len(PARTS))
            sources, targets = (self.work.mesh.tp_groups(at)[0] for at in (stage, stage + 1))
            transfer = self.costs.transfers.send(sources, targets, self.tp_bytes(tokens) / self._tp, group=0)
            total[INDEX["pp"]] = alone_s((transfer,))
            return total

        return self._keep(("send", stage, tokens), price)


def line(x: float, low: int, high: int, at_low: Floats, at_high: Floats) -> Floats:
    """Return the value at x, on the line between two classes, or that of the only one."""
    return at_low if low == high else at_low + (at_high - at_low) * ((x - low) / (high - low))


def alone_s(transfers: Sequence[Transfer]) -> float:
    """Return the time of transfers that start together, each alone on its links."""
    return max((t.latency_ns + t.alone_ns for t in transfers if t.total_bytes), default=0) * _NS


def _with_fused_norms(kernels: Sequence[Kernel]) -> Iterator[Kernel]:
    """Yield kernels of which additions to the residual stream and the norms after them are one kernel.

    vLLM's and SGLang's `fused_add_rms_norm` reads output and stream, and writes stream and normed stream.
    """
    added: Memory | None = None
    for kernel in kernels:
        if isinstance(kernel, Memory) and kernel.operation == "residual_add":
            added = kernel
            continue
        if added is not None and isinstance(kernel, Memory) and kernel.operation == "norm":
            yield replace(kernel, num_bytes=kernel.num_bytes + added.num_bytes * _ADD_WITH_NORM)
        elif added is not None:
            yield from (added, kernel)
        else:
            yield kernel
        added = None


@lru_cache(maxsize=4096)
def mean_chunk(chunks: tuple[Chunk, ...]) -> tuple[int, float, float]:
    """Return number, tokens and context of equal chunks that compute as much attention as some chunks do.

    >>> mean_chunk((Chunk(10, 4), Chunk(10, 8)))
    (2, 10.0, 6.0)
    """
    number = len(chunks)
    tokens = sum(chunk.tokens for chunk in chunks) / number
    attended = sum(chunk.tokens * (chunk.context + chunk.tokens / 2) for chunk in chunks) / number
    context = attended / tokens - tokens / 2
    return (number, tokens, context) if context >= 0 else (number, (2 * attended) ** 0.5, 0.0)
