"""What collectives and sends cost: the cluster turns them into transfers.

Model
-----
    latency of a transfer = the chain of messages of its protocol, and the fill of its first loop  (`sim.plan.pricing`)
    alone                 = what its busiest link needs, at what the protocol reaches there

Where a collective takes SMs (`sms`), these move what its busiest rank sends or receives, whichever is more, for a rank
does both at the same time::

    alone                 = max(that, bytes of the busiest rank / (num_sms * bytes_per_s))

SMs are assumed to move as much for any message size and algorithm, and each rank to spread its bytes evenly over them.

`auto` takes the algorithm and protocol with the lowest latency + alone, among NCCL's, but within one node, and of rings
and trees between nodes, the one of which NCCL expects the lowest (`topology.presets.nccl_tuner`), which need not have
it; an algorithm that an operation does not have gives way to the ring. Equal requests give the same `Transfer`, so that
the network recognises sets it has solved before. Of groups that are wired alike (`Cluster.wiring_of`) the first is
priced: the others have the same times, and the same bytes on the links at the same positions.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.errors import SimulationError
from sim.plan.logs import PairLog
from sim.plan.ops import Transfer
from sim.plan.pricing import pricing_of
from sim.time import TimeRangeError, to_ns
from topology.cluster import Cluster
from topology.links import LinkLoad
from topology.presets.fitted import SM_RATES
from topology.presets.protocols import Protocol
from topology.uncertainty import MODEL_ITSELF, Factors
from workloads.collectives import AUTO, COLLECTIVES, Exchange, algorithms_for, point_to_point, spread_inside
from workloads.collectives.settings import NetworkSettings

__all__ = ["Choice", "TransferCosts", "TransferSms", "busiest_rank_bytes", "exchange_sms", "forget_prices"]

Ranks = NDArray[np.intp]
_MOST_KNOWN = 8192
"""Transfers that are kept for further runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferSms:
    """SMs of one collective."""

    num_sms: int
    """SMs that it takes on each of its ranks."""
    bytes_per_s: float = math.inf
    """What one of them sends, and receives at the same time."""
    across_bytes_per_s: float | None = None
    """The same where ranks are on several nodes; None: as on one node."""

    def __post_init__(self) -> None:
        if self.num_sms < 1 or not self.bytes_per_s > 0:
            raise SimulationError(
                "transfer SMs: num_sms must be at least 1 and bytes_per_s above 0, got "
                f"{self.num_sms} and {self.bytes_per_s}. Leave the collective out where it takes no SMs."
            )

    def among(self, nodes: Ranks) -> "TransferSms":
        """Return the SMs with their rate among ranks on `nodes` [G]."""
        if self.across_bytes_per_s is None or (nodes == nodes[0]).all():
            return self
        return replace(self, bytes_per_s=self.across_bytes_per_s)

    def slowed(self, factor: float) -> "TransferSms":
        """Return the SMs where each byte takes `factor` times as long."""
        across = self.across_bytes_per_s
        return replace(
            self,
            bytes_per_s=self.bytes_per_s / factor,
            across_bytes_per_s=None if across is None else across / factor,
        )

    def min_time_s(self, rank_bytes: float) -> float:
        """Return the time that they need for the bytes of the busiest rank.

        >>> TransferSms(num_sms=20, bytes_per_s=15e9).min_time_s(300e3)
        1e-06
        """
        return rank_bytes / (self.num_sms * self.bytes_per_s)


class Choice(NamedTuple):
    """How a collective is run."""

    operation: str
    """all_reduce, all_gather, reduce_scatter, or another operation of `workloads.collectives`."""
    num_ranks: int
    """Ranks of its group."""
    num_bytes: float
    """Bytes of the tensor."""
    algorithm: str
    """ring, tree, hierarchical, or another algorithm of `workloads.collectives`."""
    protocol: str
    """Name of the protocol of NCCL or of the library, such as LL128 or deepep."""
    time_ns: int
    """Latency and time alone."""


class _Cheapest(NamedTuple):
    """The cheapest way to run a collective on the first of the groups that are wired alike."""

    transfer: Transfer
    exchange: Exchange
    choice: Choice


class _KnownPrices:
    """Collectives that were priced on one cluster, for all runs of a process: alternatives share most of theirs."""

    def __init__(self) -> None:
        self._transfers: dict[tuple[object, ...], tuple[Transfer, Choice]] = {}
        self.cheapest: dict[tuple[object, ...], _Cheapest] = {}

    def get(self, key: tuple[object, ...]) -> tuple[Transfer, Choice] | None:
        """Return the transfer of an operation, ranks, bytes and group, and how it is run."""
        return self._transfers.get(key)

    def add(self, key: tuple[object, ...], transfer: Transfer, choice: Choice) -> tuple[Transfer, Choice]:
        """Note a transfer; of very many all are forgotten."""
        if len(self._transfers) >= _MOST_KNOWN:
            self._transfers.clear()
            self.cheapest.clear()
        self._transfers[key] = transfer, choice
        return transfer, choice


@lru_cache(maxsize=8)
def _known_prices(
    cluster: Cluster,
    all_reduce: str,
    left_out: tuple[str, ...],
    sms: tuple[tuple[str, TransferSms], ...],
    factors: Factors,
) -> _KnownPrices:
    """Return the prices known so far: what they depend on besides operation, ranks and bytes is given here."""
    del cluster, all_reduce, left_out, sms, factors
    return _KnownPrices()


def forget_prices() -> None:
    """Forget all prices known so far: what fits the constants of protocols changes what they were made of."""
    _known_prices.cache_clear()
    pricing_of.cache_clear()


class TransferCosts:
    """Prices of collectives and sends on one cluster."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        all_reduce: str = "auto",
        nvls: bool = True,
        sms: Mapping[str, TransferSms] | None = None,
        pairs: PairLog | None = None,
        factors: Factors = MODEL_ITSELF,
    ) -> None:
        """Run all-reduces by the algorithm `all_reduce`; `sms` are those of each operation that takes some.

        Without `nvls` the choice of `auto` leaves that algorithm out.
        Who sends what to whom is noted in `pairs`; times are multiplied by `factors`.
        """
        self.cluster = cluster
        self.pricing = pricing_of(cluster, factors)
        self.pairs = PairLog() if pairs is None else pairs
        self.choices: dict[tuple[str, int, float, str, str], Choice] = {}
        self._all_reduce = all_reduce
        self._left_out = () if nvls or all_reduce != AUTO else ("nvls",)
        self._sms = {} if sms is None else dict(sms)
        self._transfers: dict[tuple[object, ...], Transfer] = {}
        self._shared = _known_prices(cluster, all_reduce, self._left_out, tuple(self._sms.items()), factors)
        self._own = _KnownPrices()  # where pairs are noted: each run prices what it notes

    def collective(self, operation: str, ranks: Ranks, num_bytes: float, *, group: int) -> Transfer:
        """Return all-reduce, all-gather, reduce-scatter or broadcast of a tensor of `num_bytes` over `ranks`."""
        key = (operation, ranks.tobytes(), num_bytes, group)
        known = self._transfers.get(key)
        if known is None:
            known, choice = self._find(key, ranks, num_bytes, operation=operation, group=group)
            self._transfers[key] = known
            self.choices.setdefault(choice[:5], choice)  # groups elsewhere may pick another
        return known

    def collectives(self, operation: str, groups: Ranks, num_bytes: float) -> tuple[Transfer, ...]:
        """Return the same collective of each of several groups of ranks [groups, G], numbered from 0."""
        return tuple(self.collective(operation, group, num_bytes, group=number) for number, group in enumerate(groups))

    def send(self, src: Ranks, dst: Ranks, num_bytes: float, *, group: int) -> Transfer:
        """Return point to point from `src[i]` to `dst[i]`, `num_bytes` each."""
        key = ("send", src.tobytes(), dst.tobytes(), num_bytes, group)
        if key not in self._transfers:
            exchange = point_to_point(src.tolist(), dst.tolist(), num_bytes)
            ranks = np.concatenate([src, dst])  # both ends run a kernel
            protocol = self.pricing.only_protocol("send")
            self._transfers[key] = self.transfer(exchange, protocol, ranks=ranks, group=group, operation="send")
        return self._transfers[key]

    def transfer(
        self,
        exchange: Exchange,
        protocol: Protocol,
        *,
        ranks: Ranks,
        group: int,
        operation: str = "",
        load: LinkLoad | None = None,
    ) -> Transfer:
        """Return an exchange as the network sees it; the SMs that it takes go by its `operation`.

        `load` is what it puts on links, where that is known already.
        """
        if load is None:
            load = self.cluster.load(exchange.src, exchange.dst, exchange.num_bytes)
        overhead = self.pricing.overhead(protocol, exchange)
        if overhead is None:
            occupancy = load
        else:
            occupancy = LinkLoad(links=load.links, num_bytes=load.num_bytes * overhead[load.links])
        rank_bytes, sms = 0.0, self._sms.get(operation)
        if sms is not None:
            rank_bytes = busiest_rank_bytes(exchange.src, exchange.dst, exchange.num_bytes)
        least_s = sms.min_time_s(rank_bytes) if sms is not None else 0.0
        alone_s = max(occupancy.drain_time_s(self.cluster.capacity_bytes_per_s), least_s)
        made = Transfer(
            load=occupancy,
            overhead=overhead,
            latency_ns=_alone_ns(operation, self.pricing.latency_s(exchange, protocol, alone_s=alone_s)),
            alone_ns=_alone_ns(operation, alone_s),
            flow_bytes=exchange.flow_bytes,
            total_bytes=exchange.total_bytes,
            group=group,
            ranks=ranks,
            num_sms=sms.num_sms if sms is not None and rank_bytes else 0,
            most_bytes_per_s=exchange.flow_bytes / least_s if least_s else math.inf,
        )
        num_by_switch = exchange.num_by_switch
        self.pairs.note(made, exchange.src, exchange.dst, exchange.num_bytes, num_by_switch=num_by_switch)
        return made

    # ---- private -------------------------------------------------------------------------------------------------

    def _find(
        self, key: tuple[object, ...], ranks: Ranks, num_bytes: float, *, operation: str, group: int
    ) -> tuple[Transfer, Choice]:
        """Return a collective and how it is run: known, moved from a group that is wired alike, or priced."""
        prices = self._own if self.pairs.is_on else self._shared
        known = prices.get(key)
        if known is not None:
            return known
        wiring = (operation, num_bytes, self.cluster.wiring_of(ranks), np.argsort(ranks).tobytes())
        cheapest = prices.cheapest.get(wiring)
        if cheapest is None:
            cheapest = self._priced(operation, ranks, num_bytes, group)
            known = prices.add(key, cheapest.transfer, cheapest.choice)
            prices.cheapest[wiring] = cheapest
            return known
        return prices.add(key, self._on_other_ranks(cheapest, ranks, group), cheapest.choice)

    def _priced(self, operation: str, ranks: Ranks, num_bytes: float, group: int) -> _Cheapest:
        """Return the way in which NCCL runs a collective: by its own estimate where it is known, else the cheapest."""
        nodes, known = self.cluster.node_of(ranks).tolist(), self.pricing.protocols
        names = [name for name in algorithms_for(operation, self._all_reduce) if name in known] or ["ring"]
        names = [name for name in names if name not in self._left_out]
        best: tuple[Transfer, Exchange, Protocol] | None = None
        nic_ranks = self.cluster.nic_ranks(ranks).tolist()
        cube_links = self.pricing.cube_links(ranks)
        for name, protocols in self._candidates(operation, ranks, num_bytes, names).items():
            exchange = COLLECTIVES[name].exchanges[operation](ranks.tolist(), nodes, num_bytes, nic_ranks)
            if self.pricing.has_mesh or cube_links:
                exchange = spread_inside(exchange, ranks.tolist(), nodes, cube_links)
            load = self.cluster.load(exchange.src, exchange.dst, exchange.num_bytes)
            for protocol in protocols:
                made = self.transfer(exchange, protocol, ranks=ranks, group=group, operation=operation, load=load)
                if best is None or _time_ns(made) < _time_ns(best[0]):
                    best = (made, exchange, protocol)
        if best is None:
            raise RuntimeError(f"{operation}: no algorithm")
        transfer, exchange, fastest = best
        choice = Choice(operation, ranks.size, num_bytes, fastest.algorithm, fastest.name, _time_ns(transfer))
        return _Cheapest(transfer, exchange, choice)

    def _candidates(
        self, operation: str, ranks: Ranks, num_bytes: float, names: list[str]
    ) -> dict[str, list[Protocol]]:
        """Return the protocols to price by algorithm: the one that NCCL expects to be fastest, or all of them."""
        nodes = self.cluster.node_of(ranks)
        is_one_node = bool((nodes == nodes[0]).all())
        found = {name: self.pricing.protocols_for(name, is_one_node=is_one_node) for name in names}
        if len(found) == 1 and not is_one_node:
            return found
        num_nodes = np.unique(nodes).size
        expected: dict[Protocol, float] = {}
        for protocol in (protocol for protocols in found.values() for protocol in protocols):
            time_s = self.pricing.expected_s(
                operation, protocol, num_ranks=ranks.size, num_nodes=num_nodes, num_bytes=num_bytes
            )
            if time_s is None:
                return found
            expected[protocol] = time_s
        fastest = min(expected, key=lambda protocol: expected[protocol])
        return {fastest.algorithm: [fastest]}

    def _on_other_ranks(self, first: _Cheapest, ranks: Ranks, group: int) -> Transfer:
        """Return the transfer of `ranks`, which are wired as those of the `first`."""
        own, load = first.transfer.ranks, first.transfer.load
        links = self.cluster.link_map(own, ranks).of(load.links)
        order = np.argsort(links)
        moved = LinkLoad(links=links[order], num_bytes=load.num_bytes[order])
        made = replace(first.transfer, load=moved, group=group, ranks=ranks)
        if self.pairs.is_on:
            position = np.zeros(int(own.max()) + 1, dtype=np.intp)
            position[own] = np.arange(own.size)
            exchange = first.exchange
            src, dst = ranks[position[exchange.src]], ranks[position[exchange.dst]]
            self.pairs.note(made, src, dst, exchange.num_bytes, num_by_switch=exchange.num_by_switch)
        return made


def exchange_sms(network: NetworkSettings, rates: Mapping[str, float] = SM_RATES) -> dict[str, TransferSms]:
    """Return the SMs that dispatch and combine take, as operation `all_to_all`; no entry where they take none."""
    if network.exchange_num_sms is None:
        return {}
    algorithm = network.all_to_all_algorithm
    across = algorithm.sm_rate_across
    sms = TransferSms(
        num_sms=network.exchange_num_sms,
        bytes_per_s=rates[algorithm.sm_rate],
        across_bytes_per_s=None if across is None else rates[across],
    )
    return {"all_to_all": sms}


def busiest_rank_bytes(src: NDArray[np.intp], dst: NDArray[np.intp], num_bytes: NDArray[np.float64]) -> float:
    """Return what the busiest rank sends or receives, whichever is more; what stays on a rank is neither.

    Parameters
    ----------
    src, dst
        Ranks of each flow. Shape [F].
    num_bytes
        Bytes of each. Shape [F].

    Examples
    --------
    Rank 0 sends 3 and 4, of which rank 1 receives 3.

    >>> busiest_rank_bytes(np.array([0, 0, 2]), np.array([1, 3, 2]), np.array([3.0, 4.0, 9.0]))
    7.0
    """
    moved = np.where(src == dst, 0.0, num_bytes)
    return max(float(np.bincount(ends, weights=moved).max(initial=0.0)) for ends in (src, dst))


# ---- private -----------------------------------------------------------------------------------------------------


def _alone_ns(operation: str, alone_s: float) -> int:
    try:
        return to_ns(alone_s)
    except TimeRangeError as error:
        raise error.caused_by(f"a transfer of kind {operation}, alone on its links") from None


def _time_ns(transfer: Transfer) -> int:
    return transfer.latency_ns + transfer.alone_ns
