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
Of transfers that meet only those of a component are solved together (`sim.engine.network.contention`). Alone and
components are disjoint at all times. The tests keep a plain network, which solves everything at every change, as the
oracle.

Assumptions
-----------
Latency is not stretched by load. Flows of one transfer progress together (`bulk`).
"""

import math
from collections.abc import Sequence
from functools import reduce
from operator import or_
from typing import Final

import numpy as np
import simpy
from numpy.typing import NDArray

from sim.engine.clock import Alarm, Clock
from sim.engine.network.contention import Batch, Component, ContentionNetwork, Member, refuse_dead_links
from sim.engine.network.linkset import LinkSet, LinkUsers, link_set, link_users
from sim.engine.network.linkuse import LinkLog
from sim.engine.network.maxmin import bounded_rows, few_max_min_rates
from sim.plan.folding import Folding
from sim.plan.ops import Transfer
from sim.time import to_ns

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


class _Row:
    """Seconds that links need for a byte of each of a transfer's flows."""

    __slots__ = ("busiest", "columns", "each")

    def __init__(self, each: FloatArray, columns: NDArray[np.intp] | None, busiest: float) -> None:
        self.each = each
        """On each link of the cluster that can saturate; in a large cluster, on each of `columns` alone. Shape [F]."""
        self.columns = columns
        self.busiest = busiest
        """On the link that takes longest, its own bound among them: a byte of each flow when nothing else flows."""


class _Alone:
    """Transfers of one batch that flow in the same time and share no link with any other."""

    __slots__ = ("alarm", "batch", "links", "positions", "since_ns")

    def __init__(self, batch: Batch, positions: Sequence[int], links: LinkSet, since_ns: int) -> None:
        self.batch, self.positions, self.links, self.since_ns = batch, positions, links, since_ns
        self.alarm: simpy.Event | None = None


class _Member(Member):
    """A transfer in a component, with its rate and the bytes that are left of each of its flows."""

    __slots__ = ("rate", "remaining", "row")

    def __init__(self, batch: Batch, position: int, links: LinkSet, row: _Row, remaining: float) -> None:
        self.batch, self.position, self.links = batch, position, links  # as `Member` does, without another call
        self.transfer = batch.transfers[position]
        self.row, self.remaining, self.rate = row, remaining, 0.0


_Rates = tuple[tuple[Transfer, ...], Sequence[float] | None]
"""The solution of a component: its transfers, and the rate per flow of each, in bytes/s (None: that of one alone)."""
_Component = Component[_Member, _Rates]


class FluidNetwork(ContentionNetwork[_Member, _Rates]):
    """Transfers that move as a whole."""

    _is_eager = True
    _log: LinkLog

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
        holds = np.ones(capacity.size, dtype=np.bool_) if can_saturate is None else can_saturate | (capacity <= 0)
        load_of, count = (None, None) if folding is None else (folding.load, folding.count)
        log = LinkLog(capacity, link_names, link_kinds, holds, load_of)
        super().__init__(clock, capacity, link_names, log, meets_on=holds, count=count)
        self.num_solves = 0
        self._num_columns = int(holds.sum())  # of a row with all links
        self._alone: LinkUsers[_Alone] = link_users(capacity.size)
        self._known: dict[tuple[Transfer, ...], list[float]] = {}
        self._groups: dict[tuple[Transfer, ...], list[_Group]] = {}
        self._has_bounds = False
        self._rows: dict[Transfer, _Row] = {}

    def _wait_latencies(self, batch: Batch) -> None:
        transfers = batch.transfers
        if len(transfers) == 1:
            transfer = transfers[0]
            links = (self._place_of.get(transfer) or self._place(transfer)).links
            self._wait_latency(batch, (0,), links, transfer.latency_ns, transfer.alone_ns)
            return
        for group in self._groups_of_equal_time(transfers):
            self._wait_latency(batch, *group)

    def _wait_latency(
        self, batch: Batch, positions: Sequence[int], links: LinkSet | None, latency_ns: int, alone_ns: int
    ) -> None:
        """Set the alarm at which transfers of equal time end, where nobody uses their links; else start to flow."""
        if links is not None and not self._busy & links:
            self._go_alone(_Alone(batch, positions, links, batch.start_ns + latency_ns), latency_ns + alone_ns)
            return
        for position in positions:
            Alarm(self._env, latency_ns, self._start_to_flow, 1, (batch, position))

    # ---- alone ---------------------------------------------------------------------------------------------------

    def _go_alone(self, alone: _Alone, ends_in_ns: int) -> None:
        self._busy |= alone.links
        self._alone[alone] = None
        alone.alarm = Alarm(self._env, ends_in_ns, self._end_alone, 1, alone)

    def _end_alone(self, event: Alarm) -> None:
        alone: _Alone = event.subject
        if alone.alarm is not event:
            return  # it has met others since
        self._leave_alone(alone)
        for position in alone.positions:
            self._finish(alone.batch, position)

    def _leave_alone(self, alone: _Alone) -> None:
        alone.alarm = None
        del self._alone[alone]
        self._busy ^= alone.links
        if alone.since_ns < self._env.now:
            transfers = alone.batch.transfers
            if len(alone.positions) < len(transfers):
                transfers = [transfers[position] for position in alone.positions]
            self._log.add(alone.since_ns, self._env.now, transfers)

    # ---- meeting -------------------------------------------------------------------------------------------------

    def _start_to_flow(self, event: Alarm) -> None:
        """Let a transfer flow after its latency, alone or with the transfers that it meets."""
        batch, position = event.subject
        transfer, now_ns = batch.transfers[position], self._env.now
        place = self._place_of.get(transfer) or self._place(transfer)
        links = place.links
        if place.is_dead:
            refuse_dead_links(transfer, self._capacity, self._names, now_ns)
        flowing: list[_Alone] = []
        components: list[_Component] = []
        if self._busy & links:
            flowing, components = self._leave_met(links), self._components.meeting(links)
        if not flowing and not components:
            self._go_alone(_Alone(batch, (position,), links, now_ns), transfer.alone_ns)
            return
        member = _Member(batch, position, links, self._row(transfer), transfer.flow_bytes)
        if len(components) == 1 and not flowing:
            self._add(components[0], member, links)
        else:
            self._merge([*self._absorbed(flowing), member], components)

    def _leave_met(self, links: LinkSet) -> list[_Alone]:
        """Take those that are alone on any of `links` off theirs; return those that flow by now."""
        met, now_ns = self._alone.meeting(links), self._env.now
        for alone in met:
            self._leave_alone(alone)
        for alone in met:
            if alone.since_ns > now_ns:  # it has not begun to flow: it joins when it does
                for other in alone.positions:
                    Alarm(self._env, alone.since_ns - now_ns, self._start_to_flow, 1, (alone.batch, other))
        return [alone for alone in met if alone.since_ns <= now_ns]

    def _absorbed(self, alone: Sequence[_Alone]) -> list[_Member]:
        """Return transfers that were alone as members of a component, with what is left of them."""
        members = []
        for group in alone:
            elapsed_s, transfers = (self._env.now - group.since_ns) * 1e-9, group.batch.transfers
            is_one = len(group.positions) == 1
            for position in group.positions:
                transfer = transfers[position]
                row, links = self._row(transfer), group.links if is_one else self._place(transfer).links
                members.append(
                    _Member(group.batch, position, links, row, transfer.flow_bytes - elapsed_s / row.busiest)
                )
        return members

    def _add(self, component: _Component, member: _Member, links: LinkSet) -> None:
        """Let a transfer flow with those of a single component."""
        self._advance(component)
        component.members.append(member)
        self._components.extend(component, links)
        self._busy |= links
        self._mark(component)

    # ---- components ----------------------------------------------------------------------------------------------

    def _advance(self, component: _Component) -> None:
        """Move a component's transfers on to now."""
        now_ns = self._env.now
        elapsed_ns = now_ns - component.since_ns
        if elapsed_ns and component.solution:
            transfers, rates = component.solution
            self._log.add(component.since_ns, now_ns, transfers, rates)
            for member in component.members:
                member.remaining -= member.rate * elapsed_ns * 1e-9
        component.since_ns = now_ns

    def _share(self, component: _Component) -> None:
        """Find the rates of a component, and set the time of its next end."""
        members = component.members
        if len(members) == 1:
            member = members[0]
            member.rate = rate = 1.0 / member.row.busiest
            component.solution = (member.transfer,), None
            left_s = member.remaining / rate
        else:
            transfers = tuple([member.transfer for member in members])
            rates = self._known.get(transfers) or self._new_rates(members, transfers)
            component.solution = transfers, rates
            left_s = math.inf
            for member, rate in zip(members, rates, strict=True):
                member.rate = rate
                needs_s = member.remaining / rate
                if needs_s < left_s:  # noqa: PLR1730  # `min` takes longer
                    left_s = needs_s
        component.alarm = Alarm(self._env, to_ns(left_s if left_s > 0.0 else 0.0), self._end_some, 1, component)

    def _end_some(self, event: Alarm) -> None:
        component: _Component = event.subject
        if component.alarm is not event:
            return  # rates changed since it was set
        self._advance(component)
        ended: list[_Member] = []
        going: list[_Member] = []
        for member in component.members:
            (ended if member.remaining < member.rate * 1e-9 else going).append(member)
        component.members = going
        component.alarm, component.is_whole = None, False
        self._solve_one(component)  # before those who waited begin anew: latency keeps what they begin off the links
        for member in ended:
            self._finish(member.batch, member.position)

    def _new_rates(self, members: Sequence[_Member], transfers: tuple[Transfer, ...]) -> list[float]:
        self.num_solves += 1
        is_large = self._num_columns > _DENSE
        rows = _rows_together([m.row for m in members]) if is_large else [m.row.each for m in members]
        rates = self.solved_rates(transfers, rows)
        if len(self._known) >= _KNOWN:
            self._known.clear()
        self._known[transfers] = rates
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
            loaded = transfer.load.num_bytes / transfer.flow_bytes
            loaded /= place.capacity
            each, columns = loaded if place.narrow.size == loaded.size else loaded[place.narrow], None
            if self._num_columns > _DENSE:
                columns = place.columns
            elif each.size < self._num_columns:
                spread = np.zeros(self._num_columns)
                spread[place.columns] = each
                each = spread
            busiest = max(loaded.item(loaded.argmax()), 1.0 / transfer.most_bytes_per_s)
            row = _Row(each, columns, busiest)
            if len(self._rows) >= _KNOWN:
                self._rows.clear()
            self._rows[transfer] = row
        return row

    def _groups_of_equal_time(self, transfers: Sequence[Transfer]) -> list[_Group]:
        """Return groups of transfers of equal time: positions, links (None: some are shared), latency, time alone."""
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
        taken = link_set(np.zeros(0, dtype=np.intp), self._capacity.size)
        for (latency_ns, alone_ns), positions in groups.items():
            own = [self._place(transfers[position]).links for position in positions]
            is_disjoint = True
            for links in own:
                is_disjoint &= not taken & links
                taken |= links
            result.append((positions, reduce(or_, own) if is_disjoint else None, latency_ns, alone_ns))
        return result


def _rows_together(rows: Sequence[_Row]) -> list[FloatArray]:
    """Return rows over the links of all of them.

    Of the links that one transfer has for itself only the busiest can hold it back: of a large cluster the others are
    left out, which changes no rate.
    """
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
