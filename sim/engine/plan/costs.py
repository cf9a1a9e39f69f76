"""What things cost: the device turns kernels into nanoseconds, the cluster turns collectives into transfers.

Model
-----
    latency of a transfer = sum over the chain's steps of count * latency of the step's slowest pair
    alone                 = bytes / capacity of its busiest link
    imbalance             = alone - alone with the same senders' bytes spread evenly       all-to-all

Where a collective takes SMs (`sms`), these move what its busiest rank sends or receives::

    alone                 = max(that, bytes of the busiest rank / (num_sms * bytes_per_s))

`auto` takes the algorithm with the lowest latency + alone. Equal requests give the same `Transfer`, so that the network
recognises sets it has solved before; exchanges that are drawn at random are not kept, for none comes twice. Under
`flow` the pairs of an all-to-all go along, each to end on its own.
"""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from sim.engine.clock import to_ns, to_ns_array
from sim.engine.ops import NO_LAYER, Compute, Flows, Op, TimedKernel, Transfer
from sim.engine.plan.transfer_sms import TransferSms, busiest_rank_bytes
from topology.cluster import Cluster
from topology.flow_links import FlowLinks
from topology.links import LinkLoad
from topology.pairs import PairSums
from workloads.collectives import COLLECTIVES, Exchange, point_to_point
from workloads.kernels import Attention, Gemm, GroupedGemm, Kernel, Memory

__all__ = ["Costs"]

Ranks = NDArray[np.intp]
Times = NDArray[np.int64]
Block = Callable[[NDArray[np.int64]], list[Kernel]]
_Key = TypeVar("_Key")
_Built = TypeVar("_Built")

_MOST_TOKENS = 2**18
"""Tokens on an expert above which its kernels are not looked up: the table would take megabytes."""


class Costs:
    """Prices of kernels and exchanges on one cluster."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        dtype: str,
        all_reduce: str = "auto",
        fidelity: str = "bulk",
        is_random: bool = False,
        sms: Mapping[str, TransferSms] | None = None,
    ) -> None:
        """`sms` are those of each collective that takes some: by its operation, `all_to_all` or `send`."""
        self.cluster = cluster
        self._dtype = dtype
        self._all_reduce = all_reduce
        self._fidelity = fidelity
        self._sms = {} if sms is None else dict(sms)
        self.is_random = is_random  # whether tokens choose at random, so that no exchange comes twice
        self._transfers: dict[tuple[object, ...], Transfer] = {}
        self._known_trips: dict[tuple[object, ...], tuple[Transfer, Transfer]] = {}
        self._even: dict[tuple[bytes, bytes, bytes], tuple[int, int]] = {}
        self._ops: dict[Hashable, list[Op]] = {}
        self._by_tokens: dict[tuple[int, int, bool], NDArray[np.int64]] = {}
        self._services: dict[Hashable, tuple[Times, NDArray[np.float64]]] = {}
        self._recent: dict[Hashable, list[dict[Any, Any]]] = {}
        self._computes: dict[tuple[tuple[Kernel, ...], int, int, int], Compute] = {}
        self._prices: dict[Hashable, tuple[NDArray[np.int64], float]] = {}

    @property
    def num_sms(self) -> int | None:
        """SMs of a rank, where transfers take some; None where none does."""
        return self.cluster.device.num_sms if self._sms else None

    def compute(
        self,
        kernels: Sequence[Kernel],
        num_ranks: int,
        *,
        layer: int = NO_LAYER,
        tokens_routed: int = 0,
        expert_tokens: NDArray[np.int64] | None = None,
    ) -> Compute:
        """Return `kernels` on each of `num_ranks` ranks as one op; equal requests give the same op."""
        key = (tuple(kernels), num_ranks, layer, tokens_routed)
        if expert_tokens is not None or any(_varies(kernel) for kernel in kernels):
            return self._compute(*key, expert_tokens)
        if key not in self._computes:
            self._computes[key] = self._compute(*key, None)
        return self._computes[key]

    def _compute(
        self,
        kernels: tuple[Kernel, ...],
        num_ranks: int,
        layer: int,
        tokens_routed: int,
        expert_tokens: NDArray[np.int64] | None,
    ) -> Compute:
        timed = []
        for kernel in kernels:
            duration_ns, flops = self._priced(kernel, num_ranks)
            timed.append(TimedKernel(kind=kernel.kind, layer=layer, duration_ns=duration_ns, flops=flops))
        return Compute(kernels=tuple(timed), tokens_routed=tokens_routed, expert_tokens=expert_tokens)

    def kernel_ns(self, kernel: Kernel, num_ranks: int) -> NDArray[np.int64]:
        """Return the time of `kernel` on each rank. Shape [R]."""
        if self.is_random and _varies(kernel):
            return self._kernel_ns(kernel, num_ranks)
        return self._priced(kernel, num_ranks)[0]

    def service(self, block: Block, tokens: NDArray[np.int64], *, key: Hashable) -> tuple[Times, NDArray[np.float64]]:
        """Return time and FLOPs of all kernels that `block` makes of `tokens` [..., R, E] on each rank [..., R].

        Where each rank has one expert they are read from a table of all counts so far, one for each `key`.
        """
        ranks = tokens.shape[:-1]
        if tokens.shape[-1] != 1 or (most := int(tokens.max(initial=0))) >= _MOST_TOKENS:
            duration_ns, flops = self._service(block, tokens.reshape(-1, tokens.shape[-1]))
            return duration_ns.reshape(ranks), flops.reshape(ranks)
        known = self._services.get(key)
        if known is None or known[0].size <= most:
            counts = np.arange(1 << most.bit_length(), dtype=np.int64)
            known = self._services[key] = self._service(block, counts[:, None])
        arrived = tokens[..., 0]
        return known[0][arrived], known[1][arrived]

    def _service(self, block: Block, tokens: NDArray[np.int64]) -> tuple[Times, NDArray[np.float64]]:
        duration_ns, flops = np.zeros(len(tokens), dtype=np.int64), np.zeros(len(tokens))
        for kernel in block(tokens):
            duration_ns += self.kernel_ns(kernel, len(tokens))
            flops += kernel.flops
        return duration_ns, flops

    def each(self, block: Block, tokens: NDArray[np.int64]) -> list[tuple[str, Times, list[float]]]:
        """Return kind, time by rank [N, R] and FLOPs [N] of each kernel that `block` makes of `tokens` [N, R, E]."""
        ranks, flat = tokens.shape[:2], tokens.reshape(-1, tokens.shape[2])
        return [
            (
                kernel.kind,
                self.kernel_ns(kernel, len(flat)).reshape(ranks),
                np.broadcast_to(kernel.flops, len(flat)).reshape(ranks).sum(axis=1).tolist(),
            )
            for kernel in block(flat)
        ]

    def _priced(self, kernel: Kernel, num_ranks: int) -> tuple[NDArray[np.int64], float]:
        """Return the time of `kernel` on each rank [R], and the FLOPs of all; equal kernels are priced once."""
        if self.is_random and _varies(kernel):  # none comes twice
            return self._kernel_ns(kernel, num_ranks), _flops_of_all(kernel, num_ranks)
        key: Hashable = (kernel, num_ranks)
        if isinstance(kernel, GroupedGemm):
            key = (kernel.tokens.tobytes(), kernel.tokens.shape, kernel.n, kernel.k, kernel.weight_gradient)
        elif isinstance(kernel, Memory) and isinstance(kernel.num_bytes, np.ndarray):
            key = kernel.num_bytes.tobytes()
        if key not in self._prices:
            self._prices[key] = (self._kernel_ns(kernel, num_ranks), _flops_of_all(kernel, num_ranks))
        return self._prices[key]

    def _kernel_ns(self, kernel: Kernel, num_ranks: int) -> NDArray[np.int64]:
        device, dtype = self.cluster.device, self._dtype
        time_s: float | NDArray[np.float64]
        if isinstance(kernel, Gemm):
            time_s = device.gemm_time_s(kernel.m, kernel.n, kernel.k, dtype=dtype)
        elif isinstance(kernel, GroupedGemm):
            if kernel.tokens.shape[-1] == 1 and kernel.tokens.max(initial=0) < _MOST_TOKENS:
                return self._one_expert_ns(kernel)
            time_s = self._grouped_s(kernel, kernel.tokens)
        elif isinstance(kernel, Attention):
            time_s = device.attention_time_s(kernel.flops, kernel.num_bytes, backward=kernel.is_backward, dtype=dtype)
        else:
            time_s = device.memory_time_s(kernel.num_bytes)
        times_s = np.asarray(time_s, dtype=float)
        return to_ns_array(times_s if times_s.ndim else np.full(num_ranks, times_s))

    def _grouped_s(self, kernel: GroupedGemm, tokens: NDArray[np.int64]) -> NDArray[np.float64]:
        device = self.cluster.device
        price = device.grouped_weight_gradient_time_s if kernel.weight_gradient else device.grouped_gemm_time_s
        return price(tokens, kernel.n, kernel.k, dtype=self._dtype)

    def _one_expert_ns(self, kernel: GroupedGemm) -> NDArray[np.int64]:
        """Return the time where each rank has one expert: by its tokens, from a table of all counts so far."""
        tokens, key = kernel.tokens[:, 0], (kernel.n, kernel.k, kernel.weight_gradient)
        most = int(tokens.max(initial=0))
        known = self._by_tokens.get(key)
        if known is None or known.size <= most:
            counts = np.arange(1 << most.bit_length(), dtype=np.int64)
            known = self._by_tokens[key] = to_ns_array(self._grouped_s(kernel, counts[:, None]))
        return known[tokens]

    def collective(self, operation: str, ranks: Ranks, num_bytes: float, *, group: int) -> Transfer:
        """Return all-reduce, all-gather or reduce-scatter of a tensor of `num_bytes` over `ranks`."""
        key = (operation, ranks.tobytes(), num_bytes, group)
        if key not in self._transfers:
            nodes = self.cluster.node_of(ranks).tolist()
            algorithms = COLLECTIVES[operation]
            chosen = list(algorithms) if self._all_reduce == "auto" else [self._all_reduce]
            priced = [
                self.transfer(
                    algorithms[name](ranks.tolist(), nodes, num_bytes), ranks=ranks, group=group, operation=operation
                )
                for name in chosen
            ]
            self._transfers[key] = min(priced, key=lambda transfer: transfer.latency_ns + transfer.alone_ns)
        return self._transfers[key]

    def round_trip(
        self, senders: Ranks, group_ranks: Ranks, byte_matrix: NDArray[np.float64], *, group: int
    ) -> tuple[Transfer, Transfer]:
        """Return the round trip of one `byte_matrix` [S, G]."""
        return self.round_trips(senders, group_ranks, byte_matrix[None], group=group)[0]

    def round_trips(
        self, senders: Ranks, group_ranks: Ranks, byte_matrices: NDArray[np.float64], *, group: int
    ) -> list[tuple[Transfer, Transfer]]:
        """Return the direct all-to-all of each of `byte_matrices` [N, S, G] from senders to their group, and back.

        What they take longer alone than if each sender spread its bytes evenly is their imbalance.
        """
        if self.is_random:
            return self._round_trips(senders, group_ranks, byte_matrices, group)
        keys = [(senders.tobytes(), group_ranks.tobytes(), matrix.tobytes(), group) for matrix in byte_matrices]
        for key, matrix in zip(keys, byte_matrices, strict=True):
            if key not in self._known_trips:
                self._known_trips[key] = self._round_trips(senders, group_ranks, matrix[None], group)[0]
        return [self._known_trips[key] for key in keys]

    def _round_trips(
        self, senders: Ranks, group_ranks: Ranks, byte_matrices: NDArray[np.float64], group: int
    ) -> list[tuple[Transfer, Transfer]]:
        sums = self.cluster.pairs(senders, group_ranks).sums(byte_matrices)
        even = [self._even_ns(senders, group_ranks, row) for row in byte_matrices.sum(axis=2) / group_ranks.size]
        rank_bytes = [self._rank_bytes(senders, group_ranks, matrix) for matrix in byte_matrices]
        flows = [
            self._flows(senders, group_ranks, matrix) if self._fidelity == "flow" else (None, None)
            for matrix in byte_matrices
        ]
        there, back = (
            [
                self._direct(
                    sums,
                    i,
                    load,
                    rank_bytes[i],
                    alone_ns=self._alone_ns("all_to_all", alone_s, rank_bytes[i]),
                    even_ns=even[i][way],
                    flows=flows[i][way],
                    ranks=group_ranks,
                    group=group,
                )
                for i, (load, alone_s) in enumerate(zip(loads, drain_s.tolist(), strict=True))
            ]
            for way, (loads, drain_s) in enumerate(self._both_ways(sums))
        )
        return list(zip(there, back, strict=True))

    def _both_ways(self, sums: PairSums) -> list[tuple[list[LinkLoad], NDArray[np.float64]]]:
        return [way(self.cluster.capacity_bytes_per_s) for way in (sums.there, sums.back)]

    def _flows(
        self, senders: Ranks, group_ranks: Ranks, byte_matrix: NDArray[np.float64]
    ) -> tuple[Flows | None, Flows | None]:
        """Return the pairs of different ranks that have bytes, there and back; None without any."""
        row, column = np.nonzero((byte_matrix > 0) & (senders[:, None] != group_ranks))
        if row.size == 0:
            return None, None
        src, dst, num_bytes = senders[row], group_ranks[column], byte_matrix[row, column]
        return self._pairs(src, dst, num_bytes), self._pairs(dst, src, num_bytes)

    def _pairs(self, src: Ranks, dst: Ranks, num_bytes: NDArray[np.float64]) -> Flows:
        """Return a flow for each pair of an all-to-all; SMs bound what those of a rank send, or receive, together."""
        links, sms = self.cluster.flow_links(src, dst), self._sms.get("all_to_all")
        if sms is None or sms.bytes_per_s == math.inf:
            return Flows(links=links, num_bytes=num_bytes)
        senders, of_src = np.unique(src, return_inverse=True)
        receivers, of_dst = np.unique(dst, return_inverse=True)
        own = self.cluster.capacity_bytes_per_s.size + np.stack([of_src, senders.size + of_dst], axis=1)
        ends = np.repeat(links.first[1:], 2)
        return Flows(
            links=FlowLinks(
                first=links.first + 2 * np.arange(links.first.size),
                links=np.insert(links.links, ends, own.ravel()),
                share=np.insert(links.share, ends, 1.0),
            ),
            num_bytes=num_bytes,
            own_bytes_per_s=np.full(senders.size + receivers.size, sms.num_sms * sms.bytes_per_s),
        )

    def _direct(
        self,
        sums: PairSums,
        i: int,
        load: LinkLoad,
        rank_bytes: float,
        *,
        alone_ns: int,
        even_ns: int,
        flows: Flows | None,
        ranks: Ranks,
        group: int,
    ) -> Transfer:
        num_flows, total_bytes = sums.num_flows[i], sums.total_bytes[i]
        flow_bytes = total_bytes / num_flows if num_flows else 0.0
        num_sms, most_bytes_per_s = self._bound("all_to_all", rank_bytes, flow_bytes)
        return Transfer(
            load=load,
            latency_ns=to_ns(sums.latency_s[i]),
            alone_ns=alone_ns,
            imbalance_ns=max(0, alone_ns - even_ns),
            flow_bytes=flow_bytes,
            total_bytes=total_bytes,
            group=group,
            ranks=ranks,
            flows=flows,
            num_sms=num_sms,
            most_bytes_per_s=most_bytes_per_s,
        )

    def _even_ns(self, senders: Ranks, group_ranks: Ranks, row_bytes: NDArray[np.float64]) -> tuple[int, int]:
        """Return the time alone, there and back, when every sender has `row_bytes` [S] for each of the group."""
        key = (senders.tobytes(), group_ranks.tobytes(), row_bytes.tobytes())
        if key not in self._even:
            matrix = np.repeat(row_bytes[:, None], group_ranks.size, axis=1)
            sums = self.cluster.pairs(senders, group_ranks).sums(matrix[None])
            rank_bytes = self._rank_bytes(senders, group_ranks, matrix)
            drains_s = [drain_s.tolist()[0] for _, drain_s in self._both_ways(sums)]
            there_ns, back_ns = (self._alone_ns("all_to_all", drain_s, rank_bytes) for drain_s in drains_s)
            self._even[key] = (there_ns, back_ns)
        return self._even[key]

    def _rank_bytes(self, senders: Ranks, group_ranks: Ranks, byte_matrix: NDArray[np.float64]) -> float:
        """Return what the busiest rank of an all-to-all sends or receives; 0 where that bounds nothing."""
        if "all_to_all" not in self._sms:
            return 0.0
        src, dst = np.broadcast_arrays(senders[:, None], group_ranks)
        return busiest_rank_bytes(src.ravel(), dst.ravel(), byte_matrix.ravel())

    def _alone_ns(self, operation: str, drain_s: float, rank_bytes: float) -> int:
        sms = self._sms.get(operation)
        return to_ns(drain_s if sms is None else max(drain_s, sms.least_time_s(rank_bytes)))

    def _bound(self, operation: str, rank_bytes: float, flow_bytes: float) -> tuple[int, float]:
        """Return the SMs of a transfer, and what each of its flows runs at most while they move `rank_bytes`."""
        sms = self._sms.get(operation)
        if sms is None or rank_bytes == 0.0:  # nothing leaves a rank
            return 0, math.inf
        least_s = sms.least_time_s(rank_bytes)
        return sms.num_sms, flow_bytes / least_s if least_s else math.inf

    def recent(
        self, place: Hashable, key: Hashable, build: Callable[[], dict[_Key, _Built]], *, num_kept: int
    ) -> _Built:
        """Return the value of `key`, which `build` makes along with others; of each place the last builds are kept."""
        kept = self._recent.setdefault(place, [])
        for built in kept:
            if key in built:
                return cast("_Built", built[key])
        del kept[: len(kept) + 1 - num_kept]
        kept.append(build())
        return cast("_Built", kept[-1][key])

    def once(self, key: Hashable, build: Callable[[], list[Op]]) -> list[Op]:
        """Return ops that do not depend on the microbatch: built when they are first asked for by `key`."""
        if key not in self._ops:
            self._ops[key] = build()
        return self._ops[key]

    def send(self, src: Ranks, dst: Ranks, num_bytes: float, *, group: int) -> Transfer:
        """Return point to point from `src[i]` to `dst[i]`, `num_bytes` each."""
        key = ("send", src.tobytes(), dst.tobytes(), num_bytes, group)
        if key not in self._transfers:
            exchange = point_to_point(src.tolist(), dst.tolist(), num_bytes)
            ranks = np.concatenate([src, dst])  # both ends run a kernel
            self._transfers[key] = self.transfer(exchange, ranks=ranks, group=group, operation="send")
        return self._transfers[key]

    def transfer(self, exchange: Exchange, *, ranks: Ranks, group: int, operation: str = "") -> Transfer:
        """Return an exchange as the network sees it; the SMs that it takes go by its `operation`."""
        load = self.cluster.load(exchange.src, exchange.dst, exchange.num_bytes)
        latency_s = sum(
            (step.count * self.cluster.longest_latency_s(step.src, step.dst) for step in exchange.steps), start=0.0
        )
        rank_bytes = 0.0
        if operation in self._sms:
            rank_bytes = busiest_rank_bytes(exchange.src, exchange.dst, exchange.num_bytes)
        num_sms, most_bytes_per_s = self._bound(operation, rank_bytes, exchange.flow_bytes)
        return Transfer(
            load=load,
            latency_ns=to_ns(latency_s),
            alone_ns=self._alone_ns(operation, load.drain_time_s(self.cluster.capacity_bytes_per_s), rank_bytes),
            flow_bytes=exchange.flow_bytes,
            total_bytes=exchange.total_bytes,
            group=group,
            ranks=ranks,
            num_sms=num_sms,
            most_bytes_per_s=most_bytes_per_s,
        )


def _flops_of_all(kernel: Kernel, num_ranks: int) -> float:
    flops = kernel.flops
    return float(flops.sum() if isinstance(flops, np.ndarray) else np.full(num_ranks, flops).sum())


def _varies(kernel: Kernel) -> bool:
    """Tell whether a kernel differs from rank to rank, by the tokens that the routing sent there."""
    return isinstance(kernel, GroupedGemm) or (isinstance(kernel, Memory) and isinstance(kernel.num_bytes, np.ndarray))
