"""What exchanges cost: the cluster turns collectives into transfers.

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
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from sim.engine.clock import to_ns
from sim.engine.ops import Flows, Transfer
from sim.engine.pairs import PairLog
from sim.engine.plan.transfer_sms import TransferSms, busiest_rank_bytes
from topology.cluster import Cluster
from topology.flow_links import FlowLinks
from topology.links import LinkLoad
from topology.pairs import PairSums
from workloads.collectives import COLLECTIVES, Exchange, point_to_point

__all__ = ["TransferCosts"]

Ranks = NDArray[np.intp]


class TransferCosts:
    """Prices of exchanges on one cluster."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        all_reduce: str = "auto",
        fidelity: str = "bulk",
        is_random: bool = False,
        sms: Mapping[str, TransferSms] | None = None,
    ) -> None:
        """Under `is_random` no all-to-all comes twice; `sms` are those of each collective that takes some."""
        self.cluster = cluster
        self._all_reduce = all_reduce
        self._fidelity = fidelity
        self._sms = {} if sms is None else dict(sms)
        self._is_random = is_random
        self._transfers: dict[tuple[object, ...], Transfer] = {}
        self._known_trips: dict[tuple[object, ...], tuple[Transfer, Transfer]] = {}
        self.pairs = PairLog()
        self._even: dict[tuple[bytes, bytes, bytes], tuple[int, int]] = {}

    @property
    def num_sms(self) -> int | None:
        """SMs of a rank, where transfers take some; None where none does."""
        return self.cluster.device.num_sms if self._sms else None

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
        if self._is_random:
            return self._round_trips(senders, group_ranks, byte_matrices, group)
        keys = [(senders.tobytes(), group_ranks.tobytes(), matrix.tobytes(), group) for matrix in byte_matrices]
        for key, matrix in zip(keys, byte_matrices, strict=True):
            if key not in self._known_trips:
                self._known_trips[key] = self._round_trips(senders, group_ranks, matrix[None], group)[0]
        return [self._known_trips[key] for key in keys]

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
        made = Transfer(
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
        self.pairs.note(made, exchange.src, exchange.dst, exchange.num_bytes)
        return made

    # ---- private -------------------------------------------------------------------------------------------------

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
        for i, matrix in enumerate(byte_matrices):
            self.pairs.note(there[i], senders[:, None], group_ranks, matrix)
            self.pairs.note(back[i], group_ranks, senders[:, None], matrix)
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
