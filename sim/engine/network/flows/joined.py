"""The links of the flows of several transfers, joined: all that can be said of them whatever they have still to send.

Model
-----
A byte of flow f counts `share[f, l]` bytes on link l. Of what links carry, two different things are wanted:

- Links that can be full hold flows back: their entries make the *first state*, in which each flow has a bottleneck. The
  first state depends on which flows are active, and not on what these have left.
- All links have an account. Links that carry the same shares of the same flows (the spines that share what leaves a
  leaf) carry the same bytes at any time: each *group* of such links is added up once.

Sums over flows are taken in the order of the flows, group by
group, so that a group has the bytes of each of its links to the last bit.
"""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.engine.network.flows.state import (
    Entries,
    FirstState,
    by_link,
    first_state,
    hashes_of_flows,
    numbered,
    stable_order,
)
from sim.plan.ops import Transfer

__all__ = ["Carried", "FlowTable", "JoinedFlows", "LinkGroups", "table_of"]

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
_SPREAD: Final = 8
"""Entries of a flow from which on looking for links that carry the same is worth its time."""


class LinkGroups(NamedTuple):
    """Links in groups that carry the same."""

    links: IntArray
    """Links of the cluster, ascending. Shape [K]."""
    group: IntArray
    """Group of each. Shape [K]."""


class Carried(NamedTuple):
    """What groups of links carried. Each array has shape [G]."""

    num_bytes: FloatArray
    """Bytes."""
    held_bytes: FloatArray
    """Bytes at capacity that hold the link as long."""
    busy_ns: IntArray
    """Time until the last flow there has ended."""


class _Account(NamedTuple):
    """Entries (flow, group of links) of a transfer, or of several, in the order of the flows. Entries: shape [E]."""

    flow: IntArray
    group: IntArray
    share: FloatArray
    overhead: FloatArray | None
    """How long a byte holds the links of the group, over a byte at capacity; None: as long."""
    groups: LinkGroups
    num_groups: int

    @property
    def nbytes(self) -> int:
        """Return about how much memory it takes."""
        return 32 * self.flow.size + 16 * self.groups.links.size


class FlowTable(NamedTuple):
    """The flows of one transfer."""

    num_flows: int
    narrow: Entries
    """Entries of links that can be full; links that only this transfer has are numbered from `num_links` on."""
    own_bytes_per_s: FloatArray | None
    """Capacities of those."""
    account: _Account
    """Entries of links of the cluster, by groups of links that carry the same."""

    @property
    def nbytes(self) -> int:
        """Return about how much memory it takes."""
        return 24 * self.narrow.flow.size + self.account.nbytes


def table_of(transfer: Transfer, limits: FloatArray) -> FlowTable:
    """Return the flows of a transfer over links that hold flows back at `limits` [L]; infinite: they never do."""
    first, links, share, own = _links_of(transfer, limits.size)
    flow = np.repeat(np.arange(first.size - 1), np.diff(first))
    is_own = links >= limits.size
    is_narrow = is_own.copy()
    is_narrow[~is_own] = np.isfinite(limits[links[~is_own]])
    entries = Entries(flow=flow, link=links, share=share)
    account = _account_of(entries.where(~is_own) if own is not None else entries, first.size - 1, transfer.overhead)
    return FlowTable(first.size - 1, entries.where(is_narrow), own, account)


class JoinedFlows:
    """The flows of several transfers, those of each after those of the one before."""

    def __init__(self, tables: Sequence[FlowTable], limits: FloatArray) -> None:
        sizes = np.array([table.num_flows for table in tables])
        ends = np.cumsum(sizes)
        self.splits: list[int] = ends[:-1].tolist()
        self.owner = np.repeat(np.arange(sizes.size), sizes)
        self._narrow, self._limits = _joined_narrow(tables, ends - sizes, limits)
        self._account = tables[0].account if len(tables) == 1 else _joined_account(tables, ends - sizes)
        by_group = stable_order(self._account.group)
        self._flow_by_group = self._account.flow[by_group]
        self._first_of_group = np.searchsorted(self._account.group[by_group], np.arange(self._account.num_groups))

    @property
    def groups(self) -> LinkGroups:
        """Return the links that the account is of."""
        return self._account.groups

    @cached_property
    def narrow_pattern(self) -> bytes:
        """Return a digest of all that the first states depend on: the same for links of the same rates elsewhere."""
        links, number = numbered(self._narrow.link)
        return _digest(self.owner, self._narrow.flow, number, self._narrow.share, self._limits[links])

    @cached_property
    def pattern(self) -> bytes:
        """Return a digest of all that an interval depends on, and of what its groups of links carry."""
        account = self._account
        overhead = [] if account.overhead is None else [account.overhead]
        return self.narrow_pattern + _digest(account.flow, account.group, account.share, *overhead)

    @property
    def nbytes(self) -> int:
        """Return about how much memory it takes."""
        return 24 * self._narrow.flow.size + self._account.nbytes + self._flow_by_group.nbytes + self.owner.nbytes

    def first_state(self, remaining: FloatArray) -> FirstState:
        """Return the state in which flows with `remaining` bytes [F] begin; those without any have ended."""
        is_active = remaining > 0.0
        entries = self._narrow if is_active.all() else self._narrow.where(is_active[self._narrow.flow])
        return first_state(entries, remaining.size, self.owner, self._limits)

    def nothing_carried(self) -> Carried:
        """Return that no group of links carried anything."""
        nothing = np.zeros(self._account.num_groups)
        return Carried(nothing, nothing, nothing.astype(np.int64))

    def carried(self, sent: FloatArray, active_ns: IntArray) -> Carried:
        """Return what groups of links carried of flows that have `sent` bytes each, and were active for a time. [F]."""
        account = self._account
        occupied = account.share * sent[account.flow]
        held_bytes = np.bincount(account.group, weights=occupied, minlength=account.num_groups).astype(np.float64)
        num_bytes = held_bytes
        if account.overhead is not None:
            passed = occupied / account.overhead
            num_bytes = np.bincount(account.group, weights=passed, minlength=account.num_groups).astype(np.float64)
        busy_ns = np.maximum.reduceat(active_ns[self._flow_by_group], self._first_of_group)
        return Carried(num_bytes, held_bytes, np.where(num_bytes > 0, busy_ns, 0))


# ---- private -----------------------------------------------------------------------------------------------------


def _digest(*arrays: NDArray[Any]) -> bytes:
    """Return a hash of 128 bits of arrays: arrays with different hashes are different."""
    digest = hashlib.blake2b(digest_size=16)
    for array in arrays:
        digest.update(array.size.to_bytes(8, "little"))
        digest.update(np.ascontiguousarray(array).data)
    return digest.digest()


def _links_of(transfer: Transfer, num_links: int) -> tuple[IntArray, IntArray, FloatArray, FloatArray | None]:
    """Return where the entries of each flow begin, links, shares, and capacities of links of its own."""
    if transfer.flows is not None:
        flows = transfer.flows
        return flows.links.first, flows.links.links, flows.links.share, flows.own_bytes_per_s
    links, share, own = transfer.load.links, transfer.load.num_bytes / transfer.flow_bytes, None
    if transfer.most_bytes_per_s < np.inf:
        links, share, own = np.append(links, num_links), np.append(share, 1.0), np.array([transfer.most_bytes_per_s])
    return np.array([0, links.size]), links, share, own


def _account_of(entries: Entries, num_flows: int, overhead: FloatArray | None) -> _Account:
    """Return entries by groups of links that carry the same."""
    links, number = numbered(entries.link)
    group = np.arange(links.size)
    if entries.flow.size > _SPREAD * num_flows:
        group = _alike(entries, number, None if overhead is None else overhead[links])
        _, chosen = np.unique(group, return_index=True)
        is_chosen = np.zeros(links.size, dtype=np.bool_)
        is_chosen[chosen] = True
        entries, number = entries.where(is_chosen[number]), number[is_chosen[number]]
    own = None if overhead is None else overhead[entries.link]
    num_groups = int(group.max(initial=-1)) + 1
    return _Account(entries.flow, group[number], entries.share, own, LinkGroups(links, group), num_groups)


def _alike(entries: Entries, number: IntArray, overhead: FloatArray | None) -> IntArray:
    """Return the group of each link: those of a group have the same flows, shares and overheads. Shape [K]."""
    order, start = by_link(number)
    keys = [*hashes_of_flows(entries, order, start), *([] if overhead is None else [overhead])]
    by_key = np.lexsort(keys)
    is_new = np.zeros(start.size, dtype=np.bool_)
    for key in keys:
        is_new[1:] |= key[by_key][1:] != key[by_key][:-1]
    group = np.zeros(start.size, dtype=np.int64)
    group[by_key] = np.cumsum(is_new)
    return group


def _joined_narrow(tables: Sequence[FlowTable], first: IntArray, limits: FloatArray) -> tuple[Entries, FloatArray]:
    """Return the entries of links that can be full, and the limits of all links, those of transfers' own at the end."""
    if len(tables) == 1 and tables[0].own_bytes_per_s is None:
        return tables[0].narrow, limits
    links, all_limits, num_more = [], [limits], 0
    for table in tables:
        link, own = table.narrow.link, table.own_bytes_per_s
        if own is not None:
            links.append(np.where(link >= limits.size, link + num_more, link))
            all_limits.append(own)
            num_more += own.size
        else:
            links.append(link)
    entries = Entries(
        flow=np.concatenate([table.narrow.flow + start for table, start in zip(tables, first, strict=True)]),
        link=np.concatenate(links),
        share=np.concatenate([table.narrow.share for table in tables]),
    )
    return entries, np.concatenate(all_limits) if num_more else limits


def _joined_account(tables: Sequence[FlowTable], first: IntArray) -> _Account:
    """Return the entries of several transfers, by groups of links that carry the same of each of them."""
    accounts = [table.account for table in tables]
    links = np.unique(np.concatenate([account.groups.links for account in accounts]))
    places = [np.searchsorted(links, account.groups.links) for account in accounts]
    group = np.zeros(links.size, dtype=np.int64)
    for account, place in zip(accounts, places, strict=True):
        of_account = np.zeros(links.size, dtype=np.int64)
        of_account[place] = account.groups.group + 1
        group = np.unique(group * (account.num_groups + 1) + of_account, return_inverse=True)[1]
    flows, groups, shares, overheads = [], [], [], []
    for account, place, start in zip(accounts, places, first, strict=True):
        old, new = np.divmod(np.unique(account.groups.group * links.size + group[place]), links.size)
        num_new = np.bincount(old, minlength=account.num_groups)
        entry = np.repeat(np.arange(account.group.size), num_new[account.group])
        turn = np.arange(entry.size) - np.searchsorted(entry, entry)
        first_new = np.cumsum(num_new) - num_new
        groups.append(new[first_new[account.group[entry]] + turn])
        flows.append(account.flow[entry] + start)
        shares.append(account.share[entry])
        overheads.append(np.ones(entry.size) if account.overhead is None else account.overhead[entry])
    has_overhead = any(account.overhead is not None for account in accounts)
    return _Account(
        flow=np.concatenate(flows),
        group=np.concatenate(groups),
        share=np.concatenate(shares),
        overhead=np.concatenate(overheads) if has_overhead else None,
        groups=LinkGroups(links, group),
        num_groups=int(group.max(initial=-1)) + 1,
    )
