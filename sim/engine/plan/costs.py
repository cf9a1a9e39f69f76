"""What things cost: the device turns kernels into nanoseconds, the cluster turns collectives into transfers.

Model
-----
    latency of a transfer = sum over the chain's steps of count * latency of the step's slowest pair
    alone                 = bytes / capacity of its busiest link
    imbalance             = alone - alone with the same senders' bytes spread evenly       all-to-all

`auto` takes the algorithm with the lowest latency + alone. Equal requests give the same `Transfer`, so that the network
recognises sets it has solved before. Under `flow` the pairs of an all-to-all go along, each to end on its own.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sim.engine.clock import to_ns, to_ns_array
from sim.engine.ops import NO_LAYER, Compute, Flows, TimedKernel, Transfer
from topology.cluster import Cluster
from workloads.collectives import COLLECTIVES, Exchange, all_to_all, point_to_point
from workloads.kernels import Attention, Gemm, GroupedGemm, Kernel, Memory

__all__ = ["Costs"]

Ranks = NDArray[np.intp]


class Costs:
    """Prices of kernels and exchanges on one cluster."""

    def __init__(self, cluster: Cluster, *, dtype: str, all_reduce: str = "auto", fidelity: str = "bulk") -> None:
        self.cluster = cluster
        self._dtype = dtype
        self._all_reduce = all_reduce
        self._fidelity = fidelity
        self._transfers: dict[tuple[object, ...], Transfer] = {}
        self._even: dict[tuple[bytes, bytes], int] = {}
        self._computes: dict[tuple[tuple[Kernel, ...], int, int, int], Compute] = {}
        self._kernels: dict[tuple[Kernel, int], NDArray[np.int64]] = {}

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
        timed = [
            TimedKernel(
                kind=kernel.kind,
                layer=layer,
                duration_ns=self.kernel_ns(kernel, num_ranks),
                flops=float(np.broadcast_to(kernel.flops, num_ranks).sum()),
            )
            for kernel in kernels
        ]
        return Compute(kernels=tuple(timed), tokens_routed=tokens_routed, expert_tokens=expert_tokens)

    def kernel_ns(self, kernel: Kernel, num_ranks: int) -> NDArray[np.int64]:
        """Return the time of `kernel` on each rank. Shape [R]."""
        if _varies(kernel):
            return self._kernel_ns(kernel, num_ranks)
        known = self._kernels.get((kernel, num_ranks))
        if known is None:
            known = self._kernels[kernel, num_ranks] = self._kernel_ns(kernel, num_ranks)
        return known

    def _kernel_ns(self, kernel: Kernel, num_ranks: int) -> NDArray[np.int64]:
        device, dtype = self.cluster.device, self._dtype
        time_s: float | NDArray[np.float64]
        if isinstance(kernel, Gemm):
            time_s = device.gemm_time_s(kernel.m, kernel.n, kernel.k, dtype=dtype)
        elif isinstance(kernel, GroupedGemm):
            price = device.grouped_weight_gradient_time_s if kernel.weight_gradient else device.grouped_gemm_time_s
            time_s = price(kernel.tokens, kernel.n, kernel.k, dtype=dtype)
        elif isinstance(kernel, Attention):
            time_s = device.attention_time_s(kernel.flops, kernel.num_bytes, backward=kernel.is_backward, dtype=dtype)
        else:
            time_s = device.memory_time_s(kernel.num_bytes)
        return to_ns_array(np.broadcast_to(np.asarray(time_s, dtype=float), (num_ranks,)))

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

    def all_to_all(
        self, ranks: Ranks, byte_matrix: NDArray[np.float64], even_matrix: NDArray[np.float64], *, group: int
    ) -> Transfer:
        """Return the direct all-to-all of `byte_matrix` [G, G] over `ranks`.

        `even_matrix` [G, G] is what the same senders would send if each spread its bytes evenly; what the real one
        takes longer alone is the transfer's imbalance.
        """
        key = ("all_to_all", ranks.tobytes(), byte_matrix.tobytes(), group)
        if key not in self._transfers:
            even = self._even_ns(ranks, even_matrix)
            exchange = all_to_all(ranks.tolist(), byte_matrix)
            by_pair = self._fidelity == "flow"
            self._transfers[key] = self.transfer(exchange, ranks=ranks, group=group, even_ns=even, by_pair=by_pair)
        return self._transfers[key]

    def _even_ns(self, ranks: Ranks, even_matrix: NDArray[np.float64]) -> int:
        key = (ranks.tobytes(), even_matrix.tobytes())
        if key not in self._even:
            exchange = all_to_all(ranks.tolist(), even_matrix)
            self._even[key] = self.transfer(exchange, ranks=ranks, group=0).alone_ns
        return self._even[key]

    def send(self, src: Ranks, dst: Ranks, num_bytes: float, *, group: int) -> Transfer:
        """Return point to point from `src[i]` to `dst[i]`, `num_bytes` each."""
        key = ("send", src.tobytes(), dst.tobytes(), num_bytes, group)
        if key not in self._transfers:
            exchange = point_to_point(src.tolist(), dst.tolist(), num_bytes)
            self._transfers[key] = self.transfer(exchange, ranks=src, group=group)
        return self._transfers[key]

    def transfer(
        self, exchange: Exchange, *, ranks: Ranks, group: int, even_ns: int | None = None, by_pair: bool = False
    ) -> Transfer:
        """Return an exchange as the network sees it; what it takes alone beyond `even_ns` is imbalance.

        With `by_pair` each of its pairs is a flow that ends on its own.
        """
        load = self.cluster.load(exchange.src, exchange.dst, exchange.num_bytes)
        latency_s = sum(
            (step.count * self.cluster.longest_latency_s(step.src, step.dst) for step in exchange.steps), start=0.0
        )
        alone_ns = to_ns(load.drain_time_s(self.cluster.capacity_bytes_per_s))
        return Transfer(
            load=load,
            latency_ns=to_ns(latency_s),
            alone_ns=alone_ns,
            imbalance_ns=0 if even_ns is None else max(0, alone_ns - even_ns),
            flow_bytes=exchange.flow_bytes,
            total_bytes=exchange.total_bytes,
            group=group,
            ranks=ranks,
            flows=self._flows(exchange) if by_pair and exchange.src.size else None,
        )

    def _flows(self, exchange: Exchange) -> Flows:
        return Flows(links=self.cluster.flow_links(exchange.src, exchange.dst), num_bytes=exchange.num_bytes)


def _varies(kernel: Kernel) -> bool:
    """Tell whether a kernel differs from rank to rank, by the tokens that the routing sent there."""
    return isinstance(kernel, GroupedGemm) or (isinstance(kernel, Memory) and isinstance(kernel.num_bytes, np.ndarray))
