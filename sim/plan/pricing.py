"""What protocols make of exchanges: latencies of their messages, and how long a byte holds each link.

Model
-----
    latency     = base + chain + fill of the first loop
    chain       = sum over the chain's steps of count * message - hidden share * time alone         at least 0
    message     = the protocol's, and what the slowest pair's path takes beyond the shortest of its tier
                  or the path's latency, where the protocol has none of its own
    overhead[l] = capacity of link l / what the protocol reaches there                               at least 1
                  inside a node * (1 + end_steps / steps of the chain)

A byte holds a link for `overhead` times as long as one at the link's capacity.
"""

from collections.abc import Mapping
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from topology.cluster import Cluster
from topology.presets.protocols import BETWEEN, INSIDE, NO_TIER, Protocol, tuner_of
from topology.presets.technologies import simple_rate
from topology.uncertainty import MODEL_ITSELF, Factors
from workloads.collectives import Exchange, Step

__all__ = ["Pricing", "pricing_of"]

FloatArray = NDArray[np.float64]
Ranks = NDArray[np.intp]
_PAIRWISE = "xgmi"
_INSIDE_KINDS = ("nvlink", _PAIRWISE, "c2c", "cpu")
_GPU_TO_NIC = "pcie"
_ROUNDING = 1e-12
_SCALINGS = 100
_LEAST_USE = 0.1
"""Use of the least used NVLink over that of the most used; below that, rings are left as they are."""


class Pricing:
    """Protocols on the links of one cluster."""

    def __init__(self, cluster: Cluster, factors: Factors = MODEL_ITSELF) -> None:
        """Price on the links of `cluster`; latencies and times of bytes are multiplied by `factors`."""
        self.cluster = cluster
        self._latency_factors = {INSIDE: factors.latency_in_node, BETWEEN: factors.latency_across_nodes}
        self._byte_factors = {INSIDE: factors.byte_time_in_node, BETWEEN: factors.byte_time_across_nodes}
        known: dict[str, list[Protocol]] = {}
        for protocol in cluster.protocols:
            known.setdefault(protocol.algorithm, []).append(protocol)
        self.protocols: Mapping[str, list[Protocol]] = known
        self._overheads: dict[tuple[Protocol, float], FloatArray | None] = {}
        self._reached: dict[Protocol, FloatArray] = {}
        self._inside: dict[Protocol, float] = {}
        self._nearest: dict[int, float] = {}

    @cached_property
    def has_mesh(self) -> bool:
        """Whether GPUs of a node are linked pair by pair, at least half of all pairs."""
        num_links = self.cluster.link_kinds.count(_PAIRWISE)
        nodes = self.cluster.node_of(np.arange(self.cluster.num_gpus))
        num_pairs = sum(int(count) * (int(count) - 1) for count in np.unique(nodes, return_counts=True)[1])
        return num_links > 0 and 2 * num_links >= num_pairs

    def cube_links(self, ranks: Ranks) -> dict[tuple[int, int], float] | None:
        """Return the part of each rank's bytes inside its node that each NVLink between two of `ranks` [R] carries.

        It is in proportion to the NVLinks of the pair, but that every rank sends and receives equally much, as rings
        do (Sinkhorn, "A relationship between arbitrary positive matrices and doubly stochastic matrices", 1964). None
        where GPUs have no NVLinks to each other, or these do not join all ranks of a node in rings.
        """
        if self._direct is None:
            return None
        import networkx as nx  # noqa: PLC0415  # slow to import, and most clusters have NVSwitches

        shares: dict[tuple[int, int], float] = {}
        nodes = self.cluster.node_of(ranks)
        for node in np.unique(nodes).tolist():
            members = ranks[nodes == node].tolist()
            if len(members) == 1:
                continue
            links = np.array([[self._direct.get((a, b), 0.0) for b in members] for a in members])
            balanced = _balanced(links)
            if balanced is None or not nx.is_connected(nx.from_numpy_array(links)):
                return None
            shares |= {(a, b): balanced[i, j] for i, a in enumerate(members) for j, b in enumerate(members)}
        return shares

    def only_protocol(self, algorithm: str) -> Protocol:
        """Return the protocol of an algorithm that has only one."""
        return self.protocols[algorithm][0]

    def protocols_for(self, algorithm: str, *, is_one_node: bool) -> list[Protocol]:
        """Return the protocols of an algorithm among ranks of one node, or of several."""
        known = self.protocols[algorithm]
        own = [one for one in known if one.on_one_node]
        return own if is_one_node and own else [one for one in known if not one.on_one_node]

    def expected_s(
        self, operation: str, protocol: Protocol, *, num_ranks: int, num_nodes: int = 1, num_bytes: float
    ) -> float | None:
        """Return the time by which NCCL chooses among algorithms; None where it is not known."""
        tuner = tuner_of(self.cluster.inside) if self._has_own_figures else None
        if tuner is None:
            return None
        if num_nodes > 1:
            return tuner.expected_across_s(
                operation,
                protocol.algorithm,
                protocol.name,
                num_ranks=num_ranks,
                num_nodes=num_nodes,
                num_bytes=num_bytes,
                bus_bytes_per_s=min(self._bus_bytes_per_s, self.cluster.exit_bytes_per_s * num_ranks / num_nodes),
            )
        return tuner.expected_s(
            operation,
            protocol.algorithm,
            protocol.name,
            num_ranks=num_ranks,
            num_bytes=num_bytes,
            bus_bytes_per_s=self._bus_bytes_per_s,
        )

    def overhead(self, protocol: Protocol, exchange: Exchange | None = None) -> FloatArray | None:
        """Return how long a byte holds each link, over a byte at its capacity; None: as long. Shape [L].

        The ends of a ring make its bytes hold links longer, the more so the fewer steps the `exchange` has.
        """
        ends = 0.0
        if protocol.end_steps and exchange is not None and exchange.steps:
            ends = protocol.end_steps / sum(step.count for step in exchange.steps)
        if (protocol, ends) not in self._overheads:
            self._overheads[protocol, ends] = self._overhead(protocol, ends)
        return self._overheads[protocol, ends]

    def reached(self, protocol: Protocol) -> FloatArray:
        """Return what a protocol reaches on each link, bytes/s. Shape [L]."""
        if protocol not in self._reached:
            overhead, capacity = self.overhead(protocol), self.cluster.capacity_bytes_per_s
            self._reached[protocol] = capacity if overhead is None else capacity / overhead
        return self._reached[protocol]

    def inside_bytes_per_s(self, protocol: Protocol) -> float:
        """Return what a protocol reaches on the best link inside a node."""
        if protocol not in self._inside:
            self._inside[protocol] = float(self.reached(protocol)[self._tiers == INSIDE].max(initial=0.0))
        return self._inside[protocol]

    def latency_s(self, exchange: Exchange, protocol: Protocol, *, alone_s: float = 0.0) -> float:
        """Return the time of the chain of messages of an exchange, and of its first loop.

        `alone_s` is the time that the busiest link needs, of which the first loop takes its part.
        """
        if not exchange.steps:
            return 0.0
        tiers = [self._tier_of_step(step) for step in exchange.steps]
        chain_s = sum(
            self._latency_factors[tier] * step.count * self._message_s(step, protocol, tier)
            for step, tier in zip(exchange.steps, tiers, strict=True)
        )
        chain_s = max(0.0, chain_s - protocol.hidden_share * alone_s)
        loop_bytes, rank_bytes = protocol.loop_bytes_per_rank, exchange.looped_bytes_per_rank
        fill_s = alone_s * min(1.0, loop_bytes / rank_bytes) if rank_bytes else 0.0
        return self._latency_factors[max(tiers)] * protocol.base_latency_s + chain_s + fill_s

    # ---- private -------------------------------------------------------------------------------------------------

    @cached_property
    def _direct(self) -> dict[tuple[int, int], float] | None:
        """Bandwidth of the NVLink from one GPU to another, by rank; None where no GPUs are linked so."""
        if self.cluster.has_nvswitches or "nvlink" not in self.cluster.link_kinds:
            return None
        rank = {name: number for number, name in enumerate(self.cluster.gpu_names)}
        return {
            (rank[a], rank[b]): float(data["bandwidth_bytes_per_s"])
            for a, b, data in self.cluster.graph.edges(data=True)
            if data["kind"] == "nvlink" and a in rank and b in rank
        } or None

    def _tier_of_step(self, step: Step) -> int:
        """Return the tier of the slowest message of a step: between nodes, if one leaves its node."""
        leaves_node = bool((self.cluster.node_of(step.src) != self.cluster.node_of(step.dst)).any())
        return BETWEEN if leaves_node else INSIDE

    def _message_s(self, step: Step, protocol: Protocol, number: int) -> float:
        path_s = self.cluster.longest_latency_s(step.src, step.dst)
        tier = protocol.between if number == BETWEEN else protocol.inside
        if tier.hop_latency_s is None:
            return path_s
        return tier.hop_latency_s + max(0.0, path_s - self._nearest_s(number))

    def _nearest_s(self, tier: int) -> float:
        """Return the latency of the shortest path of a tier, looked for from the first node that has one."""
        if tier not in self._nearest:
            src, dst = self._pairs_inside() if tier == INSIDE else self._pairs_between()
            self._nearest[tier] = float(self.cluster.latency_s(src, dst).min())
        return self._nearest[tier]

    def _pairs_inside(self) -> tuple[Ranks, Ranks]:
        """Return all pairs of GPUs of the first node that has two."""
        nodes = self.cluster.node_of(np.arange(self.cluster.num_gpus))
        number, size = np.unique(nodes, return_counts=True)
        members = np.flatnonzero(nodes == number[size > 1][0])
        src, dst = np.meshgrid(members, members)
        return src[src != dst], dst[src != dst]

    def _pairs_between(self) -> tuple[Ranks, Ranks]:
        """Return pairs of the first node and the next, for a GPU may lack its NIC, and of one GPU and all others."""
        nodes = self.cluster.node_of(np.arange(self.cluster.num_gpus))
        number = np.unique(nodes)
        src, dst = np.meshgrid(*(np.flatnonzero(nodes == node) for node in number[:2]))
        others = np.flatnonzero(nodes != number[0])
        first = np.full_like(others, np.flatnonzero(nodes == number[0])[0])
        return np.append(src, first), np.append(dst, others)

    @cached_property
    def _has_own_figures(self) -> bool:
        """Whether groups of one node have protocols of their own."""
        return any(protocol.on_one_node for protocol in self.cluster.protocols)

    @cached_property
    def _bus_bytes_per_s(self) -> float:
        """Bus bandwidth that NCCL credits the rings of a node with."""
        inside = self.cluster.nominal_bytes_per_s[self._tiers == INSIDE]
        return float(inside.max()) * simple_rate(self.cluster.inside or "")

    def _overhead(self, protocol: Protocol, ends: float) -> FloatArray | None:
        capacity = self.cluster.capacity_bytes_per_s
        reached = capacity.copy()
        for number, tier in ((INSIDE, protocol.inside), (BETWEEN, protocol.between)):
            of_tier = self._tiers == number
            if tier.efficiency is not None:
                reached[of_tier] = np.minimum(
                    reached[of_tier], tier.efficiency * self.cluster.nominal_bytes_per_s[of_tier]
                )
            reached[of_tier] = np.minimum(reached[of_tier], tier.most_bytes_per_s)
            reached[of_tier] = np.minimum(capacity[of_tier], reached[of_tier] / self._byte_factors[number])
        reached[self._tiers == INSIDE] /= 1.0 + ends
        overhead = np.divide(capacity, reached, out=np.ones_like(capacity), where=reached > 0)
        return None if (overhead <= 1.0 + _ROUNDING).all() else overhead

    @cached_property
    def _tiers(self) -> NDArray[np.int64]:
        """Return the tier of each link. Shape [L]."""
        known = {kind: self._tier_of(kind) for kind in dict.fromkeys(self.cluster.link_kinds)}
        return np.array([known[kind] for kind in self.cluster.link_kinds])

    def _tier_of(self, kind: str) -> int:
        if kind in _INSIDE_KINDS or (kind == _GPU_TO_NIC and (self.cluster.inside or "").startswith(_GPU_TO_NIC)):
            return INSIDE
        return NO_TIER if kind == _GPU_TO_NIC else BETWEEN


@lru_cache(maxsize=8)
def pricing_of(cluster: Cluster, factors: Factors) -> Pricing:
    """Return the protocols on the links of a cluster, the same for all runs of a process on it."""
    return Pricing(cluster, factors)


def _balanced(links: FloatArray) -> FloatArray | None:
    """Return `links` [G, G] with rows and columns scaled to sums of 1; None where that leaves a link nearly unused."""
    if not (links.any(axis=0).all() and links.any(axis=1).all()):
        return None
    shares = links.copy()
    for _ in range(_SCALINGS):
        shares /= shares.sum(axis=1, keepdims=True)
        shares /= shares.sum(axis=0, keepdims=True)
    use = shares[links > 0] / links[links > 0]
    is_even = np.allclose(shares.sum(axis=1), 1.0, rtol=_ROUNDING**0.5)
    return shares if is_even and use.min() > _LEAST_USE * use.max() else None
