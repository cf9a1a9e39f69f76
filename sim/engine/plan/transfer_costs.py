"""What collectives and sends cost: the cluster turns them into transfers.

Model
-----
    latency of a transfer = the chain of messages of its protocol                   (`sim.engine.plan.pricing`)
    alone                 = what its busiest link needs, at what the protocol reaches there

Where a collective takes SMs (`sms`), these move what its busiest rank sends or receives::

    alone                 = max(that, bytes of the busiest rank / (num_sms * bytes_per_s))

`auto` takes the algorithm and protocol with the lowest latency + alone, among NCCL's; an algorithm that an operation
does not have gives way to the ring. Equal requests give the same `Transfer`, so that the network recognises sets it has
solved before.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.engine.clock import ClockError, to_ns
from sim.engine.ops import Transfer
from sim.engine.pairs import PairLog
from sim.engine.plan.pricing import Pricing
from sim.engine.plan.transfer_sms import TransferSms, busiest_rank_bytes
from topology.cluster import Cluster
from topology.protocol import Protocol
from workloads.collectives import AUTO, COLLECTIVES, Exchange, point_to_point, spread_inside

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

    def collective(self, operation: str, ranks: Ranks, num_bytes: float, *, group: int) -> Transfer:
        """Return all-reduce, all-gather, reduce-scatter or broadcast of a tensor of `num_bytes` over `ranks`."""
        key = (operation, ranks.tobytes(), num_bytes, group)
        if key not in self._transfers:
            nodes = self.cluster.node_of(ranks).tolist()
            table = COLLECTIVES[operation]
            known = self.pricing.protocols
            wanted = AUTO if self._all_reduce == "auto" else (self._all_reduce,)
            names = [name for name in wanted if name in table and name in known] or ["ring"]
            best: tuple[Transfer, Protocol] | None = None
            for name in names:
                exchange = table[name](ranks.tolist(), nodes, num_bytes)
                if self.pricing.has_mesh:
                    exchange = spread_inside(exchange, ranks.tolist(), nodes)
                for protocol in known[name]:
                    priced = self.transfer(exchange, protocol, ranks=ranks, group=group, operation=operation)
                    if best is None or _time_ns(priced) < _time_ns(best[0]):
                        best = (priced, protocol)
            if best is None:
                raise RuntimeError(f"{operation}: no algorithm")
            self._transfers[key], chosen = best
            how = (operation, ranks.size, num_bytes, chosen.algorithm, chosen.name)
            self.choices.setdefault(how, Choice(*how, _time_ns(best[0])))  # groups elsewhere may pick another
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
        self, exchange: Exchange, protocol: Protocol, *, ranks: Ranks, group: int, operation: str = ""
    ) -> Transfer:
        """Return an exchange as the network sees it; the SMs that it takes go by its `operation`."""
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


def _alone_ns(operation: str, alone_s: float) -> int:
    try:
        return to_ns(alone_s)
    except ClockError as error:
        raise error.caused_by(f"a transfer of kind {operation}, alone on its links") from None


def _time_ns(transfer: Transfer) -> int:
    return transfer.latency_ns + transfer.alone_ns
