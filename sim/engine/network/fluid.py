"""The fluid network: transfers wait their latency, then share links max-min fairly until their bytes are through.

Model
-----
A transfer of latency a and flow size f runs at r bytes/s per flow, as `sim.engine.network.maxmin` solves it, with

    flows on a link = bytes on the link / f
    r              <= most_bytes_per_s          of transfers whose SMs bound it: a private link each

Rates change only when a transfer starts or ends. Waiting for the latency uses no link. An end is rounded up to a whole
nanosecond; of transfers that share links, directly or over others, all with less than one left end in the same event.

How it is fast
--------------
Links that others keep from ever being full (`Cluster.can_saturate`) hold no flow back and are left out of sharing.
Transfers that share no other link never meet: each is *alone*, its end is known when it begins, and it costs one event.
Transfers that meet form a *component*, connected by shared links; only a component in which something starts or ends is
solved again, and a component falls apart into smaller ones when its links do. Links are bits of integers
(`sim.engine.network.linkset`), so that two sets of links meet where an `&` is not 0. Alone and components are disjoint
at all times. The tests keep a plain network, which solves everything at every change, as the oracle.

Assumptions
-----------
Latency is not stretched by load. Flows of one transfer progress together (`bulk`).
"""

import math
from collections.abc import Sequence
from functools import partial, reduce
from operator import or_
from typing import Final, NamedTuple

import numpy as np
import simpy
from numpy.typing import NDArray

from sim.engine.clock import SOLVE_PRIORITY, Alarm, Clock, Signal
from sim.engine.network.batch import Batch, NoOccupancy, Occupancy, contention_components, refuse_dead_links
from sim.engine.network.linkset import BusyLinks, LinkSet, LinkUsers
from sim.engine.network.linkuse import LinkLog
from sim.engine.network.maxmin import bounded_rows, few_max_min_rates
from sim.engine.trace import LinkUse
from sim.plan.folding import Folding
from sim.plan.ops import Transfer
from sim.time import to_ns
from topology.links import SharedLinks, SharedLoad

__all__ = ["FluidNetwork"]

FloatArray = NDArray[np.float64]
_Group = tuple[Sequence[int], LinkSet | None, int, int]
"""Transfers of a batch, see `FluidNetwork._groups_of_equal_time`."""
_KNOWN = 1024
"""Rates and rows that are kept, for equal sets of transfers come again."""
_KNOWN_GROUPS = 256
"""Batches of several transfers whose groups are kept."""
_DENSE: Final = 1024
"""Links up to which a row has all of them: with more, rows are cut to the links of their component."""


class _Place(NamedTuple):
    """The links of a transfer that can saturate, and those without capacity."""

    links: LinkSet
    is_dead: bool
    """Whether the transfer uses a link without capacity."""
    capacity: FloatArray
    """Of all its links. Shape [K]."""
    narrow: NDArray[np.intp]
    """Which of these can saturate. Shape [F]."""
    columns: NDArray[np.intp]
    """Numbers of those among all links that can. Shape [F]."""


class _Row(NamedTuple):
    """Seconds that links need for a byte of each of a transfer's flows."""

    each: FloatArray
    """On each link of the cluster that can saturate; in a large cluster, on each of `columns` alone. Shape [F]."""
    columns: NDArray[np.intp] | None
    busiest: float
    """On the link that takes longest, its own bound among them: a byte of each flow when nothing else flows."""


class _Alone:
    """Transfers of one batch that flow in the same time and share no link with any other."""

    __slots__ = ("alarm", "batch", "links", "positions", "since_ns")

    def __init__(self, batch: Batch, positions: Sequence[int], links: LinkSet, since_ns: int) -> None:
        self.batch, self.positions, self.links, self.since_ns = batch, positions, links, since_ns
        self.alarm: simpy.Event | None = None


class _Member:
    """A transfer in a component."""

    __slots__ = ("batch", "position", "rate", "remaining", "row", "transfer")

    def __init__(self, batch: Batch, position: int, row: _Row, remaining: float) -> None:
        self.transfer = batch.transfers[position]
        self.batch, self.position, self.row, self.remaining = batch, position, row, remaining
        self.rate = 0.0


class _ContentionComponent:
    """Transfers that share links, directly or over others."""

    __slots__ = ("alarm", "is_stale", "is_whole", "last_ns", "links", "members", "rates", "transfers")

    def __init__(self, members: list[_Member], links: LinkSet, last_ns: int) -> None:
        self.members, self.links, self.last_ns = members, links, last_ns
        self.transfers: tuple[Transfer, ...] = ()  # as they were solved last
        self.rates: list[float] = []
        self.alarm: simpy.Event | None = None
        self.is_stale = False
        self.is_whole = True  # no member has left that may have connected the others


class FluidNetwork:
    """Active transfers and the links they share."""

    def __init__(
        self,
        clock: Clock,
        capacity: FloatArray,
        link_names: Sequence[str],
        link_kinds: Sequence[str],
        *,
        can_saturate: NDArray[np.bool_] | None = None,
        folding: Folding | None = None,
    ) -> None:
        """Simulate links of `capacity` [L]; those that not `can_saturate` [L] hold no flow back (None: all can).

        With `folding` a transfer counts as often as its lane does.
        """
        self._env = clock.env
        self._capacity, self._names = capacity, link_names
        self._can_saturate = (
            np.ones(capacity.size, dtype=np.bool_) if can_saturate is None else can_saturate | (capacity <= 0)
        )
        self._column = np.cumsum(self._can_saturate) - 1  # of a link that can saturate, in the rows
        self._num_columns = int(self._can_saturate.sum())
        self._places: dict[bytes | SharedLinks, _Place] = {}
        self._place_of: dict[Transfer, _Place] = {}
        self._busy = BusyLinks(LinkSet.of(np.flatnonzero(capacity <= 0)))  # without capacity they are never free
        self._alone = LinkUsers[_Alone]()
        self._components = LinkUsers[_ContentionComponent]()
        self._stale: list[_ContentionComponent] = []
        self._known: dict[tuple[Transfer, ...], list[float]] = {}
        self._groups: dict[tuple[Transfer, ...], list[_Group]] = {}
        self._has_bounds = False
        self._rows: dict[Transfer, _Row] = {}
        self._log = LinkLog(
            capacity, link_names, link_kinds, self._can_saturate, None if folding is None else folding.load
        )
        self._count = None if folding is None else folding.count
        self.occupancy: Occupancy = NoOccupancy()
        self.num_solves = 0
        self.bytes_sent = 0.0
        self.bytes_received = 0.0

    def begin(self, transfers: Sequence[Transfer]) -> Batch:
        """Start `transfers` now; the batch's `done` event fires when the last of them has ended."""
        now_ns = self._env.now
        batch = Batch(transfers, now_ns, Signal(self._env))
        if not transfers:
            batch.done.fire_later()
        for positions, links, latency_ns, alone_ns in self._groups_of_equal_time(transfers):
            if links is not None and not self._busy & links:
                self._go_alone(_Alone(batch, positions, links, now_ns + latency_ns), latency_ns + alone_ns)
            else:
                for position in positions:
                    Alarm(self._env, latency_ns, partial(self._start_to_flow, batch, position))
        for transfer in transfers:
            self.bytes_sent += transfer.total_bytes if self._count is None else self._bytes_of_all(transfer)
            if transfer.num_sms:
                self.occupancy.begin(transfer)
        return batch

    def link_use(self, *, with_timeline: bool = True) -> LinkUse:
        """Return what the links have carried so far."""
        return self._log.summary(with_timeline=with_timeline)

    def num_ended(self) -> dict[Transfer, int]:
        """Return how often each transfer has ended."""
        return self._log.num_ended()

    def forget(self) -> None:
        """Forget what the links have carried."""
        self._log.clear()

    # ---- alone ---------------------------------------------------------------------------------------------------

    def _go_alone(self, alone: _Alone, ends_in_ns: int) -> None:
        self._busy.add(alone.links)
        self._alone.add(alone)
        alone.alarm = Alarm(self._env, ends_in_ns, partial(self._end_alone, alone))

    def _end_alone(self, alone: _Alone, event: simpy.Event) -> None:
        if alone.alarm is not event:
            return  # it has met others since
        self._leave_alone(alone)
        for position in alone.positions:
            self._finish(alone.batch, position)

    def _leave_alone(self, alone: _Alone) -> None:
        alone.alarm = None
        self._alone.remove(alone)
        self._busy.remove(alone.links)
        if alone.since_ns < self._env.now:
            transfers = alone.batch.transfers
            if len(alone.positions) < len(transfers):
                transfers = [transfers[position] for position in alone.positions]
            self._log.add(alone.since_ns, self._env.now, transfers)

    # ---- meeting -------------------------------------------------------------------------------------------------

    def _start_to_flow(self, batch: Batch, position: int, _: simpy.Event) -> None:
        """Let a transfer flow after its latency, alone or with the transfers that it meets."""
        transfer, now_ns = batch.transfers[position], self._env.now
        place = self._place(transfer)
        if place.is_dead:
            refuse_dead_links(transfer, self._capacity, self._names, now_ns)
        links = place.links
        is_met = self._busy & links
        met = self._alone.meeting(links) if is_met else []
        components = self._components.meeting(links) if is_met else []
        for alone in met:
            self._leave_alone(alone)
        flowing = [alone for alone in met if alone.since_ns <= now_ns]
        for alone in met:
            if alone.since_ns > now_ns:  # it has not begun to flow: it joins when it does
                for other in alone.positions:
                    Alarm(self._env, alone.since_ns - now_ns, partial(self._start_to_flow, alone.batch, other))
        if not flowing and not components:
            self._go_alone(_Alone(batch, (position,), links, now_ns), transfer.alone_ns)
            return
        member = _Member(batch, position, self._row(transfer), transfer.flow_bytes)
        if len(components) == 1 and not flowing:
            self._add(components[0], member, links)
        else:
            self._merge([*self._absorbed(flowing), member], components)

    def _absorbed(self, alone: Sequence[_Alone]) -> list[_Member]:
        """Return transfers that were alone as members of a component, with what is left of them."""
        members = []
        for group in alone:
            elapsed_s = (self._env.now - group.since_ns) * 1e-9
            for position in group.positions:
                transfer = group.batch.transfers[position]
                row = self._row(transfer)
                members.append(_Member(group.batch, position, row, transfer.flow_bytes - elapsed_s / row.busiest))
        return members

    def _add(self, component: _ContentionComponent, member: _Member, links: LinkSet) -> None:
        """Let a transfer flow with those of a single component."""
        self._advance(component)
        component.members.append(member)
        self._components.extend(component, links)
        self._busy.add(links)
        self._mark(component)

    def _merge(self, members: list[_Member], components: Sequence[_ContentionComponent]) -> None:
        """Make one component of `members` and `components`, to be solved when all that starts now has started."""
        for component in components:
            self._advance(component)
            self._components.remove(component)
            self._busy.remove(component.links)  # of those that have ended too
            component.alarm, component.is_stale = None, False
            members = [*component.members, *members]
        links = reduce(or_, map(self._links_of, members))
        component = _ContentionComponent(members, links, self._env.now)
        self._components.add(component)
        self._busy.add(links)
        self._mark(component)

    # ---- components ----------------------------------------------------------------------------------------------

    def _mark(self, component: _ContentionComponent) -> None:
        component.alarm = None
        if not component.is_stale:
            if not self._stale and self._env.peek() > self._env.now:  # nothing else starts now
                self._solve_one(component)
                return
            component.is_stale = True
            if not self._stale:
                Alarm(self._env, 0, self._solve, SOLVE_PRIORITY)
            self._stale.append(component)

    def _advance(self, component: _ContentionComponent) -> None:
        """Move a component's transfers on to now."""
        now_ns = self._env.now
        elapsed_ns = now_ns - component.last_ns
        if elapsed_ns and component.rates:
            self._log.add(
                component.last_ns, now_ns, component.transfers, component.rates if len(component.rates) > 1 else None
            )
            for member in component.members:
                member.remaining -= member.rate * elapsed_ns * 1e-9
        component.last_ns = now_ns

    def _solve(self, _: simpy.Event) -> None:
        """Share the links of all components in which something changed, and set the times of their next ends."""
        stale, self._stale = self._stale, []
        for component in stale:
            if component.is_stale:  # and not merged into another since
                self._solve_one(component)

    def _solve_one(self, component: _ContentionComponent) -> None:
        component.is_stale = False
        if component.is_whole:
            self._share(component)
            return
        self._components.remove(component)
        self._busy.remove(component.links)
        for members, links in self._components_of(component.members):
            smaller = _ContentionComponent(members, links, self._env.now)
            self._components.add(smaller)
            self._busy.add(links)
            self._share(smaller)

    def _components_of(self, members: list[_Member]) -> list[tuple[list[_Member], LinkSet]]:
        """Return the members that share links, directly or over others, with the links of each component."""
        if len(members) == 1:  # the usual case
            return [(members, self._links_of(members[0]))]
        return contention_components(members, self._links_of)

    def _share(self, component: _ContentionComponent) -> None:
        """Find the rates of a component, and set the time of its next end."""
        component.transfers = tuple([member.transfer for member in component.members])
        component.rates = self._rates(component)
        left_s = math.inf
        for member, rate in zip(component.members, component.rates, strict=True):
            member.rate = rate
            needs_s = member.remaining / rate
            left_s = min(left_s, needs_s)
        component.alarm = Alarm(self._env, to_ns(max(left_s, 0.0)), partial(self._end_some, component))

    def _end_some(self, component: _ContentionComponent, event: simpy.Event) -> None:
        if component.alarm is not event:
            return  # rates changed since it was set
        self._advance(component)
        ended = [member for member in component.members if member.remaining < member.rate * 1e-9]
        component.members = [member for member in component.members if member.remaining >= member.rate * 1e-9]
        component.alarm, component.is_whole = None, False
        self._solve_one(component)  # before those who waited begin anew: latency keeps what they begin off the links
        for member in ended:
            self._finish(member.batch, member.position)

    def _rates(self, component: _ContentionComponent) -> list[float]:
        if len(component.members) == 1:
            return [1.0 / component.members[0].row.busiest]
        rates = self._known.get(component.transfers)
        if rates is None:
            self.num_solves += 1
            rates = self.solved_rates(component.transfers, _rows_together([member.row for member in component.members]))
            if len(self._known) >= _KNOWN:
                self._known.clear()
            self._known[component.transfers] = rates
        return rates

    def solved_rates(self, transfers: Sequence[Transfer], rows: Sequence[FloatArray]) -> list[float]:
        """Return the rate per flow of transfers that share links, from their rows (see `_Row`)."""
        if self._has_bounds:
            rows = bounded_rows(rows, [transfer.most_bytes_per_s for transfer in transfers])
        return few_max_min_rates(rows)

    def _row(self, transfer: Transfer) -> _Row:
        row = self._rows.get(transfer)
        if row is None:
            self._has_bounds |= transfer.most_bytes_per_s < math.inf
            place = self._place(transfer)
            loaded = transfer.load.num_bytes / transfer.flow_bytes / place.capacity
            each, columns = loaded, None
            if self._num_columns > _DENSE:
                each, columns = loaded[place.narrow], place.columns
            elif not place.columns.size == self._num_columns == self._capacity.size:
                each = np.zeros(self._num_columns)
                each[place.columns] = loaded[place.narrow]
            busiest = max(float(np.maximum.reduce(loaded)), 1.0 / transfer.most_bytes_per_s)
            row = _Row(each, columns, busiest)
            if len(self._rows) >= _KNOWN:
                self._rows.clear()
            self._rows[transfer] = row
        return row

    def _finish(self, batch: Batch, position: int) -> None:
        transfer = batch.transfers[position]
        self.bytes_received += transfer.total_bytes if self._count is None else self._bytes_of_all(transfer)
        batch.end_ns[position] = self._env.now
        self._log.end(transfer)
        if transfer.num_sms:
            self.occupancy.end(transfer)
        batch.waiting -= 1
        if batch.waiting == 0:
            batch.done.fire()

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
        key = load.shared if isinstance(load, SharedLoad) else load.links.tobytes()
        place = self._places.get(key)
        if place is None:
            links = load.links
            narrow, capacity = np.flatnonzero(self._can_saturate[links]), self._capacity[links]
            columns, is_dead = self._column[links[narrow]], bool((capacity <= 0).any())
            place = self._places[key] = _Place(LinkSet.of(links[narrow]), is_dead, capacity, narrow, columns)
        return place

    def _links_of(self, member: _Member) -> LinkSet:
        return self._place(member.transfer).links

    def _groups_of_equal_time(self, transfers: Sequence[Transfer]) -> list[_Group]:
        """Return groups of transfers of equal time: positions, links (None: some are shared), latency, time alone."""
        if len(transfers) == 1:
            transfer = transfers[0]
            return [((0,), self._place(transfer).links, transfer.latency_ns, transfer.alone_ns)]
        key = tuple(transfers)
        known = self._groups.get(key)
        if known is None:
            if len(self._groups) >= _KNOWN_GROUPS:
                self._groups.clear()
            known = self._groups[key] = self._find_groups(transfers)
        return known

    def _find_groups(self, transfers: Sequence[Transfer]) -> list[_Group]:
        groups: dict[tuple[int, int], list[int]] = {}
        for position, transfer in enumerate(transfers):
            groups.setdefault((transfer.latency_ns, transfer.alone_ns), []).append(position)
        result: list[_Group] = []
        taken = BusyLinks(LinkSet({}))
        for (latency_ns, alone_ns), positions in groups.items():
            own = [self._place(transfers[position]).links for position in positions]
            is_disjoint = True
            for links in own:
                is_disjoint &= not taken & links
                taken.add(links)
            result.append((positions, reduce(or_, own) if is_disjoint else None, latency_ns, alone_ns))
        return result

    def _bytes_of_all(self, transfer: Transfer) -> float:
        """Return the bytes of all transfers that a transfer stands for."""
        return transfer.total_bytes * (1 if self._count is None else self._count(transfer))


def _rows_together(rows: Sequence[_Row]) -> list[FloatArray]:
    """Return rows over the links of all of them.

    Of the links that one transfer has for itself only the busiest can hold it back: of a large cluster the others are
    left out, which changes no rate.
    """
    if rows[0].columns is None:
        return [row.each for row in rows]
    columns = np.concatenate([row.columns for row in rows if row.columns is not None])
    each = np.concatenate([row.each for row in rows])
    member = np.repeat(np.arange(len(rows)), [row.each.size for row in rows])
    _, column, num_users = np.unique(columns, return_inverse=True, return_counts=True)
    is_kept = num_users > 1
    own = np.flatnonzero(num_users[column] == 1)
    own = own[np.lexsort((column[own], -each[own], member[own]))]
    is_first = np.diff(member[own], prepend=-1) != 0
    is_kept[column[own[is_first]]] = True
    number = np.cumsum(is_kept) - 1
    some = np.flatnonzero(is_kept[column])
    dense = np.zeros((len(rows), int(is_kept.sum())))
    dense[member[some], number[column[some]]] = each[some]
    return list(dense)
