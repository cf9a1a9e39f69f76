"""What things cost: the device turns kernels into nanoseconds, the cluster turns collectives into transfers.

Model
-----
    latency of a transfer = sum over the chain's steps of count * latency of the step's slowest pair
    alone                 = bytes / capacity of its busiest link
    imbalance             = alone - alone with the same senders' bytes spread evenly       all-to-all

`auto` takes the algorithm with the lowest latency + alone. Equal requests give the same `Transfer`, so that the network
recognises sets it has solved before; exchanges that are drawn at random are not kept, for none comes twice. Under
`flow` the pairs of an all-to-all go along, each to end on its own.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from sim.engine.clock import to_ns, to_ns_array
from sim.engine.ops import NO_LAYER, Compute, Flows, Op, TimedKernel, Transfer
from topology.cluster import Cluster
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
    ) -> None:
        self.cluster = cluster
        self._dtype = dtype
        self._all_reduce = all_reduce
        self._fidelity = fidelity
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
                self.transfer(algorithms[name](ranks.tolist(), nodes, num_bytes), ranks=ranks, group=group)
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
        flows = [
            self._flows(senders, group_ranks, matrix) if self._fidelity == "flow" else (None, None)
            for matrix in byte_matrices
        ]
        there, back = (
            [
                self._direct(sums, i, load, alone_ns, even[i][way], flows=flows[i][way], ranks=group_ranks, group=group)
                for i, (load, alone_ns) in enumerate(zip(loads, to_ns_array(drain_s).tolist(), strict=True))
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
        there, back = (self.cluster.flow_links(*ends) for ends in ((src, dst), (dst, src)))
        return Flows(links=there, num_bytes=num_bytes), Flows(links=back, num_bytes=num_bytes)

    def _direct(
        self,
        sums: PairSums,
        i: int,
        load: LinkLoad,
        alone_ns: int,
        even_ns: int,
        *,
        flows: Flows | None,
        ranks: Ranks,
        group: int,
    ) -> Transfer:
        num_flows, total_bytes = sums.num_flows[i], sums.total_bytes[i]
        return Transfer(
            load=load,
            latency_ns=to_ns(sums.latency_s[i]),
            alone_ns=alone_ns,
            imbalance_ns=max(0, alone_ns - even_ns),
            flow_bytes=total_bytes / num_flows if num_flows else 0.0,
            total_bytes=total_bytes,
            group=group,
            ranks=ranks,
            flows=flows,
        )

    def _even_ns(self, senders: Ranks, group_ranks: Ranks, row_bytes: NDArray[np.float64]) -> tuple[int, int]:
        """Return the time alone, there and back, when every sender has `row_bytes` [S] for each of the group."""
        key = (senders.tobytes(), group_ranks.tobytes(), row_bytes.tobytes())
        if key not in self._even:
            matrix = np.repeat(row_bytes[:, None], group_ranks.size, axis=1)
            sums = self.cluster.pairs(senders, group_ranks).sums(matrix[None])
            there_ns, back_ns = (to_ns_array(drain_s).tolist()[0] for _, drain_s in self._both_ways(sums))
            self._even[key] = (there_ns, back_ns)
        return self._even[key]

    def _alone_ns(self, load: LinkLoad) -> int:
        return to_ns(load.drain_time_s(self.cluster.capacity_bytes_per_s))

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
            self._transfers[key] = self.transfer(exchange, ranks=src, group=group)
        return self._transfers[key]

    def transfer(self, exchange: Exchange, *, ranks: Ranks, group: int) -> Transfer:
        """Return an exchange as the network sees it."""
        load = self.cluster.load(exchange.src, exchange.dst, exchange.num_bytes)
        latency_s = sum(
            (step.count * self.cluster.longest_latency_s(step.src, step.dst) for step in exchange.steps), start=0.0
        )
        return Transfer(
            load=load,
            latency_ns=to_ns(latency_s),
            alone_ns=self._alone_ns(load),
            flow_bytes=exchange.flow_bytes,
            total_bytes=exchange.total_bytes,
            group=group,
            ranks=ranks,
        )


def _flops_of_all(kernel: Kernel, num_ranks: int) -> float:
    flops = kernel.flops
    return float(flops.sum() if isinstance(flops, np.ndarray) else np.full(num_ranks, flops).sum())


def _varies(kernel: Kernel) -> bool:
    """Tell whether a kernel differs from rank to rank, by the tokens that the routing sent there."""
    return isinstance(kernel, GroupedGemm) or (isinstance(kernel, Memory) and isinstance(kernel.num_bytes, np.ndarray))
