"""Networks and plans small enough to work out by hand. One link of capacity 1 carries one byte per nanosecond."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from sim.engine.clock import Alarm, Clock
from sim.engine.network.contention import Batch
from sim.engine.network.fluid import FluidNetwork
from sim.plan.ops import (
    NO_LAYER,
    Collective,
    Compute,
    ConcurrentPasses,
    Flows,
    Input,
    Op,
    RendezvousKey,
    Send,
    Service,
    TimedKernel,
    Transfer,
    inputs_of,
    target_of,
)
from sim.time import to_ns
from topology.links import FlowLinks, LinkLoad
from workloads.schedules import ChunkLayout, FixedOrder, Pair, Pass, Step

BYTE_PER_NS = 1e9
"""Bytes/s of a link of capacity 1."""


def make_transfer(
    num_bytes: Mapping[int, float],
    capacity: Sequence[float],
    *,
    latency_ns: int = 0,
    flow_bytes: float | None = None,
    ranks: Sequence[int] = (0,),
    group: int = 0,
    num_sms: int = 0,
    most: float = math.inf,
) -> Transfer:
    """Put bytes on links; `capacity` and `most` in bytes per ns. One flow unless `flow_bytes` says otherwise."""
    links = sorted(num_bytes)
    load = LinkLoad(
        links=np.array(links, dtype=np.intp), num_bytes=np.array([num_bytes[i] for i in links], dtype=float)
    )
    made = Transfer(
        load=load,
        latency_ns=latency_ns,
        alone_ns=0,
        flow_bytes=max(num_bytes.values(), default=0.0) if flow_bytes is None else flow_bytes,
        total_bytes=float(max(num_bytes.values(), default=0.0)),
        group=group,
        ranks=np.array(ranks, dtype=np.intp),
        num_sms=num_sms,
        most_bytes_per_s=most * BYTE_PER_NS,
    )
    return replace(made, alone_ns=to_ns(made.alone_s(np.array(capacity, dtype=float) * BYTE_PER_NS)))


def make_flows(
    flows: Sequence[tuple[Mapping[int, float], float]], capacity: Sequence[float], *, latency_ns: int = 0
) -> Transfer:
    """Make a transfer of flows that end each on its own, each given as (share on each link, bytes)."""
    load: dict[int, float] = {}
    for shares, size in flows:
        for link, share in shares.items():
            load[link] = load.get(link, 0.0) + share * size
    num_bytes = np.array([size for _, size in flows], dtype=float)
    whole = make_transfer(load, capacity, latency_ns=latency_ns, flow_bytes=float(num_bytes.mean()))
    links = FlowLinks(
        first=np.cumsum([0, *(len(shares) for shares, _ in flows)]),
        links=np.array([link for shares, _ in flows for link in shares], dtype=np.intp),
        share=np.array([share for shares, _ in flows for share in shares.values()], dtype=float),
    )
    return replace(whole, flows=Flows(links=links, num_bytes=num_bytes), total_bytes=float(num_bytes.sum()))


def run_network(
    capacity: Sequence[float],
    starts: Sequence[tuple[int, Sequence[Transfer]]],
    *,
    network: type[FluidNetwork] = FluidNetwork,
    kinds: Sequence[str] = (),
    **kwargs: object,
) -> tuple[FluidNetwork, list[Batch]]:
    """Start each (time, transfers) as one batch, run to the end, and return the network with the batches."""
    clock = Clock()
    names = [f"link{i}" for i in range(len(capacity))]
    made = network(
        clock, np.array(capacity, dtype=float) * BYTE_PER_NS, names, kinds or ["wire"] * len(names), **kwargs
    )
    batches: list[Batch | None] = [None] * len(starts)

    def begin_at(position: int) -> Callable[[object], None]:
        def begin(_: object) -> None:
            batches[position] = made.begin(starts[position][1])

        return begin

    for position, (start_ns, _) in enumerate(starts):
        Alarm(clock.env, start_ns, begin_at(position))
    clock.run()
    return made, [batch for batch in batches if batch is not None]


def order(text: str) -> list[Step]:
    """Read a list of passes: `F0 B0` is F then B of microbatch 0, `F1+B0` both at a time."""
    steps: list[Step] = []
    for word in text.split():
        first, *second = [Pass(part[0], int(part[1:])) for part in word.split("+")]
        steps += [Pair("FB", first.microbatch, 0, second[0].microbatch, 0)] if second else [first]
    return steps


def kernel(*duration_ns: int, kind: str = "other_compute") -> Compute:
    """One kernel, with its time on each rank of the lane."""
    timed = TimedKernel(kind=kind, layer=NO_LAYER, duration_ns=np.array(duration_ns, dtype=np.int64), flops=0.0)
    return Compute(kernels=(timed,))


def serve(ranks: Sequence[int], duration_ns: Sequence[int]) -> Service:
    """Expert kernels on `ranks`, with the time on each of them."""
    return Service(
        kind="expert",
        layer=0,
        ranks=np.array(ranks, dtype=np.intp),
        duration_ns=np.array(duration_ns, dtype=np.int64),
        flops=np.zeros(len(ranks)),
    )


def exchange(*transfers: Transfer, kind: str = "tp", rendezvous: RendezvousKey | None = None) -> Collective:
    """Transfers that the lane waits for."""
    return Collective(kind=kind, layer=0, transfers=transfers, rendezvous=rendezvous)


class HandPlan:
    """A plan whose ops are given by a function; stages stand in a row, as in a pipeline."""

    def __init__(
        self,
        passes: Sequence[str],
        ops: Callable[[int, int, Step], Sequence[Op] | ConcurrentPasses],
        *,
        lane_ranks: Sequence[Sequence[Sequence[int]]] | None = None,
        capacity: Sequence[float] = (),
        hop: Transfer | None = None,
        inputs: Callable[[int, Pass], tuple[Input, ...]] | None = None,
        after: Callable[[int, int], Sequence[Op]] = lambda stage, lane: (),
        num_sms: int | None = None,
        fidelity: str = "bulk",
    ) -> None:
        num_stages = len(passes)
        ranks = [[[stage]] for stage in range(num_stages)] if lane_ranks is None else lane_ranks
        self.lane_ranks = np.array(ranks, dtype=np.intp)
        self.capacity_bytes_per_s = np.array(capacity, dtype=float) * BYTE_PER_NS
        self.can_saturate = np.ones(len(capacity), dtype=np.bool_)
        self.link_names = [f"link{i}" for i in range(len(capacity))]
        self.link_kinds = ["wire"] * len(capacity)
        self.folding = None
        self.shares_compute = True
        self.num_sms = num_sms
        self.fidelity = fidelity
        self._passes = [order(text) for text in passes]
        self._ops, self._after = ops, after
        self._hop = make_transfer({}, capacity) if hop is None else hop
        row = ChunkLayout(kind="row", num_stages=num_stages)
        self._inputs = inputs or (lambda stage, chosen: inputs_of(row, stage, chosen))

    def schedule(self, lane: int) -> FixedOrder:
        """Return the fixed order of passes."""
        del lane
        return FixedOrder(self._passes)

    def inputs(self, stage: int, chosen: Pass) -> tuple[Input, ...]:
        """Return what a pass needs."""
        return self._inputs(stage, chosen)

    def ops(self, stage: int, lane: int, chosen: Step) -> tuple[Op, ...] | ConcurrentPasses:
        """Return the ops of a pass, or of both passes of a pair."""
        ops = self._ops(stage, lane, chosen)
        return ops if isinstance(ops, ConcurrentPasses) else tuple(ops)

    def sends(self, stage: int, lane: int, chosen: Pass) -> tuple[Send, ...]:
        """Return the hop to the neighbour."""
        target = target_of(ChunkLayout(kind="row", num_stages=len(self._passes)), stage, chosen)
        if target is None:
            return ()
        return (Send(target=(target, lane), key=Input(stage, *chosen), transfer=self._hop),)

    def before_passes(self, stage: int, lane: int) -> tuple[Op, ...]:
        """Return nothing: no transfer runs next to passes."""
        del stage, lane
        return ()

    def after_passes(self, stage: int, lane: int) -> tuple[Op, ...]:
        """Return what follows the passes."""
        return tuple(self._after(stage, lane))
