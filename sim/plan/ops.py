"""What a pass is made of, with all costs known: kernels in nanoseconds, transfers as loads on links.

A pass is a list of ops that a lane runs one after another:

- `Compute`: kernels between two synchronisation points, one event and several spans;
- `Collective`: transfers of groups inside the lane, or (with `rendezvous`) of groups over several lanes; with `stream`
  the lane only starts the transfers and goes on;
- `AwaitStream`: the lane waits for what it has started on a stream;
- `Service`: expert kernels on ranks that may belong to other stages, first come first served;
- `HostWork`: the host works, and may first wait until the lane has come here.

A pair of passes is such a list for each of the two (`ConcurrentPasses`).
"""

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache, lru_cache
from operator import attrgetter
from typing import Any, Final, NamedTuple, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from sim.errors import SimulationError
from topology.links import FlowLinks, LinkLoad
from workloads.schedules import ChunkLayout, Pass, Step, passes_of

__all__ = [
    "AwaitStream",
    "Collective",
    "Compute",
    "ConcurrentPasses",
    "Flows",
    "HostWork",
    "Input",
    "LanePosition",
    "Op",
    "RendezvousKey",
    "Send",
    "Service",
    "TimedKernel",
    "Transfer",
    "by_rank",
    "in_layer",
    "inputs_of",
    "mask_of",
    "scaled",
    "target_of",
]

IntArray = NDArray[np.int64]
_Changed = TypeVar("_Changed")
_set: Final = object.__setattr__
NO_LAYER = -1
"""Layer of ops that belong to no layer (embedding, output head, optimizer)."""


class LanePosition(NamedTuple):
    """Where a lane is."""

    stage: int
    """Stage of the pipeline."""
    lane: int
    """Lane of the stage."""


class Input(NamedTuple):
    """The output of a pass on a stage, which another pass needs."""

    stage: int
    """Stage that makes it."""
    kind: str
    """Kind of the pass that makes it: F, B or W."""
    microbatch: int
    """Number of the microbatch, from 0."""
    chunk: int
    """Chunk (virtual stage) of the stage, from 0."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Flows:
    """The flows of a transfer, each to end on its own."""

    links: FlowLinks
    """Links of each flow, one at least."""
    num_bytes: NDArray[np.float64]
    """Bytes of each, above 0. Shape [F]."""
    own_bytes_per_s: NDArray[np.float64] | None = None
    """Capacities of links that only these flows use, numbered after the cluster's: what SMs move. Shape [O]."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Transfer:
    """A collective of one group, or point to point between lanes, as the network sees it."""

    load: LinkLoad
    """Bytes on each link, each as many at its capacity as hold the link as long."""
    overhead: NDArray[np.float64] | None = None
    """How long a byte holds each link, over a byte at its capacity; None: as long. Shape [L]."""
    latency_ns: int
    """Time before it flows; it uses no link meanwhile."""
    alone_ns: int
    """Time it flows when nothing else does."""
    imbalance_ns: int = 0
    """How much of `alone_ns` an evenly spread exchange of the same senders would save."""
    flow_bytes: float
    """Bytes of a typical flow."""
    total_bytes: float
    """Bytes sent by all ranks of the group."""
    group: int
    """Number of the group in its stage."""
    ranks: NDArray[np.intp]
    """Who takes part: the members of a group; of point to point the senders, then the receivers. Shape [G]."""
    flows: Flows | None = None
    """Its flows, where each ends on its own (`fidelity: flow`); None: they progress together."""
    num_sms: int = 0
    """SMs that it takes on each of `ranks` from its start to its end, latency included; none for copy engines."""
    most_bytes_per_s: float = math.inf
    """What each of its flows runs at most, for those SMs move no more; `flows` have links of their own for that."""

    def __post_init__(self) -> None:
        if self.num_sms < 0 or not self.most_bytes_per_s > 0:
            raise SimulationError(
                "transfer: num_sms must be at least 0 and most_bytes_per_s above 0, got "
                f"{self.num_sms} and {self.most_bytes_per_s}. Leave both out for a transfer that takes no SMs."
            )
        if self.flows is not None and self.flows.own_bytes_per_s is None and self.most_bytes_per_s < math.inf:
            raise SimulationError(
                "transfer: most_bytes_per_s must be infinite where flows that end each on their own have no links of "
                f"their own, got {self.most_bytes_per_s:g}. Give flows.own_bytes_per_s."
            )

    @property
    def mask(self) -> int:
        """Its links as bits of an integer."""
        return mask_of(self.load.links)

    @property
    def link_bytes(self) -> LinkLoad:
        """Return the bytes that pass on each link."""
        if self.overhead is None:
            return self.load
        return LinkLoad(links=self.load.links, num_bytes=self.load.num_bytes / self.overhead[self.load.links])

    def alone_s(self, capacity_bytes_per_s: NDArray[np.float64]) -> float:
        """Return the time it flows when nothing else does: its busiest link needs that, or its own bound asks for it.

        Parameters
        ----------
        capacity_bytes_per_s
            Capacity of every link. Shape [L].
        """
        return max(self.load.drain_time_s(capacity_bytes_per_s), self.flow_bytes / self.most_bytes_per_s)


def mask_of(numbers: NDArray[np.intp]) -> int:
    """Return numbers (of links, of ranks) as bits of an integer.

    >>> mask_of(np.array([0, 3]))
    9
    """
    return _mask_of(numbers.tobytes())  # most exchanges of a group load the same ones


@lru_cache(maxsize=1024)
def _mask_of(numbers: bytes) -> int:
    places = np.frombuffer(numbers, dtype=np.intp)
    bits = np.zeros(int(places.max()) + 1 if places.size else 0, dtype=np.uint8)
    bits[places] = 1
    return int.from_bytes(np.packbits(bits, bitorder="little").tobytes(), "little")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TimedKernel:
    """One kernel on every rank of a lane."""

    kind: str
    """Category of the account of time."""
    layer: int
    """Layer, or NO_LAYER."""
    duration_ns: IntArray
    """Time on each rank. Shape [R]."""
    flops: float
    """FLOPs of all ranks together."""
    is_weight_gradient: bool = False
    """Whether it makes gradients of weights, which a pass W may run apart."""
    mean_ns: int = field(init=False)
    """Mean time of the ranks."""

    def __post_init__(self) -> None:
        mean_ns = round(int(np.add.reduce(self.duration_ns)) / self.duration_ns.size)  # `mean` takes four times as long
        object.__setattr__(self, "mean_ns", mean_ns)


class ExpertTokens(NamedTuple):
    """Copies of tokens in one exchange of a layer, as experts' ranks get them and as sources have them."""

    computed: IntArray
    """Copies that each rank computes. Shape [R]."""
    rows: IntArray
    """Copies with padding: rows of the tensors that each rank has. Shape [R]."""
    num_routed: int
    """Copies of all sources, those included that are dropped."""
    sent_over_mean: float = 1.0
    """Most rows that a source sends, padding included, over the mean of the copies that sources have."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Compute:
    """Kernels that follow each other on each rank without meeting other ranks."""

    kernels: tuple[TimedKernel, ...]
    """Kernels in the order in which they run."""
    tokens_routed: int = 0
    """Copies of tokens that a router here sends to experts, counted at their sources."""
    expert_tokens: ExpertTokens | None = None
    """Copies of tokens that expert kernels here compute, on each rank where they arrived."""
    tokens_dropped: int = 0
    """Copies of tokens that the router here drops, for their expert has no room."""
    tokens_rerouted: int = 0
    """Copies of tokens that the router here sends to another expert, for their own has no room."""
    tokens_padded: int = 0
    """Empty rows that experts compute in addition to those copies."""
    issue_ns: tuple[int, ...] = ()
    """Time of the host to issue each kernel; empty: nobody has said, which is no time."""
    total_ns: IntArray = field(init=False)
    """Time on each rank. Shape [R]."""
    slowest: int = field(init=False)
    """The rank that takes longest, by its place in the lane."""
    slowest_ns: tuple[int, ...] = field(init=False)
    """Time of each kernel on that rank."""

    def __post_init__(self) -> None:
        total_ns = np.add.reduce([kernel.duration_ns for kernel in self.kernels])
        slowest = int(total_ns.argmax())
        object.__setattr__(self, "total_ns", total_ns)
        object.__setattr__(self, "slowest", slowest)
        object.__setattr__(self, "slowest_ns", tuple(int(kernel.duration_ns[slowest]) for kernel in self.kernels))

    def part(self, first: int, end: int) -> "Compute":
        """Return the kernels from `first` to before `end`, as they are when issued; tokens count in the first part."""
        kernels = self.kernels[first:end]
        if first == 0:
            return replace(self, kernels=kernels, issue_ns=())
        return Compute(kernels=kernels)


@dataclass(frozen=True, slots=True, kw_only=True)
class RendezvousKey:
    """A collective that several lanes enter together."""

    key: tuple[object, ...]
    """Value that is equal for all lanes of the rendezvous, and for no other rendezvous."""
    members: tuple[tuple[int, int], ...]
    """(stage, lane) of all lanes that must enter."""
    is_barrier: bool = False
    """Whether nothing is sent: the lanes only wait for each other."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Collective:
    """Transfers that start together and that the lane waits for, or starts on a stream."""

    kind: str
    """Category of the account of time."""
    layer: int
    """Layer, or NO_LAYER."""
    transfers: tuple[Transfer, ...]
    """One for each group; with `rendezvous`, the groups whose first rank is in this lane."""
    rendezvous: RendezvousKey | None = None
    """Which lanes enter it together, where groups reach over lanes."""
    stream: str | None = None
    """Stream of the lane on which the transfers run, after those that were started there before; None: the lane waits
    for them."""
    label: Hashable = None
    """Name by which an `AwaitStream` finds this collective on its stream, in this pass or a later one."""
    issue_ns: int | None = None
    """Time of the host to issue it; None: nobody has said, which is no time."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AwaitStream:
    """The lane goes on when a collective that it has started on a stream has ended."""

    stream: str
    """Stream of the lane."""
    layer: int
    """Layer, or NO_LAYER."""
    label: Hashable = None
    """Label of the collective, which must have been started; None: the last that this lane has started there, if it has
    started any (of a pair of passes: that this pass or a step before the pair has started)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HostWork:
    """The host works before it issues what follows."""

    layer: int
    """Layer, or NO_LAYER."""
    work_ns: int = 0
    """Time that it works."""
    waits: bool = False
    """Whether the host first waits until the lane has come here: it loses its lead."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Service:
    """Expert kernels on the ranks that hold the experts, whichever stage those work for."""

    kind: str
    """Category of the account of time."""
    layer: int
    """Number of the layer in the model, from 0."""
    ranks: NDArray[np.intp]
    """Ranks that serve. Shape [S]."""
    duration_ns: IntArray
    """Time on each; 0 where no token came. Shape [S]."""
    flops: NDArray[np.float64]
    """FLOPs on each. Shape [S]."""
    expert_tokens: ExpertTokens | None = None
    """Copies of tokens that are computed here, on each rank; None in passes that do not count."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Send:
    """A transfer to another stage; nobody on the sending side waits for it, unless it blocks."""

    target: tuple[int, int]
    """(stage, lane) that receives."""
    key: Input
    """Output of a pass that the transfer carries."""
    transfer: Transfer
    blocks: bool = False
    """Whether the sender goes on only when the transfer has ended."""


Op = Compute | Collective | AwaitStream | HostWork | Service
"""What a lane runs."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ConcurrentPasses:
    """Passes that a lane runs at the same time, each one's ops one after another: they share its ranks and links."""

    sides: tuple[tuple[Pass, tuple[Op, ...]], ...]
    """The passes, each with its ops."""


def scaled(op: Op, factor: NDArray[np.float64] | np.float64, of_servers: NDArray[np.float64] | np.float64) -> Op:
    """Return an op whose kernels take a factor of their time, in whole nanoseconds; transfers and waits stay.

    Parameters
    ----------
    op
        The op.
    factor
        Of kernels on the lane's own ranks: one factor, or one of each rank. Shape [R].
    of_servers
        Of kernels of a `Service`: one factor, or one of each serving rank. Shape [S].
    """
    if isinstance(op, Compute):
        kernels = (replace(kernel, duration_ns=_times(kernel.duration_ns, factor)) for kernel in op.kernels)
        return replace(op, kernels=tuple(kernels))
    if isinstance(op, Service):
        return replace(op, duration_ns=_times(op.duration_ns, of_servers))
    return op


def in_layer(op: Op, layer: int) -> Op:
    """Return an op of a layer as that of another layer, which is alike.

    >>> kernel = TimedKernel(kind="attention", layer=0, duration_ns=np.array([3, 4]), flops=2.0)
    >>> in_layer(Compute(kernels=(kernel,)), 5).kernels[0].layer
    5
    """
    if isinstance(op, Compute):
        return _changed(op, "kernels", tuple(_changed(kernel, "layer", layer) for kernel in op.kernels))
    return _changed(op, "layer", layer)


def _changed(value: _Changed, name: str, new: object) -> _Changed:
    """Return a value with another field on which no other field depends: `replace` would work them all out again."""
    copy = object.__new__(type(value))
    names, values_of = _fields(type(value))  # type: ignore[arg-type]  # a class has a hash
    for field_, old in zip(names, values_of(value), strict=True):
        _set(copy, field_, old)
    _set(copy, name, new)
    return copy


@cache
def _fields(kind: Hashable) -> tuple[tuple[str, ...], Callable[[Any], tuple[Any, ...]]]:
    """Return the names of the fields of a dataclass, and what reads them all from a value."""
    names = tuple(field_.name for field_ in fields(cast("type[Compute]", kind)))
    return names, attrgetter(*names)


def by_rank(ops: Sequence[Op], of_rank: NDArray[np.intp]) -> Op:
    """Return an op in which each rank takes the times of one of several ops, which differ in nothing but times.

    Parameters
    ----------
    ops
        The ops.
    of_rank
        Which of them each rank takes. Shape [R].
    """
    first, ranks = ops[0], np.arange(of_rank.size)
    if not isinstance(first, Compute):
        return first
    share = np.bincount(of_rank, minlength=len(ops)) / of_rank.size
    kernels = []
    for at, kernel in enumerate(first.kernels):
        same = [op.kernels[at] for op in ops if isinstance(op, Compute)]
        duration_ns = np.stack([one.duration_ns for one in same])[of_rank, ranks]
        flops = sum(float(part) * one.flops for part, one in zip(share, same, strict=True))
        kernels.append(replace(kernel, duration_ns=duration_ns, flops=flops))
    return replace(first, kernels=tuple(kernels))


def _times(duration_ns: IntArray, factor: NDArray[np.float64] | np.float64) -> IntArray:
    return np.rint(duration_ns * factor).astype(np.int64)


def inputs_of(layout: ChunkLayout, stage: int, step: Step) -> tuple[Input, ...]:
    """Return the outputs that a step needs before it opens; a pair needs those of both its passes.

    F of a model chunk needs F of the chunk before; B needs its own F and B of the chunk after; W needs its own B.

    >>> inputs_of(ChunkLayout(kind="row", num_stages=2), 0, Pass("B", 3))
    (Input(stage=0, kind='F', microbatch=3, chunk=0), Input(stage=1, kind='B', microbatch=3, chunk=0))
    """
    return tuple(
        Input(source, *needed) for pass_ in passes_of(step) for source, needed in layout.dependencies(stage, pass_)
    )


def target_of(layout: ChunkLayout, stage: int, pass_: Pass) -> int | None:
    """Return the stage to which the output of a pass is sent; None where the output stays on the stage or ends.

    >>> row = ChunkLayout(kind="row", num_stages=2)
    >>> target_of(row, 0, Pass("F", 0)), target_of(row, 0, Pass("B", 0))
    (1, None)
    """
    target = layout.receiver(stage, pass_)
    return None if target is None or target.stage == stage else target.stage
