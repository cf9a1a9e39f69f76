"""What all-to-alls cost, in both directions: as dispatch, and as combine on the way back.

Model
-----
    direct          bytes [source, host] from each source to each host
    low_latency     the same, over the network's own kernels: another protocol
    hierarchical    by way of nodes, each token once (`workloads.collectives.node_relay`): two messages in a row
    alone           what the busiest link needs, at what the protocol reaches there
    own copy        on one node: own_copy_share * bytes that the busiest rank keeps / what the protocol reaches
    imbalance       alone - alone with the same senders' bytes spread evenly

Exchanges that are drawn at random are not kept, for none comes twice. Under `flow` the pairs go along, each to end on
its own.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sim.plan.logs import PairLog
from sim.plan.ops import Flows, Transfer
from sim.plan.pricing import pricing_of
from sim.plan.transfer_costs import TransferSms, busiest_rank_bytes
from sim.time import TimeRangeError, to_ns
from topology.cluster import Cluster
from topology.links import FlowLinks, LinkLoad
from topology.pairs import PairSums
from topology.uncertainty import MODEL_ITSELF, Factors
from workloads.collectives.node_relay import relayed
from workloads.collectives.settings import AllToAll

__all__ = ["ExchangeCosts", "Tokens"]

Ranks = NDArray[np.intp]
FloatArray = NDArray[np.float64]
_MOST_SHARED, _MOST_SHARED_BYTES = 512, 1 << 16
"""Round trips that are kept for further runs, and the bytes of the matrix of each."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tokens:
    """Different tokens that senders have for ranks and nodes of their group; a token counts once for each."""

    to_ranks: FloatArray
    """Bytes for each rank. Shape [N, S, G]."""
    to_nodes: FloatArray
    """Bytes for each node. Shape [N, S, nodes]."""


_Trips = dict[tuple[object, ...], tuple[Transfer, Transfer]]


@lru_cache(maxsize=8)
def _known_trips(
    cluster: Cluster, algorithm: AllToAll, fidelity: str, sms: TransferSms | None, factors: Factors
) -> _Trips:
    """Return the round trips known so far, for all runs of a process that have the same exchanges."""
    del cluster, algorithm, fidelity, sms, factors
    return {}


class ExchangeCosts:
    """Prices of all-to-alls on one cluster."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        algorithm: AllToAll,
        fidelity: str = "bulk",
        is_random: bool = False,
        sms: TransferSms | None = None,
        pairs: PairLog | None = None,
        factors: Factors = MODEL_ITSELF,
    ) -> None:
        """Run all-to-alls by `algorithm`; under `is_random` none comes twice; `sms` are those that it takes.

        Who sends what to whom is noted in `pairs`; times are multiplied by `factors`.
        """
        self.cluster = cluster
        self.pricing = pricing_of(cluster, factors.of_exchanges)
        self._factor = factors.all_to_all
        self.pairs = PairLog() if pairs is None else pairs
        self.protocol = self.pricing.only_protocol(algorithm.protocol)
        self._overhead = self.pricing.overhead(self.protocol)
        self._reached = self.pricing.reached(self.protocol)
        self._fidelity, self._is_random = fidelity, is_random
        self._sms = None if sms is None else sms.slowed(self._factor)
        self._own: _Trips = {}  # where pairs are noted: each run prices what it notes
        self._shared = _known_trips(cluster, algorithm, fidelity, sms, factors)
        self._even: dict[tuple[bytes, bytes, bytes], tuple[int, int]] = {}

    def round_trip(
        self, senders: Ranks, group_ranks: Ranks, byte_matrix: FloatArray, *, group: int
    ) -> tuple[Transfer, Transfer]:
        """Return the round trip of one `byte_matrix` [S, G]."""
        return self.round_trips(senders, group_ranks, byte_matrix[None], group=group)[0]

    def round_trips(
        self, senders: Ranks, group_ranks: Ranks, byte_matrices: FloatArray, *, group: int
    ) -> list[tuple[Transfer, Transfer]]:
        """Return the all-to-all of each of `byte_matrices` [N, S, G] from senders to their group, and back.

        What they take longer alone than if each sender spread its bytes evenly is their imbalance.
        """
        if self._is_random:
            return self._round_trips(senders, group_ranks, byte_matrices, group)
        is_small = self._fidelity != "flow" and byte_matrices[:1].nbytes <= _MOST_SHARED_BYTES
        is_shared = is_small and not self.pairs.is_on
        known = self._shared if is_shared else self._own
        found = []
        for matrix in byte_matrices:
            key = (senders.tobytes(), group_ranks.tobytes(), matrix.tobytes(), group)
            trip = known.get(key)
            if trip is None:
                if is_shared and len(known) >= _MOST_SHARED:
                    known.clear()
                trip = known[key] = self._round_trips(senders, group_ranks, matrix[None], group)[0]
            found.append(trip)
        return found

    def relayed_trips(
        self, senders: Ranks, group_ranks: Ranks, tokens: Tokens, *, group: int
    ) -> list[tuple[Transfer, Transfer]]:
        """Return the all-to-all by way of nodes of each of N sets of tokens, and back."""
        node, position = self.cluster.node_positions(group_ranks)
        among = np.array([int(np.flatnonzero(group_ranks == sender)[0]) for sender in senders], dtype=np.intp)
        matrices = np.stack(
            [relayed(r, n, node, position, among) for r, n in zip(tokens.to_ranks, tokens.to_nodes, strict=True)]
        )
        even = relayed(_even_rows(tokens.to_ranks[0]), _even_rows(tokens.to_nodes[0]), node, position, among)
        chain_s = self._chain_s(group_ranks, matrices.sum(axis=0))
        return self._round_trips(group_ranks, group_ranks, matrices, group, even=even, chain_s=chain_s)

    # ---- private -------------------------------------------------------------------------------------------------

    def _round_trips(
        self,
        senders: Ranks,
        group_ranks: Ranks,
        byte_matrices: FloatArray,
        group: int,
        *,
        even: FloatArray | None = None,
        chain_s: float | None = None,
    ) -> list[tuple[Transfer, Transfer]]:
        sums = self.cluster.pairs(senders, group_ranks).sums(byte_matrices)
        even_ns = self._all_even_ns(senders, group_ranks, byte_matrices, even)
        rank_bytes = [self._rank_bytes(senders, group_ranks, matrix) for matrix in byte_matrices]
        sms = None if self._sms is None else self._sms.among(self.cluster.node_of(group_ranks))
        own_s = self._own_copies_s(senders, group_ranks, byte_matrices)
        flows = [
            self._flows(senders, group_ranks, matrix, sms) if self._fidelity == "flow" else (None, None)
            for matrix in byte_matrices
        ]
        dispatches, combines = (
            [
                self._transfer(
                    sums,
                    i,
                    load,
                    rank_bytes[i],
                    sms,
                    alone_ns=_alone_ns(alone_s, rank_bytes[i], sms),
                    even_ns=even_ns[i][direction],
                    own_s=own_s[i] + direction * self.protocol.combine_latency_s * self._factor,
                    chain_s=self._factor * (sums.latency_s[i] if chain_s is None else chain_s),
                    flows=flows[i][direction],
                    ranks=group_ranks,
                    group=group,
                )
                for i, (load, alone_s) in enumerate(zip(loads, drain_s.tolist(), strict=True))
            ]
            for direction, (loads, drain_s) in enumerate(self._loads_and_times(sums))
        )
        for i, matrix in enumerate(byte_matrices):
            self.pairs.note(dispatches[i], senders[:, None], group_ranks, matrix)
            self.pairs.note(combines[i], group_ranks, senders[:, None], matrix)
        return list(zip(dispatches, combines, strict=True))

    def _chain_s(self, ranks: Ranks, byte_matrix: FloatArray) -> float:
        """Return the latency of two messages after one another: to a relay, and from there inside its node."""
        row, column = np.nonzero(byte_matrix)
        src, dst = ranks[row], ranks[column]
        crosses = self.cluster.node_of(src) != self.cluster.node_of(dst)
        return sum(self.cluster.longest_latency_s(src[of], dst[of]) for of in (crosses, ~crosses))

    def _loads_and_times(self, sums: PairSums) -> list[tuple[list[LinkLoad], FloatArray]]:
        """Return loads and times alone as dispatch and combine, a byte counted as long as it holds its link."""
        return [of_direction(self._reached, self._overhead) for of_direction in (sums.forward, sums.reverse)]

    def _call_s(self, ranks: Ranks, alone_ns: int, own_s: float) -> float:
        """Return what a call takes beyond the time that its busiest link needs."""
        nodes = self.cluster.node_of(ranks)
        tier = self.protocol.between if (nodes != nodes[0]).any() else self.protocol.inside
        factor = self._factor  # of bytes as well, so that the sizes at which small messages end stay where they are
        return factor * (self.protocol.base_latency_s + tier.call_s((alone_ns / 1e9 + own_s) / factor)) + own_s

    def _own_copies_s(self, senders: Ranks, group_ranks: Ranks, byte_matrices: FloatArray) -> list[float]:
        """Return how long the busiest rank copies what it keeps, for each matrix: none where several nodes exchange."""
        nodes, share = self.cluster.node_of(group_ranks), self.protocol.inside.own_copy_share
        rate = self.pricing.inside_bytes_per_s(self.protocol) if share else 0.0
        if not rate or (nodes != nodes[0]).any():
            return [0.0] * len(byte_matrices)
        kept = (byte_matrices * (senders[:, None] == group_ranks)).sum(axis=2).max(axis=1)
        return [float(own_bytes) for own_bytes in share * kept / rate]

    def _flows(
        self, senders: Ranks, group_ranks: Ranks, byte_matrix: FloatArray, sms: TransferSms | None
    ) -> tuple[Flows | None, Flows | None]:
        """Return the pairs of different ranks that have bytes, as dispatch and combine; None without any."""
        row, column = np.nonzero((byte_matrix > 0) & (senders[:, None] != group_ranks))
        if row.size == 0:
            return None, None
        src, dst, num_bytes = senders[row], group_ranks[column], byte_matrix[row, column]
        return self._pairs(src, dst, num_bytes, sms), self._pairs(dst, src, num_bytes, sms)

    def _pairs(self, src: Ranks, dst: Ranks, num_bytes: FloatArray, sms: TransferSms | None) -> Flows:
        """Return a flow for each pair of an all-to-all; SMs bound what a rank sends, or receives, in its node."""
        links = self.cluster.flow_links(src, dst)
        if self._overhead is not None:
            links = FlowLinks(first=links.first, links=links.links, share=links.share * self._overhead[links.links])
        if sms is None or sms.bytes_per_s == math.inf:
            return Flows(links=links, num_bytes=num_bytes)
        stays = np.flatnonzero(self.cluster.node_of(src) == self.cluster.node_of(dst))
        senders, of_src = np.unique(src[stays], return_inverse=True)
        receivers, of_dst = np.unique(dst[stays], return_inverse=True)
        own = self.cluster.capacity_bytes_per_s.size + np.stack([of_src, senders.size + of_dst], axis=1)
        ends = np.repeat(links.first[1:][stays], 2)
        num_more = np.zeros(links.first.size, dtype=np.intp)
        num_more[1:][stays] = 2
        return Flows(
            links=FlowLinks(
                first=links.first + np.cumsum(num_more),
                links=np.insert(links.links, ends, own.ravel()),
                share=np.insert(links.share, ends, 1.0),
            ),
            num_bytes=num_bytes,
            own_bytes_per_s=np.full(senders.size + receivers.size, sms.num_sms * sms.bytes_per_s),
        )

    def _transfer(
        self,
        sums: PairSums,
        i: int,
        load: LinkLoad,
        rank_bytes: float,
        sms: TransferSms | None,
        *,
        alone_ns: int,
        even_ns: int,
        own_s: float,
        chain_s: float,
        flows: Flows | None,
        ranks: Ranks,
        group: int,
    ) -> Transfer:
        num_flows, total_bytes = sums.num_flows[i], sums.total_bytes[i]
        flow_bytes = total_bytes / num_flows if num_flows else 0.0
        num_sms, most_bytes_per_s = _bound(rank_bytes, flow_bytes, sms)
        return Transfer(
            load=load,
            overhead=self._overhead,
            latency_ns=to_ns(self._call_s(ranks, alone_ns, own_s) + chain_s if num_flows else 0.0),
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

    def _all_even_ns(
        self, senders: Ranks, group_ranks: Ranks, byte_matrices: FloatArray, even: FloatArray | None
    ) -> list[tuple[int, int]]:
        """Return the times alone of dispatch and combine of `even`, or of equal bytes from each sender to each rank."""
        num, *shape = byte_matrices.shape
        even_loads = [even] * num if even is not None else list(byte_matrices.sum(axis=2) / group_ranks.size)
        ends = (senders.tobytes(), group_ranks.tobytes())
        found = []
        for each in even_loads:
            key = (*ends, each.tobytes())
            if key not in self._even:
                matrix = each if even is not None else np.repeat(each[:, None], shape[1], axis=1)
                self._even[key] = self._even_ns(senders, group_ranks, matrix)
            found.append(self._even[key])
        return found

    def _even_ns(self, senders: Ranks, group_ranks: Ranks, matrix: FloatArray) -> tuple[int, int]:
        """Return the time alone, as dispatch and combine, of one matrix."""
        sums = self.cluster.pairs(senders, group_ranks).sums(matrix[None])
        rank_bytes = self._rank_bytes(senders, group_ranks, matrix)
        dispatch_s, combine_s = (drain_s.tolist()[0] for _, drain_s in self._loads_and_times(sums))
        sms = None if self._sms is None else self._sms.among(self.cluster.node_of(group_ranks))
        return _alone_ns(dispatch_s, rank_bytes, sms), _alone_ns(combine_s, rank_bytes, sms)

    def _rank_bytes(self, senders: Ranks, group_ranks: Ranks, byte_matrix: FloatArray) -> float:
        """Return what SMs of the busiest rank move in its node: NICs fetch and store what crosses by themselves."""
        if self._sms is None:
            return 0.0
        stays = self.cluster.node_of(senders)[:, None] == self.cluster.node_of(group_ranks)
        src, dst = np.broadcast_arrays(senders[:, None], group_ranks)
        return busiest_rank_bytes(src.ravel(), dst.ravel(), (byte_matrix * stays).ravel())


def _alone_ns(drain_s: float, rank_bytes: float, sms: TransferSms | None) -> int:
    try:
        return to_ns(drain_s if sms is None else max(drain_s, sms.min_time_s(rank_bytes)))
    except TimeRangeError as error:
        raise error.caused_by("a transfer of kind all_to_all, alone on its links") from None


def _bound(rank_bytes: float, flow_bytes: float, sms: TransferSms | None) -> tuple[int, float]:
    """Return the SMs of a transfer, and what each of its flows runs at most while they move `rank_bytes`."""
    if sms is None or rank_bytes == 0.0:  # nothing leaves a rank
        return 0, math.inf
    least_s = sms.min_time_s(rank_bytes)
    return sms.num_sms, flow_bytes / least_s if least_s else math.inf


def _even_rows(amounts: FloatArray) -> FloatArray:
    return np.repeat(amounts.mean(axis=1, keepdims=True), amounts.shape[1], axis=1)
