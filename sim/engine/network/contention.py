"""The manager of contention components, which both networks have in common: who meets whom, and what starts and ends.

Model
-----
Transfers that start together are a *batch*. Transfers that share links, directly or over others, form a *contention
component*. A transfer that meets others joins their components into one; when a transfer has ended, what is left falls
apart into smaller components. Only a component in which something has started or ended is solved again. What solving
means is the network's:

    sim.engine.network.fluid     a rate for each transfer
    sim.engine.network.flows     each flow of the transfers to its end

Sets of links are bits of integers (`sim.engine.network.linkset`): two of them meet where their `&` is not 0.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from typing import ClassVar, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
import simpy
from numpy.typing import NDArray

from sim.engine.clock import SOLVE_PRIORITY, Alarm, Clock, Signal
from sim.engine.network.linkset import LinkSet, LinkUsers, link_set, link_users
from sim.engine.network.linkuse import TransferLog
from sim.engine.trace import LinkUse
from sim.errors import SimulationError
from sim.plan.ops import Transfer
from topology.links import SharedLinks, SharedLoad

__all__ = ["Batch", "Component", "ContentionNetwork", "Member", "NoOccupancy", "Occupancy", "refuse_dead_links"]

FloatArray = NDArray[np.float64]
_KNOWN = 1024
"""Transfers whose places are kept, for equal transfers come again."""


class Batch:
    """Transfers that started together; `done` fires when all have ended."""

    __slots__ = ("done", "end_ns", "start_ns", "transfers", "waiting")

    def __init__(self, transfers: Sequence[Transfer], start_ns: int, done: Signal) -> None:
        self.transfers = transfers
        self.start_ns = start_ns
        self.end_ns = [start_ns] * len(transfers)
        self.waiting = len(transfers)
        self.done = done


class Occupancy(Protocol):
    """The account of the SMs that transfers take: the network reports each transfer that takes some."""

    def begin(self, transfer: Transfer) -> None:
        """Note that a transfer takes its SMs from now on: its kernels wait for the first bytes on them."""
        ...

    def end(self, transfer: Transfer) -> None:
        """Note that a transfer has ended."""
        ...


class NoOccupancy:
    """The account of a plan that gives no number of SMs: it refuses transfers that take some."""

    def begin(self, transfer: Transfer) -> None:
        """Refuse: kernels would run as if the transfer took none."""
        raise SimulationError(
            f"plan: num_sms must be the SMs of a rank where transfers take some, and is None (a transfer takes "
            f"{transfer.num_sms} on rank {transfer.ranks[0]}). Give the device's number, or let transfers take none."
        )

    def end(self, transfer: Transfer) -> None:
        """Do nothing: none has begun."""


class Member:
    """A transfer in a component."""

    __slots__ = ("batch", "links", "position", "transfer")

    def __init__(self, batch: Batch, position: int, links: LinkSet) -> None:
        self.batch, self.position, self.links = batch, position, links
        self.transfer = batch.transfers[position]


_M = TypeVar("_M", bound=Member)
_S = TypeVar("_S")


class Component(Generic[_M, _S]):
    """Transfers that share links, directly or over others."""

    __slots__ = ("alarm", "is_stale", "is_whole", "links", "members", "since_ns", "solution")

    def __init__(self, members: list[_M], links: LinkSet, since_ns: int) -> None:
        self.members, self.links, self.since_ns = members, links, since_ns
        self.solution: _S | None = None  # of its members as they were solved last
        self.alarm: simpy.Event | None = None
        self.is_stale = False
        self.is_whole = True  # no member has left that may have connected the others


class _Place(NamedTuple):
    """The links of a transfer."""

    links: LinkSet
    """Those on which it meets others."""
    is_dead: bool
    """Whether one of them is without capacity."""
    capacity: FloatArray
    """Of all its links. Shape [K]."""
    narrow: NDArray[np.intp]
    """Which of these are links on which it meets others. Shape [F]."""
    columns: NDArray[np.intp]
    """Numbers of those among all such links. Shape [F]."""


class ContentionNetwork(ABC, Generic[_M, _S]):
    """Active transfers and the links they share."""

    _is_eager: ClassVar[bool]
    """Whether a component is solved at once where nothing else starts now, and keeps its place in their order."""

    def __init__(
        self,
        clock: Clock,
        capacity: FloatArray,
        link_names: Sequence[str],
        log: TransferLog,
        *,
        meets_on: NDArray[np.bool_],
        count: Callable[[Transfer], int] | None = None,
    ) -> None:
        """Simulate links of `capacity` [L], of which transfers meet on some [L]; a transfer counts `count` times."""
        self._env = clock.env
        self._capacity, self._names, self._meets_on, self._count = capacity, link_names, meets_on, count
        self._column = np.cumsum(meets_on) - 1  # of a link among those on which transfers meet
        self._places: dict[bytes | SharedLinks, _Place] = {}
        self._place_of_links: dict[int, tuple[NDArray[np.intp], _Place]] = {}  # by the identity of an array of links
        self._place_of: dict[Transfer, _Place] = {}
        self._busy = link_set(np.flatnonzero(capacity <= 0), capacity.size)  # without capacity they are never free
        self._components: LinkUsers[Component[_M, _S]] = link_users(capacity.size)
        self._stale: list[Component[_M, _S]] = []
        self._log, self._ended = log, list[Transfer]()
        self.occupancy: Occupancy = NoOccupancy()
        self.bytes_sent = 0.0
        self.bytes_received = 0.0

    def begin(self, transfers: Sequence[Transfer]) -> Batch:
        """Start `transfers` now; the batch's `done` event fires when the last of them has ended."""
        batch = Batch(transfers, self._env.now, Signal(self._env))
        if not transfers:
            batch.done.fire_later()
        self._wait_latencies(batch)
        for transfer in transfers:
            self.bytes_sent += transfer.total_bytes if self._count is None else self._bytes_of_all(transfer)
            if transfer.num_sms:
                self.occupancy.begin(transfer)
        return batch

    def link_use(self, *, with_timeline: bool = True) -> LinkUse:
        """Return what the links have carried so far."""
        self._log_ended()
        return self._log.summary(with_timeline=with_timeline)

    def num_ended(self) -> dict[Transfer, int]:
        """Return how often each transfer has ended."""
        self._log_ended()
        return self._log.num_ended()

    def forget(self) -> None:
        """Forget what the links have carried."""
        self._ended.clear()
        self._log.clear()

    # ---- what solving means --------------------------------------------------------------------------------------

    @abstractmethod
    def _wait_latencies(self, batch: Batch) -> None:
        """Set the alarms at which the transfers of a batch start to flow."""

    @abstractmethod
    def _advance(self, component: Component[_M, _S]) -> None:
        """Move a component's transfers on to now."""

    @abstractmethod
    def _share(self, component: Component[_M, _S]) -> None:
        """Solve a component, and set the time of its next end."""

    # ---- components ----------------------------------------------------------------------------------------------

    def _merge(self, members: list[_M], components: Sequence[Component[_M, _S]]) -> None:
        """Make one component of `members` and `components`, to be solved when all that starts now has started."""
        for component in components:
            self._advance(component)
            self._remove(component)
            component.alarm, component.is_stale = None, False
            members = [*component.members, *members]
        links = members[0].links
        for member in members:
            links |= member.links
        self._mark(self._add_component(members, links))

    def _add_component(self, members: list[_M], links: LinkSet) -> Component[_M, _S]:
        component: Component[_M, _S] = Component(members, links, self._env.now)
        self._components[component] = None
        self._busy |= links
        return component

    def _remove(self, component: Component[_M, _S]) -> None:
        del self._components[component]
        self._busy ^= component.links  # those of members that have ended too

    def _mark(self, component: Component[_M, _S]) -> None:
        """Let a component be solved again."""
        component.alarm = None
        if component.is_stale:
            return
        queue = self._env._queue
        if self._is_eager and not self._stale and (not queue or queue[0][0] > self._env.now):  # nothing else starts now
            self._solve_one(component)
            return
        component.is_stale = True
        if not self._stale:
            Alarm(self._env, 0, self._solve, SOLVE_PRIORITY)
        self._stale.append(component)

    def _solve(self, _: simpy.Event) -> None:
        """Solve all components in which something changed."""
        stale, self._stale = self._stale, []
        for component in stale:
            if component.is_stale:  # and not merged into another since
                self._solve_one(component)

    def _solve_one(self, component: Component[_M, _S]) -> None:
        component.is_stale = False
        if component.is_whole and self._is_eager:
            self._share(component)
            return
        self._remove(component)
        if not component.members:
            return
        for members, links in _components_of(component.members):
            self._share(self._add_component(members, links))

    # ---- transfers -----------------------------------------------------------------------------------------------

    def _finish(self, batch: Batch, position: int) -> None:
        transfer = batch.transfers[position]
        self.bytes_received += transfer.total_bytes if self._count is None else self._bytes_of_all(transfer)
        batch.end_ns[position] = self._env.now
        self._ended.append(transfer)
        if transfer.num_sms:
            self.occupancy.end(transfer)
        batch.waiting -= 1
        if batch.waiting == 0:
            batch.done.fire()

    def _log_ended(self) -> None:
        for transfer, count in Counter(self._ended).items():
            self._log.end(transfer, count)
        self._ended.clear()

    def _place(self, transfer: Transfer) -> _Place:
        """Return the links of a transfer; most exchanges of a group use the same ones."""
        place = self._place_of.get(transfer)
        if place is None:
            if len(self._place_of) >= _KNOWN:
                self._place_of.clear()
            place = self._place_of[transfer] = self._find_place(transfer)
        return place

    def _find_place(self, transfer: Transfer) -> _Place:
        load = transfer.load
        known = self._place_of_links.get(id(load.links))
        if known is not None:
            return known[1]
        links = load.links
        key = load.shared if isinstance(load, SharedLoad) else links.tobytes()
        place = self._places.get(key)
        if place is None:
            narrow, capacity = np.flatnonzero(self._meets_on[links]), self._capacity[links]
            columns, is_dead = self._column[links[narrow]], bool((capacity <= 0).any())
            meets_on = link_set(links[narrow], self._capacity.size)
            place = self._places[key] = _Place(meets_on, is_dead, capacity, narrow, columns)
        if len(self._place_of_links) >= _KNOWN:
            self._place_of_links.clear()
        self._place_of_links[id(links)] = links, place  # with the array: no other can have its identity
        return place

    def _bytes_of_all(self, transfer: Transfer) -> float:
        """Return the bytes of all transfers that a transfer stands for."""
        return transfer.total_bytes * (1 if self._count is None else self._count(transfer))


def _components_of(members: list[_M]) -> list[tuple[list[_M], LinkSet]]:
    """Return the members that share links, directly or over others, with the links of each component."""
    if len(members) == 1:
        return [(members, members[0].links)]
    if len(members) == 2:
        first, second = members
        if first.links & second.links:
            return [(members, first.links | second.links)]
        return [([first], first.links), ([second], second.links)]
    components: list[tuple[list[_M], LinkSet]] = []
    for member in members:
        links, together, apart = member.links, [member], []
        for component in components:
            if component[1] & links:
                links |= component[1]
                together = [*component[0], *together]
            else:
                apart.append(component)
        components = [*apart, (together, links)]
    return components


def refuse_dead_links(transfer: Transfer, capacity: NDArray[np.float64], names: Sequence[str], now_ns: int) -> None:
    """Raise SimulationError for a transfer over links without capacity, and name them."""
    dead = [names[link] for link in transfer.load.links if capacity[link] <= 0]
    raise SimulationError(
        f"network: every link of a transfer must have capacity above 0, and {', '.join(dead[:3]) or 'a link'} has none "
        f"(transfer of {transfer.total_bytes:.0f} bytes at {now_ns} ns). Remove the link or repair it."
    )
