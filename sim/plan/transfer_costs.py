"""What collectives and sends cost: the cluster turns them into transfers.

Model
-----
    latency of a transfer = the chain of messages of its protocol                   (`sim.plan.pricing`)
    alone                 = what its busiest link needs, at what the protocol reaches there

Where a collective takes SMs (`sms`), these move what its busiest rank sends or receives::

    alone                 = max(that, bytes of the busiest rank / (num_sms * bytes_per_s))

`auto` takes the algorithm and protocol with the lowest latency + alone, among NCCL's; an algorithm that an operation
does not have gives way to the ring. Equal requests give the same `Transfer`, so that the network recognises sets it has
solved before. Of groups that are wired alike (`Cluster.wiring_of`) the first is priced: the others have the same times,
and the same bytes on the links that stand in the place of its own.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.plan.ops import Transfer
from sim.plan.pairs import PairLog
from sim.plan.pricing import Pricing
from sim.plan.transfer_sms import TransferSms, busiest_rank_bytes
from sim.time import TimeRangeError, to_ns
from topology.cluster import Cluster
from topology.links import LinkLoad
from topology.presets.protocols import Protocol
from workloads.collectives import COLLECTIVES, Exchange, algorithms_for, point_to_point, spread_inside

__all__ = ["Choice", "TransferCosts"]

Ranks = NDArray[np.intp]


class Choice(NamedTuple):
    """How a collective is run."""

    operation: str
    """What it does."""
    num_ranks: int
    """Ranks of its group."""
    num_bytes: float
    """Bytes of the tensor."""
    algorithm: str
    """Algorithm."""
    protocol: str
    """Protocol."""
    time_ns: int
    """Latency and time alone."""


class _Cheapest(NamedTuple):
    """The cheapest way to run a collective on the first of the groups that are wired alike."""

    transfer: Transfer
    exchange: Exchange


class TransferCosts:
    """Prices of collectives and sends on one cluster."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        all_reduce: str = "auto",
        sms: Mapping[str, TransferSms] | None = None,
        pairs: PairLog | None = None,
    ) -> None:
        """Run all-reduces by the algorithm `all_reduce`; `sms` are those of each operation that takes some.

        Who sends what to whom is noted in `pairs`.
        """
        self.cluster = cluster
        self.pricing = Pricing(cluster)
        self.pairs = PairLog() if pairs is None else pairs
        self.choices: dict[tuple[str, int, float, str, str], Choice] = {}
        self._all_reduce = all_reduce
        self._sms = {} if sms is None else dict(sms)
        self._transfers: dict[tuple[object, ...], Transfer] = {}
        self._cheapest: dict[tuple[object, ...], _Cheapest] = {}

    def collective(self, operation: str, ranks: Ranks, num_bytes: float, *, group: int) -> Transfer:
        """Return all-reduce, all-gather, reduce-scatter or broadcast of a tensor of `num_bytes` over `ranks`."""
        key = (operation, ranks.tobytes(), num_bytes, group)
        if key not in self._transfers:
            alike = (operation, num_bytes, self.cluster.wiring_of(ranks), np.argsort(ranks).tobytes())
            if alike in self._cheapest:
                self._transfers[key] = self._in_its_place(self._cheapest[alike], ranks, group)
            else:
                self._cheapest[alike] = self._priced(operation, ranks, num_bytes, group)
                self._transfers[key] = self._cheapest[alike].transfer
        return self._transfers[key]

    def send(self, src: Ranks, dst: Ranks, num_bytes: float, *, group: int) -> Transfer:
        """Return point to point from `src[i]` to `dst[i]`, `num_bytes` each."""
        key = ("send", src.tobytes(), dst.tobytes(), num_bytes, group)
        if key not in self._transfers:
            exchange = point_to_point(src.tolist(), dst.tolist(), num_bytes)
            ranks = np.concatenate([src, dst])  # both ends run a kernel
            protocol = self.pricing.one("send")
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
        held = self.pricing.held(load, protocol)
        rank_bytes, sms = 0.0, self._sms.get(operation)
        if sms is not None:
            rank_bytes = busiest_rank_bytes(exchange.src, exchange.dst, exchange.num_bytes)
        least_s = sms.least_time_s(rank_bytes) if sms is not None else 0.0
        made = Transfer(
            load=held,
            overhead=self.pricing.overhead(protocol),
            latency_ns=to_ns(self.pricing.latency_s(exchange, protocol)),
            alone_ns=_alone_ns(operation, max(held.drain_time_s(self.cluster.capacity_bytes_per_s), least_s)),
            flow_bytes=exchange.flow_bytes,
            total_bytes=exchange.total_bytes,
            group=group,
            ranks=ranks,
            num_sms=sms.num_sms if sms is not None and rank_bytes else 0,
            most_bytes_per_s=exchange.flow_bytes / least_s if least_s else math.inf,
        )
        self.pairs.note(made, exchange.src, exchange.dst, exchange.num_bytes)
        return made

    # ---- private -------------------------------------------------------------------------------------------------

    def _priced(self, operation: str, ranks: Ranks, num_bytes: float, group: int) -> _Cheapest:
        """Return the cheapest of all ways to run a collective."""
        nodes, known = self.cluster.node_of(ranks).tolist(), self.pricing.protocols
        names = [name for name in algorithms_for(operation, self._all_reduce) if name in known] or ["ring"]
        best: tuple[_Cheapest, Protocol] | None = None
        for name in names:
            exchange = COLLECTIVES[name].exchanges[operation](ranks.tolist(), nodes, num_bytes)
            if self.pricing.has_mesh:
                exchange = spread_inside(exchange, ranks.tolist(), nodes)
            load = self.cluster.load(exchange.src, exchange.dst, exchange.num_bytes)
            for protocol in known[name]:
                made = self.transfer(exchange, protocol, ranks=ranks, group=group, operation=operation, load=load)
                if best is None or _time_ns(made) < _time_ns(best[0].transfer):
                    best = (_Cheapest(made, exchange), protocol)
        if best is None:
            raise RuntimeError(f"{operation}: no algorithm")
        cheapest, chosen = best
        how = (operation, ranks.size, num_bytes, chosen.algorithm, chosen.name)
        self.choices.setdefault(how, Choice(*how, _time_ns(cheapest.transfer)))  # groups elsewhere may pick another
        return cheapest

    def _in_its_place(self, first: _Cheapest, ranks: Ranks, group: int) -> Transfer:
        """Return the transfer of `ranks`, which are wired as those of the `first`."""
        own, load = first.transfer.ranks, first.transfer.load
        links = self.cluster.link_map(own, ranks)[load.links]
        order = np.argsort(links)
        moved = LinkLoad(links=links[order], num_bytes=load.num_bytes[order])
        made = replace(first.transfer, load=moved, group=group, ranks=ranks)
        if self.pairs.is_on:
            place = np.zeros(int(own.max()) + 1, dtype=np.intp)
            place[own] = np.arange(own.size)
            exchange = first.exchange
            self.pairs.note(made, ranks[place[exchange.src]], ranks[place[exchange.dst]], exchange.num_bytes)
        return made


def _alone_ns(operation: str, alone_s: float) -> int:
    try:
        return to_ns(alone_s)
    except TimeRangeError as error:
        raise error.caused_by(f"a transfer of kind {operation}, alone on its links") from None


def _time_ns(transfer: Transfer) -> int:
    return transfer.latency_ns + transfer.alone_ns
